"""Read and write small files: each is written whole or not at all, and JSON is read through a typed form."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from cgan import CganError
from experiments import UsageError

Form = TypeVar("Form")

#: No record of this project comes near it.
MAX_BYTES = 64 * 2**20

#: How to fix the records of a run; other readers give their own sentence.
NO_RUN = "give the folder of a run, such as runs/mnist/paper-seed1"
DAMAGED = "restore the file, or train again under another --name"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, as ``write_bytes`` does; raises ``UsageError`` on text that cannot be encoded."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        broken = ascii(text[max(error.start - 20, 0) : error.end])
        raise UsageError(f"{path}: {broken} is not valid text; give names without such characters") from None
    write_bytes(path, data)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, or a power cut, finds the old file or the new one, never a part.

    Folders that are missing are made. Raises ``OSError`` naming ``path``; the old file is then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)
    # The new name itself is only safe once the folder is on the disk; not every file system can do this.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, record: Any) -> None:
    """Write a dataclass or a mapping as indented JSON; raises ``ValueError`` on NaN and infinity, which JSON lacks."""
    text = json.dumps(msgspec.to_builtins(record, str_keys=True), indent=2, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def read_record(path: Path, form: type[Form], *, missing: str = NO_RUN, fix: str = DAMAGED) -> Form:
    """Return the JSON file as ``form``: a dataclass, or a type such as ``dict[str, Any]``. Unknown fields are ignored.

    Raises ``UsageError`` that names file, field and what belongs there, and ends on ``missing`` (no such file) or
    ``fix`` (damaged, or larger than ``MAX_BYTES``); ``OSError`` if the file may not be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file; {missing}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: larger than {MAX_BYTES:,} bytes, so it is not such a record; {fix}")
    try:
        return convert_record(msgspec.json.decode(data), form, str(path), fix=fix)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON ({error}); {fix}") from None


def convert_record(record: Any, form: type[Form], where: str, *, fix: str = DAMAGED) -> Form:
    """Return ``record``, JSON values that were read already, as ``form``; raises ``UsageError`` as ``read_record``."""
    try:
        return msgspec.convert(record, form)
    except CganError as error:  # A number out of range.
        raise UsageError(f"{where}: {error}; {fix}") from None
    except msgspec.ValidationError as error:
        # msgspec quotes what was found, which may be endless, and says neither field nor choices in our words.
        message, _, place = str(error).replace("`", "").partition(" - at $.")
        kind: Any = form
        for key in place.split("."):
            kind = get_type_hints(kind).get(key) if hasattr(kind, "__dataclass_fields__") else None
        choices = [value for value in get_args(kind) if isinstance(value, str)]
        known = f", choose {' or '.join(choices)}" if choices else ""
        field = f"field {place}" if place else "the file"
        raise UsageError(f"{where}: {field}: {message[:200]}{known}; {fix}") from None


@contextlib.contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock file ``path`` against other processes; raises ``UsageError`` with ``refusal`` if one holds it."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(refusal) from None
    try:
        yield
    finally:
        lock.release()


def check_output(path: Path | None, option: str, suffix: str = "") -> None:
    """Raise ``UsageError``, before any work, if no file can be written there, or it does not end in ``suffix``."""
    if path is None:
        return
    if suffix and path.suffix != suffix:
        raise UsageError(f"{option} {path}: give a file name that ends in {suffix}")
    if path.is_dir():
        raise UsageError(f"{option} {path}: that is a folder; give the name of a file to write")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UsageError(f"{option} {path}: {above} is a file, not a folder; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: no permission to write in {above}; choose another place")


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name, such as ``training.decay``."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return values


def without_folders(text: str) -> str:
    """Return a record without the folders of this machine: of an absolute path the last part is left."""
    text = re.sub(r' --(runs|data-root|name|json|device|threads)[ =][^ "]+', "", text)
    return re.sub(r'(?<=[\s="])/(?:[^\s"/]+/)+', "", text)
