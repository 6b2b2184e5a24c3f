"""The project's one way to download a file: resumable, checked, and either complete or not there at all.

Knows nothing of any data set.
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

#: Seconds to wait for a connection. Short: without a network the caller has something else to do.
CONNECT_SECONDS = 3.0

#: Seconds without a single byte after which a connection counts as broken.
READ_SECONDS = 20.0

#: A mirror is given up after so many connections in a row that brought nothing new.
FRUITLESS_CONNECTIONS = 3

#: Seconds to wait after one of those, times how many there were in a row.
PAUSE_SECONDS = 1.0

#: Bytes read and written at a time: what a kill loses at most.
CHUNK = 1 << 16

#: Bytes that a download leaves free on the disk.
SPARE_BYTES = 64 << 20


class UnavailableError(DataError):
    """Data that is not on disk and could not be brought there; ``reason`` says why in a few words."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class MirrorError(Exception):
    """A mirror cannot give the file; the message says why in a few words. Never leaves this module."""


class BrokenError(Exception):
    """A connection ended before the file did; another one may bring more. Never leaves this module."""


@dataclass(frozen=True)
class Source:
    """Where the bytes of an unfinished download came from, and which version of the file they are of."""

    url: str
    etag: str | None
    modified: str | None
    size: int | None

    @property
    def validator(self) -> str | None:
        """What If-Range may be asked with: an ETag unless it is weak, else the date (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


def fetch(
    urls: str | Sequence[str],
    destination: Path,
    checksum: str | None = None,
    verify: Callable[[Path], str | None] | None = None,
    progress: bool = True,
) -> Path:
    """Download ``destination`` from the first of ``urls`` (http, https) that has the right file; return it.

    ``checksum``: "md5:..." or "sha256:..." in hexadecimal, as pooch has it; None takes what the server sends.
    ``verify``: given the downloaded file before it gets its name, says what is wrong with it, or None.
    ``progress``: tell the size on standard error, and show a bar if that is a terminal.

    The bytes go to ``<destination>.part``. An interrupted download leaves that file, and the next one
    continues it if the server still has the same version (HTTP Range, If-Range), else begins anew. Only a
    complete and verified file gets its name. Of several processes one downloads, and the others wait for its
    file. A destination that exists is never written to: it is returned, after its checksum was compared.
    Raises ``DataError`` if it has another one, and ``UnavailableError`` when no mirror gave the file, the
    disk has no room for it or the folder cannot be written.
    """
    if checksum is not None and not re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})", checksum):
        raise DataError(f'the checksum "{checksum}" must be "md5:" or "sha256:" and lower-case hexadecimal')
    try:
        if arrived(destination, checksum):
            return destination
        destination.parent.mkdir(parents=True, exist_ok=True)
        with alone(destination, progress):
            if not arrived(destination, checksum):
                addresses = [urls] if isinstance(urls, str) else urls
                try_mirrors(addresses, destination, checksum, verify, progress)
    except OSError as error:
        # A failing network never comes this far; this is the disk.
        why = f"{error.filename or destination}: {error.strerror or error}"
        raise UnavailableError(
            f"could not download {destination.name}, because it cannot be written ({why}): mend that, or "
            "choose another folder",
            reason=f"cannot write {why}",
        ) from error
    return destination


def named_mirrors(mirrors: str | Sequence[str] | None, variable: str) -> list[str]:
    """The base addresses that were given, else those in the environment's ``variable``, between spaces; else []."""
    if mirrors:
        return [mirrors] if isinstance(mirrors, str) else list(mirrors)
    return os.environ.get(variable, "").split()


def arrived(destination: Path, checksum: str | None) -> bool:
    """Whether ``destination`` is there; raises ``DataError`` if it is, with another ``checksum``."""
    if not destination.exists():
        return False
    if checksum and (found := file_checksum(destination, checksum)) != checksum:
        raise DataError(
            f"{destination} is damaged or of another version ({found} instead of {checksum}): delete it and "
            "run again to fetch it anew"
        )
    return True


def file_checksum(path: Path, like: str) -> str:
    """The checksum of a file with the algorithm of ``like``, in the same form ("md5:...")."""
    import pooch

    algorithm = like.partition(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


@contextlib.contextmanager
def alone(destination: Path, progress: bool) -> Iterator[None]:
    """Let one process at a time download ``destination``; the lock of a killed process falls with it."""
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
        # While the lock is held, so that whoever waits for the deleted file notices and takes a new one.
        # Windows deletes no open file; there it stays.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def try_mirrors(
    urls: Sequence[str],
    destination: Path,
    checksum: str | None,
    verify: Callable[[Path], str | None] | None,
    progress: bool,
) -> None:
    """Put the file in place from the first mirror that has it; raise ``UnavailableError`` if none has."""
    part, checked, failures = beside(destination, ".part"), bool(checksum or verify), []
    for url in urls:
        try:
            continued = download(url, part, checked, progress)
            wrong = fault(part, checksum, verify)
            if wrong and continued:
                # It may be the kept beginning that is wrong.
                discard(part)
                download(url, part, checked, progress)
                wrong = fault(part, checksum, verify)
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


def fault(part: Path, checksum: str | None, verify: Callable[[Path], str | None] | None) -> str | None:
    """What is wrong with a downloaded file, in words that follow "the file"; None if nothing is."""
    if checksum and (found := file_checksum(part, checksum)) != checksum:
        return f"has {found} instead of {checksum}"
    return verify(part) if verify else None


def download(url: str, part: Path, checked: bool, progress: bool) -> bool:
    """Bring ``part`` to its full size over as many connections as that takes, while they bring something.

    Returns whether earlier bytes were kept. Raises ``MirrorError``.
    """
    reach(url)
    furthest, fruitless, continued = size_of(part), 0, False
    while True:
        try:
            return receive(url, part, checked, progress) or continued
        except BrokenError as error:
            continued = True
            reached = size_of(part)
            fruitless = 0 if reached > furthest else fruitless + 1
            furthest = max(reached, furthest)
            if fruitless == FRUITLESS_CONNECTIONS:
                raise MirrorError(str(error)) from error
            time.sleep(PAUSE_SECONDS * fruitless)


def reach(url: str) -> None:
    """Raise ``MirrorError`` unless the server of ``url``, or the proxy before it, takes a connection in time.

    Looking up a name has no time limit of its own, and a name may have many addresses to try: only a thread
    that is left behind bounds both.
    """
    from requests.utils import get_environ_proxies, select_proxy

    try:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError
        server = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
        host, port = server.hostname, server.port or (443 if server.scheme == "https" else 80)
    except ValueError as error:
        raise MirrorError("not an http or https address") from error
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


def receive(url: str, part: Path, checked: bool, progress: bool) -> bool:
    """Add to ``part`` what one connection brings; return whether it continued earlier bytes.

    pooch's own downloader can neither continue a file nor leave alone a .gz sent with a Content-Encoding.
    Raises ``BrokenError`` when the connection ends early, ``MirrorError`` when another one would be no use.
    """
    import requests
    import urllib3
    from tqdm import tqdm

    source = read_source(part)
    kept = size_of(part) if source and may_continue(source, url, checked) else 0
    if source and kept and kept == source.size:
        return True
    headers = {"Accept-Encoding": "identity"}
    if source and kept:
        headers["Range"] = f"bytes={kept}-"
        if source.url == url and source.validator:
            headers["If-Range"] = source.validator
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.Timeout as error:
        raise MirrorError("no answer in time") from error
    except requests.exceptions.SSLError as error:
        raise MirrorError("its certificate is not trusted, or another failure of TLS") from error
    except requests.ConnectionError as error:
        raise BrokenError("the connection broke") from error
    except (requests.RequestException, ValueError) as error:
        raise MirrorError(str(error)) from error
    with response:
        if response.status_code == 200:
            kept = 0
            source = source_of(response, url)
        elif response.status_code in (206, 416):
            if not (source and kept and continues(response, source, url, kept)):
                discard(part)
                raise BrokenError("what it has now does not continue what it sent before")
        else:
            raise MirrorError(f"HTTP {response.status_code} {response.reason}".rstrip())
        total = source.size
        ensure_room(part, total)
        size = "of unknown size" if total is None else tqdm.format_sizeof(total, "B")
        name = part.name.removesuffix(".part")
        if progress:
            done = f"continuing at {tqdm.format_sizeof(kept, 'B')}, " if kept else ""
            say(f"downloading {name} ({done}{size}) from {url}")
        bar = tqdm(
            desc=name,
            total=total,
            initial=kept,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None if progress else True,
        )
        # Unbuffered: what has been received is on file if this process is killed.
        with bar, open(part, "ab" if kept else "wb", buffering=0) as file:
            # After the old bytes are gone and before the first new one, so that it never tells of others.
            write_source(part, source)
            try:
                for chunk in response.raw.stream(CHUNK, decode_content=False):
                    file.write(chunk)
                    bar.update(len(chunk))
            except urllib3.exceptions.HTTPError as error:
                raise BrokenError(f"the connection broke after {size_of(part):,} bytes") from error
            os.fsync(file.fileno())
    if total is not None and size_of(part) < total:
        raise BrokenError(f"the connection broke after {size_of(part):,} bytes")
    return kept > 0


def source_of(response: requests.Response, url: str) -> Source:
    """What a complete answer says of its file."""
    length = response.headers.get("Content-Length", "")
    return Source(
        url=url,
        etag=response.headers.get("ETag"),
        modified=response.headers.get("Last-Modified"),
        size=int(length) if length.isdecimal() else None,
    )


def may_continue(source: Source, url: str, checked: bool) -> bool:
    """Whether ``url`` may continue bytes from ``source``: the server or a check would notice a mismatch."""
    return checked or (source.url == url and source.validator is not None)


def continues(response: requests.Response, source: Source, url: str, kept: int) -> bool:
    """Whether a partial answer begins at byte ``kept`` of the same version of the same file.

    Not every server heeds If-Range, so the version is compared here too; each mirror has names of its own.
    """
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if response.status_code != 206 or not found or int(found[1]) != kept:
        return False
    now = response.headers
    same_version = source.url != url or (
        now.get("ETag", source.etag) == source.etag and now.get("Last-Modified", source.modified) == source.modified
    )
    return same_version and (found[2] == "*" or source.size is None or int(found[2]) == source.size)


def ensure_room(part: Path, total: int | None) -> None:
    """Raise ``UnavailableError`` if the disk cannot take what ``part`` grows by, to ``total`` bytes."""
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
    """What is known of the bytes in ``part``; None if nothing is, or nothing legible."""
    try:
        return Source(**json.loads(beside(part, ".json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_source(part: Path, source: Source) -> None:
    """Keep ``source`` beside ``part``. Half of it, after a kill, reads as nothing known."""
    beside(part, ".json").write_text(json.dumps(asdict(source)), encoding="utf-8")


def discard(part: Path) -> None:
    """Remove an unfinished download and what is known of it."""
    part.unlink(missing_ok=True)
    beside(part, ".json").unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes in a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def beside(path: Path, suffix: str) -> Path:
    """``path`` with ``suffix`` added to its name."""
    return path.with_name(path.name + suffix)


def say(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)
