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

    x is (rows, d); y is labels (rows,), vectors (rows, k), or None. Tensors or arrays: held as float32 (tensors of
    another float type as they are), labels as int64. ``x_index`` and ``y_index`` (examples,) name the rows of x and y
    that make up each example, so that a row shared by many examples is stored once; without them example i is row i of
    both. Raises ``CganError`` where x is no table, or where there is not a condition for each example.
    """

    def __init__(
        self, x: ArrayLike, y: ArrayLike | None = None, x_index: Tensor | None = None, y_index: Tensor | None = None
    ) -> None:
        self.x, self.y = _as_floats(x), None if y is None else _as_conditions(y)
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
            key = torch.zeros(self.count, dtype=torch.int64, device=self.x.device)
        elif self.y_index is not None:
            key = self.y_index
        else:  # A vector without an index is a condition of its own.
            key = torch.arange(self.count, device=self.y.device) if self.y.is_floating_point() else self.y
        return Groups(key)

    def packs(self, examples: Tensor, choices: Tensor | None) -> Tensor:
        """Return data (..., pack * d): each example beside others of its condition.

        ``choices`` (..., pack - 1) are the random integers of ``Groups.companions``; None for packs of one.
        """
        if choices is None:
            return self.data(examples)
        return self.data(torch.cat([examples[..., None], self.groups.companions(examples, choices)], -1)).flatten(-2)

    def data(self, examples: Tensor) -> Tensor:
        """Return x (..., d) of the examples with the numbers ``examples`` (...)."""
        return _rows(self.x, examples if self.x_index is None else self.x_index[examples])

    def conditions(self, examples: Tensor) -> Tensor | None:
        """Return y of the examples with the numbers ``examples``, or None without conditions."""
        if self.y is None:
            return None
        return _rows(self.y, examples if self.y_index is None else self.y_index[examples])


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
    y, n, pack = training_set.conditions(examples), len(examples), discriminator.pack
    choices = None
    if pack > 1:
        choices = torch.randint(CHOICES, (n, pack - 1), generator=rng, device=examples.device)
    x = training_set.packs(examples, choices)
    y_fake = y
    if y is not None and settings.fake_conditions == "fresh":
        drawn = torch.randint(training_set.count, (n,), generator=rng, device=x.device)
        y_fake = training_set.conditions(drawn)
    z = sample_noise(generator.noise, (n * pack, generator.input_dim), rng).to(x.dtype)
    y_wrong = None
    if y is not None and settings.discriminator_loss == "matching_aware":
        classes, offset = discriminator.condition_dim, None
        if discriminator.condition != "real":
            offset = torch.randint(1, classes, (n,), generator=rng, device=x.device)
        y_wrong = wrong_conditions(y, offset, classes)
    return Batch(x, y, z, y_fake, y_wrong)


def wrong_conditions(y: Tensor, offset: Tensor | None, classes: int) -> Tensor:
    """Return a wrong condition for each row: a label moved by ``offset`` (1 to classes - 1), or the vector of the row
    before."""
    return y.roll(1, -2) if offset is None else (y + offset) % classes


def _as_floats(values: ArrayLike) -> Tensor:
    tensor = torch.as_tensor(values)
    return tensor if tensor is values and tensor.is_floating_point() else tensor.float()


def _as_conditions(values: ArrayLike) -> Tensor:
    tensor = torch.as_tensor(values)
    return _as_floats(values) if tensor.is_floating_point() else tensor.long()


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)
