"""Tensors and a JSON record in one safetensors file: written atomically, verified when read. No pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from cgan import CganError


def save(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write ``tensors`` and the JSON-ready ``record`` to ``path``.

    The file appears whole or not at all: it is written beside ``path``, flushed to disk and renamed. SHA-256 sums over
    the record and over the tensors' names, types, shapes and contents go with it. Raises ``OSError`` if it cannot be
    written; what was there before then stays.
    """
    path = Path(path)
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record)
    metadata = {"record": text, "record_sha256": _text_digest(text), "sha256": _digest(held)}
    # The same name each time, so that what a killed process left half-written is written over by the next.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # Not save_file: it goes through a temporary file of its own, and hides a full disk behind another error.
        with open(temporary, "wb") as file:
            file.write(serialise(held, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the record that ``save`` wrote. Raises ``CganError`` on anything else."""
    path = Path(path)
    if not path.is_file():
        raise CganError(f"{path}: no such checkpoint; give the folder of a run that has written one")
    open(path, "rb").close()  # safetensors says of a file without rights that there is none.
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CganError(
            f"{path}: not a readable safetensors file ({error}); it is damaged or of another kind"
        ) from None
    if "sha256" not in metadata or "record" not in metadata:
        raise CganError(f"{path}: a safetensors file, but not a checkpoint of this project")
    record = metadata["record"]
    # Files written before the record had a sum of its own lack it.
    record_sum = metadata.get("record_sha256", _text_digest(record))
    if metadata["sha256"] != _digest(tensors) or record_sum != _text_digest(record):
        raise CganError(f"{path}: the contents do not match their checksum; the file is damaged, restore or delete it")
    return tensors, json.loads(record)


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, such as ``G.``, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_into(module: torch.nn.Module, state: Mapping[str, Tensor], where: Path) -> None:
    """Copy ``state`` into ``module``; one ``CganError`` naming the file ``where`` if a name or shape differs."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != found:
        name = next(name for name in [*expected, *found] if expected.get(name) != found.get(name))
        there, wanted = found.get(name, "missing"), expected.get(name, "none")
        raise CganError(
            f"{where}: written by a network of another spec ({type(module).__name__} {name}: {there} in the file, "
            f"{wanted} expected); use the run's own config.json"
        )
    module.load_state_dict(state)


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(np.ascontiguousarray(tensor.reshape(-1).view(torch.uint8).numpy()).data)
    return digest.hexdigest()
