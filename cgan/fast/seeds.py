"""Replicas: runs of the same game from several seeds, trained at once as one batched computation.

Each replica keeps a ``Trainer`` of its own, whose weights and velocities are views into tensors that all share. So its
state, its samples and its checkpoints are those of a run alone, and it can go on alone, or in other company.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from cgan import CganError
from cgan.layers import Affine
from cgan.networks import ConditionalMLP
from cgan.optim import MomentumSGD
from cgan.trainer import Diverged, Interrupted, Run, Trainer, collected_signals
from cgan.update import Draws, Step

Net = TypeVar("Net", bound=ConditionalMLP)


def check_alike(trainers: Sequence[Trainer]) -> None:
    """Raise ``CganError`` unless the trainers can play as replicas: one game, the same examples, other seeds."""
    first = trainers[0]
    for trainer in trainers:
        if not trainer.absorbing:
            raise CganError(
                "replicas need update=simultaneous, optimiser=sgd, and nets without batch normalisation or label "
                "embeddings: train the seeds one by one"
            )
        same = all(getattr(trainer, name) == getattr(first, name) for name in ("settings", "precision", "use_graph"))
        specs = (trainer.G.spec, trainer.D.spec) == (first.G.spec, first.D.spec)
        if not (same and specs and trainer.examples is first.examples):
            raise CganError(
                "replicas must differ in nothing but their seeds: give them the same specs, settings, precision and "
                "examples"
            )


class ReplicaTrainer:
    """One update of several trainers at once; all must play the same game on the same examples, and stand equally far.

    What each draws comes from its own stream, in the same order as alone, so that it ends where it would have ended
    alone, but for rounding.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        check_alike(trainers)
        first = trainers[0]
        if any(trainer.t != first.t for trainer in trainers):
            raise CganError("replicas must have made equally many updates: let those behind catch up first")
        self.trainers = list(trainers)
        G, g_optimiser = _shared([trainer.G for trainer in trainers], [t.optimisers["G"] for t in trainers])
        D, d_optimiser = _shared([trainer.D for trainer in trainers], [t.optimisers["D"] for t in trainers])
        for player, module, optimiser in (("G", G, g_optimiser), ("D", D, d_optimiser)):
            for index, trainer in enumerate(trainers):
                _become_views(trainer, player, module, optimiser, index)
        loss_sums = torch.stack([trainer.loss_sums for trainer in trainers])
        for trainer, sums in zip(trainers, loss_sums, strict=True):
            trainer.adopt_loss_sums(sums)
        draws = Draws.empty(G, D, first.examples, first.settings, len(trainers))
        self._parts = [draws.replica(index) for index in range(len(trainers))]
        optimisers = {"G": g_optimiser, "D": d_optimiser}
        self._step = Step(G, D, optimisers, first.examples, first.settings, draws, loss_sums, first.use_graph)

    def step(self) -> None:
        """One update of every replica. Nothing here waits for the device."""
        for trainer, part in zip(self.trainers, self._parts, strict=True):
            trainer.draw(part)
        self._step(*self.trainers[0].rates())
        for trainer in self.trainers:
            trainer.advance()


def _shared(modules: Sequence[Net], optimisers: Sequence[MomentumSGD]) -> tuple[Net, MomentumSGD]:
    """A net whose parameters are those of all ``modules`` (replicas, ...), and its optimiser, velocities likewise."""
    absorbing = [layer for layer in modules[0].modules() if isinstance(layer, Affine)]
    for layer in absorbing:
        layer.absorb = None  # It leads to the optimiser, which is not to be copied.
    shared = copy.deepcopy(modules[0])
    optimisers[0].absorb_gradients(modules[0])
    for name, parameter in shared.named_parameters():
        parameter.data = torch.stack([module.get_parameter(name).detach() for module in modules])
    velocities = [torch.stack(each) for each in zip(*(optimiser.velocities for optimiser in optimisers), strict=True)]
    optimiser = MomentumSGD(shared, velocities)
    optimiser.absorb_gradients(shared)
    return shared, optimiser


def _become_views(trainer: Trainer, player: str, shared: ConditionalMLP, optimiser: MomentumSGD, index: int) -> None:
    """Let a trainer's own net and velocities be replica ``index`` of the shared ones."""
    module = trainer.G if player == "G" else trainer.D
    for own, parameter in zip(module.parameters(), shared.parameters(), strict=True):
        own.data = parameter.detach()[index]
    trainer.optimisers[player] = MomentumSGD(module, [velocity[index] for velocity in optimiser.velocities])
    trainer.optimisers[player].absorb_gradients(module)


def fit_replicas(
    runs: Sequence[Run], on_update: Callable[[Sequence[Run]], None] | None = None
) -> list[Diverged | None]:
    """Train each of ``runs`` to its own stopping point; for each, the error it ended with, or None.

    A run that has ended, or whose game is lost, leaves the batch, and the others go on. Where runs were resumed at
    different updates, the hindmost play until they have caught up. ``on_update`` is called after every update with the
    runs that made it. Raises ``Interrupted`` after saving all on SIGINT or SIGTERM.
    """
    lost: dict[int, Diverged] = {}
    batch: list[Run] = []
    with collected_signals() as received:
        while playing := [run for run in runs if not (run.finished or id(run) in lost)]:
            t = min(run.trainer.t for run in playing)
            hindmost = [run for run in playing if run.trainer.t == t]
            if hindmost != batch:
                batch, trainer = hindmost, ReplicaTrainer([run.trainer for run in hindmost])
            trainer.step()
            if on_update is not None:
                on_update(batch)
            for run in batch:
                try:
                    run.after_update()
                except Diverged as error:
                    lost[id(run)] = error
            if received:
                for run in playing:
                    if id(run) not in lost:
                        run.checkpoint()
                raise Interrupted
    return [lost.get(id(run)) for run in runs]
