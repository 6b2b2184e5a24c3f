"""Figures read back by Pillow: images stand pixel for pixel, maps have their cells in place, bars are as long as their
values, no letter is cut off.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image
from sklearn import datasets

from experiments.report.page import read_png
from experiments.runs import figures
from experiments.runs.records import AcceptanceRecord, MnistResult, Weights
from tests.experiments import commands

RESULT = commands.ROOT / "experiments" / "results" / "mnist" / "paper-seed1"


def read(path: Path) -> np.ndarray:
    """Return the PNG's pixels; a clipped letter would leave ink on the edge."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()
    return pixels


def has_colour(pixels: np.ndarray, colour: str) -> np.ndarray:
    return (pixels == np.rint(255 * np.array(to_rgb(colour)))).all(-1)


def find(pixels: np.ndarray, tile: np.ndarray) -> list[tuple[int, int]]:
    """Return every place where ``tile`` stands in ``pixels``, pixel for pixel."""
    rows = np.lib.stride_tricks.sliding_window_view(pixels, tile.shape)
    return [(int(y), int(x)) for y, x in np.argwhere((rows == tile).all((2, 3)))]


def enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    side = round(image.size**0.5)
    return np.rint(255 * image.astype(np.float32)).reshape(side, side).repeat(scale, 0).repeat(scale, 1)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return (datasets.load_digits().images.reshape(-1, 64) / 16).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns", "scale", "labels"), [(1, 1, 1, None), (2, 3, 4, "8")])
def test_every_tile_stands_where_it_should(
    rows: int, columns: int, scale: int, labels: str | None, digits: np.ndarray, tmp_path: Path
) -> None:
    images = digits[: rows * columns].reshape(rows, columns, 64)
    names = {"row_labels": labels and [labels] * rows, "column_labels": labels and [labels] * columns, "title": labels}
    figures.image_grid(torch.from_numpy(images), tmp_path / "grid.png", (8, 8), scale=scale, **names)
    pixels = read(tmp_path / "grid.png")
    places = {
        (row, column): find(pixels, enlarged(images[row, column], scale)) for row, column in np.ndindex(rows, columns)
    }
    (top, left), pitch = places[0, 0][0], 8 * scale + figures.SEPARATOR
    for (row, column), found in places.items():
        assert found == [(top + row * pitch, left + column * pitch)]
    assert (pixels[top - 1, left : left + columns * pitch] == figures.SEPARATOR_GREY).all()
    if labels == "8":  # A label stands beside its row.
        ink = np.flatnonzero((pixels[:, : left - figures.SEPARATOR] < 128).any(1))
        assert all((np.abs(ink - (top + row * pitch + 4 * scale)) < 4 * scale).any() for row in range(rows))


def test_values_outside_the_range_are_clipped_and_broken_ones_grey(tmp_path: Path) -> None:
    figures.image_grid(np.array([[[-1.0, 2.0, np.nan, np.inf]]]), tmp_path / "grid.png", (2, 2), scale=3)
    assert find(read(tmp_path / "grid.png"), np.array([[0, 255], [128, 128]]).repeat(3, 0).repeat(3, 1))


def test_heat_maps_have_images_down_and_labels_across(tmp_path: Path) -> None:
    cell, by_label, halves = (0, 2), np.zeros((3, 3)), [[0.5, 0.5], [0.5, 0.5]]
    by_label[cell] = 1
    names = {"rows": ["real", "generated"], "columns": ["own", "wrong"], "mean": halves, "accepted": halves}
    zeros = np.zeros((3, 3)).tolist()
    matrix = AcceptanceRecord(**names, by_label_real=by_label.tolist(), by_label_fake=zeros)
    figures.acceptance(matrix, tmp_path / "acceptance.png")
    pixels = read(tmp_path / "acceptance.png")
    lowest, highest = (colormaps[figures.COLOUR_MAP](end, bytes=True)[:3] for end in (0.0, 1.0))
    bright, dark = ((pixels == colour).all(2)[:, : 4 * pixels.shape[1] // 5] for colour in (highest, lowest))
    # The real images' map spans from its own dark and bright cells to the gap before the next map.
    columns = np.flatnonzero((bright | dark).any(0))
    span = np.split(columns, np.flatnonzero(np.diff(columns) > 10) + 1)[0]
    rows = np.flatnonzero((bright | dark)[:, span].any(1))
    y, x = (bright[:, span].nonzero()[axis].mean() for axis in (0, 1))
    assert int(3 * (y - rows.min()) / (rows.max() - rows.min())) == cell[0]
    assert int(3 * x / len(span)) == cell[1]


def test_figures_of_real_measures_are_small_and_whole(tmp_path: Path) -> None:
    result = msgspec.json.decode((RESULT / "result.json").read_bytes(), type=MnistResult)
    assert result.label_fidelity is not None and result.acceptance is not None
    figures.confusion(result.label_fidelity, tmp_path / "fidelity.png", title="What is read?")
    figures.acceptance(result.acceptance, tmp_path / "acceptance.png", title="What D accepts")
    figures.curves(pd.read_csv(RESULT / "metrics.csv"), tmp_path / "curves.png", chosen=115, title="Training")
    for path in tmp_path.iterdir():
        read(path)
        assert path.stat().st_size < 250_000


def test_interval_bars_are_as_long_as_their_values(tmp_path: Path) -> None:
    rows = {"cGAN": (0.30, 0.25, 0.36), "commonest": (0.15, 0.15, 0.15), "vote": (0.20, 0.10, 0.60)}
    figures.interval_bars(rows, tmp_path / "bars.png", axis="precision at 10", title="Which method tags best?")
    pixels = read(tmp_path / "bars.png")
    # Each bar is a run of lines with ink of its colour; the lines through its middle are broken by the interval.
    bars = []
    for colour in (figures.COLOURS[0], figures.BAR_COLOUR):
        ink = has_colour(pixels, colour)
        lines = np.flatnonzero(ink.sum(1) > 20)
        for block in np.split(lines, np.flatnonzero(np.diff(lines) > 3) + 1):
            columns = np.flatnonzero(ink[block].any(0))
            bars.append((block.mean(), columns.min(), columns.max() - columns.min() + 1))
    heights, starts, lengths = zip(*bars, strict=True)
    assert list(heights) == sorted(heights), "the first row stands on top"
    assert max(starts) - min(starts) <= 1
    np.testing.assert_allclose(np.array(lengths) / lengths[0], [1, 0.15 / 0.30, 0.20 / 0.30], atol=0.02)
    figures.interval_bars({"all wrong": (0.0, 0.0, 0.0)}, tmp_path / "zero.png", axis="precision")
    read(tmp_path / "zero.png")


def test_a_stamped_figure_names_its_weights_and_is_left_out_beside_others(digits: np.ndarray, tmp_path: Path) -> None:
    path, weights = tmp_path / "grid.png", Weights(update=500, sha256="ab" * 32)
    figures.image_grid(digits[:4].reshape(2, 2, -1), path, (8, 8))
    before = np.asarray(Image.open(path))
    figures.stamp([path], weights)
    with Image.open(path) as image:
        assert image.text == {"update": "500", "sha256": weights.sha256}
        assert np.array_equal(np.asarray(image), before)
    assert read_png(path, "digits", weights).alt == read_png(path, "digits").alt == "digits"
    with pytest.raises(ValueError, match="other weights"):
        read_png(path, "digits", Weights(update=500, sha256="cd" * 32))
