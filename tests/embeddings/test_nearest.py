"""The exact search against float64 by brute force, where cheap products err most and where all rows tie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from embeddings.nearest import Arithmetic, int8_is_fast, prepare, search
from embeddings.vocabulary import unit_rows

ARITHMETICS: list[Arithmetic] = ["float32", "int8"] if hasattr(torch, "_int_mm") and int8_is_fast() else ["float32"]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def brute_force(units: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """NumPy in float64, rounded to float32, ties by row number."""
    cosines = (queries.astype(np.float64) @ units.T.astype(np.float64)).astype(np.float32)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, 1)


def assert_same(found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
    """Equal but for neighbours whose cosines the two ways of summing round to different sides."""
    (rows, cosines), (true_rows, true_cosines) = found, expected
    assert rows.dtype == np.int64 and cosines.dtype == np.float32
    np.testing.assert_allclose(cosines, true_cosines, rtol=0, atol=1.2e-7)
    differ = rows != true_rows
    assert differ.mean() < 1e-3
    assert np.abs(cosines - true_cosines)[differ].max(initial=0) <= 1.2e-7


def spread_evenly(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.standard_normal((n, d))


def crowded(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """All nearly the same direction: neighbours differ by less than the cheap products' rounding."""
    return rng.standard_normal(d) + 0.003 * rng.standard_normal((n, d))


def clustered(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    centres = rng.standard_normal((30, d))
    return centres[rng.integers(30, size=n)] + 0.02 * rng.standard_normal((n, d))


def lopsided(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """One number of each vector is far larger than the others, which the steps of integers then hardly resolve."""
    vectors = rng.standard_normal((n, d))
    vectors[:, 3] *= 40
    return vectors


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("make", [spread_evenly, crowded, clustered, lopsided])
def test_as_by_brute_force(make, arithmetic: Arithmetic, device: str) -> None:
    if device == "cuda" and arithmetic == "int8":
        pytest.skip("integers are the processor's way")
    for n, d, k in ((12_001, 20, 10), (40, 7, 40), (5000, 16, 300), (1, 4, 1)):
        rng = np.random.default_rng(n + k)
        units = unit_rows(make(rng, n, d))
        queries = unit_rows(np.concatenate([make(rng, 40, d), rng.standard_normal((10, d)), units[: min(n, 14)]]))
        assert_same(search(prepare(units, device, arithmetic), queries, k), brute_force(units, queries, k))


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_ties_stand_in_the_order_of_the_rows(arithmetic: Arithmetic) -> None:
    rng = np.random.default_rng(0)
    few = unit_rows(rng.standard_normal((7, 30)))
    repeated = few[rng.integers(7, size=20_000)]
    rows, cosines = search(prepare(repeated, arithmetic=arithmetic), few, 12)
    for query in range(7):
        same = np.flatnonzero((repeated == few[query]).all(1))
        assert rows[query].tolist() == same[:12].tolist()
        assert np.unique(cosines[query]).size == 1


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_neighbours_against_the_query(arithmetic: Arithmetic) -> None:
    """All cosines negative: rows that fill up the last group must not pass for better ones."""
    rng = np.random.default_rng(2)
    units = unit_rows(rng.standard_normal((10_243, 12)) * 0.1 + np.eye(12)[0])
    queries = unit_rows(-units[:9])
    assert_same(search(prepare(units, arithmetic=arithmetic), queries, 4), brute_force(units, queries, 4))


def test_a_lowered_matmul_precision_loses_no_neighbour() -> None:
    rng = np.random.default_rng(3)
    units = unit_rows(clustered(rng, 12_000, 64))
    queries = unit_rows(clustered(rng, 20, 64))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = search(prepare(units, arithmetic="float32"), queries, 10)
    finally:
        torch.set_float32_matmul_precision(before)
    assert_same(found, brute_force(units, queries, 10))


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    return unit_rows(np.random.default_rng(0).standard_normal((60_000, 32)))


def test_many_queries_need_no_more_memory_than_stated(many: np.ndarray, memory_grown: Callable[[], int]) -> None:
    search(prepare(many), many[:3000], 20)
    assert memory_grown() < 256 << 20  # All products would be 720 MB.
