"""The losses against NumPy float64, at logits where sigmoids have long saturated, and the ratio of their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cgan.fast.shared_pass import gradient_ratio
from cgan.losses import discriminator_loss, generator_loss

rng = np.random.default_rng(0)
EXTREME = np.array([-1000.0, -100, -30, -1e-9, 0, 1e-9, 30, 100, 1000])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
@pytest.mark.parametrize("logits", [rng.normal(scale=8, size=(3, 50)), np.stack([EXTREME, EXTREME[::-1], EXTREME])])
def test_losses_equal_numpy(logits: np.ndarray, dtype: torch.dtype, tolerance: float) -> None:
    real, fake, wrong = logits
    r, f, w = torch.tensor(logits, dtype=dtype)
    log_d, log_not_d = (lambda a: -np.logaddexp(0, -a)), (lambda a: -np.logaddexp(0, a))
    matching = -(log_d(real).mean() + (log_not_d(fake).mean() + log_not_d(wrong).mean()) / 2) / 2
    for found, expected in (
        (discriminator_loss(r, f), -(log_d(real).mean() + log_not_d(fake).mean()) / 2),
        (discriminator_loss(r, f, w), matching),
        (generator_loss(f), -log_d(fake).mean()),
        (generator_loss(f, "minimax"), log_not_d(fake).mean()),
    ):
        assert math.isfinite(found.item()) and found.item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
@pytest.mark.parametrize("mismatched", [False, True])
def test_the_ratio_turns_the_gradient_of_d_into_that_of_g(kind: str, mismatched: bool) -> None:
    """Against autograd, over all logits at which D's gradient stays within float32's range; finite at any other."""
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 3e-6)):
        fake = torch.linspace(-60, 100, 641, dtype=dtype).requires_grad_()
        wrong = torch.zeros_like(fake) if mismatched else None
        (of_d,) = torch.autograd.grad(discriminator_loss(torch.zeros_like(fake), fake, wrong), fake)
        (of_g,) = torch.autograd.grad(generator_loss(fake, kind), fake)
        torch.testing.assert_close(of_d * gradient_ratio(fake, kind, mismatched), of_g, rtol=tolerance, atol=1e-12)
    far = torch.tensor([-3e38, -1000.0, -100.0, -81.0, -80.0, 80.0, 100.0, 1000.0, 3e38], requires_grad=True)
    ratio = gradient_ratio(far, kind, mismatched)
    (of_d,) = torch.autograd.grad(discriminator_loss(torch.zeros_like(far), far), far)
    assert not ratio.requires_grad and ratio.isfinite().all()
    assert (of_d * ratio <= 0).all(), "G's gradient never points the other way"
