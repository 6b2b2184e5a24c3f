"""Presets of the multimodal experiment (section 4.2): every hyper-parameter, each with its section of the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import msgspec

from cgan.settings import SamplingSettings, StoppingSettings, TrainingSettings
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Init
from cgan.specs import parse_layers as layers
from experiments import UsageError
from experiments.runs.files import convert_record

#: A run's own copies of its word vectors and of the scale of its features.
VOCABULARY, SCALE = "vocabulary.bin", "scale.safetensors"


@dataclass(frozen=True)
class PairSettings:
    """Which (image, tag) pairs train, and which images are held out."""

    annotations: Literal["potential", "relevant", "none"] = "potential"
    """Which annotations count as extra tags (section 4.2): every one, those marked relevant (_r1), or none."""
    train: int = 150_000
    """The first so many pairs, in the order of the images, train (section 4.2)."""
    train_share: float = 0.7
    """At most this share of the images trains; half of the others validates, half tests. Open in the paper."""
    measured_on: Literal["test", "validation"] = "test"
    """Photos that the result is measured on; validation: to choose settings without a look at the test photos."""

    def __post_init__(self) -> None:
        if self.train < 1 or not 0 < self.train_share < 1:
            raise UsageError(
                f"pairs.train is {self.train} and pairs.train_share {self.train_share}: at least one pair must train, "
                "and a share between 0 and 1 of the images"
            )


@dataclass(frozen=True)
class FeatureSettings:
    """The frozen network that turns images into the condition y (section 4.2), and the scale of what it gives."""

    network: str = "auto"
    """alexnet, vgg16 (torchvision, fc7), or a name of timm's; auto: the one whose weights lie under the data root,
    else alexnet; for the embedded scenes tf_efficientnet_lite0 with the weights of the extra photos, and without it
    mobilenetv1_100 with random weights, so that nothing is downloaded."""
    weights: str | None = None
    """Weights file (safetensors) of the network, or package (the extra photos: tf_efficientnet_lite0); else the data
    root's weights/NETWORK.safetensors, else a download."""
    grid: int | None = None
    """Average the last feature map over a grid of so many rows and columns; None: the network's own pooling, but 2
    for mobilenetv1_100, which then gives 4,096 numbers."""
    random_weights: bool = False
    """Use the network untrained, with random weights."""
    scaling: Literal["none", "standard", "unit", "centred_unit"] = "unit"
    """none: as they are; standard: each number to mean 0, variance 1; unit: each image to length 1; centred_unit: the
    same after the training images' mean is taken off. Open in the paper."""
    length: float = 8.0
    """Every scaled feature is multiplied by this. Open in the paper."""

    def __post_init__(self) -> None:
        if not 0 < self.length < float("inf"):
            raise UsageError(f"features.length is {self.length}: it must be a positive number")


@dataclass(frozen=True)
class WordSettings:
    """The frozen word vectors x that are generated (section 4.2)."""

    vectors: str | None = None
    """File of word vectors (word2vec, GloVe); else skip-gram on the YFCC100M rows under the data root."""
    min_count: int = 200
    """Words seen less often are dropped from the corpus (section 4.2)."""
    epochs: int = 0
    """Passes over the corpus; 0: word2vec's usual 5 for 100 million tokens or more, up to 50 for a smaller corpus."""
    centred: bool = False
    """Take the mean of all word vectors (at length 1) off each, for training and for decoding. Open in the paper."""
    length: float = 5.0
    """Every word vector is scaled to this length; 0 leaves each at its own. Open in the paper."""

    def __post_init__(self) -> None:
        if self.min_count < 1 or self.epochs < 0 or not 0 <= self.length < float("inf"):
            raise UsageError(
                f"words.min_count is {self.min_count}, words.epochs {self.epochs} and words.length {self.length}: "
                "they must be at least 1, 0 or more, and 0 or more"
            )


@dataclass(frozen=True)
class DecodingSettings(SamplingSettings):
    """How generated vectors become words (section 4.2)."""

    samples: int = 100
    """Vectors drawn for an image (section 4.2)."""
    neighbours: int = 20
    """Nearest words taken of each (section 4.2)."""
    words: int = 10
    """Words kept: those that occur most often (section 4.2)."""
    min_count: int = 200
    """Only words seen so often can come out, where the counts are known (section 4.2's vocabulary)."""
    min_photos: int = 10
    """Only words that so many training photos (2% of them, if that is fewer) have as a tag can come out; 0: any word.
    Words of titles and descriptions that are no tags (its, some) crowd out tags. Not in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("samples", "neighbours", "words", "min_count"):
            if getattr(self, name) < 1:
                raise UsageError(f"decoding.{name} is {getattr(self, name)}: it must be at least 1")
        if self.min_photos < 0:
            raise UsageError(f"decoding.min_photos is {self.min_photos}: it must not be negative")


@dataclass(frozen=True)
class FlickrConfig:
    """All settings of the multimodal experiment (section 4.2)."""

    generator: GeneratorSpec
    discriminator: DiscriminatorSpec
    training: TrainingSettings = field(default_factory=TrainingSettings)
    stopping: StoppingSettings = field(default_factory=StoppingSettings)
    pairs: PairSettings = field(default_factory=PairSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    words: WordSettings = field(default_factory=WordSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    estimate_images: int = 200
    """Validation images of an estimate during training; the final figures take all of a split."""

    def __post_init__(self) -> None:
        if self.estimate_images < 1:
            raise UsageError(f"estimate_images is {self.estimate_images}: at least one image must be looked at")

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready, as ``config.json`` holds it."""
        return {**asdict(self), "generator": self.generator.as_dict(), "discriminator": self.discriminator.as_dict()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> FlickrConfig:
        """Return what ``as_dict`` wrote; raises ``UsageError`` or ``CganError`` on anything else."""
        if missing := [each.name for each in fields(cls) if each.name not in record]:
            raise UsageError(f"settings of a run of flickr-tags lack {missing[0]}; give those of one")
        nets = {
            "generator": GeneratorSpec.from_dict(record["generator"]),
            "discriminator": DiscriminatorSpec.from_dict(record["discriminator"]),
        }
        return convert_record({**record, **msgspec.to_builtins(nets)}, cls, "settings")


def flickr_paper() -> FlickrConfig:
    """Section 4.2's nets and optimiser. What the paper leaves open was chosen on validation images (docs/tags.md)."""
    return FlickrConfig(
        generator=GeneratorSpec(
            input_dim=100,
            noise="normal",
            condition="real",
            condition_dim=4096,
            input_branch=layers("relu:500,dropout=0.5"),
            condition_branch=layers("relu:2000,dropout=0.5"),
            output_dim=200,
            output="linear",
            input_init=Init("fan_in"),
            condition_init=Init("fan_in"),
            joint_init=Init("fan_in"),
            output_init=Init("fan_in"),
        ),
        discriminator=DiscriminatorSpec(
            input_dim=200,
            condition="real",
            condition_dim=4096,
            input_branch=layers("relu:500,dropout=0.5"),
            condition_branch=layers("relu:1200,dropout=0.5"),
            joint=layers("maxout:1000x3,dropout=0.5"),
            input_init=Init("uniform", 0.05),
            condition_init=Init("uniform", 0.02),
            joint_init=Init("uniform", 0.02),
            output_init=Init("uniform", 0.02),
            # Real vectors are a few hundred points, which no generator hits: without dropout D recognises them.
            input_dropout=0.5,
        ),
        # The paper's decay takes 288,000 updates to its floor. The mean of the weights tags better than any of them.
        training=TrainingSettings(decay=1.0003, averaging=0.998),
        stopping=StoppingSettings(
            max_updates=3_000, first_estimate=250, estimate_every=250, patience=8, min_updates=1_500
        ),
        # Without their common mean, features show what distinguishes photos. Words keep their mean (docs/details.md).
        features=FeatureSettings(scaling="centred_unit", length=20.0),
        words=WordSettings(length=10.0),
    )


def flickr_paper_literal() -> FlickrConfig:
    """Section 4.2 to the letter: features and word vectors as they come, rate, decay and dropout as for MNIST."""
    config = flickr_paper()
    return replace(
        config,
        discriminator=replace(config.discriminator, input_dropout=0.0),
        training=TrainingSettings(),
        features=FeatureSettings(scaling="none", length=1.0),
        words=WordSettings(length=0.0),
        decoding=DecodingSettings(min_photos=0),
    )


def flickr_matching_aware() -> FlickrConfig:
    """As paper, but D also learns that a real tag of another photo is wrong, which the paper's training never shows."""
    config = flickr_paper()
    return replace(
        config,
        discriminator=replace(config.discriminator, input_dropout=0.3),
        training=TrainingSettings(decay=1.0007, averaging=0.998, discriminator_loss="matching_aware"),
    )


def flickr_many_tags() -> FlickrConfig:
    """As matching-aware, but three quarters of G's units are dropped while drawing: one photo, many different words."""
    # Of eight rates the one whose samples differ most nearly as a photo's real tags do (docs/one-to-many.md).
    config = flickr_matching_aware()
    return replace(config, decoding=replace(config.decoding, dropout=True, dropout_rate=0.75))


#: Presets of ``python -m experiments.flickr_tags`` by name.
FLICKR_PRESETS = {
    "paper": flickr_paper,
    "paper-literal": flickr_paper_literal,
    "matching-aware": flickr_matching_aware,
    "many-tags": flickr_many_tags,
}
