"""Learning rate and momentum as pure functions of the number t of updates already made."""

from __future__ import annotations

import math


def learning_rate(t: int, start: float, decay: float, floor: float) -> float:
    """max(start / decay^t, floor): the rate of update t = 0, 1, ... (section 4.1: 0.1, 1.00004, 1e-6).

    ``decay`` is at least 1 (1 keeps the rate). In logarithms, so that a large t underflows to the floor and never
    overflows.
    """
    return max(start * math.exp(-t * math.log(decay)), floor)


def momentum(t: int, start: float, end: float, ramp: int) -> float:
    """Linear from ``start`` at t = 0 to ``end`` at t = ``ramp`` updates, then ``end`` (section 4.1: 0.5, 0.7)."""
    return end if t >= ramp else start + (end - start) * t / ramp
