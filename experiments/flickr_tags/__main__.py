"""The multimodal experiment (section 4.2): ``python -m experiments.flickr_tags PRESET``.

Wires photos, frozen features, word vectors, the game and the comparison into a run folder. Nets and game are
``cgan``'s, hyper-parameters ``experiments.presets``'s.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cgan import CganError
from experiments import UsageError
from experiments.flickr_tags.presets import FLICKR_PRESETS, FlickrConfig
from experiments.runs import engines
from experiments.runs import folder as runs
from experiments.runs import training as running
from experiments.runs.cli import run
from experiments.runs.engines import Engine

if TYPE_CHECKING:
    import torch

    from cgan.devices import Precision
    from cgan.trainer import Trainer
    from data.mirflickr import TaggedPhotos
    from embeddings.vocabulary import Vocabulary
    from experiments.flickr_tags.dataset import FlickrData

#: Of the run's vocabulary, beside the files that every run has.
VOCABULARY, SCALE = "vocabulary.bin", "scale.safetensors"


@dataclass(frozen=True)
class Command(running.Options):
    """Train one net to generate word vectors for photos, and measure its tags beside four other methods'."""

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
        running.check_name(self.name)
        if self.images is not None and self.images < 10:
            raise UsageError(f"--images {self.images}: give 10 or more, or there is nothing to hold out")


def parse(argv: Sequence[str] | None) -> Command:
    """The command that the arguments spell; ends the program with status 2 on a mistake, 0 after ``--help``."""
    return running.parse(Command, FLICKR_PRESETS, argv, "python -m experiments.flickr_tags")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    command = parse(argv)
    from cgan.devices import resolve_device
    from cgan.trainer import same_identity
    from data.roots import data_root
    from experiments.flickr_tags.dataset import prepare, resolve_features
    from experiments.flickr_tags.evaluate import summary

    engines.check(command.engine)
    root = data_root(command.data_root)
    photos = find_photos(command, root)
    folder = command.runs / "flickr-tags" / (command.name or default_name(command, photos))
    before = running.earlier(folder, command.resume)
    placed = running.placed(command.device, command.precision, command.threads, before)
    if photos.notice:
        print(f"NOTE: {photos.notice.rstrip('.')}.\n")
    device = resolve_device(command.device)
    config = replace(command.config, features=resolve_features(command.config.features, photos, root))
    if before:  # What can be told before anything long.
        asked = {"seed": command.seed, "settings": config.as_dict(), "precision": placed["precision"]}
        same_identity(running.identity(before), running.identity({**before, **asked}), folder / runs.CONFIG)
    data = prepare(
        config, photos, root, command.runs / "cache", device=str(device), limit=command.images, engine=command.engine
    )
    record = describe(command, config, data, placed)
    if before:
        same_identity(running.identity(before), running.identity(record), folder / runs.CONFIG)
    if (over := running.finished(running.Place(folder, record), config.stopping, summary)) is not None:
        result, told = over
        print(f"{folder} is finished:\n{told}")
        return 0 if result["status"] == "finished" else 2
    result = play(command, config, data, folder, record)
    print(summary(result))
    print(f"everything is in {folder}: table2.html, precision.png and the other figures, result.json")
    print(f"to tag your own photos: python -m experiments.tag {folder} photo.jpg")
    return 0


def find_photos(command: Command, root: Path) -> TaggedPhotos:
    """The photos that the command names. With ``--images`` so many scenes are rendered, in a folder of their own."""
    from data.mirflickr import EMBEDDED, find_captioned, find_mirflickr, load_mirflickr, load_photos
    from data.scenes.scenes import write_scenes

    nothing = command.dataset == "auto" and not find_mirflickr(root) and not find_captioned(root)
    if command.images is None or not (nothing or command.dataset == "scenes"):
        return load_photos(command.dataset, root)
    folder = command.runs / "cache" / f"scenes-{command.images}"
    photos = load_mirflickr(write_scenes(folder, command.images, progress=sys.stderr.isatty()), EMBEDDED)
    return replace(photos, notice=f"no photos lie under {root}, and {photos.notice}") if nothing else photos


def default_name(command: Command, photos: TaggedPhotos) -> str:
    """The folder's name when none is given."""
    from experiments.flickr_tags.dataset import set_name

    part = "" if command.images is None else f"-images{command.images}"
    return f"{command.preset}-{set_name(photos)}{part}-seed{command.seed}"


def describe(command: Command, config: FlickrConfig, data: FlickrData, placed: dict[str, Any]) -> dict[str, Any]:
    """What ``config.json`` says of the run."""
    from experiments.flickr_tags.evaluate import notice_of

    return {
        "experiment": "flickr-tags",
        **running.named(command),
        "dataset": {
            "name": data.photos.name,
            "embedded": data.photos.embedded,
            "checksum": data.checksum,
            "images": len(data.rows),
        },
        "seed": command.seed,
        "settings": config.as_dict(),
        "network": data.network,
        "notice": notice_of(data),
        **placed,
    }


def play(
    command: Command, config: FlickrConfig, data: FlickrData, folder: Path, record: dict[str, Any]
) -> dict[str, Any]:
    """Train to the stopping point, or on from the last checkpoint, and measure; the result."""
    from cgan import checkpoint as checkpoints
    from cgan.devices import resolve_device
    from experiments.flickr_tags.evaluate import Estimator, finish

    device = resolve_device(command.device)
    trainer = build(config, data, command.seed, record["precision"], device)
    generator, discriminator = trainer.G, trainer.D
    estimator = Estimator(config, data, device)
    folder.mkdir(parents=True, exist_ok=True)
    save_inputs(folder, data, estimator.vocabulary)
    runs.write_json(folder / runs.CONFIG, record)
    parameters = sum(p.numel() for p in [*generator.parameters(), *discriminator.parameters()])
    splits = data.splits
    print(
        f"{command.preset} on {data.photos.name}, seed {command.seed}: {len(data.rows):,} photos "
        f"({len(splits.train):,} train, {len(splits.valid):,} validate, {len(splits.test):,} test), "
        f"{len(data.pairs.words):,} pairs, {len(data.vocabulary):,} words\n"
        f"{data.counts['tags without a vector']:,} of {data.counts['tags']:,} tags have no vector; "
        f"{data.counts['images without a tag']:,} photos have no tag\n{parameters:,} weights, "
        f"{record['device']}, {record['precision']} products, {record['threads']} threads\nrun folder {folder}"
    )
    lost = running.play(
        [running.Place(folder, record)],
        [trainer],
        config.stopping,
        estimator,
        module="experiments.flickr_tags",
        resume=command.resume,
    )
    for reason in lost.values():
        raise CganError(reason)
    print("tagging the test photos, and by the other methods ...")
    tensors, kept = checkpoints.load(folder / runs.BEST)
    checkpoints.load_into(generator, checkpoints.part(tensors, "G."), folder / runs.BEST)
    _, last = checkpoints.load(folder / runs.CHECKPOINT)
    return finish(folder, config, data, record, generator.eval().cpu(), kept["t"], last)


def build(config: FlickrConfig, data: FlickrData, seed: int, precision: Precision, device: torch.device) -> Trainer:
    """The trainer at its start."""
    import torch

    from cgan.batches import Examples
    from cgan.devices import seeded
    from cgan.networks import Discriminator, Generator
    from cgan.trainer import Trainer
    from experiments.flickr_tags.dataset import scaled_words

    words = torch.from_numpy(scaled_words(data.vocabulary, config.words.length)).to(device)
    features = torch.from_numpy(data.features).to(device)
    word_of, image_of = (torch.from_numpy(index).to(device) for index in (data.pairs.words, data.pairs.images))
    conditional = config.generator.condition != "none"
    return Trainer(
        Generator(config.generator, seeded(seed, "G"), words[word_of].mean(0).cpu()).to(device),
        Discriminator(config.discriminator, seeded(seed, "D")).to(device),
        Examples(words, features if conditional else None, word_of, image_of if conditional else None),
        config.training,
        seed=seed,
        precision=precision,
    )


def save_inputs(folder: Path, data: FlickrData, vocabulary: Vocabulary) -> None:
    """Keep what ``experiments.tag`` needs beside the weights: the words that can come out, and the features' scale."""
    import torch

    from cgan import checkpoint as checkpoints

    # Its account is written last; without it the counts are missing, by which rare words are kept from coming out.
    if not (folder / VOCABULARY).with_suffix(".json").exists():
        # The entries that describe another file than this one are made anew.
        about = ("format", "words", "dimension", "sha256")
        info = {name: value for name, value in vocabulary.info.items() if name not in about}
        vocabulary.save(folder / VOCABULARY, info)
    fitted = {"mean": data.scale.mean, "deviation": data.scale.deviation}
    tensors = {name: torch.from_numpy(value) for name, value in fitted.items() if value is not None}
    checkpoints.save(folder / SCALE, tensors, {"kind": data.scale.kind, "length": data.scale.length})


if __name__ == "__main__":
    raise SystemExit(run(main))
