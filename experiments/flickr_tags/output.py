"""Show what a run of the multimodal experiment measured: Table 2, figures, and lines for the terminal."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.flickr_tags.presets import FlickrConfig
from experiments.runs.folder import Result
from experiments.runs.records import METHODS, SOURCES, DivergedResult, FlickrResult, TradeOffPoint
from experiments.runs.training import Run, TrainingEnd

if TYPE_CHECKING:
    from embeddings.decoding import Decoded
    from embeddings.vocabulary import Vocabulary
    from experiments.flickr_tags.dataset import FlickrData

#: Photos shown in Table 2, and beside the words of their samples.
SHOWN, CLOUD_PHOTOS = 24, 8
#: Measures that the terminal shows.
SHOWN_MEASURES = (
    "precision_at_10",
    "recall_at_10",
    "mean_average_precision",
    "best_cosine",
    "cgan_minus_this_precision",
)


def write_figures(
    this: Run,
    config: FlickrConfig,
    data: FlickrData,
    decoded: Decoded,
    vocabulary: Vocabulary,
    drawn: np.ndarray,
    result: FlickrResult,
    end: TrainingEnd,
) -> None:
    """Write Table 2, curves, bars, and photos beside the words of their samples ``drawn`` (n, samples, d)."""
    from experiments.flickr_tags import one_to_many, word_cloud
    from experiments.runs import figures
    from experiments.runs.photo_table import PhotoRow, Table2, write_table2

    folder, settings, name = this.folder.path, config.decoding, this.config.dataset.name
    photos, test, rankings = data.photos, data.splits.test, decoded.rankings(vocabulary)
    rows = []
    for at in spread(len(test), SHOWN):
        photo = int(data.rows[test[at]])
        generated = list(zip(rankings[at][: settings.words], decoded.shares[at].tolist(), strict=False))
        rows.append(
            PhotoRow(
                number=int(photos.numbers[photo]),
                path=os.fsencode(photos.paths[photo]).decode(errors="replace"),
                user_tags=list(photos.tags[photo]),
                annotations=list(photos.annotations[photo]),
                generated=generated,
                right=[tag for tag, _ in generated if tag in data.tags[test[at]]],
            )
        )
    table = Table2(
        f"Table 2: user tags, annotations and generated tags — {name}",
        rows,
        notice=result.notice,
        caption=(
            f"Held-out photos ({result.measured_on} split). For each, {settings.samples} vectors are drawn; of the "
            f"{settings.neighbours} words nearest to each vector, the {settings.words} commonest are shown, with the "
            "share of samples near them."
        ),
        weights=result.weights,
    )
    write_table2(folder, table)
    shown = spread(len(test), CLOUD_PHOTOS)
    words = one_to_many.nearest_word(drawn[shown], vocabulary)
    cloud = [
        (photos.paths[int(data.rows[test[at]])], data.tags[test[at]], of_photo)
        for at, of_photo in zip(shown, words, strict=True)
    ]
    title = f"One photo, many words: {settings.samples} samples of each photo — {this.config.preset}, {name}"
    word_cloud.draw(cloud, folder / "words.png", title)
    panels = {
        "validation images": {
            "valid_average_precision": "mean average precision",
            "valid_precision": "precision",
        },
        "loss (nats)": {"d_loss": "discriminator D", "g_loss": "generator G"},
        "cosine distance": {"diversity": "between the samples of an image, on average"},
    }
    title = f"Training — {name}"
    figures.curves(end.history, folder / "curves.png", chosen=end.best_epoch, panels=panels, title=title)
    bins = {SOURCES[source]: row.calibration for source, row in (result.one_to_many or {}).items() if row.calibration}
    figures.reliability(bins, folder / "reliability.png", title=f"Are words drawn often also right often? — {name}")
    if result.trade_off:
        draw_trade_off(result.trade_off, folder / "trade_off.png", f"What do different samples cost? — {name}")
    for measures, file, what in (
        (result.measures, "precision.png", "user tags and annotations"),
        (result.measures_user_tags, "precision_user_tags.png", "user tags alone"),
    ):
        means = {METHODS[method]: row.precision_at_10 for method, row in measures.items()}
        bars = {method: (mean.value, mean.low, mean.high) for method, mean in means.items() if mean}
        if bars:  # Without any where no test photo has such a tag.
            axis = f"precision at {settings.words} against {what} (95% interval over {result.test_images} photos)"
            figures.interval_bars(bars, folder / file, axis=axis, title=f"Which method tags best? — {name}")
    if result.weights is not None:
        figures.stamp(folder.glob("*.png"), result.weights)


def draw_trade_off(rows: Sequence[TradeOffPoint], path: Path, title: str) -> None:
    """Draw the measures of samples against their diversity, a point a rate of dropout while drawing."""
    from experiments.runs import figures

    figure = figures.new_figure(8, 4.5)
    plot = figure.subplots()
    labels = {
        "coverage": "coverage: share of a photo's tags that are drawn",
        "correctness": "correctness: share of the samples that are one of its tags",
        "precision_at_10": "precision at 10",
    }
    diversity = [row.diversity for row in rows]
    for number, (measure, label) in enumerate(labels.items()):
        figures.line(plot, diversity, [getattr(row, measure) for row in rows], number, label, marker=".")
    for row in rows:
        plot.annotate(f"{row.dropout_rate:g}", (row.diversity, row.coverage), xytext=(0, 5), textcoords="offset points")
    plot.set_xlabel("diversity: mean cosine distance between a photo's samples; the numbers are rates of dropout")
    figures.finish(plot, "mean over validation photos")
    figures.save(figure, path, title)


def spread(count: int, shown: int) -> list[int]:
    """Return at most ``shown`` numbers of ``range(count)``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(shown, count)).round().astype(int)).tolist()


def summary(result: Result) -> str:
    """Return a run's result in a few lines for the terminal."""
    if isinstance(result, DivergedResult):
        return f"{result.status}: {result.reason}"
    assert isinstance(result, FlickrResult)
    lines = [
        f"dataset {result.dataset.name}; kept the weights of update {result.best_update:,} of {result.updates:,} "
        f"({result.seconds / 60:.1f} min of training, stopped by {result.stopped_by}); {result.test_images} "
        f"{result.measured_on} photos"
    ]
    for measures, what in (
        (result.measures, "user tags and annotations"),
        (result.measures_user_tags, "user tags alone"),
    ):
        cells = {}
        for method, row in measures.items():
            means = {name.replace("_", " "): getattr(row, name) for name in SHOWN_MEASURES}
            cells[METHODS[method]] = {
                name: f"{mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f})" if mean else "-"
                for name, mean in means.items()
            } | {"different tags": str(row.distinct_tags)}
        lines += [f"against {what}, with 95% intervals over photos:", _aligned(cells)]
    if result.one_to_many:
        cells = {}
        for source, of_source in result.one_to_many.items():
            means = {
                "diversity": of_source.diversity,
                "coverage of its true tags": of_source.coverage,
                "correctness": of_source.correctness,
            }
            cells[SOURCES[source]] = {name: f"{mean.value:.2f}" if mean else "-" for name, mean in means.items()}
        lines += ["samples of one photo:", _aligned(cells)]
    if result.highest_precision is not None:
        lines.append(
            f"with the {result.vocabulary['decoding']} words that can be generated, no method exceeds a precision at "
            f"10 of {result.highest_precision:.3f} against user tags and annotations"
            + (f", {alone:.3f} against user tags alone" if (alone := result.highest_precision_user_tags) else "")
        )
    if result.notice:
        lines.append(f"NOTE: {result.notice}.")
    return "\n".join(lines)


def _aligned(cells: dict[str, dict[str, str]]) -> str:
    """Return the lines of a table of texts by row and column."""
    import pandas as pd

    table = pd.DataFrame.from_dict(cells, orient="index").to_markdown(tablefmt="plain", disable_numparse=True)
    return textwrap.indent(table, "  ")
