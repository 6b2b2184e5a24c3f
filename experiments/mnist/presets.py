"""Presets of the unimodal experiment: every hyper-parameter with its section of the paper. Runs nothing.

"GAN" is Goodfellow et al. (2014), whose recipe is followed where the paper is silent.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from cgan.settings import SamplingSettings, StoppingSettings, TrainingSettings
from cgan.specs import DiscriminatorSpec, GeneratorSpec
from experiments import UsageError
from experiments.runs.files import convert_record


@dataclass(frozen=True)
class EstimateSettings:
    """What an estimate during training measures, and on how much."""

    samples_per_class: int = 1_000
    """Images sampled of each class (section 4.1); an unconditional net samples ten times as many."""
    images: int = 1_000
    """Validation images scored at each estimate; the final score takes all of them."""
    dropout: bool = False
    """Leave G's dropout on, as trained, while sampling for estimates, which choose the stopping point: open in the
    paper. The result has figures of both kinds of samples in any case."""
    measured_on: Literal["test", "validation"] = "test"
    """Images that the result is measured on; validation: to choose settings without a look at the test images."""

    def __post_init__(self) -> None:
        if not 10 <= self.samples_per_class <= 100_000:
            raise UsageError(
                f"estimate.samples_per_class is {self.samples_per_class:,}: give 10 (a row of the grid) to 100,000"
            )
        if self.images < 1:
            raise UsageError(f"estimate.images is {self.images}: at least one image must be scored")


@dataclass(frozen=True)
class MnistConfig:
    """All settings of one run of the unimodal experiment (section 4.1)."""

    generator: GeneratorSpec
    discriminator: DiscriminatorSpec
    training: TrainingSettings = field(default_factory=TrainingSettings)
    stopping: StoppingSettings = field(default_factory=StoppingSettings)
    estimate: EstimateSettings = field(default_factory=EstimateSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    def __post_init__(self) -> None:
        if self.sampling.dropout and not any(layer.dropout for layer in self.generator.layers):
            raise UsageError("sampling.dropout is set, but no layer of G has dropout: give one some, or leave it out")

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: the ``settings`` of ``config.json``."""
        return {**asdict(self), "generator": self.generator.as_dict(), "discriminator": self.discriminator.as_dict()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> MnistConfig:
        """Return what ``as_dict`` wrote; raises ``UsageError`` or ``CganError`` on anything else."""
        try:
            return cls(
                GeneratorSpec.from_dict(record["generator"]),
                DiscriminatorSpec.from_dict(record["discriminator"]),
                convert_record(record["training"], TrainingSettings, "settings.training"),
                convert_record(record["stopping"], StoppingSettings, "settings.stopping"),
                convert_record(record["estimate"], EstimateSettings, "settings.estimate"),
                convert_record(record.get("sampling", {}), SamplingSettings, "settings.sampling"),
            )
        except KeyError as error:
            raise UsageError(f"settings of a run of mnist lack {error}; give those of one") from None


def paper() -> MnistConfig:
    """Section 4.1's nets and optimiser. Where the paper is silent, chosen on validation likelihood."""
    # docs/details.md measures what most of these choices do. The noise has mean 0 and variance 1, as in GAN's recipe.
    return MnistConfig(
        generator=GeneratorSpec(
            input_dim=100,
            noise="centred_uniform",
            condition="one_hot",
            condition_dim=10,
            input_branch="relu:200,dropout=0.5",
            condition_branch="relu:1000,dropout=0.5",
            joint="relu:1200,dropout=0.5",
            output_dim=784,
            output="sigmoid",
            # By fan-in, or 200 noise units at +-0.05 make G start almost constant, and D wins at once.
            input_init="fan_in",
            joint_init="fan_in",
            output_init="fan_in",
            # Not by fan-in: the label would outweigh the noise.
            condition_init="uniform:0.05",
            # Zero, not GAN's logit of the mean pixel: the sigmoid has no slope there.
            output_bias="zero",
        ),
        discriminator=DiscriminatorSpec(
            input_dim=784,
            condition="one_hot",
            condition_dim=10,
            input_branch="maxout:240x5,dropout=0.5",
            condition_branch="maxout:50x5,dropout=0.5",
            joint="maxout:240x4,dropout=0.5",
            input_init="uniform:0.005",
            condition_init="uniform:0.005",
            joint_init="uniform:0.005",
            output_init="uniform:0.005",
            # GAN's own.
            input_dropout=0.2,
        ),
        # 250 epochs, GAN's momentum ramp: by then the rate has fallen to 0.0007, and little can change.
        stopping=StoppingSettings(max_updates=125_000),
    )


def paper_literal() -> MnistConfig:
    """Section 4.1 to the letter (noise U(0, 1), dropout on hidden units only), weights and biases as in GAN."""
    config, inits = paper(), {f"{part}_init": "uniform:0.05" for part in ("input", "joint", "output")}
    return replace(
        config,
        generator=replace(config.generator, noise="uniform", output_bias="marginals", **inits),  # type: ignore[arg-type]
        discriminator=replace(config.discriminator, input_dropout=0.0),
    )


def gan() -> MnistConfig:
    """The unconditional net of Table 1, by GAN's own recipe: no condition, dropout in D alone."""
    return MnistConfig(
        generator=GeneratorSpec(
            input_dim=100,
            noise="centred_uniform",
            joint=("relu:1200", "relu:1200"),
            output_dim=784,
            output="sigmoid",
            output_bias="marginals",
        ),
        discriminator=DiscriminatorSpec(
            input_dim=784,
            joint=("maxout:240x5,dropout=0.5", "maxout:240x5,dropout=0.5"),
            joint_init="uniform:0.005",
            output_init="uniform:0.005",
            input_dropout=0.2,
        ),
        training=TrainingSettings(decay=1.000004),
        # 250 epochs, as long as ``paper``; GAN's own file has no stopping rule.
        stopping=StoppingSettings(max_updates=125_000),
    )


def tutorial() -> MnistConfig:
    """A widely copied tutorial variant: label embeddings, LeakyReLU, batch normalisation, Adam, alternating updates."""
    return MnistConfig(
        generator=GeneratorSpec(
            input_dim=100,
            noise="normal",
            condition="embedding",
            condition_dim=10,
            embedding_dim=10,
            joint=("leaky_relu:128", *(f"leaky_relu:{n},batch_norm" for n in (256, 512, 1024))),
            output_dim=784,
            output="tanh",
            joint_init="normal:0.02",
            output_init="normal:0.02",
        ),
        discriminator=DiscriminatorSpec(
            input_dim=784,
            condition="embedding",
            condition_dim=10,
            embedding_dim=10,
            joint=("leaky_relu:512", "leaky_relu:512,dropout=0.4", "leaky_relu:512,dropout=0.4"),
            joint_init="normal:0.02",
            output_init="normal:0.02",
        ),
        training=TrainingSettings(
            batch_size=64,
            optimiser="adam",
            learning_rate=2e-4,
            decay=1.0,
            min_learning_rate=2e-4,
            update="alternating",
            fake_conditions="fresh",
        ),
        # Its source trains 100 epochs and keeps the last weights; likelihood would keep an early update (500 of them).
        stopping=StoppingSettings(max_updates=78_100, keep="last"),
    )


def conditional_best() -> MnistConfig:
    """The paper's nets with settings chosen on validation images, for its conjecture that they can match GAN."""
    # Chosen by hand; a search over sizes, dropout, initial weights and rate found nothing significantly better.
    config = paper()
    return replace(
        config,
        generator=replace(
            config.generator,
            input_branch="relu:200,dropout=0.25",
            condition_branch="relu:1000,dropout=0.25",
            joint="relu:1200,dropout=0.25",
        ),
        training=replace(config.training, decay=1.000004, averaging=0.999),
        stopping=replace(config.stopping, max_updates=40_000),
    )


def many_digits() -> MnistConfig:
    """``conditional-best``, drawn with a little of G's dropout left on: the digits of a label differ more."""
    # The best of nine rates on validation images (docs/one-to-many.md). Training and its stopping point are the same.
    return replace(conditional_best(), sampling=SamplingSettings(dropout=True, dropout_rate=0.05))


#: Presets of ``python -m experiments.mnist`` by name.
MNIST_PRESETS = {
    "paper": paper,
    "paper-literal": paper_literal,
    "gan": gan,
    "tutorial": tutorial,
    "conditional-best": conditional_best,
    "many-digits": many_digits,
}


def on_digits(config: MnistConfig, given: Container[str] = ()) -> MnistConfig:
    """Return ``config`` with the embedded digits' own settings, but for those ``given`` by name on the command line.

    With MNIST's settings D takes some 6,000 updates to see the labels, which is 550 epochs of these 1,197 images, and
    the likelihood is at its best long before. These are the best of ten variants tried once each on the validation
    digits, so the figures are optimistic: 99.6% of the samples are read as asked at update 3,000 (9% before).
    """
    stopping = {"max_updates": 20_000, "estimate_every": 500, "patience": 10, "min_updates": 5_000}
    d = config.discriminator
    sees_labels: dict[str, Any] = {}
    if d.condition == "one_hot":
        sees_labels = {
            "condition_init": "uniform:0.5",
            "condition_branch": tuple(replace(layer, dropout=0.0) for layer in d.condition_branch),
            "joint": tuple(replace(layer, dropout=min(layer.dropout, 0.25)) for layer in d.joint),
        }

    def changed(section: str, values: dict[str, Any]) -> Any:
        own = {name: value for name, value in values.items() if f"{section}.{name}" not in given}
        return replace(getattr(config, section), **own)

    discriminator = changed("discriminator", sees_labels)
    return replace(config, stopping=changed("stopping", stopping), discriminator=discriminator)
