"""Download a file so that it is complete and verified, or not there at all; an interrupted download is continued.

Knows no dataset. (pooch cannot continue a file, bound its size, or leave a Content-Encoding as it is.)
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from data import DataError

if TYPE_CHECKING:
    import requests

#: Seconds to wait for a connection (short, because without a network the caller uses other data), and for a byte.
CONNECT_SECONDS, READ_SECONDS = 3.0, 20.0
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


def fetch(
    urls: Sequence[str],
    destination: Path,
    verify: Callable[[Path], str | None],
    max_bytes: int,
    https_only: bool = False,
    advice: str = "",
) -> Path:
    """Download ``destination`` from the first of ``urls`` (http, https) that has the right file; return it.

    ``verify``: returns what is wrong with a file, in words that follow its name, or None if it is whole and right.
    ``max_bytes``: the size from which a file is refused, whether or not the server states a size.
    ``https_only``: refuse plain http, redirects included, except to this machine.
    ``advice``: what else the user can do than run again, for the end of the error's message.

    After an interruption the next call, and the next mirror, continue ``<destination>.part`` (HTTP Range); if
    ``verify`` then finds it wrong, it is downloaded from the beginning. Of several processes one downloads and the
    others wait. An existing destination is returned as it is. Raises ``UnavailableError`` when no mirror gave the file,
    the disk has no room or the folder cannot be written.
    """
    if destination.exists():
        return destination
    part, failures = destination.with_name(f"{destination.name}.part"), dict[str, str]()
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(destination):
            if destination.exists():
                return destination
            whole = part.exists() and not verify(part)  # Killed between the last byte and the renaming.
            for url in () if whole else urls:
                try:
                    _complete(url, part, verify, max_bytes, https_only)
                    whole = True
                    break
                except MirrorError as error:
                    failures[url] = str(error)
            if whole:
                return part.replace(destination)
    except OSError as error:  # Of the disk: errors of the network are caught below.
        why = f"{error.filename or destination}: {error.strerror or error}"
        raise UnavailableError(
            f"could not download {destination.name}, because it cannot be written ({why}): make the folder writable, "
            "or choose another one",
            reason=f"cannot write {why}",
        ) from error
    tried = "; ".join(f"{url} ({why})" for url, why in failures.items())
    raise UnavailableError(
        f"could not download {destination.name}, having tried {tried}: check the connection and run again{advice}",
        reason=", ".join(dict.fromkeys(failures.values())),
    )


@contextlib.contextmanager
def exclusive(destination: Path) -> Iterator[None]:
    """Let one process at a time write ``destination``; the lock of a killed process is released with it."""
    from filelock import FileLock, Timeout

    lock = FileLock(destination.with_name(f"{destination.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process that is making {destination.name}")
        lock.acquire()
    try:
        yield
    finally:
        # Deleted while it is held, so that a waiting process notices and makes a new one. Windows deletes no open file.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _complete(url: str, part: Path, verify: Callable[[Path], str | None], max_bytes: int, https_only: bool) -> None:
    """Make ``part`` the right file; raise ``MirrorError``, and keep no wrong one, if ``url`` does not have it."""
    continued = _download(url, part, max_bytes, https_only)
    while wrong := verify(part):
        part.unlink()
        if not continued:
            raise MirrorError(f"the file it sent {wrong}")
        # The bytes that it continued may be of another version of the file.
        _download(url, part, max_bytes, https_only)
        continued = False


def _download(url: str, part: Path, max_bytes: int, https_only: bool) -> bool:
    """Complete ``part`` over as many connections as it takes, while they bring new bytes.

    Return whether bytes of an earlier connection were kept. Raises ``MirrorError``.
    """
    furthest, fruitless, continued = _size_of(part), 0, False
    while True:
        try:
            return _receive(url, part, max_bytes, https_only) or continued
        except BrokenError as error:
            continued = True
            reached = _size_of(part)
            fruitless = 0 if reached > furthest else fruitless + 1
            furthest = max(reached, furthest)
            if fruitless == FRUITLESS_CONNECTIONS:
                raise MirrorError(str(error)) from error
            time.sleep(PAUSE_SECONDS * fruitless)


def _receive(url: str, part: Path, max_bytes: int, https_only: bool) -> bool:
    """Add the bytes of one connection to ``part``; return whether it continued earlier bytes.

    Raises ``BrokenError`` when the connection ends early, ``MirrorError`` when another one would be no use.
    """
    import urllib3
    from tqdm import tqdm

    kept = _size_of(part)
    with _open_url(url, kept, https_only) as response:
        content = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", response.headers.get("Content-Range", ""))
        if response.status_code == 200:
            kept, length = 0, response.headers.get("Content-Length", "")
            total = int(length) if re.fullmatch(r"\d{1,18}", length) else None
        elif response.status_code not in (206, 416):
            raise MirrorError(f"HTTP {response.status_code} {response.reason}".rstrip())
        elif content and int(content[1]) == kept:
            total = int(content[2])
        else:
            part.unlink(missing_ok=True)
            raise BrokenError("what it has now does not continue what it sent before")
        if total is not None and total > max_bytes:
            raise MirrorError(f"the file it has is larger than {max_bytes:,} bytes")
        ensure_room(part.parent, (total or 0) - _size_of(part))
        size = "of unknown size" if total is None else tqdm.format_sizeof(total, "B")
        name = part.name.removesuffix(".part")
        done = f"continuing at {tqdm.format_sizeof(kept, 'B')}, " if kept else ""
        say(f"downloading {name} ({done}{size}) from {url}")
        bar = tqdm(desc=name, total=total, initial=kept, unit="B", unit_scale=True, leave=False, disable=None)
        # Unbuffered: all bytes received are in the file if this process is killed.
        with bar, open(part, "ab" if kept else "wb", buffering=0) as file:
            try:
                # Not decoded: some servers send a .gz file as the encoding of what is in it.
                for chunk in response.raw.stream(CHUNK, decode_content=False):
                    if file.tell() + len(chunk) > max_bytes:
                        part.unlink()
                        raise MirrorError(f"the file it sends is larger than {max_bytes:,} bytes")
                    file.write(chunk)
                    bar.update(len(chunk))
            except urllib3.exceptions.HTTPError as error:
                raise BrokenError(f"the connection broke after {_size_of(part):,} bytes") from error
            os.fsync(file.fileno())
    if total is not None and _size_of(part) < total:
        raise BrokenError(f"the connection broke after {_size_of(part):,} bytes")
    return kept > 0


def _open_url(url: str, kept: int, https_only: bool) -> requests.Response:
    """Return the server's answer from byte ``kept`` on, its content not read yet."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={kept}-"} if kept else {})
    unsafe = MirrorError("not an https address, and no checksum of the file is known")
    try:
        if https_only and not _is_safe(url):
            raise unsafe
        response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except (requests.RequestException, ValueError) as error:
        cause: BaseException = error  # The first of a chain says "Connection refused", the last one a paragraph.
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
        why = " ".join(str(getattr(cause, "strerror", None) or cause).split())
        if isinstance(cause, ConnectionResetError):
            raise BrokenError("the connection broke") from error
        raise MirrorError(f"no connection: {why}") from error
    if https_only and not all(_is_safe(step.url) for step in (*response.history, response)):
        response.close()
        raise unsafe
    return response


def _is_safe(url: str) -> bool:
    """Return whether nobody between this machine and the server of ``url`` can change what it sends."""
    return urlsplit(url).scheme == "https" or urlsplit(url).hostname in LOOPBACK


def ensure_room(folder: Path, size: int) -> None:
    """Raise ``UnavailableError`` if the disk of ``folder`` has no room for ``size`` more bytes."""
    from tqdm import tqdm

    need, free = size + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < need:
        what = f"{tqdm.format_sizeof(need, 'B')} needed, {tqdm.format_sizeof(free, 'B')} free"
        raise UnavailableError(
            f"the disk of {folder} is too full for the download ({what}): make room, or choose another folder",
            reason=f"the disk is too full: {what}",
        )


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def say(text: str) -> None:
    """Print one line to standard error."""
    print(text, file=sys.stderr, flush=True)
