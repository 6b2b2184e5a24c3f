"""The trials of a search: their folders, how each continues from its checkpoint, and when one is stopped early.

Knows nothing of Ray (``search.on_ray``). Never computes anything on test data.
"""

from __future__ import annotations

import csv
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cgan import CganError
from cgan.settings import StoppingSettings
from experiments import UsageError
from experiments.flickr_tags.presets import FlickrConfig
from experiments.mnist.presets import MnistConfig
from experiments.runs import cli
from experiments.runs.files import read_record, write_json, write_text
from experiments.runs.folder import CHECKPOINT, METRICS, SEARCH, RunFolder, identity
from experiments.runs.records import NUMERICS, DatasetRecord, RunConfig
from experiments.search.space import Searcher, Seen, with_values

if TYPE_CHECKING:
    from cgan.trainer import Estimate, Progress, Trainer, TrainingRun
    from data.mirflickr import TaggedPhotos
    from experiments.flickr_tags.dataset import FlickrData

#: Files of a search's folder, and of a trial's within it beside a run's own.
TRIALS, TRIAL, OUTCOME, TRACEBACK = "trials", "trial.json", "outcome.json", "traceback.txt"

#: What a trial's score is, by experiment: the column of ``metrics.csv``, in words, and its unit.
OBJECTIVES = {
    "mnist": ("valid_log_likelihood", "validation log-likelihood", "nats"),
    "flickr-tags": ("valid_average_precision", "validation mean average precision", ""),
}
CONFIGS: dict[str, type[MnistConfig] | type[FlickrConfig]] = {"mnist": MnistConfig, "flickr-tags": FlickrConfig}

#: waiting: not started, or interrupted; the rest are over. crashed: an error in the program or on the machine.
State = Literal["waiting", "finished", "stopped", "diverged", "crashed"]

#: Other trials that must have come as far before a trial may be stopped early.
ENOUGH = 3


@dataclass(frozen=True)
class Plan:
    """What all trials of a search share; ``search.json`` holds it."""

    experiment: Literal["mnist", "flickr-tags"]
    preset: str
    settings: dict[str, Any]
    """The preset's own."""
    space: dict[str, Any]
    searcher: Searcher
    seed: int
    """Of the searcher, and of every trial's training."""
    epochs: int
    grace_epochs: int
    estimate_epochs: int
    keep: float
    dataset: dict[str, Any]
    """Name, embedded, checksum; of photos also how many were asked for."""
    device: str
    precision: str
    threads: int

    @property
    def config(self) -> MnistConfig | FlickrConfig:
        """The preset."""
        return CONFIGS[self.experiment].from_dict(self.settings)

    @property
    def estimates(self) -> int:
        """Estimates of a trial that is not stopped."""
        return self.epochs // self.estimate_epochs

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """Read the plan of the search in ``folder``; raises ``UsageError`` naming the file if it is damaged."""
        path = folder / SEARCH
        fix = "restore it, or search with another --name"
        plan = read_record(path, cls, missing="give the name of a search", fix=fix)
        try:
            plan.config  # noqa: B018 - raises on what is no preset
        except (CganError, UsageError) as error:
            raise UsageError(f"{path}: {error}; {fix}") from None
        return plan

    def write(self, folder: Path, sessions: Sequence[Mapping[str, Any]]) -> None:
        """Write ``search.json``; ``sessions`` says when, how and with what it was started and resumed."""
        write_json(folder / SEARCH, {**asdict(self), "sessions": list(sessions)})


FIX = "restore it, or delete the trial's folder"


@dataclass(frozen=True)
class TrialRecord:
    """The form of ``trial.json``."""

    number: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The form of ``outcome.json``."""

    state: State
    reason: str


@dataclass
class Trial:
    """One trial as its folder has it."""

    number: int
    folder: Path
    values: dict[str, Any]
    state: State = "waiting"
    reason: str = ""
    history: list[dict[str, float]] = field(default_factory=list)
    """A row for each estimate, as in ``metrics.csv``."""

    def scores(self, experiment: str) -> list[float]:
        """Return the score of each estimate."""
        return [row[OBJECTIVES[experiment][0]] for row in self.history]

    def bests(self, experiment: str) -> list[float]:
        """Return the best score up to each estimate."""
        scores = self.scores(experiment)
        return [max(scores[: i + 1]) for i in range(len(scores))]

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.state != "waiting"

    def end(self, state: State, reason: str) -> None:
        """Write how the trial ended; remove what only resuming would need."""
        self.state, self.reason = state, " ".join(reason.split())
        write_json(self.folder / OUTCOME, {"state": self.state, "reason": self.reason})
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


def trial_folder(folder: Path, number: int) -> Path:
    """Return the folder of a search's trial."""
    return folder / TRIALS / f"{number:04d}"


def start(folder: Path, number: int, values: Mapping[str, Any]) -> Trial:
    """Start a trial of the search in ``folder``: write its settings."""
    place = trial_folder(folder, number)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / TRIAL, {"number": number, "values": dict(values)})
    return Trial(number, place, dict(values))


def read_trials(folder: Path) -> list[Trial]:
    """Return all trials of the search in ``folder``, in order; raises ``UsageError`` naming a damaged file."""
    trials = []
    for path in sorted((folder / TRIALS).glob(f"*/{TRIAL}")):
        record = read_record(path, TrialRecord, fix=FIX)
        trial = Trial(record.number, path.parent, record.values, history=read_history(path.parent))
        if path.with_name(OUTCOME).exists():
            outcome = read_record(path.with_name(OUTCOME), Outcome, fix=FIX)
            trial.state, trial.reason = outcome.state, outcome.reason
        trials.append(trial)
    return sorted(trials, key=lambda trial: trial.number)


def read_history(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a trial's ``metrics.csv``, none if there is none yet."""
    try:
        with open(folder / METRICS, encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):
        raise UsageError(f"{folder / METRICS}: not a table of estimates; {FIX}") from None


def seen(trials: Sequence[Trial], experiment: str) -> list[Seen]:
    """Return the trials in the form the proposals need."""
    return [Seen(trial.values, trial.bests(experiment), trial.state) for trial in trials]


def winner(trials: Sequence[Trial], experiment: str) -> Trial | None:
    """Return the trial of the best score among those that did not diverge; None while there is none."""
    able = [trial for trial in trials if trial.history and trial.state not in ("diverged", "crashed")]
    return max(able, key=lambda trial: trial.bests(experiment)[-1], default=None)


# ---------------------------------------------------------------------------------------------------------------------
# Stopping


def stopping_bar(mine: Sequence[float], others: Sequence[Sequence[float]], grace: int, keep: float) -> float | None:
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


# ---------------------------------------------------------------------------------------------------------------------
# Training one


def stopping_of(plan: Plan, batch_size: int, examples: int) -> StoppingSettings:
    """Return stopping settings with estimates at the same epochs in every trial, whatever its batch size."""
    updates = examples // batch_size
    return StoppingSettings(
        max_updates=plan.estimates * plan.estimate_epochs * updates,
        first_estimate=plan.estimate_epochs * updates,
        estimate_every=plan.estimate_epochs * updates,
        patience=1_000_000,
    )


class TrialRun:
    """A trial in training: opened at its checkpoint, advanced for some seconds at a time."""

    def __init__(self, folder: Path, number: int, root: Path, cache: Path) -> None:
        """Of the search in ``folder``; the data lie under ``root``, features and word vectors in ``cache``."""
        from cgan.devices import prepare_cpu
        from cgan.trainer import TrainingRun

        plan = Plan.read(folder)
        place = trial_folder(folder, number)
        values = read_record(place / TRIAL, TrialRecord, fix=FIX).values
        config = with_values(plan.config, values)
        prepare_cpu(plan.threads)
        opening = open_mnist if isinstance(config, MnistConfig) else open_flickr
        trainer, estimator = opening(plan, config, place, root, cache)  # type: ignore[arg-type]
        stopping = stopping_of(plan, config.training.batch_size, trainer.training_set.count)
        record = RunConfig(
            experiment=plan.experiment,
            preset=plan.preset,
            dataset=DatasetRecord(**{name: plan.dataset[name] for name in ("name", "embedded", "checksum")}),
            seed=plan.seed,
            settings=replace(config, stopping=stopping).as_dict(),
            device=plan.device,
            precision=plan.precision,  # type: ignore[arg-type]
            numerics=NUMERICS,
        )
        self.folder, self.number = place, number
        self.run: TrainingRun = TrainingRun(
            trainer,
            stopping,
            estimator,
            place,
            identity=identity(record),
            resume=True,
            on_estimate=self._keep,
        )

    def _keep(self, trainer: Trainer, measured: Estimate, progress: Progress) -> None:
        RunFolder(self.folder).write_metrics(progress.history)

    def advance(self, seconds: float) -> bool:
        """Train for about so many seconds, or to the next estimate; whether one was made. Raises ``Diverged``."""
        run, until = self.run, time.monotonic() + seconds
        before = len(run.progress.history)
        while not run.finished and len(run.progress.history) == before and time.monotonic() < until:
            run.trainer.step()
            run.after_update()
        return len(run.progress.history) > before

    def leave(self) -> None:
        """Save, unless the trial is over."""
        if (self.folder / OUTCOME).exists():
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        elif not self.run.finished:
            self.run.checkpoint()


def failure(error: Exception, folder: Path) -> tuple[State, str]:
    """Return the state and reason of a trial that raised ``error``; the traceback of a programming error is kept."""
    from cgan.trainer import Diverged

    if isinstance(error, Diverged):
        return "diverged", str(error)
    if isinstance(error, cli.USER_ERRORS):
        return "crashed", cli.sentence(error)
    write_text(folder / TRACEBACK, "".join(traceback.format_exception(error)))
    return "crashed", f"{type(error).__name__}: {error} (see {TRACEBACK} in its folder)"


def open_mnist(plan: Plan, config: MnistConfig, place: Path, root: Path, cache: Path) -> tuple[Trainer, Any]:
    """Return trainer and estimator of an MNIST trial; validation images take the place of the test images."""
    from cgan.devices import resolve_device
    from data.mnist import load_digit_images
    from experiments.mnist import __main__ as mnist
    from experiments.mnist.evaluate import Estimator, digit_classifier

    dataset = load_digit_images("digits" if plan.dataset["embedded"] else "mnist", root, download=False)
    _same_data(dataset.checksum, plan)
    dataset = replace(dataset, test=dataset.valid)
    device = resolve_device(plan.device)
    (trainer,) = mnist.build(config, [plan.seed], dataset, device, plan.precision)  # type: ignore[arg-type]
    # Kept beside the trials, and trained before the first of them.
    classifier = digit_classifier(dataset, place.parent.parent)
    return trainer, Estimator(config, dataset, classifier, device)


def open_flickr(plan: Plan, config: FlickrConfig, place: Path, root: Path, cache: Path) -> tuple[Trainer, Any]:
    """Return trainer and estimator of a Flickr trial; validation photos take the place of the test photos."""
    from cgan.devices import resolve_device
    from experiments.flickr_tags import __main__ as flickr_tags
    from experiments.flickr_tags.evaluate import Estimator

    photos = find_photos(config, plan.dataset["asked"], plan.dataset["images"], root, cache)
    _same_data(photos.checksum, plan)
    data = prepare_photos(config, photos, plan.dataset["images"], plan.device, root, cache)
    data = replace(data, splits=replace(data.splits, test=data.splits.valid))
    device = resolve_device(plan.device)
    trainer = flickr_tags.build(config, data, plan.seed, plan.precision, device)  # type: ignore[arg-type]
    return trainer, Estimator(config, data, device)


def find_photos(config: FlickrConfig, name: str, images: int | None, root: Path, cache: Path) -> TaggedPhotos:
    """Find the photos that ``experiments.flickr_tags --dataset name --images images`` takes."""
    from experiments.flickr_tags import __main__ as flickr_tags

    return flickr_tags.find_photos(
        flickr_tags.Command(config=config, dataset=name, images=images, runs=cache.parent), root
    )


def prepare_photos(
    config: FlickrConfig, photos: TaggedPhotos, images: int | None, device: str, root: Path, cache: Path
) -> FlickrData:
    """Return features, words and pairs, kept in ``cache`` for all trials."""
    from experiments.flickr_tags.dataset import prepare, resolve_features

    found = replace(config, features=resolve_features(config.features, photos, root))
    return prepare(found, photos, root, cache, device=device, limit=images)


def _same_data(checksum: str, plan: Plan) -> None:
    if checksum != plan.dataset["checksum"]:
        raise UsageError(
            f"{plan.dataset['name']}: the data are not those that the search started with; restore them, or use "
            "another --name"
        )
