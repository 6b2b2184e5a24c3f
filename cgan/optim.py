"""Gradient descent with the learning rate inside the velocity, as the original recipe has it. Adam is PyTorch's own."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from cgan.layers import Affine


class MomentumSGD:
    """velocity = momentum * velocity - rate * gradient; parameter = parameter + velocity (GAN paper's recipe).

    ``torch.optim.SGD`` keeps the rate outside the velocity; the two differ whenever the rate changes.
    """

    def __init__(self, module: nn.Module, velocities: list[Tensor] | None = None) -> None:
        """``velocities``, in the order of the module's parameters, become the optimiser's own; zeros if None."""
        # Plain tensors, since the update is no part of any graph.
        self.parameters = [parameter.detach() for parameter in module.parameters()]
        self._place = {id(parameter): i for i, parameter in enumerate(module.parameters())}
        self.velocities = velocities or [torch.zeros_like(parameter) for parameter in self.parameters]

    def step(self, gradients: list[Tensor], rate: float, momentum: float) -> None:
        """One update; ``gradients`` in the order of the module's parameters."""
        torch._foreach_mul_(self.velocities, momentum)
        torch._foreach_add_(self.velocities, gradients, alpha=-rate)
        torch._foreach_add_(self.parameters, self.velocities)

    def absorb_gradients(self, module: nn.Module) -> None:
        """From now on let each backward pass through ``module`` update the velocities itself: ``set_rates`` before it,
        ``apply`` after it, and exactly one backward pass between. All parameters must belong to ``Affine`` layers.

        The weight's velocity takes in the product of the gradient's factors in one call, v = momentum v - rate g^T x,
        so that no gradient is written to memory.
        """
        for layer in module.modules():
            if isinstance(layer, Affine):
                weight, bias = (
                    self.velocities[self._place[id(layer.weight)]],
                    self.velocities[self._place[id(layer.bias)]],
                )
                layer.absorb = partial(self._absorb, weight, bias)

    def set_rates(self, rate: float | Tensor, momentum: float | Tensor) -> None:
        """Learning rate and momentum of the next backward pass: numbers, or both tensors of no axes."""
        self._rate, self._momentum = rate, momentum

    def _absorb(self, weight: Tensor, bias: Tensor, gradient: Tensor, x: Tensor) -> None:
        rate, momentum = self._rate, self._momentum
        if isinstance(rate, Tensor) or isinstance(momentum, Tensor):  # A product takes no tensor as its factor.
            for velocity in (weight, bias):
                velocity.mul_(momentum)
            gradient, rate, momentum = gradient * rate, 1.0, 1.0
        bias.mul_(momentum).add_(gradient.sum(-2), alpha=-rate)
        if x.dtype != weight.dtype:
            weight.mul_(momentum).add_(gradient.to(x.dtype).mT @ x, alpha=-rate)
        elif weight.ndim == 2:
            weight.addmm_(gradient.mT, x, beta=momentum, alpha=-rate)
        else:
            weight.baddbmm_(gradient.mT, x, beta=momentum, alpha=-rate)

    def apply(self) -> None:
        """Add the velocities to the parameters."""
        torch._foreach_add_(self.parameters, self.velocities)

    def state(self) -> dict[str, Tensor]:
        """The velocities by number."""
        return {f"{i}.velocity": velocity for i, velocity in enumerate(self.velocities)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        for i, velocity in enumerate(self.velocities):
            velocity.copy_(tensors[f"{i}.velocity"])


class Adam:
    """``torch.optim.Adam`` with ``step``, ``state`` and ``load_state`` as above; ``step`` ignores its momentum."""

    def __init__(self, module: nn.Module, betas: tuple[float, float]) -> None:
        self.parameters = list(module.parameters())
        self.optimiser = torch.optim.Adam(self.parameters, betas=betas, fused=True)

    def step(self, gradients: list[Tensor], rate: float, momentum: float) -> None:
        """One update; ``gradients`` in the order of the module's parameters."""
        self.optimiser.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimiser.step()
        self.optimiser.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Step count and moments by parameter number."""
        return {
            f"{i}.{name}": value
            for i, parameter in enumerate(self.parameters)
            for name, value in self.optimiser.state[parameter].items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        for i, parameter in enumerate(self.parameters):
            state = {name.split(".", 1)[1]: value for name, value in tensors.items() if name.startswith(f"{i}.")}
            self.optimiser.state[parameter] = {name: value.to(parameter.device) for name, value in state.items()}
