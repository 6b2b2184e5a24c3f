"""Read and write small files: each is written whole or not at all, and JSON is read through a typed form.

Run folders are the subject of ``experiments.runs.folder``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from experiments import UsageError

Form = TypeVar("Form")

#: No record of this project comes near it.
MAX_BYTES = 64 * 2**20

#: How to fix the records of a run; other readers give their own sentence.
NO_RUN = "give the folder of a run, such as runs/mnist/paper-seed1"
DAMAGED = "restore the file, or train again under another --name"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8; raises ``UsageError`` on text that cannot be encoded, otherwise as ``write_bytes``."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        broken = ascii(text[max(error.start - 20, 0) : error.end])
        raise UsageError(f"{path}: {broken} is not valid text; give names without such characters") from None
    write_bytes(path, data)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, or a power cut, finds the old file or the new one, never a part.

    Raises ``OSError`` naming ``path``; the old file is then still there.
    """
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


def read_record(
    path: Path, form: type[Form], *, missing: str = NO_RUN, fix: str = DAMAGED, max_bytes: int = MAX_BYTES
) -> Form:
    """Return the JSON file as ``form``: a dataclass, or a type such as ``dict[str, Any]``. Unknown fields are ignored.

    Raises ``UsageError`` that names the file, the field, what was found and what belongs there, and ends on ``missing``
    (no such file) or ``fix`` (damaged, or larger than ``max_bytes``). ``OSError`` if the file may not be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file; {missing}") from None
    if len(data) > max_bytes:
        raise UsageError(f"{path}: larger than {max_bytes:,} bytes, so it is not such a record; {fix}")
    try:
        return convert_record(msgspec.json.decode(data), form, str(path), fix=fix)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON ({error}); {fix}") from None


def convert_record(record: Any, form: type[Form], where: str, *, fix: str = DAMAGED) -> Form:
    """Return ``record``, JSON values that were read already, as ``form``; raises ``UsageError`` as ``read_record``."""
    try:
        return msgspec.convert(record, form)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_explain(error, record, form)}; {fix}") from None


def check_output(path: Path, option: str) -> None:
    """Raise ``UsageError`` if no file can be written to ``path``: before the work, not after it.

    Folders that are missing on the way are made by the writer.
    """
    if path.is_dir():
        raise UsageError(f"{option} {path}: that is a folder; give the name of a file to write")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UsageError(f"{option} {path}: {above} is a file, not a folder; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: no permission to write in {above}; choose another place")


def _explain(error: msgspec.ValidationError, record: Any, form: Any) -> str:
    """Return msgspec's message as: field, what was found, what belongs there."""
    message, _, place = str(error).partition(" - at `$")
    keys = re.findall(r"\w+|\[\.\.\.\]", place.rstrip("`"))
    if match := re.match(r"Object missing required field `(\w+)`", message):
        return f"field {'.'.join([*keys, match[1]])} is missing"
    found, expected = _look_up(record, keys), _literal(form, keys)
    if expected is None:
        kind = re.match(r"Expected (.*?)(?:, got `\w+`)?$", message)
        expected = kind[1].replace("`", "") if kind else message
    name = f"field {'.'.join(keys)}" if keys else "the file"
    return f"{name} holds {found}, but needs {expected}" if found else f"{name}: {message}"


def _look_up(record: Any, keys: list[str]) -> str:
    """Return the value at ``keys`` as short text, empty where the path does not say it all."""
    for key in keys:
        try:
            record = record[int(key) if isinstance(record, list) else key]
        except (KeyError, ValueError, IndexError, TypeError):
            return ""
    text = json.dumps(record, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _literal(form: Any, keys: list[str]) -> str | None:
    """Return the values that a ``Literal`` field of a dataclass takes, in words; None for other fields."""
    for key in keys:
        if not hasattr(form, "__dataclass_fields__"):
            return None
        form = get_type_hints(form).get(key)
    values = get_args(form)
    return " or ".join(values) if values and all(isinstance(value, str) for value in values) else None


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name, such as ``training.decay``."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return values
