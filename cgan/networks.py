"""Generator and Discriminator of the paper's figure 1: an input branch and a condition branch meet in joint layers.

Both are plain modules built from a spec (``cgan.specs``). They know no loss, no optimiser and no data set.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from cgan import CganError
from cgan.devices import seeded
from cgan.layers import Dropout, HiddenLayer, linear
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Init, Layer, NetworkSpec, NoiseKind, check_probability


class ConditionalMLP(nn.Module):
    """An MLP of an input and a condition y.

    y is a label (n,) int64 for ``condition`` one_hot and embedding, a vector (n, condition_dim) for real, or None.
    ``train()`` and ``eval()`` turn dropout on and off, as in any module.
    """

    def __init__(self, spec: NetworkSpec, outputs: int, rng: torch.Generator) -> None:
        super().__init__()
        self.spec = spec
        if spec.condition == "embedding":
            table = torch.empty(spec.condition_dim, spec.embedding_dim).normal_(generator=rng)
            self.condition_encoder = nn.Embedding.from_pretrained(table, freeze=False)
        self.input_dropout = Dropout(spec.input_dropout)
        self.condition_dropout = Dropout(spec.condition_dropout)
        self.input_branch, width = _stack(spec.input_width, spec.input_branch, spec.input_init, rng)
        condition_width = spec.embedding_dim or spec.condition_dim
        self.condition_branch, condition_width = _stack(
            condition_width, spec.condition_branch, spec.condition_init, rng
        )
        self.joint, width = _stack(width + condition_width, spec.joint, spec.joint_init, rng)
        self.output = linear(width, outputs, spec.output_init, rng)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (n, input_width) inputs and n conditions to (n, outputs), before any output non-linearity."""
        h = self.input_branch(self.input_dropout(x))
        if self.spec.condition != "none":
            c = self.condition_branch(self.condition_dropout(self.encode(y).to(h.dtype)))
            h = torch.cat([h, c], dim=-1)
        return self.output(self.joint(h))

    def encode(self, y: Tensor | None) -> Tensor:
        """Return n conditions as vectors (n, width) of the weights' type: one-hot, learned embeddings, or as they are.

        Raises ``CganError`` where y is None.
        """
        spec = self.spec
        if y is None:
            raise CganError(f"this network takes a {spec.condition} condition, but y is None: pass one per row")
        if spec.condition == "embedding":
            return self.condition_encoder(y)
        y = functional.one_hot(y, spec.condition_dim) if spec.condition == "one_hot" else y
        return y.to(self.output.bias.dtype)

    def __repr__(self) -> str:
        """Return a line for each part: the width of its input, and its layers as a spec writes them."""
        spec = self.spec
        parts: dict[str, list[Any]] = {"input_branch": [spec.input_width, *spec.input_branch]}
        if spec.condition != "none":
            embedding = [spec.embedding_dim] if spec.embedding_dim else []
            parts[f"condition_branch ({spec.condition})"] = [spec.condition_dim, *embedding, *spec.condition_branch]
        joint_width = next(inputs for name, (inputs, _) in spec.linear_maps() if name in ("joint", "output_dim"))
        parts["joint"] = [joint_width, *spec.joint]
        activation = [spec.output] if isinstance(spec, GeneratorSpec) else []
        parts["output"] = [self.output.in_features, self.output.out_features, *activation]
        weights = f"{sum(parameter.numel() for parameter in self.parameters()):,} weights"
        lines = [f"  {name}: {' -> '.join(map(str, sizes))}" for name, sizes in parts.items()]
        return "\n".join([f"{type(self).__name__}, {weights}", *lines])

    def dropout_layers(self) -> list[Dropout]:
        """Return the dropout layers that drop anything."""
        return [module for module in self.modules() if isinstance(module, Dropout) and module.p > 0]

    @property
    def has_dropout(self) -> bool:
        """Whether training and evaluation mode differ by dropout."""
        return bool(self.dropout_layers())

    def use_generator(self, rng: torch.Generator | None) -> None:
        """Draw all dropout masks from ``rng`` from now on (None: from PyTorch's global generator)."""
        for layer in self.dropout_layers():
            layer.generator = rng


class Generator(ConditionalMLP):
    """G(z, y): noise and condition to one data vector."""

    spec: GeneratorSpec

    def __init__(self, spec: GeneratorSpec, rng: torch.Generator | int, data_mean: Tensor | None = None) -> None:
        """Draw initial weights from ``rng``, a seed or a generator.

        ``data_mean`` (output_dim,), the mean of the training data, is needed for ``output_bias="marginals"``.
        """
        super().__init__(spec, spec.output_dim, seeded(rng, "G") if isinstance(rng, int) else rng)
        self.output_activation = {"sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "linear": nn.Identity()}[spec.output]
        if spec.output_bias == "marginals":
            if data_mean is None:
                raise CganError("output_bias is marginals, which needs data_mean: pass the mean of the training data")
            with torch.no_grad():
                self.output.bias.copy_(output_logit(data_mean, spec.output))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (n, input_dim) noise and n conditions to (n, output_dim) data in the range of ``spec.output``."""
        return self.output_activation(super().forward(z, y))

    @torch.no_grad()
    def sample(
        self,
        y: ArrayLike | None = None,
        n: int | None = None,
        rng: torch.Generator | int = 0,
        block: int = 2000,
        dropout: bool | float = False,
    ) -> Tensor:
        """Return a sample for each condition y (n, ...), or ``n`` samples of a generator without: (n, output_dim).

        Noise is drawn from ``rng``, a seed or a generator on this network's device. Dropout is off, in training mode as
        well, unless ``dropout`` is set (the paper does not say which it used): True for the rates of training, or one
        rate for all layers that have dropout. The noise is the same either way, but masks depend on ``block``, the
        rows computed at a time. Raises ``CganError`` where y and ``n`` do not fit.
        """
        device = self.output.weight.device
        if isinstance(rng, int):
            rng = seeded(rng, "samples", device=device)
        if y is not None:
            y = torch.as_tensor(y, device=device)
            y, n = y if y.is_floating_point() else y.long(), len(y) if n is None else n
        if n is None or (y is not None and len(y) != n):
            given = "neither n nor y is given" if y is None else f"n is {n}, but y has {len(y)} rows"
            raise CganError(f"{given}: give one condition for each sample, or n to a generator without conditions")
        if not isinstance(dropout, bool):
            check_probability(dropout, "dropout")
        training, dropout_layers = self.training, self.dropout_layers()
        before = [(layer.generator, layer.p) for layer in dropout_layers]
        try:
            self.eval()
            for layer in dropout_layers:
                layer.training, layer.generator = dropout is not False, rng
                layer.p = layer.p if isinstance(dropout, bool) else dropout
            z = sample_noise(self.spec.noise, (n, self.spec.input_dim), rng).to(self.output.weight.dtype)
            blocks = [self(z[i : i + block], None if y is None else y[i : i + block]) for i in range(0, n, block)]
            return torch.cat(blocks)
        finally:
            self.train(training)
            for layer, (generator, p) in zip(dropout_layers, before, strict=True):
                layer.generator, layer.p = generator, p


class Discriminator(ConditionalMLP):
    """D(x, y) as a logit: sigmoid(logit) is the probability that x is real, given y."""

    spec: DiscriminatorSpec

    def __init__(self, spec: DiscriminatorSpec, rng: torch.Generator | int) -> None:
        """Draw initial weights from ``rng``, a seed or a generator."""
        super().__init__(spec, 1, seeded(rng, "D") if isinstance(rng, int) else rng)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (n, pack * input_dim) data, a pack a row, and n conditions to logits (n,)."""
        return super().forward(x, y).squeeze(-1)


def sample_noise(kind: NoiseKind, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Return noise z of ``shape``: U(0, 1), U(-sqrt 3, sqrt 3) (mean 0, variance 1) or N(0, 1), on ``rng``'s device."""
    z = torch.empty(shape, device=rng.device)
    if kind == "normal":
        return z.normal_(generator=rng)
    low, high = (0.0, 1.0) if kind == "uniform" else (-math.sqrt(3), math.sqrt(3))
    return z.uniform_(low, high, generator=rng)


def interpolate_noise(start: Tensor, end: Tensor, steps: int, *, spherical: bool = False) -> Tensor:
    """Return ``steps`` noise vectors (steps, d) from ``start`` to ``end`` (d,), both included.

    ``spherical`` keeps to the great circle between them, as befits normal noise, whose vectors have nearly equal
    lengths; uniform noise fills a cube and is interpolated along the straight line.
    """
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    if spherical:
        angle = torch.acos(functional.cosine_similarity(start, end, dim=0).clamp(-1, 1))
        if torch.sin(angle) > 1e-3:  # Otherwise (anti)parallel, where no single arc exists: take the straight line.
            return (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)
    return torch.lerp(start, end, t)


def output_logit(mean: Tensor, output: str) -> Tensor:
    """Return the pre-activation at which an output unit of kind ``output`` gives ``mean``.

    Means are clipped to 1e-7 from the ends of the range, as in the GAN paper's recipe: logit(1e-7) = -16.
    """
    if output == "linear":
        return mean
    unit = (mean + 1) / 2 if output == "tanh" else mean
    logit = torch.logit(unit.double(), 1e-7)
    return (logit / 2 if output == "tanh" else logit).to(mean.dtype)


def _stack(width: int, layers: tuple[Layer, ...], init: Init, rng: torch.Generator) -> tuple[nn.Sequential, int]:
    """Return the hidden layers, and the width of their output."""
    stack = nn.Sequential()
    for layer in layers:
        stack.append(HiddenLayer(width, layer, init, rng))
        width = layer.units
    return stack, width
