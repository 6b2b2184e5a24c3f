"""A search's trials on Ray Tune: on this machine, or on the cluster that ``RAY_ADDRESS`` names.

Ray decides who plays which trial where, and begins again what died; what is chosen, kept and stopped is decided by
``experiments.search_space`` and ``experiments.search_trials``. Imported only where Ray is installed.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments import UsageError
from experiments.runs import engines
from experiments.search.trials import Player, Trial, failure, trial_folder

#: Ray reads these when it is imported or started: no loggers, no advice, no niceness of its own.
QUIET = {
    **engines.QUIET,
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

#: Seconds between two words of a trial at work; what an interrupt waits for.
SLICE = 2.0
#: Times that a trial goes on after its process died, before it is given up.
LIVES = 3
#: Bytes for Ray's object store, which nothing here uses; Ray takes no less.
STORE = 80 * 2**20


class SearchTrial(tune.Trainable):  # type: ignore[misc]
    """A trial in a process of its own. Errors of the trial are results; only a death of the process is Ray's matter."""

    def setup(self, config: dict[str, Any]) -> None:
        """Open the trial that ``config`` names, where its folder says it stands."""
        self.number = config["number"]
        self.player: Player | None = None
        self.failed: tuple[str, str] | None = None
        folder = Path(config["folder"])
        try:
            self.player = Player(folder, self.number, Path(config["root"]), Path(config["cache"]))
        except Exception as error:
            self.failed = failure(error, trial_folder(folder, self.number))

    def step(self) -> dict[str, Any]:
        """Train for a while: where it is, all estimates if there is a new one, and how it ended if it did."""
        if self.player is None:
            state, reason = self.failed or ("crashed", "it was over before")
            return {"number": self.number, "update": 0, "state": state, "reason": reason, "done": True}
        run = self.player.run
        said: dict[str, Any] = {"number": self.number}
        try:
            if self.player.advance(SLICE) or run.finished:
                said["history"] = run.progress.history
            if run.finished:
                said |= {"state": "finished", "reason": "", "done": True}
        except Exception as error:
            state, reason = failure(error, self.player.folder)
            said |= {"history": run.progress.history, "state": state, "reason": reason, "done": True}
            self.player = None
        return {**said, "update": run.trainer.t, "epoch": run.trainer.epoch}

    def cleanup(self) -> None:
        """Save before the process ends, or plays another trial."""
        if self.player is not None:
            self.player.leave()
            self.player = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Play another trial in the same process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Ray to keep: the trial's folder has it."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See ``save_checkpoint``."""


class Board:
    """What the driver knows of all trials, and what it does as Ray tells of them."""

    def __init__(
        self,
        trials: list[Trial],
        propose: Callable[[list[Trial], int], Trial],
        wanted: int,
        judge: Callable[[Trial, list[Trial]], str | None],
        tell: Callable[[str, Trial, dict[str, Any]], None],
    ) -> None:
        self.trials = {trial.number: trial for trial in trials}
        self.waiting = [trial.number for trial in trials if not trial.over]
        self.propose, self.wanted, self.judge, self.tell = propose, wanted, judge, tell
        self.interrupted = False

    @property
    def left(self) -> int:
        """Trials to play: those not over, and those to come."""
        return len(self.waiting) + max(0, self.wanted - len(self.trials))

    def next(self) -> Trial | None:
        """The next trial to play: one that was interrupted, else a new one; None after the last."""
        if self.interrupted:
            return None
        if self.waiting:
            return self.trials[self.waiting.pop(0)]
        if len(self.trials) >= self.wanted:
            return None
        number = max(self.trials, default=0) + 1
        self.trials[number] = self.propose(list(self.trials.values()), number)
        return self.trials[number]

    def take(self, result: dict[str, Any]) -> bool:
        """Note what a trial tells; whether it is over, by its own word or because it is hopeless."""
        trial = self.trials[result["number"]]
        if trial.over:
            return True
        history = result.get("history") or []
        news = len(history) > len(trial.history)
        if len(history) >= len(trial.history):
            trial.history = history
        if "state" in result:
            trial.end(result["state"], result["reason"])
            self.tell("over", trial, result)
            return True
        if news:
            others = [other for other in self.trials.values() if other is not trial]
            reason = self.judge(trial, others)
            if reason is not None:
                trial.end("stopped", reason)
                self.tell("over", trial, result)
                return True
        self.tell("estimate" if news else "update", trial, result)
        return False

    def give_up(self, number: int, reason: str) -> None:
        """A trial whose process died too often, or could not be begun."""
        trial = self.trials[number]
        if not trial.over:
            trial.end("crashed", reason)
            self.tell("over", trial, {})


class Proposer(Searcher):  # type: ignore[misc]
    """Ray's way to ask the board for the next trial. Keeps nothing: the trials' folders do."""

    def __init__(self, board: Board, config: dict[str, Any]) -> None:
        super().__init__()
        self.board, self.config = board, config

    def suggest(self, trial_id: str) -> Any:
        """The trial's number, with where all lies."""
        trial = self.board.next()
        return Searcher.FINISHED if trial is None else {**self.config, "number": trial.number}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The board knows already."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class Stopping(FIFOScheduler):  # type: ignore[misc]
    """Ray's way to ask the board whether a trial goes on."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop or continue."""
        return str(TrialScheduler.STOP if self.board.take(result) else TrialScheduler.CONTINUE)


class Endings(tune.Callback):  # type: ignore[misc]
    """Ray's way to tell the board of trials that end by themselves, or by the death of their process."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Ray asks no scheduler about a result that is the last."""
        if result.get("done"):
            self.board.take(result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A process died, and the trial goes on in another."""
        self.board.tell("died", self.board.trials[trial.config["number"]], {})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It died once too often."""
        died = f"its process died {LIVES + 1} times (killed, out of memory, or a node that was lost)"
        self.board.give_up(trial.config["number"], died)


class Ending(tune.Stopper):  # type: ignore[misc]
    """Ray's way to learn of an interrupt."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped here."""
        return False

    def stop_all(self) -> bool:
        """Whether the user wants to end."""
        return self.board.interrupted


@contextmanager
def started(cpus: float, gpus: float) -> Iterator[float]:
    """Ray, started on this machine or joined at ``RAY_ADDRESS``; yields how many trials of that size fit at once.

    Raises ``UsageError`` when the cluster does not answer, or none fits.
    """
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with engines.cluster("try again", num_cpus=os.cpu_count(), object_store_memory=STORE):
        there = ray.cluster_resources()
        room = [there.get(kind, 0.0) / asked for kind, asked in (("CPU", cpus), ("GPU", gpus)) if asked]
        fitting = min(room, default=1.0)
        if fitting < 1:
            raise UsageError(
                f"a trial is to have {cpus:g} cores and {gpus:g} GPUs, but there are {there.get('CPU', 0):g} and "
                f"{there.get('GPU', 0):g}: lower --cpus-per-trial or --gpus-per-trial"
            )
        yield fitting


def play(board: Board, config: dict[str, Any], storage: Path, *, cpus: float, gpus: float, parallel: int) -> None:
    """Play the board's trials, ``parallel`` of them at once, to the end or until ``board.interrupted``.

    ``config`` says to each trial where all lies; ``storage`` is a folder for Ray's own notes, empty before and after.
    """
    shutil.rmtree(storage, ignore_errors=True)
    try:
        tune.Tuner(
            tune.with_resources(SearchTrial, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=Proposer(board, config),
                scheduler=Stopping(board),
                num_samples=board.left,
                max_concurrent_trials=parallel,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: f"{trial.config['number']:04d}",
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(storage),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=LIVES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Endings(board)],
                stop=Ending(board),
            ),
        ).fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)


@contextmanager
def interrupts(board: Board) -> Iterator[None]:
    """Ctrl-C and SIGTERM let the trials save themselves; a second one ends at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: object) -> None:
        board.interrupted = True
        signal.signal(number, signal.default_int_handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
