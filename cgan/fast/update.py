"""The simultaneous update of ``cgan.update``, built from the other modules of this folder.

It reads the batch from buffers that stay in place and draws no random number, so that it can be captured as a CUDA
graph (``graph``) and serve several seeds at once (``seeds``), all buffers then having a leading axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from cgan.batches import wrong_conditions
from cgan.fast.accumulate import Accumulator, Rate
from cgan.fast.graph import CapturedUpdate
from cgan.fast.masks import MaskBuffer, fill_bits_
from cgan.fast.network import FastNetwork
from cgan.fast.shared_pass import gradient_ratio
from cgan.losses import discriminator_loss, generator_loss
from cgan.networks import fill_noise_
from cgan.optim import MomentumSGD
from cgan.packing import CHOICES, pack_rows, repeat_conditions
from cgan.settings import TrainingSettings

if TYPE_CHECKING:
    from cgan.trainer import Trainer


def is_supported(G: nn.Module, D: nn.Module, settings: TrainingSettings) -> bool:
    """Return whether ``FastUpdate`` can make the update: simultaneous, SGD, and every parameter in a linear layer
    (no batch normalisation, no label embedding)."""
    layers = [layer for net in (G, D) for layer in net.modules() if isinstance(layer, nn.Linear)]
    held = {id(parameter) for layer in layers for parameter in layer.parameters()}
    only_linear = all(id(parameter) in held for net in (G, D) for parameter in net.parameters())
    return settings.update == "simultaneous" and settings.optimiser == "sgd" and only_linear


@dataclass
class Buffers:
    """Everything random in one update; with a leading axis for several seeds."""

    examples: Tensor
    """(n,) int64: numbers of the batch's training examples."""
    noise: Tensor
    """(n * pack, input_dim of G)."""
    g_bits: Tensor
    """int64: random bits of the masks of G's pass."""
    d_bits: Tensor
    """int64: random bits of the masks of D's pass."""
    choices: Tensor | None = None
    """(n, pack - 1) int64: random integers that choose the other data of each real pack."""
    fake_examples: Tensor | None = None
    """(n,) int64: examples whose conditions the generated rows take, where these are drawn afresh."""
    wrong_offset: Tensor | None = None
    """(n,) int64 from 1 to classes - 1: distance of the wrong label from a row's own, if matching-aware on labels."""

    def of_seed(self, index: int) -> Buffers:
        """Return views of the buffers of one seed."""
        return Buffers(**{name: tensor[index] for name, tensor in vars(self).items() if tensor is not None})


class FastUpdate:
    """One simultaneous update: forward and backward passes, gradients accumulated, weights moved, losses summed."""

    def __init__(self, trainer: Trainer, seeds: int | None = None) -> None:
        """Prepare updates of ``trainer``; ``seeds``: its parameters, velocities and loss sums are those of so many.

        With ``trainer.use_graph`` the update is captured on CUDA.
        """
        G, D, optimisers = trainer.G, trainer.D, trainer.optimisers
        self.accumulators = tuple(
            Accumulator(network, cast(MomentumSGD, optimisers[name])) for name, network in (("G", G), ("D", D))
        )
        self.G = FastNetwork(G, product_dtype=trainer.product_dtype, accumulator=self.accumulators[0])
        self.D = FastNetwork(D, product_dtype=trainer.product_dtype, accumulator=self.accumulators[1])
        self.training_set, self.settings, self.loss_sums = trainer.training_set, trainer.settings, trainer.loss_sums
        self.noise, self.pack, self.classes = G.spec.noise, D.spec.pack, D.spec.condition_dim
        self.matching = self.settings.discriminator_loss == "matching_aware"
        self.buffers = self._empty_buffers(() if seeds is None else (seeds,))
        self._update = CapturedUpdate(self._run, trainer.device) if trainer.use_graph else self._run

    def fill(self, buffers: Buffers, examples: Tensor, rng: torch.Generator) -> None:
        """Put the batch of ``examples`` (n,) and, from ``rng``, everything random into ``buffers``."""
        buffers.examples.copy_(examples)
        if buffers.choices is not None:
            buffers.choices.random_(0, CHOICES, generator=rng)
        if buffers.fake_examples is not None:
            buffers.fake_examples.random_(0, self.training_set.count, generator=rng)
        fill_noise_(buffers.noise, self.noise, rng)
        if buffers.wrong_offset is not None:
            buffers.wrong_offset.random_(1, self.classes, generator=rng)
        fill_bits_(buffers.g_bits, rng)
        fill_bits_(buffers.d_bits, rng)

    def __call__(self, lr: float, momentum: float) -> None:
        """Make the update with what ``buffers`` hold. On CUDA it returns before the kernels finish."""
        self._update(lr, momentum)

    def _run(self, lr: Rate, momentum: Rate) -> None:
        for accumulator in self.accumulators:
            accumulator.set_rates(lr, momentum)
        buffers, loss, pack = self.buffers, self.settings.generator_loss, self.pack
        x = self.training_set.packs(buffers.examples, buffers.choices)
        y = self.training_set.conditions(buffers.examples)
        y_fake = y if buffers.fake_examples is None else self.training_set.conditions(buffers.fake_examples)

        generated = self.G(buffers.noise, repeat_conditions(y_fake, pack), masks=MaskBuffer(buffers.g_bits).take)
        fake = pack_rows(generated, pack)
        leaf = fake.detach().requires_grad_()  # D's backward pass ends here, and G's starts from its gradient.
        real_logit, fake_logit, wrong_logit = self._discriminate(x, y, leaf, y_fake)
        d_loss = discriminator_loss(real_logit, fake_logit, wrong_logit)
        g_loss = generator_loss(fake_logit, loss)

        d_loss.backward(torch.ones_like(d_loss))
        assert leaf.grad is not None
        fake.backward(leaf.grad * gradient_ratio(fake_logit, loss, self.matching).unsqueeze(-1))
        for accumulator in self.accumulators:
            accumulator.move()
        self.loss_sums += torch.stack([d_loss, g_loss], -1).detach()

    def _discriminate(
        self, x: Tensor, y: Tensor | None, fake: Tensor, y_fake: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return D's logits of the real, the generated and, if matching-aware, the mismatched rows, from one pass."""
        n, offset = x.shape[-2], self.buffers.wrong_offset
        rows, condition_shifts = ([x, fake, x], [0, 0, 1]) if self.matching else ([x, fake], [0, 0])
        if y is not None and (y_fake is not y or offset is not None):  # They differ between blocks: one per row.
            conditions = [y, y_fake]
            if self.matching:
                conditions.append(wrong_conditions(y, offset, self.classes))
            y = torch.cat([each for each in conditions if each is not None], -2 if y.is_floating_point() else -1)
            condition_shifts = [0]
        logits = self.D(
            torch.cat(rows, -2),
            y,
            masks=MaskBuffer(self.buffers.d_bits).take,
            condition_shifts=condition_shifts,
            gradient_rows=slice(n, 2 * n),
        ).split(n, -1)
        return logits[0], logits[1], logits[2] if self.matching else None

    def _empty_buffers(self, lead: tuple[int, ...]) -> Buffers:
        n, pack, device = self.settings.batch_size, self.pack, self.training_set.x.device
        fresh = self.settings.fake_conditions == "fresh" and self.training_set.y is not None

        def integers(*shape: int) -> Tensor:
            return torch.zeros((*lead, *shape), dtype=torch.int64, device=device)

        return Buffers(
            examples=integers(n),
            noise=torch.empty((*lead, n * pack, self.G.network.spec.input_dim), device=device),
            g_bits=integers(self.G.mask_bit_words(n * pack)),
            d_bits=integers(self.D.mask_bit_words(n * (3 if self.matching else 2))),
            choices=integers(n, pack - 1) if pack > 1 else None,
            fake_examples=integers(n) if fresh else None,
            wrong_offset=integers(n) if self.matching and self.D.network.spec.condition != "real" else None,
        )
