"""Download a file so that it is complete and verified, or not there at all; an interrupted download is continued.

Knows no dataset.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from data import DataError

if TYPE_CHECKING:
    import requests

#: Seconds to wait for a connection; short, because without a network the caller uses other data.
CONNECT_SECONDS = 3.0
#: Seconds without a byte after which a connection counts as broken.
READ_SECONDS = 20.0
#: A mirror is given up after this many connections in a row without a new byte.
FRUITLESS_CONNECTIONS = 3
#: Seconds to wait after such a connection, times their number in a row.
PAUSE_SECONDS = 1.0
#: Bytes read and written at a time; a killed process loses at most this many.
CHUNK = 1 << 16
#: Bytes that a download leaves free on the disk.
SPARE_BYTES = 64 << 20
#: Hosts of this machine, to which plain http is as safe as https.
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class UnavailableError(DataError):
    """Data that is not on the disk and could not be downloaded; ``reason`` says why in a few words."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class MirrorError(Exception):
    """A mirror cannot give the file; the message says why. Caught in this module."""


class BrokenError(Exception):
    """A connection ended early; another one may bring the rest. Caught in this module."""


@dataclass(frozen=True)
class Source:
    """The address and the version of the file that a partial download belongs to."""

    url: str
    etag: str | None
    modified: str | None
    size: int | None

    @property
    def validator(self) -> str | None:
        """The value for If-Range: the ETag unless it is weak, else the date (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


@dataclass(frozen=True)
class Request:
    """How the right file is recognised; the fields are the arguments of ``fetch``."""

    checksum: str | None = None
    verify: Callable[[Path], str | None] | None = None
    progress: bool = True
    max_bytes: int | None = None
    https_only: bool = False

    def find_fault(self, path: Path) -> str | None:
        """Return what is wrong with a downloaded file, in words that follow "the file"; None if nothing is."""
        if self.checksum and (found := file_checksum(path, self.checksum)) != self.checksum:
            return f"has {found} instead of {self.checksum}"
        return self.verify(path) if self.verify else None


def fetch(
    urls: str | Sequence[str],
    destination: Path,
    checksum: str | None = None,
    verify: Callable[[Path], str | None] | None = None,
    progress: bool = True,
    max_bytes: int | None = None,
    https_only: bool = False,
) -> Path:
    """Download ``destination`` from the first of ``urls`` (http, https) that has the right file; return it.

    ``checksum``: "md5:..." or "sha256:..." in hexadecimal; None accepts what the server sends.
    ``verify``: returns what is wrong with the downloaded file, or None; called before the file gets its name.
    ``progress``: print the size to standard error, and show a bar if that is a terminal.
    ``max_bytes``: the size from which a file is refused, whether or not the server states a size.
    ``https_only``: refuse plain http, redirects included, except to this machine.

    The bytes go to ``<destination>.part``. After an interruption the next call continues that file if the server
    still has the same version (HTTP Range, If-Range). Of several processes one downloads and the others wait. An
    existing destination is never written to: it is returned after its checksum was compared.
    Raises ``DataError`` if that differs, and ``UnavailableError`` when no mirror gave the file, the disk has no room
    or the folder cannot be written.
    """
    if checksum is not None and not re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})", checksum):
        raise DataError(f'the checksum "{checksum}" must be "md5:" or "sha256:" and lower-case hexadecimal')
    request = Request(checksum, verify, progress, max_bytes, https_only)
    try:
        if is_there(destination, checksum):
            return destination
        destination.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(destination, progress):
            if not is_there(destination, checksum):
                try_mirrors([urls] if isinstance(urls, str) else urls, destination, request)
    except OSError as error:  # Of the disk: errors of the network are caught below.
        why = f"{error.filename or destination}: {error.strerror or error}"
        raise UnavailableError(
            f"could not download {destination.name}, because it cannot be written ({why}): make the folder writable, "
            "or choose another one",
            reason=f"cannot write {why}",
        ) from error
    return destination


def named_mirrors(mirrors: str | Sequence[str] | None, variable: str) -> list[str]:
    """Return the base addresses given, else those in the environment's ``variable``, separated by spaces; else []."""
    if mirrors:
        return [mirrors] if isinstance(mirrors, str) else list(mirrors)
    return os.environ.get(variable, "").split()


def is_there(destination: Path, checksum: str | None) -> bool:
    """Return whether ``destination`` exists; raises ``DataError`` if it does with another ``checksum``."""
    if not destination.exists():
        return False
    if checksum and (found := file_checksum(destination, checksum)) != checksum:
        raise DataError(
            f"{destination} is damaged or of another version ({found} instead of {checksum}): delete it and "
            "run again to download it again"
        )
    return True


def file_checksum(path: Path, like: str) -> str:
    """Return the checksum of a file with the algorithm of ``like``, in the same form ("md5:...")."""
    import pooch

    algorithm = like.partition(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


@contextlib.contextmanager
def exclusive(destination: Path, progress: bool) -> Iterator[None]:
    """Let one process at a time write ``destination``; the lock of a killed process is released with it."""
    from filelock import FileLock, Timeout

    lock = FileLock(beside(destination, ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            say(f"waiting for another process that is downloading {destination.name}")
        lock.acquire()
    try:
        yield
    finally:
        # Deleted while it is held, so that a waiting process notices and makes a new one. Windows deletes no open file.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def try_mirrors(urls: Sequence[str], destination: Path, request: Request) -> None:
    """Put the file in place from the first mirror that has it; raise ``UnavailableError`` if none has."""
    part, failures = beside(destination, ".part"), []
    for url in urls:
        try:
            continued = download(url, part, request)
            wrong = request.find_fault(part)
            if wrong and continued:  # The bytes of the earlier download may be the wrong ones.
                discard(part)
                download(url, part, request)
                wrong = request.find_fault(part)
            if wrong:
                discard(part)
                raise MirrorError(f"the file it sent {wrong}")
        except MirrorError as error:
            failures.append((url, str(error)))
            continue
        os.replace(part, destination)
        discard(part)
        return
    tried = "; ".join(f"{url} ({why})" for url, why in failures) or "no address"
    raise UnavailableError(
        f"could not download {destination.name}, having tried {tried}: check the connection and run again",
        reason=", ".join(dict.fromkeys(why for _, why in failures)) or "no address",
    )


def download(url: str, part: Path, request: Request) -> bool:
    """Complete ``part`` over as many connections as it takes, while they bring new bytes.

    Return whether earlier bytes were kept. Raises ``MirrorError``.
    """
    check_server(url, request.https_only)
    furthest, fruitless, continued = size_of(part), 0, False
    while True:
        try:
            return receive(url, part, request) or continued
        except BrokenError as error:
            continued = True
            reached = size_of(part)
            fruitless = 0 if reached > furthest else fruitless + 1
            furthest = max(reached, furthest)
            if fruitless == FRUITLESS_CONNECTIONS:
                raise MirrorError(str(error)) from error
            time.sleep(PAUSE_SECONDS * fruitless)


def check_server(url: str, https_only: bool) -> None:
    """Raise ``MirrorError`` unless the server of ``url``, or the proxy before it, accepts a connection in time.

    Looking up a name has no time limit, and a name may have many addresses: a thread bounds both.
    """
    from requests.utils import get_environ_proxies, select_proxy

    try:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError
        server = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
        host, port = server.hostname, server.port or (443 if server.scheme == "https" else 80)
    except ValueError as error:
        raise MirrorError("not an http or https address") from error
    if https_only and not is_safe(url):
        raise MirrorError("not an https address, and no checksum of the file is known")
    outcome: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    failure = outcome[0] if outcome else TimeoutError(0, f"no answer in {CONNECT_SECONDS:.0f} s")
    if failure:
        raise MirrorError(f"no connection: {failure.strerror or failure}")


def is_safe(url: str) -> bool:
    """Return whether nobody between this machine and the server of ``url`` can change what it sends."""
    return urlsplit(url).scheme == "https" or urlsplit(url).hostname in LOOPBACK


def receive(url: str, part: Path, request: Request) -> bool:
    """Add the bytes of one connection to ``part``; return whether it continued earlier bytes.

    (pooch's downloader cannot continue a file, and unpacks a .gz that is sent with a Content-Encoding.)
    Raises ``BrokenError`` when the connection ends early, ``MirrorError`` when another one would be no use.
    """
    import urllib3
    from tqdm import tqdm

    source = read_source(part)
    kept = size_of(part) if source and may_continue(source, url, request) else 0
    if source and kept and kept == source.size:
        return True
    headers = {"Accept-Encoding": "identity"}
    if source and kept:
        headers["Range"] = f"bytes={kept}-"
        if source.url == url and source.validator:
            headers["If-Range"] = source.validator
    with open_url(url, headers) as response:
        if request.https_only and not all(is_safe(step.url) for step in (*response.history, response)):
            raise MirrorError("it redirects to an address without https, and no checksum of the file is known")
        if response.status_code == 200:
            kept, source = 0, source_of(response, url)
        elif response.status_code not in (206, 416):
            raise MirrorError(f"HTTP {response.status_code} {response.reason}".rstrip())
        elif not (source and kept and continues(response, source, url, kept)):
            discard(part)
            raise BrokenError("what it has now does not continue what it sent before")
        total, limit = source.size, request.max_bytes
        if limit is not None and total is not None and total > limit:
            raise MirrorError(f"the file it has is larger than {limit:,} bytes")
        ensure_room(part, total)
        size = "of unknown size" if total is None else tqdm.format_sizeof(total, "B")
        name = part.name.removesuffix(".part")
        if request.progress:
            done = f"continuing at {tqdm.format_sizeof(kept, 'B')}, " if kept else ""
            say(f"downloading {name} ({done}{size}) from {url}")
        hidden = None if request.progress else True
        bar = tqdm(desc=name, total=total, initial=kept, unit="B", unit_scale=True, leave=False, disable=hidden)
        # Unbuffered: all bytes received are in the file if this process is killed.
        with bar, open(part, "ab" if kept else "wb", buffering=0) as file:
            # Written after the old bytes are gone and before the first new one, so that it describes no others.
            beside(part, ".json").write_text(json.dumps(asdict(source)), encoding="utf-8")
            try:
                for chunk in response.raw.stream(CHUNK, decode_content=False):
                    kept_now = file.tell() + len(chunk)
                    if limit is not None and kept_now > limit:
                        discard(part)
                        raise MirrorError(f"the file it sends is larger than {limit:,} bytes")
                    file.write(chunk)
                    bar.update(len(chunk))
            except urllib3.exceptions.HTTPError as error:
                raise BrokenError(f"the connection broke after {size_of(part):,} bytes") from error
            os.fsync(file.fileno())
    if total is not None and size_of(part) < total:
        raise BrokenError(f"the connection broke after {size_of(part):,} bytes")
    return kept > 0


def open_url(url: str, headers: dict[str, str]) -> requests.Response:
    """Return the server's answer, its content not read yet."""
    import requests

    try:
        return requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.Timeout as error:
        raise MirrorError("no answer in time") from error
    except requests.exceptions.SSLError as error:
        raise MirrorError("its certificate is not trusted, or another failure of TLS") from error
    except requests.ConnectionError as error:
        raise BrokenError("the connection broke") from error
    except (requests.RequestException, ValueError) as error:
        raise MirrorError(str(error)) from error


def source_of(response: requests.Response, url: str) -> Source:
    """Return the version and size that the headers of a complete answer state."""
    length = response.headers.get("Content-Length", "")
    size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    return Source(url, response.headers.get("ETag"), response.headers.get("Last-Modified"), size)


def may_continue(source: Source, url: str, request: Request) -> bool:
    """Return whether ``url`` may continue bytes from ``source``: the server or a check would notice other bytes."""
    checked = bool(request.checksum or request.verify)
    return checked or (source.url == url and source.validator is not None)


def continues(response: requests.Response, source: Source, url: str, kept: int) -> bool:
    """Return whether a partial answer begins at byte ``kept`` of the same version of the same file.

    Some servers ignore If-Range, so the version is compared here too; another mirror has versions of its own.
    """
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", response.headers.get("Content-Range", ""))
    if response.status_code != 206 or not found or int(found[1]) != kept:
        return False
    now = response.headers
    same_version = source.url != url or (
        now.get("ETag", source.etag) == source.etag and now.get("Last-Modified", source.modified) == source.modified
    )
    return same_version and (found[2] == "*" or source.size is None or int(found[2]) == source.size)


def ensure_room(part: Path, total: int | None) -> None:
    """Raise ``UnavailableError`` if the disk has no room for ``part`` to grow to ``total`` bytes."""
    from tqdm import tqdm

    need, free = (total or 0) - size_of(part) + SPARE_BYTES, shutil.disk_usage(part.parent).free
    if free < need:
        what = f"{tqdm.format_sizeof(need, 'B')} needed, {tqdm.format_sizeof(free, 'B')} free"
        raise UnavailableError(
            f"could not download {part.name.removesuffix('.part')}, because the disk of {part.parent} is too "
            f"full ({what}): make room, or choose another folder",
            reason=f"the disk is too full: {what}",
        )


def read_source(part: Path) -> Source | None:
    """Return what is known of the bytes in ``part``; None if its record is missing, cut short or of another form."""
    import msgspec

    try:
        return msgspec.json.decode(beside(part, ".json").read_bytes(), type=Source)
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def discard(part: Path) -> None:
    """Remove a partial download and its record."""
    part.unlink(missing_ok=True)
    beside(part, ".json").unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Return the bytes in a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def beside(path: Path, suffix: str) -> Path:
    """Return ``path`` with ``suffix`` added to its name."""
    return path.with_name(path.name + suffix)


def say(text: str) -> None:
    """Print one line to standard error."""
    print(text, file=sys.stderr, flush=True)
