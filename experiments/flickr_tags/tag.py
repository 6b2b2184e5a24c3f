"""Tags for anybody's photos from a trained run: ``python -m experiments.tag RUN photo.jpg [more | folder]``.

Takes the run's own network, vocabulary and settings; trains nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from experiments import UsageError
from experiments.flickr_tags.presets import FlickrConfig
from experiments.runs import folder as runs
from experiments.runs.cli import run

if TYPE_CHECKING:
    from cgan.networks import Generator
    from embeddings.images.networks import FrozenNetwork
    from embeddings.vocabulary import Vocabulary
    from experiments.flickr_tags.dataset import Scale


@dataclass(frozen=True)
class Command:
    """Tags for photos by the generator of a run of experiments.flickr_tags."""

    run: tyro.conf.Positional[Path]
    """The run's folder, such as runs/flickr-tags/paper-flickr-mini-seed1."""
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
    """All of a run that tagging needs."""

    config: FlickrConfig
    record: dict[str, Any]
    generator: Generator
    vocabulary: Vocabulary
    network: FrozenNetwork
    scale: Scale


def load_tagger(folder: Path, weights: Path | None = None) -> Tagger:
    """The tagger of the run in ``folder``; raises ``UsageError``, ``CganError`` or ``EmbeddingError`` naming a file."""
    import torch

    from cgan import checkpoint as checkpoints
    from cgan.devices import seeded
    from cgan.networks import Generator
    from embeddings.vocabulary import Vocabulary
    from experiments.flickr_tags.__main__ import SCALE, VOCABULARY
    from experiments.flickr_tags.dataset import Scale, decoding_vocabulary, load_frozen

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the folder of a run of experiments.flickr_tags")
    needed = {"network": ("checksum",), "dataset": ("embedded",)}
    record, config = runs.read_config(folder, "experiments.flickr_tags", needed, FlickrConfig.from_dict)
    if weights is not None:
        config = replace(config, features=replace(config.features, weights=str(weights)))
    # Without the vocabulary's account, rare words would come out as well.
    for name in (VOCABULARY, str(Path(VOCABULARY).with_suffix(".json")), SCALE, runs.BEST):
        if not (folder / name).exists():
            raise UsageError(f"{folder / name}: no such file yet; --resume the run until its first estimate")
    vocabulary = Vocabulary.load(folder / VOCABULARY)
    if "sha256" not in vocabulary.info:
        account = (folder / VOCABULARY).with_suffix(".json")
        raise UsageError(f"{account}: not the account of {VOCABULARY}; restore the run's own file")
    if vocabulary.vectors.shape[1] != config.generator.output_dim:
        raise UsageError(
            f"{folder / VOCABULARY} holds vectors of {vocabulary.vectors.shape[1]} numbers, but the run's generator "
            f"gives {config.generator.output_dim}: restore the run's own vocabulary"
        )
    tensors, kept = checkpoints.load(folder / SCALE)
    # Any mean will do: the stored weights replace the start.
    generator = Generator(config.generator, seeded(0, "G"), torch.zeros(config.generator.output_dim))
    best, _ = checkpoints.load(folder / runs.BEST)
    checkpoints.load_into(generator, checkpoints.part(best, "G."), folder / runs.BEST)
    network = load_frozen(config.features)
    if network.checksum != record["network"]["checksum"]:
        raise UsageError(
            f"the weights of {network.name} ({network.weights}) are not those that the run was trained with: name the "
            "right file with --weights"
        )
    sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    fitted = () if config.features.scaling in ("none", "unit") else ("mean", "deviation")
    if kept.get("kind") != config.features.scaling or sizes != dict.fromkeys(fitted, (network.dim,)):
        raise UsageError(f"{folder / SCALE}: not the scale of this run's features; restore the run's own file")
    scale = Scale(kept["kind"], kept["length"], *(_array(tensors.get(name)) for name in ("mean", "deviation")))
    return Tagger(config, record, generator.eval(), decoding_vocabulary(vocabulary, config), network, scale)


def _array(tensor: Any) -> Any:
    return None if tensor is None else tensor.numpy()


def tag_photos(
    tagger: Tagger, paths: Sequence[Path], top: int = 10, seed: int = 1, device: str = "cpu"
) -> tuple[dict[str, list[tuple[str, float]]], dict[str, str]]:
    """For each photo its ``top`` tags, best first, each with the share of samples near it; and why others are skipped.

    The noise starts anew for every call, so a photo's tags depend on its place among ``paths`` as well.
    """
    from cgan.devices import seeded
    from experiments.flickr_tags.dataset import features_of
    from experiments.flickr_tags.evaluate import tag

    features, rows, skipped = features_of(tagger.network, paths, device=device)
    if not len(rows):
        return {}, skipped
    rng = seeded(seed, "tags", device=device)
    found = tag(
        tagger.generator.to(device),
        tagger.scale(features),
        tagger.vocabulary,
        tagger.config,
        rng,
        words=top,
        progress=sys.stderr.isatty(),
    )
    shares = found.decoded.shares.tolist()
    return {
        str(paths[row]): list(zip(words, share[: len(words)], strict=True))
        for row, words, share in zip(rows.tolist(), found.rankings, shares, strict=True)
    }, skipped


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, or 1 if no photo could be read."""
    command = tyro.cli(Command, args=argv, prog="python -m experiments.tag")
    from cgan.devices import resolve_device
    from embeddings.images.extract import find_images
    from experiments.runs.photo_table import percent, printable

    if command.json is not None and str(command.json) != "-":
        runs.check_output(command.json, "--json")
    device = str(resolve_device(command.device))
    paths = find_images(command.photos)
    tagger = load_tagger(command.run, command.weights)
    tags, skipped = tag_photos(tagger, paths, command.top, command.seed, device)
    for path, reason in skipped.items():
        print(f"NOTE: {printable(path)} is left out: {reason}.", file=sys.stderr)
    record = {path: [[word, round(share, 4)] for word, share in of_photo] for path, of_photo in tags.items()}
    if command.json is not None and str(command.json) != "-":
        command.json.parent.mkdir(parents=True, exist_ok=True)
        runs.write_json(command.json, record)
    if str(command.json) == "-":
        import json

        print(json.dumps(record, indent=2))
        return 0 if tags else 1
    if notice := tagger.record.get("notice"):
        print(f"NOTE: of the run's data: {notice}.")
    for path, of_photo in tags.items():
        print(f"{printable(path)}\n  {', '.join(f'{word} {percent(share)}' for word, share in of_photo)}")
    return 0 if tags else 1


if __name__ == "__main__":
    raise SystemExit(run(main))
