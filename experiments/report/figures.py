"""Pictures of the report page: PNG files of run folders, and charts as SVG, each as a ``data:`` address."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from experiments.runs import figures
from experiments.runs.folder import RunFolder

if TYPE_CHECKING:
    from experiments.runs.records import Weights

#: Larger figures than any that a run draws.
MAX_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    uri: str
    width: int  # In CSS pixels, as ``height``: its real size.
    height: int
    alt: str  # What it shows, for a reader who cannot see it.


def read_png(path: Path, alt: str, weights: Weights | None = None) -> Picture:
    """Return a PNG file; raises ``OSError`` or ``ValueError`` if damaged, too large, or of other ``weights``."""
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


def learning_curves(runs: pd.DataFrame, column: str, label: str, floor: float | None = None) -> Picture | None:
    """Draw a column of ``metrics.csv`` by epoch; None where no run has it.

    A line a group of runs: the mean over its finished seeds, and their range as a band. Values below ``floor`` are cut.
    """
    import matplotlib

    figure, ends = figures.new_figure(7.6, 4.4), list[str]()
    plot = figure.subplots()
    for group, these in runs.groupby("name", sort=False):
        done = these[these["status"] == "finished"]
        tables = [RunFolder(folder).read_metrics() for folder in (done if len(done) else these)["folder"]]
        known = [table.reindex(columns=["epoch", column]).dropna().drop_duplicates("epoch") for table in tables]
        seeds = [table.set_index("epoch")[column] for table in known if len(table)]
        if not seeds:
            continue
        name = f"{group} ({len(seeds)} seeds)" if len(seeds) > 1 else str(group)
        # Where only some seeds have an estimate the mean would jump.
        values, number = pd.concat(seeds, axis=1, join="inner").sort_index(), len(ends)
        figures.line(plot, values.index, values.mean(axis=1), number, name[:60].replace("$", r"\$"), marker=".")
        if len(seeds) > 1:
            colour, band = figures.COLOURS[number % len(figures.COLOURS)], (values.min(axis=1), values.max(axis=1))
            plot.fill_between(values.index, *band, alpha=0.25, linewidth=0, color=colour)
        ends.append(f"{name} ends at {seeds[0].iloc[-1]:.3g}")
    if not ends:
        return None
    width, height = 7.6, 4.4 + 0.12 * len(ends)
    figure.set_size_inches(width, height)
    if floor is not None:
        plot.set_ylim(bottom=max(floor, plot.get_ylim()[0]))
    plot.set_xlabel("epoch")
    figures.finish(plot, label)
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    alt = f"Lines: {label}, during training: {'; '.join(ends)}."
    return Picture(_uri("image/svg+xml", out.getvalue()), round(width * 96), round(height * 96), alt)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
