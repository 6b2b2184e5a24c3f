"""MNIST from disk, fetched when it is missing; and the choice between it and the embedded digits.

Reads torchvision's layout (``<root>/MNIST/raw``) and checks every byte. Knows nothing of how it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from data import DataError
from data.digits import load_digits_28
from data.download import UnavailableError, fetch, named_mirrors
from data.labelled import ImageDataset, LabelledImages
from data.roots import data_root

#: The environment variable that names other mirrors: base addresses, separated by spaces.
MIRROR_VARIABLE = "CGAN_MNIST_MIRROR"

#: Of the 60,000 training images the first train and the last validate (Goodfellow et al. 2014, section 5).
TRAIN = 50_000


class IdxFile(NamedTuple):
    """One of MNIST's files: the published MD5 of its uncompressed bytes, and the shape of its array."""

    name: str
    md5: str
    shape: tuple[int, ...]


FILES = (
    IdxFile("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", (60_000, 28, 28)),
    IdxFile("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", (60_000,)),
    IdxFile("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", (10_000, 28, 28)),
    IdxFile("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", (10_000,)),
)


def load_digit_images(
    dataset: Literal["auto", "mnist", "digits"] = "auto",
    root: str | Path | None = None,
    download: bool = True,
    mirrors: str | Sequence[str] | None = None,
) -> ImageDataset:
    """The digits to train on, by name; ``root`` as for ``data_root``, the rest as for ``load_mnist``.

    "mnist": MNIST or a ``DataError``. "digits": the embedded digits. "auto": MNIST found or downloaded, else
    the embedded digits with a ``notice`` that says why; damaged files of MNIST are an error here too, never a
    reason to use something else.
    """
    if dataset == "digits":
        return load_digits_28()
    if dataset not in ("auto", "mnist"):
        raise DataError(f'there is no data set "{dataset}": choose auto, mnist or digits')
    try:
        return load_mnist(data_root(root), download, mirrors)
    except UnavailableError as error:
        if dataset == "mnist":
            raise
        notice = (
            f"MNIST is not complete under {data_root(root)} and cannot be fetched ({error.reason}): "
            "scikit-learn's 1,797 embedded digits, enlarged to 28 x 28, stand in for it, and no figure from "
            "them compares with the paper's"
        )
        return dataclasses.replace(load_digits_28(), notice=notice)


def load_mnist(root: str | Path, download: bool = True, mirrors: str | Sequence[str] | None = None) -> ImageDataset:
    """MNIST under ``root``: 50,000 images train, the last 10,000 training images validate, 10,000 test.

    Reads ``<root>/MNIST/raw/*-ubyte``, or ``*-ubyte.gz`` where only that is there (unpacked beside it if the
    folder can be written). Files that are missing are downloaded if ``download``, from the base addresses
    ``mirrors``, else those in ``$CGAN_MNIST_MIRROR``, else torchvision's. Nothing is written when the files
    are there.
    Raises ``UnavailableError`` (a ``DataError``) when a file is missing and cannot be fetched, and
    ``DataError`` when one is not, byte for byte, the published one; it is left as it is.
    """
    raw = Path(root) / "MNIST" / "raw"
    # What is there is checked first: a damaged file should be told of before a download begins.
    content = {file: read_file(raw, file) for file in FILES if exists(raw, file)}
    missing = [file for file in FILES if file not in content]
    if missing and not download:
        names = ", ".join(file.name for file in missing)
        raise UnavailableError(
            f"MNIST is not complete under {raw} (missing: {names}): allow the download, or put them there, "
            "or name another data root",
            reason="the download is switched off",
        )
    for file in missing:
        download_file(raw, file, mirrors)
        content[file] = read_file(raw, file)
    images, labels, test_images, test_labels = (
        np.frombuffer(content[file], dtype=np.uint8, offset=header_size(file)).reshape(file.shape) for file in FILES
    )
    pixels, targets = scale(images), labels.astype(np.int64)
    return ImageDataset(
        name="mnist",
        embedded=False,
        checksum=hashlib.sha256("".join(f"{file.md5}  {file.name}\n" for file in FILES).encode()).hexdigest(),
        train=LabelledImages(pixels[:TRAIN], targets[:TRAIN]),
        valid=LabelledImages(pixels[TRAIN:], targets[TRAIN:]),
        test=LabelledImages(scale(test_images), test_labels.astype(np.int64)),
    )


def scale(images: np.ndarray) -> np.ndarray:
    """Images uint8 (n, rows, columns) as float32 (n, rows * columns) in [0, 1]."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels /= np.float32(255)
    return pixels


def packed(raw: Path, file: IdxFile) -> Path:
    """Where the compressed form of ``file`` lies."""
    return raw / f"{file.name}.gz"


def exists(raw: Path, file: IdxFile) -> bool:
    """Whether ``file`` is in the folder ``raw``, as it is or compressed."""
    return (raw / file.name).exists() or packed(raw, file).exists()


def read_file(raw: Path, file: IdxFile) -> bytes:
    """The bytes of ``file``, unpacked beside its compressed form if only that is there.

    Raises ``DataError`` when they are not the published ones.
    """
    path = raw / file.name
    if path.exists():
        content = path.read_bytes()
        wrong = fault(content, file)
    else:
        path = packed(raw, file)
        content, wrong = read_packed(path, file)
    if wrong:
        raise DataError(f"{path} {wrong}: delete it and run again to fetch it anew")
    if path.suffix == ".gz":
        # A folder that cannot be written is no hindrance: the next run unpacks again.
        with contextlib.suppress(OSError):
            write_atomically(raw / file.name, content)
    return content


def read_packed(path: Path, file: IdxFile) -> tuple[bytes, str | None]:
    """The uncompressed bytes of the gzip file ``path``, and what is wrong with them as ``file`` or None."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return b"", f"is not a whole gzip file ({error})"
    return content, fault(content, file)


def fault(content: bytes, file: IdxFile) -> str | None:
    """What is wrong with ``content`` as ``file``, in words that follow its name; None if nothing is."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found == file.md5:
        return None
    return difference(content, file) or f"has the MD5 {found} instead of {file.md5}"


def header_size(file: IdxFile) -> int:
    """Bytes before the array: two zeros, the type, the number of dimensions, and four bytes a dimension."""
    return 4 + 4 * len(file.shape)


def difference(content: bytes, file: IdxFile) -> str | None:
    """In words, how ``content`` departs from the form of ``file``; None if only some values differ."""
    if not content:
        return "is empty"
    if content[:4] != bytes((0, 0, 8, len(file.shape)))[: len(content)]:
        return f"is not an IDX file of bytes in {len(file.shape)} dimension(s)"
    header = header_size(file)
    if len(content) >= header:
        shape = tuple(int(n) for n in np.frombuffer(content, dtype=">u4", count=len(file.shape), offset=4))
        if shape != file.shape:
            return f"holds an array of shape {shape} instead of {file.shape}"
    expected = header + math.prod(file.shape)
    if len(content) < expected:
        return f"is cut short: {len(content):,} of {expected:,} bytes"
    if len(content) > expected:
        return f"is too long: {len(content):,} instead of {expected:,} bytes"
    if len(file.shape) == 1 and (highest := max(content[header:])) > 9:
        return f"holds the label {highest}, outside 0 to 9"
    return None


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that no other process ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def download_file(raw: Path, file: IdxFile, mirrors: str | Sequence[str] | None) -> None:
    """Fetch the compressed ``file`` into the folder ``raw``; ``UnavailableError`` when no mirror has it.

    What counts is the MD5 of the uncompressed bytes: a mirror that compressed them anew serves the same data.
    """
    try:
        fetch(
            [f"{mirror.rstrip('/')}/{file.name}.gz" for mirror in mnist_mirrors(mirrors)],
            packed(raw, file),
            verify=lambda path: read_packed(path, file)[1],
        )
    except UnavailableError as error:
        raise UnavailableError(
            f"MNIST is not complete under {raw}: {error}, or put its files there, or name another data root",
            reason=error.reason,
        ) from error


def mnist_mirrors(mirrors: str | Sequence[str] | None) -> list[str]:
    """The base addresses of MNIST: ``mirrors``, else ``$CGAN_MNIST_MIRROR``, else torchvision's."""
    if named := named_mirrors(mirrors, MIRROR_VARIABLE):
        return named
    from torchvision.datasets import MNIST

    return list(MNIST.mirrors)
