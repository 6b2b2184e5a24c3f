"""Records of labelled images: arrays in training, validation and test splits.

``data.mnist`` and ``data.digits`` return them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one class label each."""

    images: np.ndarray
    """(n, d) float32: every image flattened row by row, pixels in [0, 1]."""
    labels: np.ndarray
    """(n,) int64."""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A dataset of labelled images, split for training, model choice and the final evaluation."""

    name: str
    """"mnist" or "digits (embedded)"; it stands in every result."""
    embedded: bool
    """Whether this is a stand-in that no row of the paper's table may be filled from."""
    checksum: str
    """SHA-256 (hexadecimal) that changes when the data do."""
    train: LabelledImages
    valid: LabelledImages
    test: LabelledImages
    shape: tuple[int, int] = (28, 28)
    """Rows and columns of one image; ``images`` are (n, rows * columns)."""
    classes: int = 10
    """Labels lie in 0 .. classes - 1."""
    notice: str | None = None
    """A sentence to show the user about this data set (why a stand-in serves), or None."""
