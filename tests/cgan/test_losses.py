"""The game's losses against NumPy float64, at logits where sigmoids have long run out, and their gradients' ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cgan.losses import discriminator_loss, generator_loss, gradient_ratio, value

rng = np.random.default_rng(0)
REAL, FAKE, WRONG = (rng.normal(scale=8, size=50) for _ in range(3))
EXTREME = np.array([-1000.0, -100, -30, -1e-9, 0, 1e-9, 30, 100, 1000])


def log_d(a: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -a)


def log_not_d(a: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, a)


def both(*arrays: np.ndarray) -> list[tuple[list[Tensor], float]]:
    """The arrays as float64 and as float32, each with the tolerance to expect."""
    return [
        ([torch.tensor(array, dtype=dtype) for array in arrays], tolerance)
        for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-6))
    ]


@pytest.mark.parametrize(("real", "fake", "wrong"), [(REAL, FAKE, WRONG), (EXTREME, EXTREME[::-1].copy(), EXTREME)])
def test_losses_are_numpys(real: np.ndarray, fake: np.ndarray, wrong: np.ndarray) -> None:
    game = log_d(real).mean() + log_not_d(fake).mean()
    for (r, f, w), tolerance in both(real, fake, wrong):
        found = {
            "value": value(r, f),
            "D": discriminator_loss(r, f),
            "matching-aware D": discriminator_loss(r, f, w),
            "G": generator_loss(f),
            "minimax G": generator_loss(f, "minimax"),
        }
        expected = {
            "value": game,
            "D": -game / 2,
            "matching-aware D": -(log_d(real).mean() + (log_not_d(fake).mean() + log_not_d(wrong).mean()) / 2) / 2,
            "G": -log_d(fake).mean(),
            "minimax G": log_not_d(fake).mean(),
        }
        for name, loss in found.items():
            assert math.isfinite(loss.item())
            assert loss.item() == pytest.approx(expected[name], rel=tolerance), name
        assert value(r, f).item() == -2 * discriminator_loss(r, f).item()


def test_a_single_extreme_logit_costs_its_own_size() -> None:
    for sign in (-1, 1):
        a = torch.tensor([sign * 1000.0])
        assert generator_loss(a).item() == (0 if sign > 0 else 1000)
        assert generator_loss(a, "minimax").item() == (-1000 if sign > 0 else 0)
        assert discriminator_loss(a, -a).item() == (0 if sign > 0 else 1000)


def test_an_undecided_d_pays_log_two() -> None:
    half = torch.zeros(3)
    for loss in (
        discriminator_loss(half, half),
        discriminator_loss(half, half, half),
        generator_loss(half),
        -generator_loss(half, "minimax"),
        -value(half, half) / 2,
    ):
        assert loss.item() == pytest.approx(math.log(2), rel=1e-7)


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
@pytest.mark.parametrize("mismatched", [False, True])
def test_the_ratio_turns_ds_gradient_into_gs(kind: str, mismatched: bool) -> None:
    """Against autograd, over all logits at which D's gradient stays within float32's range."""
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 3e-6)):
        fake = torch.linspace(-60, 100, 641, dtype=dtype).requires_grad_()
        wrong = torch.zeros_like(fake) if mismatched else None
        (of_d,) = torch.autograd.grad(discriminator_loss(torch.zeros_like(fake), fake, wrong), fake)
        (of_g,) = torch.autograd.grad(generator_loss(fake, kind), fake)
        ratio = gradient_ratio(fake, kind, mismatched)
        assert not ratio.requires_grad
        torch.testing.assert_close(of_d * ratio, of_g, rtol=tolerance, atol=1e-12)


def test_gs_gradient_is_numpys() -> None:
    a = torch.tensor(FAKE, requires_grad=True)
    for kind, expected in (
        ("non_saturating", -np.exp(log_not_d(FAKE)) / len(FAKE)),
        ("minimax", -np.exp(log_d(FAKE)) / len(FAKE)),
    ):
        (gradient,) = torch.autograd.grad(generator_loss(a, kind), a)
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
def test_the_ratio_is_finite_at_any_logit(kind: str) -> None:
    fake = torch.tensor([-3e38, -1000.0, -100.0, -81.0, -80.0, 80.0, 100.0, 1000.0, 3e38], requires_grad=True)
    ratio = gradient_ratio(fake, kind, mismatched=True)
    (of_d,) = torch.autograd.grad(discriminator_loss(torch.zeros_like(fake), fake, fake.detach()), fake)
    assert ratio.isfinite().all() and (ratio <= 0).all()
    # G's gradient is never larger than 1 / n a logit, and never points the other way.
    assert ((of_d * ratio).abs() <= 1.001 / len(fake)).all() and (of_d * ratio <= 0).all()
