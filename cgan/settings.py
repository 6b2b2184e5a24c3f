"""Settings of training and of its stopping point, as typed values. Imports no torch; ``cgan.trainer`` uses them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cgan import CganError
from cgan.specs import check_choices, check_probability

GeneratorLoss = Literal["non_saturating", "minimax"]


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one update, of its schedules and of weight averaging."""

    batch_size: int = 100
    """Examples per update (section 4.1)."""
    optimiser: Literal["sgd", "adam"] = "sgd"
    """sgd: velocity = momentum * velocity - rate * gradient; adam: the tutorial baseline's."""
    learning_rate: float = 0.1
    """Rate of the first update (section 4.1)."""
    decay: float = 1.00004
    """The rate is divided by this at every update (section 4.1)."""
    min_learning_rate: float = 1e-6
    """Floor of the rate (section 4.1)."""
    momentum_start: float = 0.5
    """Momentum at the first update (section 4.1)."""
    momentum_end: float = 0.7
    """Momentum at the end of the ramp (section 4.1)."""
    momentum_ramp: int = 125_000
    """Updates over which momentum rises linearly. Open in the paper; 250 epochs of MNIST in the GAN paper's recipe."""
    adam_beta1: float = 0.5
    """Decay of Adam's first moment (tutorial baseline)."""
    adam_beta2: float = 0.999
    """Decay of Adam's second moment (tutorial baseline)."""
    update: Literal["simultaneous", "alternating"] = "simultaneous"
    """simultaneous: both gradients from one forward pass; alternating: G first, then D on the same fakes."""
    generator_loss: GeneratorLoss = "non_saturating"
    """minimax: equation 2 as it stands; non_saturating: maximise log D(G(z|y)) instead (GAN, section 3)."""
    discriminator_loss: Literal["standard", "matching_aware"] = "standard"
    """matching_aware: real data under a wrong condition is a third kind of example, to be rejected."""
    fake_conditions: Literal["batch", "fresh"] = "batch"
    """Whether the fakes take the real batch's own conditions or others, drawn from the training set."""
    averaging: float = 0.0
    """Decay of the running average of G's weights that samples are drawn with; 0 takes the weights themselves. Does not
    change training. Not in the paper."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("momentum_start", "momentum_end", "adam_beta1", "adam_beta2", "averaging"):
            check_probability(getattr(self, name), name)
        for name in ("batch_size", "learning_rate", "min_learning_rate"):
            if not 0 < getattr(self, name) <= 1e30:  # As float32 holds it.
                raise CganError(f"{name} is {getattr(self, name)}: it must be positive, and at most 1e30")
        if self.learning_rate < self.min_learning_rate:
            raise CganError(
                f"learning_rate is {self.learning_rate}, below its floor min_learning_rate {self.min_learning_rate}: "
                "lower the floor as well"
            )
        if not 1 <= self.decay < math.inf:
            raise CganError(f"decay is {self.decay}: the learning rate is divided by it, so it must be at least 1")
        if self.momentum_ramp < 0:
            raise CganError(f"momentum_ramp is {self.momentum_ramp}: it must not be negative")


@dataclass(frozen=True)
class StoppingSettings:
    """When estimates are made and when training ends, in updates (500 updates are one epoch of MNIST at batch 100)."""

    max_updates: int = 300_000
    """Training ends here at the latest."""
    first_estimate: int = 500
    """A first estimate, for an early look, after this many updates."""
    estimate_every: int = 2_500
    """Further estimates every so many updates, and at the end. Open in the paper."""
    patience: int = 20
    """Training ends after this many estimates in a row without a new best."""
    min_updates: int = 25_000
    """Estimates without a new best count only from here: good networks can score badly at first."""
    keep: Literal["best", "last"] = "best"
    """Weights to keep: of the best estimate (section 4.1), or of the last one; then patience ends no training."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("max_updates", "first_estimate", "estimate_every", "patience"):
            if getattr(self, name) < 1:
                raise CganError(f"{name} is {getattr(self, name)}: it must be at least 1")

    def due(self, t: int) -> bool:
        """Return whether an estimate is made after update ``t``."""
        return t == self.first_estimate or t % self.estimate_every == 0 or t == self.max_updates


@dataclass(frozen=True)
class SamplingSettings:
    """Whether G's dropout stays on while samples are drawn, and its rate. The paper says neither."""

    dropout: bool = False
    """Leave G's dropout on while drawing."""
    dropout_rate: float | None = None
    """Its rate while drawing; None: as in training. The higher, the more the samples of one condition differ."""

    def __post_init__(self) -> None:
        if self.dropout_rate is not None and not (self.dropout and 0 < self.dropout_rate < 1):
            raise CganError(
                f"dropout_rate is {self.dropout_rate}: give one between 0 and 1, with dropout set, or None to "
                "draw at the rate of training"
            )

    @property
    def drawing_dropout(self) -> bool | float:
        """What ``Generator.sample`` is given as ``dropout``."""
        return (self.dropout_rate or True) if self.dropout else False
