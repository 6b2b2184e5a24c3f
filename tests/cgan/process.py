"""A small training as a process runs it, to be killed and interrupted from ``test_trainer``."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cgan.devices import seeded
from cgan.loop import Estimate, Interrupted, fit
from cgan.settings import StoppingSettings
from cgan.trainer import Trainer
from tests.cgan import nets

UPDATES = 60
#: Exit statuses: after saving on a signal, and after a second signal that ended the process at once.
INTERRUPTED, ENDED = 3, 4


def estimate(trainer: Trainer) -> Estimate:
    """Return how near the mean sample is to the mean datum, with noise of its own."""
    labels = torch.arange(20) % nets.CLASSES
    samples = trainer.sampler.sample(labels, 20, seeded(0, "estimate"))
    distance = (samples.mean(0) - trainer.training_set.x.mean(0)).norm().item()
    return Estimate(-distance, {"distance": distance}, "")


def scripted(*scores: float) -> Callable[[Trainer], Estimate]:
    """Return estimates with these scores, one after another."""
    left = iter(scores)
    return lambda _: Estimate(next(left), {"extra": 1.0}, "a line")


def run(folder: Path, hang: bool = False, checkpoint_seconds: float = 0.0, pause: float = 0.0) -> None:
    """Train as a process of its own; ``hang``: as a background job, which shells start with Ctrl-C ignored."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
    signal.signal(signal.SIGINT, signal.SIG_IGN if hang else signal.default_int_handler)
    try:
        train(folder, hang, checkpoint_seconds, pause)
        nets.trainer(nets.specs(), fast=False).step()
        # Neither update imports PyTorch's compiler: seconds, which every start of a training would pay.
        assert "torch._dynamo" not in sys.modules
    except Interrupted:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(ENDED)


def train(folder: Path, hang: bool = False, checkpoint_seconds: float = 0.0, pause: float = 0.0) -> None:
    """Train in ``folder`` from where its checkpoint stands; the file ``waiting`` appears there after ten updates.

    ``hang``: the first estimate does not end.
    """

    def never_ending(_: Trainer) -> Estimate:
        (folder / "waiting").touch()
        time.sleep(120)
        return Estimate(0.0, {}, "")

    def on_update(trainer: Trainer) -> None:
        if pause and trainer.t >= 10:
            (folder / "waiting").touch()
        time.sleep(pause)

    stopping = StoppingSettings(
        max_updates=UPDATES, first_estimate=UPDATES // 2, estimate_every=20, patience=100, min_updates=0
    )
    fit(
        nets.trainer(*nets.CASES["fresh conditions"]),  # With every kind of random number and of state.
        stopping,
        never_ending if hang else estimate,
        folder,
        identity={"hang": hang},
        resume=True,
        on_update=on_update,
        checkpoint_seconds=checkpoint_seconds,
    )
