"""The report page as HTML text: pictures first, then claims with verdicts, tables, and the details folded.

The page needs no other file, no network and no script. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.report import figures, tables
from experiments.report.forms import form, number
from experiments.report.records import FLICKR, KMEANS, MNIST, PARZEN, REAL, Runs, read_metrics
from experiments.report.verdicts import RULES, verdicts
from experiments.runs import photo_table
from experiments.runs.cli import clock
from experiments.runs.folder import git_revision

#: Largest page in bytes, and what is tried in turn to keep to it: longer side of enlarged photos, None for none.
MAX_BYTES = 15_000_000
PHOTO_PIXELS = (640, 400, None)

#: Lowest log-likelihood that a chart shows, in nats, and the label of its axis.
FLOOR, NATS = -300.0, "validation log-likelihood (nats)"


def build(runs: Runs, folders: Sequence[Path], done: Callable[[], object] = lambda: None) -> str:
    """Return the page, with smaller photos where it would be too large; what cannot be shown is added to the notes.

    ``done`` is called after every part.
    """
    values = _values(runs, folders, done)
    for pixels in PHOTO_PIXELS:
        photos = {
            name: _multimodal(runs, embedded, pixels) for name, embedded in (("tags", False), ("tags_embedded", True))
        }
        page = photo_table.render("report.html", **values, **photos, notes=runs.notes, right_sign=photo_table.RIGHT)
        done()
        if len(page.encode()) < MAX_BYTES:
            break
    return page


def _values(runs: Runs, folders: Sequence[Path], done: Callable[[], object]) -> dict[str, Any]:
    """Return all that the page shows but the runs on photos."""
    rows, embedded = (tables.table1(runs, embedded=flag) for flag in (False, True))
    details = tables.details(runs)
    real = runs.select(embedded=False, experiments=(MNIST, FLICKR, PARZEN))
    nets = {flag: [_net(run, runs.notes, done) for run in _one_a_group(runs, flag)] for flag in (False, True)}
    digits = [
        net
        for preset in ("paper", *tables.FURTHER[:1])
        for net in nets[False]
        if net["group"] in set(rows.loc[rows["preset"] == preset, "group"])
    ]
    scores = {preset: next(iter(rows.loc[rows["preset"] == preset, "log_likelihood"])) for preset in (REAL, KMEANS)}
    return {
        "digits": digits,
        "claims": verdicts(rows, real),
        "rules": RULES,
        "table1": [
            (tables.SECTIONS[name], tables.table1_text(part)) for name, part in rows.groupby("section", sort=False)
        ],
        "table1_embedded": tables.table1_text(embedded),
        "sources": list(rows["cited_source"].dropna().unique()),
        "details": [(name, tables.details_text(part)) for name, part in details.groupby("experiment", sort=False)],
        "validation": _validation_chart(real[real["group"].isin(rows["group"]) & (real["experiment"] == MNIST)]),
        "sigma": _sigma_chart(rows, real),
        "real": scores[REAL] if number(scores[REAL]) else None,
        "kmeans": scores[KMEANS] if number(scores[KMEANS]) else None,
        "nets": nets[False],
        "nets_embedded": nets[True],
        "provenance": [
            (f"{run.name}, seed {run.seed}, {run.ending}", _provenance(run)) for run in runs.table.itertuples()
        ],
        "total": len(runs.table),
        "folders": [folder.as_posix() for folder in folders],
        "revision": git_revision(),
        "form": form,
    }


def _one_a_group(runs: Runs, embedded: bool) -> list[Any]:
    """Return a run on digits for each group: the first finished one, else the first; changed settings come last."""
    table = runs.select(embedded=embedded, experiments=(MNIST,))
    table = table.assign(unfinished=table["status"] != "finished", changed=table["changes"] != "")
    first = table.sort_values("unfinished", kind="stable").drop_duplicates("group")
    return list(first.sort_values(["changed", "cut_short"], kind="stable").itertuples())


def _net(run: Any, notes: list[str], done: Callable[[], object]) -> dict[str, Any]:
    """Return what the page shows of a run on digits."""
    result = run.result if run.status == "finished" else None
    conditional = result is not None and result.label_fidelity is not None
    name = f"{run.name}, seed {run.seed}"
    layout = "ten rows of generated digits, a row a label from 0 to 9" if conditional else "generated digits"
    error = f" ± {run.standard_error:.1f}" if number(run.standard_error) else ""
    score = f"{form(run.log_likelihood, '.1f')}{error} nats" if number(run.log_likelihood) else run.ending
    done()
    return {
        "group": run.group,
        "name": name,
        "score": score,
        "facts": [("Test log-likelihood", score), *_facts(run)],
        "faults": result.faults if result else [],
        "samples": _png(run, "samples.png", f"Samples of {name}: {layout}.", notes),
        "curves": _png(run, "curves.png", f"Training curves of {name}.", notes),
        "neighbours": _png(
            run, "neighbours.png", f"Samples of {name}, each beside the training images nearest to it.", notes
        ),
        "interpolation": _png(
            run, "interpolation.png", f"Digits of {name} between two noise vectors, a label a row.", notes
        ),
        "heat_maps": _heat_maps(result.acceptance) if result and result.acceptance else [],
        "bars": _bars(result.label_fidelity) if result and result.label_fidelity else [],
    }


def _png(run: Any, name: str, alt: str, notes: list[str]) -> figures.Picture | None:
    """Return a figure of the run's folder; None if there is none, with a note if it is damaged."""
    if not (run.folder / name).exists():
        return None
    try:
        return figures.read_png(run.folder / name, alt, getattr(run.result, "weights", None))
    except (OSError, ValueError) as error:
        notes.append(f"{error}; the figure is left out")
        return None


def _facts(run: Any) -> list[tuple[str, str]]:
    """Return what a run came to, as terms and values."""
    facts = [("Data", run.dataset), ("Ending", run.ending)]
    facts += [("Changed settings", run.changes)] if run.changes else []
    if number(run.best_update):
        facts.append(("Weights kept", f"update {run.best_update:,} of {run.updates:,}"))
        facts.append(("Training time", clock(run.seconds)))
    shown = [
        ("Sigma", run.sigma, ".3f"),
        ("Labels as asked", run.label_fidelity, ".1%"),
        ("Intra-class diversity (real digits: 1)", run.diversity, ".2f"),
    ]
    on = getattr(run.result, "dropout_on", None)
    if on:
        shown.append(("Test log-likelihood with G's dropout left on (nats)", on.parzen.test_mean, ".1f"))
        shown.append(("Intra-class diversity with G's dropout left on", on.diversity.overall, ".2f"))
    trained = getattr(run.result, "train_on_generated", None)
    if trained:
        shown.append(("Real test digits read rightly by a classifier trained on samples", trained.generated, ".1%"))
        shown.append(("By one trained on as many real digits", trained.real, ".1%"))
    return facts + [(term, form(value, digits)) for term, value, digits in shown if number(value)]


def _heat_maps(acceptance: Any) -> list[dict[str, Any]]:
    """Return how often D accepts, then its mean output by label, as captions, columns and rows."""
    real, fake = "real test image", "generated image"
    maps = [
        (
            "Share of images that D accepts (output over 0.5)",
            ["own label", "wrong label"],
            [real, fake],
            acceptance.accepted,
        )
    ]
    for cells, what in ((acceptance.by_label_real, "real"), (acceptance.by_label_fake, "generated")):
        names = [str(label) for label in range(len(cells))]
        maps.append((f"Mean output of D on {what} images (rows: own label; columns: label shown)", names, names, cells))
    return [
        {"caption": caption, "columns": columns, "rows": list(zip(names, cells, strict=False))}
        for caption, columns, names, cells in maps
    ]


def _bars(fidelity: Any) -> list[tuple[int, float, str]]:
    """Return label, share read as asked, and the commonest misreading."""
    bars = []
    for label, (share, counts) in enumerate(zip(fidelity.per_class, fidelity.confusion, strict=False)):
        wrong = {other: count for other, count in enumerate(counts) if other != label and count > 0}
        most = max(wrong, key=lambda other: wrong[other], default=None)
        bars.append(
            (label, share or 0.0, "none" if most is None else f"{wrong[most]:,} of {sum(counts):,} read as {most}")
        )
    return bars


def _multimodal(runs: Runs, embedded: bool, pixels: int | None) -> list[dict[str, Any]]:
    """Return what the page shows of each group of runs on photos; photos enlarge to ``pixels``, None: not at all."""
    table = runs.select(embedded=embedded, experiments=(FLICKR,))
    first = {"changed": table["changes"] != "", "other": table["preset"] != "paper"}
    table = table.assign(**first).sort_values(list(first), kind="stable")
    values = tables.method_values(table)
    groups = []
    for place, (group, these) in enumerate(table.groupby("group", sort=False)):
        first = these.iloc[0]
        mine = values[values["group"] == group]
        photos = tables.photos_of(these, runs.notes)
        shown = []
        for index, row in enumerate(photos.photos if photos else []):
            large = photo_table.thumbnail(row.path, pixels) if pixels else None
            large = large if large and large.uri else None
            shown.append({**photo_table.photo_values(row), "id": f"photo-{embedded:d}-{place}-{index}", "large": large})
        groups.append(
            {
                "name": f"{first['name']}, {tables.seed_names(list(these['seed']))}",
                "changed": bool(first["changed"]),
                "facts": _facts(next(these.itertuples())) + _photo_facts(first["result"]),
                "notice": (photos and photos.notice) or tables.notice_of(first),
                "chart": _methods_chart(mine),
                "measures": list(tables.method_tables(mine).items()),
                "curves": _png(first, "curves.png", f"Training curves of {first['name']}.", runs.notes),
                "photos": shown,
                "caption": photos.caption if photos else None,
            }
        )
    return groups


def _photo_facts(result: Any) -> list[tuple[str, str]]:
    """Return how the data of a run on photos measure up to the paper's."""
    if getattr(result, "status", "") != "finished":
        return []
    weights = "untrained, random weights" if result.network.get("weights") == "random" else "trained weights"
    counts = (("train", "train"), ("valid", "validate"), ("test", "test"))
    return [
        ("Image features", f"{result.network.get('name')}, {result.network.get('dim')} numbers, {weights}"),
        ("Vocabulary (paper: 247,465 words)", f"{result.vocabulary.get('words', 0):,}"),
        ("Words that can be generated", f"{result.vocabulary.get('decoding', 0):,}"),
        ("Training pairs (paper: 150,000)", f"{result.pairs:,}"),
        ("Photos", ", ".join(f"{result.images.get(split, 0):,} {verb}" for split, verb in counts)),
    ]


def _provenance(run: Any) -> list[tuple[str, list[str]]]:
    """Return where a run's figures come from, as terms and lines."""
    environment = getattr(run.result, "environment", None)
    sessions = run.config.sessions if run.config else []
    commands = [s.command for s in sessions] or [c for c in [getattr(environment or run.result, "command", None)] if c]
    revisions = [s.git_revision for s in sessions] or [getattr(environment, "git_revision", None)]
    versions = (
        [f"Python {environment.python}", *(f"{k} {v}" for k, v in environment.packages.items())] if environment else []
    )
    device = run.config.device if run.config else getattr(run.result, "machine", "")
    on = [device, environment.platform, f"{environment.cpu_cores} cores"] if environment else [device]
    on += [f"{run.precision} products", f"numerics {run.numerics}"] if run.config else []
    weights = getattr(run.result, "weights", None)
    return [
        ("Folder", [str(run.folder)]),
        ("Command", list(dict.fromkeys(commands))),
        ("Data", [run.dataset, f"checksum {run.checksum}"] if run.checksum else [run.dataset]),
        ("Weights", [f"update {weights.update:,}", f"sha256 {weights.sha256}"] if weights else []),
        ("Versions", [", ".join(versions)] if versions else []),
        ("Device", [", ".join(on)]),
        ("Revision", [revision for revision in dict.fromkeys(revisions) if revision]),
    ]


# Charts


def _validation_chart(runs: pd.DataFrame) -> figures.Picture | None:
    """Draw the estimates during training, a line a group of runs; None if there are none."""
    curves: dict[str, list[pd.Series]] = {}
    for name, these in runs.groupby("name", sort=False):
        done = these[these["status"] == "finished"]
        found = [_estimates(folder) for folder in (done if len(done) else these)["folder"]]
        found = [curve for curve in found if len(curve)]
        if found:
            curves[f"{name} ({len(found)} seeds)" if len(found) > 1 else str(name)] = found
    ends = "; ".join(f"{name} ends at {seeds[0].iloc[-1]:.0f} nats" for name, seeds in curves.items())
    alt = f"Validation log-likelihood during training: {ends}."
    return figures.line_chart(curves, alt, ("epoch", NATS), floor=FLOOR) if curves else None


def _estimates(folder: Path) -> pd.Series:
    """Return a run's validation log-likelihood by epoch."""
    table = read_metrics(folder).reindex(columns=["epoch", "valid_log_likelihood"]).dropna().drop_duplicates("epoch")
    return table.set_index("epoch")["valid_log_likelihood"]


def _sigma_chart(rows: pd.DataFrame, runs: pd.DataFrame) -> figures.Picture | None:
    """Draw the choice of sigma, for one run of each row of Table 1; None if there are none."""
    curves: dict[str, list[pd.Series]] = {}
    for row in rows[rows["section"].isin(["paper", "control", "further"])].itertuples():
        for run in runs[(runs["group"] == row.group) & (runs["status"] == "finished")].head(1).itertuples():
            score = getattr(run.result, "parzen", run.result)
            values = pd.Series(
                {s: v for s, v in zip(score.sigmas, score.valid_means, strict=False) if s > 0}, dtype=float
            )
            if len(values):
                seed = f", seed {run.seed}" if run.experiment == MNIST else ""
                curves[f"{row.preset}{seed}: {values.max():.0f} at {values.idxmax():.2g}"] = [values]
    alt = f"Validation log-likelihood against sigma, highest: {'; '.join(curves)}."
    labels = ("sigma, the width of each Gaussian (pixels run from 0 to 1)", NATS)
    return figures.line_chart(curves, alt, labels, floor=FLOOR, sigmas=True) if curves else None


def _methods_chart(values: pd.DataFrame) -> figures.Picture | None:
    """Draw precision at 10 of every method against both truths; None if it was not measured."""
    part = values[values["measure"] == "precision_at_10"].drop_duplicates(["method", "against"])
    if not len(part):
        return None
    part = part.assign(method=part["method"].map(lambda name: tables.METHODS.get(name, name)))
    summary = "; ".join(f"{row.method}: {row.value:.3f} against {row.against}" for row in part.itertuples())
    return figures.interval_chart(
        part, f"Precision at 10 with 95% intervals. {summary}.", "precision at 10, 95% interval over photos"
    )
