"""The form of a run's ``config.json`` and ``result.json``, which ``experiments.runs.folder`` writes and reads.

msgspec checks types, ranges and required fields. What is not listed here is not in the files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from cgan.settings import SamplingSettings

Count = Annotated[int, Meta(ge=0, le=10**12)]
#: No number of a run comes near it; a larger one is damage, and would overflow what is computed from it.
LARGEST = 1e12
Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(max_length=10_000)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

#: Revision of the numerics: raised whenever the same seed and settings give other numbers than before.
#: 0 stands for runs made before it was recorded.
NUMERICS = 1

#: Methods of the multimodal experiment by their names in ``result.json``, and what readers call them.
METHODS = {
    "cgan": "Conditional adversarial net",
    "commonest": "Always the commonest tags",
    "vote": "Votes of similar photos",
    "ridge": "Linear map (ridge)",
    "mlp": "MLP regression",
}

#: What draws words of a photo, by the names of ``result.json``.
SOURCES = {
    "cgan": "Conditional adversarial net, dropout off",
    "cgan_dropout": "Conditional adversarial net, dropout on",
    "similar": "Real tags of similar photos",
    "ridge_noise": "Ridge plus Gaussian noise of its residuals",
    "mlp_dropout": "MLP regression, dropout on",
    "real": "The photo's own tags",
}


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """The data set a run was trained on."""

    name: Text
    embedded: bool  # True for a stand-in that ships with the code; such a run never fills a row of the paper's tables.
    checksum: Text
    images: Count | None = None  # Number of photos, where only a part was taken.


@dataclass(frozen=True, kw_only=True)
class Session:
    """One start of a run's command: a run that was resumed has several."""

    command: Text
    git_revision: Text | None
    started: Text  # UTC, ISO 8601.
    device: Text
    threads: Count
    replicas: Count = 1  # Seeds trained at once in this process.


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the measuring process ran on."""

    command: Text
    python: Text
    platform: Text
    cpu_cores: Count | None
    packages: dict[str, str]
    git_revision: Text | None


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights that a figure or a file was made from."""

    update: Count
    sha256: Text


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """``config.json``: everything that decides a run's numbers, and the history of its starts."""

    experiment: Literal["mnist", "flickr-tags"]
    preset: Text
    preset_file: Text | None = None  # The JSON file that the preset was read from, if it is not one of this package's.
    dataset: DatasetRecord
    seed: Seed
    settings: dict[str, Any]  # As the experiment's own config class reads them.
    changes: dict[str, Any] = field(default_factory=dict)  # From the preset's own, by dotted name (``is_of_the_run``).
    preset_updates: Count | None = None  # Of the preset itself; with fewer in ``settings`` the run is cut short.
    device: Text
    precision: Literal["float32", "bfloat16"]
    threads: Count | None = None
    fast: bool = True
    numerics: Count = 0
    sessions: list[Session] = field(default_factory=list)
    network: dict[str, Any] | None = None  # flickr-tags: the frozen network of the image features.
    notice: Text | None = None  # flickr-tags: what a reader must know about the data.


@dataclass(frozen=True, kw_only=True)
class ParzenScore:
    """Gaussian Parzen window log-likelihood in nats; the fields of ``cgan.metrics.parzen.ParzenResult``."""

    sigma: Number
    valid_mean: Number
    valid_se: Number
    test_mean: Number
    test_se: Number
    n_samples: Count
    n_valid: Count
    n_test: Count
    dim: Count
    at_edge: bool
    sigmas: list[Number]
    valid_means: list[Number]


@dataclass(frozen=True, kw_only=True)
class DiversityRecord:
    """Intra-class diversity: pixel standard deviation within a class relative to real images (real images: 1)."""

    overall: Number | None
    per_class: list[Number | None]
    twins: list[Number | None]
    finite: bool


@dataclass(frozen=True, kw_only=True)
class FidelityRecord:
    """How often a sample is read as the label it was asked for."""

    share: Share | None
    per_class: list[Number | None]
    confusion: list[list[Count]]  # Rows: label asked for; columns: label read by the classifier.


@dataclass(frozen=True, kw_only=True)
class AcceptanceRecord:
    """What D accepts: rows real and generated, columns own label and wrong label."""

    rows: list[str]
    columns: list[str]
    mean: list[list[Number | None]]  # Mean D(x, y).
    accepted: list[list[Number | None]]  # Share with D(x, y) > 0.5.
    by_label_real: list[list[Number | None]]
    by_label_fake: list[list[Number | None]]


@dataclass(frozen=True, kw_only=True)
class TrainOnGenerated:
    """Accuracy on real test images of a classifier trained on samples, and on as many real images."""

    generated: Share
    real: Share


@dataclass(frozen=True, kw_only=True)
class NeighbourScores:
    """The fields of ``cgan.metrics.density_coverage.DensityCoverage``."""

    precision: Share
    recall: Share
    density: Number
    coverage: Share


@dataclass(frozen=True, kw_only=True)
class DensityCoverageRecord:
    """Precision, recall, density and coverage of samples among test images, by ``k`` nearest neighbours."""

    k: Count
    overall: NeighbourScores
    per_class: list[NeighbourScores | None]  # Samples of a class among the test images of it; empty without labels.


#: The same on the classifier's features and on pixels.
DensityCoverage = dict[Literal["features", "pixels"], DensityCoverageRecord]


@dataclass(frozen=True, kw_only=True)
class DropoutOn:
    """The same measures with G's dropout left on while sampling."""

    parzen: ParzenScore
    diversity: DiversityRecord
    label_fidelity: FidelityRecord | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What every ``result.json`` holds."""

    experiment: Literal["mnist", "flickr-tags"]
    preset: Text
    status: Literal["finished", "diverged"]
    dataset: DatasetRecord
    seed: Seed
    updates: Count
    sessions: list[Session] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class DivergedResult(RunResult):
    """``result.json`` of a run whose training diverged."""

    status: Literal["diverged"] = "diverged"
    reason: Text
    environment: Environment | None = None


@dataclass(frozen=True, kw_only=True)
class FinishedResult(RunResult):
    """What ``result.json`` of a finished run holds in both experiments."""

    status: Literal["finished"] = "finished"
    stopped_by: Literal["patience", "max_updates"]
    best_update: Count  # Update of the weights kept.
    seconds: Number  # Wall time of training, estimates included.
    weights: Weights | None = None
    measured_on: Literal["test", "validation"] = "test"  # validation: to choose settings; such a run fills no table.
    device: Text
    precision: Literal["float32", "bfloat16"]
    threads: Count | None = None
    environment: Environment


@dataclass(frozen=True, kw_only=True)
class MnistResult(FinishedResult):
    """``result.json`` of a finished run of the unimodal experiment."""

    experiment: Literal["mnist"] = "mnist"
    best_epoch: Number
    kept: Literal["best", "last"] = "best"
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    """How the samples behind these figures were drawn; those of ``dropout_on`` at the rate of training."""
    parzen: ParzenScore
    faults: list[str]
    diversity: DiversityRecord
    classifier_accuracy: Share
    label_fidelity: FidelityRecord | None = None
    acceptance: AcceptanceRecord | None = None
    train_on_generated: TrainOnGenerated | None = None
    density_coverage: DensityCoverage | None = None
    dropout_on: DropoutOn | None = None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over photos with a 95% bootstrap interval."""

    value: Number
    low: Number
    high: Number


@dataclass(frozen=True, kw_only=True)
class MethodMeasures:
    """What one tagging method reaches on the held-out photos."""

    precision_at_10: Interval | None
    recall_at_10: Interval | None
    f1_at_10: Interval | None
    mean_average_precision: Interval | None
    hit_at_10: Interval | None
    best_cosine: Interval | None
    distinct_tags: Count
    diversity: Interval | None = None  # Mean cosine distance between a photo's samples (cgan only).
    cgan_minus_this_precision: Interval | None = None  # Of precision at 10, photo by photo (baselines only).


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """Of the words that ``low`` to ``high`` of a photo's samples have: how many are true tags of it."""

    low: Share
    high: Share
    pairs: Count  # (photo, word) pairs in the bin.
    drawn: Share  # Mean share of samples that have the word.
    right: Share  # Share of the pairs whose word is a true tag.


@dataclass(frozen=True, kw_only=True)
class OneToMany:
    """How the words drawn for one photo differ and whether they are right; means over photos, with intervals."""

    diversity: Interval | None  # Mean cosine distance between a photo's samples.
    coverage: Interval | None = None  # Share of a photo's true tags that are the nearest word of a sample.
    correctness: Interval | None = None  # Share of the samples whose nearest word is a true tag.
    calibration: list[CalibrationBin] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class TradeOffPoint:
    """Measures of the samples of validation photos at one rate of G's dropout while drawing; means over photos."""

    dropout_rate: Share  # 0: dropout off.
    diversity: Number
    coverage: Share
    correctness: Share
    precision_at_10: Share
    mean_average_precision: Share


@dataclass(frozen=True, kw_only=True)
class FlickrResult(FinishedResult):
    """``result.json`` of a finished run of the multimodal experiment."""

    experiment: Literal["flickr-tags"] = "flickr-tags"
    images: dict[str, Count]  # Photos by split: train, valid, test.
    test_images: Count  # Number of photos in it.
    pairs: Count
    vocabulary: dict[str, Count]  # ``words``: word vectors; ``decoding``: words that can be generated.
    # Precision at 10, against user tags and annotations, of the best possible choice among the words.
    highest_precision: Share | None = None
    highest_precision_user_tags: Share | None = None  # The same against user tags alone.
    left_out: dict[str, Count]
    network: dict[str, Any]
    measures: dict[str, MethodMeasures]  # By method, against user tags and annotations (section 4.2).
    measures_user_tags: dict[str, MethodMeasures]  # By method, against user tags alone.
    one_to_many: dict[str, OneToMany] | None = None  # By source of words, against both kinds of tags.
    trade_off: list[TradeOffPoint] = field(default_factory=list)  # On validation photos, by rate of dropout.
    baselines: dict[str, Number]  # Settings of the baselines, chosen on validation photos.
    notice: Text | None = None
