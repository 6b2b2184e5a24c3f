"""What the benchmark measures with: sizes of the work, and a context of device, threads and data for every path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from cgan.devices import Precision
    from data.labelled import ImageDataset

#: As many as there are.
ALL = 10**9


@dataclass(frozen=True)
class Sizes:
    """The work of the table, and the shares of it that slow candidates are measured on, their times scaled up."""

    updates: int = 50  # timed at a time
    epoch_updates: int = 100  # timed of an epoch, at most
    samples: int = 10_000  # of the Parzen window, and as many images (section 4.1)
    kde_images: int = 30  # that scikit-learn scores
    broadcast_images: int = 10  # that the broadcast loop scores
    words: int = 247_465  # of the vocabulary (section 4.2), random unit vectors
    dimension: int = 200  # of a word vector (section 4.2)
    queries: int = 10_000  # whose nearest words are looked for
    top: int = 20  # nearest words of each (section 4.2)
    gensim_queries: int = 100  # of gensim's loop
    samples_per_image: int = 100  # decoded to one image's words (section 4.2)
    decoded_images: int = 10  # that the per-image loop decodes
    rows: int = 1_000_000  # of metadata to clean
    timed_rows: int = 200_000  # cleaned at a time
    lines: int = 200_000  # of the corpus that skip-gram is trained on, at most
    passes: int = 2  # of skip-gram over them
    photos: int = 256  # whose features are computed
    loop_photos: int = 48  # of the loop

    def whole(self) -> Sizes:
        """Return the same work with every candidate measured on all of it."""
        return replace(
            self,
            epoch_updates=ALL,
            kde_images=self.samples,
            broadcast_images=self.samples,
            gensim_queries=self.queries,
            decoded_images=self.queries // self.samples_per_image,
            timed_rows=self.rows,
            loop_photos=self.photos,
        )


QUICK = Sizes(
    updates=2,
    epoch_updates=2,
    samples=400,
    kde_images=40,
    broadcast_images=4,
    words=4_000,
    queries=200,
    gensim_queries=20,
    decoded_images=1,
    rows=2_000,
    timed_rows=2_000,
    lines=2_000,
    passes=1,
    photos=6,
    loop_photos=4,
)


@dataclass(frozen=True)
class Context:
    """What a path is measured with."""

    sizes: Sizes
    device: torch.device
    precision: Precision
    threads: int
    preset: str
    seeds: int
    """Trained at once."""
    root: Path
    """Folder of the data sets."""
    folder: Path
    """For files that are needed while measuring."""

    @cached_property
    def digits(self) -> ImageDataset:
        """MNIST where it lies under the data root, else the embedded digits."""
        from data.mnist import load_digit_images

        return load_digit_images("auto", self.root, download=False)
