"""Run a search's trials by Ray Tune: on this machine, or on the cluster that ``RAY_ADDRESS`` names.

Ray places trials and restarts those whose process died; ``Search`` decides which trial is next and which is stopped.
Nothing is computed on test data: validation data takes its place before anything is built.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cgan.devices import prepare_cpu, resolve_device
from cgan.loop import Diverged, Estimate, TrainingRun, collected_signals
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
from experiments.runs import cli, engines
from experiments.runs.files import write_text
from experiments.runs.folder import CHECKPOINT, RunFolder
from experiments.runs.records import NUMERICS
from experiments.search import trials
from experiments.search.space import Space, propose, with_values
from experiments.search.summary import write_summary
from experiments.search.trials import Places, Plan, State, Trial, TrialRecord, score

#: Ray reads these when it is imported or started: no loggers, no advice, no niceness of its own.
engines.set_environment(
    RAY_DISABLE_IMPORT_WARNING="1",
    RAY_worker_niceness="0",
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_PRINT_ALL_TRIAL_ERRORS="0",
    TUNE_GLOBAL_CHECKPOINT_S="3600",
    RAY_AIR_NEW_OUTPUT="0",
)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

Config = MnistConfig | FlickrConfig

#: Seconds between two reports of a trial; an interrupt waits for as long.
SLICE = 2.0
#: Times that a trial is restarted after its process died, before it is given up.
RESTARTS = 3
#: Bytes for Ray's object store, which nothing here uses; Ray takes no less.
STORE = 80 * 2**20


def open_trial(places: Places, number: int) -> TrainingRun:
    """Return a trial's training, at its checkpoint; raises ``UsageError`` if the data have changed since the start."""
    plan, folder = trials.read_plan(places.folder), places.trial(number)
    values = trials.read_trial(folder).values
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


class SearchTrial(tune.Trainable):  # type: ignore[misc]
    """A trial in a process of its own. Errors of the trial are results; Ray handles the death of the process."""

    def setup(self, config: dict[str, Any]) -> None:
        """Open the trial that ``config`` names at its checkpoint."""
        self.folder = config["places"].trial(config["number"])
        self.training: TrainingRun | None = None
        self.end: dict[str, Any] = {}
        try:
            self.training = open_trial(config["places"], config["number"])
        except Exception as error:
            self._fail(error)

    def step(self) -> dict[str, Any]:
        """Train for a while; return the epoch, all estimates if there is a new one, and how it ended if it did."""
        if self.training is None:
            return self.end
        training, until = self.training, time.monotonic() + SLICE
        before = len(training.progress.history)
        try:
            while not training.finished and len(training.progress.history) == before and time.monotonic() < until:
                training.trainer.step()
                training.after_update()
            if training.finished:
                self._end("finished", "")
        except Exception as error:
            self._fail(error)
        history = training.progress.history
        new = {"history": history} if len(history) > before or self.end else {}
        return {"epoch": training.trainer.epoch, **new, **self.end}

    def _end(self, state: State, reason: str) -> None:
        self.training, self.end = None, {"state": state, "reason": reason, "done": True}

    def _fail(self, error: Exception) -> None:
        """End as diverged or crashed; the traceback of a programming error is kept."""
        if isinstance(error, cli.USER_ERRORS):
            self._end("diverged" if isinstance(error, Diverged) else "crashed", cli.sentence(error))
        else:
            write_text(self.folder / "traceback.txt", "".join(traceback.format_exception(error)))
            self._end("crashed", f"{type(error).__name__}: {error} (see traceback.txt in its folder)")

    def cleanup(self) -> None:
        """Save before the process ends, or takes another trial, unless the trial is over."""
        if self.training is None:
            return
        if trials.read_trial(self.folder).state != "waiting":
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        elif not self.training.finished:
            self.training.checkpoint()

    def reset_config(self, new_config: dict[str, Any]) -> bool:  # Another trial in the same process.
        self.cleanup()
        self.setup(new_config)
        return True


class Search(Searcher):  # type: ignore[misc]
    """All trials of a search, updated from their reports. Gives Ray the next trial, and says which is over."""

    def __init__(self, plan: Plan, space: Space, places: Places, wanted: int, notice: str | None) -> None:
        super().__init__()
        self.plan, self.space, self.places, self.wanted, self.notice = plan, space, places, wanted, notice
        self.trials = trials.read_trials(places)
        propose(space, self.trials.values(), plan.searcher, plan.seed, 0)  # Or damaged ones would end it in the middle.
        self.waiting = [number for number, trial in self.trials.items() if not trial.over]
        #: Of Ray's trials, by its own names for them.
        self.numbers: dict[str, int] = {}
        #: Signals that arrived: the trials then end, and save themselves.
        self.received: list[int] = []

    @property
    def left(self) -> int:
        """Trials left to train: those not over, and those to come."""
        return sum(not trial.over for trial in self.trials.values()) + max(0, self.wanted - len(self.trials))

    def suggest(self, trial_id: str) -> Any:
        """Return what ``SearchTrial`` needs of the next trial: an interrupted one, else a new one."""
        if self.received or not (self.waiting or len(self.trials) < self.wanted):
            return Searcher.FINISHED
        if self.waiting:
            number = self.waiting.pop(0)
        else:
            plan, number = self.plan, max(self.trials, default=0) + 1
            values = propose(self.space, self.trials.values(), plan.searcher, plan.seed, number)
            self.trials[number] = Trial(self.places.trial(number), TrialRecord(number, values))
            self.trials[number].write()
        self.numbers[trial_id] = number
        return {"number": number, "places": self.places}

    def take(self, trial_id: str, report: Mapping[Any, Any]) -> bool:
        """Take a trial's report; return whether it ends, by itself, by the rule or by the user's interrupt."""
        plan, trial, history = self.plan, self.trials[self.numbers[trial_id]], report.get("history", [])
        new = len(history) > len(trial.history)
        if new:
            trial.history = history
        if "state" in report:
            self.end(trial, report["state"], report["reason"])
        elif new:
            mine = trial.bests
            others = [other.bests for other in self.trials.values() if other is not trial]
            bar = trials.stopping_bar(mine, others, plan.grace_epochs // plan.estimate_epochs, plan.keep)
            if bar is None or len(mine) >= plan.epochs // plan.estimate_epochs:
                self.show(trial)
            else:
                best, epoch = f"{mine[-1]:.4g}", f"{history[-1]['epoch']:g}"
                self.end(trial, "stopped", f"{best} by epoch {epoch}, below the {bar:.4g} that the others had")
        elif report["iterations_since_restore"] == 1:  # The first report of a process.
            self.show(trial, f"trains from epoch {report['epoch']:.1f}")
        return trial.over or bool(self.received)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Give up a trial whose process died too often."""
        if error:
            reason = f"its process died {RESTARTS + 1} times (killed, out of memory, or a node that was lost)"
            self.end(self.trials[self.numbers[trial_id]], "crashed", reason)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the trials' folders hold everything."""

    def end(self, trial: Trial, state: State, reason: str) -> None:
        """End a trial, and write the table anew."""
        if not trial.over:
            trial.record.state, trial.record.reason = state, " ".join(reason.split())
            trial.write()
            self.show(trial, f"{state}: {trial.record.reason}" if reason else state)
            self.write()

    def write(self) -> None:
        """Write the table, the plot and the best settings as they are now."""
        write_summary(self.places.folder, self.plan, self.space, [*self.trials.values()], self.notice)

    def show(self, trial: Trial, words: str = "") -> None:
        """Print a trial's last estimate, what happened to it, and how far the search is."""
        parts = [time.strftime("%H:%M:%S"), f"trial {trial.record.number:>3}"]
        if trial.history:
            last = trial.history[-1]
            parts.append(f"epoch {last['epoch']:>3.0f}  {self.plan.score_text(score(last))}")
        parts.append(words or f"({self.left} of {self.wanted} trials left)")
        if (best := trials.winner(self.trials.values())) is not None:
            parts.append(f"(best {best.bests[-1]:.4g}, trial {best.record.number})")
        print("  ".join(parts), flush=True)


def run_trials(search: Search, cpus: int, gpus: float, parallel: int | None) -> None:
    """Train the search's trials, ``parallel`` of them at once (None: all that fit), to the end or to an interrupt.

    Starts Ray here, or joins it at ``RAY_ADDRESS``. Raises ``UsageError`` if no cluster answers, or no trial fits.
    """
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    storage = search.places.folder / "ray"  # For Ray's own notes, which nothing reads.
    shutil.rmtree(storage, ignore_errors=True)
    with engines.cluster(num_cpus=os.cpu_count(), object_store_memory=STORE):
        there = {"CPU": 0.0, "GPU": 0.0, **ray.cluster_resources()}
        room = min(there[kind] / asked for kind, asked in (("CPU", cpus), ("GPU", gpus)) if asked)
        if room < 1:
            raise UsageError(
                f"a trial is to have {cpus} cores and {gpus:g} GPUs, but there are {there['CPU']:g} and "
                f"{there['GPU']:g}: lower --cpus-per-trial or --gpus-per-trial"
            )
        parallel = parallel or int(room)
        print(f"{parallel} trials at once, {cpus} threads each; folder {search.places.folder}", flush=True)
        tuner = tune.Tuner(
            tune.with_resources(SearchTrial, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=search,
                num_samples=search.left,
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
                stop=search.take,
            ),
        )
        # After Ray's start, which takes SIGTERM for itself.
        with collected_signals() as search.received:
            tuner.fit()
    shutil.rmtree(storage, ignore_errors=True)
