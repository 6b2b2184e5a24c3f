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
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from cgan import CganError

Record = TypeVar("Record")


def save(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """Write ``tensors`` and the JSON-ready ``record`` to ``path`` and return the tensors' SHA-256.

    The file appears whole or not at all: it is written beside ``path``, flushed to disk and renamed. Checksums of the
    record and of the tensors go with it. Raises ``OSError`` naming ``path`` if it cannot be written; what was there
    before then stays.
    """
    path = Path(path)
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
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return digest


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the record that ``save`` wrote. Raises ``CganError`` on anything else."""
    path = Path(path)
    if not path.is_file():
        raise CganError(f"{path}: no such checkpoint: give the folder of a run that has written one")
    open(path, "rb").close()  # A file without read permission: safetensors would say that there is none.
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CganError(f"{path}: not a readable safetensors file ({error}); {_advice(path)}") from None
    if "sha256" not in metadata or "record" not in metadata:
        raise CganError(f"{path}: a safetensors file, but not a checkpoint of this project: give a run's own file")
    text = metadata["record"]
    if metadata["sha256"] != tensors_sha256(tensors) or metadata.get("record_sha256") != _text_sha256(text):
        raise CganError(f"{path}: the contents do not match their checksum; {_advice(path)}")
    try:
        record = json.loads(text)  # Not msgspec, which knows no -Infinity: the best score before any estimate.
    except (ValueError, RecursionError) as error:
        raise CganError(f"{path}: its record is not readable ({error}); {_advice(path)}") from None
    if not isinstance(record, dict):
        raise CganError(f"{path}: its record is no JSON object; {_advice(path)}")
    return tensors, record


def convert(record: Mapping[str, Any], form: type[Record], path: Path) -> Record:
    """Return ``record`` as the dataclass ``form``; raises ``CganError`` naming ``path`` and the field at fault."""
    try:
        return msgspec.convert(record, form)
    except (msgspec.ValidationError, UnicodeError) as error:  # The latter of half a character.
        raise CganError(f"{path}: its record is not of the expected form ({error}); {_advice(path)}") from None


def subset(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, such as ``G.``, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_into(module: torch.nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy ``state`` into ``module``; raises ``CganError`` naming ``path`` if a name or shape differs."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != found:
        name = next(name for name in [*expected, *found] if expected.get(name) != found.get(name))
        raise CganError(
            f"{path}: written by a network of another spec ({type(module).__name__} {name}: "
            f"{found.get(name, 'missing')} in the file, {expected.get(name, 'none')} expected): use the run's own "
            "config.json"
        )
    module.load_state_dict(state)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and contents of tensors on the CPU."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(np.ascontiguousarray(tensor.reshape(-1).view(torch.uint8).numpy()).data)
    return digest.hexdigest()


def _advice(path: Path) -> str:
    """Return how to go on after ``path`` turned out unreadable."""
    if path.suffix in (".pt", ".pth", ".ckpt"):
        return "convert it: torch.load(..., weights_only=True), then safetensors.torch.save_file"
    if path.name == "checkpoint.safetensors":
        return "restore it from a copy, or delete it and train again; best.safetensors beside it can still be sampled"
    return "restore it from a copy, or train the run again under another name"


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Flush a rename in ``folder`` to disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
