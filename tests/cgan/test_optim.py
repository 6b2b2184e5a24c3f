"""The update rules alone; ``test_training`` proves them inside the game."""

from __future__ import annotations

import pytest
import torch

from cgan.layers import Affine
from cgan.optim import Adam, MomentumSGD
from cgan.specs import Init


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_velocity_holds_the_rate_of_its_own_update(dtype: torch.dtype) -> None:
    # With a gradient that stays the same, v2 = m1 (m0 0 - r0 g) - r1 g: the old rate lives on in the velocity.
    module = torch.nn.Linear(2, 1, bias=False).to(dtype)
    start, gradient = module.weight.detach().clone(), torch.tensor([[1.0, -2.0]], dtype=dtype)
    optimiser = MomentumSGD(module)
    optimiser.step([gradient], 0.1, 0.5)
    optimiser.step([gradient], 0.01, 0.8)
    moved = -0.1 - (0.8 * 0.1 + 0.01)
    torch.testing.assert_close(module.weight.detach(), start + moved * gradient)


def test_adam_is_pytorchs() -> None:
    module, other = (torch.nn.Linear(3, 2).double() for _ in range(2))
    other.load_state_dict(module.state_dict())
    optimiser = Adam(module, (0.5, 0.999))
    expected = torch.optim.Adam(other.parameters(), lr=0.1, betas=(0.5, 0.999), foreach=False)
    rng = torch.Generator().manual_seed(0)
    for rate in (0.1, 0.01, 0.05):
        gradients = [torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in module.parameters()]
        optimiser.step(gradients, rate, momentum=0.3)
        expected.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(other.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        expected.step()
    for ours, theirs in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("product", [None, torch.bfloat16])
def test_absorbed_gradients_move_as_stored_ones_do(product: torch.dtype | None) -> None:
    nets = [torch.nn.Sequential(*(Affine(6, 6, Init("fan_in"), stream(i)) for i in range(2))) for _ in range(2)]
    stored, absorbed = (MomentumSGD(net) for net in nets)
    absorbed.absorb_gradients(nets[1])
    for net in nets:
        for layer in net:
            layer.product_dtype = product
    for seed, (rate, momentum) in enumerate([(0.1, 0.5), (0.03, 0.9), (0.2, 0.0)]):
        x = torch.randn(50, 6, generator=stream(seed + 7))
        gradients = torch.autograd.grad(nets[0](x).square().mean(), list(nets[0].parameters()))
        stored.step(list(gradients), rate, momentum)
        absorbed.set_rates(rate, momentum)
        nets[1](x).square().mean().backward()
        absorbed.apply()
    close = {"rtol": 1e-5, "atol": 1e-6} if product is None else {"rtol": 0.01, "atol": 0.002}
    for ours, theirs in zip(nets[1].parameters(), nets[0].parameters(), strict=True):
        assert ours.grad is None
        torch.testing.assert_close(ours, theirs, **close)


def test_the_state_of_sgd_comes_back() -> None:
    module = torch.nn.Linear(3, 2)
    optimiser = MomentumSGD(module)
    gradients = [torch.randn(p.shape, generator=stream()) for p in module.parameters()]
    optimiser.step(gradients, 0.1, 0.5)
    state = {name: value.clone() for name, value in optimiser.state().items()}
    assert list(state) == ["0.velocity", "1.velocity"]
    other = MomentumSGD(torch.nn.Linear(3, 2))
    other.load_state(state)
    optimiser.step(gradients, 0.1, 0.5)
    other.step(gradients, 0.1, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(optimiser.velocities, other.velocities, strict=True))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
