"""One page that shows everything: ``python -m experiments.report [--runs runs/] [--out results/report.html]``.

The page needs no other file, no network and no script. Measures nothing, and holds no figure but the cited ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments import UsageError
from experiments.report import cards as report_cards
from experiments.report import claims as report_claims
from experiments.report import facts as report_facts
from experiments.report import settings as report_settings
from experiments.report import tables
from experiments.report.pictures import Line, Picture, line_chart
from experiments.report.records import (
    FLICKR,
    KMEANS,
    MNIST,
    PARZEN,
    REAL,
    Found,
    Run,
    find,
    grouped,
    number,
    one_a_seed,
)
from experiments.runs import cli
from experiments.runs import folder as runs
from experiments.runs import photo_table as table2

#: The page's bound, and what is tried in turn to keep it: the longer side of an enlarged photo, None for no enlarging.
LIMIT = 15_000_000
PHOTO_PIXELS = (640, 400, None)


@dataclass(frozen=True)
class Command:
    """Write one self-contained page about all runs: claims and verdicts, tables, figures, settings, provenance."""

    runs: tuple[Path, ...] = (Path("runs"),)
    """Folders to search, with all below them, for results; several may be given."""
    out: Path = Path("results/report.html")
    """The page to write."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    command = tyro.cli(Command, args=argv, prog="python -m experiments.report")
    check(command)
    from tqdm import tqdm

    found = find(command.runs)
    with tqdm(desc="report", unit="part", disable=None, leave=False) as bar:
        page = build(found, command.runs, bar.update)
    command.out.parent.mkdir(parents=True, exist_ok=True)
    runs.write_text(command.out, page)
    print(f"{command.out}: {len(found.runs)} runs, {len(page.encode()) / 1e6:.1f} MB, to be opened in any browser")
    for note in dict.fromkeys(note.text for note in found.notes):
        print(f"note: {note}", file=sys.stderr)
    return 0


def check(command: Command) -> None:
    """Refuse what can be refused before anything is read."""
    if not command.runs:
        raise UsageError("--runs: name at least one folder that holds runs")
    for folder in command.runs:
        # Before the first run the default folder is missing, and the page says what to run; another is a slip.
        if not folder.is_dir() and folder not in Command.runs:
            raise UsageError(f"--runs {folder}: there is no such folder, give one that holds runs")
    if command.out.suffix != ".html" or command.out.is_dir():
        raise UsageError(f"--out {command.out}: give a file name that ends in .html")


def build(found: Found, folders: Sequence[Path], done: Callable[[], object] = lambda: None) -> str:
    """The page about ``found``, smaller photos where it would be too large; what cannot be shown is added to its notes.

    ``done`` is called after every part.
    """
    kept, again = one_a_seed(found)
    values = sections(found, kept, again, done)
    for pixels in PHOTO_PIXELS:
        cards = multimodal_cards(found, kept, pixels, done)
        notes = list(dict.fromkeys(note.text for note in found.notes))
        page = table2.render(
            "report.html",
            **values,
            **cards,
            notes=notes,
            folders=[folder.as_posix() for folder in folders],
            right_sign=table2.RIGHT,
        )
        if len(page.encode()) < LIMIT:
            break
    return page


def sections(found: Found, kept: Sequence[Run], again: Sequence[Run], done: Callable[[], object]) -> dict[str, Any]:
    """All that the page shows but the cards of multimodal runs."""
    rows, embedded = tables.table1_rows(kept, again), tables.embedded_rows(kept, again)
    flickr = grouped(run for run in kept if run.experiment == FLICKR and not run.embedded)
    claimed = report_claims.claims(rows, flickr)
    cards: dict[str, list[report_cards.Card]] = {}
    for name, is_embedded in (("unimodal", False), ("unimodal_embedded", True)):
        cards[name] = []
        for place, run in enumerate(shown(kept, is_embedded)):
            cards[name].append(report_cards.unimodal(run, f"{name}-{place}", found.notes))
            done()
    real = [run for run in kept if not run.embedded]
    values = {
        "claims": claimed,
        "counts": {kind: sum(claim.kind == kind for claim in claimed) for kind in ("yes", "no", "open")},
        "open": {kind: report_settings.account(kind, real) for kind in (MNIST, FLICKR)},
        "shortfalls": report_claims.shortfalls(rows, flickr),
        "table1": tables.table1(rows, places=False),
        "table1_embedded": tables.table1(embedded, places=False) if embedded else None,
        "sources": dict.fromkeys(cited.source for cited in (*tables.CITED, *tables.CITED_CONTROLS)),
        "parzen": sigma_chart(real),
        "parzen_embedded": sigma_chart([run for run in kept if run.embedded], changed=True),
        "real": only(kept, REAL),
        "kmeans": only(kept, KMEANS),
        "validation": validation_chart([run for run in real if run.experiment == MNIST and not run.changes]),
        "validation_changed": validation_chart(
            [run for run in real if run.experiment == MNIST and run.preset in ("paper", "paper-literal")]
        ),
        "rules": {claim.rule: [c.statement for c in claimed if c.rule == claim.rule] for claim in claimed},
        "commands": {cited.preset: cited.command for cited in (*tables.CITED, *tables.CITED_CONTROLS) if cited.preset},
        "provenance": [(heading(run), report_facts.provenance(run)) for run in (*kept, *again)],
        "total": len(kept) + len(again),
        "revision": runs.git_revision(),
        **cards,
    }
    done()
    return values


def shown(kept: Sequence[Run], embedded: bool) -> list[Run]:
    """The unimodal runs that get a card: of runs that differ by seed alone the first finished one, else the first."""
    groups = grouped(run for run in kept if run.experiment == MNIST and run.embedded == embedded)
    first = [next((run for run in group if run.state == "finished"), group[0]) for group in groups]
    # Presets as they stand come first; a changed setting is told of in the account of settings, too.
    return sorted(first, key=lambda run: bool(run.changes))


def multimodal_cards(
    found: Found, kept: Sequence[Run], pixels: int | None, done: Callable[[], object]
) -> dict[str, Any]:
    """Cards and tables of methods of multimodal runs on real photos, then of those on embedded ones."""
    out: dict[str, Any] = {}
    for name, embedded in (("multimodal", False), ("multimodal_embedded", True)):
        groups = grouped(run for run in kept if run.experiment == FLICKR and run.embedded == embedded)
        out[name] = []
        for place, group in enumerate(groups):
            card = report_cards.multimodal(group, f"{name}-{place}", pixels, found.notes)
            out[name].append((card, tables.methods_table(group)))
            done()
    return out


def heading(run: Run) -> str:
    """A run in a line."""
    if run.experiment == PARZEN:
        return f"samples {run.name}"
    return f"{run.name} on {run.dataset}, seed {run.seed}, {run.remark}"


def only(kept: Sequence[Run], preset: str) -> tuple[float, float] | None:
    """The log-likelihood of a control and its standard error; None where it was not scored."""
    for run in kept:
        if (run.experiment, run.preset, run.changes) == (PARZEN, preset, ()):
            return run.result["parzen"]["test_mean"], run.result["parzen"]["test_se"]
    return None


def sigma_chart(chosen: Sequence[Run], changed: bool = False) -> Picture | None:
    """Validation log-likelihood against sigma, of the controls and of one run a preset; None of none.

    Presets as they stand, or also with ``changed`` settings.
    """
    names = {REAL: "10,000 real training images", KMEANS: "10,000 k-means centroids"}
    lines: list[Line] = []
    ticks: list[float] = []
    drawn: set[str] = set()
    for run in chosen:
        known = run.experiment == MNIST or run.preset in names
        points = _sigma_points(run.result.get("parzen")) if run.state == "finished" and known else []
        if (run.changes and not changed) or run.preset in drawn or not points:
            continue
        drawn.add(run.preset)
        best = max(points, key=lambda point: point[1])
        score = tables.signed(f"{best[1]:.0f}")
        name = f"{names.get(run.preset, f'{run.preset}, seed {run.seed}')}: {score} at {best[0]:.2g}"
        lines.append(Line(name, [x for x, _ in points], [y for _, y in points], best))
        ticks = ticks or [x for x, _ in points]
    if not lines:
        return None
    told = "; ".join(line.name for line in lines)
    return line_chart(
        lines,
        f"Log-likelihood of the validation images in nats against sigma, a line a set of samples. Highest: {told}.",
        x_axis="sigma, the width of each Gaussian (pixel values run from 0 to 1)",
        y_axis="validation log-likelihood (nats)",
        logarithmic=True,
        ticks=ticks if len(ticks) <= 12 else None,
        floor=-300,
    )


def _sigma_points(record: Any) -> list[tuple[float, float]]:
    """Sigmas and validation log-likelihoods of a Parzen record, where both are numbers."""
    if not isinstance(record, Mapping):
        return []
    sigmas, means = record.get("sigmas"), record.get("valid_means")
    if not isinstance(sigmas, list) or not isinstance(means, list):
        return []
    pairs = [(number({"": x}, ""), number({"": y}, "")) for x, y in zip(sigmas, means, strict=False)]
    return [(x, y) for x, y in pairs if x is not None and y is not None and x > 0]


def validation_chart(chosen: Sequence[Run]) -> Picture | None:
    """Estimates during training, a line a run, at most six; None of none."""
    lines: list[Line] = []
    for run in chosen:
        rows = [row for row in report_cards.metrics(run) if {"epoch", "valid_log_likelihood"} <= row.keys()]
        if len(rows) > 1:
            x, y = ([row[name] for row in rows] for name in ("epoch", "valid_log_likelihood"))
            lines.append(Line(f"{run.name}, seed {run.seed}", x, y))
    lines = lines[:6]
    if not lines:
        return None
    told = "; ".join(f"{line.name} ends at {line.y[-1]:.0f} nats, epoch {line.x[-1]:.0f}" for line in lines)
    return line_chart(
        lines,
        f"Validation log-likelihood during training, a line a run: {told}.",
        x_axis="epoch",
        y_axis="validation log-likelihood (nats)",
        floor=-300,
    )


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
