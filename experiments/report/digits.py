"""Table 1 and the tables of details: runs that differ by seed alone are one row, as numbers and as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.report.forms import form, number
from experiments.report.records import ACCEPT, FIGURES, FLICKR, KMEANS, MNIST, PARZEN, REAL, Runs
from experiments.runs.folder import RunFolder

TABLE_1 = "Mirza and Osindero 2014 (arXiv 1411.1784), Table 1"
CONTROLS = "Theis, van den Oord and Bethge 2016 (arXiv 1511.01844)"

#: The sections of Table 1 and their headings.
SECTIONS = {
    "paper": "The paper's rows",
    "further": "Further presets",
    "control": "Controls of the measure",
    "embedded": "Runs on embedded data",
}


@dataclass(frozen=True)
class Row:
    """A row of Table 1: what is published (log-likelihood in nats), and what is measured here to set beside it."""

    section: str
    model: str
    preset: str = ""  # The runs that fill the row; empty if there is no such net here.
    cited: float | None = None
    cited_error: float | None = None  # Its standard error, where one was published.
    cited_source: str | None = None

    @property
    def command(self) -> str:
        """What measures it here; empty if there is no such net here."""
        if self.section == "control":
            return f"python -m experiments.parzen --samples {self.preset} --json runs/mnist-controls/{self.preset}.json"
        return f"make mnist PRESET={self.preset}" if self.preset else ""


#: Every row of Table 1, with every figure in the tables that no run gave.
ROWS = (
    Row("paper", "DBN", "", 138, 2, TABLE_1),
    Row("paper", "Stacked CAE", "", 121, 1.6, TABLE_1),
    Row("paper", "Deep GSN", "", 214, 1.1, TABLE_1),
    Row("paper", "Adversarial nets (gan)", "gan", 225, 2, TABLE_1),
    Row("paper", "Conditional adversarial nets (paper)", "paper", 132, 1.8, TABLE_1),
    Row("further", "conditional-best", "conditional-best"),
    Row("further", "many-digits (dropout 0.05 while drawing)", "many-digits"),
    Row("further", "paper-literal", "paper-literal"),
    Row("further", "tutorial", "tutorial"),
    Row("control", "10,000 real training images", REAL, 243, None, CONTROLS),
    Row("control", "10,000 k-means centroids", KMEANS, 313, None, CONTROLS),
)

#: What the runs of a group share, and the columns of its figures.
SHARED = ["experiment", "preset", "changes", "name", "dataset", "checksum", "precision", "device", "numerics"]
SHARED += ["cut_short"]
MEANS = [name for name in FIGURES if name not in ("log_likelihood", "sigma")]
SUMMARY = ["group", *SHARED, "runs", "seeds", "seed_list", "log_likelihood", "spread", "worst", "best", *MEANS]
SUMMARY += ["sigma", "at_edge", "on_spread", "state", "folders"]


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a group of runs that differ by seed alone, with the columns ``SUMMARY``.

    ``log_likelihood`` and the columns ``MEANS`` are means over the ``seeds`` finished seeds (of ``runs`` seeds),
    ``spread`` and ``on_spread`` are sample standard deviations; lists are joined by semicolons.
    """
    rows = []
    for group, these in runs.groupby("group", sort=False):
        done = these[these["status"] == "finished"]
        score = done["log_likelihood"]
        row = {"group": group, **these.iloc[0][SHARED], **done[MEANS].mean(), "runs": len(these), "seeds": len(done)}
        row |= {"log_likelihood": score.mean(), "spread": score.std(), "worst": score.min(), "best": score.max()}
        row["seed_list"], row["folders"] = (";".join(map(str, each)) for each in (done["seed"], these["folder"]))
        row["sigma"] = ";".join(map(str, sorted(set(done["sigma"].dropna()))))
        row["at_edge"] = bool(done["at_edge"].eq(True).any())
        row["on_spread"], row["state"] = done["on_log_likelihood"].std(), state(these)
        rows.append(row)
    return pd.DataFrame(rows, columns=SUMMARY)


def state(runs: pd.DataFrame) -> str:
    """Return how the runs of a group ended, seed by seed where they differ."""
    endings = runs.groupby("ending", sort=False)["seed"].agg(list)
    if len(endings) == 1:
        return str(endings.index[0])
    return "; ".join(f"{seed_names(seeds)} {ending}" for ending, seeds in endings.items())


def seed_names(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def half_width(spread: float, n: int) -> float:
    """Return half the width of the 95% t interval of a mean of ``n`` values of sample standard deviation ``spread``."""
    from scipy.special import stdtrit  # The quantile of scipy.stats.t, whose import takes two seconds.

    return float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)


def table1(runs: Runs, *, embedded: bool) -> pd.DataFrame:
    """Return Table 1 as numbers, a row a model; of embedded data a row a group of runs.

    Columns: ``section``, ``model``, ``cited``, ``cited_error``, ``cited_source``, ``command`` (what makes the row) and
    ``SUMMARY``. Log-likelihoods in nats, times in seconds, shares from 0 to 1.
    """
    groups = summarise(runs.select(embedded=embedded, experiments=(MNIST, PARZEN)))
    columns = ["section", "model", "cited", "cited_error", "cited_source", "command", *SUMMARY]
    if embedded:
        return groups.assign(section="embedded", model=groups["name"]).reindex(columns=columns)
    rows = [{**vars(row), "command": row.command} | chosen(groups, row.preset) for row in ROWS]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.fillna({"seeds": 0, "runs": 0}).astype({"seeds": int, "runs": int})


def chosen(groups: pd.DataFrame, preset: str) -> dict[str, Any]:
    """Return the row of the group that stands for a preset as it is on MNIST; empty if there is none.

    Full length before cut short, then the most finished seeds, then the newest numerics, then the most updates.
    """
    experiment = PARZEN if preset in (REAL, KMEANS) else MNIST
    asked = (groups["preset"] == preset) & (groups["experiment"] == experiment)
    fitting = groups[asked & (groups["changes"] == "") & (groups["dataset"] == "mnist")]
    order = ["cut_short", "seeds", "numerics", "updates"]
    return next(iter(fitting.sort_values(order, ascending=[True, False, False, False]).to_dict("records")), {})


def samples(runs: Runs, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of Table 1 that were measured, and other samples that were scored."""
    scores = summarise(runs.select(embedded=False, experiments=(PARZEN,)))
    others = scores[~scores["group"].isin(rows["group"])]
    parts = [part for part in (rows[rows["seeds"] > 0], others.assign(model=others["name"])) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else rows[:0]


def details(runs: Runs) -> pd.DataFrame:
    """Return what changed settings, precision or length did, a row a group: ``SUMMARY`` and ``_compare``'s columns."""
    table = runs.select(embedded=False, experiments=(MNIST, FLICKR))
    groups = summarise(table)
    in_table1 = [chosen(groups, row.preset).get("group") for row in ROWS]
    in_table2 = (groups["experiment"] == FLICKR) & (groups["changes"] == "") & ~groups["cut_short"].astype(bool)
    rows = []
    for row in groups[~groups["group"].isin(in_table1) & ~in_table2].to_dict("records"):
        compared = _compare(table, table[table["group"] == row["group"]])
        rows.append(row | {"label_fidelity": None, "diversity": None} | compared)
    columns = [*SUMMARY, "update", "base", "changed", "difference", "difference_spread", "seen"]
    return pd.DataFrame(rows, columns=columns)


def _compare(table: pd.DataFrame, these: pd.DataFrame) -> dict[str, Any]:
    """Return the estimates of ``these`` runs of a group, and of the preset itself, at the last ``update`` of both.

    ``base`` is the preset's mean over the seeds that both have, else that of one run of each; ``changed``,
    ``label_fidelity`` and ``diversity`` are those of ``these``, ``difference`` is changed minus base, with its standard
    deviation over seeds, and ``seen`` whether its 95% t interval excludes zero.
    """
    run, same, alike = these.iloc[0], ["experiment", "preset", "checksum"], ["precision", "numerics", "device"]
    base = table[(table[same] == run[same]).all(axis=1) & (table["changes"] == "") & (table["group"] != run["group"])]
    # One a seed: the most alike, then the longest.
    base = base.assign(alike=(base[alike] == run[alike]).sum(axis=1))
    base = base.sort_values(["alike", "updates"], ascending=False, kind="stable").drop_duplicates("seed")
    if not set(these["seed"]) & set(base["seed"]):
        these, base = (runs[:1].assign(seed=0) for runs in (these, base))
    score = "valid_log_likelihood" if run["experiment"] == MNIST else "valid_average_precision"
    pairs = _estimates(these, score).merge(_estimates(base, score), on=["seed", "update"], suffixes=("", "_base"))
    if pairs.empty:
        return {}
    seeds = pairs.groupby("update").size()
    rows = pairs[pairs["update"] == seeds[seeds == seeds.max()].index.max()]
    difference = rows[score] - rows[f"{score}_base"]
    mean, spread, seen = difference.mean(), difference.std(), "one seed"
    if len(rows) > 1:
        covered = abs(mean) <= half_width(spread, len(rows))
        seen = "no difference seen" if covered else "higher" if mean > 0 else "lower"
    found = {"seeds": len(rows), "update": int(rows["update"].iloc[0]), "difference": mean, "difference_spread": spread}
    found |= {"base": rows[f"{score}_base"].mean(), "changed": rows[score].mean(), "seen": seen}
    return {**rows[["label_fidelity", "diversity"]].mean(), **found}


def _estimates(runs: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the estimates of all runs during training that have a ``score``, with their seed."""
    wanted = ["update", score, "label_fidelity", "diversity"]
    tables = [RunFolder(r.folder).read_metrics().reindex(columns=wanted).assign(seed=r.seed) for r in runs.itertuples()]
    return pd.concat([pd.DataFrame(columns=[*wanted, "seed"], dtype=float), *tables]).dropna(subset=score)


Columns = Mapping[str, Callable[[Any], str]]


def text(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return a table of texts: ``columns`` make a cell each of a row of ``rows``."""
    cells = [[cell(row) for cell in columns.values()] for row in rows.itertuples()]
    return pd.DataFrame(cells, columns=list(columns))


def by_section(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return heading and text of each section of Table 1."""
    parts = dict(list(rows.groupby("section")))
    return [(heading, text(parts[name], TABLE)) for name, heading in SECTIONS.items() if name in parts]


def _updates(row: Any) -> str:
    kept = f"{row.best_update:,.0f} of " if number(row.best_update) and row.best_update != row.updates else ""
    return kept + form(row.updates, ",.0f")


def _sigmas(row: Any) -> str:
    widths = ", ".join(f"{float(value):.3g}" for value in row.sigma.split(";") if value)
    return f"{widths} (edge of the grid)" if row.at_edge else widths


def _state(row: Any) -> str:
    if row.runs:
        return str(row.state).replace("scored", "")  # Samples of the controls have no training that could end.
    return f"not run: {row.command}" if row.command else "cited only"


def _difference(row: Any) -> str:
    spread = f" ± {row.difference_spread:{_digits(row)}}" if number(row.difference_spread) else ""
    return form(row.difference, f"+{_digits(row)}") + spread


def _digits(row: Any) -> str:
    return ".1f" if row.experiment == MNIST else ".3f"


#: Table 1, in the columns that fit a page.
TABLE: Columns = {
    "Model": lambda row: row.model,
    "Cited": lambda row: form(row.cited, "g") + (f" ± {row.cited_error:g}" if number(row.cited_error) else ""),
    "Measured": lambda row: form(row.log_likelihood, ".1f"),
    "SD": lambda row: form(row.spread, ".1f") or "—" * bool(row.seeds),
    "SE": lambda row: form(row.standard_error, ".1f"),
    "Worst, best": lambda row: f"{form(row.worst, '.1f')}, {form(row.best, '.1f')}" if row.seeds > 1 else "",
    "Seeds": lambda row: f"{row.seeds} of {row.runs}" if row.seeds != row.runs else str(row.seeds or ""),
    "Labels": lambda row: form(row.label_fidelity, ".1%"),
    "Diversity": lambda row: form(row.diversity, ".2f"),
    "State": _state,
}

SAMPLES: Columns = {
    **{name: TABLE[name] for name in ("Model", "Measured")},
    "Sigma": _sigmas,
    "Updates": _updates,
    "Density": lambda row: form(row.density, ".2f"),
    "Coverage": lambda row: form(row.coverage, ".2f"),
    "Train on samples": lambda row: form(row.trained_on_samples, ".1%"),
    "Dropout on": lambda row: form(row.on_log_likelihood, ".1f"),
    "Its SD": lambda row: form(row.on_spread, ".1f"),
    "Its labels": lambda row: form(row.on_label_fidelity, ".1%"),
    "Its diversity": lambda row: form(row.on_diversity, ".2f"),
}

ACCEPTANCE: Columns = {
    "Model": TABLE["Model"],
    "Seeds": lambda row: str(row.seeds),
    "Real image, own label": lambda row: form(row.accept_real, ".1%"),
    "Real image, wrong label": lambda row: form(row.accept_real_wrong, ".1%"),
    "Generated image, own label": lambda row: form(row.accept_fake, ".1%"),
    "Generated image, wrong label": lambda row: form(row.accept_fake_wrong, ".1%"),
}

CHANGES: Columns = {
    "Run": lambda row: row.name,
    "Seeds": lambda row: str(row.seeds or ""),
    "At update": lambda row: form(row.update, ",.0f"),
    "Preset": lambda row: form(row.base, _digits(row)),
    "Changed": lambda row: form(row.changed, _digits(row)),
    "Difference": _difference,
    "Seen": lambda row: row.seen if isinstance(row.seen, str) else "",
    "Labels": lambda row: form(row.label_fidelity, ".0%"),
    "Diversity": lambda row: form(row.diversity, ".2f"),
    "Test": lambda row: form(row.log_likelihood if row.experiment == MNIST else row.precision_at_10, _digits(row)),
    "State": lambda row: row.state,
}

LEGEND = (
    "Parzen log-likelihood of the test images in nats. Measured: mean over seeds. SD: standard deviation over seeds. "
    "SE: standard error over test images, the error that the paper prints. Seeds: those that finished, of all. Labels: "
    "samples that a classifier reads as asked. Diversity: pixel standard deviation in a class relative to real images. "
    "G's dropout is off while drawing where no rate is named."
)
#: Headings and captions of the tables of details.
CAPTIONS = {
    "The samples behind Table 1": (
        "Sigma: chosen on validation images. Updates: of the weights kept, of all. Density, coverage: among the test "
        "images, by 5 nearest neighbours on the label classifier's features. Train on samples: a classifier's accuracy "
        "on real test images. Dropout on: the same weights, with G's dropout left on as in training while sampling."
    ),
    "Share of images that D accepts": "Accepted: D's output is over 0.5. Means over seeds.",
    "Changed settings": (
        "Changed settings, precision or length beside the preset itself. Preset, changed: validation estimate (digits: "
        "nats; photos: mean average precision) at the last update that both estimated, mean over the seeds of both. "
        "Difference: changed minus preset, ± standard deviation over seeds. Seen: whether its 95% t interval excludes "
        "zero. Labels, diversity: of the changed runs there. Test: on test images (photos: precision at 10)."
    ),
}


def detail_blocks(runs: Runs, rows: pd.DataFrame, changed: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return headings (the keys of ``CAPTIONS``) and texts of the tables of details; of Table 1 they take ``rows``."""
    judged = rows[rows[list(ACCEPT)].notna().all(axis=1)]
    tables = [text(samples(runs, rows), SAMPLES), text(judged, ACCEPTANCE), text(changed, CHANGES)]
    return [(heading, table) for heading, table in zip(CAPTIONS, tables, strict=True) if len(table)]
