"""A whole run of the Flickr experiment on few rendered scenes, small enough for seconds, as a user types it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from data.scenes import write_scenes
from embeddings.vocabulary import Vocabulary

#: A network of timm's for tests, which gives 64 numbers, and word vectors of 16.
NETS = (
    "--features.network", "test_vit", "--features.random-weights",
    "--generator.output-dim", "16", "--discriminator.input-dim", "16",
    "--generator.condition-branch", "relu:16,dropout=0.5", "--generator.input-branch", "relu:16,dropout=0.5",
    "--discriminator.condition-branch", "relu:16,dropout=0.5", "--discriminator.input-branch", "relu:16,dropout=0.5",
    "--discriminator.joint", "maxout:16x3,dropout=0.5",
    "--words.min-count", "20", "--words.epochs", "1", "--decoding.min-count", "50",
    "--threads", "1", "--precision", "float32",
)  # fmt: skip
LENGTH = ("--stopping.max-updates", "240", "--stopping.first-estimate", "20", "--stopping.estimate-every", "80")
IMAGES = 40
NAME = f"paper-scenes-images{IMAGES}-seed1"
#: The command line of a small run, but for the folders.
ARGUMENTS = ("paper", *NETS, *LENGTH, "--images", IMAGES)


def write_words(path: Path, words: list[str]) -> None:
    """Word vectors of 16 numbers, which fit ``NETS``."""
    vectors = np.random.default_rng(0).standard_normal((len(words), 16)).astype(np.float32)
    Vocabulary.from_arrays(words, vectors, None).save(path)


def folder_of_photos(folder: Path, images: int = 12) -> Path:
    """A user's folder in MIRFLICKR's layout, which nothing marks as scenes; rows for the words go with it."""
    write_scenes(folder / "scenes", images)
    for name in ("mirflickr", "mirflickr25k_annotations_v080", "yfcc100m"):
        shutil.move(folder / "scenes" / name, folder / name)
    shutil.rmtree(folder / "scenes")
    return folder
