"""Serve a page to play with trained nets, to this computer alone: ``python -m experiments.demo``."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import sys
import threading
import traceback
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl

import tyro

from experiments import UsageError
from experiments.runs import cli

if TYPE_CHECKING:
    from experiments.demo.nets import Nets

#: The only address that is served: nothing outside this computer can reach it.
ADDRESS = "127.0.0.1"

#: Bytes of a photo.
MAX_PHOTO = 30_000_000

#: Headers of every answer; only the page's own script may run.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data: blob:"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

#: Variables of the environment that tell of a screen, or of a browser for none.
SCREENS = {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"}


@dataclass(frozen=True)
class Command:
    """Serve a page to play with trained nets (digits, walks, tags of photos), to this computer alone, until Ctrl-C."""

    runs: Path = Path("runs")
    """Folder of all runs."""
    data_root: Path | None = None
    """Folder that holds MNIST/raw, for the nearest training images; else $CGAN_DATA, else data/raw."""
    weights: Path | None = None
    """Weights file of the photo nets' frozen network, where it no longer lies where the run found it."""
    port: Annotated[int, tyro.conf.arg(metavar="PORT")] = 8411
    """Port of the page; 0 takes a free one."""
    open: bool = True
    """Open the page in the browser, where there is a screen."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"--port {self.port}: give 0 to 65535; 0 takes a free one")
        # Before the first run the default folder is missing, and the page says what to run; any other is a slip.
        if not self.runs.is_dir() and self.runs != Command.runs:
            raise UsageError(f"--runs {self.runs}: there is no such folder, give one that holds runs")
        if self.weights is not None and not self.weights.is_file():
            raise UsageError(f"--weights {self.weights}: there is no such file")


class Server(ThreadingHTTPServer):
    """The server of the page; a thread for each request."""

    def __init__(self, asked: int, nets: Nets) -> None:
        try:
            super().__init__((ADDRESS, asked), Handler)
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise UsageError(f"port {asked} {reason}: choose another with --port; 0 takes a free one") from None
        self.nets = nets
        # A page from elsewhere whose name was made to lead here sends another Host.
        port = "" if self.server_port == 80 else f":{self.server_port}"
        self.hosts = {f"{name}{port}" for name in (ADDRESS, "localhost")}
        self.nonce = secrets.token_urlsafe()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of browsers that went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers the page's requests; no path of a request is ever opened."""

    server: Server
    timeout = 60

    def do_GET(self) -> None:
        nets, text, number = self.server.nets, self.text, self.number
        self.answer(
            {
                "/": self.page,
                "/samples": lambda: nets.samples(text("net"), number("label"), number("seed")),
                "/walk": lambda: nets.walk(text("net"), number("label"), number("seed")),
                "/closer": lambda: nets.closer(text("net"), number("label"), number("seed"), number("index")),
            }
        )

    def do_POST(self) -> None:
        self.answer({"/tags": lambda: self.server.nets.tags(self.text("net"), self.number("seed"), self.photo())})

    def answer(self, routes: dict[str, Callable[[], dict[str, Any] | str]]) -> None:
        """Send what the route of the path gives, or a sentence on what is wrong."""
        (path, _, query), headers, hosts = self.path.partition("?"), self.headers, self.server.hosts
        self.query = dict(parse_qsl(query))
        if headers["Host"] not in hosts or headers["Origin"] not in {None, *(f"http://{host}" for host in hosts)}:
            return self.send(403, {"error": f"this page answers to itself alone, as http://{ADDRESS}"})
        if path not in routes:
            return self.send(404, {"error": "there is no such page; the only one is /"})
        try:
            found = routes[path]()
        except cli.USER_ERRORS as error:
            return self.send(400, {"error": cli.sentence(error)})
        except Exception:
            traceback.print_exc()
            return self.send(500, {"error": "the server failed; where it was started it says why"})
        return self.send(200, found)

    def page(self) -> str:
        """Return the page with the nets that are at hand now."""
        from experiments.demo.nets import find_nets
        from experiments.runs.photo_table import render

        nets, notes = find_nets(self.server.nets.runs)
        digits, photos = ([net for net in nets.values() if net.experiment == e] for e in ("mnist", "flickr-tags"))
        about = {"digits": digits, "photos": photos, "notes": notes, "max_photo": MAX_PHOTO}
        return render("demo.html", **about, nonce=self.server.nonce)

    def text(self, name: str) -> str:
        """Return a parameter of the request."""
        if name not in self.query:
            raise UsageError(f"the parameter {name} is missing: reload the page")
        return self.query[name]

    def number(self, name: str) -> int:
        """Return a parameter that is a whole number of up to nine digits."""
        if not re.fullmatch("[0-9]{1,9}", self.text(name)):
            raise UsageError(f"the parameter {name} is no whole number from 0 to 999999999: reload the page")
        return int(self.query[name])

    def photo(self) -> bytes:
        """Return the request's body, of ``MAX_PHOTO`` bytes at most."""
        length = self.headers["Content-Length"] or ""
        if not re.fullmatch("[0-9]{1,18}", length):
            raise UsageError("the size of the photo is not given: send it with a Content-Length")
        if not 0 < int(length) <= MAX_PHOTO:
            raise UsageError(f"the photo has {int(length):,} bytes: choose one of 1 to {MAX_PHOTO:,}")
        if len(body := self.rfile.read(int(length))) < int(length):
            raise UsageError("the photo did not arrive whole: send it again")
        return body

    def send(self, status: int, content: dict[str, Any] | str) -> None:
        """Send a page, or a dictionary as JSON."""
        kind = "text/html" if isinstance(content, str) else "application/json"
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value.format(nonce=self.server.nonce))
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep requests out of the terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    command = cli.parse(Command, "experiments.demo", argv)
    from data.roots import data_root
    from experiments.demo.nets import Nets

    with Server(command.port, Nets(command.runs, data_root(command.data_root), command.weights)) as server:
        address = f"http://{ADDRESS}:{server.server_port}/"
        print(f"{address} is for this computer alone; Ctrl-C ends it", flush=True)
        if command.open and (sys.platform in ("darwin", "win32") or SCREENS & set(os.environ)):
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        with suppress(KeyboardInterrupt):
            server.serve_forever()
        print()
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
