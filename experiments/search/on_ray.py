"""Run a search's trials by Ray Tune: on this machine, or on the cluster that ``RAY_ADDRESS`` names.

Ray places trials and restarts those whose process died; ``search.space`` chooses settings, ``search.trials`` stops
trials. Imported only where Ray is installed.
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
from experiments.search.trials import Trial, TrialRun, failure, trial_folder

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

#: Seconds between two reports of a trial; an interrupt waits for as long.
SLICE = 2.0
#: Times that a trial is restarted after its process died, before it is given up.
RESTARTS = 3
#: Bytes for Ray's object store, which nothing here uses; Ray takes no less.
STORE = 80 * 2**20


class SearchTrial(tune.Trainable):  # type: ignore[misc]
    """A trial in a process of its own. Errors of the trial are results; Ray handles the death of the process."""

    def setup(self, config: dict[str, Any]) -> None:
        """Open the trial that ``config`` names at its checkpoint."""
        self.number = config["number"]
        self.trial: TrialRun | None = None
        self.failed: tuple[str, str] | None = None
        folder = Path(config["folder"])
        try:
            self.trial = TrialRun(folder, self.number, Path(config["root"]), Path(config["cache"]))
        except Exception as error:
            self.failed = failure(error, trial_folder(folder, self.number))

    def step(self) -> dict[str, Any]:
        """Train for a while; return the update, all estimates if there is a new one, and how it ended if it did."""
        if self.trial is None:
            state, reason = self.failed or ("crashed", "it was over before")
            return {"number": self.number, "update": 0, "state": state, "reason": reason, "done": True}
        run = self.trial.run
        report: dict[str, Any] = {"number": self.number}
        try:
            if self.trial.advance(SLICE) or run.finished:
                report["history"] = run.progress.history
            if run.finished:
                report |= {"state": "finished", "reason": "", "done": True}
        except Exception as error:
            state, reason = failure(error, self.trial.folder)
            report |= {"history": run.progress.history, "state": state, "reason": reason, "done": True}
            self.trial = None
        return {**report, "update": run.trainer.t, "epoch": run.trainer.epoch}

    def cleanup(self) -> None:
        """Save before the process ends, or takes another trial."""
        if self.trial is not None:
            self.trial.leave()
            self.trial = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial in the same process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Do nothing: the trial's folder holds its checkpoint."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See ``save_checkpoint``."""


class Board:
    """The driver's state of all trials, updated from their reports."""

    def __init__(
        self,
        trials: list[Trial],
        propose: Callable[[list[Trial], int], Trial],
        wanted: int,
        stop_early: Callable[[Trial, list[Trial]], str | None],
        on_event: Callable[[str, Trial, dict[str, Any]], None],
    ) -> None:
        self.trials = {trial.number: trial for trial in trials}
        self.waiting = [trial.number for trial in trials if not trial.over]
        self.propose, self.wanted, self.stop_early, self.on_event = propose, wanted, stop_early, on_event
        self.interrupted = False

    @property
    def left(self) -> int:
        """Trials left to train: those not over, and those to come."""
        return len(self.waiting) + max(0, self.wanted - len(self.trials))

    def next(self) -> Trial | None:
        """Return the next trial to train: an interrupted one, else a new one; None after the last."""
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
        """Take a trial's report; return whether the trial is over, ended or stopped early."""
        trial = self.trials[result["number"]]
        if trial.over:
            return True
        history = result.get("history") or []
        new = len(history) > len(trial.history)
        if len(history) >= len(trial.history):
            trial.history = history
        if "state" in result:
            trial.end(result["state"], result["reason"])
            self.on_event("over", trial, result)
            return True
        if new:
            others = [other for other in self.trials.values() if other is not trial]
            reason = self.stop_early(trial, others)
            if reason is not None:
                trial.end("stopped", reason)
                self.on_event("over", trial, result)
                return True
        self.on_event("estimate" if new else "update", trial, result)
        return False

    def give_up(self, number: int, reason: str) -> None:
        """End a trial whose process died too often, or could not start."""
        trial = self.trials[number]
        if not trial.over:
            trial.end("crashed", reason)
            self.on_event("over", trial, {})


class Proposer(Searcher):  # type: ignore[misc]
    """Gives Ray the board's next trial. Stores nothing: the trials' folders do."""

    def __init__(self, board: Board, config: dict[str, Any]) -> None:
        super().__init__()
        self.board, self.config = board, config

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's number, with the folders."""
        trial = self.board.next()
        return Searcher.FINISHED if trial is None else {**self.config, "number": trial.number}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the board knows already."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the trials' folders hold everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


class Stopping(FIFOScheduler):  # type: ignore[misc]
    """Stops a trial when the board says so."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop or continue."""
        return str(TrialScheduler.STOP if self.board.take(result) else TrialScheduler.CONTINUE)


class Endings(tune.Callback):  # type: ignore[misc]
    """Tells the board of trials that end by themselves, or by the death of their process."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take a last result, which Ray does not pass to the scheduler."""
        if result.get("done"):
            self.board.take(result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Report that a process died and the trial continues in another."""
        self.board.on_event("died", self.board.trials[trial.config["number"]], {})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Give up a trial whose process died too often."""
        died = f"its process died {RESTARTS + 1} times (killed, out of memory, or a node that was lost)"
        self.board.give_up(trial.config["number"], died)


class Ending(tune.Stopper):  # type: ignore[misc]
    """Ends all trials on an interrupt."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped here."""
        return False

    def stop_all(self) -> bool:
        """Return whether the user has interrupted the search."""
        return self.board.interrupted


@contextmanager
def started(cpus: float, gpus: float) -> Iterator[float]:
    """Start Ray here, or join it at ``RAY_ADDRESS``; yield how many trials of that size fit at once.

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


def run_trials(board: Board, config: dict[str, Any], storage: Path, *, cpus: float, gpus: float, parallel: int) -> None:
    """Train the board's trials, ``parallel`` of them at once, to the end or until ``board.interrupted``.

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
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Endings(board)],
                stop=Ending(board),
            ),
        ).fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)


@contextmanager
def interrupts(board: Board) -> Iterator[None]:
    """Let trials save themselves on Ctrl-C and SIGTERM; a second signal ends at once."""
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
