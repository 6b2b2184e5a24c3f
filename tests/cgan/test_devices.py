"""Where to compute, how precisely, and from which stream of random numbers."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import torch

from cgan import CganError, devices
from cgan.devices import resolve_device, resolve_precision, seeded
from tests.cgan.nets import assert_one_sentence

CPU = torch.device("cpu")


def test_the_processor_is_always_there() -> None:
    assert resolve_device("cpu") == CPU


def test_auto_is_the_best_device_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device().type == resolve_device("auto").type == expected


@pytest.mark.parametrize("name", ["", "gpu", "tpu:0", "cuda:x", "CPU"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(CganError) as caught:
        resolve_device(name)
    assert_one_sentence(caught.value, repr(name), "auto")


@pytest.mark.parametrize("name", ["cuda:99", "meta", "xpu"] + ["mps"] * (not torch.backends.mps.is_available()))
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(CganError) as caught:
        resolve_device(name)
    assert_one_sentence(caught.value, repr(name), "not available here")


def test_the_processor_is_prepared_as_asked() -> None:
    threads, tiny = torch.get_num_threads(), torch.full((64,), 1e-39)
    try:
        devices.prepare_cpu()
        assert torch.get_num_threads() == threads
        assert not (tiny * 0.5).any()  # Denormal, so zero.
        devices.prepare_cpu(threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
    assert (tiny * 0.5).all()
    for wrong in (0, -2):
        with pytest.raises(CganError) as caught:
            devices.prepare_cpu(wrong)
        assert_one_sentence(caught.value, f"threads is {wrong}")


def test_a_precision_that_is_named_is_taken() -> None:
    for name in ("float32", "bfloat16"):
        assert resolve_precision(name, CPU) == name


def test_an_unknown_precision_is_refused() -> None:
    for name in ("float16", "", "bf16"):
        with pytest.raises(CganError) as caught:
            resolve_precision(name, CPU)
        assert_one_sentence(caught.value, repr(name), "auto, float32 or bfloat16")


@pytest.mark.parametrize(("seconds", "expected"), [(0.7, "bfloat16"), (0.8, "float32"), (2.0, "float32")])
def test_auto_takes_bfloat16_where_it_is_quicker(
    seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of processors of both kinds only one can be here, so the times are given.
    times = {torch.bfloat16: seconds, torch.float32: 1.0}
    monkeypatch.setattr(devices, "product_seconds", lambda dtypes: [times[dtype] for dtype in dtypes])
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("auto", torch.device("mps")) == "float32"


def test_auto_measures_this_processor() -> None:
    assert resolve_precision("auto", CPU) in ("float32", "bfloat16")
    assert min(devices.product_seconds((torch.float32, torch.bfloat16), n=32, repeats=2)) > 0


def test_streams_differ_by_seed_purpose_and_index_and_nothing_else() -> None:
    before = torch.get_rng_state()
    keys = list(itertools.product((0, 1, 11), ("G", "D", "order"), (0, 1, 11)))
    first = {key: tuple(torch.rand(4, generator=seeded(*key)).tolist()) for key in keys}
    assert len(set(first.values())) == len(keys)
    torch.rand(3, generator=seeded(0, "G"))
    torch.manual_seed(123)
    assert all(first[key] == tuple(torch.rand(4, generator=seeded(*key)).tolist()) for key in keys)
    torch.set_rng_state(before)


def test_streams_are_the_same_on_every_machine() -> None:
    """A run's seed means the same weights everywhere: a stream starts from a SHA-256, not from Python's own hash."""
    start = hashlib.sha256(b"1/G/0").hexdigest()[:16]
    assert start == "00aa378550d7468d"
    assert seeded(1, "G").initial_seed() == int(start, 16) // 2
