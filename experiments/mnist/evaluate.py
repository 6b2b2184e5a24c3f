"""Measure a net of the unimodal experiment: estimates while it trains, the result and its figures at the end.

Trains nothing but the classifier that reads the samples.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.mnist.presets import MnistConfig
from experiments.runs.files import convert_record
from experiments.runs.folder import Result, RunFolder, environment
from experiments.runs.records import (
    AcceptanceRecord,
    DensityCoverage,
    DensityCoverageRecord,
    DivergedResult,
    DiversityRecord,
    DropoutOn,
    FidelityRecord,
    MnistResult,
    ParzenScore,
    TrainOnGenerated,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cgan.loop import Estimate
    from cgan.metrics.acceptance import AcceptanceMatrix
    from cgan.metrics.classifier import Classifier
    from cgan.metrics.diversity import IntraClassDiversity
    from cgan.metrics.label_fidelity import LabelFidelity
    from cgan.networks import Discriminator
    from cgan.trainer import Trainer
    from data.labelled import ImageDataset
    from experiments.generators import TrainedGenerator

CLASSIFIER = "classifier.safetensors"

#: Columns of the interpolation figure, and nearest training images beside each sample.
STEPS, NEAREST = 12, 6


class Estimator:
    """Samples from a net and measures: validation likelihood, label fidelity, intra-class diversity, faults."""

    def __init__(
        self, config: MnistConfig, dataset: ImageDataset, classifier: Classifier, device: torch.device
    ) -> None:
        import torch

        from cgan.metrics import parzen
        from cgan.metrics.diversity import pixel_deviation

        self.classifier, self.dataset, self.device = classifier, dataset, device
        self.conditional, self.dropout = config.generator.condition != "none", config.estimate.dropout
        #: The label of each sample.
        self.labels = torch.arange(dataset.classes).repeat_interleave(config.estimate.samples_per_class)
        self.valid = torch.from_numpy(dataset.valid.images[: config.estimate.images]).to(device)
        train_labels = torch.from_numpy(dataset.train.labels) if self.conditional else None
        self.real = pixel_deviation(torch.from_numpy(dataset.train.images), train_labels, dataset.classes)
        self.sigmas = parzen.default_sigmas()
        #: Of the last estimate.
        self.samples: Tensor
        self.faults: list[str] = []

    def __call__(self, trainer: Trainer) -> Estimate:
        """Return the estimate of one moment, with the same noise each time: estimates differ by the net alone."""
        from cgan.devices import seeded
        from cgan.loop import Estimate
        from cgan.metrics import parzen
        from experiments.mnist.sampling import sample_images

        labels = self.labels.to(self.device) if self.conditional else None
        rng = seeded(trainer.seed, "estimates", device=self.device)
        self.samples = sample_images(trainer.sampler, labels, len(self.labels), rng, self.dropout)
        if not self.samples.isfinite().all():
            return Estimate(float("nan"), {}, "")
        best, scores = parzen.choose_sigma(self.valid, self.samples, self.sigmas)
        score = scores[best]
        fidelity, diversity, self.faults = self.measure(self.samples)
        columns = {
            "valid_log_likelihood": score.mean,
            "valid_se": score.se,
            "sigma": score.sigma,
            **({"label_fidelity": fidelity.share} if fidelity else {}),
            "diversity": diversity.overall,
            "faults": len(self.faults),
            **(self.measure_acceptance(trainer) if self.conditional else {}),
        }
        labels_as_asked = f"  labels as asked {fidelity.share:4.0%}" if fidelity else ""
        line = f"validation {score.mean:7.1f} ± {score.se:.1f} nats{labels_as_asked}"
        return Estimate(score.mean, columns, f"{line}  diversity {diversity.overall:.2f}")

    def measure_acceptance(self, trainer: Trainer) -> dict[str, float]:
        """Return the shares of validation images and of every tenth of the last samples that D accepts, by label shown.

        Keys are ``accept_real``, ``accept_real_wrong``, ``accept_fake`` and ``accept_fake_wrong``; none where there are
        too few images for a pack.
        """
        import torch

        labels = torch.from_numpy(self.dataset.valid.labels[: len(self.valid)]).to(self.device)
        training = trainer.D.training
        trainer.D.eval()
        found = acceptance_of(
            trainer.D,
            (self.valid, labels),
            (self.samples, self.labels.to(self.device)),
            trainer.G.spec.output,
            trainer.seed,
            every=10,
            per_class=0,
        )
        trainer.D.train(training)
        names = ("accept_real", "accept_real_wrong", "accept_fake", "accept_fake_wrong")
        return {} if found is None else dict(zip(names, found.accepted.flatten().tolist(), strict=True))

    @property
    def row_labels(self) -> list[int] | None:
        """Labels of a figure's rows, one row a class; None without labels."""
        return list(range(self.dataset.classes)) if self.conditional else None

    def measure(self, samples: Tensor) -> tuple[LabelFidelity | None, IntraClassDiversity, list[str]]:
        """Return label fidelity (None without labels), diversity and faults of ``samples``, in order of ``labels``."""
        from cgan.metrics.classifier import predict
        from cgan.metrics.diversity import intra_class_diversity
        from cgan.metrics.faults import describe_faults
        from cgan.metrics.label_fidelity import label_fidelity

        samples, classes = samples.cpu(), self.dataset.classes
        predicted = predict(self.classifier, samples)
        fidelity = label_fidelity(predicted, self.labels, classes) if self.conditional else None
        diversity = intra_class_diversity(samples, self.labels if self.conditional else None, self.real, classes)
        return fidelity, diversity, describe_faults(fidelity, diversity, classes, predicted=predicted)


def digit_classifier(dataset: ImageDataset, folder: Path) -> Classifier:
    """Return the classifier that reads samples: trained once on the real training images, then kept in ``folder``."""
    import torch

    from cgan import checkpoint
    from cgan.metrics.classifier import classifier_from_state, train_classifier

    path = folder / CLASSIFIER
    if path.exists():
        tensors, record = checkpoint.load(path)
        if record.get("trained_on") == dataset.checksum:
            return classifier_from_state(tensors)
    classifier = train_classifier(
        torch.from_numpy(dataset.train.images),
        torch.from_numpy(dataset.train.labels),
        dataset.classes,
        seed=0,
        progress=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, classifier.state_dict(), {"trained_on": dataset.checksum})
    return classifier


def measure_run(folder: RunFolder, dataset: ImageDataset) -> MnistResult:
    """Measure the run at its stopping point, draw its figures, write and return ``result.json``.

    With ``estimate.measured_on`` validation, the validation images take the place of the test images.
    """
    import torch

    from cgan.metrics import parzen
    from cgan.metrics.classifier import predict
    from experiments.generators import load_generator
    from experiments.runs.training import read_settings, training_end

    loaded = load_generator(folder.path, "mnist")
    record, config = loaded.config, read_settings(folder, loaded.config, MnistConfig.from_dict)
    measured_on = config.estimate.measured_on
    if measured_on == "validation":
        dataset = replace(dataset, test=dataset.valid)
    end = training_end(folder, config.stopping)
    estimator = Estimator(config, dataset, digit_classifier(dataset, folder.path), torch.device("cpu"))
    samples = final_samples(loaded, estimator)
    valid, test = torch.from_numpy(dataset.valid.images), torch.from_numpy(dataset.test.images)
    score = parzen.evaluate(samples, valid, test, progress=True)
    fidelity, diversity, faults = estimator.measure(samples)
    right = predict(estimator.classifier, test) == torch.from_numpy(dataset.test.labels)
    dropout_on = measure_dropout_on(loaded, estimator, valid, test) if loaded.generator.has_dropout else None
    acceptance = measure_acceptance(loaded, estimator, samples) if fidelity else None
    result = MnistResult(
        preset=record.preset,
        stopped_by=end.stopped_by,
        dataset=record.dataset,
        seed=record.seed,
        updates=end.updates,
        best_update=end.best_update,
        best_epoch=end.best_update * config.training.batch_size / len(dataset.train),
        kept=config.stopping.keep,
        seconds=end.seconds,
        weights=loaded.weights,
        measured_on=measured_on,
        parzen=_record(asdict(score), ParzenScore),
        faults=faults,
        diversity=_record(diversity.as_dict(), DiversityRecord),
        classifier_accuracy=right.double().mean().item(),
        label_fidelity=_record(fidelity.as_dict(), FidelityRecord) if fidelity else None,
        acceptance=_record(acceptance.as_dict(), AcceptanceRecord) if acceptance else None,
        train_on_generated=measure_as_training_data(samples, estimator) if fidelity else None,
        density_coverage=measure_density_coverage(samples, estimator),
        dropout_on=dropout_on,
        device=record.device,
        precision=record.precision,
        threads=record.threads,
        sessions=record.sessions,
        environment=environment(),
    )
    draw_figures(loaded, estimator, samples, result, end.history, end.best_epoch)
    folder.write_result(result)
    return result


def final_samples(loaded: TrainedGenerator, estimator: Estimator, dropout: bool = False) -> Tensor:
    """Return the run's samples (n, pixels) in [0, 1] for ``estimator.labels``; the noise is the same with dropout."""
    from cgan.devices import seeded
    from experiments.mnist.sampling import sample_images

    labels, rng = estimator.labels if estimator.conditional else None, seeded(loaded.config.seed, "samples")
    return sample_images(loaded.generator, labels, len(estimator.labels), rng, dropout)


def measure_dropout_on(loaded: TrainedGenerator, estimator: Estimator, valid: Tensor, test: Tensor) -> DropoutOn:
    """Return the measures of samples drawn with G's dropout left on."""
    from cgan.metrics import parzen

    samples = final_samples(loaded, estimator, dropout=True)
    fidelity, diversity, _ = estimator.measure(samples)
    return DropoutOn(
        parzen=_record(asdict(parzen.evaluate(samples, valid, test, progress=True)), ParzenScore),
        diversity=_record(diversity.as_dict(), DiversityRecord),
        label_fidelity=_record(fidelity.as_dict(), FidelityRecord) if fidelity else None,
    )


def measure_acceptance(loaded: TrainedGenerator, estimator: Estimator, samples: Tensor) -> AcceptanceMatrix | None:
    """Return what the run's D accepts of the real test images and of ``samples``."""
    import torch

    assert loaded.discriminator is not None
    test, output = estimator.dataset.test, loaded.generator.spec.output
    real = torch.from_numpy(test.images), torch.from_numpy(test.labels)
    return acceptance_of(loaded.discriminator, real, (samples, estimator.labels), output, loaded.config.seed)


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
    from cgan.devices import seeded
    from cgan.metrics.acceptance import acceptance_matrix, packs_of_labels
    from experiments.mnist.sampling import from_pixels

    spec = D.spec
    shown = [packs_of_labels(*images, spec.pack) for images in (real, fake)]
    shown[1] = shown[1][0][::every], shown[1][1][::every]
    if not all(len(packs) for packs, _ in shown):
        return None
    return acceptance_matrix(
        lambda images, labels: D(from_pixels(images, output), labels),
        *(*shown[0], *shown[1], spec.condition_dim),
        generator=seeded(seed, "wrong labels"),
        per_class=per_class,
    )


def measure_density_coverage(samples: Tensor, estimator: Estimator) -> DensityCoverage:
    """Compare ``samples`` with the test images by nearest neighbours, on the classifier's features and on pixels."""
    import torch

    from cgan.metrics.classifier import features
    from cgan.metrics.density_coverage import NEIGHBOURS, density_coverage_by_class

    test, classes = estimator.dataset.test, estimator.dataset.classes
    real, labels = torch.from_numpy(test.images), torch.from_numpy(test.labels)
    asked = estimator.labels if estimator.conditional else None

    def compare(here: Tensor, there: Tensor) -> DensityCoverageRecord:
        scores = density_coverage_by_class(here, labels, there, asked, classes)
        record: DensityCoverageRecord = _record({"k": NEIGHBOURS, **scores}, DensityCoverageRecord)
        return record

    classifier = estimator.classifier
    return {
        "features": compare(features(classifier, real), features(classifier, samples)),
        "pixels": compare(real, samples),
    }


def measure_as_training_data(samples: Tensor, estimator: Estimator) -> TrainOnGenerated:
    """Return the test accuracy of a classifier trained on ``samples``, and on as many real images."""
    import torch

    from cgan.metrics.label_fidelity import train_on_generated

    train, test = estimator.dataset.train, estimator.dataset.test
    on_test = torch.from_numpy(test.images), torch.from_numpy(test.labels)
    real = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    return TrainOnGenerated(
        generated=train_on_generated(samples, estimator.labels, *on_test, seed=0),
        real=train_on_generated(*real, *on_test, seed=0, max_train=len(samples)),
    )


def draw_figures(
    loaded: TrainedGenerator,
    estimator: Estimator,
    samples: Tensor,
    result: MnistResult,
    history: list[dict[str, float]],
    best_epoch: float,
) -> None:
    """Draw all figures of a finished run into its folder."""
    from experiments.runs import figures

    folder, dataset = Path(loaded.source), estimator.dataset
    which = "best validation likelihood" if result.kept == "best" else "last weights"
    draw_grid(samples, estimator, folder, f"{which}, update {loaded.weights.update:,}")
    draw_neighbours(samples, estimator, folder)
    draw_interpolations(loaded, estimator, folder)
    figures.curves(history, folder / "curves.png", chosen=best_epoch, title=titled("Training", dataset))
    score = result.parzen
    title = titled("Choice of sigma", dataset)
    figures.parzen_curve(score.sigmas, score.valid_means, score.sigma, folder / "parzen.png", title=title)
    if result.acceptance is not None and result.label_fidelity is not None:
        title = titled("What D accepts", dataset)
        figures.acceptance(result.acceptance, folder / "acceptance.png", title=title)
        title = titled("How often samples are read as the label asked for", dataset)
        figures.fidelity_bars(result.label_fidelity, folder / "label_fidelity.png", title=title)
    if result.weights is not None:
        figures.stamp(folder.glob("*.png"), result.weights)


def titled(text: str, dataset: ImageDataset) -> str:
    """Return a figure's title, with the data set's name if it is the embedded one."""
    return f"{text} — {dataset.name}" if dataset.embedded else text


def draw_grid(samples: Tensor, estimator: Estimator, folder: Path, when: str) -> None:
    """Draw figure 2 of the paper: a row per label, ten samples each; without labels, ten rows of ten."""
    from experiments.runs import figures

    dataset = estimator.dataset
    rows = samples.view(dataset.classes, -1, samples.shape[1])[:, :10].cpu()
    title = titled(f"Samples, {when}", dataset)
    figures.image_grid(rows, folder / "samples.png", dataset.shape, row_labels=estimator.row_labels, title=title)


def draw_neighbours(samples: Tensor, estimator: Estimator, folder: Path) -> None:
    """Draw one sample of each class beside the training images nearest to it: does the net copy its training set?"""
    import torch

    from cgan.metrics.neighbours import nearest_neighbours
    from experiments.runs import figures

    dataset = estimator.dataset
    train, shown = torch.from_numpy(dataset.train.images), samples[:: len(samples) // dataset.classes]
    indices, _ = nearest_neighbours(shown, train, NEAREST)
    images = torch.cat([shown[:, None], train[indices]], 1)
    title = titled("Samples, and the training images nearest to each", dataset)
    figures.image_grid(
        images,
        folder / "neighbours.png",
        dataset.shape,
        row_labels=estimator.row_labels,
        column_labels=["sample", "nearest", *(f"{place}." for place in range(2, NEAREST + 1))],
        title=title,
    )


def draw_interpolations(loaded: TrainedGenerator, estimator: Estimator, folder: Path) -> None:
    """Draw what G makes on the way from one noise vector to another, each row with its label throughout."""
    import torch

    from cgan.devices import seeded
    from cgan.networks import interpolate_noise, sample_noise
    from experiments.mnist.sampling import to_pixels
    from experiments.runs import figures

    spec, dataset = loaded.generator.spec, estimator.dataset
    ends = sample_noise(spec.noise, (2 * dataset.classes, spec.input_dim), seeded(loaded.config.seed, "interpolation"))
    spherical = spec.noise == "normal"
    pairs = zip(ends[::2], ends[1::2], strict=True)
    z = torch.cat([interpolate_noise(start, end, STEPS, spherical=spherical) for start, end in pairs])
    labels = torch.arange(loaded.classes).repeat_interleave(STEPS) if loaded.classes else None
    with torch.no_grad():
        images = to_pixels(loaded.generator(z, labels), spec.output)
    title = titled("From one noise vector to another, the label unchanged", dataset)
    path, rows = folder / "interpolation.png", images.view(dataset.classes, STEPS, -1)
    figures.image_grid(rows, path, dataset.shape, row_labels=estimator.row_labels, title=title)


def summary(result: Result) -> str:
    """Return a run's result as lines for the terminal."""
    if isinstance(result, DivergedResult):
        return f"  diverged at update {result.updates:,}: {result.reason}"
    assert isinstance(result, MnistResult)
    p = result.parzen
    edge = ", at the edge of the grid" if p.at_edge else ""
    published = "132 ± 1.8" if result.label_fidelity else "225 ± 2"
    paper = "" if result.dataset.embedded or result.measured_on != "test" else f"; in the paper's Table 1: {published}"
    rows = [
        (
            f"{result.measured_on} log-likelihood",
            f"{p.test_mean:.1f} ± {p.test_se:.1f} nats (Parzen window, sigma {p.sigma:.3f}{edge}{paper})",
        ),
        ("choice of sigma", f"{p.valid_mean:.1f} ± {p.valid_se:.1f} nats on the validation images"),
        ("intra-class diversity", f"{_number(result.diversity.overall)} of real digits'"),
    ]
    if result.label_fidelity is not None:
        real = f"the classifier reads {result.classifier_accuracy:.1%} of real {result.measured_on} digits"
        rows.append(("labels as asked", f"{_share(result.label_fidelity.share)} ({real})"))
    if (trained := result.train_on_generated) is not None:
        rows.append(
            (
                "trained on samples",
                f"{trained.generated:.1%} of real {result.measured_on} digits (on real: {trained.real:.1%})",
            )
        )
    if (quality := (result.density_coverage or {}).get("features")) is not None:
        rows.append(("density, coverage", f"{quality.overall.density:.2f}, {quality.overall.coverage:.2f} of features"))
    if (on := result.dropout_on) is not None:
        labels = f", labels as asked {_share(on.label_fidelity.share)}" if on.label_fidelity else ""
        figures = f"{on.parzen.test_mean:.1f} ± {on.parzen.test_se:.1f} nats, diversity {_number(on.diversity.overall)}"
        rows.append(("with G's dropout on", figures + labels))
    ended = "when no better estimate came" if result.stopped_by == "patience" else "at the last update asked for"
    kept = "the best on validation images" if result.kept == "best" else "the last ones"
    lines = [
        f"  weights of update {result.best_update:,} of {result.updates:,}, {kept}; "
        f"{result.seconds / 60:.1f} min of training, ended {ended}",
        *(f"  {name:<22} {value}" for name, value in rows),
        *(f"  look: {fault}" for fault in result.faults),
    ]
    return "\n".join(lines)


def _record(values: dict[str, Any], form: type[Any]) -> Any:
    return convert_record(values, form, form.__name__)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
