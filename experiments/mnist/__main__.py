"""The unimodal experiment (section 4.1): ``python -m experiments.mnist PRESET``.

Wires digits, nets, training and measurements into a run folder. The nets and the game are ``cgan``'s, hyper-parameters
``experiments.presets``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cgan import CganError
from experiments import UsageError
from experiments.mnist.evaluate import CLASSIFIER, Estimator, draw_grid, finish, judge, summary
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig
from experiments.runs import folder as runs
from experiments.runs import training as running
from experiments.runs.cli import run

if TYPE_CHECKING:
    from cgan.metrics.diagnostics import Classifier
    from cgan.trainer import Trainer
    from data.labelled import ImageDataset


@dataclass(frozen=True)
class Command(running.Options):
    """Train one net on MNIST, stop at the best validation likelihood, measure what came out."""

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
        running.check_name(self.name)
        if self.replicas < 1:
            raise UsageError(f"--replicas {self.replicas}: at least one is needed")


def parse(argv: Sequence[str] | None) -> Command:
    """The command that the arguments spell; ends the program with status 2 on a mistake, 0 after ``--help``."""
    return running.parse(Command, MNIST_PRESETS, argv, "python -m experiments.mnist")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    command = parse(argv)
    from data.mnist import load_digit_images

    dataset = load_digit_images(command.dataset, command.data_root)
    places, status = [], 0
    for seed in range(command.seed, command.seed + command.replicas):
        name = f"{command.name}-seed{seed}" if command.name and command.replicas > 1 else command.name
        place = prepare(replace(command, seed=seed, name=name), dataset)
        # Settled once: timed again for each seed, "auto" might choose differently.
        command = replace(command, precision=place.record["precision"])
        if (over := running.finished(place, command.config.stopping, summary)) is None:
            places.append(place)
            continue
        result, told = over
        print(f"{place.folder} is finished:\n{told}")
        status = max(status, 0 if result["status"] == "finished" else 2)
    if not places:
        return status
    if dataset.notice:
        print(f"NOTE: {dataset.notice}.\n")
    lost = train(command, places, dataset)
    for place in places:
        if place.folder in lost:
            continue
        of = f"of seed {place.record['seed']} " if len(places) > 1 else ""
        print(f"measuring the net {of}at its stopping point ...")
        print(summary(finish(place.folder, dataset)))
        print(f"everything is in {place.folder}: samples.png and the other figures, result.json, best.safetensors")
    if lost:
        errors = [f"{folder}: {reason}" if len(places) > 1 else reason for folder, reason in lost.items()]
        raise CganError("; ".join(errors))
    return status


def prepare(command: Command, dataset: ImageDataset) -> running.Place:
    """Where a run stands and what it is; raises ``UsageError`` or ``CganError`` if it may not be started or resumed."""
    from cgan.trainer import same_identity

    folder = command.runs / "mnist" / (command.name or default_name(command, dataset))
    before = running.earlier(folder, command.resume)
    record = describe(command, dataset, before)
    if before:
        same_identity(running.identity(before), running.identity(record), folder / runs.CONFIG)
    return running.Place(folder, record)


def default_name(command: Command, dataset: ImageDataset) -> str:
    """The folder's name when none is given."""
    return f"{command.preset}-seed{command.seed}{'-digits' if dataset.embedded else ''}"


def describe(command: Command, dataset: ImageDataset, before: dict[str, Any]) -> dict[str, Any]:
    """What ``config.json`` says of the run; what is left open is taken from ``before``, an earlier session's.

    ``sessions`` has an entry for each time the run was started or resumed.
    """
    return {
        "experiment": "mnist",
        **running.named(command),
        "dataset": {"name": dataset.name, "embedded": dataset.embedded, "checksum": dataset.checksum},
        "seed": command.seed,
        "settings": command.config.as_dict(),
        **running.placed(command.device, command.precision, command.threads, before, command.replicas),
    }


def train(command: Command, places: Sequence[running.Place], dataset: ImageDataset) -> dict[Path, str]:
    """Train to the stopping points, or on from the last checkpoints; the folders of games that were lost, and why.

    Leaves all but the figures and, where the game was not lost, ``result.json``.
    """
    from cgan.devices import resolve_device
    from cgan.fast.seeds import check_alike

    config, record = command.config, places[0].record
    trainers = build(command, places, dataset)
    if len(places) > 1:
        check_alike(trainers)
    for place in places:
        place.folder.mkdir(parents=True, exist_ok=True)
        runs.write_json(place.folder / runs.CONFIG, place.record)
    parameters = sum(p.numel() for p in [*trainers[0].G.parameters(), *trainers[0].D.parameters()])
    print(
        f"{command.preset} on {dataset.name}, seed {', '.join(str(place.record['seed']) for place in places)}: "
        f"{parameters:,} weights, {trainers[0].examples.count:,} images, {record['device']}, "
        f"{record['precision']} products, {record['threads']} threads"
    )
    for place in places:
        print(f"run folder {place.folder}")
    estimator = Estimator(config, dataset, shared_judge(places, dataset), resolve_device(command.device))

    def after(trainer: Trainer, place: running.Place) -> list[str]:
        draw_grid(estimator.samples, estimator, dataset, place.folder, f"update {trainer.t:,}")
        early = " (common this early, and most nets recover)" if trainer.t < config.stopping.min_updates else ""
        return [f"look: {fault}{early}" for fault in estimator.faults]

    return running.play(
        places,
        trainers,
        config.stopping,
        estimator,
        module="experiments.mnist",
        resume=command.resume,
        after=after,
    )


def build(command: Command, places: Sequence[running.Place], dataset: ImageDataset) -> list[Trainer]:
    """A trainer for each place at its start, all on the same examples."""
    import torch

    from cgan.batches import Examples
    from cgan.devices import resolve_device, seeded
    from cgan.networks import Discriminator, Generator
    from cgan.trainer import Trainer
    from experiments.mnist.sampling import from_pixels

    config, device = command.config, resolve_device(command.device)
    images = from_pixels(torch.from_numpy(dataset.train.images), config.generator.output).to(device)
    labels = torch.from_numpy(dataset.train.labels).to(device)
    examples, mean = Examples(images, labels if config.generator.condition != "none" else None), images.mean(0).cpu()
    return [
        Trainer(
            Generator(config.generator, seeded(place.record["seed"], "G"), mean).to(device),
            Discriminator(config.discriminator, seeded(place.record["seed"], "D")).to(device),
            examples,
            config.training,
            seed=place.record["seed"],
            precision=place.record["precision"],
        )
        for place in places
    ]


def shared_judge(places: Sequence[running.Place], dataset: ImageDataset) -> Classifier:
    """The classifier that reads samples, trained once and kept in every folder."""
    from cgan import checkpoint as checkpoints

    reader, kept = judge(dataset, places[0].folder), checkpoints.load(places[0].folder / CLASSIFIER)
    for place in places[1:]:
        if not (place.folder / CLASSIFIER).exists():
            checkpoints.save(place.folder / CLASSIFIER, *kept)
    return reader


if __name__ == "__main__":
    raise SystemExit(run(main))
