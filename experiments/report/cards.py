"""What the report shows of each run: its pictures, heat maps, bars and facts, ready for the templates.

Measures nothing and judges nothing. A part that a run lacks becomes a sentence that says so.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments import UsageError
from experiments.flickr_tags.baselines import METHODS
from experiments.report.facts import multimodal_facts, texts, unimodal_facts
from experiments.report.pictures import Picture, Unreadable, from_png, interval_chart, redrawn
from experiments.report.records import Note, Run, number
from experiments.report.tables import AGAINST, notice_of, photos_of, read_measure
from experiments.runs import figures
from experiments.runs import folder as runs
from experiments.runs import photo_table as table2

#: A picture, or the sentence in its place.
Shown = Picture | str


@dataclass(frozen=True)
class Heat:
    """A matrix of shares (0 to 1) with its labels; None where there is no number."""

    caption: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


@dataclass(frozen=True)
class Bar:
    """A share (0 to 1) of one label, and what was read instead most often."""

    label: str
    share: float
    mistaken: str


@dataclass
class Card:
    """One run as the page shows it."""

    id: str
    title: str
    dataset: str
    embedded: bool
    facts: list[tuple[str, str]]
    faults: list[str] = field(default_factory=list)
    notice: str | None = None
    grid: Shown = ""
    curves: Shown = ""
    neighbours: Shown = ""
    interpolation: Shown = ""
    acceptance: list[Heat] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    # Of a multimodal run:
    chart: Shown = ""
    photos: list[dict[str, Any]] = field(default_factory=list)
    caption: str | None = None


def unimodal(run: Run, identity: str, notes: list[Note]) -> Card:
    """The card of a run on digits; what is damaged is added to ``notes``."""
    result, name = run.result, f"{short_name(run)}, seed {run.seed}"
    card = Card(
        id=identity,
        title=name,
        dataset=run.dataset,
        embedded=run.embedded,
        facts=unimodal_facts(run),
        faults=texts(result.get("collapse")),
    )
    rows = metrics(run)
    conditional = "label_fidelity" in result
    layout = "ten rows of ten generated digits, a row a label from 0 to 9" if conditional else "a hundred digits"
    share = number(result, "label_fidelity", "share")
    read = f"; a classifier reads {share:.1%} of such samples as the label asked for" if share is not None else ""
    card.grid = _png(run, "samples.png", f"Samples of {name}: {layout}{read}.", notes)
    card.neighbours = _png(
        run,
        "neighbours.png",
        f"One sample of {name} a row, then the six training images nearest to it with their distances: no sample "
        "repeats a training image where no distance is near zero.",
        notes,
    )
    card.interpolation = _png(
        run,
        "interpolation.png",
        f"Rows of digits that {name} draws on the way from one noise vector to another in twelve steps, the label of "
        "the row unchanged.",
        notes,
    )
    card.curves = _curves(run, rows, figures.PANELS, "valid_log_likelihood", "nats", notes)
    attempt(lambda: card.acceptance.extend(_acceptance(result["acceptance"])), run, "acceptance", notes)
    if conditional:
        attempt(lambda: card.bars.extend(_bars(result["label_fidelity"])), run, "label_fidelity", notes)
    return card


def multimodal(group: Sequence[Run], identity: str, pixels: int | None, notes: list[Note]) -> Card:
    """The card of runs on photos that differ by seed alone; photos enlarge to ``pixels``, None: not at all."""
    from experiments.flickr_tags.evaluate import PANELS

    run, photos = photos_of(group, notes)
    card = Card(
        id=identity,
        title=short_name(run) + (f", seed {run.seed}" if len(group) == 1 else f", {len(group)} seeds"),
        dataset=run.dataset,
        embedded=run.embedded,
        facts=multimodal_facts(run),
        notice=notice_of(run, photos),
    )
    card.curves = _curves(run, metrics(run), PANELS, "valid_average_precision", "mean average precision", notes)
    card.chart = "not measured yet"
    attempt(lambda: setattr(card, "chart", methods_chart(run)), run, "measures", notes)
    if photos is not None:
        card.caption = photos.caption
        card.photos = [_photo(row, f"{card.id}-{place}", pixels) for place, row in enumerate(photos.rows)]
    return card


def short_name(run: Run) -> str:
    """The run's name, with at most one changed setting spelled out."""
    return run.name if len(run.changes) < 2 else f"{run.preset} with {len(run.changes)} changed settings"


def attempt(part: Callable[[], object], run: Run, name: str, notes: list[Note]) -> None:
    """Do ``part``; a record of another form than its writer's costs that part alone, and is noted."""
    if name not in run.result:
        return
    try:
        part()
    except (KeyError, TypeError, ValueError, IndexError, UsageError) as error:
        text = f"{run.place / runs.RESULT}: its {name} cannot be shown ({type(error).__name__}: {error})"
        notes.append(Note(text, run.experiment))


def metrics(run: Run) -> list[dict[str, float]]:
    """The estimates of a run's ``metrics.csv`` by rising update, numbers only; empty where it cannot be read."""
    if not run.place.is_dir():
        return []
    try:
        with open(run.place / runs.METRICS, encoding="utf-8", newline="") as file:
            rows = [_numbers(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return []
    return sorted((row for row in rows if "update" in row), key=lambda row: row["update"])


def _numbers(row: Mapping[Any, Any]) -> dict[str, float]:
    out = {}
    for name, text in row.items():
        try:
            value = float(text)
        except (TypeError, ValueError):
            continue
        if math.isfinite(value):
            out[name] = value
    return out


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def _png(run: Run, name: str, alt: str, notes: list[Note]) -> Shown:
    """A figure of the run's folder, or why there is none."""
    try:
        return from_png(run.place / name, alt)
    except Unreadable as error:
        if (run.place / name).exists():
            notes.append(Note(f"{error}; the figure is left out", run.experiment))
        if run.state != "finished":
            return f"Not drawn yet: the run is {run.state}; it is drawn once the run is measured."
        return f"{name} is not in the run's folder; the run's command writes it there."


def _curves(run: Run, rows: list[dict[str, float]], panels: Any, column: str, unit: str, notes: list[Note]) -> Shown:
    """The run's own figure, else one drawn from its ``metrics.csv``."""
    values = [(row[column], row["epoch"]) for row in rows if column in row and "epoch" in row]
    alt = f"Training curves of {run.name}, seed {run.seed}"
    if values:
        best, epoch = max(values)
        alt += (
            f": the validation estimate goes from {_short(values[0][0])} at epoch {values[0][1]:.0f} to its best, "
            f"{_short(best)} ({unit}), at epoch {epoch:.0f}, and ends at {_short(values[-1][0])} at epoch "
            f"{values[-1][1]:.0f}."
        )
    shown = _png(run, "curves.png", alt, notes)
    if isinstance(shown, str) and rows:
        title = f"Training of {run.name}".replace("$", r"\$")
        if run.embedded:
            title += f" — {run.dataset}".replace("$", r"\$")
        try:
            # Drawn for every run that has been estimated, measured or not.
            return redrawn(lambda path: figures.curves(rows, path, panels=panels, title=title), alt)
        except UsageError as error:
            return f"There are no curves: {error}."
    return shown


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def methods_chart(run: Run) -> Shown:
    """Precision at 10 of every method, against all true tags and against user tags alone, with intervals."""
    rows: dict[str, dict[str, tuple[float, float, float]]] = {}
    for method, words in METHODS.items():
        for key, kind in AGAINST.items():
            value, low, high = read_measure(run, method, "precision_at_10", key)
            if value is not None:
                ends = (value if low is None else low, value if high is None else high)
                rows.setdefault(words, {})[kind] = (value, *ends)
    if not rows:
        return "not measured yet"
    told = "; ".join(
        f"{words}: {value:.3f} [{low:.3f}, {high:.3f}] against {kind}"
        for words, row in rows.items()
        for kind, (value, low, high) in row.items()
    )
    count = number(run.result, "test_images")
    over = f" over {count:,.0f} photos" if count else " over photos"
    return interval_chart(
        rows, f"Bars of precision at 10 with 95% intervals. {told}.", axis=f"precision at 10, 95% interval{over}"
    )


def _photo(row: table2.PhotoRow, identity: str, pixels: int | None) -> dict[str, Any]:
    large = table2.thumbnail(row.path, pixels) if pixels else None
    return {**table2.photo_values(row), "id": identity, "large": large if large and large.uri else None}


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def _acceptance(matrix: Mapping[str, Any]) -> list[Heat]:
    """How often D accepts, then its mean output by label."""
    images, labels = ("real test image", "generated image"), ("with its own label", "with a wrong label")
    accepted = _shares(matrix["accepted"], 2, 2)
    heats = [
        Heat(
            "Share of images that D accepts (its output is over 0.5)",
            "",
            labels,
            tuple(zip(images, accepted, strict=True)),
        )
    ]
    for key, corner, what in (
        ("by_label_real", "label of the image", "real images"),
        ("by_label_fake", "label asked for", "generated images"),
    ):
        if isinstance(matrix.get(key), list):
            n = len(matrix[key])
            names = tuple(map(str, range(n)))
            rows = tuple(zip(names, _shares(matrix[key], n, n), strict=True))
            caption = f"Mean output of D on {what} (rows: {corner}; columns: label shown to D)"
            heats.append(Heat(caption, corner, names, rows))
    return heats


def _bars(fidelity: Mapping[str, Any]) -> list[Bar]:
    """Per label the share read as asked, and the commonest misreading."""
    shares, counts = fidelity["per_class"], fidelity["confusion"]
    out = []
    for label, (share, row) in enumerate(zip(shares, counts, strict=True)):
        wrong = {other: count for other, count in enumerate(row) if other != label and count > 0}
        most = max(wrong, key=lambda other: wrong[other], default=None)
        mistaken = f"{wrong[most]:,} of {sum(row):,} read as {most}" if most is not None else "none"
        out.append(Bar(str(label), _share(share) or 0.0, mistaken))
    return out


def _shares(matrix: Sequence[Sequence[Any]], height: int, width: int) -> list[tuple[float | None, ...]]:
    rows = [tuple(map(_share, row)) for row in matrix]
    if len(rows) != height or any(len(row) != width for row in rows):
        raise ValueError(f"not {height} x {width}")
    return rows


def _share(value: Any) -> float | None:
    found = number({"value": value}, "value")
    return None if found is None else min(max(float(found), 0.0), 1.0)
