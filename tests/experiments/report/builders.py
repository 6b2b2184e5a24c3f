"""Run folders made by hand, through the dataclasses of the records, for the tests of tables and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from experiments.runs.records import (
    AcceptanceRecord,
    DatasetRecord,
    DivergedResult,
    DiversityRecord,
    DropoutOn,
    Environment,
    FidelityRecord,
    FlickrResult,
    Interval,
    MethodMeasures,
    MnistResult,
    ParzenScore,
    RunConfig,
    Session,
)
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


def environment() -> Environment:
    versions = {"torch": "2.14.1"}
    return Environment(
        command="python -m experiments.mnist",
        python="3.11.7",
        platform="Linux x86_64",
        cpu_cores=2,
        packages=versions,
        git_revision="abc123",
    )


def session(started: str) -> Session:
    return Session(
        command="python -m experiments.mnist paper", git_revision="abc123", started=started, device="cpu", threads=1
    )


def config(
    folder: Path,
    experiment: str,
    preset: str,
    dataset: DatasetRecord,
    seed: int,
    changes: dict[str, Any],
    stopping: dict[str, Any],
    **fields: Any,
) -> None:
    settings: dict[str, Any] = {
        "training": {"decay": 1.00004},
        "stopping": {"max_updates": PLANNED, "patience": 20, **stopping},
    }
    for name, value in changes.items():
        section, field = name.split(".")
        settings.setdefault(section, {})[field] = value
    known = {"device": "cpu", "precision": "float32", "numerics": 1, "preset_updates": PLANNED, **fields}
    known |= {"dataset": dataset, "settings": settings, "changes": changes}
    record = RunConfig(experiment=experiment, preset=preset, seed=seed, **known)  # type: ignore[arg-type]
    write(folder / "config.json", record)


def parzen(score: float, error: float = 2.5, sigma: float = 0.16681005) -> ParzenScore:
    return ParzenScore(
        sigma=sigma,
        valid_mean=score,
        valid_se=error,
        test_mean=score,
        test_se=error,
        n_samples=10_000,
        n_valid=10_000,
        n_test=10_000,
        dim=784,
        at_edge=False,
        sigmas=[0.1, sigma, 1.0],
        valid_means=[score - 50, score, score - 200],
    )


def fidelity(share: float) -> FidelityRecord:
    return FidelityRecord(share=share, per_class=[share] * 2, confusion=[[9, 1], [0, 10]])


def diversity(overall: float) -> DiversityRecord:
    return DiversityRecord(overall=overall, per_class=[overall] * 2, twins=[0.0] * 2, finite=True)


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
    sessions = [session(started)] if started else []
    config(folder, "mnist", preset, dataset, seed, changes or {}, stopping or {}, sessions=sessions, **fields)
    if metrics:
        write(folder / "metrics.csv", metrics)
    if diverged:
        record: Any = DivergedResult(
            experiment="mnist", preset=preset, reason="the losses became nan", dataset=dataset, seed=seed, updates=812
        )
    else:
        matrix = accepted or [[0.9, 0.1], [0.2, 0.1]]
        left_on = (
            DropoutOn(parzen=parzen(dropout_on), diversity=diversity(0.9), label_fidelity=fidelity(0.75))
            if dropout_on
            else None
        )
        record = MnistResult(
            preset=preset,
            stopped_by="patience",
            dataset=dataset,
            seed=seed,
            updates=60_000,
            best_update=50_000,
            best_epoch=100.0,
            seconds=3_600.0,
            parzen=parzen(score, error, sigma),
            faults=[],
            diversity=diversity(0.5),
            classifier_accuracy=0.98,
            label_fidelity=fidelity(share),
            dropout_on=left_on,
            device="cpu",
            precision="float32",
            acceptance=AcceptanceRecord(
                rows=["real", "fake"],
                columns=["own label", "wrong label"],
                mean=matrix,
                accepted=matrix,
                by_label_real=[[0.75, None], [0.25, 0.5]],
                by_label_fake=[[0.5, 0.5], [0.5, 0.5]],
            ),
            environment=environment(),
        )
    if finished:
        write(folder / "result.json", msgspec.to_builtins(record) | msgspec.to_builtins(result or {}))
    return folder


def interval(value: float, half: float = 0.03) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def measures(precision: float, tags: int = 99, gap: Interval | None = None) -> MethodMeasures:
    return MethodMeasures(
        precision_at_10=interval(precision),
        recall_at_10=None,
        f1_at_10=None,
        hit_at_10=None,
        mean_average_precision=None,
        best_cosine=None,
        distinct_tags=tags,
        cgan_minus_this_precision=gap,
    )


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
    config(folder, "flickr-tags", preset, dataset, seed, changes or {}, {}, notice=notice)
    record = FlickrResult(
        preset=preset,
        stopped_by="patience",
        dataset=dataset,
        seed=seed,
        updates=4_000,
        best_update=3_000,
        seconds=300.0,
        images={"train": 560, "valid": 120, "test": 120},
        test_images=120,
        pairs=4_752,
        notice=notice,
        vocabulary={"words": 322, "decoding": 121},
        left_out={},
        network={"name": "timm/x", "dim": 4096, "weights": "w"},
        measures={"cgan": measures(precision, 1234), "commonest": measures(0.2, gap=gap), "oracle": measures(1.0)},
        measures_user_tags={"cgan": measures(alone)},
        baselines={},
        device="cpu",
        precision="float32",
        environment=environment(),
    )
    write(folder / "result.json", msgspec.to_builtins(record) | msgspec.to_builtins(result or {}))
    return folder
