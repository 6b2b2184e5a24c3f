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
    """One GET: its path, its Range header, and the status it got."""

    path: str
    range: str | None
    status: int = 0


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
    #: Bytes of content sent for all requests.
    sent: int = 0
    #: Where it is, with a slash at the end; ``serve`` fills it in.
    url: str = ""


def make_handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            request = Request(self.path, self.headers.get("Range"))
            site.requests.append(request)
            self.close_connection = True
            content = site.files.get(self.path.rpartition("/")[2], b"")
            wanted = re.fullmatch(r"bytes=(\d+)-", request.range or "")
            start = int(wanted[1]) if wanted and site.ranges else 0
            request.status = 404 if not content else 416 if start >= len(content) else 206 if start else 200
            if request.status in (404, 416):
                self.send_error(request.status)
                return
            self.send_response(request.status)
            headers = {"Content-Length": str(len(content) - start), "Connection": "close"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            for name, value in (headers | site.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.send(content[start:])

        def send(self, content: bytes) -> None:
            stop = site.breaks.pop(0) if site.breaks else len(content)
            if site.silences:
                time.sleep(site.silences.pop(0))
            # A client that was killed or gave up is the point of some tests.
            with contextlib.suppress(ConnectionError):
                for begin in range(0, min(stop, len(content)), CHUNK):
                    chunk = content[begin : min(begin + CHUNK, stop)]
                    self.wfile.write(chunk)
                    site.sent += len(chunk)
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
