"""Table 2: what the methods of the multimodal experiment reach, as numbers and as text, and the photos of a run."""

from __future__ import annotations

import msgspec
import pandas as pd

from experiments import UsageError
from experiments.report import forms
from experiments.report.digits import seed_names, state
from experiments.report.forms import form, number
from experiments.report.records import FLICKR, Runs
from experiments.runs import cli, photo_table
from experiments.runs.files import read_record
from experiments.runs.records import METHODS, SOURCES

#: Measures of methods, and of the samples of one photo, in the order of the tables.
MEASURES = {
    "precision_at_10": "Precision at 10",
    "recall_at_10": "Recall at 10",
    "f1_at_10": "F1 at 10",
    "mean_average_precision": "Mean average precision",
    "hit_at_10": "A right tag in ten",
    "best_cosine": "Best cosine",
    "distinct_tags": "Distinct tags",
    "diversity": "Diversity",
}
SAMPLES = {"diversity": "Diversity", "coverage": "Coverage", "correctness": "Correctness"}

#: Tables of a run: the field of ``result.json``, and what counts as a true tag there. The first decides the verdict.
FIELDS = {
    "measures": "user tags and annotations",
    "measures_user_tags": "user tags alone",
    "one_to_many": "one photo, many words",
}

CAPTION = (
    "Measures on held-out photos: with one seed, 95% bootstrap intervals over photos in brackets; with several, mean ± "
    "standard deviation over seeds. Best cosine: between a true tag and the nearest generated one. Diversity: mean "
    "cosine distance between samples of one photo. Coverage: share of a photo's true tags that are the nearest word of "
    "a sample. Correctness: share of samples whose nearest word is a true tag."
)


def values_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Return every measure of every method (or source of words) and run as numbers, one a row.

    ``against`` is a value of ``FIELDS``; ``low`` and ``high`` are the 95% interval over photos, where there is one.
    """
    rows = []
    for run in runs[runs["status"] == "finished"].itertuples():
        for field, against in FIELDS.items():
            for method, record in msgspec.to_builtins(getattr(run.result, field) or {}).items():
                for measure, value in record.items():
                    whose = {"group": run.group, "name": run.name, "seed": run.seed, "run": str(run.folder)}
                    interval = value if isinstance(value, dict) else {"value": value}
                    known = isinstance(interval.get("value"), int | float)
                    rows += [{**whose, "against": against, "method": method, "measure": measure, **interval}] * known
    columns = ["group", "name", "seed", "against", "method", "measure", "value", "low", "high", "run"]
    return pd.DataFrame(rows, columns=columns)


def method_tables(values: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return, for each of ``FIELDS``, methods (rows) by measures (columns) as text, over the seeds of one group."""

    def cell(part: pd.DataFrame) -> str:
        digits = ",.0f" if part["measure"].iloc[0] == "distinct_tags" else ".3f"
        first = part.iloc[0]
        if len(part) > 1:
            return f"{form(part['value'].mean(), digits)} ± {part['value'].std():{digits}}"
        interval = f" [{form(first.low, digits)}, {form(first.high, digits)}]" if number(first.low) else ""
        return form(first.value, digits) + interval

    out = {}
    for against, part in values.groupby("against", sort=False):
        rows, columns = (SOURCES, SAMPLES) if against == FIELDS["one_to_many"] else (METHODS, MEASURES)
        cells = {key: cell(these) for key, these in part.groupby(["method", "measure"])}
        names = {**rows, **{name: name for name in part["method"] if name not in rows}}
        found = [[shown, *(cells.get((name, m), "—") for m in columns)] for name, shown in names.items()]
        out[str(against)] = pd.DataFrame(found, columns=["Method", *columns.values()])
    return out


def photos_of(runs: pd.DataFrame, notes: list[str]) -> photo_table.Table2 | None:
    """Return the photos of the first run that has some; what cannot be read becomes a note."""
    for folder, result in zip(runs["folder"], runs["result"], strict=True):
        path = folder / photo_table.JSON
        if path.exists():
            try:
                table = read_record(path, photo_table.Table2, fix="make it anew with its run")
                if table.weights not in (None, getattr(result, "weights", None)):
                    raise UsageError(f"{path}: its tags are of other weights than the result beside it")
                return table
            except (UsageError, OSError) as error:
                note = f"{cli.sentence(error)}; its photos are left out"
                notes += [note] if note not in notes else []
    return None


def heading_of(these: pd.DataFrame) -> str:
    return f"{these['name'].iloc[0]}, {seed_names(list(these['seed']))}: {state(these)}"


def notice_of(these: pd.DataFrame, photos: photo_table.Table2 | None) -> str | None:
    """Return what a reader must know first of the data of a group of runs on photos."""
    run = these.iloc[0]
    return (photos and photos.notice) or run["config"].notice or getattr(run["result"], "notice", None)


def files(stem: str, runs: Runs, embedded: bool, caption: str) -> dict[str, str]:
    """Return the files of Table 2: a block a group, its notice, and the photos of one of its runs."""
    table = runs.select(embedded=embedded, experiments=(FLICKR,))
    values = values_of(table)
    blocks: list[tuple[str, pd.DataFrame]] = []
    body: list[str] = []
    for group, these in table.groupby("group", sort=False):
        heading = heading_of(these)
        tables = method_tables(values[values["group"] == group])
        blocks += (new := [(f"{heading}; true: {against}", part) for against, part in tables.items()])
        body += [forms.markdown(*block) for block in new or [(heading, pd.DataFrame())]]
        photos = photos_of(these, runs.notes)
        notice = notice_of(these, photos)
        body += [f"> {photo_table.escape_markdown(notice)}"] if notice else []
        if photos is not None:
            body += [photo_table.escape_markdown(photos.caption)] if photos.caption else []
            body.append(photo_table.photos_markdown(photos.photos))
    body = body or [f"not run: make flickr-tags{' DATASET=scenes' if embedded else ''}"]
    return forms.files(stem, "Table 2: photos", caption, blocks, values.drop(columns="group"), runs.notes, body)
