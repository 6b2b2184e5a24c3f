"""Figures as PNG files from arrays: image grids, training curves, and what the diagnostics found.

Trains, samples and measures nothing; draws without pyplot, so that no global state is kept. Every function
writes its file whole or not at all. Arrays may be NumPy's, nested lists or CPU tensors; the colours are Okabe
and Ito's, or cividis, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette without its yellow, which is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")
REFERENCE_DASHES = ((8, 2), (4, 2), (2, 2), (8, 2, 2, 2), (4, 4))
#: Light enough for the lines that cross bars.
BAR_COLOUR = "#56B4E9"
COLOUR_MAP = "cividis"
DPI = 100

#: Pixels: between two images of a grid, around the whole, and the size of its letters.
SEPARATOR, PADDING, LETTERS = 2, 8, 14
#: Grey of the lines between images; black images on white paper need an edge.
SEPARATOR_GREY = 128


# ---------------------------------------------------------------------------------------------------
# Images


def image_grid(
    images: Any,
    path: str | Path,
    shape: tuple[int, int] = (28, 28),
    *,
    columns: int = 10,
    row_labels: Sequence[object] | None = None,
    column_labels: Sequence[object] | None = None,
    title: str | None = None,
    scale: int = 2,
) -> None:
    """Draw images as tiles, white on black, without smoothing (paper, figure 2).

    A value v gets the grey level round(255 v). ``SEPARATOR`` pixels lie between and around the tiles, and the
    grid ends ``PADDING`` pixels from the right and lower edges.

    Args:
        images: (rows, columns, d), or (n, d) that fills rows of ``columns``; values in [0, 1], clipped to it.
            Numbers that are not finite are drawn grey.
        path: of the PNG.
        shape: height and width of an image, d = height * width.
        columns: images in a row where ``images`` does not say it.
        row_labels: one for each row, the digit asked for, say.
        column_labels: one for each column; upright when they are too wide for it.
        title: above the grid, wrapped to its width.
        scale: one pixel of an image becomes ``scale`` x ``scale`` equal ones.

    Raises:
        UsageError: sizes do not fit.
    """
    tiles = np.asarray(images, dtype=np.float32)
    if tiles.ndim == 2:
        if len(tiles) % columns:
            raise UsageError(f"{len(tiles)} images do not fill rows of {columns}; set columns to a divisor")
        tiles = tiles.reshape(-1, columns, tiles.shape[1])
    _sheet(tiles, path, shape, row_labels, column_labels, title, scale)


def neighbours(
    samples: Any,
    nearest: Any,
    distances: Any,
    path: str | Path,
    shape: tuple[int, int] = (28, 28),
    *,
    row_labels: Sequence[object] | None = None,
    title: str | None = "Samples, and the training images nearest to each (Euclidean distance below)",
    scale: int = 2,
) -> None:
    """Draw each sample and, to its right, the training images nearest to it with the distance below each.

    Args:
        samples: (m, d) in [0, 1].
        nearest: (m, k, d), the k nearest training images of each.
        distances: (m, k), Euclidean, in pixel units.
        path: of the PNG.
        shape: height and width of an image.
        row_labels, title, scale: as for ``image_grid``.

    Raises:
        UsageError: sizes do not fit.
    """
    samples, nearest = np.asarray(samples, dtype=np.float32), np.asarray(nearest, dtype=np.float32)
    distances = np.asarray(distances, dtype=np.float64)
    if (
        nearest.ndim != 3
        or 0 in nearest.shape
        or samples.shape != nearest[:, 0].shape
        or distances.shape != nearest.shape[:2]
    ):
        raise UsageError(
            f"samples {samples.shape}, nearest {nearest.shape} and distances {distances.shape} must be "
            "(m, d), (m, k, d) and (m, k)"
        )
    _sheet(
        np.concatenate([samples[:, None], nearest], axis=1),
        path,
        shape,
        row_labels,
        ["sample", "nearest", *(f"{place}." for place in range(2, nearest.shape[1] + 1))],
        title,
        scale,
        captions=[["", *(f"{distance:.2f}" for distance in row)] for row in distances],
        apart=4 * SEPARATOR,
    )


def interpolations(
    rows: Any,
    path: str | Path,
    shape: tuple[int, int] = (28, 28),
    *,
    row_labels: Sequence[object] | None = None,
    title: str | None = "From one noise vector (left) to another (right), the label unchanged",
    scale: int = 2,
) -> None:
    """Draw what G makes on the way from one noise vector to another: ``rows`` (r, steps, d) in [0, 1]."""
    rows = np.asarray(rows, dtype=np.float32)
    if rows.ndim != 3:
        raise UsageError(f"rows has the shape {rows.shape} where (rows, steps, d) is needed")
    _sheet(rows, path, shape, row_labels, None, title, scale)


def _sheet(
    tiles: np.ndarray,
    path: str | Path,
    shape: tuple[int, int],
    row_labels: Sequence[object] | None,
    column_labels: Sequence[object] | None,
    title: str | None,
    scale: int,
    captions: Sequence[Sequence[str]] | None = None,
    apart: int = 0,
) -> None:
    """Lay tiles (rows, columns, d) on white paper with their labels, and write the PNG.

    ``captions`` stand below the tiles; ``apart`` pixels set the first column off from the others.
    """
    height, width = shape
    if tiles.ndim != 3 or 0 in tiles.shape or tiles.shape[2] != height * width:
        raise UsageError(
            f"images of shape {tiles.shape} do not make a grid of {height} x {width} pixels each; "
            "give (rows, columns, height * width) and the shape (height, width)"
        )
    rows, columns = tiles.shape[:2]
    for what, labels, count in (("row", row_labels, rows), ("column", column_labels, columns)):
        if labels is not None and len(labels) != count:
            raise UsageError(f"there are {len(labels)} {what} labels for {count} {what}s")
    row_texts = [] if row_labels is None else [str(label) for label in row_labels]
    column_texts = [] if column_labels is None else [str(label) for label in column_labels]

    # Sizes in pixels. The figure holds the letters only; the tiles are then copied in, pixel by pixel.
    tile_height, tile_width = height * scale, width * scale
    below = LETTERS + 4 if captions else 0
    row_pitch, column_pitch = tile_height + below + SEPARATOR, tile_width + SEPARATOR
    upright = any(_width(text) > column_pitch for text in column_texts)
    head = max((_width(text) for text in column_texts), default=0) if upright else LETTERS
    head = head + PADDING if column_texts else 0
    left = PADDING + max((_width(text) + PADDING for text in row_texts), default=0)
    # Margins give way to the title's longest word, beside a very small grid.
    grid_width = SEPARATOR + columns * column_pitch + apart
    left = max(left, max(map(_width, (title or "").split()), default=0) + PADDING - grid_width)
    total_width = left + grid_width + PADDING
    title_lines = _wrap(title or "", total_width - 2 * PADDING)
    top = PADDING + len(title_lines) * (LETTERS + 6) + head
    total_height = top + SEPARATOR + rows * row_pitch + PADDING

    figure = _blank(total_width, total_height)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / total_width, 1 - y / total_height, text, fontsize=_POINTS, **style)

    lefts = [left + SEPARATOR + column * column_pitch + (apart if column else 0) for column in range(columns)]
    tops = [top + SEPARATOR + row * row_pitch for row in range(rows)]
    for number, line in enumerate(title_lines):
        write(PADDING, PADDING + number * (LETTERS + 6), line, va="top")
    for x, text in zip(lefts, column_texts, strict=False):
        style = {"ha": "center", "va": "bottom", "rotation": 90 if upright else 0}
        write(x + tile_width / 2, top - PADDING / 2, text, **style)
    for y, text in zip(tops, row_texts, strict=False):
        write(left - PADDING, y + tile_height / 2, text, ha="right", va="center")
    for y, texts in zip(tops, captions or (), strict=False):
        for x, text in zip(lefts, texts, strict=True):
            write(x + tile_width / 2, y + tile_height + SEPARATOR, text, ha="center", va="top")

    paper = _pixels(figure)[..., 0].copy()
    levels = np.rint(np.nan_to_num(tiles, nan=0.5, posinf=0.5, neginf=0.5).clip(0, 1) * 255).astype(np.uint8)
    for row, y in enumerate(tops):
        for column, x in enumerate(lefts):
            frame = (
                slice(y - SEPARATOR, y + tile_height + SEPARATOR),
                slice(x - SEPARATOR, x + tile_width + SEPARATOR),
            )
            paper[frame] = SEPARATOR_GREY
            tile = levels[row, column].reshape(height, width)
            paper[y : y + tile_height, x : x + tile_width] = tile.repeat(scale, 0).repeat(scale, 1)
    _write(paper, path)


# ---------------------------------------------------------------------------------------------------
# Curves


@dataclass(frozen=True)
class Panel:
    """One of the stacked plots of ``curves``: the words on its y axis, and each line's column and name."""

    axis: str
    lines: Mapping[str, str]


#: What a run's metrics hold, in the order in which a reader asks for it.
PANELS = (
    Panel(
        "log-likelihood (nats)",
        {"valid_log_likelihood": "validation images, Parzen estimate"},
    ),
    Panel(
        "loss (nats)",
        {"d_loss": "discriminator D", "g_loss": "generator G"},
    ),
    Panel(
        "mean of D (probability of real)",
        {"d_real": "real images", "d_fake": "generated images"},
    ),
    Panel(
        "share or ratio",
        {
            "label_fidelity": "samples read as the label asked for (share)",
            "variety": "pixel deviation within a label (real images = 1)",
        },
    ),
)


def curves(
    metrics: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    x: str = "epoch",
    chosen: float | None = None,
    references: Mapping[str, float] | None = None,
    panels: Sequence[Panel] = PANELS,
    title: str | None = None,
) -> None:
    """Draw a run's metrics as stacked plots over the same x.

    Args:
        metrics: columns by name, or one record per line; None, "" and NaN are left out, and so are panels and
            lines without a number.
        path: of the PNG.
        x: the column of the x axis; it names the axis.
        chosen: where on it the stopping point lies; marked in every plot.
        references: horizontal lines of the first panel, by name.
        panels: what to plot.
        title: above all plots.

    The first panel cuts off values far below its others (a run's first estimates), and says how many.

    Raises:
        UsageError: there is no column ``x``, or nothing to plot.
    """
    columns = _columns(metrics)
    if x not in columns:
        raise UsageError(f"the metrics have no column {x}; they have {', '.join(columns) or 'none'}")
    shown = [
        Panel(panel.axis, lines)
        for panel in panels
        if (lines := {name: label for name, label in panel.lines.items() if _any(columns, name, x)})
    ]
    if not shown:
        wanted = ", ".join(name for panel in panels for name in panel.lines)
        raise UsageError(f"the metrics have numbers in none of the columns {wanted}")

    figure = _figure(9, 0.6 + 2.4 * len(shown) + 0.2 * len(references or {}))
    plots = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for plot, panel in zip(plots, shown, strict=True):
        for number, (name, label) in enumerate(panel.lines.items()):
            known = np.isfinite(columns[name]) & np.isfinite(columns[x])
            _line(plot, columns[x][known], columns[name][known], number, label)
        if panel is shown[0]:
            _reference_lines(plot, references or {})
        if chosen is not None:
            words = f"stopping point: {x} {chosen:.4g}" if panel is shown[0] else None
            plot.axvline(chosen, color="black", linestyle=":", linewidth=1.5, label=words)
        if panel is shown[0]:
            _cut_low(plot, np.concatenate([columns[name] for name in panel.lines]), references or {})
        _finish(plot, panel.axis)
    plots[-1].set_xlabel(x)
    _title(figure, title)
    _save(figure, path)


def parzen_curve(
    sigmas: Sequence[float],
    means: Sequence[float] | Mapping[str, Sequence[float]],
    chosen: float | Mapping[str, float] | None,
    path: str | Path,
    *,
    title: str | None = "How wide should the Gaussians of the Parzen window be?",
) -> None:
    """Draw the mean log-likelihood of the validation images against sigma, the chosen sigma marked.

    Args:
        sigmas: (k,), in pixel units.
        means: (k,) in nats, or several such rows by name.
        chosen: the sigma chosen, or one by name; None marks none.
        path: of the PNG.
        title: above the plot.

    Raises:
        UsageError: a row has another length than ``sigmas``, or a chosen sigma is not among them.
    """
    rows = dict(means) if isinstance(means, Mapping) else {"": means}
    marks = dict(chosen) if isinstance(chosen, Mapping) else dict.fromkeys(rows, chosen)
    widths = np.asarray(sigmas, dtype=np.float64)
    figure = _figure(7, 4.5)
    plot = figure.subplots()
    for number, (name, row) in enumerate(rows.items()):
        values = _numbers(row)
        if values.shape != widths.shape:
            raise UsageError(f"there are {len(values)} means for {len(widths)} sigmas{name and ' of ' + name}")
        label, mark = str(name), marks.get(name)
        if mark is not None:
            place = int(np.abs(widths - mark).argmin())
            if not math.isclose(widths[place], mark, rel_tol=1e-6):
                raise UsageError(f"the chosen sigma {mark:g} is not among the sigmas")
            label = f"{name}{name and ': '}best at sigma {mark:.3g} ({values[place]:.1f} nats)"
            colour = COLOURS[number % len(COLOURS)]
            plot.plot(mark, values[place], marker="*", markersize=16, color=colour, zorder=3)
        _line(plot, widths, values, number, label, marker="o")
    _cut_low(plot, np.concatenate([_numbers(row) for row in rows.values()]), {})
    plot.set_xscale("log")
    ticks = widths if len(widths) <= 12 else widths[:: len(widths) // 8]
    plot.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    plot.minorticks_off()
    plot.set_xlabel("sigma, the width of each Gaussian (pixel values run from 0 to 1)")
    _finish(plot, "mean log-likelihood of\nvalidation images (nats)")
    _title(figure, title)
    _save(figure, path)


# ---------------------------------------------------------------------------------------------------
# What the diagnostics found


def acceptance(matrix: Any, path: str | Path, *, title: str | None = "What does the discriminator D accept?") -> None:
    """Draw how far D accepts real and generated images with their own and with wrong labels, then by label.

    Args:
        matrix: ``cgan.diagnostics.AcceptanceMatrix``, or its ``as_dict()`` as read from a result file.
        path: of the PNG.
        title: above the plots.
    """
    record = _record(matrix)
    mean, accepted = _numbers(record["mean"]), _numbers(record["accepted"])
    figure = _figure(13, 4.4)
    plots = figure.subplots(1, 3, width_ratios=(1, 1.25, 1.25))
    image = plots[0].imshow(mean, vmin=0, vmax=1, cmap=COLOUR_MAP)
    for row in range(2):
        for column in range(2):
            text = f"{mean[row, column]:.2f}\n{accepted[row, column]:.0%} accepted"
            _cell(plots[0], row, column, text, mean[row, column], size=11)
    plots[0].set_xticks((0, 1), ("with its\nown label", "with a\nwrong label"))
    plots[0].set_yticks((0, 1), ("real\nimage", "generated\nimage"))
    plots[0].set_title("all images", fontsize=11)
    sides = (
        ("by_label_real", "real images", "label of the image"),
        ("by_label_fake", "generated images", "label asked for"),
    )
    for plot, (key, name, axis) in zip(plots[1:], sides, strict=True):
        _heat_map(plot, _numbers(record[key]), "{:.2f}")
        plot.set_title(name, fontsize=11)
        plot.set_ylabel(axis)
        plot.set_xlabel("label shown to D")
    bar = figure.colorbar(image, ax=list(plots), fraction=0.03, pad=0.02)
    bar.set_label("mean of D (probability that it is real)")
    _title(figure, title)
    _save(figure, path)


def fidelity_bars(
    fidelity: Any,
    path: str | Path,
    *,
    title: str | None = "Do the samples show the label they were asked for?",
) -> None:
    """Draw the share of samples read as asked, per label beside chance, and the confusion matrix in per cent.

    Args:
        fidelity: ``cgan.diagnostics.LabelFidelity``, or its ``as_dict()`` as read from a result file.
        path: of the PNG.
        title: above the plots.
    """
    record = _record(fidelity)
    shares, counts = _numbers(record["per_class"]), _numbers(record["confusion"])
    classes = len(shares)
    figure = _figure(11, 4.6)
    bars, confusion = figure.subplots(1, 2, width_ratios=(1.1, 1))
    bars.bar(range(classes), np.nan_to_num(shares), color=BAR_COLOUR)
    for label in range(classes if classes <= 12 else 0):
        text = "none" if math.isnan(shares[label]) else f"{shares[label]:.0%}"
        bars.text(label, np.nan_to_num(shares[label]) + 0.01, text, ha="center", va="bottom", fontsize=9)
    overall = float(record["share"])
    bars.axhline(overall, color=COLOURS[1], linestyle="--", label=f"all samples: {overall:.1%}")
    bars.axhline(1 / classes, color="black", linestyle=":", label=f"chance: {1 / classes:.0%}")
    bars.set_ylim(0, 1.08)
    bars.set_yticks(np.linspace(0, 1, 6), [f"{share:.0%}" for share in np.linspace(0, 1, 6)])
    bars.set_xticks(range(classes) if classes <= 20 else range(0, classes, -(-classes // 20)))
    bars.set_xlabel("label asked for")
    bars.set_ylabel("samples read as asked")
    bars.spines[["top", "right"]].set_visible(False)
    bars.legend(loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=2, frameon=False)
    with np.errstate(invalid="ignore"):
        image = _heat_map(confusion, 100 * counts / counts.sum(1, keepdims=True), "{:.0f}", top=100)
    confusion.set_xlabel("read as")
    confusion.set_ylabel("asked for")
    figure.colorbar(image, ax=confusion, fraction=0.045, pad=0.03).set_label("per cent of the samples asked for")
    _title(figure, title)
    _save(figure, path)


def interval_bars(
    rows: Mapping[str, tuple[float, float, float]],
    path: str | Path,
    *,
    axis: str,
    title: str | None = None,
) -> None:
    """Draw one horizontal bar a row with its interval, the first row on top and darker than the others.

    Args:
        rows: by name: value, lower and upper end of its interval.
        path: of the PNG.
        axis: what the values are.
        title: above the bars.

    Raises:
        UsageError: there are no rows.
    """
    if not rows:
        raise UsageError("there are no rows to draw bars of")
    value, low, high = np.asarray(list(rows.values()), dtype=np.float64).T
    figure = _figure(8, 1.4 + 0.5 * len(rows))
    plot = figure.subplots()
    places = list(range(len(rows)))
    colours = [COLOURS[0], *[BAR_COLOUR] * (len(rows) - 1)]
    plot.barh(places, value, color=colours, xerr=np.clip([value - low, high - value], 0, None), capsize=4)
    for place, v, h in zip(places, value, high, strict=True):
        plot.text(max(v, h), place, f"  {v:.3f}", va="center")
    plot.set_yticks(places, list(rows))
    plot.invert_yaxis()
    plot.set_xlim(0, 1.15 * float(high.max()) or 1)
    plot.set_xlabel(axis)
    plot.spines[["top", "right"]].set_visible(False)
    _title(figure, title)
    _save(figure, path)


# ---------------------------------------------------------------------------------------------------
# Parts of plots


def _line(plot: Axes, x: np.ndarray, y: np.ndarray, number: int, label: str, marker: str | None = None) -> None:
    if marker is None and len(x) <= 40:
        marker = "."
    plot.plot(
        x,
        y,
        color=COLOURS[number % len(COLOURS)],
        linestyle=LINE_STYLES[number % len(LINE_STYLES)],
        linewidth=1.6,
        marker=marker,
        label=label or None,
    )


def _reference_lines(plot: Axes, references: Mapping[str, float]) -> None:
    for number, (name, value) in enumerate(references.items(), start=1):
        line = plot.axhline(value, linewidth=1.2, label=f"{name}: {value:g}")
        line.set_color(COLOURS[number % len(COLOURS)])
        line.set_linestyle((0, REFERENCE_DASHES[(number - 1) % len(REFERENCE_DASHES)]))


def _cut_low(plot: Axes, values: np.ndarray, references: Mapping[str, float]) -> None:
    """Start the y axis three times as far below the highest value as the median, if values lie lower."""
    values = values[np.isfinite(values)]
    if not len(values):
        return
    highest, median = values.max(), np.median(values)
    floor = min(highest - 3 * (highest - median), *references.values(), highest)
    lower = int((values < floor).sum())
    if lower and floor < highest:
        plot.set_ylim(bottom=floor - 0.05 * (highest - floor))
        plot.plot([], [], " ", label=f"({lower} lower value{'s' * (lower > 1)} cut off)")


def _finish(plot: Axes, axis: str) -> None:
    """Name the y axis, and put the legend above the plot, where it covers no line."""
    plot.set_ylabel(axis)
    plot.grid(alpha=0.3)
    plot.spines[["top", "right"]].set_visible(False)
    handles, labels = plot.get_legend_handles_labels()
    if labels:
        room = _room(plot.get_figure(), 9)
        columns = 2 if 2 * max(map(len, labels)) < room else 1
        style = {"borderaxespad": 0.2, "frameon": False, "fontsize": 9, "ncols": columns}
        labels = [textwrap.fill(label, room) for label in labels]
        plot.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), **style)


def _heat_map(plot: Axes, values: np.ndarray, form: str, top: float = 1) -> Any:
    """Draw a square matrix of values in [0, ``top``], with the numbers in the cells while there is room."""
    image = plot.imshow(values, vmin=0, vmax=top, cmap=COLOUR_MAP)
    classes = len(values)
    ticks = range(0, classes, max(1, classes // 10))
    plot.set_xticks(ticks)
    plot.set_yticks(ticks)
    if classes <= 12:
        for row in range(classes):
            for column in range(classes):
                value = values[row, column]
                if np.isfinite(value):
                    _cell(plot, row, column, form.format(value), value / top, size=8)
    return image


def _cell(plot: Axes, row: int, column: int, text: str, share: float, size: int) -> None:
    """Write into a cell of a heat map: white on the dark half of the colours, black on the light one."""
    colour = "white" if share < 0.55 else "black"
    plot.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


# ---------------------------------------------------------------------------------------------------
# Numbers in, pixels out


def _record(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else value.as_dict()


def _numbers(values: Any) -> np.ndarray:
    """A float64 array of (nested) numbers; None and "" become NaN."""
    array = np.asarray(values, dtype=object)
    return np.where((array == "") | (array == None), np.nan, array).astype(np.float64)  # noqa: E711


def _columns(metrics: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    if isinstance(metrics, Mapping):
        return {name: _numbers(values) for name, values in metrics.items()}
    names = dict.fromkeys(name for record in metrics for name in record)
    return {name: _numbers([record.get(name) for record in metrics]) for name in names}


def _any(columns: Mapping[str, np.ndarray], name: str, x: str) -> bool:
    return name in columns and bool((np.isfinite(columns[name]) & np.isfinite(columns[x])).any())


def _figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, on the Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _blank(width: int, height: int) -> Figure:
    """White paper of so many pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A thousandth more than wanted, since the canvas rounds its size down.
    figure = Figure(((width + 0.001) / DPI, (height + 0.001) / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


#: The size of LETTERS in points, as text takes it.
_POINTS = LETTERS * 72 / DPI


def _width(text: str) -> int:
    """Pixels that a line of letters takes."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0
    return math.ceil(TextPath((0, 0), text, size=LETTERS, prop=FontProperties()).get_extents().x1) + 2


def _wrap(text: str, width: int) -> list[str]:
    """Break a text into lines of at most so many pixels, never inside a word."""
    lines: list[str] = []
    for word in text.split():
        if lines and _width(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _title(figure: Figure, title: str | None) -> None:
    if title:
        figure.suptitle(textwrap.fill(title, _room(figure, 13)), fontsize=13)


def _room(figure: Any, points: float) -> int:
    """About how many letters of so many points a line across the figure holds."""
    return int(figure.get_figwidth() * 72 / (0.62 * points)) - 8


def _pixels(figure: Figure) -> np.ndarray:
    """The figure drawn: (height, width, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _save(figure: Figure, path: str | Path) -> None:
    _write(_pixels(figure), path)


def _write(pixels: np.ndarray, path: str | Path) -> None:
    """Write (height, width) grey or (height, width, 3) colour levels as a PNG, whole or not at all."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
