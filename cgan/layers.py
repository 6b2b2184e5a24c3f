"""Layers of a conditional MLP as standard modules: initialisation, maxout, dropout and the hidden layer made of them.

No layer touches PyTorch's global random state: initial weights and dropout masks come from a ``torch.Generator`` that
the caller passes in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cgan.specs import Init, Layer


def initialise_(weight: Tensor, init: Init, rng: torch.Generator) -> Tensor:
    """Fill ``weight`` (outputs, inputs) in place from the distribution ``init`` and return it."""
    inputs = weight.shape[1]
    with torch.no_grad():
        if init.kind == "normal":
            return weight.normal_(0.0, init.scale, generator=rng)
        bound = {"uniform": 1.0, "fan_in": math.sqrt(6 / inputs), "torch": 1 / math.sqrt(inputs)}[init.kind]
        return weight.uniform_(-init.scale * bound, init.scale * bound, generator=rng)


def linear(inputs: int, outputs: int, init: Init, rng: torch.Generator) -> nn.Linear:
    """Return an ``nn.Linear`` with weights from ``init`` and zero biases."""
    # Without PyTorch's own random weights, as nn.utils.skip_init gives it; that imports modules for most of a second.
    layer = nn.Linear(inputs, outputs, device="meta")
    layer.weight = nn.Parameter(initialise_(torch.empty(outputs, inputs), init, rng))
    layer.bias = nn.Parameter(torch.zeros(outputs))
    return layer


class Maxout(nn.Module):
    """The largest of ``pieces`` affine maps per unit: (n, pieces * units) to (n, units).

    The pieces lie along the outer of the two axes, so that the reduction runs over contiguous rows of units.
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.pieces, -1)).amax(-2)


def bernoulli_mask(shape: Sequence[int], p: float, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Return a float32 mask: each entry 0 with probability p, else 1 / (1 - p)."""
    return (torch.rand(tuple(shape), generator=generator, device=device) >= p) / (1 - p)


class Dropout(nn.Module):
    """Multiply by a mask of zeros (probability ``p``) and 1 / (1 - p) while training; do nothing in evaluation mode.

    Like ``nn.Dropout``, but the mask comes from ``generator`` (None: PyTorch's global one).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * bernoulli_mask(x.shape, self.p, self.generator, x.device)


class HiddenLayer(nn.Module):
    """Linear map, batch normalisation (optional), activation, dropout: (n, inputs) to (n, units)."""

    def __init__(self, inputs: int, layer: Layer, init: Init, rng: torch.Generator) -> None:
        super().__init__()
        self.spec = layer
        outputs = layer.units * layer.pieces
        self.linear = linear(inputs, outputs, init, rng)
        self.norm: nn.Module = nn.BatchNorm1d(outputs) if layer.batch_norm else nn.Identity()
        if isinstance(self.norm, nn.BatchNorm1d) and init.kind == "normal":  # The tutorial's weights_init: N(1, 0.02).
            nn.init.normal_(self.norm.weight, 1.0, init.scale, generator=rng)
        activations = {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.2), "linear": nn.Identity()}
        self.activation = activations.get(layer.activation) or Maxout(layer.pieces)
        self.dropout = Dropout(layer.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.activation(self.norm(self.linear(x))))
