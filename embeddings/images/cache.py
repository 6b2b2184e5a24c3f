"""Image features on disk by the images' own checksums: safetensors files that are verified when read. No pickle.

Computes no features; knows nothing of networks but a record that tells two of them apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

#: Changes when the features of the same photo and network would come out otherwise (how photos are opened, say), or
#: when the files have another form.
FORMAT = 2

#: Bytes of features in one file, at most.
PART = 64 << 20


class FeatureCache:
    """Features of one network. Several processes may add to the same folder.

    ``record`` is JSON-ready and holds all that decides the features; each different one has its own folder below
    ``folder``. A file in it is named by its own SHA-256, so that damage shows and no two writers meet. It holds

    - images: (n, 32) uint8, SHA-256 of each image file's bytes
    - vectors: (n, dim) float32
    """

    def __init__(self, folder: Path, record: Mapping[str, Any], dim: int) -> None:
        text = json.dumps({"format": FORMAT, **record}, sort_keys=True)
        name = re.sub(r"[^\w.]+", "-", str(record.get("name", "network")))
        self.folder = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.record, self.dim = text, dim

    def read(self, rows: Mapping[bytes, int], matrix: np.ndarray) -> np.ndarray:
        """Fill ``matrix[rows[image]]``, (n, dim) float32, for each image that is here; return (n,) bool, which were.

        A damaged file is removed, with a note on standard error.
        """
        found = np.zeros(len(matrix), dtype=bool)
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                contents = path.read_bytes()
                if hashlib.sha256(contents).hexdigest() != path.stem:
                    raise SafetensorError("its checksum is not that of its name")
                arrays = load(contents)
                if not self._is_whole(arrays):
                    raise SafetensorError("it does not hold the features of such a network")
            except FileNotFoundError:  # Another process removed it.
                continue
            except SafetensorError as error:
                print(
                    f"note: {path}: damaged ({error}); removed, and its features are computed again",
                    file=sys.stderr,
                    flush=True,
                )
                path.unlink(missing_ok=True)
                continue
            for image, vector in zip(map(bytes, arrays["images"]), arrays["vectors"], strict=True):
                if (row := rows.get(image)) is not None:
                    matrix[row], found[row] = vector, True
        return found

    def _is_whole(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Return whether a file's arrays are of the form that ``add`` writes."""
        images, vectors = arrays.get("images"), arrays.get("vectors")
        return (
            images is not None
            and vectors is not None
            and (images.dtype, images.shape[1:]) == (np.uint8, (32,))
            and (vectors.dtype, vectors.shape) == (np.float32, (len(images), self.dim))
            and bool(np.isfinite(vectors).all())
        )

    def add(self, images: Sequence[bytes], vectors: np.ndarray) -> None:
        """Write the ``vectors``, (n, dim) float32, of ``images``, in new files that are there whole or not at all.

        Raises ``OSError`` if they cannot be written; what was there stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        step = max(1, PART // (4 * self.dim))
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            digests = np.frombuffer(b"".join(images[part]), dtype=np.uint8).reshape(-1, 32)
            contents = save({"images": digests, "vectors": vectors[part]}, {"record": self.record})
            path = self.folder / f"{hashlib.sha256(contents).hexdigest()}.safetensors"
            temporary = path.with_name(f".{path.stem[:16]}.{os.getpid()}.tmp")
            try:
                with open(temporary, "wb") as file:
                    file.write(contents)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
