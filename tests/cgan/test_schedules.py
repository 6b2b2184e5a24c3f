"""Learning rate and momentum against decimal arithmetic, and exactly where the paper gives numbers."""

from __future__ import annotations

from decimal import Decimal, getcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgan.schedules import learning_rate, momentum

PAPER = (0.1, 1.00004, 1e-6)


def decimal_rate(t: int) -> float:
    getcontext().prec = 50
    return float(Decimal.from_float(0.1) / Decimal.from_float(1.00004) ** t)


def test_the_rate_starts_at_the_start() -> None:
    assert learning_rate(0, *PAPER) == 0.1
    assert learning_rate(1, *PAPER) == pytest.approx(0.1 / 1.00004, rel=1e-15)


@pytest.mark.parametrize("t", [1, 2, 500, 25_000, 125_000, 287_000])
def test_the_rate_is_divided_at_every_update(t: int) -> None:
    assert learning_rate(t, *PAPER) == pytest.approx(decimal_rate(t), rel=1e-14)


def test_the_rate_reaches_its_floor_and_stays() -> None:
    # ln(1e5) / ln(1.00004) = 287,828.9...: the first update at the floor is the next whole one.
    first = next(t for t in range(287_800, 287_900) if decimal_rate(t) <= 1e-6)
    assert first == 287_829
    assert learning_rate(first - 1, *PAPER) == pytest.approx(decimal_rate(first - 1), rel=1e-12) and (
        learning_rate(first - 1, *PAPER) > 1e-6
    )
    for t in (first, first + 1, 10**6, 10**9, 10**18, 10**300):
        assert learning_rate(t, *PAPER) == 1e-6


def test_a_decay_of_one_keeps_the_rate() -> None:
    assert {learning_rate(t, 2e-4, 1.0, 2e-4) for t in (0, 1, 10**6, 10**300)} == {2e-4}


@pytest.mark.parametrize(("t", "expected"), [(0, 0.5), (62_500, 0.6), (125_000, 0.7), (125_001, 0.7), (10**18, 0.7)])
def test_momentum_rises_to_its_end_and_stays(t: int, expected: float) -> None:
    value = momentum(t, 0.5, 0.7, 125_000)
    assert value == (expected if t != 62_500 else pytest.approx(expected, rel=1e-15))


def test_momentum_without_a_ramp_is_its_end() -> None:
    assert momentum(0, 0.5, 0.7, 0) == 0.7


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_both_are_monotonic_and_within_their_bounds(ramp: int, t: int) -> None:
    assert 0.5 <= momentum(t, 0.5, 0.7, ramp) <= momentum(t + 1, 0.5, 0.7, ramp) <= 0.7
    assert 0.1 >= learning_rate(t, *PAPER) >= learning_rate(t + 1, *PAPER) >= 1e-6
