"""The paper's tables from run folders: ``python -m experiments.tables [--runs runs/] [--out results/]``.

Writes Markdown, CSV and LaTeX. Measures nothing, and holds no figure but the cited ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import tyro

from experiments import UsageError
from experiments.flickr_tags.baselines import METHODS
from experiments.mnist.presets import MNIST_PRESETS
from experiments.report.records import FLICKR, KMEANS, MNIST, PARZEN, REAL, Note, Run, find, grouped, number, one_a_seed
from experiments.report.table_forms import Table, as_csv, document, latex, latex_file, markdown, plain
from experiments.runs import cli
from experiments.runs import folder as runs
from experiments.runs import photo_table as table2


@dataclass(frozen=True)
class Cited:
    """A published figure, and how to measure one to set beside it."""

    model: str
    mean: float
    """Log-likelihood in nats."""
    error: float | None
    """Its standard error, where one was published."""
    source: str
    command: str
    """What measures it here."""
    experiment: str | None = None
    preset: str | None = None
    """Which runs are set beside it; None: there are none."""


_TABLE_1 = "Mirza and Osindero 2014 (arXiv 1411.1784), Table 1"
_NOTE = "Theis, van den Oord and Bethge 2016 (arXiv 1511.01844)"
_OWN = "no such net here; score its samples with python -m experiments.parzen --samples FILE"
_SCORE = "mkdir -p runs/mnist-controls && python -m experiments.parzen --samples"
_TO = "--json runs/mnist-controls"

#: Every figure that no run gave.
CITED = (
    Cited("DBN", 138, 2, _TABLE_1, _OWN),
    Cited("Stacked CAE", 121, 1.6, _TABLE_1, _OWN),
    Cited("Deep GSN", 214, 1.1, _TABLE_1, _OWN),
    Cited("Adversarial nets", 225, 2, _TABLE_1, "make mnist PRESET=gan", MNIST, "gan"),
    Cited("Conditional adversarial nets", 132, 1.8, _TABLE_1, "make mnist PRESET=paper", MNIST, "paper"),
)
CITED_CONTROLS = (
    Cited("10,000 real training images", 243, None, _NOTE, f"{_SCORE} {REAL} {_TO}/real-images.json", PARZEN, REAL),
    Cited("10,000 k-means centroids", 313, None, _NOTE, f"{_SCORE} {KMEANS} {_TO}/k-means.json", PARZEN, KMEANS),
)

#: Measures of the Flickr experiment, as ``result.json`` and as a reader knows them, in the tables' order.
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

#: What the tags are held against: the measures' key in ``result.json``, and its name for a reader.
AGAINST = {"measures": "user tags and annotations", "measures_user_tags": "user tags alone"}

#: The last sentence of a caption over embedded data.
EMBEDDED = "The data is embedded: no number here stands beside the paper's."

#: What stands in a cell whose figure does not exist.
NONE = "—"


#: Columns of Table 1, and those that only its Markdown has besides.
COLUMNS = (
    "Model", "Cited", "Measured", "Spread", "Seeds", "Sigma", "Updates", "Time", "Labels as asked", "Variety", "State",
)  # fmt: skip
PLACES = ("Device", "Runs")


@dataclass(frozen=True)
class Command:
    """Write the paper's Table 1 and Table 2 from the results of all runs, as Markdown, CSV and LaTeX."""

    runs: tuple[Path, ...] = (Path("runs"),)
    """Folders to search, with all below them, for results; several may be given."""
    out: Path = Path("results")
    """Folder to write table1.md, table1.csv, table1.tex and so on into."""


@dataclass(frozen=True)
class Row:
    """A row of Table 1."""

    section: str
    model: str
    runs: tuple[Run, ...] = ()
    """One a seed, by rising seed."""
    cited: Cited | None = None
    command: str = ""
    """What makes it, for a row without a run."""

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that give its figures."""
        return tuple(run for run in self.runs if run.state == "finished")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    command = tyro.cli(Command, args=argv, prog="python -m experiments.tables")
    if not command.runs:
        raise UsageError("--runs: name at least one folder that holds runs")
    for folder in command.runs:
        # Before the first run the default folder is missing, and the tables say what to run; another is a slip.
        if not folder.is_dir() and folder not in Command.runs:
            raise UsageError(f"--runs {folder}: there is no such folder, give one that holds runs")
    if command.out.exists() and not command.out.is_dir():
        raise UsageError(f"--out {command.out}: a file is in the way, give a folder")
    found = find(command.runs)
    kept, again = one_a_seed(found)
    rows, embedded = table1_rows(kept, again), embedded_rows(kept, again)
    files = {
        **table1_files("table1", "Table 1: unimodal", rows, found.notes),
        **table1_files("table1-embedded", "Unimodal runs on embedded data", embedded, found.notes),
    }
    for stem, title, is_embedded in (
        ("table2", "Table 2: multimodal", False),
        ("table2-embedded", "Multimodal runs on embedded data", True),
    ):
        chosen = [run for run in kept if run.experiment == FLICKR and run.embedded == is_embedded]
        files |= table2_files(stem, title, chosen, found.notes)
    command.out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        runs.write_text(command.out / name, text)
    print(plain(table1(rows, places=False)))
    if embedded:
        print(f"\nOn embedded data:\n\n{plain(table1(embedded, places=False))}")
    print(f"\nwritten into {command.out}: {', '.join(files)}")
    for note in found.notes:
        print(f"note: {note.text}", file=sys.stderr)
    return 0


# Table 1


def table1_rows(kept: Sequence[Run], again: Sequence[Run]) -> list[Row]:
    """The paper's rows, the controls, and all else that was run on real data."""
    groups = grouped(run for run in kept if _unimodal(run, embedded=False))
    rows = [
        _cited_row(cited, section, groups)
        for section, cited_rows in (("paper", CITED), ("control", CITED_CONTROLS))
        for cited in cited_rows
    ]
    named = {cited.preset for cited in CITED}
    for preset in MNIST_PRESETS:
        if preset not in named:
            group = _take_group(groups, MNIST, preset)
            rows.append(Row("further", preset, group, command=f"make mnist PRESET={preset}"))
    rows += [Row("further", _model(group[0]), group) for group in groups]
    return rows + [Row("further", _model_again(run), (run,)) for run in again if _unimodal(run, embedded=False)]


def embedded_rows(kept: Sequence[Run], again: Sequence[Run]) -> list[Row]:
    """Everything that was run on embedded data."""
    groups = grouped(run for run in kept if _unimodal(run, embedded=True))
    rows = [Row("embedded", _model(group[0]), group) for group in groups]
    return rows + [Row("embedded", _model_again(run), (run,)) for run in again if _unimodal(run, embedded=True)]


def _unimodal(run: Run, embedded: bool) -> bool:
    return run.experiment in (MNIST, PARZEN) and run.embedded == embedded


def _cited_row(cited: Cited, section: str, groups: list[tuple[Run, ...]]) -> Row:
    if cited.preset is None:
        return Row(section, cited.model, (), cited, cited.command)
    model = f"{cited.model} ({cited.preset})" if cited.experiment == MNIST else cited.model
    return Row(section, model, _take_group(groups, cited.experiment, cited.preset), cited, cited.command)


def _take_group(groups: list[tuple[Run, ...]], experiment: str | None, preset: str) -> tuple[Run, ...]:
    """Remove and return the runs of a preset as it stands, on MNIST; empty where there are none."""
    asked = (experiment, preset, (), "mnist")
    fitting = [g for g in groups if (g[0].experiment, g[0].preset, g[0].changes, g[0].dataset) == asked]
    if not fitting:
        return ()
    # Two only where MNIST itself had two checksums; the other stays among the further runs.
    group = max(fitting, key=lambda group: sum(run.state == "finished" for run in group))
    groups.remove(group)
    return group


def _model(run: Run) -> str:
    """The model of a row that the paper does not have."""
    name = f"samples {run.name}" if run.experiment == PARZEN else run.name
    return name if run.dataset == "mnist" else f"{name} on {run.dataset}"


def _model_again(run: Run) -> str:
    return f"{_model(run)}, seed {run.seed} again"


def table1_values(row: Row) -> dict[str, Any]:
    """The row as raw numbers, for the CSV: log-likelihoods in nats, times in seconds, shares from 0 to 1.

    ``log_likelihood``, ``standard_error``, updates, times and shares are means over seeds; ``spread`` is the sample
    standard deviation over seeds. Lists are joined by semicolons.
    """
    done = row.finished
    first = row.runs[0] if row.runs else None
    scores = _over(done, "parzen", "test_mean")
    return {
        "section": row.section,
        "model": row.model,
        "preset": first.preset if first else row.cited and row.cited.preset,
        "changes": "; ".join(first.changes) if first else None,
        "dataset": first.dataset if first else None,
        "cited": row.cited and row.cited.mean,
        "cited_error": row.cited and row.cited.error,
        "cited_source": row.cited and row.cited.source,
        "log_likelihood": average(scores),
        "standard_error": average(_over(done, "parzen", "test_se")),
        "spread": stdev(scores) if len(scores) > 1 else None,
        "seeds": len(done),
        "seed_list": ";".join(str(run.seed) for run in done),
        "sigma": ";".join(str(sigma) for sigma in sorted(set(_over(done, "parzen", "sigma")))),
        "kept_update": average(_over(done, "best_update")),
        "updates": average(_over(done, "updates")),
        "seconds": average(_over(done, "seconds")),
        "device": "; ".join(_devices(done)),
        "labels_as_asked": average(_over(done, "label_fidelity", "share")),
        "variety": average(_over(done, "variety", "overall")),
        "state": state(row),
        "runs": ";".join(str(run.place) for run in row.runs),
    }


def table1(rows: Sequence[Row], places: bool) -> Table:
    """The rows as text; with ``places``, the runs' devices and folders as well, which fit neither terminal nor page."""
    sections = {"paper": "The paper's rows", "control": "Controls", "further": "Further runs", "embedded": "Runs"}
    columns = (*COLUMNS, *(PLACES if places else ()))
    blocks = []
    for section, heading in sections.items():
        cells = tuple(_cells(row)[: len(columns)] for row in rows if row.section == section)
        if cells:
            blocks.append((heading, cells))
    return Table(columns, tuple(blocks), wide=(0, len(COLUMNS) - 1))


def _cells(row: Row) -> tuple[str, ...]:
    done = row.finished
    scores, errors = _over(done, "parzen", "test_mean"), _over(done, "parzen", "test_se")
    missing = row.runs[0].state if row.runs else "not run"
    sigmas = ", ".join(f"{sigma:.3g}" for sigma in sorted(set(_over(done, "parzen", "sigma"))))
    if any(run.result["parzen"].get("at_edge") is True for run in done):
        sigmas += " (edge of the grid)"
    kept, trained = _over(done, "best_update"), _over(done, "updates")
    of = f" of {span(trained)}" if kept and trained != kept else ""
    seconds = _over(done, "seconds")
    fidelity, variety = _over(done, "label_fidelity", "share"), _over(done, "variety", "overall")
    cited = row.cited
    return (
        row.model,
        f"{cited.mean:g}" + (f" ± {cited.error:g}" if cited.error is not None else "") if cited else "",
        f"{nats(mean(scores))} ± {mean(errors):.1f}" if done else missing,
        f"{stdev(scores):.1f}" if len(scores) > 1 else NONE if done else "",
        str(len(done)) if done else "",
        sigmas,
        (span(kept) + of) if kept else span(trained),
        clock(mean(seconds)) if seconds else "",
        f"{mean(fidelity):.1%}" if fidelity else "",
        f"{mean(variety):.2f}" if variety else "",
        state(row),
        ", ".join(_devices(done)),
        ", ".join(str(run.place) for run in row.runs),
    )


def state(row: Row) -> str:
    """How the row's runs ended, or how to make one."""
    if not row.runs:
        return f"not run: {row.command}"
    if all(run.experiment == PARZEN for run in row.runs):
        return ""
    remarks: dict[str, list[int]] = {}
    for run in row.runs:
        remarks.setdefault(run.remark, []).append(run.seed)
    if len(remarks) == 1:
        return next(iter(remarks))
    return "; ".join(f"seed{'s' * (len(s) > 1)} {', '.join(map(str, s))} {remark}" for remark, s in remarks.items())


def table1_files(stem: str, title: str, rows: Sequence[Row], notes: Iterable[Note]) -> dict[str, str]:
    """The contents of ``stem``.md, .csv and .tex."""
    caption = (
        "Gaussian Parzen window log-likelihood of the test images in nats: mean over seeds ± standard error over the "
        f"test images (the seeds' mean). Spread: standard deviation over seeds, {NONE} where there is one seed. Sigma: "
        "chosen on the validation images. Updates: those of the weights kept, of all trained. Time: of training, or of "
        "making and scoring a control's samples; the seeds' mean. Labels as asked: share of samples that a classifier "
        "reads as the label asked for. Variety: pixel deviation within a class, relative to real images'. "
    )
    if stem.endswith("embedded"):
        caption += EMBEDDED
    else:
        sources = dict.fromkeys(cited.source for cited in (*CITED, *CITED_CONTROLS))
        caption += f"Cited: {'; controls: '.join(sources)}."
    told = [note.text for note in notes if note.experiment in (None, MNIST, PARZEN)]
    columns = list(table1_values(Row("", "")))
    return {
        f"{stem}.md": document(title, [caption, markdown(table1(rows, places=True))], told),
        f"{stem}.csv": as_csv(columns, [table1_values(row) for row in rows]),
        f"{stem}.tex": latex_file([latex(table1(rows, places=False), caption, stem)], told),
    }


def _over(done: Iterable[Run], *keys: str) -> list[float]:
    """The numbers at ``keys`` of the runs' results, where there are any."""
    return [value for run in done if (value := number(run.result, *keys)) is not None]


def _devices(done: Iterable[Run]) -> list[str]:
    """What computed, each once."""
    names = []
    for run in done:
        name, cores = run.result.get("device"), number(run.result, "environment", "cpu_cores")
        if isinstance(name, str):
            names.append(f"{name} ({int(cores)} cores)" if name == "cpu" and cores else name)
    return list(dict.fromkeys(names))


# Table 2


def table2_files(stem: str, title: str, chosen: Iterable[Run], notes: list[Note]) -> dict[str, str]:
    """The contents of ``stem``.md, .csv, .tex and ``stem``-photos.csv; broken photo tables are added to ``notes``."""
    caption = (
        "Measures on held-out photos, with 95% bootstrap intervals over photos in brackets; with several seeds, mean ± "
        "standard deviation over seeds. Tags are held against a photo's user tags and annotations together, then "
        "against its user tags alone. Best cosine: between a true tag and the nearest generated one. Diversity: "
        "between samples of one photo."
    )
    if stem.endswith("embedded"):
        caption += f" {EMBEDDED}"
    parts: list[str] = [caption]
    tex: list[str] = []
    measured: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    groups = grouped(chosen)
    for group in groups:
        methods = methods_table(group)
        parts.append(markdown(methods))
        tex.append(latex(methods, caption, f"{stem}-{len(tex) + 1}"))
        measured += [value for run in group for value in method_values(run)]
        run, photos = photos_of(group, notes)
        notice = notice_of(group[0], photos)
        parts += [f"> {table2.escape_markdown(notice)}"] if notice else []
        if photos is None:
            continue
        parts += [table2.escape_markdown(photos.caption)] if photos.caption else []
        parts.append(table2.photos_markdown(photos.rows))
        about = " ".join(filter(None, (f"{photos.title}.", notice, photos.caption)))
        tex.append(latex(photos_table(photos, run.name), about, f"{stem}-{len(tex) + 1}"))
        shown += [photo_values(run, row) for row in photos.rows]
    if not groups:
        missing = f"not run: make flickr-tags{' DATASET=scenes' if stem.endswith('embedded') else ''}"
        parts.append(missing)
        tex.append(latex(Table(("State",), (("", ((missing,),)),)), caption, stem))
    told = [note.text for note in notes if note.experiment in (None, FLICKR)]
    whose = ("preset", "changes", "dataset", "seed")
    photo_columns = ("number", "path", "user_tags", "annotations", "generated", "right", "run")
    return {
        f"{stem}.md": document(title, parts, told),
        f"{stem}.csv": as_csv((*whose, "against", "method", "measure", "value", "low", "high", "run"), measured),
        f"{stem}-photos.csv": as_csv((*whose, *photo_columns), shown),
        f"{stem}.tex": latex_file(tex, told),
    }


def photos_of(group: Sequence[Run], notes: list[Note]) -> tuple[Run, table2.Table2 | None]:
    """The photos of the first run of ``group`` that has some, and that run; what cannot be read is noted."""
    for run in group:
        path = run.place / table2.JSON
        if not path.exists():
            continue
        try:
            return run, table2.read_table2(path)
        except (UsageError, OSError) as error:
            notes.append(Note(f"{cli.sentence(error)}; its photos are left out", FLICKR))
    return group[0], None


def notice_of(run: Run, photos: table2.Table2 | None) -> str | None:
    """What a reader must know of the data first, from wherever the run says it."""
    dataset = run.result.get("dataset")
    said = [photos and photos.notice, run.result.get("notice"), isinstance(dataset, Mapping) and dataset.get("notice")]
    return next((text for text in said if text and isinstance(text, str)), None)


def methods_table(group: Sequence[Run]) -> Table:
    """Methods (rows) and measures (columns) over the seeds of ``group``; what no run measured reads —.

    A block for each of ``AGAINST``; user tags alone have one only where a run measured it.
    """
    done = [run for run in group if run.state == "finished"]
    seeds = f"seed{'s' * (len(group) > 1)} {', '.join(str(run.seed) for run in group)}"
    heading = f"{group[0].name} on {group[0].dataset}, {seeds}: {state(Row('', '', tuple(group)))}"
    blocks = []
    for key, truth in AGAINST.items():
        found = [name for run in done for name, values in measures_of(run, key).items() if isinstance(values, Mapping)]
        if key == "measures" or found:
            rows = tuple(
                (METHODS.get(name, name), *(measure_cell(done, name, measure, key) for measure in MEASURES))
                for name in dict.fromkeys([*METHODS, *found])
            )
            blocks.append((f"{heading}; against {truth}", rows))
    return Table(("Method", *MEASURES.values()), tuple(blocks), wide=(0,))


def measures_of(run: Run, key: str) -> Mapping[str, Any]:
    """A run's measures under a key of ``AGAINST``, by method; empty where there are none."""
    measures = run.result.get(key)
    return measures if isinstance(measures, Mapping) else {}


def measure_cell(done: Sequence[Run], method: str, measure: str, key: str) -> str:
    """One measure of one method: with its interval where there is one seed, with its spread where there are several."""
    found = [read for run in done if (read := read_measure(run, method, measure, key))[0] is not None]
    values = [value for value, _, _ in found if value is not None]
    if not values:
        return NONE
    form = ",.0f" if measure == "distinct_tags" else ".3f"
    if len(values) > 1:
        return signed(f"{mean(values):{form}} ± {stdev(values):{form}}")
    _, low, high = found[0]
    interval = "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
    return signed(f"{values[0]:{form}}{interval}")


def read_measure(run: Run, method: str, measure: str, key: str) -> tuple[float | None, float | None, float | None]:
    """Value and the ends of its 95% interval, under a key of ``AGAINST``.

    A bare number has no interval, and what is missing is None.
    """
    keys = (key, method, measure)
    bare = number(run.result, *keys)
    if bare is not None:
        return bare, None, None
    value, low, high = (number(run.result, *keys, end) for end in ("value", "low", "high"))
    return value, low, high


def method_values(run: Run) -> list[dict[str, Any]]:
    """Every measure of a run, one a row, as raw numbers."""
    if run.state != "finished":
        return []
    rows = []
    for key, truth in AGAINST.items():
        for method, measures in measures_of(run, key).items():
            for measure in measures if isinstance(measures, Mapping) else ():
                value, low, high = read_measure(run, method, measure, key)
                row = {"method": method, "measure": measure, "value": value, "low": low, "high": high}
                rows.append({**_whose(run), "against": truth, **row, "run": str(run.place)})
    return rows


def photo_values(run: Run, row: table2.PhotoRow) -> dict[str, Any]:
    """A photo as a CSV row; lists of tags are JSON, since a tag may hold any separator."""
    lists = {
        "user_tags": list(row.user_tags),
        "annotations": list(row.annotations),
        "generated": [[tag, float(share)] for tag, share in row.generated],
        "right": [tag for tag, _ in row.generated if row.is_right(tag)],
    }
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in lists.items()}
    return {**_whose(run), "number": row.number, "path": str(row.path), **texts, "run": str(run.place)}


def _whose(run: Run) -> dict[str, Any]:
    changes = "; ".join(run.changes)
    return {"preset": run.preset, "changes": changes, "dataset": run.dataset, "seed": run.seed}


def photos_table(photos: table2.Table2, heading: str) -> Table:
    """The photos for LaTeX; a right tag carries an asterisk."""
    rows = tuple(
        (
            f"{row.number} ({row.path.name})",
            ", ".join(row.user_tags) or NONE,
            ", ".join(row.annotations) or NONE,
            ", ".join(tag + "*" * row.is_right(tag) for tag, _ in row.generated) or NONE,
        )
        for row in photos.rows
    )
    columns = ("Photo", "User tags", "Annotations", "Generated tags (* right)")
    return Table(columns, ((heading, rows),), wide=(0, 1, 2, 3))


def nats(value: float) -> str:
    """A log-likelihood with one decimal and a true minus sign."""
    return signed(f"{value:.1f}")


def signed(text: str) -> str:
    """Numbers with true minus signs."""
    return text.replace("-", "−")


def span(numbers: Sequence[float]) -> str:
    """Whole numbers as one where they agree, else from the least to the greatest; nothing of none."""
    low, high = (f"{int(end(numbers)):,}" if numbers else "" for end in (min, max))
    return low if low == high else f"{low}–{high}"


def clock(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def average(values: Sequence[float]) -> float | None:
    """Their mean; None of none."""
    return mean(values) if values else None


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
