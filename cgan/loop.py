"""The training loop: estimates, the stopping point, the weights at the best estimate, checkpoints, divergence, signals.

What one update does is ``cgan.trainer``'s; what an estimate measures is the caller's function.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from cgan import CganError, checkpoint
from cgan.settings import StoppingSettings
from cgan.trainer import CHECK_EVERY, Diverged, Trainer

#: Form of the checkpoints written here; another one is refused.
CHECKPOINT_FORMAT = 2

#: A mean loss below this leaves the other network (almost) nothing to learn from ...
STUCK_LOSS = 1e-4
#: ... and after this many such looks in a row training has failed.
STUCK_CHECKS = 10


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP arrived; the state is saved."""


@dataclass(frozen=True)
class Estimate:
    """What one estimate measured."""

    score: float
    """Higher is better; decides the stopping point."""
    columns: dict[str, float]
    """Figures for ``metrics.csv``."""
    line: str
    """The same in words for the terminal."""


@dataclass
class Progress:
    """What the loop knows beside the trainer's own state."""

    best_score: float = -math.inf
    best_t: int = 0
    without_best: int = 0
    """Estimates in a row without a new best that count for patience."""
    seconds: float = 0.0
    """Wall time spent in the loop, over all resumptions."""
    stuck_checks: int = 0
    history: list[dict[str, int | float]] = field(default_factory=list)
    """One row per estimate: update, epoch, seconds, rates, losses and the estimate's own columns."""


@dataclass(frozen=True)
class TrainerRecord:
    """The trainer's counters in a checkpoint."""

    t: int
    loss_count: int


@dataclass(frozen=True)
class CheckpointRecord:
    """The JSON record of ``checkpoint.safetensors``."""

    trainer: TrainerRecord
    progress: Progress
    identity: dict[str, Any]
    format: int


@dataclass(frozen=True)
class BestRecord:
    """The JSON record of ``best.safetensors``: the update and score of its weights, and whose they are."""

    t: int
    score: float
    identity: dict[str, Any] | None = None


class TrainingRun:
    """One training in a folder: its end, estimates, stopping point and checkpoints.

    Writes ``checkpoint.safetensors`` (to resume) and ``best.safetensors`` (G as sampled from and D at the best
    estimate) into ``folder``. ``identity`` (JSON-ready) goes with both; resuming refuses a checkpoint of another one.
    """

    def __init__(
        self,
        trainer: Trainer,
        settings: StoppingSettings,
        estimate: Callable[[Trainer], Estimate],
        folder: Path,
        *,
        identity: dict[str, Any],
        resume: bool = False,
        on_estimate: Callable[[Trainer, Estimate, Progress], object] = lambda trainer, measured, progress: None,
        checkpoint_seconds: float = 60.0,
    ) -> None:
        self.trainer, self.settings, self.estimate, self.folder = trainer, settings, estimate, folder
        self.identity, self.on_estimate, self.checkpoint_seconds = identity, on_estimate, checkpoint_seconds
        self.progress, self.path = Progress(), folder / "checkpoint.safetensors"
        if resume and self.path.exists():
            tensors, record = load_checkpoint(self.path)
            same_identity(record.identity, identity, self.path)
            trainer.load_state(tensors, record.trainer.t, record.trainer.loss_count, self.path)
            self.progress = record.progress
        self._started = time.monotonic() - self.progress.seconds
        self._saved = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether the stopping point is reached."""
        return self.trainer.t >= self.settings.max_updates or self.progress.without_best >= self.settings.patience

    def train(self, on_update: Callable[[Trainer], object] = lambda trainer: None) -> None:
        """Train to the stopping point. Raises ``Diverged``, or ``Interrupted`` after saving on a signal."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with collected_signals() as received:
            while not self.finished:
                self.trainer.step()
                on_update(self.trainer)
                self.after_update()
                if received:
                    self.checkpoint()
                    raise Interrupted

    def after_update(self) -> None:
        """Do what is due after an update: check the losses, estimate, save. Raises ``Diverged``."""
        t = self.trainer.t
        if t % CHECK_EVERY == 0:
            self._check_losses()
        if self.settings.due(t):
            self._make_estimate()
            self.checkpoint()
        elif time.monotonic() - self._saved > self.checkpoint_seconds:
            self.checkpoint()

    def _check_losses(self) -> None:
        """Raise ``Diverged`` if the mean losses show that one network has stopped learning for good."""
        d_loss, g_loss = self.trainer.losses()
        # For a D that takes a fake for real with probability 1 - STUCK_LOSS: -log D, or log(1 - D) if minimax.
        fooled = math.log(STUCK_LOSS) if self.trainer.settings.generator_loss == "minimax" else STUCK_LOSS
        winner = "D" if d_loss < STUCK_LOSS else "G" if g_loss < fooled else None
        self.progress.stuck_checks = self.progress.stuck_checks + 1 if winner else 0
        if self.progress.stuck_checks >= STUCK_CHECKS:
            raise Diverged(
                f"{winner} has won: the losses stayed at {d_loss:.1e} (D) and {g_loss:.3g} (G) for "
                f"{STUCK_CHECKS * CHECK_EVERY} updates; weaken it (dropout, smaller initial weights) or lower "
                "learning_rate"
            )

    def checkpoint(self) -> None:
        """Save everything that resuming needs."""
        self.progress.seconds = time.monotonic() - self._started
        tensors, counters = self.trainer.state()
        record = {"trainer": counters, "progress": vars(self.progress), "identity": self.identity}
        checkpoint.save(self.path, tensors, {**record, "format": CHECKPOINT_FORMAT})
        self._saved = time.monotonic()

    def _make_estimate(self) -> None:
        trainer, progress = self.trainer, self.progress
        d_loss, g_loss = trainer.losses()
        measured = self.estimate(trainer)
        if not math.isfinite(measured.score):
            raise Diverged(
                f"the estimate at update {trainer.t} is {measured.score}, so training diverged: lower learning_rate"
            )
        rate, momentum = trainer.rates()
        progress.seconds = time.monotonic() - self._started
        row = {"update": trainer.t, "epoch": trainer.epoch, "seconds": round(progress.seconds, 3)}
        row |= {"learning_rate": rate, **({"momentum": momentum} if trainer.settings.optimiser == "sgd" else {})}
        progress.history.append({**row, "d_loss": d_loss, "g_loss": g_loss, **measured.columns})
        trainer.reset_losses()
        if measured.score > progress.best_score or self.settings.keep == "last":
            progress.best_score, progress.best_t, progress.without_best = measured.score, trainer.t, 0
            weights = {f"G.{name}": value for name, value in trainer.sampler.state_dict().items()}
            weights |= {f"D.{name}": value for name, value in trainer.D.state_dict().items()}
            record = BestRecord(trainer.t, measured.score, self.identity)
            checkpoint.save(self.folder / "best.safetensors", weights, vars(record))
        elif trainer.t > self.settings.min_updates:
            progress.without_best += 1
        self.on_estimate(trainer, measured, progress)


def fit(
    trainer: Trainer,
    settings: StoppingSettings,
    estimate: Callable[[Trainer], Estimate],
    folder: Path,
    *,
    on_update: Callable[[Trainer], object] = lambda trainer: None,
    **options: Any,
) -> Progress:
    """Train to the stopping point in ``folder`` and return what the loop knows; ``options`` are ``TrainingRun``'s."""
    run = TrainingRun(trainer, settings, estimate, folder, **options)
    run.train(on_update)
    return run.progress


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], CheckpointRecord]:
    """Return tensors and record of a ``checkpoint.safetensors``; raises ``CganError`` if it cannot be resumed."""
    tensors, record = checkpoint.load(path)
    if record.get("format", 1) != CHECKPOINT_FORMAT:
        raise CganError(
            f"{path}: written by another version of this project, so it cannot be resumed: start a run of another name"
        )
    return tensors, checkpoint.convert(record, CheckpointRecord, path)


def load_best(path: Path) -> tuple[dict[str, Tensor], BestRecord]:
    """Return tensors (``G.*``, ``D.*``) and record of a ``best.safetensors``."""
    tensors, record = checkpoint.load(path)
    return tensors, checkpoint.convert(record, BestRecord, path)


def same_identity(found: dict[str, Any], expected: dict[str, Any], path: Path, within: str = "") -> None:
    """Raise ``CganError`` naming the first setting in which the run at ``path`` differs from what is asked for.

    Records within records are compared entry by entry; ``within`` is the name so far, such as ``settings.``.
    """
    for name in sorted({*found, *expected}):
        saved, wanted = found.get(name), expected.get(name)
        if isinstance(saved, dict) and isinstance(wanted, dict):
            same_identity(saved, wanted, path, f"{within}{name}.")
        elif saved != wanted:
            raise CganError(
                f"{path}: cannot resume with another {within}{name} (saved {saved!r}, now {wanted!r}): use the same "
                "settings, or start a run of another name"
            )


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list, so that an update is completed; a second one ends the process."""
    received: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        # Not the handler from before: a shell starts background jobs with SIGINT ignored, and a second one must end.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    with suppress(ValueError):  # Not the main thread: signals stay with whoever has them.
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT:  # nohup ignores SIGHUP.
                before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
