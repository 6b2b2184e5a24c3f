"""Trained generators by name: ``NAME.safetensors`` in this folder, in half precision, and its card ``NAME.md``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cgan.settings import SamplingSettings
from experiments import UsageError
from experiments.runs.files import convert_record
from experiments.runs.folder import Experiment, RunFolder
from experiments.runs.records import RunConfig, Text, Weights

if TYPE_CHECKING:
    from torch import Tensor

    from cgan.networks import Discriminator, Generator
    from cgan.specs import DiscriminatorSpec, GeneratorSpec

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What a generator reaches on test data."""

    what: Text  # Measure, unit and kind of error.
    value: float
    error: float


@dataclass(frozen=True, kw_only=True)
class GeneratorRecord:
    """The metadata of a generator's file."""

    config: RunConfig  # The run's settings with the spec, its preset, seed, and data set with checksum.
    weights: Weights  # The single precision weights that these were rounded from.
    revision: Text | None  # Of the code that trained them last.
    figure: Figure
    rounding: Text  # What half precision changes.
    licence: Text
    words: list[Text] = field(default_factory=list)
    """flickr-tags: the words that can be generated, in the order of the rows of the tensor ``words``."""


@dataclass(frozen=True, eq=False)
class TrainedGenerator:
    """A generator in single precision, in evaluation mode on the CPU, with the record of its run."""

    source: str  # ``generator NAME``, or the run's folder.
    config: RunConfig
    generator: Generator
    weights: Weights  # Update at which the weights were kept, and checksum of their file's tensors.
    discriminator: Discriminator | None = None  # None where it came by name: the files hold generators alone.
    folder: RunFolder | None = None  # None where it came by name.
    record: GeneratorRecord | None = None  # Of one that came by name: the file's metadata.
    tensors: dict[str, Tensor] = field(default_factory=dict)  # Of one that came by name: all that its file holds.

    @property
    def sampling(self) -> SamplingSettings:
        """Whether the run's settings leave G's dropout on while drawing; raises ``UsageError`` if damaged."""
        section = "sampling" if self.config.experiment == "mnist" else "decoding"
        where = f"{self.source}: settings.{section}"
        return convert_record(self.config.settings.get(section, {}), SamplingSettings, where)

    @property
    def classes(self) -> int | None:
        """Number of labels the generator takes; None if it takes none."""
        spec = self.generator.spec
        return spec.condition_dim if spec.condition in ("one_hot", "embedding") else None


def names() -> list[str]:
    """Return the names of the generators that come with this package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def load_generator(run: str | Path, experiment: Experiment | None = None) -> TrainedGenerator:
    """Return the trained generator of this name, or of the run in this folder; raises, naming the file at fault."""
    if str(run) in names() and not RunFolder(Path(run)).config_path.exists():
        return _load_named(str(run), experiment)
    try:
        folder = RunFolder.existing(Path(run))
    except UsageError as error:
        raise UsageError(f"{error}; generators by name: {', '.join(names())}") from None
    from experiments.runs.training import load_networks, read_settings

    config = folder.read_config(experiment)
    generator, discriminator, _ = load_networks(folder, config, *read_settings(folder, config, specs))
    return TrainedGenerator(str(folder), config, generator, folder.best_weights(), discriminator, folder)


def specs(settings: dict[str, object]) -> tuple[GeneratorSpec, DiscriminatorSpec]:
    """Return the specs of both nets from the settings of a ``config.json``; raises ``UsageError`` or ``CganError``."""
    from cgan.specs import DiscriminatorSpec, GeneratorSpec

    try:
        return GeneratorSpec.from_dict(settings["generator"]), DiscriminatorSpec.from_dict(settings["discriminator"])
    except KeyError as error:
        raise UsageError(f"the settings lack {error}") from None


def _load_named(name: str, experiment: Experiment | None) -> TrainedGenerator:
    import torch

    from cgan import checkpoint
    from cgan.devices import seeded
    from cgan.networks import Generator

    path = FOLDER / f"{name}.safetensors"
    tensors, metadata = checkpoint.load(path)
    record = checkpoint.convert(metadata, GeneratorRecord, path)
    config = record.config
    if experiment not in (None, config.experiment):
        raise UsageError(
            f"generator {name}: of {config.experiment}, not of {experiment}; name another, or a run's folder"
        )
    spec, _ = specs(config.settings)
    # The mean does not matter: the stored weights replace it.
    generator = Generator(spec, seeded(0, "G"), torch.full((spec.output_dim,), 0.5))
    checkpoint.load_into(generator, checkpoint.subset(tensors, "G."), path)
    weights = Weights(update=record.weights.update, sha256=checkpoint.tensors_sha256(tensors))
    return TrainedGenerator(f"generator {name}", config, generator.eval(), weights, record=record, tensors=tensors)
