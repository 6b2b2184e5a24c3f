"""``data.digits`` against scikit-learn's own arrays and a float64 interpolation written from its formula."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from data.digits import load_digits_28


def bicubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -1/2 (IEEE Trans. ASSP 29, 1981, equation 15)."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def enlarged(images: np.ndarray) -> np.ndarray:
    """Images (n, 8, 8) on an endless black ground, sampled at the 28 x 28 pixel centres, 2.5 to a pixel."""
    centres = (np.arange(28) + 0.5 - 4) / 2.5 - 0.5
    weights = bicubic(centres[:, None] - np.arange(-6, 14)[None])
    weights = (weights / weights.sum(1, keepdims=True))[:, 6:14]
    rows = np.einsum("nij,xj->nix", images, weights).clip(0, 1)
    return np.einsum("nix,yi->nyx", rows, weights).clip(0, 1)


def test_images_are_the_digits_enlarged() -> None:
    dataset, source = load_digits_28(), load_digits()
    expected = enlarged(source.images / 16).reshape(-1, 784)
    order = np.argsort(source.target, kind="stable")
    for split, turns in ((dataset.train, (1, 3, 4, 5)), (dataset.valid, (0,)), (dataset.test, (2,))):
        members = np.sort(order[np.isin(np.arange(len(order)) % 6, turns)])
        np.testing.assert_array_equal(split.labels, source.target[members])
        # 256 grey levels, rounded at the input and after each of the two directions.
        np.testing.assert_allclose(split.images, expected[members], atol=2 / 255)


def test_splits_are_stratified_and_the_same_every_time() -> None:
    dataset = load_digits_28()
    assert (dataset.name, dataset.embedded, dataset.shape) == ("digits (embedded)", True, (28, 28))
    assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == [1197, 300, 300]
    classes = np.bincount(load_digits().target)
    for split in (dataset.valid, dataset.test):
        assert np.abs(np.bincount(split.labels) - classes / 6).max() <= 1
    assert dataset.checksum == "2ec3a656259f9e3a2df3d38d1e60de67e6fcb9e3ea5201a514bc4db916cf92f2"
