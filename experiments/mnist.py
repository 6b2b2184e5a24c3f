"""The unimodal experiment (section 4.1): ``python -m experiments.mnist PRESET``.

Wires digits, nets, training and measurements into a run folder. The nets and the game are ``cgan``'s, hyper-parameters
``experiments.presets``'s.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cgan import CganError
from cgan.specs import Init, Layer
from experiments import UsageError, runs
from experiments.cli import run
from experiments.mnist_measure import CLASSIFIER, Estimator, draw_grid, finish, judge, summary
from experiments.presets import MNIST_PRESETS, MnistConfig

if TYPE_CHECKING:
    import torch

    from cgan.diagnostics import Classifier
    from cgan.training import Diverged, Estimate, Progress, Trainer
    from data.labelled import ImageDataset


@dataclass(frozen=True)
class Command:
    """Train one net on MNIST, stop at the best validation likelihood, measure what came out."""

    config: Annotated[MnistConfig, tyro.conf.arg(name="")]
    preset: tyro.conf.Suppress[str] = "paper"
    seed: int = 1
    """Seed of everything random: initial weights, batches, noise, dropout."""
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
    resume: bool = False
    """Go on where the run of this name stands, or start it; a finished run prints its result."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products while training; auto takes bfloat16 where it is quicker. All else is float32."""
    threads: int | None = None
    """Processor threads; PyTorch's own choice if not given. Part of what makes a run repeatable to the bit."""

    def __post_init__(self) -> None:
        if self.name is not None and Path(self.name).name != self.name:
            raise UsageError(f"--name {self.name}: give a plain name, without folders")
        if self.replicas < 1:
            raise UsageError(f"--replicas {self.replicas}: at least one is needed")


def parse(argv: Sequence[str] | None) -> Command:
    """The command that the arguments spell; ends the program with status 2 on a mistake, 0 after ``--help``."""
    registry = tyro.constructors.ConstructorRegistry()
    for kind, metavar in ((Layer, "LAYER"), (Init, "INIT")):
        registry.primitive_rule(_text_rule(kind, metavar))
    presets = {
        name: ((make.__doc__ or "").strip(), Command(make(), preset=name)) for name, make in MNIST_PRESETS.items()
    }
    with registry:
        return tyro.extras.overridable_config_cli(presets, args=argv, prog="python -m experiments.mnist")


def _text_rule(kind: Any, metavar: str) -> Callable[[Any], Any]:
    """How tyro reads and shows a type that has ``parse`` and ``str``."""

    def rule(info: Any) -> Any:
        if info.type is not kind:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda texts: kind.parse(texts[0]),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value)],
        )

    return rule


@dataclass(frozen=True)
class Place:
    """One seed's run: where it lies, and what its ``config.json`` says."""

    command: Command
    folder: Path
    record: dict[str, Any]


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
        if (result := finished(place)) is None:
            places.append(place)
            continue
        print(f"{place.folder} is finished:\n{summary(result)}")
        status = max(status, 0 if result["status"] == "finished" else 2)
    if not places:
        return status
    if dataset.notice:
        print(f"NOTE: {dataset.notice}.\n")
    lost = train(places, dataset)
    for place in places:
        if place.folder in lost:
            continue
        print(
            f"measuring the net {f'of seed {place.command.seed} ' if len(places) > 1 else ''}at its stopping point ..."
        )
        print(summary(finish(place.folder, dataset)))
        print(f"everything is in {place.folder}: samples.png and the other figures, result.json, best.safetensors")
    if lost:
        errors = [f"{folder}: {error}" if len(places) > 1 else str(error) for folder, error in lost.items()]
        raise CganError("; ".join(errors))
    return status


def prepare(command: Command, dataset: ImageDataset) -> Place:
    """Where a run stands and what it is; raises ``UsageError`` or ``CganError`` if it may not be started or resumed."""
    from cgan.training import same_identity

    folder = command.runs / "mnist" / (command.name or default_name(command, dataset))
    before = runs.read_json(folder / runs.CONFIG) if (folder / runs.CONFIG).exists() else {}
    if before and not command.resume:
        ended = (folder / runs.RESULT).exists()
        state = "a finished run; --resume shows its result" if ended else "an unfinished run; --resume goes on with it"
        raise UsageError(f"{folder}: {state}, --name starts another")
    record = describe(command, dataset, before)
    if before:
        same_identity(identity(before), identity(record), folder / runs.CONFIG)
    return Place(command, folder, record)


def finished(place: Place) -> dict[str, Any] | None:
    """The result of a run that is over; None if there is more to do."""
    if not (place.folder / runs.RESULT).exists():
        return None
    result = runs.read_json(place.folder / runs.RESULT)
    longer = place.command.config.stopping.max_updates > result["updates"]
    return None if result.get("stopped_by") == "max_updates" and longer else result


def default_name(command: Command, dataset: ImageDataset) -> str:
    """The folder's name when none is given."""
    return f"{command.preset}-seed{command.seed}{'-digits' if dataset.embedded else ''}"


def describe(command: Command, dataset: ImageDataset, before: dict[str, Any]) -> dict[str, Any]:
    """What ``config.json`` says of the run; what is left open is taken from ``before``, an earlier session's.

    ``sessions`` has an entry for each time the run was started or resumed.
    """
    import torch

    from cgan.devices import prepare_cpu, resolve_device, resolve_precision

    device = resolve_device(command.device)
    prepare_cpu(command.threads if command.threads is not None else before.get("threads"))
    precision = before.get("precision") if command.precision == "auto" else command.precision
    precision = precision or resolve_precision("auto", device)
    environment = runs.environment()
    session = {
        "command": environment["command"],
        "git_revision": environment["git_revision"],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        # Those trained at once share the seconds.
        **({"replicas": command.replicas} if command.replicas > 1 else {}),
    }
    return {
        "experiment": "mnist",
        "preset": command.preset,
        "dataset": {"name": dataset.name, "embedded": dataset.embedded, "checksum": dataset.checksum},
        "seed": command.seed,
        "device": device_name(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "settings": command.config.as_dict(),
        "sessions": [*before.get("sessions", []), session],
    }


def train(places: Sequence[Place], dataset: ImageDataset) -> dict[Path, Diverged]:
    """Train to the stopping points, or on from the last checkpoints; the folders of games that were lost, and why.

    Leaves all but the figures and, where the game was not lost, ``result.json``.
    """
    import torch
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    from cgan.devices import resolve_device
    from cgan.replicas import check_alike, fit_replicas
    from cgan.training import Diverged, Interrupted, Run

    command, record = places[0].command, places[0].record
    config, device = command.config, resolve_device(command.device)
    trainers = build(places, dataset)
    if len(places) > 1:
        check_alike(trainers)
    for place in places:
        place.folder.mkdir(parents=True, exist_ok=True)
        runs.write_json(place.folder / runs.CONFIG, place.record)
    parameters = sum(p.numel() for p in [*trainers[0].G.parameters(), *trainers[0].D.parameters()])
    print(
        f"{command.preset} on {dataset.name}, seed {', '.join(str(place.command.seed) for place in places)}: "
        f"{parameters:,} weights, {trainers[0].examples.count:,} images, {device_name(device)}, "
        f"{record['precision']} products, {torch.get_num_threads()} threads"
    )
    for place in places:
        print(f"run folder {place.folder}")
    estimator = Estimator(config, dataset, shared_judge(places, dataset), device)
    writers = [SummaryWriter(place.folder) for place in places]
    bar: Any = None

    def on_update(t: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(
                total=config.stopping.max_updates, initial=t - 1, unit="update", dynamic_ncols=True, smoothing=0.05
            )
        bar.update(max(0, t - bar.n))

    def reporting(place: Place, writer: SummaryWriter) -> Callable[[Trainer, Estimate, Progress], None]:
        def on_estimate(trainer: Trainer, estimate: Estimate, progress: Progress) -> None:
            latest = progress.history[-1]
            clock = time.strftime("%H:%M:%S", time.gmtime(progress.seconds))
            bar.write(
                f"{clock}  {f'seed {trainer.seed}  ' if len(places) > 1 else ''}"
                f"update {trainer.t:>7,} (epoch {trainer.epoch:.0f})  {estimate.line}  "
                f"loss D {latest['d_loss']:.3f} G {latest['g_loss']:.3f}"
                + ("  best" if progress.best_t == trainer.t else ""),
                file=sys.stdout,
            )
            for fault in estimator.faults:
                early = " (common this early, and most nets recover)" if trainer.t < config.stopping.min_updates else ""
                bar.write(f"          look: {fault}{early}", file=sys.stdout)
            sys.stdout.flush()
            runs.write_metrics(
                place.folder / runs.METRICS, [{**row, "dataset": dataset.name} for row in progress.history]
            )
            for name, value in latest.items():
                writer.add_scalar(name, value, trainer.t)
            writer.flush()
            draw_grid(estimator.samples, estimator, dataset, place.folder, f"update {trainer.t:,}")

        return on_estimate

    ends: list[Diverged | None] = [None] * len(places)
    try:
        playing = [
            Run(
                trainer,
                config.stopping,
                estimator,
                place.folder,
                identity=identity(place.record),
                resume=command.resume,
                on_estimate=reporting(place, writer),
            )
            for trainer, place, writer in zip(trainers, places, writers, strict=True)
        ]
        if len(places) > 1:
            ends = fit_replicas(playing, lambda batch: on_update(batch[0].trainer.t))
        else:
            playing[0].play(lambda trainer: on_update(trainer.t))
    except Interrupted:
        t = max(trainer.t for trainer in trainers)
        raise Interrupted(f"stopped at update {t:,} and saved; to go on:\n  {again()}") from None
    except Diverged as error:
        ends = [error]
    finally:
        if bar is not None:
            bar.close()
        for writer in writers:
            writer.close()
    lost = {place.folder: end for place, end in zip(places, ends, strict=True) if end is not None}
    for place, trainer in zip(places, trainers, strict=True):
        if place.folder in lost:
            failure = {"status": "diverged", "reason": str(lost[place.folder]), "updates": trainer.t}
            runs.write_json(place.folder / runs.RESULT, {**place.record, **failure, "environment": runs.environment()})
    return lost


def build(places: Sequence[Place], dataset: ImageDataset) -> list[Trainer]:
    """A trainer for each place at its start, all on the same examples."""
    import torch

    from cgan.devices import resolve_device, seeded
    from cgan.networks import Discriminator, Generator
    from cgan.training import Examples, Trainer
    from experiments.sampling import from_pixels

    config, device = places[0].command.config, resolve_device(places[0].command.device)
    images = from_pixels(torch.from_numpy(dataset.train.images), config.generator.output).to(device)
    labels = torch.from_numpy(dataset.train.labels).to(device)
    examples, mean = Examples(images, labels if config.generator.condition != "none" else None), images.mean(0).cpu()
    return [
        Trainer(
            Generator(config.generator, seeded(place.command.seed, "G"), mean).to(device),
            Discriminator(config.discriminator, seeded(place.command.seed, "D")).to(device),
            examples,
            config.training,
            seed=place.command.seed,
            precision=place.record["precision"],
        )
        for place in places
    ]


def shared_judge(places: Sequence[Place], dataset: ImageDataset) -> Classifier:
    """The classifier that reads samples, trained once and kept in every folder."""
    from cgan import checkpoints

    reader, kept = judge(dataset, places[0].folder), checkpoints.load(places[0].folder / CLASSIFIER)
    for place in places[1:]:
        if not (place.folder / CLASSIFIER).exists():
            checkpoints.save(place.folder / CLASSIFIER, *kept)
    return reader


def identity(record: dict[str, Any]) -> dict[str, Any]:
    """What of ``config.json`` a resumed run must share: everything but the place and the length of training."""
    settings = {section: values for section, values in record["settings"].items() if section != "stopping"}
    kept = {name: record[name] for name in ("seed", "precision")}
    return {"settings": settings, "dataset": record["dataset"]["checksum"], **kept}


def again() -> str:
    """The command line that goes on with this run."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return f"python -m experiments.mnist {shlex.join([*arguments, '--resume'])}"


def device_name(device: torch.device) -> str:
    """The device in words for a record, such as ``cpu`` or ``cuda (NVIDIA H200)``."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


if __name__ == "__main__":
    raise SystemExit(run(main))
