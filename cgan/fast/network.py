"""A plain network computed with the fused layers of this folder, on the same parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cgan.fast.accumulate import Accumulator, accumulating_linear, affine
from cgan.fast.layers import dropped_relu, maxout
from cgan.fast.masks import bit_mask, word_count
from cgan.networks import ConditionalMLP, Generator

#: (shape, p) -> dropout mask.
TakeMask = Callable[[Sequence[int], float], Tensor]
ALL = slice(None)


class FastNetwork:
    """Computes ``network(x, y)`` in training mode; serves in the place of a G or a D in ``cgan.update``.

    The network's parameters may have a leading axis for seeds; then inputs, conditions and masks have it, too.
    """

    def __init__(
        self,
        network: ConditionalMLP,
        *,
        product_dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
        accumulator: Accumulator | None = None,
    ) -> None:
        """``product_dtype`` is the type of the matrix products (None: the weights' own); ``generator`` draws the masks
        of passes that are given none; ``accumulator`` takes the weight gradients (``cgan.fast.accumulate``)."""
        self.network, self.product_dtype = network, product_dtype
        self.generator, self.accumulator = generator, accumulator

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the network's parameters."""
        return self.network.parameters()

    def mask_bit_words(self, rows: int) -> int:
        """Return the 64-bit words that the masks of a pass over ``rows`` rows take, in the order of the pass."""
        spec = self.network.spec
        places = [
            (spec.input_width, spec.input_dropout),
            (spec.embedding_dim or spec.condition_dim, spec.condition_dropout),
            *((layer.units, layer.dropout) for layer in spec.layers),
        ]
        return sum(word_count((rows, units), p) for units, p in places)

    def __call__(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        masks: TakeMask | None = None,
        condition_shifts: Sequence[int] = (0,),
        gradient_rows: slice = ALL,
    ) -> Tensor:
        """Return what the plain network returns for (n, input_width) inputs and their conditions.

        ``condition_shifts``: the rows are so many equal blocks, and y holds the conditions of one block; block k takes
        y rolled by condition_shifts[k] rows. The first condition layer then multiplies each condition once. Only the
        rows ``gradient_rows`` of x get a gradient.
        """
        network, spec = self.network, self.network.spec
        take = masks or self._draw
        h = x * take(x.shape[-2:], spec.input_dropout) if spec.input_dropout else x
        for layer in network.input_branch:
            h = self._hidden(layer, h, take, gradient_rows)
            gradient_rows = ALL
        if spec.condition != "none":
            h = torch.cat([h, self._conditions(y, take, condition_shifts)], -1)
            gradient_rows = ALL  # The conditions' layers take gradients from every row.
        for layer in network.joint:
            h = self._hidden(layer, h, take, gradient_rows)
            gradient_rows = ALL
        out = self._linear(network.output, h, gradient_rows)
        return network.output_activation(out) if isinstance(network, Generator) else out.squeeze(-1)

    def _conditions(self, y: Tensor | None, take: TakeMask, condition_shifts: Sequence[int]) -> Tensor:
        network, spec = self.network, self.network.spec

        def spread(c: Tensor) -> Tensor:
            return torch.cat([c.roll(shift, -2) if shift else c for shift in condition_shifts], -2)

        c, layers = network.encode(y), list(network.condition_branch)
        if layers and not spec.condition_dropout:
            first: Any = layers.pop(0)
            c = self._activate(first, spread(self._linear(first.linear, c)), take)
        else:
            c = spread(c)
            c = c * take(c.shape[-2:], spec.condition_dropout) if spec.condition_dropout else c
        for layer in layers:
            c = self._hidden(layer, c, take)
        return c

    def _hidden(self, layer: Any, x: Tensor, take: TakeMask, gradient_rows: slice = ALL) -> Tensor:
        return self._activate(layer, self._linear(layer.linear, x, gradient_rows), take)

    def _activate(self, layer: Any, a: Tensor, take: TakeMask) -> Tensor:
        spec = layer.spec
        a = layer.norm(a)
        mask = take((a.shape[-2], spec.units), spec.dropout) if spec.dropout else None
        if spec.activation == "maxout":
            return maxout(a, spec.pieces, mask)
        if spec.activation == "relu" and mask is not None:
            return dropped_relu(a, mask)
        h = layer.activation(a)
        return h if mask is None else h * mask

    def _linear(self, layer: nn.Linear, x: Tensor, gradient_rows: slice = ALL) -> Tensor:
        weight = layer.weight if self.product_dtype is None else layer.weight.to(self.product_dtype)
        if self.accumulator is not None:
            return accumulating_linear(x, layer, self.accumulator, gradient_rows, weight)
        return affine(x.to(weight.dtype), weight, layer.bias)

    def _draw(self, shape: Sequence[int], p: float) -> Tensor:
        return bit_mask(shape, p, self.generator, self.network.output.bias.device)
