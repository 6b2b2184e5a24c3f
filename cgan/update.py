"""One simultaneous update of both players: the passes, and the step when all weights are affine maps' under momentum.

Draws no random number and never waits for the device: what chance decides lies in ``Draws``, filled before. Of one net
each, or of replicas: then every tensor has a leading axis for them. On CUDA the step is captured as a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cgan.batches import Examples
from cgan.layers import Chance, Masks, fill_words
from cgan.losses import discriminator_loss, generator_loss, gradient_ratio
from cgan.networks import Discriminator, Generator, fill_noise
from cgan.optim import MomentumSGD
from cgan.settings import TrainingSettings

#: Updates played as they come before a graph is captured, as PyTorch asks for: libraries set themselves up meanwhile.
WARM_UP = 3


@dataclass
class Draws:
    """What chance decides of one update, in buffers that stay in their place; replicas have a leading axis."""

    rows: Tensor
    """(n,) int64: the examples of the batch."""
    noise: Tensor
    """(n, input_dim): z."""
    g_words: Tensor
    """int64: what the masks of G's pass are cut from."""
    d_words: Tensor
    """int64: what the masks of D's pass are cut from."""
    fake_rows: Tensor | None = None
    """(n,) int64: the examples whose conditions the fakes take, where they are fresh."""
    wrong: Tensor | None = None
    """(n,) int64, 1 to classes - 1: how far the wrong label of each row is from its own, where matching-aware."""

    @classmethod
    def empty(
        cls, G: Generator, D: Discriminator, examples: Examples, settings: TrainingSettings, replicas: int | None = None
    ) -> Draws:
        """Buffers of the right sizes, unfilled, on the device of the examples."""
        n, device = settings.batch_size, examples.x.device
        lead = () if replicas is None else (replicas,)
        matching = settings.discriminator_loss == "matching_aware"

        def integers(count: int) -> Tensor:
            return torch.empty((*lead, count), dtype=torch.int64, device=device)

        return cls(
            rows=integers(n),
            noise=torch.empty((*lead, n, G.spec.input_dim), device=device),
            g_words=integers(G.dropout_words(n)),
            d_words=integers(D.dropout_words(n * (3 if matching else 2))),
            fake_rows=integers(n) if settings.fake_conditions == "fresh" and examples.y is not None else None,
            wrong=integers(n) if matching and D.spec.condition != "real" else None,
        )

    def replica(self, index: int) -> Draws:
        """The buffers of one replica, as views."""
        held = {item.name: getattr(self, item.name) for item in fields(self)}
        views: dict[str, Any] = {name: None if held[name] is None else held[name][index] for name in held}
        return Draws(**views)

    def fill(self, rows: Tensor, G: Generator, D: Discriminator, examples: Examples, rng: torch.Generator) -> None:
        """The batch ``rows`` and, from ``rng`` in the order of its use, everything else."""
        self.rows.copy_(rows)
        if self.fake_rows is not None:
            self.fake_rows.random_(0, examples.count, generator=rng)
        fill_noise(G.spec.noise, self.noise, rng)
        fill_words(self.g_words, rng)
        if self.wrong is not None:
            self.wrong.random_(1, D.spec.condition_dim, generator=rng)
        fill_words(self.d_words, rng)


class Passes(NamedTuple):
    """One pass through G and one through D: the fakes, the same as a leaf, losses (one, or one a replica)."""

    fake: Tensor
    leaf: Tensor
    """The fakes without their history, so that D's backward pass ends there and G's starts from it."""
    fake_logit: Tensor
    d_loss: Tensor
    g_loss: Tensor


def play(G: Generator, D: Discriminator, examples: Examples, settings: TrainingSettings, draws: Draws) -> Passes:
    """Both players' losses on the batch that ``draws`` holds."""
    x, y = examples.data(draws.rows), examples.conditions(draws.rows)
    y_fake = y if draws.fake_rows is None else examples.conditions(draws.fake_rows)
    fake = G(draws.noise, y_fake, Masks(draws.g_words))
    leaf = fake.detach().requires_grad_()
    real, fake_logit, mismatched = judge(D, settings, x, y, leaf, y_fake, draws.wrong, Masks(draws.d_words))
    d_loss = discriminator_loss(real, fake_logit, mismatched)
    return Passes(fake, leaf, fake_logit, d_loss, generator_loss(fake_logit, settings.generator_loss))


def judge(
    D: Discriminator,
    settings: TrainingSettings,
    x: Tensor,
    y: Tensor | None,
    fake: Tensor,
    y_fake: Tensor | None,
    wrong: Tensor | None,
    chance: Chance | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits of the real, the fake and, when matching-aware, the mismatched pairs, from one pass through D.

    A wrong label is ``wrong`` classes from a row's own; a wrong vector is the row before's.
    """
    matching = settings.discriminator_loss == "matching_aware"
    data = [x, fake, x] if matching else [x, fake]
    # Conditions that are the same but for their order pass D's first affine map once.
    shifts = [0, 0, 1] if matching else [0, 0]
    if y is not None and (y_fake is not y or wrong is not None):
        conditions = [y, y_fake]
        if matching:
            conditions.append(y.roll(1, -2) if wrong is None else (y + wrong) % D.spec.condition_dim)
        y, shifts = torch.cat(conditions, -2 if y.is_floating_point() else -1), [0]  # type: ignore[arg-type]
    logits = D(data, y, chance, shifts).split(x.shape[-2], -1)
    return logits[0], logits[1], logits[2] if matching else None


class Step:
    """The update as one call: passes, gradients absorbed into the velocities, weights moved, losses added up."""

    def __init__(
        self,
        G: Generator,
        D: Discriminator,
        optimisers: dict[str, MomentumSGD],
        examples: Examples,
        settings: TrainingSettings,
        draws: Draws,
        loss_sums: Tensor,
        use_graph: bool,
    ) -> None:
        """``loss_sums`` (..., 2) takes D's and G's losses; ``use_graph`` captures the update on a CUDA device."""
        self.G, self.D, self.optimisers, self.draws, self.loss_sums = G, D, optimisers, draws, loss_sums
        self.examples, self.settings, self.use_graph = examples, settings, use_graph
        # A graph repeats the numbers it was captured with, so what changes must lie on the device.
        self._rates = torch.zeros(2, device=examples.x.device)
        self._played = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, rate: float, momentum: float) -> None:
        """One update with what ``draws`` holds. Nothing here waits for the device."""
        if not self.use_graph:
            self.run(rate, momentum)
            return
        self._rates[0].fill_(rate)
        self._rates[1].fill_(momentum)
        with torch.cuda.device(self._rates.device):
            if self._played < WARM_UP:
                self._beside(lambda: self.run(*self._rates))
            else:
                if self._graph is None:
                    self._graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(self._graph):  # Notes the work down, and does none of it.
                        self.run(*self._rates)
                self._graph.replay()
        self._played += 1

    def run(self, rate: float | Tensor, momentum: float | Tensor) -> None:
        """The update itself, eager: rate and momentum as numbers, or on the device as tensors of no axes."""
        for optimiser in self.optimisers.values():
            optimiser.set_rates(rate, momentum)
        passes = play(self.G, self.D, self.examples, self.settings, self.draws)
        ratio = gradient_ratio(passes.fake_logit, self.settings.generator_loss, self._matching)
        passes.d_loss.backward(torch.ones_like(passes.d_loss))
        to_fake = passes.leaf.grad
        assert to_fake is not None
        passes.fake.backward(to_fake * ratio.unsqueeze(-1))
        for optimiser in self.optimisers.values():
            optimiser.apply()
        self.loss_sums += torch.stack([passes.d_loss, passes.g_loss], -1).detach()

    @property
    def _matching(self) -> bool:
        return self.settings.discriminator_loss == "matching_aware"

    @staticmethod
    def _beside(call: Callable[[], None]) -> None:
        """Call on a stream of its own, as warming up for a capture demands."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call()
        torch.cuda.current_stream().wait_stream(stream)
