"""Measure a net of the unimodal experiment: estimates while it trains, the result and its figures at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from cgan import checkpoint
from cgan.devices import seeded
from cgan.loop import Estimate
from cgan.metrics import parzen
from cgan.metrics.acceptance import AcceptanceMatrix, acceptance_matrix, packs_of_labels
from cgan.metrics.arrays import plain
from cgan.metrics.classifier import Classifier, classifier_from_state, features, predict, train_classifier
from cgan.metrics.density_coverage import density_coverage_by_class
from cgan.metrics.diversity import IntraClassDiversity, intra_class_diversity, pixel_deviation
from cgan.metrics.faults import describe_faults
from cgan.metrics.label_fidelity import LabelFidelity, label_fidelity, train_on_generated
from cgan.metrics.neighbours import nearest_neighbours
from cgan.networks import Discriminator, interpolate_noise, sample_noise
from cgan.trainer import Trainer
from data.labelled import ImageDataset
from experiments.generators import TrainedGenerator, load_generator
from experiments.mnist.presets import MnistConfig
from experiments.mnist.sampling import from_pixels, sample_images, to_pixels
from experiments.runs import figures
from experiments.runs.folder import Result, RunFolder, environment
from experiments.runs.records import DivergedResult, MnistResult
from experiments.runs.training import TrainingEnd, read_settings, training_end

CLASSIFIER = "classifier.safetensors"

#: Columns of the interpolation figure, and nearest training images beside each sample.
STEPS, NEAREST = 12, 6


class Estimator:
    """Samples from a net and measures: validation likelihood, label fidelity, intra-class diversity, faults."""

    def __init__(
        self, config: MnistConfig, dataset: ImageDataset, classifier: Classifier, device: torch.device
    ) -> None:
        self.classifier, self.dataset, self.device = classifier, dataset, device
        self.conditional, self.dropout = config.generator.condition != "none", config.estimate.dropout
        #: The label of each sample.
        self.labels = torch.arange(dataset.classes).repeat_interleave(config.estimate.samples_per_class)
        self.valid = torch.from_numpy(dataset.valid.images[: config.estimate.images]).to(device)
        train_labels = torch.from_numpy(dataset.train.labels) if self.conditional else None
        self.real = pixel_deviation(torch.from_numpy(dataset.train.images), train_labels, dataset.classes)
        #: Of the last estimate.
        self.samples: Tensor
        self.faults: list[str] = []

    def __call__(self, trainer: Trainer) -> Estimate:
        """Return the estimate of one moment, with the same noise each time: estimates differ by the net alone."""
        labels = self.labels.to(self.device) if self.conditional else None
        rng = seeded(trainer.seed, "estimates", device=self.device)
        self.samples = sample_images(trainer.sampler, labels, len(self.labels), rng, self.dropout)
        if not self.samples.isfinite().all():
            return Estimate(float("nan"), {}, "")
        best, scores = parzen.choose_sigma(self.valid, self.samples, parzen.default_sigmas())
        score = scores[best]
        fidelity, diversity, self.faults = self.measure(self.samples)
        columns = {"valid_log_likelihood": score.mean, "valid_se": score.se, "sigma": score.sigma}
        if fidelity is not None:
            columns["label_fidelity"] = fidelity.share
        columns |= {"diversity": diversity.overall, "faults": len(self.faults)}
        if labels is not None:
            # Shares of the validation images and of every tenth sample that D accepts, by the label shown to it.
            real = self.valid, torch.from_numpy(self.dataset.valid.labels[: len(self.valid)]).to(self.device)
            fake, output = (self.samples, labels), trainer.G.spec.output
            accepted = acceptance_of(trainer.D, real, fake, output, trainer.seed, every=10, per_class=0)
            names = ("accept_real", "accept_real_wrong", "accept_fake", "accept_fake_wrong")
            if accepted is not None:
                columns |= dict(zip(names, accepted.accepted.flatten().tolist(), strict=True))
        labels_as_asked = f"  labels as asked {fidelity.share:4.0%}" if fidelity else ""
        line = f"validation {score.mean:7.1f} ± {score.se:.1f} nats{labels_as_asked}"
        return Estimate(score.mean, columns, f"{line}  diversity {diversity.overall:.2f}")

    def measure(self, samples: Tensor) -> tuple[LabelFidelity | None, IntraClassDiversity, list[str]]:
        """Return label fidelity (None without labels), diversity and faults of ``samples``, in order of ``labels``."""
        samples, classes = samples.cpu(), self.dataset.classes
        predicted = predict(self.classifier, samples)
        fidelity = label_fidelity(predicted, self.labels, classes) if self.conditional else None
        diversity = intra_class_diversity(samples, self.labels if self.conditional else None, self.real, classes)
        return fidelity, diversity, describe_faults(fidelity, diversity, classes, predicted)


def digit_classifier(dataset: ImageDataset, folder: Path) -> Classifier:
    """Return the classifier that reads samples: trained once on the real training images, then kept in ``folder``."""
    path = folder / CLASSIFIER
    if path.exists():
        tensors, record = checkpoint.load(path)
        if record.get("trained_on") == dataset.checksum:
            return classifier_from_state(tensors)
    images, labels = torch.from_numpy(dataset.train.images), torch.from_numpy(dataset.train.labels)
    classifier = train_classifier(images, labels, dataset.classes, seed=0, progress=True)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, classifier.state_dict(), {"trained_on": dataset.checksum})
    return classifier


def measure_run(folder: RunFolder, dataset: ImageDataset) -> MnistResult:
    """Measure the run at its stopping point, on ``estimate.measured_on``; draw, write and return its result."""
    loaded = load_generator(folder.path, "mnist")
    run, config = loaded.config, read_settings(folder, loaded.config, MnistConfig.from_dict)
    if config.estimate.measured_on == "validation":
        dataset = replace(dataset, test=dataset.valid)
    end = training_end(folder, config.stopping)
    estimator = Estimator(config, dataset, digit_classifier(dataset, folder.path), torch.device("cpu"))
    classifier, conditional, asked = estimator.classifier, estimator.conditional, estimator.labels
    (train, train_labels), (valid, _), (test, test_labels) = (
        (torch.from_numpy(part.images), torch.from_numpy(part.labels))
        for part in (dataset.train, dataset.valid, dataset.test)
    )

    def measure(dropout: bool | float) -> tuple[Tensor, list[str], dict[str, Any]]:
        """Return samples, their faults, and their measures, ready for JSON."""
        rng = seeded(run.seed, "samples")
        samples = sample_images(loaded.generator, asked if conditional else None, len(asked), rng, dropout)
        fidelity, diversity, faults = estimator.measure(samples)
        score = parzen.evaluate(samples, valid, test, progress=True)
        found = {"parzen": score, "diversity": diversity, "label_fidelity": fidelity}
        return samples, faults, {name: plain(value) for name, value in found.items()}

    samples, faults, measures = measure(config.sampling.drawing_dropout)
    if loaded.generator.has_dropout:
        measures["dropout_on"] = measure(True)[2]
    if conditional and loaded.discriminator is not None:
        real, fake = (test, test_labels), (samples, asked)
        measures["acceptance"] = plain(
            acceptance_of(loaded.discriminator, real, fake, config.generator.output, run.seed)
        )
        measures["train_on_generated"] = {
            "generated": train_on_generated(samples, asked, test, test_labels, seed=0),
            "real": train_on_generated(train, train_labels, test, test_labels, seed=0, max_train=len(samples)),
        }
    spaces = {"features": (features(classifier, test), features(classifier, samples)), "pixels": (test, samples)}
    measures["density_coverage"] = {
        name: density_coverage_by_class(real, test_labels, generated, asked if conditional else None, dataset.classes)
        for name, (real, generated) in spaces.items()
    }
    about = {
        "preset": run.preset,
        "stopped_by": end.stopped_by,
        "dataset": run.dataset,
        "seed": run.seed,
        "updates": end.updates,
        "best_update": end.best_update,
        "best_epoch": end.best_update * config.training.batch_size / len(train),
        "kept": config.stopping.keep,
        "sampling": config.sampling,
        "seconds": end.seconds,
        "weights": loaded.weights,
        "measured_on": config.estimate.measured_on,
        "faults": faults,
        "classifier_accuracy": (predict(classifier, test) == test_labels).double().mean().item(),
        "device": run.device,
        "precision": run.precision,
        "threads": run.threads,
        "sessions": run.sessions,
        "environment": environment(),
    }
    record = {**{name: plain(value) for name, value in about.items()}, **measures}
    # Made anew by its own class: what msgspec converts it writes without the defaults.
    result = MnistResult(**vars(msgspec.convert(record, MnistResult)))
    draw_figures(loaded, estimator, samples, result, end)
    folder.write_result(result)
    return result


def acceptance_of(
    D: Discriminator,
    real: tuple[Tensor, Tensor],
    fake: tuple[Tensor, Tensor],
    output: str,
    seed: int,
    every: int = 1,
    per_class: int = 100,
) -> AcceptanceMatrix | None:
    """Return what D accepts of images (n, pixels) in [0, 1] with labels (n,): with their own, and with wrong ones.

    ``output`` is G's, whose range D takes. A D that judges packs is shown packs of one label; of the generated ones
    one in ``every`` is. None where there are too few images for a pack.
    """
    real, fake = packs_of_labels(*real, D.spec.pack), packs_of_labels(*fake, D.spec.pack)
    fake = fake[0][::every], fake[1][::every]
    if not len(real[0]) or not len(fake[0]):
        return None
    training = D.training
    D.eval()
    found = acceptance_matrix(
        lambda images, labels: D(from_pixels(images, output), labels),
        *(*real, *fake, D.spec.condition_dim),
        generator=seeded(seed, "wrong labels"),
        per_class=per_class,
    )
    D.train(training)
    return found


def draw_figures(
    loaded: TrainedGenerator, estimator: Estimator, samples: Tensor, result: MnistResult, end: TrainingEnd
) -> None:
    """Draw all figures of a finished run into its folder."""
    folder, dataset, classes = Path(loaded.source), estimator.dataset, estimator.dataset.classes
    which = "best validation likelihood" if result.kept == "best" else "last weights"
    draw_grid(samples, estimator, folder, f"{which}, update {loaded.weights.update:,}")

    # One sample of each class beside the training images nearest to it: does the net copy its training set?
    train = torch.from_numpy(dataset.train.images)
    shown = samples[:: len(samples) // classes]
    rows = torch.cat([shown[:, None], train[nearest_neighbours(shown, train, NEAREST)[0]]], 1)
    columns = ["sample", "nearest", *(f"{place}." for place in range(2, NEAREST + 1))]
    draw_rows(rows, folder / "neighbours.png", "Samples, and the training images nearest to each", estimator, columns)

    # What G makes on the way from one noise vector to another, each row with its label throughout.
    spec = loaded.generator.spec
    ends = sample_noise(spec.noise, (2 * classes, spec.input_dim), seeded(loaded.config.seed, "interpolation"))
    pairs, spherical = zip(ends[::2], ends[1::2], strict=True), spec.noise == "normal"
    z = torch.cat([interpolate_noise(start, end, STEPS, spherical=spherical) for start, end in pairs])
    labels = torch.arange(classes).repeat_interleave(STEPS) if loaded.classes else None
    with torch.no_grad():
        rows = to_pixels(loaded.generator(z, labels), spec.output).view(classes, STEPS, -1)
    draw_rows(rows, folder / "interpolation.png", "From one noise vector to another, the label unchanged", estimator)

    title = titled("Training", dataset)
    figures.curves(end.history, folder / "curves.png", chosen=end.best_epoch, title=title)
    score, title = result.parzen, titled("Choice of sigma", dataset)
    figures.parzen_curve(score.sigmas, score.valid_means, score.sigma, folder / "parzen.png", title=title)
    if result.acceptance is not None and result.label_fidelity is not None:
        figures.acceptance(result.acceptance, folder / "acceptance.png", title=titled("What D accepts", dataset))
        title = titled("What samples are read as", dataset)
        figures.confusion(result.label_fidelity, folder / "label_fidelity.png", title=title)
    if result.weights is not None:
        figures.stamp(folder.glob("*.png"), result.weights)


def titled(text: str, dataset: ImageDataset) -> str:
    """Return a figure's title, with the data set's name if it is the embedded one."""
    return f"{text} — {dataset.name}" if dataset.embedded else text


def draw_grid(samples: Tensor, estimator: Estimator, folder: Path, when: str) -> None:
    """Draw figure 2 of the paper: a row per label, ten samples each; without labels, ten rows of ten."""
    rows = samples.view(estimator.dataset.classes, -1, samples.shape[1])[:, :10].cpu()
    draw_rows(rows, folder / "samples.png", f"Samples, {when}", estimator)


def draw_rows(rows: Tensor, path: Path, title: str, estimator: Estimator, columns: list[str] | None = None) -> None:
    """Draw images (classes, columns, pixels), a row a class."""
    dataset, title = estimator.dataset, titled(title, estimator.dataset)
    labels = list(range(dataset.classes)) if estimator.conditional else None
    figures.image_grid(rows, path, dataset.shape, row_labels=labels, column_labels=columns, title=title)


def summary(result: Result) -> str:
    """Return a run's result as lines for the terminal."""
    if isinstance(result, DivergedResult):
        return f"  diverged at update {result.updates:,}: {result.reason}"
    assert isinstance(result, MnistResult)
    p, fidelity, images = result.parzen, result.label_fidelity, f"real {result.measured_on} digits"
    edge = ", at the edge of the grid" if p.at_edge else ""
    published = "132 ± 1.8" if fidelity else "225 ± 2"
    paper = "" if result.dataset.embedded or result.measured_on != "test" else f"; in the paper's Table 1: {published}"
    score = f"{p.test_mean:.1f} ± {p.test_se:.1f} nats (Parzen window, sigma {p.sigma:.3f}{edge}{paper})"
    rows = {
        f"{result.measured_on} log-likelihood": score,
        "choice of sigma": f"{p.valid_mean:.1f} ± {p.valid_se:.1f} nats on the validation images",
        "intra-class diversity": f"{_form(result.diversity.overall, '.2f')} of real digits'",
    }
    if (drawn := result.sampling).dropout:
        rows["sampled with"] = f"G's dropout on{f', at a rate of {drawn.dropout_rate:g}' if drawn.dropout_rate else ''}"
    if fidelity is not None:
        real = f"the classifier reads {result.classifier_accuracy:.1%} of {images}"
        rows["labels as asked"] = f"{_form(fidelity.share, '.1%')} ({real})"
    if (trained := result.train_on_generated) is not None:
        rows["trained on samples"] = f"{trained.generated:.1%} of {images} (on real: {trained.real:.1%})"
    if (quality := (result.density_coverage or {}).get("features")) is not None:
        rows["density, coverage"] = f"{quality.overall.density:.2f}, {quality.overall.coverage:.2f} of features"
    if (on := result.dropout_on) is not None:
        labels = f", labels as asked {_form(on.label_fidelity.share, '.1%')}" if on.label_fidelity else ""
        nats = f"{on.parzen.test_mean:.1f} ± {on.parzen.test_se:.1f} nats"
        rows["dropout as trained"] = f"{nats}, diversity {_form(on.diversity.overall, '.2f')}{labels}"
    ended = "when no better estimate came" if result.stopped_by == "patience" else "at the last update asked for"
    kept = "the best on validation images" if result.kept == "best" else "the last ones"
    lines = [
        f"  weights of update {result.best_update:,} of {result.updates:,}, {kept}; "
        f"{result.seconds / 60:.1f} min of training, ended {ended}",
        *(f"  {name:<22} {value}" for name, value in rows.items()),
        *(f"  look: {fault}" for fault in result.faults),
    ]
    return "\n".join(lines)


def _form(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)
