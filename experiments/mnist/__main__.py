"""The unimodal experiment (section 4.1): ``python -m experiments.mnist PRESET`` trains a net and measures it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cgan import CganError
from experiments import UsageError
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig, on_digits
from experiments.runs import training
from experiments.runs.cli import Options, check_name, parse_command, printed_command, run
from experiments.runs.folder import RunFolder
from experiments.runs.records import DatasetRecord, DivergedResult

if TYPE_CHECKING:
    import torch

    from cgan.devices import Precision
    from cgan.trainer import Trainer
    from data.labelled import ImageDataset

MODULE = "experiments.mnist"


@dataclass(frozen=True)
class Command(Options):
    """Train one net on MNIST, stop at the best validation likelihood, measure what it generates."""

    config: Annotated[MnistConfig, tyro.conf.arg(name="")]
    preset: tyro.conf.Suppress[str] = "paper"
    replicas: int = 1
    """Train so many seeds at once, from SEED on, a run folder each: cheaper than one by one, with the same results."""
    dataset: Literal["auto", "mnist", "digits"] = "auto"
    """mnist, or an error; digits: scikit-learn's, embedded; auto: MNIST found or downloaded, else the digits."""
    data_root: Path | None = None
    """Folder that holds MNIST/raw; else $CGAN_DATA, else data/raw."""
    runs: Path = Path("runs")
    """Folder of all runs; this one goes to RUNS/mnist/NAME."""
    name: str | None = None
    """Name of the run; PRESET-seedSEED if not given, with -digits on the embedded digits. Replicas add -seedSEED."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 1 <= self.replicas <= 1_000:
            raise UsageError(f"--replicas {self.replicas}: give 1 to 1,000")


def parse(argv: Sequence[str] | None) -> Command:
    """Return the command that the arguments ask for; ends the program on a mistake and after ``--help``."""
    return parse_command(Command, MNIST_PRESETS, argv, MODULE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    command = parse(argv)
    from data.mnist import load_digit_images
    from experiments.mnist.evaluate import measure_run, summary

    dataset = load_digit_images(command.dataset, command.data_root)
    if dataset.embedded and command.preset_file is None:  # a file's settings hold as they are
        own = on_digits(MnistConfig.from_dict(dict(command.preset_settings))).as_dict()
        command = replace(command, config=on_digits(command.config, command.given), preset_settings=own)
    with ExitStack() as held:
        runs, status = [], 0
        for seed in range(command.seed, command.seed + command.replicas):
            this = open_run(command, dataset, seed, held)
            # Chosen once: timed again for each seed, "auto" might differ.
            command = replace(command, precision=this.config.precision)
            result = training.finished_result(this)
            if result is None:
                runs.append(this)
                continue
            print(f"{this.folder} is finished:\n{summary(result)}")
            status = 2 if isinstance(result, DivergedResult) else status
        if not runs:
            return status
        diverged = train(command, runs, dataset)
        for this in runs:
            if this.folder.path not in diverged:
                print(f"measuring {this.folder} at its stopping point ...")
                result = measure_run(this.folder, dataset)
                print(f"\n{result.preset} on {dataset.name}, seed {result.seed}\n{summary(result)}\n")
                print(f"figures, result.json and weights are in {this.folder}; samples.png is the paper's figure 2")
                print(f"more images: {printed_command('experiments.sample', this.folder)}")
    if diverged:
        raise CganError("; ".join(f"{folder}: {reason}" for folder, reason in diverged.items()))
    return status


def open_run(command: Command, dataset: ImageDataset, seed: int, held: ExitStack) -> training.Run:
    """Return the run of one seed, its folder held against other processes; raises if it may not start or resume."""
    name = command.name or f"{command.preset}-seed{seed}{'-digits' if dataset.embedded else ''}"
    if command.name and command.replicas > 1:
        name = f"{name}-seed{seed}"
    folder = RunFolder(command.runs / "mnist" / name)
    held.enter_context(folder.hold())
    before = training.earlier_config(folder, "mnist", command.resume)
    return training.open_run(
        folder,
        replace(command, seed=seed),
        command.config,
        DatasetRecord(name=dataset.name, embedded=dataset.embedded, checksum=dataset.checksum),
        experiment="mnist",
        preset=command.preset,
        before=before,
        compute=training.prepare_compute(command, before),
        replicas=command.replicas,
    )


def train(command: Command, runs: Sequence[training.Run], dataset: ImageDataset) -> dict[Path, str]:
    """Train to the stopping points, or on from the last checkpoints; return the runs that diverged, and why."""
    from cgan.devices import resolve_device
    from experiments.mnist.evaluate import Estimator, digit_classifier, draw_grid

    config, record, device = command.config, runs[0].config, resolve_device(command.device)
    seeds = [this.config.seed for this in runs]
    trainers = build(config, seeds, dataset, device, record.precision, command.fast)
    if len(runs) > 1:
        from cgan.fast.seeds import check_alike

        check_alike(trainers)
    if dataset.notice:
        print(f"NOTE: {dataset.notice}.\n")
    weights = sum(p.numel() for p in [*trainers[0].G.parameters(), *trainers[0].D.parameters()])
    print(
        f"{command.preset} on {dataset.name}, seed {', '.join(map(str, seeds))}: {trainers[0].training_set.count:,} "
        f"training images, {weights:,} weights\n{record.device}, {record.precision} products, "
        f"{record.threads} thread{'s' * (record.threads != 1)}"
    )
    print(*(f"run folder {this.folder}" for this in runs), sep="\n")
    estimator = Estimator(config, dataset, digit_classifier(dataset, runs[0].folder.path), device)

    def after_estimate(trainer: Trainer, folder: RunFolder) -> list[str]:
        draw_grid(estimator.samples, estimator, folder.path, f"update {trainer.t:,}")
        faults = estimator.faults
        if faults and trainer.t < config.stopping.min_updates:
            faults = [
                f"{', '.join(fault.partition(':')[0] for fault in faults)} (common this early; most nets recover)"
            ]
        return [f"look: {fault}" for fault in faults]

    return training.train(runs, trainers, estimator, module=MODULE, after_estimate=after_estimate)


def build(
    config: MnistConfig,
    seeds: Sequence[int],
    dataset: ImageDataset,
    device: torch.device,
    precision: Precision,
    fast: bool = True,
) -> list[Trainer]:
    """Return a trainer for each seed at its start, all on the same training set."""
    import torch

    from cgan.batches import TrainingSet
    from cgan.devices import seeded
    from cgan.networks import Discriminator, Generator
    from cgan.trainer import Trainer
    from experiments.mnist.sampling import from_pixels

    images = from_pixels(torch.from_numpy(dataset.train.images), config.generator.output).to(device)
    labels = torch.from_numpy(dataset.train.labels).to(device)
    training_set = TrainingSet(images, labels if config.generator.condition != "none" else None)
    mean = images.mean(0).cpu()
    return [
        Trainer(
            Generator(config.generator, seeded(seed, "G"), mean).to(device),
            Discriminator(config.discriminator, seeded(seed, "D")).to(device),
            training_set,
            config.training,
            seed=seed,
            precision=precision,
            fast=fast,
        )
        for seed in seeds
    ]


if __name__ == "__main__":
    raise SystemExit(run(main))
