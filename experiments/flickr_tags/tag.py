"""Tag your own photos: ``python -m experiments.tag many-tags photo.jpg [more | folder]``, or with a run of your own.

Uses the network, vocabulary and settings that the generator was trained with.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from experiments import UsageError
from experiments.flickr_tags.presets import SCALE, VOCABULARY, FlickrConfig
from experiments.runs.cli import parse, run
from experiments.runs.files import check_output, write_json
from experiments.runs.folder import RunFolder
from experiments.runs.records import RunConfig
from experiments.runs.training import read_settings

if TYPE_CHECKING:
    from torch import Tensor

    from cgan.networks import Generator
    from embeddings.images.networks import FrozenNetwork
    from embeddings.vocabulary import Vocabulary
    from experiments.flickr_tags.dataset import Scale


@dataclass(frozen=True)
class Command:
    """Tags for photos by a trained generator of experiments.flickr_tags."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME|RUN")]
    """Name of a generator that comes with this package (many-tags), or folder of a run, such as
    runs/flickr-tags/paper-flickr-mini-seed1."""
    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Photos, or folders of photos."""
    json: Path | None = None
    """Write {"path": [["tag", share], ...]} to this file; - for standard output."""
    top: int = 10
    """Tags for each photo."""
    weights: Path | None = None
    """Weights file of the frozen network, where it no longer lies where the run found it."""
    seed: int = 1
    """Seed of the noise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"--top {self.top}: ask for at least one tag a photo")
        if not self.photos:
            raise UsageError("no photo is named: give photos, or folders of photos, after the run")


@dataclass(frozen=True, eq=False)
class Tagger:
    """What tagging needs."""

    config: FlickrConfig
    record: RunConfig
    generator: Generator
    vocabulary: Vocabulary
    network: FrozenNetwork
    scale: Scale


@dataclass(frozen=True)
class ScaleRecord:
    """The JSON record of ``scale.safetensors``."""

    kind: str
    length: float


def load_tagger(run: str | Path, weights: Path | None = None) -> Tagger:
    """Return the tagger of this name, or of the run in this folder; ``weights`` are those of the frozen network.

    Raises ``UsageError``, ``CganError`` or ``EmbeddingError``.
    """
    from cgan import checkpoint
    from embeddings.vocabulary import Vocabulary
    from experiments.flickr_tags.dataset import Scale, decoding_vocabulary, load_frozen
    from experiments.generators import load_generator

    net = load_generator(run, "flickr-tags")
    record, file = net.config, net.folder.config_path if net.folder else net.source
    checksum = (record.network or {}).get("checksum")
    if not isinstance(checksum, str):
        raise UsageError(f"{file}: field network.checksum is missing; restore the file, or train again")
    if net.folder is not None:
        config = read_settings(net.folder, record, FlickrConfig.from_dict)
        vocabulary, fitted = read_inputs(net.folder, config)
    else:
        assert net.record is not None
        config, fitted = FlickrConfig.from_dict(record.settings), checkpoint.subset(net.tensors, "scale.")
        vocabulary = Vocabulary.from_arrays(net.record.words, net.tensors["words"].float().numpy())
    if weights is not None:
        config = replace(config, features=replace(config.features, weights=str(weights)))
    features = config.features
    network = load_frozen(features)
    if network.checksum != checksum:
        raise UsageError(
            f"the weights of {network.name} ({network.weights}) are not those that the run was trained with: name the "
            "right file with --weights"
        )
    sizes = {name: tuple(tensor.shape) for name, tensor in fitted.items()}
    needed = () if features.scaling in ("none", "unit") else ("mean", "deviation")
    if sizes != dict.fromkeys(needed, (network.dim,)):
        raise UsageError(f"{run}: not the scale of this run's features; restore the run's own {SCALE}")
    scale = Scale(
        features.scaling, features.length, **{name: tensor.float().numpy() for name, tensor in fitted.items()}
    )
    return Tagger(config, record, net.generator, decoding_vocabulary(vocabulary, config), network, scale)


def read_inputs(folder: RunFolder, config: FlickrConfig) -> tuple[Vocabulary, dict[str, Tensor]]:
    """Return a run's words, and the tensors of its features' scale, both checked against ``config``."""
    from cgan import checkpoint
    from embeddings.vocabulary import Vocabulary

    words, scale = folder.path / VOCABULARY, folder.path / SCALE
    # Without the vocabulary's JSON, rare words would be generated as well.
    for needed in (words, words.with_suffix(".json"), scale):
        if not needed.exists():
            raise UsageError(f"{needed}: no such file yet; --resume the run until its first estimate")
    vocabulary = Vocabulary.load(words)
    if "sha256" not in vocabulary.info:
        raise UsageError(f"{words.with_suffix('.json')}: not of {VOCABULARY}; restore the run's own file")
    if vocabulary.vectors.shape[1] != config.generator.output_dim:
        raise UsageError(
            f"{words} holds vectors of {vocabulary.vectors.shape[1]} numbers, but the run's generator gives "
            f"{config.generator.output_dim}: restore the run's own vocabulary"
        )
    tensors, values = checkpoint.load(scale)
    kept = checkpoint.convert(values, ScaleRecord, scale)
    if (kept.kind, kept.length) != (config.features.scaling, config.features.length):
        raise UsageError(f"{scale}: not the scale of this run's features; restore the run's own file")
    return vocabulary, tensors


def tag_photos(
    tagger: Tagger, paths: Sequence[Path], top: int = 10, seed: int = 1, device: str = "cpu"
) -> tuple[dict[str, list[tuple[str, float]]], dict[str, str]]:
    """Return each photo's ``top`` tags, best first, with the share of samples near each; and why some are skipped.

    The noise starts from the seed for every call, so a photo's tags depend on its place among ``paths`` as well.
    """
    from cgan.devices import seeded
    from embeddings.decoding import decode
    from experiments.flickr_tags.dataset import features_of
    from experiments.flickr_tags.evaluate import sample_vectors

    features, rows, skipped = features_of(tagger.network, paths, device=device)
    if not len(rows):
        return {}, skipped
    settings, rng = tagger.config.decoding, seeded(seed, "tags", device=device)
    generator, y = tagger.generator.to(device), tagger.scale(features)
    blocks = sample_vectors(generator, y, settings.samples, rng, settings.drawing_dropout)
    progress = sys.stderr.isatty()
    found = decode(tagger.vocabulary, blocks, settings.neighbours, top, device=device, progress=progress)
    shares = found.shares.tolist()
    return {
        str(paths[row]): list(zip(words, share, strict=False))  # A small vocabulary may give fewer words.
        for row, words, share in zip(rows.tolist(), found.rankings(tagger.vocabulary), shares, strict=True)
    }, skipped


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, or 1 if no photo could be read."""
    command = parse(Command, "experiments.tag", argv)
    from cgan.devices import resolve_device
    from embeddings.images.extract import find_images
    from experiments.runs.photo_table import percent, printable

    to_stdout = str(command.json) == "-"
    if command.json is not None and not to_stdout:
        check_output(command.json, "--json")
    device = str(resolve_device(command.device))
    paths = find_images(command.photos)
    tagger = load_tagger(command.run, command.weights)
    tags, skipped = tag_photos(tagger, paths, command.top, command.seed, device)
    for path, reason in skipped.items():
        print(f"NOTE: {printable(path)} is left out: {reason}.", file=sys.stderr)
    record = {path: [[word, round(share, 4)] for word, share in of_photo] for path, of_photo in tags.items()}
    if to_stdout:
        print(json.dumps(record, indent=2))
        return 0 if tags else 1
    if command.json is not None:
        command.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(command.json, record)
    if notice := tagger.record.notice:
        print(f"NOTE: of the training data: {notice}.")
    for path, of_photo in tags.items():
        print(f"{printable(path)}\n  {', '.join(f'{word} {percent(share)}' for word, share in of_photo)}")
    return 0 if tags else 1


if __name__ == "__main__":
    raise SystemExit(run(main))
