"""Draw photos beside their own tags and the words of their samples, each as large as it was often drawn.

Reads no run: the caller gives the words. A true tag is coloured, and marked with a sign for those who see no colours.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.textpath import TextPath

from embeddings import EmbeddingError
from embeddings.images.extract import open_image
from experiments.runs import figures
from experiments.runs.photo_table import RIGHT

#: Words shown of a photo, at most; points of a word that every sample has, and of one that a single sample has.
SHOWN, LARGEST, SMALLEST = 30, 36, 8
#: Inches of a row's height, of the title and headings, and of the columns: photo, its own tags, words drawn.
HEIGHT, HEADING, WIDTHS = 1.6, 0.7, (1.9, 1.6, 6.5)
#: A photo's own tags that fit the row's height, and letters of a word that are printed, at most.
TAGS, LETTERS = 9, 24


def draw(rows: Sequence[tuple[Path, Sequence[str], Sequence[str]]], path: Path, title: str) -> None:
    """Write a PNG with a row for each photo: its file, its own tags, and one word for each of its samples.

    A photo that cannot be read leaves its place empty; ``rows`` must not be empty.
    """
    height = HEIGHT * len(rows) + HEADING
    figure = figures.new_figure(sum(WIDTHS), height, layout="none")
    axes = figure.subplots(len(rows), 3, squeeze=False, width_ratios=WIDTHS)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - HEADING / height, wspace=0.03, hspace=0.1)
    for plots, (photo, tags, drawn) in zip(axes, rows, strict=True):
        for plot in plots:
            plot.set_axis_off()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of damaged metadata.
            try:
                image = open_image(photo, 240)
                image.thumbnail((240, 240))
                plots[0].imshow(image)
            except EmbeddingError:
                pass
        own = sorted(set(tags))
        lines = own if len(own) <= TAGS else [*own[: TAGS - 1], f"and {len(own) - TAGS + 1} more"]
        plots[1].text(0, 0.5, "\n".join(map(_cut, lines)), va="center", fontsize=9)
        _draw_words(plots[2], tags, drawn)
    for plot, text in zip(axes[0], ("", "its own tags", "nearest word of each sample"), strict=True):
        plot.set_title(text, fontsize=10, loc="left")
    figures.save(figure, path, title)


def _cut(word: str) -> str:
    return word if len(word) <= LETTERS else f"{word[: LETTERS - 1]}…"


def _draw_words(plot: Axes, tags: Sequence[str], drawn: Sequence[str]) -> None:
    """Fill the plot with the words drawn, the commonest first, line by line."""
    plot.set(xlim=(0, 1), ylim=(0, 1))
    box = plot.get_window_extent()
    width, height = box.width * 72 / figures.DPI, box.height * 72 / figures.DPI  # In points.
    left = top = line = 0.0  # ``line``: height of the present line, that of its largest, and first, word.
    for word, count in Counter(drawn).most_common(SHOWN):
        size = SMALLEST + (LARGEST - SMALLEST) * (count / len(drawn)) ** 0.5
        right = word in tags
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
