"""Image features on disk by the images' own checksums: safetensors files that are verified when read. No pickle.

Computes no features; knows nothing of networks but a record that tells two of them apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

#: Changes when the features of the same photo and network would come out otherwise (how photos are opened, say), or
#: when the files have another form.
FORMAT = 2


class FeatureCache:
    """Features of one network. Several processes may add to the same folder.

    ``record`` is JSON-ready and holds all that decides the features; each different one has its own folder below
    ``folder``. A file in it is named by its own SHA-256, so that damage shows and no two writers meet. It holds images,
    (n, 32) uint8, the SHA-256 of each image file's bytes, and vectors, (n, dim) float32.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any], dim: int) -> None:
        self.record, self.dim = json.dumps({"format": FORMAT, **record}, sort_keys=True), dim
        name = re.sub(r"[^\w.]+", "-", str(record["name"]))
        self.folder = folder / f"{name}-{hashlib.sha256(self.record.encode()).hexdigest()[:16]}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, wanted: Collection[bytes]) -> dict[bytes, np.ndarray]:
        """Return the vectors (dim,) of those images ``wanted`` that are here; remove damaged files with a note."""
        found: dict[bytes, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                contents = path.read_bytes()
                arrays = load(contents) if hashlib.sha256(contents).hexdigest() == path.stem else {}
                images, vectors = arrays["images"], arrays["vectors"]
                if images.ndim != 2 or vectors.shape != (len(images), self.dim) or vectors.dtype != np.float32:
                    raise ValueError("not the features of this network")
                found |= {key: row for key, row in zip(map(bytes, images), vectors, strict=True) if key in wanted}
            except FileNotFoundError:  # Another process removed it.
                continue
            except (SafetensorError, KeyError, ValueError):
                print(f"note: {path}: damaged; removed, and its features are computed again", file=sys.stderr)
                path.unlink(missing_ok=True)
        return found

    def add(self, images: Sequence[bytes], vectors: np.ndarray) -> None:
        """Write the ``vectors``, (n, dim) float32, of ``images``, in a new file that is there whole or not at all."""
        digests = np.frombuffer(b"".join(images), dtype=np.uint8).reshape(-1, 32)
        contents = save({"images": digests, "vectors": vectors}, {"record": self.record})
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
