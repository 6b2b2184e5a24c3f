"""Records of labelled images: arrays in training, validation and test splits.

``data.mnist`` and ``data.digits`` return them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data import DataError


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one class label each.

    ``images``: float32, (n, d), every image flattened row by row, pixels in [0, 1].
    ``labels``: int64, (n,).
    Raises ``DataError`` when the arrays are of another form, or a pixel is not a number in [0, 1].
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.images.ndim != 2 or self.images.dtype != np.float32:
            raise DataError(
                f"images must be a float32 array of shape (n, d), not {self.images.dtype} of shape "
                f"{self.images.shape}: flatten each image to one row"
            )
        if self.labels.shape != (len(self.images),) or self.labels.dtype != np.int64:
            raise DataError(
                f"labels must be an int64 array of shape ({len(self.images)},), one label an image, not "
                f"{self.labels.dtype} of shape {self.labels.shape}"
            )
        # A NaN makes both comparisons false, so that one pass of min and max covers it.
        if self.images.size and not (self.images.min() >= 0 and self.images.max() <= 1):
            raise DataError("images hold a pixel that is not a number in [0, 1]: scale them before")

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
    Raises ``DataError`` when a split has other images than ``shape``, or a label out of range.
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

    def __post_init__(self) -> None:
        rows, columns = self.shape
        for split in ("train", "valid", "test"):
            part: LabelledImages = getattr(self, split)
            if len(part) == 0:
                raise DataError(f"the {split} split of {self.name} is empty: give it at least one image")
            if part.images.shape[1] != rows * columns:
                raise DataError(
                    f"the {split} images of {self.name} have {part.images.shape[1]} pixels instead of "
                    f"{rows} x {columns} = {rows * columns}"
                )
            low, high = int(part.labels.min()), int(part.labels.max())
            if low < 0 or high >= self.classes:
                raise DataError(
                    f"the {split} split of {self.name} holds the label {low if low < 0 else high}, outside "
                    f"0 to {self.classes - 1}"
                )
