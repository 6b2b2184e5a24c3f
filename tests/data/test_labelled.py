"""``data.labelled``: what a record accepts, and the one sentence about what it does not."""

from __future__ import annotations

import numpy as np
import pytest

from data import DataError
from data.labelled import ImageDataset, LabelledImages


def labelled(n: int = 4, d: int = 784, label: int = 9) -> LabelledImages:
    return LabelledImages(np.full((n, d), 0.5, dtype=np.float32), np.full(n, label, dtype=np.int64))


def dataset(**changes: object) -> ImageDataset:
    parts = {"train": labelled(), "valid": labelled(), "test": labelled()} | changes
    return ImageDataset(name="mnist", embedded=False, checksum="0", **parts)  # type: ignore[arg-type]


def test_a_sound_data_set() -> None:
    sound = dataset(train=labelled(7))
    assert [len(sound.train), len(sound.valid)] == [7, 4]
    assert (sound.shape, sound.classes, sound.notice) == ((28, 28), 10, None)


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (np.zeros((2, 28, 28), np.float32), np.zeros(2, np.int64), "flatten"),
        (np.zeros((2, 784), np.float64), np.zeros(2, np.int64), "not float64"),
        (np.zeros((2, 784), np.float32), np.zeros(3, np.int64), r"shape \(2,\)"),
        (np.zeros((2, 784), np.float32), np.zeros(2, np.int32), "not int32"),
        (np.full((2, 784), 1.5, np.float32), np.zeros(2, np.int64), "not a number in"),
        (np.full((2, 784), -0.1, np.float32), np.zeros(2, np.int64), "not a number in"),
        (np.array([[0.5, np.nan]], np.float32), np.zeros(1, np.int64), "not a number in"),
        (np.array([[0.5, np.inf]], np.float32), np.zeros(1, np.int64), "not a number in"),
    ],
)
def test_arrays_of_another_form(images: np.ndarray, labels: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        LabelledImages(images, labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"valid": labelled(d=64)}, "the valid images of mnist have 64 pixels instead of 28 x 28 = 784"),
        ({"test": labelled(label=10)}, "the test split of mnist holds the label 10, outside 0 to 9"),
        ({"train": labelled(label=-1)}, "the train split of mnist holds the label -1, outside 0 to 9"),
        ({"train": labelled(n=0)}, "the train split of mnist is empty"),
        ({"classes": 9}, "holds the label 9, outside 0 to 8"),
    ],
)
def test_splits_that_do_not_fit(changes: dict[str, object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        dataset(**changes)
