"""Read all runs below some folders into one pandas table, a row a run. Writes nothing, and knows no preset.

Files are read through the dataclasses of ``experiments.runs.records``. A file that cannot be used costs its own run
alone: it becomes a note, and the table holds the others.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import UsageError
from experiments.runs import photo_table
from experiments.runs.cli import sentence
from experiments.runs.files import flat, read_record
from experiments.runs.folder import CONFIG, RESULT, SEARCH, RunFolder, device_kind, identity
from experiments.runs.records import (
    Count,
    DensityCoverage,
    DivergedResult,
    FlickrResult,
    MnistResult,
    Number,
    ParzenScore,
    RunConfig,
    Text,
)

MNIST, FLICKR, PARZEN = "mnist", "flickr-tags", "parzen"


@dataclass(kw_only=True)
class Row:
    """A run as a row of the table: its fields are the table's columns. Numbers that are not known are NaN."""

    folder: Path  # The run's folder, or the file of a score.
    experiment: str  # mnist, flickr-tags, or parzen for samples scored by experiments.parzen.
    preset: str  # The preset; of a score, what was scored.
    changes: str  # Settings that differ from the preset's own, such as "training.decay=1.000004"; may be empty.
    name: str  # Preset, changes and whatever else sets the run apart, for a reader; one name a group.
    group: str  # Runs with the same text differ by seed alone.
    dataset: str
    embedded: bool = False  # Whether the data set is a stand-in that ships with the code.
    checksum: str = ""  # Of the data set.
    seed: int
    precision: str = ""  # float32 or bfloat16; empty for a score.
    device: str = ""  # cpu, cuda or mps.
    numerics: int = 0  # Revision of the numerics.
    status: str  # finished, diverged, unfinished, or trial (measured on validation data).
    ending: str  # How training ended, in words.
    # Fewer updates were planned than the preset plans, and patience did not end training before.
    cut_short: bool = False
    started: str = ""  # When the last session started (UTC, ISO 8601).
    best_update: float = nan  # Update whose weights were kept.
    updates: float = nan  # Updates trained.
    seconds: float | None = nan  # Wall time of training, or of making and scoring samples.
    log_likelihood: float = nan  # Digits: Parzen log-likelihood of the test images in nats, drawn as ``sampling`` says.
    standard_error: float = nan  # Its standard error over the test images.
    sigma: float = nan  # Width of the Gaussians, chosen on the validation images.
    at_edge: bool | None = None  # Whether sigma is an end of the grid.
    label_fidelity: float | None = nan  # Share of samples that a classifier reads as the label asked for.
    classifier: float = nan  # Share of the real test images that this classifier reads rightly.
    diversity: float | None = nan  # Intra-class diversity of the samples; real images: 1.
    density: float = nan  # Of the samples among the test images, on the classifier's features; real images: about 1.
    coverage: float = nan  # Share of test images near which a sample lies, on these; real images: about 0.97.
    trained_on_samples: float = nan  # Share of real test images that a classifier trained on the samples reads rightly.
    on_log_likelihood: float = nan  # log_likelihood with G's dropout left on as in training; so the next two.
    on_label_fidelity: float | None = nan
    on_diversity: float | None = nan
    accept_real: float | None = nan  # Share of real test images that D accepts (output over 0.5) with their own label.
    accept_real_wrong: float | None = nan  # The same with a wrong label; then generated images.
    accept_fake: float | None = nan
    accept_fake_wrong: float | None = nan
    precision_at_10: float = nan  # Photos: precision at 10 against user tags and annotations.
    gain: float = nan  # precision_at_10 minus that of always giving the commonest tags.
    gain_low: float = nan  # Lower end of its 95% interval over photos.
    gain_high: float = nan
    config: RunConfig | None = None
    result: MnistResult | FlickrResult | DivergedResult | ScoreFile | None = None


COLUMNS = [column.name for column in fields(Row)]
#: Columns of numbers that a mean over seeds is taken of.
FIGURES = [column.name for column in fields(Row) if "float" in str(column.type)]
ACCEPT = ("accept_real", "accept_real_wrong", "accept_fake", "accept_fake_wrong")

#: The controls as ``experiments.parzen`` names them, and the number of samples of the paper's procedure.
REAL, KMEANS, SAMPLES = "mnist-train", "mnist-kmeans", 10_000

SCORE_BYTES = 2**20  # Larger JSON files are not looked into for scores.


@dataclass(frozen=True, kw_only=True)
class ScoreFile(ParzenScore):
    """What ``experiments.parzen --json`` writes."""

    samples: Text  # mnist-train, mnist-kmeans, or the name of a file of samples.
    valid: Text
    test: Text
    seed: Count = 0
    command: Text = ""
    machine: Text = ""
    density_coverage: DensityCoverage | None = None
    seconds: Number | None = None


@dataclass(frozen=True)
class Runs:
    """All runs that were found, and what a reader must know of the files that were left out."""

    table: pd.DataFrame  # One run a row, with the columns of ``Row``; of several runs of a group and a seed one.
    notes: list[str] = field(default_factory=list)

    def select(self, *, embedded: bool, experiments: Sequence[str]) -> pd.DataFrame:
        """Return the runs of some experiments, on real or on embedded data."""
        return self.table[(self.table["embedded"] == embedded) & self.table["experiment"].isin(experiments)]


def load(folders: Sequence[Path]) -> Runs:
    """Return all runs and scores below ``folders``; raises ``OSError`` if one of these may not be read."""
    notes: list[str] = []
    rows: list[Row] = []
    for path in _json_files(folders, notes):
        try:
            row = _read(path)
        except (UsageError, OSError) as error:
            notes.append(f"{sentence(error)}; left out")
            continue
        rows += [row] if row else []
    if not rows:
        notes.append(f"{', '.join(map(str, folders))}: no run was found there")
    kinds = {"embedded": bool, "cut_short": bool, "seed": int, "numerics": int} | dict.fromkeys(FIGURES, float)
    table = _one_a_seed(pd.DataFrame([vars(row) for row in rows], columns=COLUMNS).astype(kinds), notes)
    for row in table.itertuples():
        network = (getattr(row.config, "network", None) or {}).get("name")
        table.loc[row.Index, "name"] += (
            ("" if row.dataset == "mnist" else f" on {row.dataset}")
            + (f", features of {network}" if network else "")
            + (" in bfloat16" if row.precision == "bfloat16" else "")
            + (f" on {row.device}" if row.device not in ("", "cpu") else "")
        )
    for name, these in table.groupby("name"):
        groups = these.groupby("group", sort=False).agg(seeds=("seed", "size"), numerics=("numerics", "max"))
        groups = groups.sort_values(["seeds", "numerics"], ascending=False, kind="stable")
        for number, group in enumerate(groups.index[1:], start=2):
            # Other values of the preset itself, numerics, photos or the plain update: the provenance has them all.
            table.loc[(table["name"] == name) & (table["group"] == group), "name"] += f" ({number})"
    order = ["experiment", "embedded", "preset", "changes", "name", "seed"]
    return Runs(table.sort_values(order, kind="stable", ignore_index=True), notes)


def _json_files(folders: Sequence[Path], notes: list[str]) -> Iterator[Path]:
    """Yield every JSON file below ``folders`` once, in the order of the names."""
    seen: set[Path] = set()
    for top in filter(Path.exists, folders):
        os.listdir(top)  # Or ``os.walk`` would take a folder that may not be read for an empty one.
        for place, below, files in os.walk(top, onerror=lambda error: notes.append(f"{sentence(error)}; left out")):
            below[:] = [] if SEARCH in files else sorted(name for name in below if not name.startswith("."))
            for name in [] if SEARCH in files else sorted(files):
                path = Path(place) / name
                if name.endswith(".json") and not name.startswith(".") and path.resolve() not in seen:
                    seen.add(path.resolve())
                    yield path


def _read(path: Path) -> Row | None:
    """Return the row of the run or score that a JSON file is about; None for a file about something else."""
    if path.name in (RESULT, CONFIG):
        if path.name == CONFIG and path.with_name(RESULT).exists():
            return None
        head = read_record(path, dict[str, Any])
        # Other commands, and other people's programs, have files of these names, too.
        known = head.get("experiment") in (MNIST, FLICKR) or (path.name == RESULT and "experiment" not in head)
        return _run_row(RunFolder(path.parent)) if known else None
    if path.name == photo_table.JSON or not path.is_file() or path.stat().st_size > SCORE_BYTES:
        return None
    content: Any = read_record(path, object, fix="if it is a score, score the samples again")
    if not isinstance(content, dict) or not {"samples", "valid", "test", "test_mean"} <= content.keys():
        return None
    score = read_record(path, ScoreFile, fix="score the samples again")
    return _score_row(path, score) if score.valid == score.test == "mnist" else None


def _run_row(folder: RunFolder) -> Row:
    """Return the row of the run in ``folder``; raises ``UsageError`` or ``OSError`` naming the file at fault."""
    config = folder.read_config()
    result: Any = folder.read_result() if folder.result_path.exists() else None
    for name in ("experiment", "preset", "seed", "dataset") if result else ():
        if getattr(result, name) != getattr(config, name):
            raise UsageError(f"{folder.result_path}: its {name} is not that of {CONFIG} beside it")
    metrics = pd.DataFrame() if result else folder.read_metrics()
    updates = result.updates if result else metrics["update"].iloc[-1] if len(metrics) else nan
    planned = flat(config.settings).get("stopping.max_updates")
    shorter = isinstance(planned, int) and config.preset_updates is not None and planned < config.preset_updates
    cut_short = shorter and getattr(result, "stopped_by", None) != "patience"

    status: str = result.status if result else "unfinished"
    ending = f"{status} at update {updates:,.0f}" if updates == updates else status
    if "valid_log_likelihood" in metrics and (best := metrics["valid_log_likelihood"].max()) == best:
        ending += f", best validation estimate {best:.1f} nats"
    if status == "finished":
        ending = "reached the stopping point" if result.stopped_by == "patience" else "ran the full length"
        if cut_short:
            ending = f"cut short (the preset: at most {config.preset_updates:,} updates)"
        if result.measured_on != "test":
            status, ending = "trial", "measured on validation data, to choose settings"

    changes = ", ".join(f"{name}={_short(value)}" for name, value in config.changes.items())
    shown = f" with {changes if len(changes) <= 120 else changes[:119] + '…'}" if changes else ""
    same = {name: value for name, value in identity(config).items() if name != "seed"}
    group = [config.experiment, config.preset, config.changes, config.dataset.embedded, same]
    columns: dict[str, Any] = {}
    if status == "finished":
        columns = {"best_update": result.best_update, "seconds": result.seconds}
        columns |= _digit_columns(result) if isinstance(result, MnistResult) else _photo_columns(result)
    return Row(
        folder=folder.path,
        experiment=config.experiment,
        preset=config.preset,
        changes=changes,
        name=config.preset + shown + (f", {planned:,} updates" if cut_short else ""),
        group=_digest([*group, planned if cut_short else None]),
        dataset=config.dataset.name,
        embedded=config.dataset.embedded,
        checksum=config.dataset.checksum,
        seed=config.seed,
        precision=config.precision,
        device=device_kind(config.device),
        numerics=config.numerics,
        status=status,
        ending=ending,
        cut_short=cut_short,
        started=config.sessions[-1].started if config.sessions else "",
        updates=updates,
        config=config,
        result=result,
        **columns,
    )


def _digit_columns(result: MnistResult) -> dict[str, Any]:
    columns = _score_columns(result.parzen, result.density_coverage)
    columns |= {"classifier": result.classifier_accuracy, "diversity": result.diversity.overall}
    if result.label_fidelity:
        columns["label_fidelity"] = result.label_fidelity.share
    if result.train_on_generated:
        columns["trained_on_samples"] = result.train_on_generated.generated
    cells = [cell for row in result.acceptance.accepted for cell in row] if result.acceptance else []
    if len(cells) == len(ACCEPT):
        columns |= dict(zip(ACCEPT, cells, strict=True))
    if on := result.dropout_on:
        columns |= {"on_log_likelihood": on.parzen.test_mean, "on_diversity": on.diversity.overall}
        columns["on_label_fidelity"] = on.label_fidelity.share if on.label_fidelity else None
    return columns


def _photo_columns(result: FlickrResult) -> dict[str, Any]:
    cgan, commonest = result.measures.get("cgan"), result.measures.get("commonest")
    columns = {"precision_at_10": cgan.precision_at_10.value} if cgan and cgan.precision_at_10 else {}
    if commonest and (gain := commonest.cgan_minus_this_precision):
        columns |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
    return columns


def _score_row(path: Path, score: ScoreFile) -> Row:
    other = score.samples in (REAL, KMEANS) and score.n_samples != SAMPLES
    changes = f"{score.n_samples:,} samples" if other else ""
    return Row(
        folder=path,
        experiment=PARZEN,
        preset=score.samples,
        changes=changes,
        name=f"samples {score.samples}" + (f" with {changes}" if changes else ""),
        group=_digest([PARZEN, score.samples, score.n_samples]),
        dataset="mnist",
        seed=score.seed,
        status="finished",
        ending="scored",
        seconds=score.seconds,
        result=score,
        **_score_columns(score, score.density_coverage),
    )


def _score_columns(score: ParzenScore, near: DensityCoverage | None) -> dict[str, Any]:
    features = near.get("features") if near else None
    found = {"density": features.overall.density, "coverage": features.overall.coverage} if features else {}
    figures = {"log_likelihood": score.test_mean, "standard_error": score.test_se, "sigma": score.sigma}
    return {**figures, "at_edge": score.at_edge, **found}


def _one_a_seed(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return the table with one run of a group and seed, the later finished one; note the others."""
    rank = ["unfinished", "trial", "diverged", "finished"].index
    written = [folder.stat().st_mtime for folder in table["folder"]]
    ranked = table.assign(rank=table["status"].map(rank), trained=table["updates"].fillna(0), written=written)
    ranked = ranked.sort_values(["rank", "started", "trained", "written", "folder"])
    kept = ranked.drop_duplicates(["group", "seed"], keep="last")
    for this in ranked[~ranked.index.isin(kept.index)].itertuples():
        (other,) = kept.loc[(kept["group"] == this.group) & (kept["seed"] == this.seed), "folder"]
        notes.append(f"{this.folder}: another run of {this.name}, seed {this.seed}; the tables take {other}")
    return table.loc[kept.index].sort_index()


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
