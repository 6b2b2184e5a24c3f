"""Pictures of the report page: PNG files of run folders, and charts as SVG, each as a ``data:`` address.

Charts follow the reader's light or dark mode. Decides nothing about what is shown.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.runs.records import Weights

#: Larger figures than any that a run draws.
MAX_BYTES = 4 * 2**20

#: Placeholders that a chart is drawn in (ink, grid, series), and what stands for them in light and in dark mode. The
#: series are Okabe and Ito's palette, which colour-blind readers can tell apart.
_DRAWN = ("#010203", "#040506", *(f"#{n:02x}{n:02x}0f" for n in range(0xA1, 0xA8)))
_LIGHT = ("#1c1f23", "#d3d8de", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#59616b")
_DARK = ("#e7eaee", "#3a414a", "#56b4e9", "#f0894b", "#2fc79a", "#e39cc4", "#9ad0f0", "#f2c14e", "#a5aeb9")
INK, GRID, *SERIES = _DRAWN
LINE_STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    uri: str
    width: int
    """In CSS pixels, as ``height``: its real size."""
    height: int
    alt: str
    """What it shows, for a reader who cannot see it."""


def read_png(path: Path, alt: str, weights: Weights | None = None) -> Picture:
    """Return a PNG file as it is; raises ``OSError`` or ``ValueError`` if it is missing, damaged or too large.

    Also if it says that it was drawn from other ``weights``, those of the result beside it.
    """
    from PIL import Image

    if path.stat().st_size > MAX_BYTES or not path.is_file():
        raise ValueError(f"{path}: not a figure of at most {MAX_BYTES:,} bytes")
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
            width, height = image.size
            drawn_from = getattr(image, "text", {}).get("sha256")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not readable as PNG ({type(error).__name__})") from None
    if weights is not None and drawn_from not in (None, weights.sha256):
        raise ValueError(f"{path}: drawn from other weights than the result beside it")
    return Picture(_uri("image/png", content), width, height, alt)


def line_chart(
    curves: Mapping[str, Sequence[pd.Series]], alt: str, labels: tuple[str, str], floor: float | None = None
) -> Picture:
    """Draw a line for each name: the mean over its series (values by x, one a seed), and their range as a band.

    Values below ``floor`` are cut off.
    """

    def draw(figure: Figure) -> None:
        plot = figure.subplots()
        lowest = math.inf
        for number, (name, seeds) in enumerate(curves.items()):
            # Where only some seeds have an estimate the mean would jump.
            values = pd.concat(list(seeds), axis=1, join="inner").sort_index()
            style: dict[str, Any] = {"color": SERIES[number % len(SERIES)]}
            dashes = LINE_STYLES[number % len(LINE_STYLES)]
            mean = values.mean(axis=1)
            plot.plot(mean, marker="o", markersize=3, linewidth=1.8, linestyle=dashes, label=_plain(name), **style)
            if len(seeds) > 1:
                plot.fill_between(
                    values.index, values.min(axis=1), values.max(axis=1), alpha=0.25, linewidth=0, **style
                )
            lowest = min(lowest, mean.min())
        if floor is not None and lowest < floor:
            plot.set_ylim(bottom=floor)
        _finish(plot, labels)

    return _chart(draw, alt, 7.6, 4.4 + 0.12 * len(curves))


def _chart(draw: Callable[[Figure], None], alt: str, width: float, height: float) -> Picture:
    """Return a chart of so many inches, 96 CSS pixels each, whose colours follow the reader's mode."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 10}):
        figure = Figure((width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().decode()
    for number, colour in enumerate(_DRAWN):
        text = text.replace(colour, f"var(--c{number})")
    light, dark = ("".join(f"--c{n}:{colour};" for n, colour in enumerate(colours)) for colours in (_LIGHT, _DARK))
    style = f"svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}text{{font-family:sans-serif}}"
    at = text.index(">", text.index("<svg")) + 1
    content = f"{text[:at]}<style>{style}</style>{text[at:]}".encode()
    return Picture(_uri("image/svg+xml", content), round(width * 96), round(height * 96), alt)


def _finish(plot: Axes, labels: tuple[str, str]) -> None:
    """Give axes, grid and legend the colours that follow the reader's mode."""
    plot.grid(color=GRID, linewidth=0.8)
    plot.set_axisbelow(True)
    plot.tick_params(colors=INK, which="both")
    plot.set_xlabel(labels[0], color=INK)
    plot.set_ylabel(labels[1], color=INK)
    plot.spines[["top", "right"]].set_visible(False)
    plot.spines[["left", "bottom"]].set_color(INK)
    legend: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False, "labelcolor": INK}
    plot.legend(ncols=2, borderaxespad=0.3, **legend)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _plain(text: str) -> str:
    """Return text that matplotlib sets as it is, short enough for a legend: no formula in it, no leading underscore."""
    line = " ".join(text.split()).replace("$", r"\$")
    line = line if len(line) <= 48 else f"{line[:47]}…"
    return f"\u200b{line}" if line.startswith("_") else line
