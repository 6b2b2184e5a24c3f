"""experiments.figures read back by Pillow: every pixel stands where it should, and no letter is clipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image
from sklearn import datasets, metrics

from cgan.metrics import diagnostics
from experiments import UsageError
from experiments.runs import figures

SEPARATOR, PADDING, GREY = figures.SEPARATOR, figures.PADDING, figures.SEPARATOR_GREY


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def assert_margin_is_white(pixels: np.ndarray) -> None:
    """A clipped letter would leave ink on the edge."""
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()


def colour_share(pixels: np.ndarray, colour: str) -> np.ndarray:
    return (pixels == np.rint(255 * np.array(to_rgb(colour)))).all(-1)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = datasets.load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels


# ---- image grids


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3),
    st.sampled_from([None, "a", " ", "a label wider than its column"]),
    st.sampled_from([None, "What is seen here"]),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
@example(1, 1, 1, 1, 1, None, "What is seen here", 0)
def test_every_pixel_stands_where_it_should(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    columns: int,
    height: int,
    width: int,
    scale: int,
    label: str | None,
    title: str | None,
    seed: int,
) -> None:
    images = np.random.default_rng(seed).uniform(0, 1, (rows, columns, height * width))
    path = tmp_path_factory.mktemp("grid") / "grid.png"
    figures.image_grid(
        images, path, (height, width), scale=scale, title=title,
        row_labels=label and [label] * rows, column_labels=label and [label] * columns,
    )  # fmt: skip
    pixels = read(path)
    grid_height = rows * (height * scale + SEPARATOR) + SEPARATOR
    grid_width = columns * (width * scale + SEPARATOR) + SEPARATOR
    if label is None and title is None:
        assert pixels.shape == (grid_height + 2 * PADDING, grid_width + 2 * PADDING)

    expected = np.full((grid_height, grid_width), GREY)
    for row in range(rows):
        for column in range(columns):
            y, x = (
                SEPARATOR + row * (height * scale + SEPARATOR),
                SEPARATOR + column * (width * scale + SEPARATOR),
            )
            tile = np.rint(255 * images[row, column].astype(np.float32)).reshape(height, width)
            expected[y : y + height * scale, x : x + width * scale] = np.kron(tile, np.ones((scale, scale)))
    np.testing.assert_array_equal(pixels[-PADDING - grid_height : -PADDING, -PADDING - grid_width : -PADDING], expected)
    assert_margin_is_white(pixels)


def test_rows_and_flat_images_make_the_same_grid(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    images, _ = digits
    figures.image_grid(images[:30], tmp_path / "flat.png", (8, 8))
    figures.image_grid(torch.from_numpy(images[:30]).reshape(3, 10, 64), tmp_path / "rows.png", (8, 8))
    assert (tmp_path / "flat.png").read_bytes() == (tmp_path / "rows.png").read_bytes()


def test_labels_stand_beside_their_rows_and_columns(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    images = digits[0][:6].reshape(2, 3, 64)
    path = tmp_path / "grid.png"
    figures.image_grid(images, path, (8, 8), row_labels=["", "8"], column_labels=["", "2", ""], scale=4)
    pixels = read(path)
    pitch = 8 * 4 + SEPARATOR
    top, left = (
        pixels.shape[0] - PADDING - 2 * pitch - SEPARATOR,
        pixels.shape[1] - PADDING - 3 * pitch - SEPARATOR,
    )
    rows = np.flatnonzero((pixels[top:, :left] < 255).any(1))
    assert pitch < rows.min() and rows.max() < 2 * pitch
    columns = np.flatnonzero((pixels[:top, left:] < 255).any(0))
    assert pitch < columns.min() and columns.max() < 2 * pitch


def test_values_outside_the_range_are_clipped_and_broken_ones_grey(tmp_path: Path) -> None:
    values = np.array([[[-1.0, 2.0, np.nan, np.inf]]])
    figures.image_grid(values, tmp_path / "grid.png", (2, 2), scale=1)
    first = PADDING + SEPARATOR
    assert read(tmp_path / "grid.png")[first : first + 2, first : first + 2].tolist() == [
        [0, 255],
        [128, 128],
    ]


def test_sizes_that_do_not_fit_are_named(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    images, _ = digits
    path = tmp_path / "grid.png"
    with pytest.raises(UsageError, match="28 x 28"):
        figures.image_grid(images[:10], path)
    with pytest.raises(UsageError, match="do not fill rows of 10"):
        figures.image_grid(images[:11], path, (8, 8))
    with pytest.raises(UsageError, match="3 row labels for 1 rows"):
        figures.image_grid(images[:10], path, (8, 8), row_labels="abc")
    with pytest.raises(UsageError, match=r"\(m, d\), \(m, k, d\) and \(m, k\)"):
        figures.neighbours(images[:2], images[:6].reshape(2, 3, 64), np.zeros((2, 2)), path, (8, 8))
    assert not path.exists()


def test_neighbours_stand_beside_their_sample_with_distances_below(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    images, labels = digits
    samples, references = torch.from_numpy(images[:3]), torch.from_numpy(images[100:])
    indices, distances = diagnostics.nearest_neighbours(samples, references, 4)
    path = tmp_path / "neighbours.png"
    figures.neighbours(
        samples, references[indices], distances, path, (8, 8), row_labels=labels[:3], title=None, scale=5
    )
    pixels = read(path)
    assert_margin_is_white(pixels)
    side = 8 * 5
    # Tiles found from the right: four neighbours without a gap, a gap, the sample.
    lefts = [pixels.shape[1] - PADDING - SEPARATOR - side - place * (side + SEPARATOR) for place in range(3, -1, -1)]
    framed = np.flatnonzero((pixels[:, lefts[0] : lefts[0] + side] == GREY).all(1))
    tops = framed[SEPARATOR - 1 :: 2 * SEPARATOR] + 1
    assert len(tops) == 3
    sample_left = np.flatnonzero((pixels[tops[0] : tops[0] + side] == GREY).all(0))[SEPARATOR - 1] + 1
    assert sample_left + side + 2 * SEPARATOR < lefts[0]
    for row, top in enumerate(tops):
        for left, image in zip([sample_left, *lefts], [samples[row], *references[indices[row]]], strict=True):
            tile = np.rint(255 * image.numpy()).reshape(8, 8).repeat(5, 0).repeat(5, 1)
            np.testing.assert_array_equal(pixels[top : top + side, left : left + side], tile)
            below = pixels[top + side + SEPARATOR : top + side + SEPARATOR + figures.LETTERS, left : left + side]
            assert (below < 128).any() == (left != sample_left)


def test_interpolations_keep_their_order(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    rows = digits[0][:12].reshape(2, 6, 64)
    figures.interpolations(rows, tmp_path / "a.png", (8, 8), title=None)
    figures.image_grid(rows, tmp_path / "b.png", (8, 8))
    np.testing.assert_array_equal(read(tmp_path / "a.png"), read(tmp_path / "b.png"))
    with pytest.raises(UsageError, match="rows, steps, d"):
        figures.interpolations(rows[0], tmp_path / "a.png", (8, 8))


# ---- plots


RECORDS = [
    {
        "epoch": str(epoch),
        "valid_log_likelihood": str(200 - 3000 / epoch**3) if epoch % 2 else "",
        "d_loss": str(0.5 + 0.01 * epoch),
        "g_loss": str(1.5 - 0.01 * epoch),
    }
    for epoch in range(1, 31)
]


def test_curves_draw_records_of_text_and_columns_of_numbers_alike(tmp_path: Path) -> None:
    columns = {name: [float(record[name]) if record[name] else None for record in RECORDS] for name in RECORDS[0]}
    figures.curves(RECORDS, tmp_path / "records.png", chosen=21, references={"cited": 225})
    figures.curves(columns, tmp_path / "columns.png", chosen=21, references={"cited": 225})
    assert (tmp_path / "records.png").read_bytes() == (tmp_path / "columns.png").read_bytes()
    assert_margin_is_white(read(tmp_path / "records.png"))


def test_curves_mark_the_stopping_point_between_its_neighbours(tmp_path: Path) -> None:
    def drawn(chosen: float) -> tuple[int, int]:
        """The column of the dotted line, right of the axes the one with most black; the last column of the curve."""
        figures.curves(RECORDS, tmp_path / "with.png", chosen=chosen, references={"cited": 225})
        pixels = read(tmp_path / "with.png")
        dotted = int((pixels.sum(2) == 0).sum(0)[100:].argmax()) + 100
        return dotted, int(np.flatnonzero(colour_share(pixels, figures.COLOURS[0]).any(0)).max())

    (first, _), (middle, _), (last, end) = drawn(10), drawn(20), drawn(30)
    assert last == pytest.approx(end, abs=6) and last - first > 200  # the last epoch is the 30th
    assert middle == pytest.approx((first + last) / 2, abs=2)


def test_curves_have_a_plot_for_what_was_measured_only(tmp_path: Path) -> None:
    figures.curves(RECORDS, tmp_path / "two.png")
    more = [record | {"label_fidelity": "0.5", "variety": "nan"} for record in RECORDS]
    figures.curves(more, tmp_path / "three.png")
    assert read(tmp_path / "three.png").shape[0] > read(tmp_path / "two.png").shape[0] + 200
    with pytest.raises(UsageError, match="no column update; they have epoch, valid"):
        figures.curves(RECORDS, tmp_path / "none.png", x="update")
    with pytest.raises(UsageError, match="none of the columns"):
        figures.curves({"epoch": [1, 2], "d_loss": [None, ""]}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_parzen_curve_marks_the_chosen_sigma(tmp_path: Path) -> None:
    sigmas = np.logspace(-1, 0, 10)
    means = -((np.log(sigmas) + 1.5) ** 2) * 100
    path = tmp_path / "parzen.png"
    sizes = []
    for chosen in (None, sigmas[3]):
        figures.parzen_curve(sigmas, means, chosen, path, title=None)
        pixels = read(path)
        assert_margin_is_white(pixels)
        sizes.append(colour_share(pixels, figures.COLOURS[0]).sum())
    assert sizes[1] > sizes[0] + 60  # the star
    figures.parzen_curve(sigmas, {"samples": means, "training images": means + 30}, {"samples": sigmas[3]}, path)
    assert colour_share(read(path), figures.COLOURS[1]).sum() > 200
    with pytest.raises(UsageError, match=r"0\.5 is not among"):
        figures.parzen_curve(sigmas, means, 0.5, path)
    with pytest.raises(UsageError, match="9 means for 10 sigmas"):
        figures.parzen_curve(sigmas, means[:9], None, path)


def test_bars_are_as_high_as_the_shares(tmp_path: Path) -> None:
    asked = torch.arange(4).repeat_interleave(100)
    asked_share = torch.tensor([1.0, 0.75, 0.5, 0.25])
    wrong = torch.arange(400) % 100 >= 100 * asked_share[asked]
    read_as = torch.where(wrong, (asked + 1) % 4, asked)
    fidelity = diagnostics.label_fidelity(read_as, asked, 4)
    path = tmp_path / "fidelity.png"
    figures.fidelity_bars(fidelity, path)
    pixels = read(path)
    assert_margin_is_white(pixels)
    # Lines and letters cover parts of a bar, so a bar's top is sought, not its area.
    blue = colour_share(pixels, figures.BAR_COLOUR)
    columns = np.flatnonzero(blue.any(0))
    bars = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    tops = np.array([np.flatnonzero(blue[:, bar].any(1)).min() for bar in bars])
    bottom = np.flatnonzero(blue.any(1)).max() + 1
    np.testing.assert_allclose((bottom - tops) / (bottom - tops[0]), asked_share, atol=0.01)

    as_dict = tmp_path / "again.png"
    figures.fidelity_bars(fidelity.as_dict(), as_dict)
    assert as_dict.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("cell", [(0, 0), (0, 2), (2, 1)])
def test_heat_maps_have_images_down_and_labels_across(cell: tuple[int, int], tmp_path: Path) -> None:
    by_label = torch.zeros(3, 3, dtype=torch.float64)
    by_label[cell] = 1
    halves = torch.full((2, 2), 0.5, dtype=torch.float64)
    matrix = diagnostics.AcceptanceMatrix(halves, halves, by_label, torch.zeros_like(by_label))
    figures.acceptance(matrix, tmp_path / "acceptance.png")
    pixels = read(tmp_path / "acceptance.png")
    assert_margin_is_white(pixels)
    lowest, highest = (colormaps[figures.COLOUR_MAP](end, bytes=True)[:3] for end in (0.0, 1.0))
    bright, dark = ((pixels == colour).all(2)[:, : 4 * pixels.shape[1] // 5] for colour in (highest, lowest))
    # The real images' map spans from its own dark and bright cells to the gap before the next map.
    columns = np.flatnonzero((bright | dark).any(0))
    span = np.split(columns, np.flatnonzero(np.diff(columns) > 10) + 1)[0]
    rows = np.flatnonzero((bright | dark)[:, span].any(1))
    y, x = (bright[:, span].nonzero()[axis].mean() for axis in (0, 1))
    assert int(3 * (y - rows.min()) / (rows.max() - rows.min())) == cell[0]
    assert int(3 * x / len(span)) == cell[1]


def test_figures_of_real_measures_are_small_and_whole(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    images, labels = torch.from_numpy(digits[0]), torch.from_numpy(digits[1]).long()
    judge = diagnostics.train_classifier(images, labels, 10, seed=0, updates=100)
    read_as = diagnostics.predict(judge, images)
    assert metrics.accuracy_score(labels, read_as) > 0.9
    figures.fidelity_bars(diagnostics.label_fidelity(read_as, labels, 10), tmp_path / "fidelity.png")
    with torch.no_grad():
        matrix = diagnostics.acceptance_matrix(
            lambda x, y: judge(x).gather(1, y[:, None]), images, labels, images.flip(0), labels, 10,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    figures.acceptance(matrix, tmp_path / "acceptance.png")
    noise = np.random.default_rng(0).uniform(size=(100, 784))
    figures.image_grid(noise, tmp_path / "noise.png", row_labels=range(10), title="noise")
    for path in tmp_path.iterdir():
        assert_margin_is_white(read(path))
        assert path.stat().st_size < 250_000


def test_interval_bars_are_as_long_as_their_values(tmp_path: Path) -> None:
    rows = {"cGAN": (0.30, 0.25, 0.36), "commonest": (0.15, 0.15, 0.15), "vote": (0.20, 0.10, 0.60)}
    figures.interval_bars(rows, tmp_path / "bars.png", axis="precision at 10", title="Which method tags best?")
    pixels = read(tmp_path / "bars.png")
    assert_margin_is_white(pixels)
    first, others = (colour_share(pixels, colour) for colour in (figures.COLOURS[0], figures.BAR_COLOUR))
    # Each bar is a run of lines with ink of its colour; the lines through its middle are broken by the interval.
    bars = []
    for ink in (first, others):
        lines = np.flatnonzero(ink.sum(1) > 20)
        for block in np.split(lines, np.flatnonzero(np.diff(lines) > 3) + 1):
            columns = np.flatnonzero(ink[block].any(0))
            bars.append((block.mean(), columns.min(), columns.max() - columns.min() + 1))
    assert len(bars) == 3
    heights, starts, lengths = zip(*bars, strict=True)
    assert list(heights) == sorted(heights), "the first row stands on top"
    assert max(starts) - min(starts) <= 1
    np.testing.assert_allclose(np.array(lengths) / lengths[0], [1, 0.15 / 0.30, 0.20 / 0.30], atol=0.02)
    with pytest.raises(UsageError, match="no rows"):
        figures.interval_bars({}, tmp_path / "none.png", axis="precision")
    figures.interval_bars({"all wrong": (0.0, 0.0, 0.0)}, tmp_path / "zero.png", axis="precision")
    assert_margin_is_white(read(tmp_path / "zero.png"))


# ---- files and imports


def test_a_figure_is_written_whole_or_not_at_all(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    images, _ = digits
    path = tmp_path / "new folder" / "grid.png"
    figures.image_grid(images[:10], path, (8, 8))
    before = path.read_bytes()
    with pytest.raises(UsageError):
        figures.image_grid(images[:10], path, (7, 8))
    assert path.read_bytes() == before
    figures.image_grid(images[10:20], path, (8, 8))
    assert path.read_bytes() != before
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OSError):
        figures.image_grid(images[:10], tmp_path / "taken.png", (8, 8))
    assert sorted(found.name for found in tmp_path.rglob("*")) == ["grid.png", "new folder", "taken.png"]


def test_import_is_light_and_pyplot_is_never_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, experiments.figures as figures\n"
        "assert not {'matplotlib', 'PIL', 'torch'} & set(sys.modules)\n"
        "figures.parzen_curve([0.1, 0.2], [1.0, 2.0], 0.2, sys.argv[1])\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "parzen.png")], check=True, timeout=60)
    assert read(tmp_path / "parzen.png").ndim == 3
