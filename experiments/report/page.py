"""The report page as HTML text that needs no other file, no network and no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.report import digits, photos
from experiments.report.forms import form, number
from experiments.report.records import FLICKR, KMEANS, MNIST, PARZEN, REAL, Runs
from experiments.report.verdicts import CLOSE_NATS, CLOSE_SHARE, ONE_SEED, TITLES, verdicts
from experiments.runs import figures, photo_table
from experiments.runs.folder import RunFolder, git_revision
from experiments.runs.records import Weights

#: Longer side of an enlarged photo.
PHOTO_PIXELS = 480

#: Larger figures than any that a run draws.
FIGURE_BYTES = 4 * 2**20

#: Figures of a run's folder, and what they show.
PICTURES = {
    "samples.png": "Generated digits",
    "neighbours.png": "Samples, each beside the training images nearest to it",
    "interpolation.png": "From one noise vector to another, the label of each row unchanged",
    "precision.png": "Of ten tags given to a held-out photo, the share that is true (lines: 95% bootstrap intervals)",
    "label_fidelity.png": "What a classifier reads in the samples of each label",
    "acceptance.png": "D's mean output on real and generated images, by label of the image and label shown",
    "parzen.png": "Validation log-likelihood by sigma",
    "curves.png": "Training curves; the dotted line is the stopping point",
}


def build(runs: Runs, folders: Sequence[Path]) -> str:
    """Return the page; what cannot be shown is added to the notes."""
    rows, embedded = (digits.table1(runs, embedded=flag) for flag in (False, True))
    real = runs.select(embedded=False, experiments=(MNIST, FLICKR, PARZEN))
    changed = digits.details(runs)
    nets = {flag: _nets(runs, flag) for flag in (False, True)}
    shown = [rows.loc[rows["preset"] == preset, "group"].iloc[0] for preset in ("paper", "conditional-best")]
    judged = verdicts(rows, real)
    scores = [rows.loc[rows["preset"] == preset, "log_likelihood"].iloc[0] for preset in (REAL, KMEANS)]
    *table1, (_, controls) = digits.by_section(rows)
    mine = real[real["group"].isin(rows["group"]) & (real["experiment"] == MNIST)]
    wrong_labels = "share of real images with a wrong label that D accepts"
    values = {
        "digits": [net for group in shown for net in nets[False] if net["group"] == group],
        "validation": learning_curves(mine, "valid_log_likelihood", "validation log-likelihood (nats)", floor=-300.0),
        "diversity": learning_curves(mine, "diversity", "intra-class diversity (real digits: 1)"),
        "wrong_labels": learning_curves(mine, "accept_real_wrong", wrong_labels),
        "claims": [(origin, title, [v for v in judged if v.origin == origin]) for origin, title in TITLES.items()],
        "rules": {"nats": CLOSE_NATS, "share": CLOSE_SHARE, "one_seed": ONE_SEED, "truth": photos.FIELDS["measures"]},
        "table1": table1,
        "controls": [("", controls.loc[:, (controls != "").any()])],
        "legend": digits.LEGEND,
        "table1_embedded": digits.by_section(embedded),
        "sources": list(rows["cited_source"].dropna().unique()),
        "details": digits.detail_blocks(runs, rows, changed),
        "captions": digits.CAPTIONS,
        "scores": [form(score, ".1f") for score in scores] if all(map(number, scores)) else None,
        "nets": nets[False],
        "in_table1": set(rows["group"].dropna()),
        "nets_embedded": nets[True],
        "provenance": digits.text(runs.table, PROVENANCE),
        "total": len(runs.table),
        "folders": [folder.as_posix() for folder in folders],
        "revision": git_revision(),
        "tags": _photos(runs, False),
        "tags_embedded": _photos(runs, True),
        "notes": runs.notes,
        "right_sign": photo_table.RIGHT,
    }
    return photo_table.render("report.html", **values)


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

    if path.stat().st_size > FIGURE_BYTES or not path.is_file():
        raise ValueError(f"{path}: not a figure of at most {FIGURE_BYTES:,} bytes")
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


def _groups(runs: Runs, embedded: bool, experiment: str) -> list[pd.DataFrame]:
    """Return the runs of each group, finished first; changed settings come last, on photos other presets, too."""
    table = runs.select(embedded=embedded, experiments=(experiment,))
    last = {"changed": table["changes"] != "", "other": (table["preset"] != "paper") & (table["experiment"] == FLICKR)}
    table = table.assign(**last, unfinished=table["status"] != "finished")
    table = table.sort_values([*last, "cut_short", "unfinished"], kind="stable")
    return [these for _, these in table.groupby("group", sort=False)]


def _nets(runs: Runs, embedded: bool) -> list[dict[str, Any]]:
    """Return what the page shows of each group of runs on digits: the pictures of one of them."""
    nets = []
    for these in _groups(runs, embedded, MNIST):
        run = next(these.itertuples())
        name = f"{run.name}, seed {run.seed}"
        error = f" ± {run.standard_error:.1f}" if number(run.standard_error) else ""
        score = f"{form(run.log_likelihood, '.1f')}{error} nats" if number(run.log_likelihood) else run.ending
        net = {"group": run.group, "name": name, "score": score, "faults": getattr(run.result, "faults", [])}
        nets.append({**net, "pictures": _pictures(run, name, runs.notes)})
    return nets


def _pictures(run: Any, name: str, notes: list[str]) -> dict[str, tuple[Picture, str]]:
    """Return the figures of a run's folder with their captions, by file name; a damaged one becomes a note."""
    found = {}
    for file, caption in PICTURES.items():
        caption += ", a row a label from 0 to 9" * (file == "samples.png" and number(run.label_fidelity))
        try:
            if (run.folder / file).exists():
                weights = getattr(run.result, "weights", None)
                found[file] = read_png(run.folder / file, f"{name}: {caption}.", weights), f"{caption}."
        except (OSError, ValueError) as error:
            note = f"{error}; the figure is left out"
            notes += [note] if note not in notes else []
    return found


def _photos(runs: Runs, embedded: bool) -> list[dict[str, Any]]:
    """Return what the page shows of each group of runs on photos."""
    groups = []
    for place, these in enumerate(_groups(runs, embedded, FLICKR)):
        first = next(these.itertuples())
        name = photos.heading_of(these)
        table = photos.photos_of(these, runs.notes)
        shown = []
        for index, row in enumerate(table.photos if table else []):
            large = photo_table.thumbnail(row.path, PHOTO_PIXELS)
            shown.append({**photo_table.photo_values(row), "id": f"photo-{embedded:d}-{place}-{index}", "large": large})
        pictures = _pictures(first, name, runs.notes)
        group = {
            "name": name,
            "changed": bool(first.changed) or first.cut_short,
            "notice": photos.notice_of(these, table),
            "chart": pictures.pop("precision.png", None),
            "pictures": pictures,
            "measures": list(photos.method_tables(photos.values_of(these)).items()),
            "photos": shown,
            "caption": table.caption if table else None,
        }
        groups.append(group)
    return groups


def _made(run: Any, field: str) -> str:
    """Return the commands or revisions that made a run; those of its last process where it lists no sessions."""
    last = getattr(run.result, "environment", None) or run.result
    known = [getattr(session, field) for session in (run.config.sessions if run.config else [])]
    return "; ".join(dict.fromkeys(filter(None, known or [getattr(last, field, None)])))


PROVENANCE: digits.Columns = {
    "Run": lambda run: f"{run.name}, seed {run.seed}, {run.ending}",
    "Command": lambda run: _made(run, "command"),
    "Revision": lambda run: _made(run, "git_revision"),
    "Data": lambda run: f"{run.dataset}, checksum {run.checksum}" if run.checksum else run.dataset,
    "Device": lambda run: run.config.device if run.config else getattr(run.result, "machine", ""),
    "Folder": lambda run: str(run.folder),
}
