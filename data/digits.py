"""Load scikit-learn's real handwritten digits in MNIST's form: the embedded stand-in, which needs no files."""

from __future__ import annotations

import hashlib

import numpy as np

from data.labelled import ImageDataset, LabelledImages

#: MNIST's digits fill a box of 20 x 20 pixels in the middle of 28 x 28; so do these.
SIDE, BOX = 28, 20
#: Black pixels laid around the 8 x 8 before they are enlarged.
PADDING = 2
#: Of six images of a class one validates and one tests.
PERIOD, VALID, TEST = 6, 0, 2


def load_digits_28() -> ImageDataset:
    """Return the 1,797 digits of scikit-learn's ``load_digits`` (8 x 8, by 13 writers: UCI's optdigits, test set).

    Each is enlarged to 20 x 20 in the middle of 28 x 28, with 256 grey levels, the same on every machine. 1,197 train,
    300 validate, 300 test: within each class every sixth image validates and every sixth tests; a writer may be in all
    three.
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
    """Return images (n, 8, 8) in [0, 1] as uint8 (n, 28, 28): the 8 x 8 enlarged to the middle 20 x 20, bicubically.

    Strokes that end at the edge fade into the black margin. (Pillow interpolates bytes in whole numbers.)
    """
    from PIL import Image

    padded = np.pad(np.rint(images * 255).astype(np.uint8), ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    # Of the padded 12 x 12 the middle 11.2 x 11.2 becomes 28 x 28: both are 2.5 times as large as 8 is in 20.
    edge = padded.shape[1] / 2 - images.shape[1] * SIDE / BOX / 2
    window = (edge, edge, padded.shape[1] - edge, padded.shape[1] - edge)
    how = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(image).resize((SIDE, SIDE), how, box=window)) for image in padded])
