"""The training set on the device, and the batch of one update: data, conditions, noise and wrong conditions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cgan import CganError
from cgan.networks import sample_noise
from cgan.packing import CHOICES, Groups
from cgan.settings import TrainingSettings
from cgan.specs import DiscriminatorSpec, GeneratorSpec


class TrainingSet:
    """Training examples held once, on the device: data x and conditions y.

    x is (rows, d); y is labels (rows,), vectors (rows, k), or None; arrays are held as float32 and int64, tensors of
    another float type as they are. ``x_index`` and ``y_index`` (examples,) name the rows of x and y that make up each
    example; without them example i is row i of both. Raises ``CganError`` where x is no table, or where there is not a
    condition for each example.
    """

    def __init__(
        self, x: ArrayLike, y: ArrayLike | None = None, x_index: Tensor | None = None, y_index: Tensor | None = None
    ) -> None:
        self.x, self.y = _held(x), None if y is None else _held(y, labels=True)
        self.x_index, self.y_index = x_index, y_index
        if self.x.ndim != 2:
            raise CganError(f"x has the shape {tuple(self.x.shape)}: give a row for each datum, x.reshape(len(x), -1)")
        self.count = len(self.x if x_index is None else x_index)
        y_count = self.count if self.y is None else len(self.y if y_index is None else y_index)
        if y_count != self.count:
            raise CganError(f"there are {self.count} data but {y_count} conditions: give one condition per datum")

    @cached_property
    def groups(self) -> Groups:
        """The examples by condition."""
        if self.y is None:
            return Groups(torch.zeros(self.count, dtype=torch.int64, device=self.x.device))
        if self.y_index is not None:
            return Groups(self.y_index)
        # A vector without an index is a condition of its own.
        return Groups(torch.arange(self.count, device=self.y.device) if self.y.is_floating_point() else self.y)

    def data(self, examples: Tensor, pack: int, rng: torch.Generator) -> Tensor:
        """Return x (n, pack * d) of the examples with the numbers ``examples`` (n,).

        Each stands beside pack - 1 others of its condition, drawn from ``rng``, none twice while there are others.
        """
        rows = examples
        if pack > 1:
            choices = torch.randint(CHOICES, (len(examples), pack - 1), generator=rng, device=examples.device)
            rows = torch.cat([examples[:, None], self.groups.companions(examples, choices)], 1).flatten()
        return self.x.index_select(0, rows if self.x_index is None else self.x_index[rows]).view(len(examples), -1)

    def conditions(self, examples: Tensor) -> Tensor | None:
        """Return y of the examples with the numbers ``examples`` (n,), or None without conditions."""
        if self.y is None:
            return None
        return self.y.index_select(0, examples if self.y_index is None else self.y_index[examples])


@dataclass(frozen=True)
class Batch:
    """What one update sees; every tensor has one row per example, or per pack where D judges packs."""

    x: Tensor
    """Real data (n, d), or (n, pack * d)."""
    y: Tensor | None
    """Their conditions."""
    z: Tensor
    """Noise (n, input_dim of G), or (n * pack, input_dim), a pack's rows together."""
    y_fake: Tensor | None
    """Conditions of the generated rows or packs: the batch's own, or others drawn afresh."""
    y_wrong: Tensor | None
    """A condition that is not the row's own, for matching-aware training; None otherwise."""


def draw_batch(
    training_set: TrainingSet,
    examples: Tensor,
    settings: TrainingSettings,
    generator: GeneratorSpec,
    discriminator: DiscriminatorSpec,
    rng: torch.Generator,
) -> Batch:
    """Return the batch of the examples with the numbers ``examples`` (n,); everything random comes from ``rng``."""
    n, pack, classes = len(examples), discriminator.pack, discriminator.condition_dim
    x, y = training_set.data(examples, pack, rng), training_set.conditions(examples)
    y_fake, y_wrong = y, None
    if y is not None and settings.fake_conditions == "fresh":
        y_fake = training_set.conditions(torch.randint(training_set.count, (n,), generator=rng, device=x.device))
    z = sample_noise(generator.noise, (n * pack, generator.input_dim), rng).to(x.dtype)
    if y is not None and settings.discriminator_loss == "matching_aware":
        if discriminator.condition == "real":  # The vector of the row before.
            y_wrong = y.roll(1, 0)
        else:
            y_wrong = (y + torch.randint(1, classes, (n,), generator=rng, device=x.device)) % classes
    return Batch(x, y, z, y_fake, y_wrong)


def _held(values: ArrayLike, labels: bool = False) -> Tensor:
    tensor = torch.as_tensor(values)
    if labels and not tensor.is_floating_point():
        return tensor.long()
    return tensor if tensor is values and tensor.is_floating_point() else tensor.float()
