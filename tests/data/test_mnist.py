"""``data.mnist`` on the real files, against torchvision's reader, and over a real HTTP server."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

from data import DataError
from data.labelled import ImageDataset
from data.mnist import FILES, load_digit_images, load_mnist
from tests.data.server import closed_port, serve

NAMES = [file.name for file in FILES]
REAL = Path(os.environ.get("CGAN_DATA", "data/raw")).absolute() / "MNIST" / "raw"

needs_mnist = pytest.mark.skipif(
    not all((REAL / name).is_file() for name in NAMES),
    reason="needs MNIST's four files under MNIST/raw of the folder that CGAN_DATA names",
)


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address at which nothing answers, as the only mirror."""
    monkeypatch.setenv("CGAN_MNIST_MIRROR", url := closed_port())
    return url


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the real files as links, to be replaced one by one."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        (raw / name).symlink_to(REAL / name)
    return tmp_path


def same_as_torchvision(dataset: ImageDataset) -> None:
    """Compare every pixel and label with what torchvision reads."""
    train, test = MNIST(REAL.parents[1], train=True), MNIST(REAL.parents[1], train=False)
    pixels = np.concatenate([train.data.numpy(), test.data.numpy()]).reshape(-1, 784)
    labels = np.concatenate([train.targets.numpy(), test.targets.numpy()])
    splits = (dataset.train, dataset.valid, dataset.test)
    for split, (begin, end) in zip(splits, ((0, 50_000), (50_000, 60_000), (60_000, 70_000)), strict=True):
        assert np.array_equal(split.labels, labels[begin:end])
        assert np.array_equal(split.images * np.float32(255), pixels[begin:end])


@needs_mnist
def test_every_pixel_and_label_is_what_torchvision_reads_and_nothing_is_written(root: Path) -> None:
    before = sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*"))
    dataset = load_mnist(root)
    same_as_torchvision(dataset)
    assert sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*")) == before
    assert (dataset.name, dataset.embedded, dataset.notice) == ("mnist", False, None)
    assert dataset.checksum == "f4a84110a549f0c0dd146dc1361bbad444d549af14c35207552ef63383e5a4e8"


@needs_mnist
@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        (NAMES[2], lambda content: content[:-1], "7,840,015 bytes instead of 7,840,016"),
        (NAMES[2], lambda content: content[:5000] + b"\1" + content[5001:], "the MD5 .* instead of 2646ac64"),
        (f"{NAMES[3]}.gz", lambda content: gzip.compress(content)[:-100], "is not a whole gzip file"),
        (f"{NAMES[3]}.gz", lambda content: gzip.compress(content + bytes(1 << 20)), "more bytes instead of 10,008"),
    ],
)
def test_a_damaged_file_is_named_and_left(root: Path, name: str, damage: Callable[[bytes], bytes], says: str) -> None:
    content = damage((REAL / name.removesuffix(".gz")).read_bytes())
    path = root / "MNIST" / "raw" / name
    path.with_name(name.removesuffix(".gz")).unlink()
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        load_digit_images("auto", root)
    message = str(caught.value)
    assert message.startswith(f"{path} ") and "delete it or move it away" in message and "\n" not in message
    assert path.read_bytes() == content


@needs_mnist
@pytest.mark.parametrize(
    ("place", "root"),
    [("mnist/raw/{name}", "."), ("MNIST/raw/{name}", "MNIST/raw"), ("MNIST/raw/{dotted}/{dotted}", ".")],
)
def test_mnist_under_other_names_is_found(tmp_path: Path, place: str, root: str) -> None:
    for name in NAMES:
        path = tmp_path / place.format(name=name, dotted=name.replace("-idx", ".idx"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(REAL / name)
    assert load_digit_images("auto", tmp_path / root, download=False).name == "mnist"


@needs_mnist
def test_missing_files_are_downloaded_once_and_only_those(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Compressed again: other bytes than the published .gz, the same data.
    packed = {f"{name}.gz": gzip.compress((REAL / name).read_bytes(), compresslevel=1) for name in NAMES[1:]}
    for name in NAMES[1:]:
        (root / "MNIST" / "raw" / name).unlink()
    with serve(packed) as site:
        monkeypatch.setenv("CGAN_MNIST_MIRROR", f"{closed_port()} {site.url}")
        dataset = load_digit_images("auto", root)
        assert sorted(request.path for request in site.requests) == sorted(f"/{name}.gz" for name in NAMES[1:])
    assert (dataset.name, dataset.notice) == ("mnist", None)
    again = load_mnist(root, download=False)
    assert again.checksum == dataset.checksum and np.array_equal(again.test.images, dataset.test.images)


def test_auto_takes_the_embedded_digits_where_mnist_cannot_be_had(tmp_path: Path) -> None:
    dataset = load_digit_images("auto", tmp_path)
    assert (dataset.name, dataset.embedded) == ("digits (embedded)", True)
    assert str(tmp_path) in str(dataset.notice) and "no connection: Connection refused" in str(dataset.notice)
    other = tmp_path / "keras" / "mnist.npz"
    other.parent.mkdir()
    other.write_bytes(b"")
    notice = str(load_digit_images("auto", tmp_path, download=False).notice)
    assert "the download is switched off" in notice and f"{other} may hold it in another form" in notice
    by_name = load_digit_images("digits")
    assert by_name.checksum == dataset.checksum and by_name.notice is None


def test_a_compressed_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / f"{NAMES[1]}.gz").write_bytes(gzip.compress(bytes(100 << 20), compresslevel=1))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more bytes instead of"):
            load_mnist(tmp_path, download=False)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@needs_mnist
def test_right_files_are_used_where_others_of_the_same_name_lie_in_the_root(root: Path) -> None:
    """Fashion-MNIST's files have MNIST's names."""
    (root / NAMES[0]).write_bytes(b"fashion")
    assert load_digit_images("auto", root, download=False).name == "mnist"
    (root / "MNIST" / "raw" / NAMES[0]).unlink()
    with pytest.raises(DataError, match=f"{NAMES[0]} is not MNIST's: .* move it away"):
        load_digit_images("auto", root, download=False)


def test_mnist_is_not_replaced_where_it_was_named(tmp_path: Path, no_mirror: str) -> None:
    with pytest.raises(DataError, match="put MNIST's files into") as caught:
        load_digit_images("mnist", tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "MNIST" / "raw") in message and no_mirror in message
    with pytest.raises(DataError, match=r"missing: train-images-idx3-ubyte, .* allow the download"):
        load_digit_images("mnist", tmp_path, download=False)
    with pytest.raises(DataError, match="choose auto, mnist or digits"):
        load_digit_images("cifar")  # type: ignore[arg-type]
