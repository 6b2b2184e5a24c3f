"""Devices, precision and random streams."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import torch

from cgan import devices
from cgan.devices import resolve_device, resolve_precision, seeded
from tests.cgan.nets import refused

CPU = torch.device("cpu")


def test_auto_is_the_best_device_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device().type == expected and resolve_device("cpu") == CPU


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "cuda:99", "meta"])
def test_a_device_that_is_unknown_or_not_here_is_refused(name: str) -> None:
    with refused(repr(name), "auto"):
        resolve_device(name)


def test_the_cpu_is_prepared_as_asked() -> None:
    threads, tiny = torch.get_num_threads(), torch.full((64,), 1e-39)
    try:
        devices.prepare_cpu()
        assert torch.get_num_threads() == threads and not (tiny * 0.5).any()  # Denormal, so zero.
        devices.prepare_cpu(threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
    for number in (0, 1_000_000):
        with refused(f"threads is {number}", "1 to 1,024"):
            devices.prepare_cpu(number)


@pytest.mark.parametrize(("seconds", "expected"), [(0.7, "bfloat16"), (0.8, "float32")])
def test_precision_is_the_named_one_or_the_quicker(
    seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [resolve_precision(name, CPU) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    with refused("'float16'", "auto, float32 or bfloat16"):
        resolve_precision("float16", CPU)
    assert resolve_precision("auto", torch.device("mps")) == "float32"
    assert min(devices.product_seconds((torch.float32,))) > 0
    # Only one kind of processor can be here, so the times are given.
    products: list[object] = []
    monkeypatch.setattr(devices, "timeit", lambda product, number: products.append(product) or seconds)
    assert devices.product_seconds((torch.float32, torch.bfloat16)) == [seconds, seconds]
    assert len(products) == 4, "a processor without bfloat16 takes a quarter of a second for each"
    times = {torch.bfloat16: seconds, torch.float32: 1.0}
    monkeypatch.setattr(devices, "product_seconds", lambda dtypes: [times[dtype] for dtype in dtypes])
    assert resolve_precision("auto", CPU) == expected


def test_streams_differ_by_seed_purpose_and_index_and_nothing_else() -> None:
    keys = list(itertools.product((0, 1, 11), ("G", "D", "order"), (0, 1, 11)))
    first = {key: tuple(torch.rand(4, generator=seeded(*key)).tolist()) for key in keys}
    assert len(set(first.values())) == len(keys)
    torch.manual_seed(123)
    assert all(first[key] == tuple(torch.rand(4, generator=seeded(*key)).tolist()) for key in keys)
    # The same on every machine: a stream starts from SHA-256, not from Python's own hash.
    start = hashlib.sha256(b"1/G/0").hexdigest()[:16]
    assert start == "00aa378550d7468d" and seeded(1, "G").initial_seed() == int(start, 16) // 2
