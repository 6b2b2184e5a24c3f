"""The records of a search: its plan, its trials' folders, and the rule that stops a trial early. Trains nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from experiments import UsageError
from experiments.flickr_tags.presets import FlickrConfig
from experiments.mnist.presets import MnistConfig
from experiments.runs.files import read_record, write_json
from experiments.runs.folder import CHECKPOINT, METRICS, SEARCH, Experiment, RunFolder
from experiments.runs.records import DatasetRecord, Session, Text

Searcher = Literal["random", "tpe"]

#: waiting: not started, or interrupted; the rest are over. crashed: an error in the program or on the machine.
State = Literal["waiting", "finished", "stopped", "diverged", "crashed"]
FAILED = ("diverged", "crashed")

#: What a trial's score is, by experiment: the column of ``metrics.csv``, in words, and its unit.
OBJECTIVES = {
    "mnist": ("valid_log_likelihood", "validation log-likelihood", "nats"),
    "flickr-tags": ("valid_average_precision", "validation mean average precision", ""),
}
COLUMNS = tuple(column for column, _, _ in OBJECTIVES.values())

#: Other trials that must have come as far before a trial may be stopped early.
ENOUGH = 3


@dataclass(frozen=True)
class Places:
    """Absolute paths: the search's own folder, the data root, and the cache that all runs share."""

    folder: Path
    root: Path
    cache: Path

    def trial(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all trials of a search share: the form of ``search.json``."""

    experiment: Experiment
    preset: Text
    settings: dict[str, Any]  # The preset's own.
    space: dict[str, Any]  # In the form of a space's file.
    searcher: Searcher
    seed: int  # Of the proposals, and of every trial's training.
    epochs: int
    grace_epochs: int
    estimate_epochs: int
    keep: float
    measured_on: Literal["validation data"] = "validation data"  # No trial computes anything on test data.
    dataset: DatasetRecord
    asked: Text  # What the training command's ``--dataset`` takes for it; never auto.
    device: Text
    precision: Literal["float32", "bfloat16"]
    threads: int
    sessions: list[Session] = field(default_factory=list)

    @property
    def config(self) -> MnistConfig | FlickrConfig:
        """The preset."""
        return (MnistConfig if self.experiment == "mnist" else FlickrConfig).from_dict(self.settings)

    def score_text(self, score: float) -> str:
        """Return a score in words, with its unit."""
        _, words, unit = OBJECTIVES[self.experiment]
        return f"{words} {score:.4g} {unit}".strip()


@dataclass
class TrialRecord:
    """The form of ``trial.json``."""

    number: int
    values: dict[str, Any]
    state: State = "waiting"
    reason: str = ""


@dataclass
class Trial:
    """One trial: its folder, what its ``trial.json`` holds, and a row for each estimate, as in ``metrics.csv``."""

    folder: Path
    record: TrialRecord
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.record.state != "waiting"

    @property
    def bests(self) -> list[float]:
        """The best score up to each estimate."""
        return list(accumulate(map(score, self.history), max))

    def write(self) -> None:
        """Write ``trial.json``; once the trial is over, remove what only resuming would need."""
        write_json(self.folder / "trial.json", self.record)
        if self.over:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)


def score(row: Mapping[str, float]) -> float:
    """Return the score of an estimate."""
    return next(row[column] for column in COLUMNS if column in row)


def read_plan(folder: Path) -> Plan:
    """Return the plan of a search's folder; raises ``UsageError`` naming the file if it is damaged."""
    return read_record(folder / SEARCH, Plan, fix="restore it, or search with another --name")


def read_trial(folder: Path) -> TrialRecord:
    """Return the record in a trial's folder; raises ``UsageError`` naming the file if it is damaged."""
    return read_record(folder / "trial.json", TrialRecord, fix="restore it, or delete the trial's folder")


def read_trials(places: Places) -> dict[int, Trial]:
    """Return all trials of a search by number; raises ``UsageError`` naming a damaged file."""
    trials = {}
    for folder in sorted(path.parent for path in places.folder.glob("trials/*/trial.json")):
        record, rows = read_trial(folder), RunFolder(folder).read_metrics()
        if len(rows) and ({"epoch", "seconds"} - set(rows) or not set(COLUMNS) & set(rows)):
            raise UsageError(f"{folder / METRICS}: not a table of estimates; delete the trial's folder")
        trials[record.number] = Trial(folder, record, rows.to_dict("records"))  # type: ignore[arg-type]
    return trials


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials, the best first; last those without a score, and those that diverged or crashed."""
    return sorted(trials, key=lambda trial: (trial.record.state in FAILED, -max([float("-inf"), *trial.bests])))


def winner(trials: Iterable[Trial]) -> Trial | None:
    """Return the best trial; None while there is none with a score that did not fail."""
    able = [trial for trial in trials if trial.history and trial.record.state not in FAILED]
    return ranked(able)[0] if able else None


def stopping_bar(mine: Sequence[float], others: Iterable[Sequence[float]], grace: int, keep: float) -> float | None:
    """Return the score that the others had, if this trial is below it and should be stopped; None if it may go on.

    ``mine`` is its best score up to each estimate, ``others`` those of the other trials: at the same number of
    estimates, the bar is the score that a share ``keep`` of them had passed (0.5: the median, Golovin et al. 2017). No
    trial is stopped within the first ``grace`` estimates, or before ``ENOUGH`` others have come as far.
    """
    import numpy as np

    k = len(mine)
    there = [bests[k - 1] for bests in others if len(bests) >= k]
    if k < max(grace, 1) or len(there) < ENOUGH:
        return None
    bar = float(np.quantile(there, 1 - keep))
    return bar if mine[-1] < bar else None
