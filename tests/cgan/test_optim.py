"""The optimiser against closed forms, accumulated gradients against stored ones, schedules against decimals."""

from __future__ import annotations

from decimal import Decimal

import pytest
import torch
from torch import nn

from cgan.fast.accumulate import Accumulator, accumulating_linear
from cgan.optim import MomentumSGD, learning_rate, momentum, set_rates
from tests.cgan.nets import stream

PAPER = (0.1, 1.00004, 1e-6)


def test_the_velocity_holds_the_rate_of_its_own_update() -> None:
    # With a constant gradient g, v2 = m2 (-r1 g) - r2 g: the old rate lives on in the velocity.
    layer = nn.Linear(2, 1, bias=False)
    start, gradient = layer.weight.detach().clone(), torch.tensor([[1.0, -2.0]])
    optimiser = MomentumSGD(layer.parameters())
    for rates in ((0.1, 0.5), (0.01, 0.8)):
        layer.weight.grad = gradient.clone()
        set_rates(optimiser, *rates)
        optimiser.step()
    torch.testing.assert_close(layer.weight.detach(), start - (0.1 + 0.8 * 0.1 + 0.01) * gradient)
    torch.testing.assert_close(optimiser.velocity(layer.weight), -(0.8 * 0.1 + 0.01) * gradient)


@pytest.mark.parametrize("product", [None, torch.bfloat16])
@pytest.mark.parametrize("on_device", [False, True], ids=["numbers", "tensors"])
def test_accumulated_gradients_move_weights_as_stored_ones_do(product: torch.dtype | None, on_device: bool) -> None:
    """Rates are tensors where the update is captured as a CUDA graph; only rows 20 to 40 of x get a gradient."""
    nets = [nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    stored, accumulated = (MomentumSGD(net.parameters()) for net in nets)
    accumulator = Accumulator(nets[1], accumulated)
    close = {"rtol": 1e-5, "atol": 1e-6} if product is None else {"rtol": 0.02, "atol": 0.004}
    for seed, (rate, beta) in enumerate([(0.1, 0.5), (0.03, 0.9), (0.2, 0.0)]):
        x, own = (torch.randn(50, 6, generator=stream(seed)).requires_grad_() for _ in range(2))
        with torch.autocast("cpu", torch.bfloat16, enabled=product is not None):
            nets[0](x).float().square().mean().backward()
        set_rates(stored, rate, beta)
        stored.step()
        stored.zero_grad()
        accumulator.set_rates(*((torch.tensor(rate), torch.tensor(beta)) if on_device else (rate, beta)))
        h = own
        for layer, rows in zip(nets[1], (slice(20, 40), slice(None)), strict=True):
            weight = layer.weight if product is None else layer.weight.to(product)
            h = accumulating_linear(h, layer, accumulator, rows, weight)
        h.square().mean().backward()
        accumulator.move()
        torch.testing.assert_close(own.grad[20:40], x.grad[20:40], **close)
        assert not own.grad[:20].any() and not own.grad[40:].any()
    for ours, theirs in zip(nets[1].parameters(), nets[0].parameters(), strict=True):
        assert ours.grad is None
        torch.testing.assert_close(ours, theirs, **close)


def test_the_rate_falls_to_its_floor_and_momentum_rises_to_its_end() -> None:
    # ln(1e5) / ln(1.00004) = 287,828.9...: the first update at the floor is the next whole one.
    for t in (0, 1, 2, 500, 125_000, 287_828):
        exact = float(Decimal.from_float(0.1) / Decimal.from_float(1.00004) ** t)
        assert learning_rate(t, *PAPER) == pytest.approx(exact, rel=1e-14) and exact > 1e-6
    assert {learning_rate(t, *PAPER) for t in (287_829, 10**6, 10**300)} == {1e-6}
    assert {learning_rate(t, 2e-4, 1.0, 2e-4) for t in (0, 1, 10**300)} == {2e-4}
    for t, expected in ((0, 0.5), (62_500, 0.6), (125_000, 0.7), (125_001, 0.7), (10**18, 0.7)):
        assert momentum(t, 0.5, 0.7, 125_000) == pytest.approx(expected, rel=1e-15)
    assert momentum(0, 0.5, 0.7, 0) == 0.7
