"""Pictures of the report page: PNG files of run folders, and charts as SVG, each as a ``data:`` address."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from experiments.runs import figures

if TYPE_CHECKING:
    from experiments.runs.records import Weights

#: Larger figures than any that a run draws.
MAX_BYTES = 4 * 2**20


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
    """Return a PNG file as it is; raises ``OSError`` or ``ValueError`` if it is damaged, too large, or no file.

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

    ``labels`` are those of the axes; values below ``floor`` are cut off.
    """
    import matplotlib

    width, height = 7.6, 4.4 + 0.12 * len(curves)
    figure = figures.new_figure(width, height)
    plot = figure.subplots()
    for number, (name, seeds) in enumerate(curves.items()):
        # Where only some seeds have an estimate the mean would jump.
        values = pd.concat(list(seeds), axis=1, join="inner").sort_index()
        label = name[:60].replace("$", r"\$")  # No formula.
        figures.line(plot, values.index, values.mean(axis=1), number, label, marker=".")
        if len(seeds) > 1:
            colour = figures.COLOURS[number % len(figures.COLOURS)]
            plot.fill_between(
                values.index, values.min(axis=1), values.max(axis=1), alpha=0.25, linewidth=0, color=colour
            )
    if floor is not None:
        plot.set_ylim(bottom=max(floor, plot.get_ylim()[0]))
    plot.set_xlabel(labels[0])
    figures.finish(plot, labels[1])
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(_uri("image/svg+xml", out.getvalue()), round(width * 96), round(height * 96), alt)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
