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
    """Return the digits to train on, by name; ``root`` as for ``data_root``, the rest as for ``load_mnist``.

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
    """Return MNIST under ``root``: 50,000 images train, the last 10,000 training images validate, 10,000 test.

    Reads ``<root>/MNIST/raw/*-ubyte`` or what ``find_file`` finds instead; a ``.gz`` is unpacked beside itself if the
    folder can be written. Files that are missing are downloaded if ``download``, from the base addresses
    ``mirrors``, else those in ``$CGAN_MNIST_MIRROR``, else torchvision's. Nothing is written when the files
    are there.
    Raises ``UnavailableError`` (a ``DataError``) when a file is missing and cannot be fetched, and
    ``DataError`` when one is not, byte for byte, the published one; it is left as it is.
    """
    raw = Path(root) / "MNIST" / "raw"
    # Files on the disk are checked first: a damaged one is reported before a download begins.
    content = {file: read_file(path, file) for file in FILES if (path := find_file(Path(root), file))}
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
        content[file] = read_file(raw / f"{file.name}.gz", file)
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
    """Return images uint8 (n, rows, columns) as float32 (n, rows * columns) in [0, 1]."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels /= np.float32(255)
    return pixels


def find_file(root: Path, file: IdxFile) -> Path | None:
    """Return where ``file`` lies below ``root``, as it is or compressed; None if it is nowhere.

    Besides ``<root>/MNIST/raw/NAME`` this accepts other common places: the folder in lower case, files flat in the
    root or in MNIST, ``root`` naming one of these folders, a dot instead of the second-last dash (as in
    ``train-images.idx3-ubyte``), and a folder of the file's name that holds the file.
    """
    dotted = file.name.replace("-idx", ".idx")
    for folder in (root / "MNIST" / "raw", root / "mnist" / "raw", root / "MNIST", root / "mnist", root / "raw", root):
        for name in (file.name, dotted):
            for path in (folder / name, folder / name / name, folder / f"{name}.gz"):
                if path.is_file():
                    return path
    return None


def read_file(path: Path, file: IdxFile) -> bytes:
    """Return the uncompressed bytes of ``file`` at ``path``; raises ``DataError`` if they are not as published."""
    if path.suffix == ".gz":
        content, wrong = read_packed(path, file)
    else:
        content = path.read_bytes()
        wrong = fault(content, file)
    if wrong:
        raise DataError(f"{path} {wrong}: delete it and run again to download it again")
    if path.suffix == ".gz":
        # A folder that cannot be written is no hindrance: the next run unpacks again.
        with contextlib.suppress(OSError):
            write_atomically(path.with_suffix(""), content)
    return content


def read_packed(path: Path, file: IdxFile) -> tuple[bytes, str | None]:
    """Return the uncompressed bytes of the gzip file ``path``, and what is wrong with them as ``file`` or None."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return b"", f"is not a whole gzip file ({error})"
    return content, fault(content, file)


def fault(content: bytes, file: IdxFile) -> str | None:
    """Return what is wrong with ``content`` as ``file``, in words that follow its name; None if nothing is."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found == file.md5:
        return None
    return difference(content, file) or f"has the MD5 {found} instead of {file.md5}"


def header_size(file: IdxFile) -> int:
    """Return the bytes before the array: two zeros, the type, the number of dimensions, and four bytes a dimension."""
    return 4 + 4 * len(file.shape)


def difference(content: bytes, file: IdxFile) -> str | None:
    """Describe how ``content`` departs from the form of ``file``; None if only some values differ."""
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

    What counts is the MD5 of the uncompressed bytes: a mirror that compressed them again serves the same data.
    """
    try:
        fetch(
            [f"{mirror.rstrip('/')}/{file.name}.gz" for mirror in mnist_mirrors(mirrors)],
            raw / f"{file.name}.gz",
            verify=lambda path: read_packed(path, file)[1],
        )
    except UnavailableError as error:
        raise UnavailableError(
            f"MNIST is not complete under {raw}: {error}, or put its files there, or name another data root",
            reason=error.reason,
        ) from error


def mnist_mirrors(mirrors: str | Sequence[str] | None) -> list[str]:
    """Return the base addresses of MNIST: ``mirrors``, else ``$CGAN_MNIST_MIRROR``, else torchvision's."""
    if named := named_mirrors(mirrors, MIRROR_VARIABLE):
        return named
    from torchvision.datasets import MNIST

    return list(MNIST.mirrors)
