"""A small game as a process plays it, to be killed and interrupted from ``test_training``."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import torch

from cgan.devices import seeded
from cgan.settings import StoppingSettings, TrainingSettings
from cgan.trainer import Estimate, Interrupted, Trainer, fit
from tests.cgan import nets

UPDATES = 60
#: Exit statuses: after saving on a signal, and after a signal that ended it at once.
INTERRUPTED, ENDED = 3, 4

_SGD = TrainingSettings(batch_size=4, decay=1.001, momentum_ramp=100, fake_conditions="fresh")
#: One game for each path of the engine, both with every kind of random draw and of state that there is.
GAMES = {
    "paper": (nets.specs(dropout=0.5), _SGD),
    "tutorial": (
        nets.specs(
            condition="embedding",
            dropout=0.2,
            generator={"joint": nets.layers("leaky_relu:6,batch_norm")},
            discriminator={"joint": nets.layers("leaky_relu:5,batch_norm,dropout=0.4")},
        ),
        TrainingSettings(
            batch_size=4, optimiser="adam", learning_rate=0.01, discriminator_loss="matching_aware", decay=1.001
        ),
    ),
}


def estimate(trainer: Trainer) -> Estimate:
    """How near the mean sample is to the mean datum, from a stream of its own."""
    y = torch.arange(20) % nets.CLASSES
    samples = trainer.G.sample(y, 20, seeded(0, "estimate"))
    distance = (samples.mean(0) - trainer.examples.x.mean(0)).norm().item()
    return Estimate(-distance, {"distance": distance}, "")


def play(folder: Path, game: str, checkpoint_seconds: float = 0.0, pause: float = 0.0) -> None:
    """Play on in ``folder`` from where its checkpoint stands. ``looping`` appears there once ten updates are made."""
    torch.set_num_threads(1)
    # A shell's background jobs are born deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN if game == "hanging in the background" else signal.default_int_handler)
    hanging = game.startswith("hanging")

    def hang(_: Trainer) -> Estimate:
        (folder / "estimating").touch()
        time.sleep(120)
        return Estimate(0.0, {}, "")

    def on_update(trainer: Trainer) -> None:
        if pause and trainer.t == 10:
            (folder / "looping").touch()
        time.sleep(pause)

    # With a pause the first checkpoint is left to the signal that it gives time for.
    stopping = StoppingSettings(
        max_updates=UPDATES, first_estimate=UPDATES // 2, estimate_every=20, patience=100, min_updates=0
    )
    try:
        fit(
            nets.trainer(*GAMES["paper" if hanging else game]),
            stopping,
            hang if hanging else estimate,
            folder,
            identity={"game": game},
            resume=True,
            on_update=on_update,
            checkpoint_seconds=checkpoint_seconds,
        )
    except Interrupted:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(ENDED)
