"""Draw photos beside their own tags and the words of their samples, each as large as it was often drawn.

Reads no run: the caller gives the words. A true tag is coloured, and marked with a sign for those who see no colours.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runs import figures
from experiments.runs.photo_table import RIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Words shown of a photo, at most; points of a word that every sample has, and of one that a single sample has.
SHOWN, LARGEST, SMALLEST = 30, 36, 8
#: Inches of a row's height, of the title and headings, and of the columns: photo, its own tags, words drawn.
HEIGHT, HEADING, WIDTHS = 1.6, 0.7, (1.9, 1.6, 6.5)
#: Letters of a word that are printed, at most.
LETTERS = 24


@dataclass(frozen=True)
class PhotoWords:
    """A photo, its own tags, and one word for each of its samples."""

    path: Path
    """Its image file; one that cannot be read leaves the place empty."""
    tags: Sequence[str]
    drawn: Sequence[str]


def draw(rows: Sequence[PhotoWords], path: Path, title: str) -> None:
    """Write a PNG with a row for each photo; ``rows`` must not be empty."""
    height = HEIGHT * len(rows) + HEADING
    figure = figures.new_figure(sum(WIDTHS), height, layout="none")
    axes = figure.subplots(len(rows), 3, squeeze=False, width_ratios=WIDTHS)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - HEADING / height, wspace=0.03, hspace=0.1)
    for plots, row in zip(axes, rows, strict=True):
        for plot in plots:
            plot.set_axis_off()
        _draw_photo(plots[0], row.path)
        plots[1].text(0, 0.5, "\n".join(map(_cut, sorted(set(row.tags))[:11])), va="center", fontsize=9)
        _draw_words(plots[2], row)
    for plot, text in zip(axes[0], ("", "its own tags", "nearest word of each sample"), strict=True):
        plot.set_title(text, fontsize=10, loc="left")
    figures.save(figure, path, title)


def _draw_photo(plot: Axes, path: Path) -> None:
    """Show the photo, if it can be read."""
    from embeddings import EmbeddingError
    from embeddings.images.extract import open_image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of damaged metadata.
            image = open_image(path, 240)
    except EmbeddingError:
        return
    image.thumbnail((240, 240))
    plot.imshow(image)


def _cut(word: str) -> str:
    """Return a word that fits."""
    return word if len(word) <= LETTERS else f"{word[: LETTERS - 1]}…"


def _draw_words(plot: Axes, row: PhotoWords) -> None:
    """Fill the plot with the words drawn, the commonest first, line by line."""
    from matplotlib.textpath import TextPath

    plot.set(xlim=(0, 1), ylim=(0, 1))
    box = plot.get_window_extent()
    width, height = box.width * 72 / figures.DPI, box.height * 72 / figures.DPI  # In points.
    left = top = line = 0.0  # ``line``: height of the present line, that of its largest, and first, word.
    for word, count in Counter(row.drawn).most_common(SHOWN):
        size = SMALLEST + (LARGEST - SMALLEST) * (count / len(row.drawn)) ** 0.5
        right = word in row.tags
        text = f"{_cut(word)} {RIGHT}" if right else _cut(word)
        extent = TextPath((0, 0), text.replace("$", "S"), size=size).get_extents().width + 0.6 * size
        if left and left + extent > width:
            left, top, line = 0.0, top + line, 0.0
        line = max(line, 1.35 * size)
        if top + line > height:
            break
        colour, place = figures.COLOURS[0] if right else "#555555", (left / width, 1 - (top + line) / height)
        plot.text(*place, text, fontsize=size, color=colour, parse_math=False)
        left += extent
