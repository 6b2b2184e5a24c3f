"""Draw figures as PNG files: image grids, training curves, measures of a net. Without pyplot: no global state."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.runs.files import write_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.runs.records import AcceptanceRecord, CalibrationBin, FidelityRecord, Weights

#: Okabe and Ito's palette, for colour-blind readers, without its yellow, which is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")
BAR_COLOUR = "#56B4E9"  # Light enough for the lines that cross bars.
COLOUR_MAP = "cividis"
DPI = 100
SEPARATOR, SEPARATOR_GREY = 2, 128  # Pixels between images of a grid, and their grey: black ones need an edge.


def image_grid(
    images: Any,
    path: str | Path,
    shape: tuple[int, int] = (28, 28),
    *,
    row_labels: Sequence[object] | None = None,
    column_labels: Sequence[object] | None = None,
    title: str | None = None,
    scale: int = 2,
) -> None:
    """Draw images (rows, columns, d) in [0, 1] as tiles, white on black, without smoothing (paper, figure 2).

    Values outside [0, 1] are clipped, those that are not finite are grey. ``shape`` is the height and width of an
    image; one of its pixels becomes ``scale`` x ``scale`` equal ones.
    """
    tiles = np.asarray(images, dtype=np.float32)
    rows, columns = tiles.shape[:2]
    grey = np.rint(np.nan_to_num(tiles, nan=0.5, posinf=0.5, neginf=0.5).clip(0, 1) * 255).astype(np.uint8)
    grey = grey.reshape(rows, columns, *shape).repeat(scale, 2).repeat(scale, 3)
    cells = np.pad(grey, ((0, 0), (0, 0), (SEPARATOR, 0), (SEPARATOR, 0)), constant_values=SEPARATOR_GREY)
    pitch_y, pitch_x = cells.shape[2:]
    sheet = cells.transpose(0, 2, 1, 3).reshape(rows * pitch_y, columns * pitch_x)
    sheet = np.pad(sheet, ((0, SEPARATOR), (0, SEPARATOR)), constant_values=SEPARATOR_GREY)

    title = textwrap.fill(title or "", max(12, sheet.shape[1] // 7))
    words = [str(label) for label in (*(row_labels or ()), *title.splitlines())]
    margin = 60 + 10 * max(map(len, words), default=0) + 20 * len(title.splitlines())  # ``save`` cuts it down.
    h, w = sheet.shape[0] + 2 * margin, sheet.shape[1] + 2 * margin
    figure = new_figure(w / DPI, h / DPI, layout="none")
    plot = figure.add_axes((margin / w, margin / h, sheet.shape[1] / w, sheet.shape[0] / h), frameon=False)
    plot.imshow(np.dstack([sheet] * 3), interpolation="nearest", aspect="auto")
    plot.xaxis.tick_top()
    xs, ys = (np.arange(columns) + 0.5) * pitch_x, (np.arange(rows) + 0.5) * pitch_y
    plot.set_xticks(xs if column_labels else [], [str(label) for label in column_labels or ()])
    plot.set_yticks(ys if row_labels else [], [str(label) for label in row_labels or ()])
    plot.tick_params(length=0)
    plot.set_title(title, loc="left", fontsize=10)
    save(figure, path, grey=True)


#: The stacked plots of ``curves``: of each its y axis in words, and each line's column and name.
Panels = Mapping[str, Mapping[str, str]]

#: Those of a run of the unimodal experiment.
PANELS: Panels = {
    "log-likelihood (nats)": {"valid_log_likelihood": "validation images, Parzen estimate"},
    "loss (nats)": {"d_loss": "discriminator D", "g_loss": "generator G"},
    "share or ratio": {
        "label_fidelity": "samples read as the label asked for (share)",
        "diversity": "intra-class diversity (real images = 1)",
    },
}


def curves(
    metrics: pd.DataFrame | Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    chosen: float | None = None,
    panels: Panels = PANELS,
    title: str | None = None,
) -> None:
    """Draw a run's metrics (a table, or its rows) as stacked plots over its epochs, without what is no number.

    ``chosen`` marks the stopping point. The first panel cuts off values far below its others, and says how many.
    """
    import pandas as pd

    table = pd.DataFrame(metrics).apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    there = table.columns[table.notna().any()]
    shown = {axis: {name: lines[name] for name in lines if name in there} for axis, lines in panels.items()}
    shown = {axis: lines for axis, lines in shown.items() if lines}
    figure = new_figure(9, 0.6 + 2.4 * len(shown))
    plots = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for plot, (axis, lines) in zip(plots, shown.items(), strict=True):
        for number, (name, label) in enumerate(lines.items()):
            known = table[["epoch", name]].dropna()
            line(plot, known["epoch"], known[name], number, label, marker="." if len(known) <= 40 else None)
        first = plot is plots[0]
        if chosen is not None:
            words = f"stopping point: epoch {chosen:.4g}" if first else None
            plot.axvline(chosen, color="black", linestyle=":", linewidth=1.5, label=words)
        if first:
            cut_low(plot, table[list(lines)].to_numpy())
        finish(plot, axis)
    plots[-1].set_xlabel("epoch")
    save(figure, path, title)


def parzen_curve(
    sigmas: Sequence[float], means: Sequence[float], chosen: float, path: str | Path, *, title: str | None = None
) -> None:
    """Draw mean log-likelihoods (k,) in nats of the validation images against sigmas (k,), ``chosen`` one marked."""
    widths, values = np.asarray(sigmas, dtype=np.float64), np.asarray(means, dtype=np.float64)
    highest = values[np.abs(widths - chosen).argmin()]
    figure = new_figure(7, 4.5)
    plot = figure.subplots()
    plot.plot(chosen, highest, marker="*", markersize=16, color=COLOURS[0], zorder=3)
    line(plot, widths, values, 0, f"best at sigma {chosen:.3g} ({highest:.1f} nats)", marker="o")
    cut_low(plot, values)
    plot.set_xscale("log")
    ticks = widths if len(widths) <= 12 else widths[:: len(widths) // 8]
    plot.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    plot.minorticks_off()
    plot.set_xlabel("sigma, the width of each Gaussian (pixel values run from 0 to 1)")
    finish(plot, "mean log-likelihood of\nvalidation images (nats)")
    save(figure, path, title)


def reliability(curves: Mapping[str, Sequence[CalibrationBin]], path: str | Path, *, title: str | None = None) -> None:
    """Draw how often words are true tags against the share of a photo's samples that have them, a line a method."""
    figure = new_figure(7, 5)
    plot = figure.subplots()
    plot.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":", label="calibrated")
    for number, (name, bins) in enumerate(curves.items()):
        line(plot, [b.drawn for b in bins], [b.right for b in bins], number, name, marker="o")
    plot.set_xlabel("share of a photo's samples whose nearest word it is")
    finish(plot, "share of these words that are\ntrue tags of the photo")
    save(figure, path, title)


def acceptance(matrix: AcceptanceRecord, path: str | Path, *, title: str | None = None) -> None:
    """Draw how far D accepts real and generated images with their own and with wrong labels, then by label."""
    mean, accepted = np.asarray(matrix.mean, np.float64), np.asarray(matrix.accepted, np.float64)
    figure = new_figure(13, 4.4)
    plots = figure.subplots(1, 3, width_ratios=(1, 1.25, 1.25))
    texts = [[f"{mean[i, j]:.2f}\n{accepted[i, j]:.0%} accepted" for j in (0, 1)] for i in (0, 1)]
    image = _heat_map(plots[0], mean, texts, "all images", size=11)
    plots[0].set_xticks((0, 1), ("with its\nown label", "with a\nwrong label"))
    plots[0].set_yticks((0, 1), ("real\nimage", "generated\nimage"))
    sides = (
        (plots[1], matrix.by_label_real, "real images", "label of the image"),
        (plots[2], matrix.by_label_fake, "generated images", "label asked for"),
    )
    for plot, by_label, name, axis in sides:
        values = np.asarray(by_label, np.float64)
        shown = [[f"{value:.2f}" for value in row] for row in values]
        _heat_map(plot, values, shown, name, x="label shown to D", y=axis)
    figure.colorbar(image, ax=list(plots), fraction=0.03, pad=0.02).set_label("mean of D (probability of real)")
    save(figure, path, title)


def confusion(fidelity: FidelityRecord, path: str | Path, *, title: str | None = None) -> None:
    """Draw what samples are read as, in per cent of those asked for as each label."""
    counts = np.asarray(fidelity.confusion, np.float64)
    with np.errstate(invalid="ignore"):
        percent = 100 * counts / counts.sum(1, keepdims=True)
    figure = new_figure(6, 5.4)
    plot = figure.subplots()
    texts = [[f"{value:.0f}" for value in row] for row in percent]
    right = "" if fidelity.share is None else f"as asked: {fidelity.share:.1%} of all samples"
    image = _heat_map(plot, percent, texts, right, x="read as", y="asked for", top=100)
    figure.colorbar(image, ax=plot, fraction=0.045, pad=0.03).set_label("per cent of the samples asked for")
    save(figure, path, title)


def interval_bars(
    rows: Mapping[str, tuple[float, float, float]], path: str | Path, *, axis: str, title: str | None = None
) -> None:
    """Draw a horizontal bar a row with its interval (value, low, high); ``axis`` says what the values are."""
    value, low, high = np.asarray(list(rows.values()), dtype=np.float64).T
    figure = new_figure(8, 1.4 + 0.5 * len(rows))
    plot = figure.subplots()
    colours = [COLOURS[0], *[BAR_COLOUR] * (len(rows) - 1)]
    errors = np.clip([value - low, high - value], 0, None)
    plot.barh(range(len(rows)), value, color=colours, xerr=errors, capsize=4)
    for place, (v, h) in enumerate(zip(value, high, strict=True)):
        plot.text(max(v, h), place, f"  {v:.3f}", va="center")
    plot.set_yticks(range(len(rows)), list(rows))
    plot.invert_yaxis()
    plot.set_xlim(0, 1.15 * float(high.max()) or 1)
    plot.set_xlabel(axis)
    plot.spines[["top", "right"]].set_visible(False)
    save(figure, path, title)


def new_figure(width: float, height: float, layout: Any = "constrained") -> Figure:
    """Return an empty figure of ``width`` x ``height`` inches, laid out by matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path, title: str | None = None, *, grey: bool = False) -> None:
    """Write the figure as a PNG, whole or not at all, cut to what is drawn; make the folders on the way."""
    from PIL import Image, ImageOps

    if title:
        figure.suptitle(textwrap.fill(title, int(figure.get_figwidth() * 8)), fontsize=13)
    # Drawn once: ``savefig`` would lay the figure out and draw it again to find the box.
    canvas: Any = figure.canvas
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("L" if grey else "RGB")
    drawn = ImageOps.expand(drawn.crop(ImageOps.invert(drawn).getbbox()), 8, "white")
    png = io.BytesIO()
    drawn.save(png, format="PNG", optimize=True)
    write_bytes(Path(path), png.getvalue())


def stamp(paths: Iterable[Path], weights: Weights) -> None:
    """Write into PNG files which weights they were drawn from: the texts ``update`` and ``sha256``."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    for path in paths:
        info, png = PngInfo(), io.BytesIO()
        info.add_text("update", str(weights.update))
        info.add_text("sha256", weights.sha256)
        with Image.open(path) as image:
            image.save(png, format="PNG", optimize=True, pnginfo=info)
        write_bytes(path, png.getvalue())


def line(plot: Axes, x: Any, y: Any, number: int, label: str, marker: str | None) -> None:
    """Draw the ``number``-th line of a plot, from 0, in a colour and a style of its own."""
    colour, style = COLOURS[number % len(COLOURS)], LINE_STYLES[number % len(LINE_STYLES)]
    plot.plot(x, y, color=colour, linestyle=style, linewidth=1.6, marker=marker, label=label)


def cut_low(plot: Axes, values: np.ndarray) -> None:
    """Start the y axis three times as far below the highest value as the median, if values lie lower."""
    values = values[np.isfinite(values)]
    floor = values.max() - 3 * (values.max() - np.median(values))
    if lower := int((values < floor).sum()):
        plot.set_ylim(bottom=floor - 0.05 * (values.max() - floor))
        plot.plot([], [], " ", label=f"({lower} lower value{'s' * (lower > 1)} cut off)")


def finish(plot: Axes, axis: str) -> None:
    """Name the y axis, and put the legend above the plot, where it covers no line."""
    plot.set_ylabel(axis)
    plot.grid(alpha=0.3)
    plot.set_axisbelow(True)
    plot.spines[["top", "right"]].set_visible(False)
    labels = plot.get_legend_handles_labels()[1]
    if labels:
        columns = 2 if max(map(len, labels)) < 50 else 1
        plot.legend(
            loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9, ncols=columns, borderaxespad=0.2
        )


def _heat_map(
    plot: Axes,
    values: np.ndarray,
    texts: list[list[str]],
    title: str,
    *,
    x: str = "",
    y: str = "",
    top: float = 1,
    size: int = 8,
) -> Any:
    """Draw a square matrix of values in [0, ``top``], with ``texts`` in the cells; ``x`` and ``y`` name the axes."""
    image = plot.imshow(values, vmin=0, vmax=top, cmap=COLOUR_MAP)
    plot.set_xticks(range(len(values)))
    plot.set_yticks(range(len(values)))
    plot.set_title(title, fontsize=11)
    plot.set_xlabel(x)
    plot.set_ylabel(y)
    for row, column in np.argwhere(np.isfinite(values)):
        colour = "white" if values[row, column] < 0.55 * top else "black"
        plot.text(column, row, texts[row][column], ha="center", va="center", color=colour, fontsize=size)
    return image
