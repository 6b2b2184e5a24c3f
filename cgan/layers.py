"""Layers of a conditional MLP with explicit randomness: dense, maxout, dropout, initialisation.

Every random number comes from a ``torch.Generator`` that the caller holds; the global generator is never touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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


def _mask_grain(p: float) -> tuple[int, torch.dtype, int]:
    """Bits of a mask's entry, their integer type, and how many of their 2^bits values mean dropped."""
    bits, dtype = (8, torch.int8) if (p * 256).is_integer() else (16, torch.int16)
    return bits, dtype, min(round(p * (1 << bits)), (1 << bits) - 1)


def mask_words(shape: tuple[int, ...], p: float) -> int:
    """How many 64-bit words a dropout mask of ``shape`` is cut from: 0 if p is 0."""
    return -(-math.prod(shape) * _mask_grain(p)[0] // 64) if p else 0


def fill_words(words: Tensor, rng: torch.Generator) -> Tensor:
    """Fill int64 ``words`` with numbers whose every bit is random, and return them."""
    return words.random_(-(1 << 63), None, generator=rng)


def cut_multiplier(words: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    """A float32 tensor (..., *shape) of 0 (with probability p) and 1 / (1 - p), from random ``words`` (..., count).

    8 bits make an entry where p is a multiple of 1/256, else 16, which rounds p to the nearest 1/65536 and scales by
    what was really kept. On a CPU that is several times quicker than one draw an entry.
    """
    bits, dtype, dropped = _mask_grain(p)
    entries = words.view(dtype)[..., : math.prod(shape)].unflatten(-1, shape)
    # A comparison that writes numbers: by way of booleans it takes a CPU six times as long.
    kept = torch.empty(entries.shape, device=words.device)
    torch.ge(entries, dropped - (1 << bits - 1), out=kept)
    return kept.mul_((1 << bits) / ((1 << bits) - dropped))


class Masks:
    """Dropout multipliers cut one after another from ``words``, drawn before: (words,), or (replicas, words)."""

    def __init__(self, words: Tensor) -> None:
        self.words, self.place = words, 0

    def take(self, shape: tuple[int, ...], p: float) -> Tensor:
        """The next multiplier: ``shape``, or (replicas, *shape)."""
        start, self.place = self.place, self.place + mask_words(shape, p)
        return cut_multiplier(self.words[..., start : self.place], shape, p)


#: Where dropout's chance comes from: a stream to draw from, or what was drawn from one before.
Chance = torch.Generator | Masks


def dropout_multiplier(shape: tuple[int, ...], p: float, chance: Chance) -> Tensor:
    """A float32 tensor of 0 (with probability p) and 1 / (1 - p): ``shape``, or (replicas, *shape) from their masks."""
    if isinstance(chance, Masks):
        return chance.take(shape, p)
    words = torch.empty(mask_words(shape, p), dtype=torch.int64, device=chance.device)
    return cut_multiplier(fill_words(words, chance), shape, p)


def dropout(x: Tensor, p: float, chance: Chance | None) -> Tensor:
    """``x`` (..., n, units), each entry dropped with probability p, the rest times 1 / (1 - p). None drops nothing."""
    if p == 0 or chance is None:
        return x
    return x * dropout_multiplier(tuple(x.shape[-2:]), p, chance)


def maxout(x: Tensor, pieces: int, multiplier: Tensor | None = None) -> Tensor:
    """The largest of ``pieces`` affine maps, times dropout's ``multiplier``: (..., pieces * units) to (..., units).

    Equal pieces share the gradient evenly. The pieces lie in the outer of the two axes: reducing the inner one is about
    ten times slower on a CPU.
    """
    h: Tensor = _Maxout.apply(x, pieces, multiplier)
    return h


class _Maxout(torch.autograd.Function):
    """Ten times quicker than the gradient of ``amax`` on a CPU: that one goes through booleans and integers."""

    @staticmethod
    def forward(ctx, x, pieces, multiplier):  # type: ignore[no-untyped-def]
        largest = x.unflatten(-1, (pieces, -1)).amax(-2)
        ctx.save_for_backward(x, largest, multiplier)
        ctx.pieces = pieces
        return largest if multiplier is None else largest * multiplier

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        x, largest, multiplier = ctx.saved_tensors
        pieces = x.unflatten(-1, (ctx.pieces, -1))
        share = torch.eq(pieces, largest.unsqueeze(-2), out=torch.empty_like(pieces))
        gradient = gradient / share.sum(-2)
        if multiplier is not None:
            gradient.mul_(multiplier)
        return share.mul_(gradient.unsqueeze(-2)).flatten(-2), None, None


class _DroppedReLU(torch.autograd.Function):
    """max(x, 0) times dropout's multiplier; the gradient passes where the result is positive."""

    @staticmethod
    def forward(ctx, x, multiplier):  # type: ignore[no-untyped-def]
        h = x.relu().mul_(multiplier)
        ctx.save_for_backward(h, multiplier)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        h, multiplier = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, h, 0).mul_(multiplier), None


class Affine(nn.Module):
    """x W^T + b: (n, inputs) to (n, outputs), in the weight's own type (float32, unless the module was converted).

    With weights (replicas, outputs, inputs) and biases (replicas, outputs) all tensors have the leading axis. x may
    come in blocks of rows: a block that takes no gradient then costs the backward pass no product.

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

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        dtype = (self.training and self.product_dtype) or self.weight.dtype
        blocks = [block.to(dtype) for block in ([x] if isinstance(x, Tensor) else x)]
        weight = self.weight.to(dtype)
        if self.absorb is not None and self.training and torch.is_grad_enabled():
            h: Tensor = _AbsorbedAffine.apply(self.absorb, weight, self.bias, *blocks)
            return h
        return _affine(stack_rows(blocks), weight, self.bias.to(dtype)).to(self.weight.dtype)


def stack_rows(blocks: Sequence[Tensor]) -> Tensor:
    """Blocks of rows (..., n_i, units) as one tensor (..., sum of n_i, units)."""
    return blocks[0] if len(blocks) == 1 else torch.cat(list(blocks), -2)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b, each replica by its own weights if they have three axes."""
    return functional.linear(x, weight, bias) if weight.ndim == 2 else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


class _AbsorbedAffine(torch.autograd.Function):
    """The affine map whose backward pass hands the factors of the weight's gradient on instead of multiplying them."""

    @staticmethod
    def forward(ctx, absorb, weight, bias, *blocks):  # type: ignore[no-untyped-def]
        x = stack_rows(blocks)
        ctx.save_for_backward(x, weight)
        ctx.absorb, ctx.rows = absorb, [block.shape[-2] for block in blocks]
        return _affine(x, weight, bias.to(x.dtype)).to(bias.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        wanted = zip(gradient.split(ctx.rows, -2), ctx.needs_input_grad[3:], strict=True)
        to_blocks = [rows.to(weight.dtype) @ weight if needed else None for rows, needed in wanted]
        ctx.absorb(gradient, x)
        return None, None, None, *to_blocks


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

    def forward(self, x: Tensor | Sequence[Tensor], chance: Chance | None) -> Tensor:
        """x, whole or in blocks of rows, to the layer's output; ``chance`` None switches dropout off."""
        return self.activate(self.affine(x), chance)

    def activate(self, a: Tensor, chance: Chance | None) -> Tensor:
        """What follows the affine map: (n, units * pieces) to (n, units)."""
        if self.norm is not None:
            a = self.norm(a)
        layer, multiplier = self.layer, None
        if layer.dropout and chance is not None:
            multiplier = dropout_multiplier((a.shape[-2], layer.units), layer.dropout, chance)
        if layer.activation == "maxout":
            return maxout(a, layer.pieces, multiplier)
        if layer.activation == "relu" and multiplier is not None:
            h: Tensor = _DroppedReLU.apply(a, multiplier)
            return h
        if layer.activation == "relu":
            a = a.relu()
        elif layer.activation == "leaky_relu":
            a = functional.leaky_relu(a, 0.2)
        return a if multiplier is None else a * multiplier
