"""Weight gradients multiplied straight into the velocity: v = momentum * v - lr * gradient^T x in one product.

The gradient is never written to memory and read again. Saves 8% of an update of ``paper``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cgan.optim import MomentumSGD

Rate = float | Tensor


class Accumulator:
    """Receives gradients of linear layers during ONE backward pass and adds them to an optimiser's velocities."""

    def __init__(self, network: nn.Module, optimiser: MomentumSGD) -> None:
        """All parameters of ``network`` must belong to its ``nn.Linear`` layers."""
        # Detached aliases, since moving the weights is no part of any graph.
        self.parameters = [parameter.detach() for parameter in network.parameters()]
        self.velocities = [optimiser.velocity(parameter) for parameter in network.parameters()]
        self._of_layer = {
            layer: (optimiser.velocity(layer.weight), optimiser.velocity(layer.bias))  # type: ignore[arg-type]
            for layer in network.modules()
            if isinstance(layer, nn.Linear)
        }
        self._rates: tuple[Rate, Rate] = 0.0, 0.0

    def set_rates(self, lr: Rate, momentum: Rate) -> None:
        """Set learning rate and momentum of the next backward pass: two numbers, or two tensors without axes."""
        self._rates = lr, momentum

    def add(self, layer: nn.Linear, gradient: Tensor, x: Tensor) -> None:
        """Take in the gradient at the output of ``layer`` (..., n, outputs) for its input x (..., n, inputs)."""
        weight, bias = self._of_layer[layer]
        lr, momentum = self._rates
        if isinstance(lr, Tensor):  # Products take no tensor as a factor.
            weight.mul_(momentum)
            bias.mul_(momentum)
            gradient, lr, momentum = gradient * lr, 1.0, 1.0
        bias.mul_(momentum).add_(gradient.sum(-2), alpha=-lr)
        if x.dtype != weight.dtype:
            weight.mul_(momentum).add_(gradient.to(x.dtype).mT @ x, alpha=-lr)
        elif weight.ndim == 2:
            weight.addmm_(gradient.mT, x, beta=momentum, alpha=-lr)  # type: ignore[arg-type]
        else:
            weight.baddbmm_(gradient.mT, x, beta=momentum, alpha=-lr)  # type: ignore[arg-type]

    def move(self) -> None:
        """Add the velocities to the parameters."""
        torch._foreach_add_(self.parameters, self.velocities)


def accumulating_linear(x: Tensor, layer: nn.Linear, accumulator: Accumulator, rows: slice, weight: Tensor) -> Tensor:
    """Return x W^T + b; the backward pass gives W's and b's gradients to ``accumulator``.

    ``weight`` is the layer's, perhaps in a smaller type. Only the rows ``rows`` of x get a gradient; others get zeros.
    """
    return _AccumulatingLinear.apply(x, weight, layer.bias, layer, accumulator, rows)


class _AccumulatingLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, layer, accumulator, rows):  # type: ignore[no-untyped-def]
        x = x.to(weight.dtype)
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.accumulator, ctx.rows = layer, accumulator, rows
        return affine(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient[..., ctx.rows, :].to(weight.dtype) @ weight).to(gradient.dtype)
            if to_x.shape[-2] != x.shape[-2]:
                part, to_x = to_x, torch.zeros(x.shape, dtype=gradient.dtype, device=x.device)
                to_x[..., ctx.rows, :] = part
        ctx.accumulator.add(ctx.layer, gradient, x)
        return to_x, None, None, None, None, None


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W^T + b in the type of b, the product in that of W; all have a leading axis for seeds, or none has."""
    if weight.ndim == 2:
        return torch.nn.functional.linear(x, weight, bias.to(x.dtype)).to(bias.dtype)
    return torch.baddbmm(bias.to(x.dtype).unsqueeze(-2), x, weight.mT).to(bias.dtype)
