"""Write Table 1, Table 2 and the table of details from run folders: ``python -m experiments.tables``.

Markdown, CSV and LaTeX. Measures nothing, and holds no figure but the published ones.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import UsageError
from experiments.runs import cli
from experiments.runs.files import write_text
from experiments.runs.records import METHODS, SOURCES

if TYPE_CHECKING:
    import pandas as pd

    from experiments.report.records import Runs
    from experiments.runs.photo_table import Table2


@dataclass(frozen=True)
class Published:
    """A published log-likelihood, and what is measured here to set beside it."""

    model: str
    mean: float
    """Nats."""
    error: float | None
    """Its standard error, where one was published."""
    source: str
    command: str = ""
    """What measures it here; empty if there is no such net here."""
    experiment: str = ""
    preset: str = ""
    """The runs that are set beside it."""


TABLE_1 = "Mirza and Osindero 2014 (arXiv 1411.1784), Table 1"
CONTROLS = "Theis, van den Oord and Bethge 2016 (arXiv 1511.01844)"
_SCORE = "mkdir -p runs/mnist-controls && python -m experiments.parzen --samples {} --json runs/mnist-controls/{}.json"
_REAL, _CENTROIDS = _SCORE.format("mnist-train", "real-images"), _SCORE.format("mnist-kmeans", "k-means")

#: Every figure in the tables that no run gave.
PUBLISHED = (
    Published("DBN", 138, 2, TABLE_1),
    Published("Stacked CAE", 121, 1.6, TABLE_1),
    Published("Deep GSN", 214, 1.1, TABLE_1),
    Published("Adversarial nets", 225, 2, TABLE_1, "make mnist PRESET=gan", "mnist", "gan"),
    Published("Conditional adversarial nets", 132, 1.8, TABLE_1, "make mnist PRESET=paper", "mnist", "paper"),
    Published("10,000 real training images", 243, None, CONTROLS, _REAL, "parzen", "mnist-train"),
    Published("10,000 k-means centroids", 313, None, CONTROLS, _CENTROIDS, "parzen", "mnist-kmeans"),
)

#: Presets with a row in Table 1 that the paper does not have.
FURTHER = ("conditional-best", "paper-literal", "tutorial")

#: Measures of the multimodal experiment, in the order of the tables.
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

#: The lists of tags of a photo, as ``table2.json`` names them.
LISTS = ("user_tags", "annotations", "generated", "right")

#: What counts as a true tag: the field of ``result.json``, and its name for a reader.
TRUTHS = {"measures": "user tags and annotations", "measures_user_tags": "user tags alone"}

CAPTION_1 = (
    "Gaussian Parzen window log-likelihood of the test images in nats. Measured: mean over seeds. SD: standard "
    "deviation over seeds. SE: standard error over test images, the error that the paper prints. Sigma: chosen "
    "on validation images. Updates: of the weights kept, of all trained. Labels: share of samples that a classifier "
    "reads as the label asked for. Diversity: pixel standard deviation within a class relative to real images. "
    "Density, coverage: of samples among test images, by 5 nearest neighbours on that classifier's features. "
    "Sampling: whether G's dropout was off or left on."
)
CAPTION_2 = (
    "Measures on held-out photos: with one seed, 95% bootstrap intervals over photos in brackets; with several, mean ± "
    "standard deviation over seeds. Best cosine: between a true tag and the nearest generated one. Diversity: mean "
    "cosine distance between samples of one photo. Coverage: share of a photo's true tags that are the nearest word of "
    "a sample. Correctness: share of samples whose nearest word is a true tag."
)
CAPTION_DETAILS = (
    "Runs with changed settings, precision or length beside the preset itself. Preset, changed: validation estimate "
    "(digits: log-likelihood in nats; photos: mean average precision) at the last update that both estimated, mean "
    "over the seeds that both have. Difference: changed minus preset, ± standard deviation over seeds. Labels, "
    "diversity: of the changed run there. Test: its figure on the test images (photos: precision at 10)."
)
EMBEDDED = " The data is embedded: no number here stands beside the paper's."


@dataclass(frozen=True)
class Command:
    """Write the paper's Table 1 and Table 2 from the results of all runs, as Markdown, CSV and LaTeX."""

    runs: tuple[Path, ...] = (Path("runs"),)
    """Folders to search, with all below them, for results; several may be given."""
    out: Path = Path("results")
    """Folder to write table1.md, table1.csv, table1.tex and so on into."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    command = cli.parse(Command, "experiments.tables", argv)
    check_folders(command.runs, Command.runs)
    if command.out.exists() and not command.out.is_dir():
        raise UsageError(f"--out {command.out}: a file is in the way, give a folder")
    from experiments.report.records import load
    from experiments.runs.photo_table import printable

    runs = load(command.runs)
    contents = all_files(runs)
    command.out.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        write_text(command.out / name, text)
    for embedded, title in ((False, ""), (True, "\nOn embedded data:\n")):
        shown = table1_text(table1(runs, embedded=embedded))
        if len(shown):
            text = shown.to_markdown(index=False, tablefmt="simple", disable_numparse=True)
            print(title + re.sub("[−—–]", "-", printable(text)))
    print(f"\nwritten into {command.out}: {', '.join(contents)}")
    for note in runs.notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def check_folders(folders: Sequence[Path], default: Sequence[Path]) -> None:
    """Raise ``UsageError`` if ``--runs`` names no folder, or one that is not there.

    Before the first run the default folder is missing, and the tables say what to run; any other is a slip.
    """
    if not folders:
        raise UsageError("--runs: name at least one folder that holds runs")
    for folder in folders:
        if not folder.is_dir() and folder not in default:
            raise UsageError(f"--runs {folder}: there is no such folder, give one that holds runs")


def all_files(runs: Runs) -> dict[str, str]:
    """Return name and content of every file of the tables; what is wrong with photos is added to the notes."""
    from experiments.report import forms

    out: dict[str, str] = {}
    for embedded, suffix, also in ((False, "", ""), (True, "-embedded", EMBEDDED)):
        out |= table2_files(f"table2{suffix}", runs, embedded, CAPTION_2 + also)
        rows = table1(runs, embedded=embedded)
        blocks = [(SECTIONS[name], table1_text(part)) for name, part in rows.groupby("section", sort=False)]
        out |= forms.files(f"table1{suffix}", "Table 1: digits", CAPTION_1 + also, blocks, rows, runs.notes)
    rows = details(runs)
    blocks = [("", details_text(rows))] if len(rows) else []
    return dict(sorted({**out, **forms.files("details", "Details", CAPTION_DETAILS, blocks, rows, runs.notes)}.items()))


# Table 1

SECTIONS = {
    "paper": "The paper's rows",
    "control": "Controls of the measure",
    "further": "Further presets",
    "dropout on": "The same weights with G's dropout left on while sampling",
    "score": "Other samples that were scored",
    "embedded": "Runs on embedded data",
}

#: What the runs of a group share, and the columns of its figures.
SHARED = [
    "experiment",
    "preset",
    "changes",
    "name",
    "dataset",
    "checksum",
    "precision",
    "device",
    "numerics",
    "cut_short",
]
MEANS = ["standard_error", "best_update", "updates", "seconds", "label_fidelity", "diversity", "density", "coverage"]
MEANS += ["precision_at_10"]
SUMMARY = ["group", *SHARED, "runs", "seeds", "seed_list", "log_likelihood", "spread", "worst", "best", *MEANS]
SUMMARY += ["sigma", "at_edge", "sampling", "state", "folders"]


def summarise(runs: pd.DataFrame, sampling: str = "") -> pd.DataFrame:
    """Return one row a group of runs that differ by seed alone, with the columns ``SUMMARY``.

    ``log_likelihood`` and the columns ``MEANS`` are means over the ``seeds`` finished seeds (of ``runs`` seeds),
    ``spread`` is their sample standard deviation; lists are joined by semicolons.
    """
    import pandas as pd

    rows = []
    for group, these in runs.groupby("group", sort=False):
        done = these[these["status"] == "finished"]
        score = done["log_likelihood"]
        rows.append(
            {"group": group, **these.iloc[0][SHARED], **done[MEANS].mean(), "runs": len(these), "seeds": len(done)}
            | {"log_likelihood": score.mean(), "spread": score.std(), "worst": score.min(), "best": score.max()}
            | {"seed_list": _list(done["seed"]), "sigma": _list(sorted(set(done["sigma"].dropna())))}
            | {"at_edge": bool(done["at_edge"].eq(True).any()), "sampling": sampling}
            | {"state": state(these), "folders": _list(these["folder"])}
        )
    return pd.DataFrame(rows, columns=SUMMARY)


def _list(values: Iterable[Any]) -> str:
    return ";".join(map(str, values))


def state(runs: pd.DataFrame) -> str:
    """Return how the runs of a group ended, seed by seed where they differ."""
    endings = runs.groupby("ending", sort=False)["seed"].agg(list)
    if len(endings) == 1:
        return str(endings.index[0])
    return "; ".join(f"{seed_names(seeds)} {ending}" for ending, seeds in endings.items())


def seed_names(seeds: Sequence[int]) -> str:
    """Return such as 'seed 1' or 'seeds 1, 2, 3'."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def table1(runs: Runs, *, embedded: bool) -> pd.DataFrame:
    """Return Table 1 as numbers, a row a model; of embedded data a row a group of runs.

    Columns: ``section``, ``model``, ``cited``, ``cited_error``, ``cited_source``, ``command`` (what makes the row) and
    ``SUMMARY``. Log-likelihoods in nats, times in seconds, shares from 0 to 1.
    """
    import pandas as pd

    table = runs.select(embedded=embedded, experiments=("mnist", "parzen"))
    groups = summarise(table, "dropout off")
    columns = ["section", "model", "cited", "cited_error", "cited_source", "command", *SUMMARY]
    if embedded:
        return groups.assign(section="embedded", model=groups["name"]).reindex(columns=columns)
    rows: list[dict[str, Any]] = []
    for cited in PUBLISHED:
        control = cited.experiment == "parzen"
        row: dict[str, Any] = {
            "section": "control" if control else "paper",
            "model": cited.model,
            "command": cited.command,
        }
        row["model"] += f" ({cited.preset})" if cited.experiment == "mnist" else ""
        row |= {"cited": cited.mean, "cited_error": cited.error, "cited_source": cited.source, "preset": cited.preset}
        rows.append(row | chosen(groups, cited.experiment, cited.preset))
    for preset in FURTHER:
        row = {"section": "further", "model": preset, "preset": preset, "command": f"make mnist PRESET={preset}"}
        rows.append(row | chosen(groups, "mnist", preset))
    models = {row["group"]: row["model"] for row in rows if "group" in row}
    on = summarise(dropout_left_on(table[table["group"].isin(models)]), "dropout on")
    rows += [{**row, "section": "dropout on", "model": models[row["group"]]} for row in on.to_dict("records")]
    others = groups[(groups["experiment"] == "parzen") & ~groups["group"].isin(models)]
    rows += [{**row, "section": "score", "model": row["name"]} for row in others.to_dict("records")]
    frame = pd.DataFrame(rows, columns=columns)
    frame.loc[frame["experiment"] != "mnist", "sampling"] = None
    return frame.fillna({"seeds": 0, "runs": 0}).astype({"seeds": int, "runs": int})


def chosen(groups: pd.DataFrame, experiment: str, preset: str) -> dict[str, Any]:
    """Return the row of the group that stands for a preset as it is on MNIST; empty if there is none.

    Full length before cut short, then the newest numerics, then the most finished seeds, then the most updates.
    """
    asked = (groups["experiment"] == experiment) & (groups["preset"] == preset)
    fitting = groups[asked & (groups["changes"] == "") & (groups["dataset"] == "mnist")]
    order = ["cut_short", "numerics", "seeds", "updates"]
    return next(iter(fitting.sort_values(order, ascending=[True, False, False, False]).to_dict("records")), {})


def dropout_left_on(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that were also measured with G's dropout left on, with those figures in place of their own."""
    measured = runs["result"].map(lambda result: getattr(result, "dropout_on", None) is not None)
    runs = runs[measured.astype(bool)].copy()
    figures = [result.dropout_on for result in runs["result"]]
    for column, field in (("log_likelihood", "test_mean"), ("standard_error", "test_se"), ("sigma", "sigma")):
        runs[column] = [getattr(figure.parzen, field) for figure in figures]
    runs["label_fidelity"] = [figure.label_fidelity and figure.label_fidelity.share for figure in figures]
    runs["diversity"] = [figure.diversity.overall for figure in figures]
    runs[["density", "coverage"]] = float("nan")
    return runs.astype({"label_fidelity": "float64", "diversity": "float64"})


def table1_text(rows: pd.DataFrame) -> pd.DataFrame:
    """Return Table 1 as text, with the columns that fit a page."""
    import pandas as pd

    from experiments.report.forms import form, number

    def cells(row: Any) -> tuple[str, ...]:
        error = f" ± {row.cited_error:g}" if number(row.cited_error) else ""
        sigma = ", ".join(f"{float(value):.3g}" for value in row.sigma.split(";")) if row.seeds and row.sigma else ""
        kept = f"{row.best_update:,.0f} of " if number(row.best_update) and row.best_update != row.updates else ""
        return (
            row.model,
            form(row.cited, "g") + error,
            form(row.log_likelihood, ".1f"),
            form(row.spread, ".1f") or "—" * bool(row.seeds),
            form(row.standard_error, ".1f"),
            f"{row.seeds} of {row.runs}" if row.seeds != row.runs else str(row.seeds or ""),
            sigma + (" (edge of the grid)" if row.seeds and row.at_edge else ""),
            kept + form(row.updates, ",.0f"),
            form(row.label_fidelity, ".1%"),
            form(row.diversity, ".2f"),
            form(row.density, ".2f"),
            form(row.coverage, ".2f"),
            row.sampling if row.seeds and isinstance(row.sampling, str) else "",
            str(row.state).replace("scored", "")
            if row.runs
            else f"not run: {row.command}"
            if row.command
            else "cited only",
        )

    columns = [
        "Model",
        "Cited",
        "Measured",
        "SD",
        "SE",
        "Seeds",
        "Sigma",
        "Updates",
        "Labels",
        "Diversity",
        "Density",
        "Coverage",
        "Sampling",
        "State",
    ]
    return pd.DataFrame([cells(row) for row in rows.itertuples()], columns=columns)


# Details


def details(runs: Runs) -> pd.DataFrame:
    """Return what changed settings, precision or length did to the validation estimate, a row a group.

    Columns: those of ``SUMMARY``, with ``seeds`` those compared, ``update`` (at which both were estimated), ``base``
    (the preset's mean estimate there), ``changed``, ``difference``, ``difference_spread`` (standard deviation over
    seeds), ``base_folders``; ``label_fidelity`` and ``diversity`` are those of the changed runs at that update.
    """
    import pandas as pd

    table = runs.select(embedded=False, experiments=("mnist", "flickr-tags"))
    groups = summarise(table)
    in_table1 = [chosen(groups, "mnist", preset).get("group") for preset in ("paper", "gan", *FURTHER)]
    in_table2 = (groups["experiment"] == "flickr-tags") & (groups["changes"] == "") & ~groups["cut_short"].astype(bool)
    rows = []
    for row in groups[~groups["group"].isin(in_table1) & ~in_table2].to_dict("records"):
        these = table[table["group"] == row["group"]]
        rows.append(row | {"label_fidelity": None, "diversity": None} | _compare(these, _base(table, these.iloc[0])))
    columns = [*SUMMARY, "update", "base", "changed", "difference", "difference_spread", "base_folders"]
    return pd.DataFrame(rows, columns=columns)


def _base(table: pd.DataFrame, run: pd.Series) -> pd.DataFrame:
    """Return the runs of the unchanged preset on the same data, one a seed: the most alike, then the longest."""
    same, alike = ["experiment", "preset", "checksum"], ["precision", "numerics", "device"]
    base = table[(table[same] == run[same]).all(axis=1) & (table["changes"] == "") & (table["group"] != run["group"])]
    base = base.assign(alike=(base[alike] == run[alike]).sum(axis=1))
    return base.sort_values(["alike", "updates"], ascending=False, kind="stable").drop_duplicates("seed")


def _compare(these: pd.DataFrame, base: pd.DataFrame) -> dict[str, Any]:
    """Return estimates of both at the last common update, over the seeds that both have, else of one run of each."""
    import pandas as pd

    from experiments.report.records import read_metrics

    column = "valid_log_likelihood" if these["experiment"].iloc[0] == "mnist" else "valid_average_precision"
    ours, theirs = ({run.seed: read_metrics(run.folder) for run in part.itertuples()} for part in (these, base))
    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    if not pairs and theirs:
        pairs = [(next(iter(ours.values())), next(iter(theirs.values())))]
    pairs = [(one, other) for one, other in pairs if column in one and column in other]
    merged = [
        pd.merge(one, other, on="update", suffixes=("", "_base")).dropna(subset=[column, f"{column}_base"])
        for one, other in pairs
    ]
    common = set.intersection(*(set(rows["update"]) for rows in merged)) if merged else set()
    if not common:
        return {}
    rows = pd.concat([rows[rows["update"] == max(common)] for rows in merged])
    difference = rows[column] - rows[f"{column}_base"]
    also = {name: rows[name].mean() for name in ("label_fidelity", "diversity") if name in rows}
    return {
        **also,
        "seeds": len(rows),
        "update": int(max(common)),
        "base": rows[f"{column}_base"].mean(),
        "changed": rows[column].mean(),
        "difference": difference.mean(),
        "difference_spread": difference.std(),
        "base_folders": _list(base["folder"]),
    }


def details_text(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table of details as text."""
    import pandas as pd

    from experiments.report.forms import form, number

    def cells(row: Any) -> tuple[str, ...]:
        digits = ".1f" if row.experiment == "mnist" else ".3f"
        spread = f" ± {row.difference_spread:{digits}}" if number(row.difference_spread) else ""
        return (
            row.name,
            str(row.seeds or ""),
            form(row.update, ",.0f"),
            form(row.base, digits),
            form(row.changed, digits),
            form(row.difference, f"+{digits}") + spread,
            form(row.label_fidelity, ".0%"),
            form(row.diversity, ".2f"),
            form(row.log_likelihood if row.experiment == "mnist" else row.precision_at_10, digits),
            row.state,
        )

    columns = ["Run", "Seeds", "At update", "Preset", "Changed", "Difference", "Labels", "Diversity", "Test", "State"]
    return pd.DataFrame([cells(row) for row in rows.itertuples()], columns=columns)


# Table 2


def method_values(runs: pd.DataFrame) -> pd.DataFrame:
    """Return every measure of every method and run as numbers, one a row.

    Columns: ``group``, ``name``, ``seed``, ``against`` (what counts as true), ``method``, ``measure``, ``value``,
    ``low`` and ``high`` (the 95% interval over photos, where there is one), ``run``.
    """
    import msgspec
    import pandas as pd

    rows = []
    for run in runs[runs["status"] == "finished"].itertuples():
        for field, against in TRUTHS.items():
            for method, measures in getattr(run.result, field).items():
                for measure, value in msgspec.to_builtins(measures).items():
                    whose = {"group": run.group, "name": run.name, "seed": run.seed, "run": str(run.folder)}
                    interval = value if isinstance(value, dict) else {"value": value}
                    rows.append({**whose, "against": against, "method": method, "measure": measure, **interval})
    columns = ["group", "name", "seed", "against", "method", "measure", "value", "low", "high", "run"]
    return pd.DataFrame(rows, columns=columns).dropna(subset="value", ignore_index=True)


def method_tables(values: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return, for each truth, methods (rows) by measures (columns) as text, over the seeds of one group."""
    import pandas as pd

    from experiments.report.forms import form, number

    def cell(part: pd.DataFrame, measure: str) -> str:
        part = part[part["measure"] == measure]
        digits = ",.0f" if measure == "distinct_tags" else ".3f"
        low, high = (part[end].iloc[0] if len(part) else None for end in ("low", "high"))
        if len(part) == 1 and number(low) and number(high):
            return f"{form(part['value'].iloc[0], digits)} [{form(low, digits)}, {form(high, digits)}]"
        spread = f" ± {part['value'].std():{digits}}" if len(part) > 1 else ""
        return form(part["value"].mean(), digits) + spread or "—"

    out = {}
    for against, part in values.groupby("against", sort=False):
        by_method = dict(iter(part.groupby("method", sort=False)))
        methods = [*METHODS, *(name for name in by_method if name not in METHODS)]
        rows = [
            [METHODS.get(m, m), *(cell(by_method.get(m, part[:0]), measure) for measure in MEASURES)] for m in methods
        ]
        out[str(against)] = pd.DataFrame(rows, columns=["Method", *MEASURES.values()])
    return out


def one_to_many_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return how the samples of one photo differ and whether they are right, a row a source, over the runs' seeds."""
    import pandas as pd

    from experiments.report.forms import form

    results = [found for result in runs["result"] if (found := getattr(result, "one_to_many", None))]

    def cell(source: str, measure: str) -> str:
        values = [getattr(found[source], measure) for found in results if source in found]
        values = [interval for interval in values if interval is not None]
        each = pd.Series([interval.value for interval in values], dtype=float)
        if len(each) == 1:
            return f"{form(each[0], '.3f')} [{form(values[0].low, '.3f')}, {form(values[0].high, '.3f')}]"
        return f"{form(each.mean(), '.3f')} ± {form(each.std(), '.3f')}" if len(each) else "—"

    names = {"diversity": "Diversity", "coverage": "Coverage", "correctness": "Correctness"}
    rows = [[what, *(cell(source, name) for name in names)] for source, what in SOURCES.items()] if results else []
    return pd.DataFrame(rows, columns=["Samples of one photo", *names.values()])


def photos_of(runs: pd.DataFrame, notes: list[str]) -> Table2 | None:
    """Return the photos of the first run that has some; what cannot be read becomes a note."""
    from experiments.runs import photo_table

    for folder, result in zip(runs["folder"], runs["result"], strict=True):
        path = folder / photo_table.JSON
        if path.exists():
            try:
                table = photo_table.read_table2(path)
                if table.weights not in (None, getattr(result, "weights", None)):
                    raise UsageError(f"{path}: its tags are of other weights than the result beside it")
                return table
            except (UsageError, OSError) as error:
                note = f"{cli.sentence(error)}; its photos are left out"
                notes += [note] if note not in notes else []
    return None


def notice_of(run: pd.Series) -> str | None:
    """Return what a reader must know first of the data of a run on photos."""
    return run["config"].notice or getattr(run["result"], "notice", None)


def table2_files(stem: str, runs: Runs, embedded: bool, caption: str) -> dict[str, str]:
    """Return the files of Table 2: a block a group, its notice, and the photos of one of its runs."""
    import pandas as pd

    from experiments.report import forms
    from experiments.runs import photo_table

    table = runs.select(embedded=embedded, experiments=("flickr-tags",))
    values = method_values(table)
    blocks: list[tuple[str, pd.DataFrame]] = []
    body: list[str] = []
    photo_rows: list[dict[str, Any]] = []
    for group, these in table.groupby("group", sort=False):
        name = these["name"].iloc[0]
        heading = f"{name}, {seed_names(list(these['seed']))}: {state(these)}"
        tables = method_tables(values[values["group"] == group])
        new = [(f"{heading}; true: {against}", part) for against, part in tables.items()]
        if len(drawn := one_to_many_table(these)):
            new.append((f"{heading}; one photo, many words", drawn))
        blocks += new
        body += [forms.markdown(*block) for block in new or [(heading, pd.DataFrame())]]
        photos = photos_of(these, runs.notes)
        notice = (photos and photos.notice) or notice_of(these.iloc[0])
        body += [f"> {photo_table.escape_markdown(notice)}"] if notice else []
        if photos is not None:
            body += [photo_table.escape_markdown(photos.caption)] if photos.caption else []
            body.append(photo_table.photos_markdown(photos.photos))
            for photo in photos.photos:
                # A tag may hold any separator, so lists of tags are JSON.
                lists = {
                    key: json.dumps(value, ensure_ascii=False) for key, value in vars(photo).items() if key in LISTS
                }
                photo_rows.append({"name": name, **vars(photo), **lists})
    body = body or [f"not run: make flickr-tags{' DATASET=scenes' if embedded else ''}"]
    return {
        **forms.files(stem, "Table 2: photos", caption, blocks, values.drop(columns="group"), runs.notes, body),
        f"{stem}-photos.csv": forms.as_csv(pd.DataFrame(photo_rows, columns=["name", "number", "path", *LISTS])),
    }


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
