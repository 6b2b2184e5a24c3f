"""What the benchmark measures with: sizes of the work, and a context of device, threads and data for every path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from cgan.devices import Precision
    from data.labelled import ImageDataset


@dataclass(frozen=True)
class Sizes:
    """The work of the table, and the shares of it that slow candidates are measured on, their times scaled up."""

    updates: int = 50  # timed at a time, of an epoch too
    samples: int = 10_000  # of the Parzen window, and as many images (section 4.1)
    kde_images: int = 30  # that scikit-learn scores
    words: int = 247_465  # of the vocabulary (section 4.2), random unit vectors
    queries: int = 10_000  # vectors whose nearest words are looked for, a hundred of them an image
    gensim_queries: int = 100  # of gensim's loop
    decoded_images: int = 10  # that the per-image loop decodes
    rows: int = 200_000  # of metadata cleaned, of the million that the figure is for
    lines: int = 200_000  # of the corpus that skip-gram is trained on, at most
    photos: int = 256  # whose features are computed
    loop_photos: int = 48  # of the loop


QUICK = Sizes(
    updates=2,
    samples=400,
    kde_images=40,
    words=4_000,
    queries=200,
    gensim_queries=20,
    decoded_images=1,
    rows=2_000,
    lines=2_000,
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
