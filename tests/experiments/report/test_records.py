"""The table of runs: which runs count as seeds of one another, and what becomes of files that cannot be used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments.parzen import __main__ as parzen
from experiments.report import records, tables
from experiments.report.records import load
from tests.experiments import commands
from tests.experiments.report.builders import MNIST, REFERENCE, mnist_run, write


def test_reference_results_are_read_without_loss() -> None:
    runs = load([REFERENCE])
    assert runs.notes == []
    assert {path.parent for path in REFERENCE.glob("*/*/config.json")} <= set(runs.table["folder"])


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"stopping": {"patience": 1000}, "threads": 4}, True),
        ({"changes": {"training.decay": 1.1}}, False),
        ({"precision": "bfloat16"}, False),
        ({"device": "cuda:0 (NVIDIA H100)"}, False),
        ({"numerics": 0}, False),
        ({"dataset": replace(MNIST, checksum="other")}, False),
        # It ended by its patience before the shorter end that was planned: the full preset would have done the same.
        ({"stopping": {"max_updates": 70_000}}, True),
    ],
)
def test_what_makes_runs_repeats_of_one_another(tmp_path: Path, fields: dict[str, Any], same: bool) -> None:
    mnist_run(tmp_path / "a")
    mnist_run(tmp_path / "b", seed=2, **fields)
    table = load([tmp_path]).table
    assert table["group"].nunique() == table["name"].nunique() == (1 if same else 2) and len(table) == 2


def test_of_two_runs_of_a_seed_the_later_finished_counts(tmp_path: Path) -> None:
    mnist_run(tmp_path / "early", score=150.0, started="2026-02-01T00:00:00Z")
    mnist_run(tmp_path / "late", score=160.0, started="2026-03-01T00:00:00Z")
    mnist_run(tmp_path / "latest", diverged=True, started="2026-04-01T00:00:00Z")
    runs = load([tmp_path])
    assert list(runs.table["folder"]) == [tmp_path / "late"]
    assert len(runs.notes) == 2 and all(f"the tables take {tmp_path / 'late'}" in note for note in runs.notes)


def test_a_result_of_other_weights_is_left_out(tmp_path: Path) -> None:
    """A finished run that was trained on: its result stands for weights that are gone (issue 13, fault 0)."""
    for name, sha256 in (("fits", "aa"), ("stale", "bb")):
        folder = mnist_run(tmp_path / name, seed=len(name), result={"weights": {"update": 50_000, "sha256": "aa"}})
        head = {"record": '{"t": 50000, "score": 1.0, "identity": {}}', "sha256": sha256}
        save_file({"G.w": np.zeros(2, np.float32)}, folder / "best.safetensors", metadata=head)
    runs = load([tmp_path])
    (fits,) = runs.table.itertuples()
    assert (fits.folder.name, fits.status, fits.log_likelihood) == ("fits", "finished", 190.0)
    (note,) = runs.notes
    assert "stale/result.json" in note and note.endswith("left out")


def test_a_run_measured_on_validation_data_gives_no_figure(tmp_path: Path) -> None:
    changed = {"estimate.measured_on": "validation"}
    mnist_run(tmp_path / "trial", score=999.0, changes=changed, result={"measured_on": "validation"})
    (trial,) = load([tmp_path]).table.itertuples()
    assert trial.status == "trial" and np.isnan(trial.log_likelihood) and "validation data" in trial.ending
    assert tables.main(["--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "999" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())


def test_unfinished_runs(tmp_path: Path) -> None:
    head = "update,valid_log_likelihood\n"
    for metrics, ending in (
        ("", ""),
        (f"{head}500,\0\n", " at update 500"),
        (f"{head}500,-3.5\n2500,12.25\n5000,7\n", " at update 5,000, best validation estimate 12.2 nats"),
    ):
        mnist_run(tmp_path / "a", finished=False, metrics=metrics)
        (row,) = load([tmp_path]).table.itertuples()
        assert (row.status, row.ending) == ("unfinished", f"unfinished{ending}")


def test_results_that_cannot_be(tmp_path: Path) -> None:
    """Numbers that take down neither tables nor means over seeds (issue 13, fault 17), and another run's result: two
    processes in one folder once left config.json of one seed and result.json of another (issue 17, item 1).
    """
    mnist_run(tmp_path / "mixed", result={"seed": 7})
    for number, value in enumerate(("9" * 400, "1e308", "NaN", "1e999", "-1e13")):
        path = mnist_run(tmp_path / f"bad{number}", score=190.125) / "result.json"
        path.write_text(path.read_text().replace("190.125", value))
    runs = load([tmp_path])
    assert runs.table.empty and len(runs.notes) == 7
    assert all(f"bad{number}/result.json" in runs.notes[number] for number in range(5))
    assert "its seed is not that of config.json" in runs.notes[5]


def test_hidden_files_foreign_files_and_trials_are_no_runs(tmp_path: Path) -> None:
    mnist_run(tmp_path / "mnist" / "good")
    # As macOS leaves them on foreign disks (issue 13, fault 14).
    write(tmp_path / "mnist" / "good" / "._config.json", "\0\5\26\7")
    write(tmp_path / "mnist" / ".trash" / "result.json", "{")
    write(tmp_path / "w" / "result.json", {"experiment": "word-vectors", "seconds": 3})
    write(tmp_path / "x" / "config.json", {"hidden_size": 3})
    write(tmp_path / "w" / "list.json", [1, 2])
    write(tmp_path / "search" / "mine" / "search.json", {"experiment": "mnist"})
    mnist_run(tmp_path / "search" / "mine" / "trials" / "0001", score=250.0)
    write(tmp_path / "search" / "mine" / "ray" / "state.json", "no JSON")
    runs = load([tmp_path])
    assert [folder.name for folder in runs.table["folder"]] == ["good"] and runs.notes == []


def test_scores_are_read_where_they_are_on_the_whole_of_mnist(tmp_path: Path) -> None:
    shutil.copytree(REFERENCE / "mnist-controls", tmp_path / "controls")
    record = records.read_record(tmp_path / "controls" / "k-means.json", records.ScoreFile)
    write(tmp_path / "few.json", replace(record, n_samples=100))
    write(tmp_path / "own.json", replace(record, samples="dbn.npy"))
    write(tmp_path / "other-images.json", replace(record, test="mine.npy"))
    write(tmp_path / "damaged.json", {"samples": "x", "valid": "mnist", "test": "mnist", "test_mean": "high"})
    runs = load([tmp_path])
    names = {"samples mnist-kmeans", "samples mnist-kmeans with 100 samples", "samples mnist-train", "samples dbn.npy"}
    assert set(runs.table["name"]) == names and len(runs.notes) == 1 and "damaged.json" in runs.notes[0]
    assert (records.REAL, records.KMEANS, records.SAMPLES) == (parzen.REAL, parzen.KMEANS, parzen.COUNT)


#: Reads as an unprivileged user: root may read everything.
UNPRIVILEGED = """
import os, sys
from pathlib import Path
from experiments.report.records import load
if os.geteuid() == 0:
    os.seteuid(65534)
runs = load([Path(sys.argv[1])])
print(len(runs.table), *runs.notes, sep="\\n", flush=True)
load([Path(sys.argv[2])])
"""


def test_folders_that_may_not_be_read_are_named() -> None:
    """They do not count as empty (issue 17, item 10)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        mnist_run(folder / "runs" / "open")
        mnist_run(folder / "runs" / "closed", seed=2).chmod(0)
        command = [sys.executable, "-c", UNPRIVILEGED, folder / "runs", folder / "runs" / "closed"]
        done = subprocess.run(command, cwd=commands.ROOT, env=commands.environment(), capture_output=True, text=True)
        (folder / "runs" / "closed").chmod(0o755)
    assert done.stdout.splitlines() == ["1", f"{folder / 'runs' / 'closed'}: Permission denied; left out"]
    assert done.returncode != 0 and "PermissionError" in done.stderr
