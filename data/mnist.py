"""Read MNIST from the disk, download it if it is missing, and choose between it and the embedded digits.

Reads torchvision's layout (``<root>/MNIST/raw``) and checks every byte. Trains nothing.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from data import DataError
from data.digits import load_digits_28
from data.download import UnavailableError, fetch
from data.labelled import ImageDataset, LabelledImages
from data.roots import data_root, describe_root

#: The environment variable that names other mirrors: base addresses, separated by spaces.
MIRROR_VARIABLE = "CGAN_MNIST_MIRROR"

#: Of the 60,000 training images the first train and the last validate (Goodfellow et al. 2014, section 5).
TRAIN = 50_000
#: The folder of the files below the data root, as torchvision has it.
RAW = "MNIST/raw"
#: Bytes that gzip may add to data that does not shrink.
SLACK = 1 << 16


class IdxFile(NamedTuple):
    """One of MNIST's files: the published MD5 of its uncompressed bytes, and the shape of its array."""

    name: str
    md5: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Return the bytes of the whole uncompressed file: four, four for each dimension, and the array."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


FILES = (
    IdxFile("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", (60_000, 28, 28)),
    IdxFile("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", (60_000,)),
    IdxFile("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", (10_000, 28, 28)),
    IdxFile("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", (10_000,)),
)


def load_digit_images(
    dataset: Literal["auto", "mnist", "digits"] = "auto", root: str | Path | None = None, download: bool = True
) -> ImageDataset:
    """Return the digits to train on, by name; ``root`` as for ``data_root``, ``download`` as for ``load_mnist``.

    "mnist": MNIST or a ``DataError``. "digits": the embedded digits. "auto": MNIST, or the embedded digits with a
    ``notice`` that says why; damaged files of MNIST are an error here too, never a reason to use something else.
    """
    if dataset == "digits":
        return load_digits_28()
    if dataset not in ("auto", "mnist"):
        raise DataError(f'there is no data set "{dataset}": choose auto, mnist or digits')
    try:
        return load_mnist(data_root(root), download)
    except UnavailableError as error:
        if dataset == "mnist":
            raise
        base = data_root(root)
        notice = (
            f"MNIST is not complete under {describe_root(base)} and cannot be fetched ({error.reason}"
            f"{other_forms(base)}): scikit-learn's 1,797 embedded digits, enlarged to 28 x 28, stand in for it, and no "
            "figure from them compares with the paper's"
        )
        return dataclasses.replace(load_digits_28(), notice=notice)


def load_mnist(root: str | Path, download: bool = True) -> ImageDataset:
    """Return MNIST under ``root``: 50,000 images train, the last 10,000 training images validate, 10,000 test.

    Missing files are downloaded to ``<root>/MNIST/raw`` if ``download``, from the base addresses in
    ``$CGAN_MNIST_MIRROR``, else torchvision's. Raises ``UnavailableError`` (a ``DataError``) when a file is missing and
    cannot be fetched, and ``DataError`` when one is not, byte for byte, the published one; it is left as it is.
    """
    root = Path(root)
    # Files on the disk are checked first: a damaged one is reported before a download begins.
    content = {file: found for file in FILES if (found := read_file(root, file)) is not None}
    missing = [file for file in FILES if file not in content]
    if missing and not download:
        names = ", ".join(file.name for file in missing)
        raise UnavailableError(
            f"MNIST is not complete under {root / RAW} (missing: {names}): allow the download, or put them there, or "
            "name another data root",
            reason="the download is switched off",
        )
    for file in missing:
        content[file] = download_file(root, file)
    images, labels, test_images, test_labels = (
        np.frombuffer(content[file], dtype=np.uint8)[-math.prod(file.shape) :].reshape(file.shape) for file in FILES
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


def candidates(root: Path, file: IdxFile) -> Iterator[Path]:
    """Yield the files below ``root`` that may be ``file``, plain or compressed: in its place, or where others put it.

    They write folders in lower case, a dot for a dash (``train-images.idx3-ubyte``), put the files into the root, into
    MNIST, or each into a folder of its name, and name one of these folders as the root.
    """
    for folder in (RAW, "mnist/raw", "MNIST", "mnist", "raw", ""):
        for name in (file.name, file.name.replace("-idx", ".idx")):
            for place in (name, f"{name}/{name}", f"{name}.gz", f"{name}.gz/{name}.gz"):
                if (path := root / folder / place).is_file():
                    yield path


def other_forms(root: Path) -> str:
    """Return a phrase that names files below ``root`` that may hold MNIST in another form; "" without any."""
    paths = [path for pattern in ("*", "*/*", "*/*/*") for path in sorted(root.glob(pattern)) if path.is_file()]
    names = ", ".join(str(path) for path in paths if "mnist" in path.name.lower() or "idx" in path.name.lower())
    return f"; {names} may hold it in another form, but the files must be called {FILES[0].name} etc." if names else ""


def read_file(root: Path, file: IdxFile) -> bytes | None:
    """Return the uncompressed bytes of ``file`` from the first place where they are the published ones.

    None if it is in no place. Raises ``DataError`` about the first file found if no place has the published bytes.
    """
    first = None
    for path in candidates(root, file):
        content, wrong = read_bytes(path, file)
        if not wrong:
            return content
        first = first or f"{path} {wrong}: delete it or move it away, and run again to download MNIST's"
    if first:
        raise DataError(first)
    return None


def read_bytes(path: Path, file: IdxFile) -> tuple[bytes, str | None]:
    """Return the uncompressed bytes at ``path`` and what is wrong with them as ``file``, or None.

    Reads one byte more than ``file`` has at most, however much a compressed file unpacks to.
    """
    packed = path.name.removesuffix(".part").endswith(".gz")
    try:
        with open(path, "rb") as plain, gzip.open(plain) if packed else plain as stream:
            content = stream.read(file.size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return b"", f"is not a whole gzip file ({error})"
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found == file.md5:
        return content, None
    size = f"{len(content):,} bytes" if len(content) <= file.size else "more bytes"
    return content, f"is not MNIST's: it has {size} instead of {file.size:,}, and the MD5 {found} instead of {file.md5}"


def download_file(root: Path, file: IdxFile) -> bytes:
    """Download the compressed ``file`` and return its uncompressed bytes, whose MD5 decides, however compressed."""
    from torchvision.datasets import MNIST

    mirrors = os.environ.get(MIRROR_VARIABLE, "").split() or MNIST.mirrors
    path = fetch(
        [f"{mirror.rstrip('/')}/{file.name}.gz" for mirror in mirrors],
        root / RAW / f"{file.name}.gz",
        verify=lambda path: read_bytes(path, file)[1],
        max_bytes=file.size + SLACK,
        advice=f", or put MNIST's files into {root / RAW}, or name another data root",
    )
    return read_bytes(path, file)[0]
