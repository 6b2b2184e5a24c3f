"""The data of the multimodal experiment: tagged photos, word vectors, image features, pairs and splits.

Wires ``data`` and ``embeddings``; trains no GAN and measures nothing.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from data.mirflickr import TaggedPhotos, flickr_ids, label_words
from data.yfcc100m import default_shards
from embeddings.decoding import restrict
from embeddings.images.extract import extract
from embeddings.images.networks import PACKAGED, PACKAGED_NETWORK, FrozenNetwork, load_network, packaged_weights
from embeddings.skipgram import SkipGram
from embeddings.vocabulary import Vocabulary, unit_rows
from experiments import UsageError
from experiments.flickr_tags.presets import FeatureSettings, FlickrConfig, PairSettings, WordSettings
from experiments.runs import engines
from experiments.runs.engines import Engine
from experiments.word_vectors.__main__ import Train, is_made_by, train
from experiments.word_vectors.cleaning import make_corpus

#: Gives 4096 numbers with this grid.
MOBILENET, MOBILENET_GRID = "mobilenetv1_100", 2
#: Tokens that word2vec's usual five epochs should see at least, and the most epochs to get there.
TRAINED_TOKENS, USUAL_EPOCHS, MOST_EPOCHS = 500_000_000, 5, 50


@dataclass(frozen=True, eq=False)
class Splits:
    """Rows of images that train, validate and test; no image is in two of them."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class Pairs:
    """(image, tag) pairs as indices: pair i says that image ``images[i]`` has word ``words[i]``; both (n,) int64."""

    images: np.ndarray
    words: np.ndarray


@dataclass(frozen=True, eq=False)
class FlickrData:
    """Everything that is fixed before training. Images count from 0; those without a tag or features are left out."""

    photos: TaggedPhotos
    rows: np.ndarray
    """(n,) int64: the images' places in ``photos``."""
    tags: tuple[tuple[str, ...], ...]
    """All that count as tags of each image."""
    user_tags: tuple[tuple[str, ...], ...]
    features: np.ndarray
    """(n, f) float32, scaled."""
    scale: Scale
    network: dict[str, Any]
    vocabulary: Vocabulary
    splits: Splits
    pairs: Pairs
    counts: dict[str, int]
    """What was left out, and how many of each."""

    @property
    def checksum(self) -> str:
        """SHA-256 over the photos and their tags, the frozen network and the word vectors."""
        words = hashlib.sha256("\n".join(self.vocabulary.words).encode())
        words.update(np.ascontiguousarray(self.vocabulary.vectors).tobytes())
        parts = f"{self.photos.checksum} {self.network['checksum']} {words.hexdigest()}"
        return hashlib.sha256(parts.encode()).hexdigest()

    @property
    def notice(self) -> str | None:
        """What a reader must know of any figure from these data."""
        untrained = "the image features come from a network with random weights"
        notices = [self.photos.notice, untrained if self.network["weights"] == "random" else None]
        return "; ".join(notice.rstrip(".") for notice in notices if notice) or None


# ---- tags, pairs, splits


def tags_of(photos: TaggedPhotos, annotations: str) -> tuple[tuple[str, ...], ...]:
    """Return the user tags of each photo, then the words of its annotations that are not among them (section 4.2)."""
    none: list[tuple[str, ...]] = [()] * len(photos.tags)
    labels = {"potential": photos.annotations, "relevant": photos.relevant, "none": none}[annotations]
    return tuple(
        tuple(dict.fromkeys([*tags, *(word for label in of_image for word in label_words(label))]))
        for tags, of_image in zip(photos.tags, labels, strict=True)
    )


def split(pairs_of_image: Sequence[int], settings: PairSettings) -> Splits:
    """Split images that have so many pairs each, in their order, into training, validation and test images.

    Images train from the first on until they hold ``settings.train`` pairs or are ``train_share`` of all; the first
    half of the others validates. Raises ``UsageError`` when a split would hold no pair.
    """
    counts = np.asarray(pairs_of_image, dtype=np.int64)
    before = np.cumsum(counts) - counts
    train = min(int(settings.train_share * len(counts)), int(np.searchsorted(before, settings.train)))
    parts = np.split(np.arange(len(counts)), [train, train + (len(counts) - train) // 2])
    if not all(counts[part].sum() for part in parts):
        raise UsageError(
            f"{len(counts)} images with tags cannot be split into training, validation and test images that have tags "
            f"with a vector, with --pairs.train-share {settings.train_share}: take more images, or another share"
        )
    return Splits(*parts)


def make_pairs(tags: Sequence[Sequence[str]], images: np.ndarray, vocabulary: Vocabulary, most: int) -> Pairs:
    """Return the first ``most`` pairs of ``images`` with those of their tags that are words of the vocabulary."""
    found = [(image, vocabulary.index(tag)) for image in images.tolist() for tag in tags[image] if tag in vocabulary]
    both = np.array(found[:most], dtype=np.int64).reshape(-1, 2)
    return Pairs(both[:, 0].copy(), both[:, 1].copy())


# ---- features


@dataclass(frozen=True, eq=False)
class Scale:
    """How features become conditions: ``kind`` of ``FeatureSettings.scaling``, with what was fitted for it."""

    kind: str
    length: float
    mean: np.ndarray | None = None
    deviation: np.ndarray | None = None

    @classmethod
    def fit(cls, train: np.ndarray, settings: FeatureSettings) -> Scale:
        """Return the scale of ``settings``, with mean and deviation of the training images' features (n, f)."""
        if settings.scaling in ("none", "unit"):
            return cls(settings.scaling, settings.length)
        mean = train.mean(0, dtype=np.float64).astype(np.float32)
        deviation = np.ones_like(mean)
        if settings.scaling == "standard":
            deviation = train.std(0, dtype=np.float64).astype(np.float32)
            deviation[deviation == 0] = 1  # A constant number stays zero.
        return cls(settings.scaling, settings.length, mean, deviation)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return ``features`` (n, f) scaled, float32; ``UsageError`` for one that is not finite or zero throughout."""
        if not np.isfinite(features).all() or not features.any(1).all():
            raise UsageError("the features of an image are not finite or all zero: use another network or its weights")
        if self.mean is not None and self.deviation is not None:
            features = (features - self.mean) / self.deviation
        if self.kind in ("unit", "centred_unit"):
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(features * np.float32(self.length), dtype=np.float32)


def resolve(
    config: FlickrConfig, photos: TaggedPhotos, root: Path, given: Collection[str] = ()
) -> tuple[FlickrConfig, FrozenNetwork]:
    """Return ``config`` with nothing left open, and the frozen network.

    Both nets take as many numbers as that network gives, unless their ``condition_dim`` is among the options ``given``.
    Raises ``UsageError`` where the nets do not fit, or there is nothing to train words on.
    """
    if config.words.vectors is None:
        word_rows(photos, root)  # Before a download.
    features = resolve_features(config.features, photos, root)
    network = load_frozen(features)
    sizes: dict[str, Any] = {
        name: replace(spec, condition_dim=network.dim)
        for name, spec in (("generator", config.generator), ("discriminator", config.discriminator))
        if spec.condition == "real" and f"{name}.condition_dim" not in given
    }
    config = replace(config, features=features, **sizes)
    check_networks(config, network.dim, network.name)
    return config, network


def resolve_features(settings: FeatureSettings, photos: TaggedPhotos, root: Path) -> FeatureSettings:
    """Return ``settings`` with nothing left open: which network, which weights, which grid. Reads no weights."""
    name, weights, random_weights = settings.network, settings.weights, settings.random_weights
    if name == "auto":
        there = sorted((root / "weights").glob("*.safetensors"))
        if weights == PACKAGED:
            name = PACKAGED_NETWORK
        elif weights is not None:
            name = Path(weights).stem
        elif photos.embedded and not random_weights and packaged_weights():
            name, weights = PACKAGED_NETWORK, PACKAGED
        elif photos.embedded or random_weights:
            name, random_weights = MOBILENET, True
        else:
            name = there[0].stem if there else "alexnet"
    plain = name.rpartition("/")[2]
    local = root / "weights" / f"{plain}.safetensors"
    if weights is None and not random_weights and local.is_file():
        weights = str(local)
    grid = settings.grid
    if grid is None and plain.partition(".")[0] == MOBILENET:
        grid = MOBILENET_GRID
    return replace(settings, network=name, weights=weights, grid=grid, random_weights=random_weights)


def check_networks(config: FlickrConfig, dimension: int, name: str) -> None:
    """Raise ``UsageError`` unless G and D take features of ``dimension`` numbers, or none, and word vectors alike."""
    for network, spec in (("generator", config.generator), ("discriminator", config.discriminator)):
        if spec.condition not in ("real", "none"):
            raise UsageError(
                f"{network}.condition is {spec.condition}, but photos have no classes: choose real, for their "
                "features, or none"
            )
        if spec.condition != "none" and spec.condition_dim != dimension:
            raise UsageError(
                f"{name} gives {dimension:,} numbers an image, but {network}.condition_dim is {spec.condition_dim:,}: "
                f"leave --{network}.condition-dim out, or take another network or --features.grid"
            )
    if config.generator.condition == "none" != config.discriminator.condition:
        raise UsageError("generator.condition is none, but not D's: set --discriminator.condition none as well")
    made, taken = config.generator.output_dim, config.discriminator.input_dim
    if made != taken:
        raise UsageError(
            f"generator.output_dim is {made} and discriminator.input_dim {taken}: both are the size of a word vector, "
            "so set the two alike"
        )


def load_frozen(settings: FeatureSettings) -> FrozenNetwork:
    """Return the network that resolved ``settings`` name."""
    return load_network(settings.network, settings.weights, settings.grid, settings.random_weights)


def features_of(
    network: FrozenNetwork,
    paths: Sequence[Path],
    cache: Path | None = None,
    device: str = "cpu",
    engine: Engine = "local",
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Return features (m, f) of the photos that have any, their places in ``paths`` (m,), and why the rest has none.

    Features that are all zero have no direction to compare, and are none. A bar is drawn on a terminal.
    """
    compute = engines.run_passes if engine == "ray" else None
    found = extract(network, paths, cache, device=device, progress=sys.stderr.isatty(), compute=compute)
    kept = found.vectors.any(1)
    zero = {str(paths[row]): "its features are all zero" for row in found.rows[~kept].tolist()}
    return found.vectors[kept], found.rows[kept], {**found.skipped, **zero}


# ---- the word vectors


def word_rows(photos: TaggedPhotos, root: Path) -> list[Path]:
    """Return files of YFCC100M rows to train the words of ``photos`` on: the scenes' own, else those under ``root``.

    Raises ``UsageError`` when there are none.
    """
    place = photos.folder if photos.embedded else root
    if not (shards := default_shards(place)):
        raise UsageError(
            f"no YFCC100M metadata under {place} to train word vectors on: put yfcc100m_dataset-0.bz2 and the like "
            f"into {place / 'yfcc100m'}, or name a word2vec or GloVe file with --words.vectors"
        )
    return shards


def word_vectors(
    settings: WordSettings, dimension: int, photos: TaggedPhotos, root: Path, folder: Path, engine: Engine
) -> Vocabulary:
    """Return the vocabulary of the file that is named, else of skip-gram on YFCC100M rows (``word_rows``).

    Corpus and vectors are kept in ``folder`` and used again; ``engine`` cleans the corpus. Raises ``UsageError`` when
    the vectors are not of ``dimension`` numbers.
    """
    source = settings.vectors or train_words(settings, dimension, photos, root, folder, engine)
    vocabulary = Vocabulary.load(source)
    found = vocabulary.vectors.shape[1]
    if found != dimension:
        raise UsageError(
            f"{source} holds vectors of {found} numbers, but generator.output_dim is {dimension}: set "
            f"--generator.output-dim {found} and --discriminator.input-dim {found}, or take other vectors"
        )
    return centred(vocabulary) if settings.centred else vocabulary


def centred(vocabulary: Vocabulary) -> Vocabulary:
    """Return the vocabulary with vectors at length 1 minus their mean, which says nothing about a single word.

    A word that points exactly as the mean does keeps its vector. Similar in spirit to Mu and Viswanath (2018), whose
    further components stay.
    """
    units = unit_rows(vocabulary.vectors)
    moved = units - units.mean(0, dtype=np.float64).astype(np.float32)
    moved = np.where(moved.any(1, keepdims=True), moved, units)
    result = Vocabulary.from_arrays(vocabulary.words, moved, vocabulary.counts)
    result.info = vocabulary.info
    return result


def train_words(
    settings: WordSettings, dimension: int, photos: TaggedPhotos, root: Path, folder: Path, engine: Engine
) -> Path:
    """Train word vectors on the rows that belong to ``photos``, unless it was done before; return their file.

    The rows of the photos themselves are left out where their ids on Flickr are known: the words of a held-out photo
    are not to be learnt from its own caption.
    """
    shards = word_rows(photos, root)
    if photos.embedded:  # By what the rows are: all scenes of a version have the same, however many are rendered.
        key = b"".join(shard.read_bytes() for shard in shards)
    else:  # By where they lie, so that another data root trains its own.
        key = str(shards[0].resolve().parent).encode()
    without = flickr_ids(photos.folder)
    key += b"".join(sorted(photo.encode() for photo in without))
    name = f"{set_name(photos)}-{hashlib.sha256(key).hexdigest()[:8]}"
    corpus = folder / f"{name}-corpus"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):  # Runs that start side by side train the words once.
        manifest = make_corpus(shards, corpus, without=without, engine=engine)
        epochs = settings.epochs or epochs_for(manifest.tokens)
        path = folder / f"{name}-{dimension}d-min{settings.min_count}-epochs{epochs}.bin"
        skipgram = SkipGram(vector_size=dimension, min_count=settings.min_count, epochs=epochs)
        if path.exists() and not is_made_by(path, skipgram, manifest):
            path.unlink()  # Of rows that have changed since; every run keeps a copy of its own.
        train(Train(corpus=corpus, out=path, settings=skipgram))
    return path


def epochs_for(tokens: int) -> int:
    """Return the passes over a corpus of so many tokens: word2vec's usual five if it is large, more if small."""
    return min(MOST_EPOCHS, max(USUAL_EPOCHS, -(-TRAINED_TOKENS // max(tokens, 1))))


def set_name(photos: TaggedPhotos) -> str:
    """Return the set's name as part of a file's: "scenes" for "scenes (embedded)", else without odd characters."""
    return re.sub(r"[^\w.-]+", "-", photos.name.removesuffix(" (embedded)")).strip("-.") or "photos"


def decoding_vocabulary(vocabulary: Vocabulary, config: FlickrConfig) -> Vocabulary:
    """Return the words that can be generated: those seen ``decoding.min_count`` times, where the counts are known."""
    return vocabulary if vocabulary.counts is None else restrict(vocabulary, config.decoding.min_count)


# ---- all of it


def prepare(
    config: FlickrConfig,
    network: FrozenNetwork,
    photos: TaggedPhotos,
    root: Path,
    cache: Path,
    *,
    device: str = "cpu",
    limit: int | None = None,
    engine: Engine = "local",
) -> FlickrData:
    """Return everything that training needs, from what ``resolve`` returned.

    Mistakes are looked for before what takes long: training of words, features, in this order. ``cache`` holds features
    and word vectors of all runs; ``limit`` takes only the first so many photos with a tag. ``engine`` cleans the corpus
    and computes the features.
    """
    tags = tags_of(photos, config.pairs.annotations)
    tagged = [i for i, of_image in enumerate(tags) if of_image][:limit]
    vocabulary = word_vectors(config.words, config.generator.output_dim, photos, root, cache / "word-vectors", engine)
    allowed = len(decoding_vocabulary(vocabulary, config))
    if config.decoding.neighbours > allowed:
        raise UsageError(
            f"decoding.neighbours is {config.decoding.neighbours:,}, but only {allowed:,} words are left: lower it "
            f"or --decoding.min-count (now {config.decoding.min_count:,})"
        )
    total = sum(len(tags[i]) for i in tagged)
    outside = sum(tag not in vocabulary for i in tagged for tag in tags[i])
    if outside == total:
        raise UsageError(
            f"none of the {total:,} tags is among the {len(vocabulary):,} words that have a vector: lower "
            f"--words.min-count (now {config.words.min_count}), or take other word vectors"
        )
    paths = [photos.paths[i] for i in tagged]
    features, seen, skipped = features_of(network, paths, cache / "features", device, engine)
    for path, reason in skipped.items():
        print(f"NOTE: {path} is left out: {reason}.")
    rows = np.array(tagged, dtype=np.int64)[seen]
    kept = tuple(tags[i] for i in rows.tolist())
    splits = split([sum(tag in vocabulary for tag in of_image) for of_image in kept], config.pairs)
    scale = Scale.fit(features[splits.train], config.features)
    return FlickrData(
        photos=photos,
        rows=rows,
        tags=kept,
        user_tags=tuple(photos.tags[i] for i in rows.tolist()),
        features=scale(features),
        scale=scale,
        network=network.describe(),
        vocabulary=vocabulary,
        splits=splits,
        pairs=make_pairs(kept, splits.train, vocabulary, config.pairs.train),
        counts={
            **photos.dropped,
            "images without a tag": sum(not of_image for of_image in tags),
            "tags": total,
            "tags without a vector": outside,
            "images not readable": len(skipped),
        },
    )
