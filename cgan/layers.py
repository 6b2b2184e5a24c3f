"""Layers of a conditional MLP with explicit randomness: dense, maxout, dropout, initialisation.

Every random number comes from a ``torch.Generator`` that the caller holds; the global generator is never touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgan.specs import Init, Layer


def initialise(weight: Tensor, init: Init, rng: torch.Generator) -> None:
    """Fill ``weight`` (outputs, inputs) in place from ``init``."""
    inputs = weight.shape[1]
    with torch.no_grad():
        if init.kind == "normal":
            weight.normal_(0.0, init.scale, generator=rng)
            return
        bound = {"uniform": 1.0, "fan_in": math.sqrt(6 / inputs), "torch": 1 / math.sqrt(inputs)}[init.kind]
        weight.uniform_(-init.scale * bound, init.scale * bound, generator=rng)


def dropout_multiplier(shape: tuple[int, ...], p: float, rng: torch.Generator) -> Tensor:
    """A float32 tensor of 0 (with probability p) and 1 / (1 - p), on the generator's device.

    On a CPU the mask is cut from 64-bit draws: 8 bits an entry where p is a multiple of 1/256, else 16, which rounds p
    to the nearest 1/65536 and scales by what was really kept. That is several times quicker than one draw an entry.
    """
    if rng.device.type != "cpu":
        return (torch.rand(shape, generator=rng, device=rng.device) >= p).float().div_(1 - p)
    bits, dtype = (8, torch.int8) if (p * 256).is_integer() else (16, torch.int16)
    levels = 1 << bits
    dropped = min(round(p * levels), levels - 1)
    count = math.prod(shape)
    words = torch.empty(-(-count * bits // 64), dtype=torch.int64).random_(-(1 << 63), None, generator=rng)
    kept = words.view(dtype)[:count].view(shape) >= dropped - levels // 2
    return kept.float().mul_(levels / (levels - dropped))


def dropout(x: Tensor, p: float, rng: torch.Generator | None) -> Tensor:
    """``x`` with each entry dropped with probability p and the rest scaled by 1 / (1 - p); x itself if rng is None."""
    if p == 0 or rng is None:
        return x
    return x * dropout_multiplier(tuple(x.shape), p, rng)


def maxout(x: Tensor, pieces: int) -> Tensor:
    """The largest of ``pieces`` affine maps: (n, pieces * units) to (n, units).

    The pieces lie in the outer of the two axes: reducing the inner one is about ten times slower on a CPU.
    """
    return x.unflatten(1, (pieces, -1)).amax(1)


class Affine(nn.Module):
    """x W^T + b: (n, inputs) to (n, outputs), in the weight's own type (float32, unless the module was converted).

    Two attributes are set from outside, and act in training mode only. ``product_dtype`` is the type to which the
    operands of the three matrix products (output, gradient of x, gradient of W) are rounded; None keeps the weight's.
    ``absorb``, when set, takes the factors (g, x) of the weight's gradient g^T x at the moment the backward pass has
    them: an optimiser can add that product to its velocity in place, and no gradient tensor is ever allocated, written
    and read again.
    """

    def __init__(self, inputs: int, outputs: int, init: Init, rng: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.product_dtype: torch.dtype | None = None
        self.absorb: Callable[[Tensor, Tensor], None] | None = None
        initialise(self.weight, init, rng)

    def forward(self, x: Tensor) -> Tensor:
        dtype = (self.training and self.product_dtype) or self.weight.dtype
        x, weight = x.to(dtype), self.weight.to(dtype)
        if self.absorb is not None and self.training and torch.is_grad_enabled():
            h: Tensor = _AbsorbedAffine.apply(x, weight, self.bias, self.absorb)
            return h
        return functional.linear(x, weight, self.bias.to(dtype)).to(self.weight.dtype)


class _AbsorbedAffine(torch.autograd.Function):
    """The affine map whose backward pass hands the factors of the weight's gradient on instead of multiplying them."""

    @staticmethod
    def forward(ctx, x, weight, bias, absorb):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.absorb = absorb
        return functional.linear(x, weight, bias.to(x.dtype)).to(bias.dtype)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        ctx.absorb(gradient, x)
        x_gradient = gradient.to(weight.dtype) @ weight if ctx.needs_input_grad[0] else None
        return x_gradient, None, None, None


class HiddenLayer(nn.Module):
    """A ``Layer`` made real: (n, inputs) to (n, units)."""

    def __init__(self, inputs: int, layer: Layer, init: Init, rng: torch.Generator) -> None:
        super().__init__()
        self.layer = layer
        outputs = layer.units * layer.pieces
        self.affine = Affine(inputs, outputs, init, rng)
        self.norm = nn.BatchNorm1d(outputs) if layer.batch_norm else None
        if self.norm is not None and init.kind == "normal":
            with torch.no_grad():
                self.norm.weight.normal_(1.0, init.scale, generator=rng)

    def forward(self, x: Tensor, rng: torch.Generator | None) -> Tensor:
        """``rng`` None switches dropout off."""
        h = self.affine(x)
        if self.norm is not None:
            h = self.norm(h)
        if self.layer.activation == "relu":
            h = h.relu()
        elif self.layer.activation == "leaky_relu":
            h = functional.leaky_relu(h, 0.2)
        elif self.layer.activation == "maxout":
            h = maxout(h, self.layer.pieces)
        return dropout(h, self.layer.dropout, rng)
