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
    """A dataset of labelled images, split for training, model choice and the final evaluation.

    ``name``: "mnist" or "digits (embedded)"; it stands in every result.
    ``embedded``: True for a stand-in that no row of the paper's table may be filled from.
    ``checksum``: SHA-256 (hexadecimal) that changes when the data do.
    ``shape``: rows and columns of one image; ``images`` are (n, rows * columns).
    ``classes``: labels lie in 0 .. classes - 1.
    ``notice``: a sentence to show the user about this data set (why a stand-in serves), or None.
    """

    name: str
    embedded: bool
    checksum: str
    train: LabelledImages
    valid: LabelledImages
    test: LabelledImages
    shape: tuple[int, int] = (28, 28)
    classes: int = 10
    notice: str | None = None
