"""Tensors and a JSON record in one safetensors file: written atomically, verified when read. Never pickled."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from cgan import CganError

Record = TypeVar("Record")


def save(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """Write ``tensors`` and the JSON-ready ``record``, with their checksums, to ``path``; return the tensors' SHA-256.

    The file appears whole or not at all: it is written beside ``path``, flushed to disk and renamed. Raises ``OSError``
    naming ``path`` if it cannot be written; what was there before then stays.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text, digest = json.dumps(record), tensors_sha256(held)
    metadata = {"record": text, "record_sha256": _text_sha256(text), "sha256": digest}
    # Always the same name, so that what a killed process left half-written is overwritten by the next.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # Not save_file: it hides a full disk behind another error.
        with open(temporary, "wb") as file:
            file.write(serialise(held, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    with contextlib.suppress(OSError):  # The rename itself is flushed where the system can.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return digest


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the record that ``save`` wrote. Raises ``CganError`` on anything else."""
    if not path.is_file():
        raise CganError(f"{path}: no such checkpoint: give the folder of a run that has written one")
    open(path, "rb").close()  # A file without read permission: safetensors would say that there is none.
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, f"not a readable safetensors file ({error})") from None
    if not {"record", "record_sha256", "sha256"} <= metadata.keys():
        raise CganError(f"{path}: a safetensors file, but not a checkpoint of this project: give a run's own file")
    text = metadata["record"]
    if (metadata["sha256"], metadata["record_sha256"]) != (tensors_sha256(tensors), _text_sha256(text)):
        raise _unreadable(path, "the contents do not match their checksum")
    try:
        record = json.loads(text)  # Not msgspec, which knows no -Infinity: the best score before any estimate.
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"its record is not readable ({error})") from None
    return tensors, convert(record, dict[str, Any], path)


def convert(record: Any, form: type[Record], path: Path) -> Record:
    """Return ``record`` as the type ``form``; raises ``CganError`` naming ``path`` and the field at fault."""
    try:
        return msgspec.convert(record, form)
    except (msgspec.ValidationError, UnicodeError) as error:  # The latter of half a character.
        raise _unreadable(path, f"its record is not of the expected form ({error})") from None


def subset(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, such as ``G.``, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def load_into(target: torch.nn.Module | Mapping[str, Tensor], saved: Mapping[str, Tensor], path: Path) -> None:
    """Copy ``saved`` into the state of a module, or into tensors by name; raises ``CganError`` unless they fit."""
    own = target.state_dict() if isinstance(target, torch.nn.Module) else target
    expected, found = ({name: tuple(value.shape) for name, value in tensors.items()} for tensors in (own, saved))
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise CganError(
                f"{path}: written by a network of another spec ({name}: {found.get(name, 'missing')} in the file, "
                f"{expected.get(name, 'none')} expected): use the run's own config.json"
            )
    for name, value in saved.items():
        own[name].copy_(value)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and contents of tensors on the CPU."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _unreadable(path: Path, fault: str) -> CganError:
    """Return the error that says what is wrong with ``path`` and how to go on."""
    advice = "restore it from a copy, or train the run again under another name"
    if path.suffix in (".pt", ".pth", ".ckpt"):
        advice = "convert it: torch.load(..., weights_only=True), then safetensors.torch.save_file"
    elif path.name == "checkpoint.safetensors":
        advice = "restore it from a copy, or delete it and train again; best.safetensors beside it can still be sampled"
    return CganError(f"{path}: {fault}; {advice}")


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
