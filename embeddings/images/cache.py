"""Image features on disk by the images' own checksums: safetensors files that are verified when read. No pickle.

Computes no features; knows nothing of networks but a record that tells two of them apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from embeddings import EmbeddingError

#: Changes when the features of the same photo and network would come out otherwise (how photos are opened, say).
FORMAT = 1

#: Bytes of features in one file: adding a few photos writes no more than this anew.
PART = 64 << 20

#: What a file holds.
TENSORS = ("images", "vectors", "sums")

#: The checksums of files already read, by path.
MEMO = "images.json"


class FeatureCache:
    """Features of one network. Several processes may add to the same folder.

    ``record`` is JSON-ready and holds all that decides the features; each different one has its own folder below
    ``folder``, with files 0.safetensors, 1.safetensors, ... of

    - images: (n, 32) uint8, SHA-256 of each image file's bytes
    - vectors: (n, dim) float32
    - sums: (n,) int64, CRC-32 of the image's checksum and its vector
    """

    def __init__(self, folder: Path, record: Mapping[str, Any], dim: int) -> None:
        text = json.dumps({"format": FORMAT, **record}, sort_keys=True)
        name = re.sub(r"[^\w.]+", "-", str(record.get("name", "network")))
        self.folder = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.record, self.dim = text, dim
        self._rows_of_a_part = max(1, PART // (4 * dim))

    def read(self, rows: Mapping[bytes, int], matrix: np.ndarray) -> np.ndarray:
        """Fill ``matrix[rows[image]]``, (n, dim) float32, for each image that is here; (n,) bool, which were."""
        found = np.zeros(len(matrix), dtype=bool)
        for path in self._parts():
            images, vectors, sums = self._load(path) or _nothing(self.dim)
            damaged = 0
            for image, vector, checksum in _rows((images, vectors, sums)):
                row = rows.get(image)
                if row is None or found[row]:
                    continue
                if _sum(image, vector) == checksum:
                    matrix[row], found[row] = vector, True
                else:
                    damaged += 1
            if damaged:
                _note(f"{path}: features of {damaged:,} images are damaged, and are computed again")
        return found

    def add(self, images: Sequence[bytes], vectors: np.ndarray) -> None:
        """Write the ``vectors``, (n, dim) float32, of ``images``. Fills the last file up, then begins new ones.

        What the last file holds already is not written again: an interrupt may have come after it was.
        Raises ``OSError`` if they cannot be written; what was there stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            parts = self._parts()
            number, old = 0, None
            if parts:
                number, old = int(parts[-1].stem), self._load(parts[-1])
            asked = set(images)
            whole = {
                image
                for image, vector, checksum in _rows(old or _nothing(self.dim))
                if image in asked and _sum(image, vector) == checksum
            }
            new = [i for i, image in enumerate(images) if image not in whole]
            images, vectors = [images[i] for i in new], vectors[new]
            if old is not None and len(old[0]) >= self._rows_of_a_part:
                number, old = number + 1, None
            new_images = np.frombuffer(b"".join(images), dtype=np.uint8).reshape(-1, 32)
            new_sums = np.array([_sum(*pair) for pair in zip(images, vectors, strict=True)], dtype=np.int64)
            added = (new_images, vectors, new_sums)
            before: tuple[Any, ...] = old or _nothing(self.dim)
            held = [np.concatenate(pair) for pair in zip(before, added, strict=True)]
            for start in range(0, len(held[0]), self._rows_of_a_part):
                part = [array[start : start + self._rows_of_a_part] for array in held]
                contents = serialise(dict(zip(TENSORS, part, strict=True)), {"record": self.record})
                _write(self.folder / f"{number}.safetensors", contents)
                number += 1

    def _parts(self) -> list[Path]:
        numbered = [path for path in self.folder.glob("*.safetensors") if path.stem.isdecimal()]
        return sorted(numbered, key=lambda path: int(path.stem))

    def _load(self, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Images, vectors and sums of a file. None if it is damaged: then it is put aside, with a note."""
        try:
            with safe_open(path, framework="np") as file:
                images, vectors, sums = (file.get_tensor(name) for name in TENSORS)
                record = (file.metadata() or {}).get("record")
            n = len(images)
            if [images.shape, vectors.shape, sums.shape] != [(n, 32), (n, self.dim), (n,)] or record != self.record:
                raise SafetensorError("not the features of this network")
            return images, vectors, sums
        except SafetensorError as error:
            _note(f"{path}: damaged ({error}); removed, and its features are computed again")
            path.unlink(missing_ok=True)
            return None


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def checksums(paths: Sequence[Path], folder: Path | None, progress: bool) -> tuple[list[bytes | None], dict[Path, str]]:
    """SHA-256 of each file's bytes, None where it cannot be read, and the reasons for those.

    With a ``folder``, what is known of a file of the same path, size and times is not read again.
    """
    from tqdm import tqdm

    memo = _read_memo(folder / MEMO) if folder else {}
    news: dict[str, list[Any]] = {}
    found: list[bytes | None] = []
    unreadable: dict[Path, str] = {}
    for path in tqdm(paths, desc="reading images", unit="image", delay=2, disable=None if progress else True):
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise EmbeddingError("not a file")
            key, times = os.path.abspath(path), [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            known = memo.get(key)
            if known is None or known[:3] != times:
                known = [*times, _file_digest(path)]
                # A file written just now may be written again without another size or time.
                if time.time_ns() - max(times[1:]) > 2_000_000_000:
                    news[key] = known
            found.append(bytes.fromhex(known[3]))
        except (OSError, EmbeddingError) as error:
            unreadable[path] = getattr(error, "strerror", None) or str(error)
            found.append(None)
    if folder and news:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{MEMO}.lock"):
            _write(folder / MEMO, json.dumps({**_read_memo(folder / MEMO), **news}).encode())
    return found, unreadable


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_memo(path: Path) -> dict[str, list[Any]]:
    """What ``checksums`` wrote; whatever is not of its form is left out."""
    try:
        memo = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(memo, dict):
        return {}
    digest = re.compile("[0-9a-f]{64}")
    return {
        key: known
        for key, known in memo.items()
        if isinstance(known, list) and len(known) == 4 and isinstance(known[3], str) and digest.fullmatch(known[3])
    }


def _rows(part: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Iterator[tuple[bytes, np.ndarray, int]]:
    """Image, vector and sum of each row of a file."""
    images, vectors, sums = part
    return zip(map(bytes, images), vectors, sums, strict=True)


def _nothing(dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty((0, 32), dtype=np.uint8), np.empty((0, dim), dtype=np.float32), np.empty(0, dtype=np.int64)


def _sum(image: bytes, vector: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(vector).data, zlib.crc32(image))


def _write(path: Path, contents: bytes) -> None:
    """Whole or not at all: beside ``path``, flushed to disk and renamed. Under a lock, as the other name is fixed.

    A name of its own for each writer would leave a file behind whenever one is killed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
