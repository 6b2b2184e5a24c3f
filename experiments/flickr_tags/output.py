"""Show what a run of the multimodal experiment measured: Table 2, figures, and lines for the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.flickr_tags.presets import FlickrConfig
from experiments.runs.folder import Result
from experiments.runs.records import METHODS, SOURCES, DivergedResult, FlickrResult, Interval
from experiments.runs.training import Run

if TYPE_CHECKING:
    from embeddings.vocabulary import Vocabulary
    from experiments.flickr_tags.dataset import FlickrData
    from experiments.flickr_tags.evaluate import Tagged
    from experiments.runs.photo_table import PhotoRow

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
    found: Tagged,
    result: FlickrResult,
    history: list[dict[str, float]],
    best_epoch: float,
) -> None:
    """Write Table 2, the learning curves and the bars of precision into the run's folder."""
    from experiments.runs import figures
    from experiments.runs.photo_table import Table2, write_table2

    folder, settings, name = this.folder.path, config.decoding, this.config.dataset.name
    table = Table2(
        f"Table 2: user tags, annotations and generated tags — {name}",
        table2_rows(data, found, settings.words),
        notice=result.notice,
        caption=(
            f"Held-out photos ({result.measured_on} split). For each, {settings.samples} vectors are drawn; of the "
            f"{settings.neighbours} words nearest to each vector, the {settings.words} commonest are shown, with the "
            "share of samples near them."
        ),
        weights=result.weights,
    )
    write_table2(folder, table)
    panels = {
        "validation images": {
            "valid_average_precision": "mean average precision",
            "valid_precision": "precision",
        },
        "loss (nats)": {"d_loss": "discriminator D", "g_loss": "generator G"},
        "cosine distance": {"diversity": "between the samples of an image, on average"},
    }
    figures.curves(history, folder / "curves.png", chosen=best_epoch, panels=panels, title=f"Training — {name}")
    bins = {SOURCES[source]: row.calibration for source, row in (result.one_to_many or {}).items() if row.calibration}
    figures.reliability(bins, folder / "reliability.png", title=f"Are words drawn often also right often? — {name}")
    for measures, file, what in (
        (result.measures, "precision.png", "user tags and annotations"),
        (result.measures_user_tags, "precision_user_tags.png", "user tags alone"),
    ):
        rows = {METHODS[method]: row.precision_at_10 for method, row in measures.items()}
        bars = {method: (row.value, row.low, row.high) for method, row in rows.items() if row}
        if bars:  # Without any where no test photo has such a tag.
            axis = f"precision at {settings.words} against {what} (95% interval over {result.test_images} photos)"
            figures.interval_bars(bars, folder / file, axis=axis, title=f"Which method tags best? — {name}")
    if result.weights is not None:
        figures.stamp(folder.glob("*.png"), result.weights)


def write_word_cloud(folder: Path, data: FlickrData, vocabulary: Vocabulary, vectors: np.ndarray, of: str) -> None:
    """Draw some test photos beside the nearest words of their samples ``vectors`` (n, samples, d)."""
    from experiments.flickr_tags import one_to_many, word_cloud

    shown = spread(len(vectors), CLOUD_PHOTOS)
    words = one_to_many.nearest_word(vectors[shown], vocabulary)
    rows = [
        word_cloud.PhotoWords(data.photos.paths[int(data.rows[image])], data.tags[image], drawn)
        for image, drawn in zip(data.splits.test[shown].tolist(), words, strict=True)
    ]
    title = f"One photo, many words: {vectors.shape[1]} samples of each photo — {of}"
    word_cloud.draw(rows, folder / "words.png", title)


def spread(count: int, shown: int) -> list[int]:
    """Return at most ``shown`` numbers of ``range(count)``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(shown, count)).round().astype(int)).tolist()


def table2_rows(data: FlickrData, found: Tagged, words: int) -> list[PhotoRow]:
    """Return test photos evenly spread over the split, with their tags and what was generated."""
    from experiments.runs.photo_table import PhotoRow

    rows = []
    for at in spread(len(data.splits.test), SHOWN):
        image = int(data.splits.test[at])
        photo = int(data.rows[image])
        generated = list(zip(found.rankings[at][:words], found.decoded.shares[at].tolist(), strict=False))
        rows.append(
            PhotoRow(
                number=int(data.photos.numbers[photo]),
                path=os.fsencode(data.photos.paths[photo]).decode(errors="replace"),
                user_tags=list(data.photos.tags[photo]),
                annotations=list(data.photos.annotations[photo]),
                generated=generated,
                right=[tag for tag, _ in generated if tag in data.tags[image]],
            )
        )
    return rows


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

    def with_interval(interval: Interval | None) -> str:
        return "-" if interval is None else f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"

    for measures, what in (
        (result.measures, "user tags and annotations"),
        (result.measures_user_tags, "user tags alone"),
    ):
        rows = {
            METHODS[method]: {
                **{name.replace("_", " "): with_interval(getattr(row, name)) for name in SHOWN_MEASURES},
                "different tags": str(row.distinct_tags),
            }
            for method, row in measures.items()
        }
        lines += [f"against {what}, with 95% intervals over photos:", *_aligned(rows)]
    if result.one_to_many:
        samples = {
            SOURCES[source]: {
                name: f"{value.value:.2f}" if value else "-"
                for name, value in (
                    ("diversity", row.diversity),
                    ("coverage of its true tags", row.coverage),
                    ("correctness", row.correctness),
                )
            }
            for source, row in result.one_to_many.items()
        }
        lines += ["samples of one photo:", *_aligned(samples)]
    if result.highest_precision is not None:
        lines.append(
            f"with the {result.vocabulary['decoding']} words that can be generated, no method exceeds a precision at "
            f"10 of {result.highest_precision:.3f} against user tags and annotations"
            + (f", {alone:.3f} against user tags alone" if (alone := result.highest_precision_user_tags) else "")
        )
    if result.notice:
        lines.append(f"NOTE: {result.notice}.")
    return "\n".join(lines)


def _aligned(rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the lines of a table of texts by row and column."""
    import pandas as pd

    table = pd.DataFrame.from_dict(rows, orient="index")
    return [f"  {line}" for line in table.to_markdown(tablefmt="plain", disable_numparse=True).splitlines()]
