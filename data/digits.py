"""The embedded stand-in for MNIST: scikit-learn's real handwritten digits, brought to MNIST's form.

Needs neither files nor a network. It is not MNIST: no figure from it belongs beside one of the paper.
"""

from __future__ import annotations

import hashlib

import numpy as np

from data.labelled import ImageDataset, LabelledImages

#: MNIST's digits fill a box of 20 x 20 pixels in the middle of 28 x 28; so do these.
SIDE, BOX = 28, 20

#: Of six images of a class one validates and one tests.
PERIOD, VALID, TEST = 6, 0, 2


def load_digits_28() -> ImageDataset:
    """The 1,797 digits of scikit-learn's ``load_digits`` (8 x 8, by 13 writers; the test set of UCI's optdigits).

    Each is enlarged bicubically to 20 x 20 and centred in 28 x 28, with 256 grey levels. 1,197 train, 300 validate,
    300 test: within each class every sixth image validates and every sixth tests, so that all ten classes are
    spread evenly; the order within a split is the original one, and a writer may be in all three. The same arrays
    come out on every machine.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    grey = upsample(np.asarray(source.images, dtype=np.float64) / 16)
    images = grey.reshape(len(grey), SIDE * SIDE).astype(np.float32) / np.float32(255)
    labels = np.asarray(source.target, dtype=np.int64)

    turn = np.empty(len(labels), dtype=np.int64)
    turn[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % PERIOD
    digest = hashlib.sha256()
    for array in (grey, labels.astype("<i8"), turn.astype("<i8")):
        digest.update(np.ascontiguousarray(array).tobytes())

    def split(mask: np.ndarray) -> LabelledImages:
        return LabelledImages(images[mask], labels[mask])

    return ImageDataset(
        name="digits (embedded)",
        embedded=True,
        checksum=digest.hexdigest(),
        train=split((turn != VALID) & (turn != TEST)),
        valid=split(turn == VALID),
        test=split(turn == TEST),
    )


def upsample(images: np.ndarray) -> np.ndarray:
    """Images (n, 8, 8) in [0, 1] as uint8 (n, 28, 28): bicubic to 20 x 20, on a black margin of 4.

    Pillow interpolates bytes in whole numbers, so that the result does not depend on the machine.
    """
    from PIL import Image

    margin = (SIDE - BOX) // 2
    inside = slice(margin, margin + BOX)
    result = np.zeros((len(images), SIDE, SIDE), dtype=np.uint8)
    for target, image in zip(result, np.rint(images * 255).astype(np.uint8), strict=True):
        enlarged = Image.fromarray(image).resize((BOX, BOX), Image.Resampling.BICUBIC)
        target[inside, inside] = np.asarray(enlarged)
    return result
