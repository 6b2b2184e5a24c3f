"""Generator and Discriminator: an input branch and a condition branch that meet in joint layers, from a spec.

Knows no loss, no optimiser and no data set. Everything an experiment varies is a field of the spec (``cgan.specs``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgan import CganError
from cgan.layers import Affine, Chance, HiddenLayer, dropout, dropout_multiplier, mask_words, stack_rows
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Init, Layer, NetworkSpec, NoiseKind


def fill_noise(kind: NoiseKind, z: Tensor, rng: torch.Generator) -> Tensor:
    """Fill z with noise U(0,1), U(-sqrt 3, sqrt 3) or N(0,1), and return it."""
    if kind == "normal":
        return z.normal_(generator=rng)
    low, high = (0.0, 1.0) if kind == "uniform" else (-math.sqrt(3), math.sqrt(3))
    return z.uniform_(low, high, generator=rng)


def draw_noise(kind: NoiseKind, shape: tuple[int, int], rng: torch.Generator) -> Tensor:
    """Noise z of ``shape`` (n, input_dim) on the generator's device, as ``fill_noise`` has it."""
    return fill_noise(kind, torch.empty(shape, device=rng.device), rng)


class ConditionalMLP(nn.Module):
    """Input branch and condition branch, concatenated, through the joint layers, to ``outputs`` affine outputs."""

    def __init__(self, spec: NetworkSpec, outputs: int, rng: torch.Generator) -> None:
        super().__init__()
        self.spec = spec
        self.embedding: nn.Parameter | None = None
        width = spec.condition_dim
        if spec.condition == "embedding":
            width = spec.embedding_dim
            self.embedding = nn.Parameter(torch.empty(spec.condition_dim, width).normal_(generator=rng))
        self.input_branch = _stack(spec.input_dim, spec.input_branch, spec.input_init, rng)
        self.condition_branch = _stack(width, spec.condition_branch, spec.condition_init, rng)
        width = _width(spec.input_dim, spec.input_branch) + _width(width, spec.condition_branch)
        self.joint = _stack(width, spec.joint, spec.joint_init, rng)
        self.output = Affine(_width(width, spec.joint), outputs, spec.output_init, rng)

    def affine_output(
        self, x: Tensor | Sequence[Tensor], y: Tensor | None, chance: Chance | None, shifts: Sequence[int] = (0,)
    ) -> Tensor:
        """(n, input_dim), whole or in blocks of rows, and the conditions, to (n, outputs) before a non-linearity.

        With ``shifts`` the rows come in as many blocks of equal size, and y (n / blocks, ...) holds the conditions of
        each block, moved down by so many rows: the first affine map of what is the same is then computed once.
        """
        spec = self.spec
        blocks = [x] if isinstance(x, Tensor) else list(x)
        if spec.input_dropout and chance is not None:
            rows = [block.shape[-2] for block in blocks]
            multiplier = dropout_multiplier((sum(rows), spec.input_dim), spec.input_dropout, chance)
            blocks = [block * part for block, part in zip(blocks, multiplier.split(rows, -2), strict=True)]
        h: Tensor | Sequence[Tensor] = blocks
        for layer in self.input_branch:
            h = layer(h, chance)
        if spec.condition != "none":
            h = torch.cat([h if isinstance(h, Tensor) else stack_rows(h), self._conditions(y, chance, shifts)], -1)
        for layer in self.joint:
            h = layer(h, chance)
        out: Tensor = self.output(h)
        return out

    def dropout_words(self, rows: int) -> int:
        """64-bit words that the masks of one pass over so many rows take, in the order of ``affine_output``."""
        spec, width = self.spec, self.spec.embedding_dim or self.spec.condition_dim
        places = [(spec.input_dim, spec.input_dropout), (width, spec.condition_dropout)]
        places += [(layer.units, layer.dropout) for layer in spec.layers]
        return sum(mask_words((rows, units), p) for units, p in places)

    @property
    def has_dropout(self) -> bool:
        """Whether anything is dropped while training."""
        return self.dropout_words(1) > 0

    def _conditions(self, y: Tensor | None, chance: Chance | None, shifts: Sequence[int]) -> Tensor:
        """The condition branch's output for every row."""

        def spread(c: Tensor) -> Tensor:
            return stack_rows([c.roll(shift, -2) if shift else c for shift in shifts])

        c, share, layers = self._condition(y), self.spec.condition_dropout, list(self.condition_branch)
        if layers and not (share and chance is not None):
            first = layers.pop(0)
            assert isinstance(first, HiddenLayer)
            c = first.activate(spread(first.affine(c)), chance)
        else:
            c = dropout(spread(c), share, chance)
        for layer in layers:
            c = layer(c, chance)
        return c

    def _condition(self, y: Tensor | None) -> Tensor:
        if y is None:
            raise CganError(f"this network takes a {self.spec.condition} condition, and none was given")
        if self.embedding is not None:
            return functional.embedding(y, self.embedding)
        if self.spec.condition == "one_hot":
            return functional.one_hot(y, self.spec.condition_dim).to(self.output.weight.dtype)
        return y


class Generator(ConditionalMLP):
    """G(z, y) in data space."""

    spec: GeneratorSpec

    def __init__(self, spec: GeneratorSpec, rng: torch.Generator, data_mean: Tensor | None = None) -> None:
        """``data_mean`` (output_dim,) is needed by ``output_bias="marginals"``: mean of each datum in G's own range."""
        super().__init__(spec, spec.output_dim, rng)
        if spec.output_bias == "marginals":
            if data_mean is None:
                raise CganError("output_bias is marginals: the generator needs the mean of the training data")
            with torch.no_grad():
                self.output.bias.copy_(inverse_output(data_mean, spec.output))

    def forward(self, z: Tensor, y: Tensor | None, chance: Chance | None = None) -> Tensor:
        """(n, input_dim) noise and n conditions to (n, output_dim) data; ``chance`` None switches dropout off."""
        a = self.affine_output(z, y, chance)
        if self.spec.output == "sigmoid":
            return a.sigmoid()
        return a.tanh() if self.spec.output == "tanh" else a

    def sample(
        self, y: Tensor | None, n: int, rng: torch.Generator, block: int = 2000, dropout: bool = False
    ) -> Tensor:
        """``n`` data vectors (n, output_dim) for the conditions y (n, ...) in evaluation mode, ``block`` at a time.

        ``dropout`` leaves G's dropout on, as while training, with masks from ``rng`` that depend on ``block``. The
        noise is the same either way. The paper does not say which it did.
        """
        training = self.training
        self.eval()
        with torch.no_grad():
            z = draw_noise(self.spec.noise, (n, self.spec.input_dim), rng)
            chance = rng if dropout else None
            blocks = [
                self(z[i : i + block], None if y is None else y[i : i + block], chance) for i in range(0, n, block)
            ]
        self.train(training)
        return torch.cat(blocks)


class Discriminator(ConditionalMLP):
    """D(x, y) as a logit."""

    spec: DiscriminatorSpec

    def __init__(self, spec: DiscriminatorSpec, rng: torch.Generator) -> None:
        super().__init__(spec, 1, rng)

    def forward(
        self,
        x: Tensor | Sequence[Tensor],
        y: Tensor | None,
        chance: Chance | None = None,
        shifts: Sequence[int] = (0,),
    ) -> Tensor:
        """(n, input_dim) data and n conditions to n logits; sigmoid(logit) is D's belief that x is real.

        ``chance`` None switches dropout off. Blocks of data and ``shifts`` are as in ``affine_output``.
        """
        return self.affine_output(x, y, chance, shifts).squeeze(-1)


def inverse_output(mean: Tensor, output: str) -> Tensor:
    """The pre-activation at which an output of kind ``output`` shows ``mean``; means at the very ends are clipped.

    The clip at 1e-7 (of the output's range) follows the GAN paper's recipe: logit(1e-7) = -16.
    """
    if output == "linear":
        return mean
    unit = (mean + 1) / 2 if output == "tanh" else mean
    logit = torch.logit(unit.double(), 1e-7)
    return (logit / 2 if output == "tanh" else logit).to(mean.dtype)


def _stack(inputs: int, layers: tuple[Layer, ...], init: Init, rng: torch.Generator) -> nn.ModuleList:
    widths = [inputs, *(layer.units for layer in layers)]
    return nn.ModuleList(HiddenLayer(width, layer, init, rng) for width, layer in zip(widths, layers, strict=False))


def _width(inputs: int, layers: tuple[Layer, ...]) -> int:
    return layers[-1].units if layers else inputs
