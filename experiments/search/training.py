"""What a trial's process does: find the data again, build the net, train on from the checkpoint. Knows nothing of Ray.

Computes nothing on test data: validation data takes the place of the test data before anything is built.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cgan.settings import StoppingSettings
from experiments import UsageError
from experiments.flickr_tags.presets import FlickrConfig
from experiments.mnist.presets import MnistConfig
from experiments.runs import cli
from experiments.runs.files import write_text
from experiments.runs.folder import CHECKPOINT, RunFolder
from experiments.runs.records import NUMERICS, DatasetRecord
from experiments.search.space import with_values
from experiments.search.trials import Places, Plan, State, read_plan, read_trial

if TYPE_CHECKING:
    from cgan.loop import Estimate
    from cgan.trainer import Trainer

Config = MnistConfig | FlickrConfig

TRACEBACK = "traceback.txt"


class TrialRun:
    """A trial in training: opened at its checkpoint, advanced for some seconds at a time."""

    def __init__(self, places: Places, number: int) -> None:
        from cgan.devices import prepare_cpu
        from cgan.loop import TrainingRun

        plan = read_plan(places.folder)
        self.folder = places.trial(number)
        values = read_trial(self.folder).values
        config = with_values(plan.config, values)
        prepare_cpu(plan.threads)
        trainer, estimator = build(plan, config, places)
        # At the same epochs in every trial, whatever its batch size.
        every = plan.estimate_epochs * (trainer.training_set.count // config.training.batch_size)
        updates = plan.epochs // plan.estimate_epochs * every
        self.run = TrainingRun(
            trainer,
            StoppingSettings(updates, first_estimate=every, estimate_every=every, patience=1_000_000),
            estimator,
            self.folder,
            identity={"values": values, "dataset": plan.dataset.checksum, "seed": plan.seed, "numerics": NUMERICS},
            resume=True,
            on_estimate=lambda _, __, progress: RunFolder(self.folder).write_metrics(progress.history),
        )

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
        if read_trial(self.folder).state != "waiting":
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        elif not self.run.finished:
            self.run.checkpoint()


def failure(error: Exception, folder: Path) -> tuple[State, str]:
    """Return the state and reason of a trial that raised ``error``; the traceback of a programming error is kept."""
    from cgan.loop import Diverged

    if isinstance(error, cli.USER_ERRORS):
        return "diverged" if isinstance(error, Diverged) else "crashed", cli.sentence(error)
    write_text(folder / TRACEBACK, "".join(traceback.format_exception(error)))
    return "crashed", f"{type(error).__name__}: {error} (see {TRACEBACK} in its folder)"


def prepare(
    name: str, images: int | None, config: Config, places: Places, device: str
) -> tuple[DatasetRecord, str, str | None]:
    """Find the data set and compute what all trials share; return its record, ``Plan.asked``, and a notice about it."""
    data, source, _ = load_data(name, images, config, places, device)
    if isinstance(config, MnistConfig):
        from experiments.mnist.evaluate import digit_classifier

        digit_classifier(data, places.folder)
        asked = "digits" if source.embedded else "mnist"
    else:
        asked = "scenes" if source.embedded else source.name
        if asked not in ("scenes", "mirflickr", "flickr-mini"):
            asked = str(source.folder.absolute())
    record = DatasetRecord(name=source.name, embedded=source.embedded, checksum=source.checksum, images=images)
    return record, asked, source.notice


def build(plan: Plan, config: Config, places: Places) -> tuple[Trainer, Callable[[Trainer], Estimate]]:
    """Return trainer and estimator of a trial; raises ``UsageError`` if the data have changed since the start."""
    from cgan.devices import resolve_device
    from experiments.flickr_tags import __main__ as flickr_tags
    from experiments.flickr_tags.evaluate import Estimator as TagEstimator
    from experiments.mnist import __main__ as mnist
    from experiments.mnist.evaluate import Estimator, digit_classifier

    device = resolve_device(plan.device)
    data, source, config = load_data(plan.asked, plan.dataset.images, config, places, plan.device, download=False)
    if source.checksum != plan.dataset.checksum:
        raise UsageError(
            f"{source.name}: the data are not those that the search started with; restore them, or use another --name"
        )
    if isinstance(config, MnistConfig):
        data = replace(data, test=data.valid)
        (trainer,) = mnist.build(config, [plan.seed], data, device, plan.precision)
        return trainer, Estimator(config, data, digit_classifier(data, places.folder), device)
    data = replace(data, splits=replace(data.splits, test=data.splits.valid))
    return flickr_tags.build(config, data, plan.seed, plan.precision, device), TagEstimator(config, data, device)


def load_data(
    name: str, images: int | None, config: Config, places: Places, device: str, download: bool = True
) -> tuple[Any, Any, Config]:
    """Return what the training command takes for ``--dataset name --images images``, and its images or photos.

    That is twice the same for MNIST. What is computed for photos is kept. Last comes ``config``, its network resolved.
    """
    if isinstance(config, MnistConfig):
        from data.mnist import load_digit_images

        digits = load_digit_images(name, places.root, download)  # type: ignore[arg-type]
        return digits, digits, config
    from experiments.flickr_tags import __main__ as flickr_tags
    from experiments.flickr_tags import dataset

    command = flickr_tags.Command(config=config, dataset=name, images=images, runs=places.cache.parent)
    photos = flickr_tags.find_photos(command, places.root)
    config = dataset.resolve(config, photos, places.root)
    return dataset.prepare(config, photos, places.root, places.cache, device=device, limit=images), photos, config
