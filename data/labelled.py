"""Records of labelled images in training, validation and test splits, which ``data.mnist`` and ``data.digits`` give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one class label each.

    ``images``: float32, (n, d), every image flattened row by row, pixels in [0, 1].
    ``labels``: int64, (n,).
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A dataset of labelled images, split for training, model choice and the final evaluation."""

    name: str
    """mnist, or digits (embedded); it stands in every result."""
    embedded: bool
    """Whether it is a stand-in, from which no row of the paper's table may be filled."""
    checksum: str
    """SHA-256 that changes when the data do."""
    train: LabelledImages
    valid: LabelledImages
    test: LabelledImages
    shape: tuple[int, int] = (28, 28)
    """Rows and columns of one image."""
    classes: int = 10
    notice: str | None = None
    """A sentence to show the user about this data set (why a stand-in serves)."""
