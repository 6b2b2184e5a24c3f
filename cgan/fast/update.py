"""The simultaneous update of ``cgan.update``, built from the other modules of this folder.

It draws no random number, so that it can be captured as a CUDA graph (``graph``), and it serves several seeds at once
(``seeds``): the tensors of a batch then have a leading axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from cgan.batches import Batch, draw_batch
from cgan.fast.accumulate import Accumulator, Rate
from cgan.fast.graph import CapturedUpdate
from cgan.fast.masks import MaskBuffer, random_words
from cgan.fast.network import FastNetwork
from cgan.fast.shared_pass import gradient_ratio
from cgan.losses import discriminator_loss, generator_loss
from cgan.optim import MomentumSGD
from cgan.packing import pack_rows, repeat_conditions
from cgan.settings import TrainingSettings
from cgan.specs import NetworkSpec

if TYPE_CHECKING:
    from cgan.trainer import Trainer


def is_supported(specs: Sequence[NetworkSpec], settings: TrainingSettings) -> bool:
    """Return whether ``FastUpdate`` can make the update: simultaneous, SGD, and all parameters in linear layers."""
    embedded = any(spec.condition == "embedding" for spec in specs)
    normalised = any(layer.batch_norm for spec in specs for layer in spec.layers)
    return settings.update == "simultaneous" and settings.optimiser == "sgd" and not embedded and not normalised


@dataclass(frozen=True)
class FastBatch(Batch):
    """A batch, and the random bits (int64) that the dropout masks of both passes are cut from."""

    g_bits: Tensor
    d_bits: Tensor


def stack_batches(batches: Sequence[FastBatch]) -> FastBatch:
    """Return the batches of several seeds as one, whose tensors have a leading axis."""
    names = [name for name, tensor in vars(batches[0]).items() if tensor is not None]
    stacked = {name: torch.stack([getattr(batch, name) for batch in batches]) for name in names}
    return FastBatch(**{name: stacked.get(name) for name in vars(batches[0])})  # type: ignore[arg-type]


class FastUpdate:
    """One simultaneous update: forward and backward passes, gradients accumulated, weights moved, losses summed."""

    def __init__(self, trainer: Trainer) -> None:
        """Prepare updates of ``trainer``, whose parameters, velocities and loss sums may be those of several seeds.

        With ``trainer.use_graph`` the update is captured on CUDA.
        """
        nets, dtype = (trainer.G, trainer.D), trainer.product_dtype
        optimisers = cast(Iterable[MomentumSGD], trainer.optimisers.values())
        self.accumulators = [Accumulator(*pair) for pair in zip(nets, optimisers, strict=True)]
        self.G, self.D = (
            FastNetwork(net, product_dtype=dtype, accumulator=accumulator)
            for net, accumulator in zip(nets, self.accumulators, strict=True)
        )
        self.training_set, self.settings, self.loss_sums = trainer.training_set, trainer.settings, trainer.loss_sums
        self.specs = trainer.G.spec, trainer.D.spec
        self.matching = self.settings.discriminator_loss == "matching_aware"
        #: Whether all kinds of rows have the batch's own conditions, wrong ones being those of the row before.
        self.same_conditions = self.settings.fake_conditions == "batch" and (
            not self.matching or trainer.D.spec.condition == "real"
        )
        #: Makes the update of (batch, learning rate, momentum). On CUDA it returns before the kernels finish.
        self.update = CapturedUpdate(self._run, trainer.device) if trainer.use_graph else self._run

    def draw(self, examples: Tensor, rng: torch.Generator) -> FastBatch:
        """Return the batch of the examples with the numbers ``examples`` (n,); everything random comes from ``rng``."""
        batch = draw_batch(self.training_set, examples, self.settings, *self.specs, rng)
        d_rows = len(examples) * (3 if self.matching else 2)
        counts = self.G.mask_bit_words(len(batch.z)), self.D.mask_bit_words(d_rows)
        g_bits, d_bits = (random_words(count, rng, examples.device) for count in counts)
        return FastBatch(**vars(batch), g_bits=g_bits, d_bits=d_bits)

    def _run(self, batch: FastBatch, lr: Rate, momentum: Rate) -> None:
        for accumulator in self.accumulators:
            accumulator.set_rates(lr, momentum)
        loss, pack = self.settings.generator_loss, self.specs[1].pack
        generated = self.G(batch.z, repeat_conditions(batch.y_fake, pack), masks=MaskBuffer(batch.g_bits).take)
        fake = pack_rows(generated, pack)
        leaf = fake.detach().requires_grad_()  # D's backward pass ends here, and G's starts from its gradient.
        real_logit, fake_logit, wrong_logit = self._discriminate(batch, leaf)
        d_loss = discriminator_loss(real_logit, fake_logit, wrong_logit)
        g_loss = generator_loss(fake_logit, loss)

        d_loss.backward(torch.ones_like(d_loss))
        assert leaf.grad is not None
        fake.backward(leaf.grad * gradient_ratio(fake_logit, loss, self.matching).unsqueeze(-1))
        for accumulator in self.accumulators:
            accumulator.move()
        self.loss_sums += torch.stack([d_loss, g_loss], -1).detach()

    def _discriminate(self, batch: FastBatch, fake: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return D's logits of the real, the generated and, if matching-aware, the mismatched rows, from one pass."""
        n, y = batch.x.shape[-2], batch.y
        rows, shifts = ([batch.x, fake, batch.x], [0, 0, 1]) if self.matching else ([batch.x, fake], [0, 0])
        if y is not None and not self.same_conditions:
            conditions = [each for each in (y, batch.y_fake, batch.y_wrong) if each is not None]
            y, shifts = torch.cat(conditions, -2 if y.is_floating_point() else -1), [0]
        masks, gradient_rows = MaskBuffer(batch.d_bits).take, slice(n, 2 * n)
        logits = self.D(torch.cat(rows, -2), y, masks=masks, condition_shifts=shifts, gradient_rows=gradient_rows)
        real, fake_logit, *wrong = logits.split(n, -1)
        return real, fake_logit, wrong[0] if self.matching else None
