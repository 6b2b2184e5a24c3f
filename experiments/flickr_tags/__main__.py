"""The multimodal experiment (section 4.2): ``python -m experiments.flickr_tags PRESET`` trains a tagger of photos."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cgan import CganError
from experiments import UsageError
from experiments.flickr_tags.presets import FLICKR_PRESETS, SCALE, VOCABULARY, FlickrConfig
from experiments.runs import engines, training
from experiments.runs.cli import Options, check_name, parse_command, printed_command, run
from experiments.runs.engines import Engine
from experiments.runs.folder import RunFolder
from experiments.runs.records import DatasetRecord, DivergedResult

if TYPE_CHECKING:
    import torch

    from cgan.devices import Precision
    from cgan.trainer import Trainer
    from data.mirflickr import TaggedPhotos
    from embeddings.vocabulary import Vocabulary
    from experiments.flickr_tags.dataset import FlickrData

MODULE = "experiments.flickr_tags"


@dataclass(frozen=True)
class Command(Options):
    """Train one net to generate word vectors for photos, and measure its tags beside four baselines."""

    config: Annotated[FlickrConfig, tyro.conf.arg(name="")]
    preset: tyro.conf.Suppress[str] = "paper"
    dataset: str = "auto"
    """mirflickr (downloaded if need be), flickr-mini, scenes (embedded), or a folder in MIRFLICKR's layout; auto takes
    the first of these that is there, without a download."""
    images: int | None = None
    """Take only the first so many photos that have a tag; of the embedded scenes, render just so many."""
    data_root: Path | None = None
    """Folder of the data sets; else $CGAN_DATA, else data/raw."""
    runs: Path = Path("runs")
    """Folder of all runs; this one goes to RUNS/flickr-tags/NAME, features and word vectors to RUNS/cache."""
    engine: Engine = "local"
    """Where the corpus is cleaned and the features are computed; both give the same. local: processes of this machine.
    ray: a Ray that is started here, or the cluster at $RAY_ADDRESS, whose machines must see the same files."""
    name: str | None = None
    """Name of the run; PRESET-DATASET-seedSEED if not given, with -imagesN after DATASET for --images N."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.images is not None and self.images < 10:
            raise UsageError(f"--images {self.images}: give 10 or more, or there is nothing to hold out")


def parse(argv: Sequence[str] | None) -> Command:
    """Return the command that the arguments ask for; ends the program on a mistake and after ``--help``."""
    return parse_command(Command, FLICKR_PRESETS, argv, MODULE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    command = parse(argv)
    from cgan.devices import resolve_device
    from data.roots import data_root
    from experiments.flickr_tags.dataset import prepare, resolve, set_name
    from experiments.flickr_tags.output import summary

    engines.check(command.engine)
    root, cache = data_root(command.data_root), command.runs / "cache"
    photos = find_photos(command, root)
    part = "" if command.images is None else f"-images{command.images}"
    name = command.name or f"{command.preset}-{set_name(photos)}{part}-seed{command.seed}"
    folder = RunFolder(command.runs / "flickr-tags" / name)
    with folder.hold():
        before = training.earlier_config(folder, "flickr-tags", command.resume)
        compute, device = training.prepare_compute(command, before), resolve_device(command.device)
        config, network = resolve(command.config, photos, root, command.given)

        def open_run(dataset: DatasetRecord, **more: Any) -> training.Run:
            what: dict[str, Any] = {"experiment": "flickr-tags", "preset": command.preset, "asked": command.config}
            return training.open_run(folder, command, config, dataset, before=before, compute=compute, **what, **more)

        if before:  # What differs is said before words are trained and features computed.
            open_run(before.dataset)
        if photos.notice:
            print(f"NOTE: {photos.notice.rstrip('.')}.")
        where: dict[str, Any] = {"device": str(device), "limit": command.images, "engine": command.engine}
        data = prepare(config, network, photos, root, cache, **where)
        dataset = DatasetRecord(
            name=photos.name, embedded=photos.embedded, checksum=data.checksum, images=len(data.rows)
        )
        this = open_run(dataset, network=data.network, notice=data.notice)
        if (result := training.finished_result(this)) is not None:
            print(f"{folder} is finished:\n{summary(result)}")
            return 2 if isinstance(result, DivergedResult) else 0
        train_and_measure(this, config, data, device, command.fast)
    return 0


def find_photos(command: Command, root: Path) -> TaggedPhotos:
    """Return the photos of the command; with ``--images`` so many scenes are rendered, in a folder of their own."""
    from data.mirflickr import EMBEDDED, find_captioned, find_mirflickr, load_mirflickr, load_photos
    from data.scenes import write_scenes

    nothing = command.dataset == "auto" and not find_mirflickr(root) and not find_captioned(root)
    if command.images is None or not (nothing or command.dataset == "scenes"):
        return load_photos(command.dataset, root)
    folder = command.runs / "cache" / f"scenes-{command.images}"
    photos = load_mirflickr(write_scenes(folder, command.images, progress=sys.stderr.isatty()), EMBEDDED)
    return replace(photos, notice=f"there are no photos under {root}, and {photos.notice}") if nothing else photos


def train_and_measure(
    this: training.Run, config: FlickrConfig, data: FlickrData, device: torch.device, fast: bool
) -> None:
    """Train to the stopping point, or on from the last checkpoint, measure, and print the result."""
    from experiments.flickr_tags.evaluate import Estimator, measure_run
    from experiments.flickr_tags.output import summary

    folder, record, splits = this.folder, this.config, data.splits
    trainer = build(config, data, record.seed, record.precision, device, fast)
    estimator = Estimator(config, data, device)
    save_inputs(folder.path, data, estimator.vocabulary)
    if record.notice and record.notice != (data.photos.notice or "").rstrip("."):
        print(f"NOTE: {record.notice}.")
    weights = sum(p.numel() for p in [*trainer.G.parameters(), *trainer.D.parameters()])
    left_out = ", ".join(f"{count:,} {what}" for what, count in data.counts.items() if count and what != "tags")
    print(
        f"{record.preset} on {data.photos.name}, seed {record.seed}: {len(data.rows):,} photos ({len(splits.train):,} "
        f"train, {len(splits.valid):,} validate, {len(splits.test):,} test), {len(data.pairs.words):,} training pairs, "
        f"{len(data.vocabulary):,} words, of which {len(estimator.vocabulary):,} can be generated\n"
        f"left out of {data.counts['tags']:,} tags and their photos: {left_out or 'nothing'}\n"
        f"{weights:,} weights, {record.device}, {record.precision} products, {record.threads} "
        f"thread{'s' * (record.threads != 1)}\nrun folder {folder}"
    )
    for reason in training.train([this], [trainer], estimator, module=MODULE).values():
        raise CganError(reason)
    print(f"tagging the {config.pairs.measured_on} photos by the net and by the baselines ...")
    print(summary(measure_run(this, config, data)))
    print(f"figures, table2.html, result.json and weights are in {folder}")
    print(f"to tag your own photos: {printed_command('experiments.tag', folder, 'photo.jpg')}")


def build(
    config: FlickrConfig, data: FlickrData, seed: int, precision: Precision, device: torch.device, fast: bool = True
) -> Trainer:
    """Return the trainer at its start."""
    import numpy as np
    import torch

    from cgan.batches import TrainingSet
    from cgan.devices import seeded
    from cgan.networks import Discriminator, Generator
    from cgan.trainer import Trainer
    from embeddings.vocabulary import unit_rows

    vectors, length = data.vocabulary.vectors, config.words.length
    words = torch.from_numpy(unit_rows(vectors) * np.float32(length) if length else vectors).to(device)
    features = torch.from_numpy(data.features).to(device)
    word_of, image_of = (torch.from_numpy(index).to(device) for index in (data.pairs.words, data.pairs.images))
    conditional = config.generator.condition != "none"
    return Trainer(
        Generator(config.generator, seeded(seed, "G"), words[word_of].mean(0).cpu()).to(device),
        Discriminator(config.discriminator, seeded(seed, "D")).to(device),
        TrainingSet(words, features if conditional else None, word_of, image_of if conditional else None),
        config.training,
        seed=seed,
        precision=precision,
        fast=fast,
    )


def save_inputs(folder: Path, data: FlickrData, vocabulary: Vocabulary) -> None:
    """Keep what ``experiments.tag`` needs beside the weights: the words to generate, and the features' scale."""
    import torch

    from cgan import checkpoint

    # The JSON is written last; without it the counts are missing, by which rare words are kept from being generated.
    if not (folder / VOCABULARY).with_suffix(".json").exists():
        # The fields that describe another file than this one are written again.
        about = ("format", "words", "dimension", "sha256")
        info = {name: value for name, value in vocabulary.info.items() if name not in about}
        vocabulary.save(folder / VOCABULARY, info)
    fitted = {"mean": data.scale.mean, "deviation": data.scale.deviation}
    tensors = {name: torch.from_numpy(value) for name, value in fitted.items() if value is not None}
    checkpoint.save(folder / SCALE, tensors, {"kind": data.scale.kind, "length": data.scale.length})


if __name__ == "__main__":
    raise SystemExit(run(main))
