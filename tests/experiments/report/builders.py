"""Run folders made by hand for the tests of tables and report: committed runs, with other figures in their records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from experiments.runs.records import DatasetRecord, Interval
from tests.experiments import commands

REFERENCE = commands.ROOT / "experiments" / "results"

#: Of an MNIST that never was; only that it is the same for all runs counts.
MNIST = DatasetRecord(name="mnist", embedded=False, checksum="c0ffee")
DIGITS = DatasetRecord(name="digits (embedded)", embedded=True, checksum="d161")
MINI = DatasetRecord(name="flickr-mini", embedded=False, checksum="f11c", images=80)
MIRFLICKR = DatasetRecord(name="mirflickr", embedded=False, checksum="f25c")
SCENES = DatasetRecord(name="scenes (embedded)", embedded=True, checksum="5ce")

#: Updates that the preset of every run here plans.
PLANNED = 300_000


def write(path: Path, content: Any) -> Path:
    """Write a text, or a record or mapping as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(msgspec.to_builtins(content)), encoding="utf-8")
    return path


def reference(name: str) -> dict[str, Any]:
    """Return the result of a committed run, with its weights left out."""
    return json.loads((REFERENCE / name / "result.json").read_text()) | {"weights": None, "sessions": []}


def config(
    folder: Path, about: dict[str, Any], changes: dict[str, Any], stopping: dict[str, Any], **fields: Any
) -> None:
    settings: dict[str, Any] = {"training": {"decay": 1.00004}}
    settings["stopping"] = {"max_updates": PLANNED, "patience": 20, **stopping}
    for name, value in changes.items():
        section, field = name.split(".")
        settings.setdefault(section, {})[field] = value
    compute = {"device": "cpu", "precision": "float32", "numerics": 1, "preset_updates": PLANNED}
    write(folder / "config.json", {**about, **compute, "settings": settings, "changes": changes, **fields})


def mnist_run(
    folder: Path,
    preset: str = "paper",
    seed: int = 1,
    score: float = 190.0,
    *,
    dataset: DatasetRecord = MNIST,
    changes: dict[str, Any] | None = None,
    stopping: dict[str, Any] | None = None,
    metrics: str = "",
    error: float = 2.5,
    sigma: float = 0.16681005,
    share: float = 0.875,
    accepted: Any = None,
    dropout_on: float | None = None,
    started: str = "",
    diverged: bool = False,
    finished: bool = True,
    result: dict[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """Make a run's folder; ``fields`` are of config.json, ``result`` fields of result.json."""
    about = {"experiment": "mnist", "preset": preset, "dataset": dataset, "seed": seed}
    session = {"command": "python", "git_revision": "abc123", "started": started, "device": "cpu", "threads": 1}
    config(folder, about, changes or {}, stopping or {}, sessions=[session] if started else [], **fields)
    if metrics:
        write(folder / "metrics.csv", metrics)
    record = reference("mnist/paper-seed1") | about | {"density_coverage": None, "classifier_accuracy": 0.98}
    record |= {"stopped_by": "patience", "updates": 60_000, "best_update": 50_000}
    record["parzen"] |= {"test_mean": score, "test_se": error, "sigma": sigma}
    record["diversity"]["overall"], record["label_fidelity"]["share"] = 0.5, share
    record["acceptance"]["accepted"] = accepted or [[0.9, 0.1], [0.2, 0.1]]
    on = record["dropout_on"]
    on["parzen"]["test_mean"], on["diversity"]["overall"], on["label_fidelity"]["share"] = dropout_on, 0.9, 0.75
    record["dropout_on"] = on if dropout_on else None
    if diverged:
        record = {**about, "status": "diverged", "reason": "the losses became nan", "updates": 812}
    if finished:
        write(folder / "result.json", record | (result or {}))
    return folder


def interval(value: float, half: float = 0.03) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def measures(precision: float, tags: int = 99, gap: Interval | None = None) -> dict[str, Any]:
    others = ("recall_at_10", "f1_at_10", "hit_at_10", "mean_average_precision", "best_cosine")
    known = {"precision_at_10": interval(precision), "distinct_tags": tags, "cgan_minus_this_precision": gap}
    return dict.fromkeys(others) | known


def flickr_run(
    folder: Path,
    preset: str = "paper",
    seed: int = 1,
    precision: float = 0.25,
    *,
    dataset: DatasetRecord = MINI,
    gap: Interval | None = None,
    alone: float = 0.125,
    notice: str | None = None,
    changes: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
) -> Path:
    """Make the folder of a finished run on photos."""
    about = {"experiment": "flickr-tags", "preset": preset, "dataset": dataset, "seed": seed, "notice": notice}
    config(folder, about, changes or {}, {})
    record = reference("flickr-tags/paper-flickr-mini-seed1") | about
    record |= {"stopped_by": "patience", "measures_user_tags": {"cgan": measures(alone)}}
    record["measures"] = {
        "cgan": measures(precision, 1234),
        "commonest": measures(0.2, gap=gap),
        "oracle": measures(1.0),
    }
    write(folder / "result.json", record | (result or {}))
    return folder
