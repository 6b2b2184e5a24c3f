"""A real HTTP server on this machine, with the habits of servers: ranges, versions, broken connections.

Nothing here is a test.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 1 << 14


@dataclass
class Request:
    """One GET: its path, its Range header, the status it got and the bytes of content sent for it."""

    path: str
    range: str | None
    status: int = 0
    sent: int = 0


@dataclass
class Site:
    """What a server has and how it behaves; tests change it while it runs."""

    files: dict[str, bytes]
    ranges: bool = True
    #: For each request to come, after how many bytes of content the connection breaks; then never.
    breaks: list[int] = field(default_factory=list)
    #: For each request to come, seconds of silence before the first byte of content.
    silences: list[float] = field(default_factory=list)
    #: Seconds between two chunks.
    delay: float = 0.0
    #: Further headers, over the usual ones.
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    #: Where it is, with a slash at the end; ``serve`` fills it in.
    url: str = ""

    @property
    def sent(self) -> int:
        return sum(request.sent for request in self.requests)


def make_handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            request = Request(self.path, self.headers.get("Range"))
            site.requests.append(request)
            self.close_connection = True
            content = site.files.get(self.path.rpartition("/")[2])
            if content is None:
                request.status = 404
                self.send_error(404)
                return
            total, start = len(content), 0
            wanted = re.fullmatch(r"bytes=(\d+)-", request.range or "")
            if wanted and site.ranges:
                start = int(wanted[1])
                if start >= total:
                    request.status = 416
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            request.status = 206 if start else 200
            headers = {"Content-Length": str(total - start), "Connection": "close"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
            self.send_response(request.status)
            for name, value in (headers | site.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.send(request, content[start:])

        def send(self, request: Request, content: bytes) -> None:
            stop = site.breaks.pop(0) if site.breaks else len(content)
            if site.silences:
                time.sleep(site.silences.pop(0))
            # A client that was killed or gave up is the point of some tests.
            with contextlib.suppress(ConnectionError):
                for begin in range(0, min(stop, len(content)), CHUNK):
                    chunk = content[begin : min(begin + CHUNK, stop)]
                    self.wfile.write(chunk)
                    request.sent += len(chunk)
                    time.sleep(site.delay)

    return Handler


@contextlib.contextmanager
def serve(files: dict[str, bytes], **behaviour: object) -> Iterator[Site]:
    """Serve ``files`` by name on a free port of this machine until the block ends."""
    site = Site(files, **behaviour)  # type: ignore[arg-type]
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(site))
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> str:
    """An address on this machine at which nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"
