"""The unimodal experiment (section 4.1): ``python -m experiments.mnist PRESET``.

Wires digits, nets, training and measurements into a run folder. The nets and the game are ``cgan``'s, hyper-parameters
``experiments.presets``'s.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cgan.specs import Init, Layer
from experiments import UsageError, runs
from experiments.cli import run
from experiments.presets import MNIST_PRESETS, MnistConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cgan.diagnostics import Classifier, LabelFidelity, Variety
    from cgan.training import Estimate, Progress, Trainer
    from data.labelled import ImageDataset
    from experiments.sampling import LoadedRun


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
    from data.mnist import load_digit_images

    dataset = load_digit_images(command.dataset, command.data_root)
    folder = command.runs / "mnist" / (command.name or default_name(command, dataset))
    if (folder / runs.RESULT).exists():
        if command.resume:
            print(f"{folder} is finished:\n{summary(runs.read_json(folder / runs.RESULT))}")
            return 0
        raise UsageError(f"{folder}: a finished run; --name gives this one another name, --resume shows the result")
    if (folder / runs.CONFIG).exists() and not command.resume:
        raise UsageError(f"{folder}: an unfinished run; --resume goes on with it, --name starts another")
    if dataset.notice:
        print(f"NOTE: {dataset.notice}.\n")
    train(command, dataset, folder)
    result = finish(folder, dataset)
    print(summary(result))
    print(f"everything is in {folder}: samples.png and the other figures, result.json, best.safetensors")
    return 0


def default_name(command: Command, dataset: ImageDataset) -> str:
    """The folder's name when none is given."""
    return f"{command.preset}-seed{command.seed}{'-digits' if dataset.embedded else ''}"


def train(command: Command, dataset: ImageDataset, folder: Path) -> None:
    """Train to the stopping point, or on from the last checkpoint. Leaves all but ``result.json`` and the figures."""
    import torch
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    from cgan.devices import resolve_device, resolve_precision, seeded
    from cgan.networks import Discriminator, Generator
    from cgan.training import Diverged, Examples, Interrupted, Trainer, fit
    from experiments.sampling import from_pixels

    config = command.config
    before = runs.read_json(folder / runs.CONFIG) if (folder / runs.CONFIG).exists() else {}
    device = resolve_device(command.device)
    if threads := command.threads or before.get("threads"):
        torch.set_num_threads(threads)
    precision = before.get("precision") if command.precision == "auto" else command.precision
    precision = precision or resolve_precision("auto", device)

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
    identity = {
        "settings": {name: value for name, value in config.as_dict().items() if name != "stopping"},
        "seed": command.seed,
        "dataset": dataset.checksum,
        "precision": precision,
    }
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(
        folder / runs.CONFIG,
        {
            "experiment": "mnist",
            "preset": command.preset,
            "dataset": {"name": dataset.name, "embedded": dataset.embedded, "checksum": dataset.checksum},
            "seed": command.seed,
            "device": device_name(device),
            "precision": precision,
            "threads": torch.get_num_threads(),
            "settings": config.as_dict(),
        },
    )
    parameters = sum(p.numel() for p in [*generator.parameters(), *discriminator.parameters()])
    print(
        f"{command.preset} on {dataset.name}, seed {command.seed}: {parameters:,} weights, {len(labels):,} images, "
        f"{device_name(device)}, {precision} products, {torch.get_num_threads()} threads\nrun folder {folder}"
    )
    estimator = Estimator(config, dataset, judge(dataset, folder), device)
    writer = SummaryWriter(folder)
    total = config.stopping.max_updates
    bar = tqdm(total=total, unit="update", mininterval=0.5, dynamic_ncols=True, smoothing=0.05)

    def on_update(trainer: Trainer) -> None:
        if trainer.t - bar.n != 1:
            bar.initial = bar.n = trainer.t - 1
        bar.update()

    def on_estimate(trainer: Trainer, estimate: Estimate, progress: Progress) -> None:
        latest = progress.history[-1]
        clock = time.strftime("%H:%M:%S", time.gmtime(progress.seconds))
        bar.write(
            f"{clock}  update {trainer.t:>7,} (epoch {trainer.epoch:.0f})  {estimate.line}  "
            f"loss D {latest['d_loss']:.3f} G {latest['g_loss']:.3f}" + ("  best" if not progress.without_best else ""),
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
        draw_grid(estimator.samples, dataset, folder, f"update {trainer.t:,}")

    try:
        with bar:
            fit(
                trainer,
                config.stopping,
                estimator,
                folder,
                identity=identity,
                resume=command.resume,
                on_update=on_update,
                on_estimate=on_estimate,
            )
    except Interrupted:
        print(f"\nstopped at update {trainer.t:,} and saved. To go on:\n  {again(command)}", file=sys.stderr)
        raise
    except Diverged as error:
        runs.write_json(
            folder / runs.RESULT,
            {
                "experiment": "mnist",
                "preset": command.preset,
                "status": "diverged",
                "reason": str(error),
                "dataset": {"name": dataset.name, "embedded": dataset.embedded, "checksum": dataset.checksum},
                "seed": command.seed,
                "updates": trainer.t,
                "environment": runs.environment(),
            },
        )
        raise
    finally:
        writer.close()


class Estimator:
    """Draws samples and measures them: validation likelihood, label fidelity, within-class variety, faults."""

    def __init__(self, config: MnistConfig, dataset: ImageDataset, reader: Classifier, device: torch.device) -> None:
        import torch

        from cgan import parzen
        from cgan.diagnostics import real_deviation

        self.reader, self.classes = reader, dataset.classes
        self.conditional = config.generator.condition != "none"
        per_class = config.estimate.samples_per_class
        self.asked = torch.arange(dataset.classes).repeat_interleave(per_class)
        self.valid = torch.from_numpy(dataset.valid.images[: config.estimate.images]).to(device)
        train_labels = torch.from_numpy(dataset.train.labels) if self.conditional else None
        self.real = real_deviation(torch.from_numpy(dataset.train.images), train_labels, dataset.classes)
        self.sigmas = parzen.default_sigmas()
        self.device = device
        self.samples: Tensor
        self.faults: list[str] = []

    def __call__(self, trainer: Trainer) -> Estimate:
        """The estimate of one moment. The noise is the same each time, so that estimates differ by the net alone."""
        from cgan import parzen
        from cgan.devices import seeded
        from cgan.diagnostics import predict
        from cgan.training import Estimate
        from experiments.sampling import draw

        labels = self.asked.to(self.device) if self.conditional else None
        rng = seeded(trainer.seed, "estimates", device=self.device)
        self.samples = draw(trainer.G, labels, len(self.asked), rng)
        if not self.samples.isfinite().all():
            return Estimate(float("nan"), {}, "")
        best, scores = parzen.choose_sigma(self.valid, self.samples, self.sigmas)
        read = predict(self.reader, self.samples.cpu())
        fidelity, variety, self.faults = measure(self.samples.cpu(), self.asked, read, self.real, self)
        columns = {
            "valid_log_likelihood": scores[best].mean,
            "valid_se": scores[best].se,
            "sigma": scores[best].sigma,
            **({"label_fidelity": fidelity.share} if fidelity else {}),
            "variety": variety.overall,
            "faults": len(self.faults),
        }
        line = f"validation {scores[best].mean:7.1f} ± {scores[best].se:.1f} nats (sigma {scores[best].sigma:.3f})"
        line += f"  labels as asked {fidelity.share:4.0%}" if fidelity else ""
        return Estimate(scores[best].mean, columns, f"{line}  variety {variety.overall:.2f} of real digits'")


def measure(
    samples: Tensor, asked: Tensor, read: Tensor, real: Tensor, of: Estimator
) -> tuple[LabelFidelity | None, Variety, list[str]]:
    """Label fidelity (None without labels), variety and faults of ``samples`` whose labels were ``read``."""
    from cgan.diagnostics import label_fidelity, variety, verdict

    fidelity = label_fidelity(read, asked, of.classes) if of.conditional else None
    spread = variety(samples, asked if of.conditional else None, real, of.classes)
    return fidelity, spread, verdict(fidelity, spread, of.classes, predicted=read)


def judge(dataset: ImageDataset, folder: Path) -> Classifier:
    """The classifier that reads samples: trained on the real training images once, then kept in the run folder."""
    import torch

    from cgan import checkpoints
    from cgan.diagnostics import classifier_from_state, train_classifier

    path = folder / "classifier.safetensors"
    if path.exists():
        return classifier_from_state(checkpoints.load(path)[0])
    reader = train_classifier(
        torch.from_numpy(dataset.train.images),
        torch.from_numpy(dataset.train.labels),
        dataset.classes,
        seed=0,
        progress=True,
    )
    checkpoints.save(path, reader.state_dict(), {"trained_on": dataset.checksum})
    return reader


def finish(folder: Path, dataset: ImageDataset) -> dict[str, Any]:
    """Measure the run at its stopping point, draw its figures, write ``result.json``; returns its contents."""
    import torch

    from cgan import checkpoints, parzen
    from cgan.devices import seeded
    from cgan.diagnostics import predict, train_on_generated
    from experiments import figures
    from experiments.sampling import draw, load_run

    print("measuring the net at its stopping point ...")
    loaded = load_run(folder)
    _, state = checkpoints.load(folder / runs.CHECKPOINT)
    progress, seed = state["progress"], loaded.record["seed"]
    settings = loaded.config.stopping
    reader = judge(dataset, folder)
    of = Estimator(loaded.config, dataset, reader, torch.device("cpu"))
    samples = draw(loaded.generator, of.asked if of.conditional else None, len(of.asked), seeded(seed, "samples"))
    train_images, valid, test = (torch.from_numpy(part.images) for part in (dataset.train, dataset.valid, dataset.test))
    train_labels, test_labels = torch.from_numpy(dataset.train.labels), torch.from_numpy(dataset.test.labels)
    score = parzen.evaluate(samples, valid, test, progress=True)
    read = predict(reader, samples)
    fidelity, variety, faults = measure(samples, of.asked, read, of.real, of)
    accuracy = (predict(reader, test) == test_labels).double().mean().item()
    result: dict[str, Any] = {
        "experiment": "mnist",
        "preset": loaded.record["preset"],
        "status": "finished",
        "stopped_by": "patience" if progress["without_best"] >= settings.patience else "max_updates",
        "dataset": loaded.record["dataset"],
        "seed": seed,
        "updates": progress["history"][-1]["update"],
        "best_update": progress["best_t"],
        "best_epoch": progress["best_t"] * loaded.config.training.batch_size / len(dataset.train),
        "seconds": progress["seconds"],
        "parzen": asdict(score),
        "collapse": faults,
        "variety": variety.as_dict(),
        "classifier_accuracy": accuracy,
        **({"label_fidelity": fidelity.as_dict()} if fidelity else {}),
        "device": loaded.record["device"],
        "precision": loaded.record["precision"],
        "threads": loaded.record["threads"],
        "environment": runs.environment(),
    }
    if of.conditional:
        acceptance = accept(loaded, dataset, samples, of.asked)
        result["acceptance"] = acceptance.as_dict()
        result["train_on_generated"] = {
            "generated": train_on_generated(samples, of.asked, test, test_labels, seed=0),
            "real": train_on_generated(train_images, train_labels, test, test_labels, seed=0, max_train=len(samples)),
        }
        figures.acceptance(acceptance, folder / "acceptance.png", title=titled("What D accepts", dataset))
        figures.fidelity_bars(fidelity, folder / "label_fidelity.png", title=titled("Are the labels obeyed?", dataset))
    draw_grid(samples, dataset, folder, f"best validation likelihood, update {loaded.update:,}")
    figures.curves(
        progress["history"], folder / "curves.png", chosen=curve_place(progress), title=titled("Training", dataset)
    )
    figures.parzen_curve(
        score.sigmas, score.valid_means, score.sigma, folder / "parzen.png", title=titled("Choice of sigma", dataset)
    )
    draw_neighbours(samples, of, train_images, dataset, folder)
    draw_interpolations(loaded, dataset, folder)
    runs.write_json(folder / runs.RESULT, result)
    return result


def accept(loaded: LoadedRun, dataset: ImageDataset, samples: Tensor, asked: Tensor) -> Any:
    """The acceptance matrix of the run's D on real test images and on ``samples``."""
    import torch

    from cgan.devices import seeded
    from cgan.diagnostics import acceptance_matrix
    from experiments.sampling import from_pixels

    def logits(images: Tensor, labels: Tensor) -> Tensor:
        return loaded.discriminator(from_pixels(images, loaded.config.generator.output), labels)

    return acceptance_matrix(
        logits,
        torch.from_numpy(dataset.test.images),
        torch.from_numpy(dataset.test.labels),
        samples,
        asked,
        dataset.classes,
        generator=seeded(loaded.record["seed"], "wrong labels"),
    )


def titled(text: str, dataset: ImageDataset) -> str:
    """A figure's title: it says so when the data set is the embedded one."""
    return f"{text} — {dataset.name}" if dataset.embedded else text


def draw_grid(samples: Tensor, dataset: ImageDataset, folder: Path, when: str) -> None:
    """Figure 2: a row per label, ten samples each; without labels, ten rows of ten."""
    from experiments import figures

    rows = samples.view(dataset.classes, -1, samples.shape[1])[:, :10].cpu()
    conditional = (folder / runs.CONFIG).exists() and runs.read_json(folder / runs.CONFIG)["settings"]["generator"][
        "condition"
    ] != "none"
    figures.image_grid(
        rows.reshape(-1, samples.shape[1]).numpy(),
        folder / "samples.png",
        dataset.shape,
        row_labels=list(range(dataset.classes)) if conditional else None,
        title=titled(f"Samples, {when}", dataset),
    )


def curve_place(progress: dict[str, Any]) -> float:
    """The stopping point on the curves' axis of epochs."""
    return next(row["epoch"] for row in progress["history"] if row["update"] == progress["best_t"])


def draw_neighbours(samples: Tensor, of: Estimator, train: Tensor, dataset: ImageDataset, folder: Path) -> None:
    """One sample of each class beside the training images nearest to it: is the net reciting its training set?"""
    from cgan.diagnostics import nearest_neighbours
    from experiments import figures

    shown = samples[:: len(samples) // dataset.classes]
    indices, distances = nearest_neighbours(shown, train, 6)
    figures.neighbours(
        shown.numpy(),
        train[indices].numpy(),
        distances.numpy(),
        folder / "neighbours.png",
        dataset.shape,
        row_labels=list(range(dataset.classes)) if of.conditional else None,
        title=titled("Samples and their nearest training images (distance below)", dataset),
    )


def draw_interpolations(loaded: LoadedRun, dataset: ImageDataset, folder: Path) -> None:
    """From one noise vector to another in twelve steps, each row with its label throughout."""
    import torch

    from cgan.devices import seeded
    from cgan.diagnostics import interpolate
    from cgan.networks import draw_noise
    from experiments import figures
    from experiments.sampling import to_pixels

    spec, steps = loaded.generator.spec, 12
    rng = seeded(loaded.record["seed"], "interpolation")
    ends = draw_noise(spec.noise, (2 * dataset.classes, spec.input_dim), rng)
    spherical = spec.noise == "normal"
    z = torch.cat(
        [interpolate(ends[2 * i], ends[2 * i + 1], steps, spherical=spherical) for i in range(dataset.classes)]
    )
    labels = None if loaded.classes is None else torch.arange(loaded.classes).repeat_interleave(steps)
    with torch.no_grad():
        images = to_pixels(loaded.generator(z, labels), spec.output)
    figures.interpolations(
        images.view(dataset.classes, steps, -1).numpy(),
        folder / "interpolation.png",
        dataset.shape,
        row_labels=None if labels is None else list(range(dataset.classes)),
        title=titled("From one noise vector to another, the label unchanged", dataset),
    )


def summary(result: dict[str, Any]) -> str:
    """A run's result in a few lines for the terminal."""
    if result["status"] != "finished":
        return f"{result['status']}: {result['reason']}"
    p, d = result["parzen"], result["dataset"]
    lines = [
        f"dataset {d['name']}; kept the weights of update {result['best_update']:,} of {result['updates']:,} "
        f"({result['seconds'] / 60:.1f} min of training, stopped by {result['stopped_by']})",
        f"Parzen log-likelihood: test {p['test_mean']:.1f} ± {p['test_se']:.1f} nats, validation {p['valid_mean']:.1f} "
        f"± {p['valid_se']:.1f} (sigma {p['sigma']:.3f}{', at the edge of the grid' if p['at_edge'] else ''})",
        f"variety within a class: {result['variety']['overall']:.2f} of real digits'",
    ]
    if "label_fidelity" in result:
        lines.append(
            f"labels as asked: {result['label_fidelity']['share']:.1%} (the classifier reads real test digits with "
            f"{result['classifier_accuracy']:.1%})"
        )
        t = result["train_on_generated"]
        lines.append(
            f"trained on generated, tested on real: {t['generated']:.1%}; trained on as many real: {t['real']:.1%}"
        )
    lines += [f"look: {fault}" for fault in result["collapse"]]
    return "\n".join(lines)


def again(command: Command) -> str:
    """The command line that goes on with this run."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return f"python -m experiments.mnist {shlex.join([*arguments, '--resume'])}"


def device_name(device: torch.device) -> str:
    """The device in words for a record, such as ``cpu`` or ``cuda (NVIDIA H200)``."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


if __name__ == "__main__":
    raise SystemExit(run(main))
