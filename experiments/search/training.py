"""What a trial's process does: find the data again, build the net, train on from the checkpoint. Knows nothing of Ray.

Computes nothing on test data: validation data takes the place of the test data before anything is built.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cgan.devices import prepare_cpu, resolve_device
from cgan.loop import Diverged, Estimate, TrainingRun
from cgan.settings import StoppingSettings
from cgan.trainer import Trainer
from data.mnist import load_digit_images
from experiments import UsageError
from experiments.flickr_tags import __main__ as flickr_tags
from experiments.flickr_tags import dataset
from experiments.flickr_tags.evaluate import Estimator as TagEstimator
from experiments.flickr_tags.presets import FlickrConfig
from experiments.mnist import __main__ as mnist
from experiments.mnist.evaluate import Estimator, digit_classifier
from experiments.mnist.presets import MnistConfig
from experiments.runs import cli
from experiments.runs.files import write_text
from experiments.runs.folder import RunFolder
from experiments.runs.records import NUMERICS
from experiments.search.space import with_values
from experiments.search.trials import Places, State, read_plan, read_trial

Config = MnistConfig | FlickrConfig

TRACEBACK = "traceback.txt"


def open_trial(places: Places, number: int) -> TrainingRun:
    """Return a trial's training, at its checkpoint; raises ``UsageError`` if the data have changed since the start."""
    plan, folder = read_plan(places.folder), places.trial(number)
    values = read_trial(folder).values
    prepare_cpu(plan.threads)
    device = resolve_device(plan.device)
    config = with_values(plan.config, values)
    data, source, config = load_data(plan.asked, plan.dataset.images, config, places, plan.device, download=False)
    if source.checksum != plan.dataset.checksum:
        raise UsageError(
            f"{source.name}: the data are not those that the search started with; restore them, or use another --name"
        )
    estimator: Callable[[Trainer], Estimate]
    if isinstance(config, MnistConfig):
        (trainer,) = mnist.build(config, [plan.seed], data, device, plan.precision)
        estimator = Estimator(config, data, digit_classifier(data, places.folder), device)
    else:
        trainer = flickr_tags.build(config, data, plan.seed, plan.precision, device)
        estimator = TagEstimator(config, data, device)
    # At the same epochs in every trial, whatever its batch size.
    every = plan.estimate_epochs * trainer.updates_per_epoch
    updates = plan.epochs // plan.estimate_epochs * every
    return TrainingRun(
        trainer,
        StoppingSettings(updates, first_estimate=every, estimate_every=every, patience=1_000_000),
        estimator,
        folder,
        identity={"values": values, "dataset": plan.dataset.checksum, "seed": plan.seed, "numerics": NUMERICS},
        resume=True,
        on_estimate=lambda _, __, progress: RunFolder(folder).write_metrics(progress.history),
    )


def failure(error: Exception, folder: Path) -> tuple[State, str]:
    """Return the state and reason of a trial that raised ``error``; the traceback of a programming error is kept."""
    if isinstance(error, cli.USER_ERRORS):
        return "diverged" if isinstance(error, Diverged) else "crashed", cli.sentence(error)
    write_text(folder / TRACEBACK, "".join(traceback.format_exception(error)))
    return "crashed", f"{type(error).__name__}: {error} (see {TRACEBACK} in its folder)"


def load_data(
    name: str, images: int | None, config: Config, places: Places, device: str, download: bool = True
) -> tuple[Any, Any, Config]:
    """Return what the training command takes for ``--dataset name --images images``, with validation data as test data.

    Then follow its images or photos, which have a name and a checksum, and ``config`` with its network resolved. What
    is computed for photos is kept.
    """
    if isinstance(config, MnistConfig):
        digits = load_digit_images(name, places.root, download)  # type: ignore[arg-type]
        return replace(digits, test=digits.valid), digits, config
    command = flickr_tags.Command(config=config, dataset=name, images=images, runs=places.cache.parent)
    photos = flickr_tags.find_photos(command, places.root)
    config, network = dataset.resolve(config, photos, places.root)
    data = dataset.prepare(config, network, photos, places.root, places.cache, device=device, limit=images)
    return replace(data, splits=replace(data.splits, test=data.splits.valid)), photos, config
