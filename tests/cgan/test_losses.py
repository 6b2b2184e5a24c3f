"""The losses against NumPy float64, at logits where sigmoids have long saturated, and the ratio of their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cgan.fast.shared_pass import gradient_ratio
from cgan.losses import discriminator_loss, generator_loss

rng = np.random.default_rng(0)
REAL, FAKE, WRONG = (rng.normal(scale=8, size=50) for _ in range(3))
EXTREME = np.array([-1000.0, -100, -30, -1e-9, 0, 1e-9, 30, 100, 1000])


def log_d(a: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -a)


def log_not_d(a: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, a)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
@pytest.mark.parametrize(("real", "fake", "wrong"), [(REAL, FAKE, WRONG), (EXTREME, EXTREME[::-1].copy(), EXTREME)])
def test_losses_equal_numpy(real, fake, wrong, dtype: torch.dtype, tolerance: float) -> None:  # type: ignore[no-untyped-def]
    r, f, w = (torch.tensor(array, dtype=dtype) for array in (real, fake, wrong))
    value = log_d(real).mean() + log_not_d(fake).mean()
    matching = -(log_d(real).mean() + (log_not_d(fake).mean() + log_not_d(wrong).mean()) / 2) / 2
    for found, expected in (
        (discriminator_loss(r, f), -value / 2),
        (discriminator_loss(r, f, w), matching),
        (generator_loss(f), -log_d(fake).mean()),
        (generator_loss(f, "minimax"), log_not_d(fake).mean()),
    ):
        assert math.isfinite(found.item()) and found.item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
@pytest.mark.parametrize("mismatched", [False, True])
def test_the_ratio_turns_the_gradient_of_d_into_that_of_g(kind: str, mismatched: bool) -> None:
    """Against autograd, over all logits at which D's gradient stays within float32's range."""
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 3e-6)):
        fake = torch.linspace(-60, 100, 641, dtype=dtype).requires_grad_()
        wrong = torch.zeros_like(fake) if mismatched else None
        (of_d,) = torch.autograd.grad(discriminator_loss(torch.zeros_like(fake), fake, wrong), fake)
        (of_g,) = torch.autograd.grad(generator_loss(fake, kind), fake)
        torch.testing.assert_close(of_d * gradient_ratio(fake, kind, mismatched), of_g, rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
def test_the_ratio_is_finite_at_any_logit(kind: str) -> None:
    fake = torch.tensor([-3e38, -1000.0, -100.0, -81.0, -80.0, 80.0, 100.0, 1000.0, 3e38], requires_grad=True)
    ratio = gradient_ratio(fake, kind, mismatched=True)
    (of_d,) = torch.autograd.grad(discriminator_loss(torch.zeros_like(fake), fake, fake.detach()), fake)
    assert not ratio.requires_grad and ratio.isfinite().all()
    # G's gradient is at most 1 / n per logit, and never points the other way.
    assert ((of_d * ratio).abs() <= 1.001 / len(fake)).all() and (of_d * ratio <= 0).all()
