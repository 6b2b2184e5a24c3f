"""A search as a user runs it, on a real local Ray: processes killed, trials lost, the best one trained."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from data.digits import load_digits_28
from experiments.flickr_tags.dataset import set_name
from experiments.mnist.presets import MNIST_PRESETS
from experiments.runs.files import write_json
from experiments.search import __main__ as search
from experiments.search.space import Choice, LogUniform, Space, Uniform, parse_space, propose, spell_space, with_values
from experiments.search.summary import height, importance, write_tables
from experiments.search.trials import Plan, Trial, TrialRun, read_trials, start, stopping_bar, winner
from tests.experiments import commands, flickr_runs

SPACE = {
    "generator.input_branch": {"choice": ["relu:16", "relu:32,dropout=0.5"]},
    "generator.condition_branch": "relu:16",
    "generator.joint": "relu:48",
    "discriminator.input_branch": "maxout:24x3,dropout=0.5",
    "discriminator.condition_branch": "maxout:8x3",
    "discriminator.joint": "maxout:24x2",
    "discriminator.input_dropout": {"uniform": [0, 0.5]},
    # The second ends in NaN, and the second size of batches is greater than the data set.
    "training.learning_rate": {"choice": [0.1, 1e30]},
    "training.batch_size": {"choice": [100, 5000]},
}
EPOCHS, EVERY = 60, 10


def kind(values: dict[str, Any]) -> str:
    """What becomes of a trial with these settings."""
    if values["training.batch_size"] == 5000:
        return "crashed"
    return "diverged" if values["training.learning_rate"] > 1 else "finished"


def seed_for(space: Space, wanted: list[str]) -> int:
    """The first seed whose random proposals end so."""
    for seed in range(10_000):
        if all(kind(propose(space, [], "random", seed, i + 1)) == end for i, end in enumerate(wanted)):
            return seed
    raise AssertionError("no such seed")


def parents(pid: int) -> list[int]:
    """The process's ancestors."""
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return found
        found.append(pid)
    return found


def workers(driver: int) -> list[int]:
    """Processes below ``driver`` that Ray trains trials in."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::") and b"Trainable" in name and driver in parents(int(folder.name)):
            found.append(int(folder.name))
    return found


def wait(process: subprocess.Popen[str], ready: Callable[[], bool], what: str) -> None:
    """Until ``ready``, or fail: the process ended, or it takes minutes, as Ray's start does on a busy machine."""
    deadline = time.monotonic() + 500
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            out, errors = process.communicate()
            raise AssertionError(f"{what} did not come\n{out}\n{errors}")
        time.sleep(0.05)


def rows_of(path: Path) -> list[dict[str, str]]:
    """A run's estimates so far, without the clock."""
    try:
        with open(path, newline="") as file:
            return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


def estimates(folder: Path, number: int) -> list[dict[str, str]]:
    """Those of a search's trial."""
    return rows_of(folder / "trials" / f"{number:04d}" / "metrics.csv")


def test_killed_workers_and_a_killed_driver_lose_no_trial(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install -e '.[cluster]'")
    file = tmp_path / "space.json"
    file.write_text(json.dumps(SPACE))
    ends = ["finished", "finished", "diverged", "crashed"]
    seed = seed_for(parse_space(SPACE, MNIST_PRESETS["paper"](), "space"), ends)
    arguments = (
        "search", "mnist", "paper", "--fast", "--space", file, "--searcher", "random", "--seed", seed, "--trials", 4,
        "--epochs", EPOCHS, "--estimate-epochs", EVERY, "--grace-epochs", EVERY, "--keep", 1, "--parallel", 2,
        "--precision", "float32", "--runs", tmp_path, "--name", "small", "--resume",
    )  # fmt: skip
    folder = tmp_path / "search" / "small"
    process = commands.start(*arguments)
    wait(process, lambda: bool(estimates(folder, 1) and estimates(folder, 2)), "a first estimate of two trials at once")
    wait(process, lambda: len(workers(process.pid)) == 2, "two workers")
    killed = workers(process.pid)[0]
    os.kill(killed, signal.SIGKILL)
    wait(process, lambda: len(set(workers(process.pid)) - {killed}) == 2, "another worker in the killed one's place")
    process.kill()
    out, _ = process.communicate()
    assert "its process died; it continues in another" in out
    unfinished = {trial.number: trial for trial in read_trials(folder)}
    assert unfinished and not (folder / "trials" / "0004" / "outcome.json").exists()

    resumed = commands.start(*arguments)
    _, errors = resumed.communicate(timeout=500)
    assert resumed.returncode == 0 and "Traceback" not in errors, errors
    assert [trial.state for trial in read_trials(folder)] == ends
    with open(folder / "trials.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["state"] for row in rows] == ends
    assert "diverged" in rows[2]["reason"] and "batch_size is 5000" in rows[3]["reason"]
    assert [row["training.batch_size"] for row in rows] == ["100", "100", "100", "5000"]
    for number in (1, 2):
        assert [float(row["epoch"]) for row in estimates(folder, number)] == list(range(EVERY, EPOCHS + 1, EVERY))
    Image.open(folder / "trials.png").verify()
    text = (folder / "trials.md").read_text()
    assert "digits (embedded)" in text and "Nothing here was measured on test data" in text
    assert not (folder / "ray").exists() and not list(folder.glob("trials/*/checkpoint.safetensors"))
    assert "test" not in rows[0] and not [name for name in estimates(folder, 1)[0] if "test" in name]
    shown = commands.run(*arguments)
    assert shown.returncode == 0 and "4 have ended" in shown.stdout
    commands.assert_one_sentence(commands.run(*arguments, "--keep", 0.5), "keep", "search.json")

    # The winner as a preset: the very curve that its trial had, in spite of all kills.
    best = json.loads((folder / "best.json").read_text())
    number = best["search"]["trial"]
    updates = len(load_digits_28().train) // 100
    length = ("--stopping.max-updates", EPOCHS * updates, "--stopping.first-estimate", EVERY * updates)
    again = commands.start(
        "mnist", folder / "best.json", "--seed", seed, "--dataset", "digits", "--threads", 1, "--precision", "float32",
        *length, "--stopping.estimate-every", EVERY * updates, "--stopping.patience", 1000, "--runs", tmp_path,
    )  # fmt: skip
    place = tmp_path / "mnist" / f"small-best-seed{seed}-digits"
    wait(again, lambda: len(rows_of(place / "metrics.csv")) == EPOCHS // EVERY, "the winner's last estimate")
    again.kill()  # What it measures at its end is tested elsewhere.
    again.communicate()
    config = json.loads((place / "config.json").read_text())
    assert config["preset"] == "small-best" and config["preset_file"] == str(folder / "best.json")
    for section, fields in best["settings"].items():
        if section != "stopping":
            assert config["settings"][section] == fields
    curve = [{k: v for k, v in row.items() if k != "dataset"} for row in rows_of(place / "metrics.csv")]
    assert curve == estimates(folder, number)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_trials_may_have_gpus_where_the_command_has_none(tmp_path: Path) -> None:
    """Here nobody has one, which the cluster tells, not the command's own device."""
    done = commands.run("search", "mnist", "--fast", "--gpus-per-trial", 0.5, "--runs", tmp_path, "--name", "gpus")
    commands.assert_one_sentence(done, "0.5 GPUs, but there are", "lower --cpus-per-trial or --gpus-per-trial")
    plan = json.loads((tmp_path / "search" / "gpus" / "search.json").read_text())
    assert plan["device"] == "cuda" and plan["precision"] == "float32"


def test_no_trial_is_stopped_before_its_grace_or_before_others_came_as_far() -> None:
    others = [[-500.0, 10.0, 20.0], [-500.0, 30.0, 40.0], [-500.0, -400.0], [-500.0]]
    assert stopping_bar([-600.0], others, 2, 0.5) is None
    assert stopping_bar([-600.0, -600.0], others, 2, 0.5) == 10.0
    assert stopping_bar([-600.0, 10.0], others, 2, 0.5) is None
    assert stopping_bar([-600.0, 9.0, 9.0], others, 2, 0.5) is None  # Only two others have come to a third estimate.
    assert stopping_bar([-600.0, -399.0], others, 2, 1.0) is None
    assert stopping_bar([-600.0, -401.0], others, 2, 1.0) == -400.0


def plan_for(settings: dict[str, Any], experiment: Any, dataset: dict[str, Any]) -> Plan:
    """A short search's."""
    return Plan(
        experiment=experiment,
        preset="paper",
        settings=settings,
        space={"training.learning_rate": {"uniform": [0.01, 0.2]}},
        searcher="random",
        seed=1,
        epochs=2,
        grace_epochs=1,
        estimate_epochs=1,
        keep=0.5,
        dataset=dataset,
        device="cpu",
        precision="float32",
        threads=1,
    )


def test_importance_finds_the_setting_that_decides(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs the extra: pip install -e '.[cluster]'")
    space: Space = {
        "discriminator.input_dropout": Uniform(0.0, 0.5),
        "training.learning_rate": LogUniform(0.01, 1.0),
        "generator.joint": Choice(("relu:10", "relu:20")),
    }
    plan = plan_for(MNIST_PRESETS["paper"]().as_dict(), "mnist", {"name": "digits (embedded)"})
    trials = []
    for number in range(1, 31):
        values = propose(space, [], "random", 1, number)
        trial = start(tmp_path, number, values)
        score = 100 * values["discriminator.input_dropout"] + (values["generator.joint"] == "relu:20")
        trial.history = [{"epoch": 1.0, "seconds": 1.0, "valid_log_likelihood": score}]
        trial.end("finished", "")
        trials.append(trial)
    shares = importance(space, plan, trials)
    assert sum(shares.values()) == pytest.approx(1) and shares["discriminator.input_dropout"] > 0.8
    assert importance(space, plan, trials[:7]) == {}
    trials[3].state = "diverged"
    best = max(trials, key=lambda trial: trial.history[0]["valid_log_likelihood"] * (trial.number != 4))
    assert winner(trials, "mnist") is best
    write_tables(tmp_path, plan, space, trials, "the digits stand in for MNIST")
    written = json.loads((tmp_path / "best.json").read_text())
    assert written["settings"] == with_values(plan.config, best.values).as_dict()
    lines = (tmp_path / "trials.md").read_text().splitlines()
    assert "NOTE: the digits stand in for MNIST." in lines
    table = [line for line in lines if line.startswith("| ")][2:]
    assert table[0].startswith(f"| {best.number} |") and table[-1].startswith("| 4 |") and len(table) == 30


def test_values_lie_on_their_axis_in_proportion() -> None:
    assert height(Uniform(-1.0, 3.0), 0.0) == 0.25
    assert height(LogUniform(0.01, 1.0), 0.1) == pytest.approx(0.5)
    assert height(Choice(("x",)), "x") == 0 and height(Choice(("x", "y", "z")), "y") == 0.5
    assert spell_space({"a": Choice(("x",))}) == {"a": {"choice": ["x"]}}


def test_a_flickr_trial_scores_validation_photos_and_goes_on_where_it_stood(flickr_run: Any, tmp_path: Path) -> None:
    record = json.loads((flickr_run.folder / "config.json").read_text())
    cache = flickr_run.runs / "cache"
    from data.mirflickr import EMBEDDED, load_mirflickr

    photos = load_mirflickr(cache / f"scenes-{flickr_runs.IMAGES}", EMBEDDED)
    about = {"name": photos.name, "embedded": True, "checksum": photos.checksum, "asked": "scenes"}
    plan = plan_for(record["settings"], "flickr-tags", {**about, "images": flickr_runs.IMAGES})
    assert set_name(photos) == "scenes"

    def train(folder: Path, pieces: float) -> Trial:
        folder.mkdir()
        plan.write(folder, [])
        start(folder, 1, {"training.learning_rate": 0.05})
        while True:
            run = TrialRun(folder, 1, flickr_run.root, cache)
            run.advance(pieces)
            run.leave()
            if run.run.finished:
                return read_trials(folder)[0]

    whole, parts = train(tmp_path / "whole", 60), train(tmp_path / "parts", 0.5)
    assert len(whole.history) == 2 and 0 < whole.scores("flickr-tags")[-1] <= 1
    assert [{**row, "seconds": 0} for row in whole.history] == [{**row, "seconds": 0} for row in parts.history]
    with pytest.raises(Exception, match="are not those that the search started with"):
        (tmp_path / "other").mkdir()
        write_json(tmp_path / "other" / "search.json", {**asdict(plan), "dataset": {**plan.dataset, "checksum": ""}})
        start(tmp_path / "other", 1, {})
        TrialRun(tmp_path / "other", 1, flickr_run.root, cache)


def test_two_searches_do_not_share_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install -e '.[cluster]'")
    from filelock import FileLock

    from experiments.runs import cli

    folder = tmp_path / "search" / "mine"
    folder.mkdir(parents=True)
    with FileLock(folder / "search.lock"):
        assert cli.run(search.main, ["mnist", "--fast", "--runs", str(tmp_path), "--name", "mine"]) == 2
    assert "another process is searching there" in capfd.readouterr().err
