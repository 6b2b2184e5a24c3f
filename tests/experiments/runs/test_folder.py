"""The run folder: its records, its lock, and what ties result and weights together."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pandas as pd
import pytest
import torch

from cgan import checkpoint
from experiments import UsageError
from experiments.runs.folder import RunFolder, identity
from experiments.runs.records import DivergedResult, MnistResult, RunConfig, Weights
from tests.experiments.runs.test_files import CONFIG

ROOT = Path(__file__).resolve().parents[3]
RESULT = ROOT / "experiments" / "results" / "mnist" / "paper-seed1"


def save_weights(folder: RunFolder, config: RunConfig | None, update: int) -> str:
    record = {"t": update, "score": 1.0, "identity": config and identity(config)}
    return checkpoint.save(folder.best_path, {"G.w": torch.full((2,), float(update))}, record)


def test_records_come_back_but_a_result_of_other_weights_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(CONFIG)
    assert folder.read_config("mnist") == CONFIG
    with pytest.raises(UsageError, match=r"config\.json: a run of mnist, not of flickr-tags"):
        folder.read_config("flickr-tags")
    made_from = Weights(update=200, sha256=save_weights(folder, CONFIG, 200))
    about = {"experiment": "mnist", "preset": "paper", "dataset": CONFIG.dataset, "seed": 1, "updates": 5}
    measured = msgspec.json.decode((RESULT / "result.json").read_bytes(), type=MnistResult)
    for result in (DivergedResult(**about, reason="x"), replace(measured, weights=made_from)):
        folder.write_result(result)
        assert folder.read_result() == result
    save_weights(folder, CONFIG, 500)
    with pytest.raises(UsageError, match=r"update 200, but best\.safetensors holds others"):
        folder.read_result()


def test_weights_of_another_run_are_refused(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path), replace(CONFIG, numerics=1)
    save_weights(folder, config, 7)
    tensors, update = folder.load_best(config)
    assert update == 7 and tensors["G.w"].tolist() == [7, 7]
    with pytest.raises(UsageError, match="weights of another run"):
        folder.load_best(replace(config, seed=2))
    save_weights(folder, None, 7)  # As older revisions left them.
    assert folder.load_best(CONFIG)[1] == 7
    with pytest.raises(UsageError, match="weights of another run"):
        folder.load_best(config)


def test_identity_holds_what_changes_numbers_and_nothing_else() -> None:
    def with_settings(**sections: dict[str, object]) -> RunConfig:
        return replace(CONFIG, settings={**CONFIG.settings, **sections})

    same = [
        replace(CONFIG, threads=7, preset="other", sessions=[], notice="x", device="cpu (Some name)"),
        with_settings(stopping={"patience": 1000, "keep": "best"}),
        with_settings(features={"weights": "/a"}),
    ]
    other = [
        replace(CONFIG, seed=2),
        replace(CONFIG, precision="bfloat16"),
        replace(CONFIG, device="cuda:1 (NVIDIA H200)"),
        replace(CONFIG, fast=False),
        replace(CONFIG, numerics=CONFIG.numerics + 1),
        replace(CONFIG, dataset=replace(CONFIG.dataset, images=10)),
        with_settings(training={"learning_rate": 0.2}),
        with_settings(stopping={"keep": "last"}),
        with_settings(features={"network": "y"}),
    ]
    assert all(identity(config) == identity(CONFIG) for config in same)
    assert all(identity(config) != identity(CONFIG) for config in other)


def test_metrics_are_a_table_of_numbers(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_metrics().empty
    rows = [
        {"update": 2.0, "score": 3.0, "dataset": "a,b"},
        {"update": 1.0, "score": -2.5},
        {"update": 3.0, "more": 0.5},
    ]
    folder.write_metrics(rows)  # An older session may have had fewer columns.
    expected = pd.DataFrame(
        {"update": [1.0, 2, 3], "score": [-2.5, 3, None], "dataset": math.nan, "more": [None, None, 0.5]}
    )
    pd.testing.assert_frame_equal(folder.read_metrics(), expected)
    for damaged in (b"a,b\n1,2,3,4\n\xff\xfe", b"update\n", b"", b"score\n1\n"):
        folder.metrics_path.write_bytes(damaged)
        assert folder.read_metrics().empty


def test_a_held_folder_is_refused_to_another_process_and_leftovers_go(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "mnist" / "x")
    hold = (
        "import sys; from pathlib import Path; from experiments.runs.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).hold(): print('held', flush=True); sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", hold, str(folder)], **pipes)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match="another process is at work"), folder.hold():
        pass
    process.kill()
    process.communicate()
    for name in (".metrics.csv.123.tmp", ".best.safetensors.tmp", "kept.txt"):
        (folder.path / name).write_text("")
    with folder.hold():
        assert {path.name for path in folder.path.iterdir()} == {".lock", "kept.txt"}
