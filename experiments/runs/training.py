"""What the training commands share: open or resume a run, train with a bar and estimates, and end it."""

from __future__ import annotations

import contextlib
import errno
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cgan import CganError
from experiments import UsageError
from experiments.runs.cli import Options, printed_command, sentence
from experiments.runs.files import convert_record, flat
from experiments.runs.folder import Experiment, Result, RunFolder, environment, identity, is_of_the_run, new_session
from experiments.runs.records import NUMERICS, DatasetRecord, DivergedResult, RunConfig

if TYPE_CHECKING:
    from cgan.loop import Diverged, Estimate, Progress
    from cgan.networks import Discriminator, Generator
    from cgan.settings import StoppingSettings
    from cgan.specs import DiscriminatorSpec, GeneratorSpec
    from cgan.trainer import Trainer

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Run:
    """A run that may be trained."""

    folder: RunFolder
    config: RunConfig  # What ``config.json`` will hold.
    stopping: StoppingSettings
    before: RunConfig | None  # ``config.json`` of the earlier session that is resumed.
    resume: bool  # Whether to go on from a checkpoint.


def earlier_config(folder: RunFolder, experiment: Experiment, resume: bool) -> RunConfig | None:
    """Return the ``config.json`` of an earlier session, None without one; ``UsageError`` if there is one, unresumed."""
    path = folder.config_path
    if resume and path.exists() and not path.stat().st_size:
        # As a power cut may leave it. The checkpoint holds the identity of its run, with which this one is compared.
        print(f"NOTE: {path} is empty; it is written anew from this command.")
        path.unlink()
    if not path.exists():
        return None
    before = folder.read_config(experiment)
    if not resume:
        finished = folder.result_path.exists()
        state = "a finished run; --resume shows its result" if finished else "an unfinished run; --resume goes on"
        raise UsageError(f"{folder}: {state}, --name starts another")
    return before


def prepare_compute(command: Options, before: RunConfig | None) -> dict[str, Any]:
    """Prepare the processor; return device in words, precision and threads, those of ``before`` if not given."""
    import torch

    from cgan.devices import prepare_cpu, resolve_device, resolve_precision

    device = resolve_device(command.device)
    prepare_cpu(command.threads if command.threads is not None else before.threads if before else None)
    asked = before.precision if before and command.precision == "auto" else command.precision
    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
    return {"device": name, "precision": resolve_precision(asked, device), "threads": torch.get_num_threads()}


def open_run(
    folder: RunFolder,
    command: Options,
    settings: Any,
    dataset: DatasetRecord,
    *,
    experiment: Experiment,
    preset: str,
    before: RunConfig | None,
    compute: Mapping[str, Any],
    asked: Any | None = None,
    replicas: int = 1,
    **more: Any,
) -> Run:
    """Return the run of ``settings`` (a preset's config class) in ``folder``; nothing is written.

    Stopping settings that the command line does not give are those of ``before``. ``asked``: the settings before the
    command filled in what it found (a network, say). Raises ``CganError`` or ``UsageError`` if ``before`` is of another
    run.
    """
    from cgan.loop import same_identity

    stopping = settings.stopping
    if before is not None:
        given = {f.name for f in fields(stopping) if f"stopping.{f.name}" in command.given}
        earlier = convert_record(before.settings.get("stopping"), type(stopping), f"{folder.config_path}: stopping")
        stopping = replace(earlier, **{name: getattr(stopping, name) for name in given})
    settings = replace(settings, stopping=stopping)
    own = flat(command.preset_settings)
    config = RunConfig(
        experiment=experiment,
        preset=preset,
        preset_file=command.preset_file,
        dataset=dataset,
        seed=command.seed,
        settings=settings.as_dict(),
        changes={
            name: value
            for name, value in flat((asked or settings).as_dict()).items()
            if own.get(name) != value and is_of_the_run(name)
        },
        preset_updates=own.get("stopping.max_updates"),
        fast=command.fast,
        numerics=NUMERICS,
        sessions=[*(before.sessions if before else []), new_session(compute["device"], compute["threads"], replicas)],
        **compute,
        **more,
    )
    if before is not None:  # A finished run of an older revision may still be shown.
        same_identity(identity(replace(before, numerics=NUMERICS)), identity(config), folder.config_path)
    return Run(folder, config, stopping, before, command.resume)


def finished_result(run: Run) -> Result | None:
    """Return the result of a run that is over; None if it has none, or is asked to go on past its end.

    More --stopping.max-updates or --stopping.patience asks for that. Raises ``UsageError`` if it cannot go on.
    """
    folder, before, stopping = run.folder, run.before, run.stopping
    if before is None:
        return None
    if folder.result_path.exists():
        result = folder.read_result()
        if isinstance(result, DivergedResult):
            return result
        patient = stopping.patience > before.settings["stopping"].get("patience", math.inf)
        if stopping.max_updates <= result.updates or (result.stopped_by == "patience" and not patient):
            if stopping.max_updates < result.updates:
                print(
                    f"NOTE: {folder} was trained for {result.updates:,} updates, more than the "
                    f"{stopping.max_updates:,} asked for; this is its result for all of them."
                )
            return result
    if before.numerics != NUMERICS:
        raise UsageError(
            f"{folder}: trained by an older revision of this package, whose checkpoints cannot be resumed; start a "
            "run of another --name"
        )
    return None


def train(
    runs: Sequence[Run],
    trainers: Sequence[Trainer],
    estimate: Callable[[Trainer], Estimate],
    *,
    module: str,
    after_estimate: Callable[[Trainer, RunFolder], list[str]] = lambda trainer, folder: [],
) -> dict[Path, str]:
    """Train to the stopping points, or on from the last checkpoints, with a bar, lines, metrics and TensorBoard.

    Several runs are seeds trained at once. ``after_estimate`` may draw a figure, and returns lines to print below the
    estimate's. Writes ``config.json``, and sets an earlier result aside. Returns the folders of runs that diverged, and
    why; each gets a ``result.json``.
    """
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    from cgan.loop import Diverged, Interrupted, TrainingRun

    def report(trainer: Trainer, measured: Estimate, progress: Progress, run: Run) -> None:
        latest, elapsed = progress.history[-1], time.strftime("%H:%M:%S", time.gmtime(progress.seconds))
        seed = f"seed {trainer.seed}  " if len(runs) > 1 else ""
        losses = f"loss D {latest['d_loss']:.3f} G {latest['g_loss']:.3f}"
        best = "  best" if progress.best_t == trainer.t else ""
        at = f"update {trainer.t:>7,} (epoch {trainer.epoch:.0f})"
        lines = [f"{elapsed}  {seed}{at}  {measured.line}  {losses}{best}"]
        lines += [f"          {line}" for line in after_estimate(trainer, run.folder)]
        bar.write("\n".join(lines), file=sys.stdout)
        sys.stdout.flush()
        name = run.config.dataset.name
        run.folder.write_metrics([{**row, "dataset": name} for row in progress.history])
        for column, value in latest.items():
            writers[run.folder.path].add_scalar(column, value, trainer.t)
        writers[run.folder.path].flush()

    ends: list[Diverged | None] = [None]
    try:
        training = [
            TrainingRun(
                trainer,
                run.stopping,
                estimate,
                run.folder.path,
                identity=identity(run.config),
                resume=run.resume,
                on_estimate=partial(report, run=run),
            )
            for run, trainer in zip(runs, trainers, strict=True)
        ]
        for run, trainer in zip(runs, trainers, strict=True):
            if trainer.t > 0:
                print(f"{run.folder}: going on from update {trainer.t:,}, to at most {run.stopping.max_updates:,}")
            # Other weights will follow.
            if run.folder.result_path.exists() and 0 < trainer.t < run.stopping.max_updates:
                aside = run.folder.set_result_aside(trainer.t)
                print(f"the result and the figures of update {trainer.t:,} are kept in {aside}")
            run.folder.write_config(run.config)
        start, total = min(t.t for t in trainers), max(run.stopping.max_updates for run in runs)
        look: dict[str, Any] = {"unit": "update", "dynamic_ncols": True, "smoothing": 0.05, "disable": None}
        with tqdm(total=total, initial=start, **look) as bar, contextlib.ExitStack() as opened:
            writers = {run.folder.path: opened.enter_context(SummaryWriter(run.folder.path)) for run in runs}
            if len(runs) > 1:
                from cgan.fast.seeds import fit_seeds

                ends = fit_seeds(training, lambda batch: bar.update(max(0, batch[0].trainer.t - bar.n)))
            else:
                training[0].train(lambda trainer: bar.update(1))
    except Diverged as error:
        ends = [error]
    except Interrupted:
        t = max(trainer.t for trainer in trainers)
        raise Interrupted(f"stopped at update {t:,} and saved; to go on:\n  {resuming_command(module)}") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = sentence(error) if error.filename else f"{runs[0].folder}: {error.strerror}"
        raise UsageError(
            f"{where}; the last checkpoint there is whole: free some space, then go on with {resuming_command(module)}"
        ) from None
    diverged = {}
    for run, trainer, end in zip(runs, trainers, ends, strict=True):
        if end is not None:
            diverged[run.folder.path] = str(end)
            same = {name: getattr(run.config, name) for name in ("experiment", "preset", "dataset", "seed", "sessions")}
            result = DivergedResult(reason=str(end), updates=trainer.t, environment=environment(), **same)
            run.folder.write_result(result)
    return diverged


@dataclass(frozen=True)
class TrainingEnd:
    """How a run's training ended."""

    updates: int
    best_update: int
    best_epoch: float
    seconds: float  # Wall time of training, estimates included.
    stopped_by: Literal["patience", "max_updates"]
    history: list[dict[str, float]]  # The rows of ``metrics.csv``, one an estimate.


def training_end(folder: RunFolder, stopping: StoppingSettings) -> TrainingEnd:
    """Return how training ended, from the last checkpoint; raises ``CganError`` naming it if it is damaged."""
    from cgan.loop import load_checkpoint

    _, record = load_checkpoint(folder.checkpoint_path)
    progress = record.progress
    return TrainingEnd(
        updates=record.trainer.t,
        best_update=progress.best_t,
        best_epoch=next(
            (row.get("epoch", 0.0) for row in progress.history if row.get("update") == progress.best_t), 0.0
        ),
        seconds=progress.seconds,
        stopped_by="patience" if progress.without_best >= stopping.patience else "max_updates",
        history=progress.history,
    )


def resuming_command(module: str) -> str:
    """Return the command line that goes on with this one's run."""
    return printed_command(module, *(a for a in sys.argv[1:] if a not in ("--resume", "--no-resume")), "--resume")


def read_settings(folder: RunFolder, config: RunConfig, parse: Callable[[dict[str, Any]], Settings]) -> Settings:
    """Return ``config``'s settings as ``parse`` reads them; raises ``UsageError`` naming the file."""
    try:
        return parse(config.settings)
    except (CganError, UsageError) as error:
        raise UsageError(f"{folder.config_path}: {error}; restore the file, or train again") from None


def load_networks(
    folder: RunFolder, config: RunConfig, generator: GeneratorSpec, discriminator: DiscriminatorSpec
) -> tuple[Generator, Discriminator, int]:
    """Return the run's networks at its best estimate, in evaluation mode on the CPU, and its update; or raise."""
    import torch

    from cgan.checkpoint import load_into, subset
    from cgan.devices import seeded
    from cgan.networks import Discriminator, Generator

    path = folder.best_path
    tensors, update = folder.load_best(config)
    held = sum(tensor.numel() for tensor in tensors.values())
    maps = [sizes for spec in (generator, discriminator) for _, sizes in spec.linear_maps()]
    described = sum((inputs + 1) * outputs for inputs, outputs in maps)
    if described > held:  # Before memory is taken for them.
        raise UsageError(f"{path}: holds {held:,} numbers, but config.json describes nets of {described:,} weights")
    # The mean does not matter: the stored weights replace it.
    G = Generator(generator, seeded(0, "G"), torch.full((generator.output_dim,), 0.5))
    D = Discriminator(discriminator, seeded(0, "D"))
    load_into(G, subset(tensors, "G."), path)
    load_into(D, subset(tensors, "D."), path)
    return G.eval(), D.eval(), update
