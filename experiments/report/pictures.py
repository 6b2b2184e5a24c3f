"""Pictures for the report: PNG files of run folders, redrawn ones, and charts as SVG, each as a ``data:`` address.

Charts follow the reader's light or dark mode. Decides nothing about what is shown.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.runs.figures import COLOURS, LINE_STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What a chart is drawn in, replaced in its SVG by variables that follow the reader's mode: ink, grid, then series.
_DRAWN = ("#010203", "#040506", *(f"#{n:02x}{n:02x}0f" for n in range(0xA1, 0xA7)))
_LIGHT = ("#1c1f23", "#d3d8de", *COLOURS[:6])
_DARK = ("#e7eaee", "#3a414a", "#56b4e9", "#f0894b", "#2fc79a", "#e39cc4", "#9ad0f0", "#f2c14e")
INK, GRID, *SERIES = _DRAWN


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    uri: str
    width: int
    """In CSS pixels, as ``height``: its real size."""
    height: int
    alt: str
    """What it shows, for one who cannot see it."""


class Unreadable(Exception):
    """There is no such picture, or it is damaged; the message says why."""


def from_png(path: Path, alt: str) -> Picture:
    """The PNG file as it is; raises ``Unreadable``."""
    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if image.format != "PNG":
                raise Unreadable(f"{path} is no PNG file")
            image.load()
            width, height = image.size
    except FileNotFoundError:
        raise Unreadable(f"there is no {path}") from None
    # Damaged files raise nearly anything, and one picture must not cost the page.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(f"{path} cannot be read ({type(error).__name__})") from None
    return Picture(_uri("image/png", content), width, height, alt)


def redrawn(draw: Callable[[Path], None], alt: str) -> Picture:
    """What ``draw`` writes to the path it is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        return from_png(path, alt)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


# ---------------------------------------------------------------------------------------------------------------------
# Charts


@dataclass(frozen=True)
class Line:
    """One line of a chart: its points, and the one that was chosen."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    chosen: tuple[float, float] | None = None


def line_chart(
    lines: Sequence[Line],
    alt: str,
    *,
    x_axis: str,
    y_axis: str,
    logarithmic: bool = False,
    ticks: Sequence[float] | None = None,
    floor: float | None = None,
) -> Picture:
    """Lines over one x axis, the chosen points starred; values below ``floor`` are cut off."""

    def draw(figure: Figure) -> None:
        plot = figure.subplots()
        for number, line in enumerate(lines):
            colour, dashes = SERIES[number % len(SERIES)], LINE_STYLES[number % len(LINE_STYLES)]
            style: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 1.8}
            plot.plot(line.x, line.y, marker="o", markersize=3.5, label=_plain(line.name), **style)
            if line.chosen:
                plot.plot(*line.chosen, marker="*", markersize=15, color=colour)
        if logarithmic:
            plot.set_xscale("log")
            plot.minorticks_off()
        if ticks is not None:
            plot.set_xticks(list(ticks), [f"{tick:.2g}" for tick in ticks])
        if floor is not None and any(value < floor for line in lines for value in line.y):
            plot.set_ylim(bottom=floor)
        plot.set_ylabel(_plain(y_axis))
        plot.set_xlabel(_plain(x_axis))
        columns = 2 if max(len(line.name) for line in lines) < 45 else 1
        _frame(plot).legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, labelcolor=INK, borderaxespad=0.3
        )

    return _chart(draw, alt, 7.6, 4.2 + 0.12 * len(lines))


def interval_chart(rows: Mapping[str, Mapping[str, tuple[float, float, float]]], alt: str, *, axis: str) -> Picture:
    """A block of horizontal bars a row, one bar a series: value, lower and upper end of its interval."""
    series = list(dict.fromkeys(name for row in rows.values() for name in row))

    def draw(figure: Figure) -> None:
        plot = figure.subplots()
        height = 0.8 / len(series)
        highest = 0.0
        for number, name in enumerate(series):
            for place, row in enumerate(rows.values()):
                if name not in row:
                    continue
                value, low, high = row[name]
                y = place + (number - (len(series) - 1) / 2) * height
                label = _plain(name) if place == next(i for i, r in enumerate(rows.values()) if name in r) else None
                plot.barh(y, value, height * 0.92, color=SERIES[number], label=label)
                plot.plot([low, high], [y, y], color=INK, linewidth=1.3, marker="|", markersize=7)
                text: dict[str, Any] = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
                plot.annotate(f"{value:.3f}", (max(value, high), y), color=INK, **text)
                highest = max(highest, value, high)
        plot.set_yticks(range(len(rows)), [_plain(name) for name in rows])
        plot.invert_yaxis()
        plot.set_xlim(0, 1.15 * highest or 1)
        plot.set_xlabel(_plain(axis))
        _frame(plot).legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, labelcolor=INK, borderaxespad=0.3
        )

    return _chart(draw, alt, 7.6, 1.3 + 0.42 * len(rows) * max(1, 0.75 * len(series)))


def _chart(draw: Callable[[Figure], None], alt: str, width: float, height: float) -> Picture:
    """A chart of so many inches, 96 CSS pixels each, whose colours follow the reader's mode."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 10}):
        figure = Figure((width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().decode("utf-8")
    for number, colour in enumerate(_DRAWN):
        text = text.replace(colour, f"var(--c{number})")
    scheme = "".join(f"--c{n}:{colour};" for n, colour in enumerate(_LIGHT))
    dark = "".join(f"--c{n}:{colour};" for n, colour in enumerate(_DARK))
    dark = f"@media (prefers-color-scheme:dark){{svg{{{dark}}}}}"
    style = f"<style>svg{{{scheme}}}{dark}text{{font-family:sans-serif}}</style>"
    at = text.index(">", text.index("<svg")) + 1
    return Picture(
        _uri("image/svg+xml", (text[:at] + style + text[at:]).encode("utf-8")),
        round(width * 96),
        round(height * 96),
        alt,
    )


def _frame(plot: Axes) -> Axes:
    """Axes, ticks and grid in the colours that follow the reader's mode."""
    plot.grid(color=GRID, linewidth=0.8)
    plot.set_axisbelow(True)
    plot.tick_params(colors=INK, which="both")
    plot.xaxis.label.set_color(INK)
    plot.yaxis.label.set_color(INK)
    plot.spines[["top", "right"]].set_visible(False)
    plot.spines[["left", "bottom"]].set_color(INK)
    return plot


def _plain(text: Any) -> str:
    """Text that matplotlib sets as it is: no formula in it, and short enough for a legend."""
    line = " ".join(str(text).split()).replace("$", r"\$")
    return line if len(line) <= 70 else f"{line[:69]}…"
