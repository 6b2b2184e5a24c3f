"""Gradient descent with momentum as the paper's recipe has it, and the schedules of learning rate and momentum."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class MomentumSGD(torch.optim.Optimizer):
    """velocity = momentum * velocity - lr * gradient; parameter = parameter + velocity (GAN paper's recipe).

    ``torch.optim.SGD`` keeps the learning rate outside the velocity; the two differ whenever the rate changes.
    """

    # Without their decorator, whose first call imports PyTorch's compiler: seconds, and it is not used here.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.1, momentum: float = 0.5) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["velocity"] = torch.zeros_like(parameter)

    def velocity(self, parameter: nn.Parameter) -> Tensor:
        """Return the velocity of ``parameter``, shaped like it."""
        return self.state[parameter]["velocity"]

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved:
                velocities = [self.velocity(parameter) for parameter in moved]
                torch._foreach_mul_(velocities, group["momentum"])
                torch._foreach_add_(velocities, [parameter.grad for parameter in moved], alpha=-group["lr"])
                torch._foreach_add_(moved, velocities)


def learning_rate(t: int, start: float, decay: float, floor: float) -> float:
    """Return max(start / decay^t, floor), the rate of update t = 0, 1, ... (section 4.1: 0.1, 1.00004, 1e-6).

    ``decay`` is at least 1. Computed in logarithms, so that a large t gives the floor instead of an overflow.
    """
    return max(start * math.exp(-t * math.log(decay)), floor)


def momentum(t: int, start: float, end: float, ramp: int) -> float:
    """Return the momentum of update t: linear from ``start`` to ``end`` over ``ramp`` updates, then ``end`` (4.1)."""
    return end if t >= ramp else start + (end - start) * t / ramp


def set_rates(optimiser: torch.optim.Optimizer, lr: float, momentum: float) -> None:
    """Set the learning rate of the next step, and its momentum where the optimiser has one (Adam does not)."""
    for group in optimiser.param_groups:
        group["lr"] = lr
        if "momentum" in group:
            group["momentum"] = momentum
