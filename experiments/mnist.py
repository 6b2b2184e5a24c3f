"""The unimodal experiment (section 4.1): ``python -m experiments.mnist PRESET``.

Wires digits, nets, training and measurements into a run folder. The nets and the game are ``cgan``'s, hyper-parameters
``experiments.presets``'s.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cgan.specs import Init, Layer
from experiments import UsageError, runs
from experiments.cli import run
from experiments.mnist_measure import Estimator, draw_grid, finish, judge, summary
from experiments.presets import MNIST_PRESETS, MnistConfig

if TYPE_CHECKING:
    import torch

    from cgan.training import Estimate, Progress, Trainer
    from data.labelled import ImageDataset


@dataclass(frozen=True)
class Command:
    """Train one net on MNIST, stop at the best validation likelihood, measure what came out."""

    config: Annotated[MnistConfig, tyro.conf.arg(name="")]
    preset: tyro.conf.Suppress[str] = "paper"
    seed: int = 1
    """Seed of everything random: initial weights, batches, noise, dropout."""
    dataset: Literal["auto", "mnist", "digits"] = "auto"
    """mnist, or an error; digits: scikit-learn's, embedded; auto: MNIST found or downloaded, else the digits."""
    data_root: Path | None = None
    """Folder that holds MNIST/raw; else $CGAN_DATA, else data/raw."""
    runs: Path = Path("runs")
    """Folder of all runs; this one goes to RUNS/mnist/NAME."""
    name: str | None = None
    """Name of the run; PRESET-seedSEED if not given, with -digits on the embedded digits."""
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    command = parse(argv)
    from cgan.training import same_identity
    from data.mnist import load_digit_images

    dataset = load_digit_images(command.dataset, command.data_root)
    folder = command.runs / "mnist" / (command.name or default_name(command, dataset))
    before = runs.read_json(folder / runs.CONFIG) if (folder / runs.CONFIG).exists() else {}
    finished = (folder / runs.RESULT).exists()
    if before and not command.resume:
        state = (
            "a finished run; --resume shows its result" if finished else "an unfinished run; --resume goes on with it"
        )
        raise UsageError(f"{folder}: {state}, --name starts another")
    record = describe(command, dataset, before)
    if before:
        same_identity(identity(before), identity(record), folder / runs.CONFIG)
    if finished:
        result = runs.read_json(folder / runs.RESULT)
        if result.get("stopped_by") != "max_updates" or command.config.stopping.max_updates <= result["updates"]:
            print(f"{folder} is finished:\n{summary(result)}")
            return 0 if result["status"] == "finished" else 2
    if dataset.notice:
        print(f"NOTE: {dataset.notice}.\n")
    train(command, dataset, folder, record)
    print("measuring the net at its stopping point ...")
    result = finish(folder, dataset)
    print(summary(result))
    print(f"everything is in {folder}: samples.png and the other figures, result.json, best.safetensors")
    return 0


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


def train(command: Command, dataset: ImageDataset, folder: Path, record: dict[str, Any]) -> None:
    """Train to the stopping point, or on from the last checkpoint. Leaves all but ``result.json`` and the figures."""
    import torch
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    from cgan.devices import resolve_device, seeded
    from cgan.networks import Discriminator, Generator
    from cgan.training import Diverged, Examples, Interrupted, Trainer, fit
    from experiments.sampling import from_pixels

    config, device, precision = command.config, resolve_device(command.device), record["precision"]
    images = from_pixels(torch.from_numpy(dataset.train.images), config.generator.output).to(device)
    labels = torch.from_numpy(dataset.train.labels).to(device)
    generator = Generator(config.generator, seeded(command.seed, "G"), images.mean(0).cpu()).to(device)
    discriminator = Discriminator(config.discriminator, seeded(command.seed, "D")).to(device)
    conditional = config.generator.condition != "none"
    trainer = Trainer(
        generator,
        discriminator,
        Examples(images, labels if conditional else None),
        config.training,
        seed=command.seed,
        precision=precision,
    )
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(folder / runs.CONFIG, record)
    parameters = sum(p.numel() for p in [*generator.parameters(), *discriminator.parameters()])
    print(
        f"{command.preset} on {dataset.name}, seed {command.seed}: {parameters:,} weights, {len(labels):,} images, "
        f"{device_name(device)}, {precision} products, {torch.get_num_threads()} threads\nrun folder {folder}"
    )
    estimator = Estimator(config, dataset, judge(dataset, folder), device)
    writer = SummaryWriter(folder)
    bar: Any = None

    def on_update(trainer: Trainer) -> None:
        nonlocal bar
        if bar is None:
            total, done = config.stopping.max_updates, trainer.t - 1
            bar = tqdm(total=total, initial=done, unit="update", dynamic_ncols=True, smoothing=0.05)
        bar.update()

    def on_estimate(trainer: Trainer, estimate: Estimate, progress: Progress) -> None:
        latest = progress.history[-1]
        clock = time.strftime("%H:%M:%S", time.gmtime(progress.seconds))
        bar.write(
            f"{clock}  update {trainer.t:>7,} (epoch {trainer.epoch:.0f})  {estimate.line}  "
            f"loss D {latest['d_loss']:.3f} G {latest['g_loss']:.3f}"
            + ("  best" if progress.best_t == trainer.t else ""),
            file=sys.stdout,
        )
        for fault in estimator.faults:
            early = " (common this early, and most nets recover)" if trainer.t < config.stopping.min_updates else ""
            bar.write(f"          look: {fault}{early}", file=sys.stdout)
        sys.stdout.flush()
        runs.write_metrics(folder / runs.METRICS, [{**row, "dataset": dataset.name} for row in progress.history])
        for name, value in latest.items():
            writer.add_scalar(name, value, trainer.t)
        writer.flush()
        draw_grid(estimator.samples, estimator, dataset, folder, f"update {trainer.t:,}")

    try:
        fit(
            trainer,
            config.stopping,
            estimator,
            folder,
            identity=identity(record),
            resume=command.resume,
            on_update=on_update,
            on_estimate=on_estimate,
        )
    except Interrupted:
        raise Interrupted(f"stopped at update {trainer.t:,} and saved; to go on:\n  {again()}") from None
    except Diverged as error:
        runs.write_json(
            folder / runs.RESULT,
            {
                **record,
                "status": "diverged",
                "reason": str(error),
                "updates": trainer.t,
                "environment": runs.environment(),
            },
        )
        raise
    finally:
        if bar is not None:
            bar.close()
        writer.close()


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
