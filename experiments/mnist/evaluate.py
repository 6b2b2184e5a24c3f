"""What the unimodal experiment measures of a net: estimates while it trains, the result and its figures at the end.

Trains nothing but the classifier that reads the samples.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.mnist.presets import MnistConfig
from experiments.runs import folder as runs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cgan.metrics.diagnostics import Classifier, LabelFidelity, Variety
    from cgan.trainer import Estimate, Trainer
    from data.labelled import ImageDataset
    from experiments.mnist.sampling import LoadedRun

CLASSIFIER = "classifier.safetensors"


class Estimator:
    """Draws samples and measures them: validation likelihood, label fidelity, within-class variety, faults."""

    def __init__(self, config: MnistConfig, dataset: ImageDataset, reader: Classifier, device: torch.device) -> None:
        import torch

        from cgan.metrics import parzen
        from cgan.metrics.diagnostics import real_deviation

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
        from cgan.devices import seeded
        from cgan.metrics import parzen
        from cgan.trainer import Estimate
        from experiments.mnist.sampling import draw

        labels = self.asked.to(self.device) if self.conditional else None
        rng = seeded(trainer.seed, "estimates", device=self.device)
        self.samples = draw(trainer.sampler, labels, len(self.asked), rng)
        if not self.samples.isfinite().all():
            return Estimate(float("nan"), {}, "")
        best, scores = parzen.choose_sigma(self.valid, self.samples, self.sigmas)
        fidelity, variety, self.faults = self.measure(self.samples)
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

    @property
    def row_labels(self) -> list[int] | None:
        """Labels of a figure's rows, one row a class; None without labels."""
        return list(range(self.classes)) if self.conditional else None

    def measure(self, samples: Tensor) -> tuple[LabelFidelity | None, Variety, list[str]]:
        """Label fidelity (None without labels), variety and faults of ``samples``, drawn for the labels ``asked``."""
        from cgan.metrics.diagnostics import label_fidelity, predict, variety, verdict

        samples = samples.cpu()
        read = predict(self.reader, samples)
        fidelity = label_fidelity(read, self.asked, self.classes) if self.conditional else None
        spread = variety(samples, self.asked if self.conditional else None, self.real, self.classes)
        return fidelity, spread, verdict(fidelity, spread, self.classes, predicted=read)


def judge(dataset: ImageDataset, folder: Path) -> Classifier:
    """The classifier that reads samples: trained on the real training images once, then kept in the run folder."""
    import torch

    from cgan import checkpoint as checkpoints
    from cgan.metrics.diagnostics import classifier_from_state, train_classifier

    path = folder / CLASSIFIER
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

    from cgan import checkpoint as checkpoints
    from cgan.metrics import parzen
    from cgan.metrics.diagnostics import predict, train_on_generated
    from experiments.mnist.sampling import load_run
    from experiments.runs import figures

    loaded = load_run(folder)
    _, state = checkpoints.load(folder / runs.CHECKPOINT)
    progress, seed = state["progress"], loaded.record["seed"]
    settings = loaded.config.stopping
    reader = judge(dataset, folder)
    of = Estimator(loaded.config, dataset, reader, torch.device("cpu"))
    samples = draw_samples(loaded, of)
    train_images, valid, test = (torch.from_numpy(part.images) for part in (dataset.train, dataset.valid, dataset.test))
    train_labels, test_labels = torch.from_numpy(dataset.train.labels), torch.from_numpy(dataset.test.labels)
    score = parzen.evaluate(samples, valid, test, progress=True)
    fidelity, variety, faults = of.measure(samples)
    accuracy = (predict(reader, test) == test_labels).double().mean().item()
    result: dict[str, Any] = {
        "experiment": "mnist",
        "preset": loaded.record["preset"],
        "status": "finished",
        "stopped_by": "patience" if progress["without_best"] >= settings.patience else "max_updates",
        "dataset": loaded.record["dataset"],
        "seed": seed,
        "updates": state["trainer"]["t"],
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
        "sessions": loaded.record.get("sessions", []),
        "environment": runs.environment(),
    }
    if loaded.generator.has_dropout:
        result["dropout_on"] = with_dropout(loaded, of, valid, test)
    if of.conditional:
        acceptance = accept(loaded, dataset, samples, of.asked)
        result["acceptance"] = acceptance.as_dict()
        result["train_on_generated"] = {
            "generated": train_on_generated(samples, of.asked, test, test_labels, seed=0),
            "real": train_on_generated(train_images, train_labels, test, test_labels, seed=0, max_train=len(samples)),
        }
        figures.acceptance(acceptance, folder / "acceptance.png", title=titled("What D accepts", dataset))
        figures.fidelity_bars(fidelity, folder / "label_fidelity.png", title=titled("Are the labels obeyed?", dataset))
    draw_grid(samples, of, dataset, folder, f"best validation likelihood, update {loaded.update:,}")
    figures.curves(
        progress["history"], folder / "curves.png", chosen=curve_place(progress), title=titled("Training", dataset)
    )
    figures.parzen_curve(
        score.sigmas, score.valid_means, score.sigma, folder / "parzen.png", title=titled("Choice of sigma", dataset)
    )
    draw_neighbours(samples, of, train_images, dataset, folder)
    draw_interpolations(loaded, of, dataset, folder)
    runs.write_json(folder / runs.RESULT, result)
    return result


def draw_samples(loaded: LoadedRun, of: Estimator, dropout: bool = False) -> Tensor:
    """The run's samples (n, pixels) in [0, 1] for the labels ``of.asked``: the same noise with and without dropout."""
    from cgan.devices import seeded
    from experiments.mnist.sampling import draw

    asked, rng = of.asked if of.conditional else None, seeded(loaded.record["seed"], "samples")
    return draw(loaded.generator, asked, len(of.asked), rng, dropout)


def with_dropout(loaded: LoadedRun, of: Estimator, valid: Tensor, test: Tensor) -> dict[str, Any]:
    """What the samples with G's dropout left on come to: Parzen log-likelihood in nats, variety, labels obeyed."""
    from cgan.metrics import parzen

    samples = draw_samples(loaded, of, dropout=True)
    fidelity, variety, _ = of.measure(samples)
    return {
        "parzen": asdict(parzen.evaluate(samples, valid, test, progress=True)),
        "variety": variety.as_dict(),
        **({"label_fidelity": fidelity.as_dict()} if fidelity else {}),
    }


def accept(loaded: LoadedRun, dataset: ImageDataset, samples: Tensor, asked: Tensor) -> Any:
    """The acceptance matrix of the run's D on real test images and on ``samples``."""
    import torch

    from cgan.devices import seeded
    from cgan.metrics.diagnostics import acceptance_matrix
    from experiments.mnist.sampling import from_pixels

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


def draw_grid(samples: Tensor, of: Estimator, dataset: ImageDataset, folder: Path, when: str) -> None:
    """Figure 2: a row per label, ten samples each; without labels, ten rows of ten."""
    from experiments.runs import figures

    rows = samples.view(dataset.classes, -1, samples.shape[1])[:, :10].cpu()
    figures.image_grid(
        rows.reshape(-1, samples.shape[1]).numpy(),
        folder / "samples.png",
        dataset.shape,
        row_labels=of.row_labels,
        title=titled(f"Samples, {when}", dataset),
    )


def curve_place(progress: dict[str, Any]) -> float:
    """The stopping point on the curves' axis of epochs."""
    return next(row["epoch"] for row in progress["history"] if row["update"] == progress["best_t"])


def draw_neighbours(samples: Tensor, of: Estimator, train: Tensor, dataset: ImageDataset, folder: Path) -> None:
    """One sample of each class beside the training images nearest to it: is the net reciting its training set?"""
    from cgan.metrics.diagnostics import nearest_neighbours
    from experiments.runs import figures

    shown = samples[:: len(samples) // dataset.classes]
    indices, distances = nearest_neighbours(shown, train, 6)
    figures.neighbours(
        shown.numpy(),
        train[indices].numpy(),
        distances.numpy(),
        folder / "neighbours.png",
        dataset.shape,
        row_labels=of.row_labels,
        title=titled("Samples and their nearest training images (distance below)", dataset),
    )


def draw_interpolations(loaded: LoadedRun, of: Estimator, dataset: ImageDataset, folder: Path) -> None:
    """From one noise vector to another in twelve steps, each row with its label throughout."""
    import torch

    from cgan.devices import seeded
    from cgan.metrics.diagnostics import interpolate
    from cgan.networks import draw_noise
    from experiments.mnist.sampling import to_pixels
    from experiments.runs import figures

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
        row_labels=of.row_labels,
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
    if "dropout_on" in result:
        on = result["dropout_on"]
        labels = f", labels as asked {on['label_fidelity']['share']:.1%}" if "label_fidelity" in on else ""
        lines.append(
            f"with G's dropout left on: test {on['parzen']['test_mean']:.1f} ± {on['parzen']['test_se']:.1f} nats, "
            f"variety {on['variety']['overall']:.2f}{labels}"
        )
    lines += [f"look: {fault}" for fault in result["collapse"]]
    return "\n".join(lines)
