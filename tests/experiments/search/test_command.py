"""A search as a user runs it, on a real local Ray: processes killed, trials lost, the best one trained."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.digits import load_digits_28
from experiments.mnist.presets import MNIST_PRESETS, on_digits
from experiments.runs import cli
from experiments.runs.files import write_json
from experiments.runs.folder import RunFolder
from experiments.runs.records import DatasetRecord
from experiments.search import __main__ as search
from experiments.search.trials import Places, Plan, Trial, TrialRecord, read_trials, stopping_bar, winner
from tests.experiments import commands, flickr_runs
from tests.experiments.conftest import Call
from tests.experiments.word_vectors.test_command import children_of

pytest.importorskip("ray", reason="needs the extra: pip install -e '.[cluster]'")
from experiments.search.on_ray import open_trial
from experiments.search.space import Space, parse_space, propose, with_values
from experiments.search.summary import importance, write_summary

PAPER = MNIST_PRESETS["paper"]()
SPACE = {
    "generator.input_branch": {"choice": ["relu:16", "relu:32,dropout=0.5"]},
    "generator.condition_branch": "relu:16",
    "generator.joint": "relu:48",
    "discriminator.input_branch": "maxout:24x3,dropout=0.5",
    "discriminator.condition_branch": "maxout:8x3",
    "discriminator.joint": "maxout:24x2",
    "discriminator.input_dropout": {"uniform": [0, 0.5]},
    # The second ends in NaN, and the second size of batches is greater than the data set.
    "training.learning_rate": {"choice": [0.1, 1e12]},
    "training.batch_size": {"choice": [100, 5000]},
}
EPOCHS, EVERY, COLUMN = 40, 10, "valid_log_likelihood"
ENDS = ["finished", "finished", "diverged", "crashed"]


def seed_for(space: Space) -> int:
    """The first seed whose random proposals end as ``ENDS``."""

    def end(seed: int, number: int) -> str:
        values = propose(space, [], "random", seed, number)
        failed = "diverged" if values["training.learning_rate"] > 1 else "finished"
        return "crashed" if values["training.batch_size"] == 5000 else failed

    return next(s for s in range(10_000) if [end(s, number + 1) for number in range(len(ENDS))] == ENDS)


def workers(pid: int) -> set[int]:
    """Processes below that one in which Ray trains trials."""
    found = set()
    for child in children_of(pid):
        with contextlib.suppress(OSError):  # It has just ended.
            if b"Trainable" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(child)
            found |= workers(child)
    return found


def estimates(folder: Path) -> list[dict[str, Any]]:
    """A run's rows so far, without the clock."""
    rows = RunFolder(folder).read_metrics()
    return rows.drop(columns=["seconds", "dataset"], errors="ignore").fillna("").to_dict("records")


def test_a_killed_worker_a_killed_driver_and_a_signal_lose_no_trial(tmp_path: Path, call: Call) -> None:
    file = tmp_path / "space.json"
    file.write_text(json.dumps(SPACE))
    seed = seed_for(parse_space(SPACE, PAPER, "space"))
    arguments = (
        "search", "mnist", "paper", "--fast", "--space", file, "--searcher", "random", "--seed", seed, "--trials", 4,
        "--epochs", EPOCHS, "--estimate-epochs", EVERY, "--grace-epochs", EVERY, "--keep", 1, "--parallel", 1,
        "--precision", "float32", "--runs", tmp_path, "--name", "small", "--resume",
    )  # fmt: skip
    folder = tmp_path / "search" / "small"
    places = Places(folder, tmp_path, tmp_path)

    def unfinished() -> list[Path]:
        return [trial.folder for trial in read_trials(places).values() if not trial.over]

    process = commands.start(*arguments)
    commands.wait_until(lambda: estimates(places.trial(1)) and workers(process.pid), process)
    killed = workers(process.pid)
    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    commands.wait_until(lambda: workers(process.pid) - killed, process)
    process.kill()
    process.communicate()
    assert unfinished()

    process = commands.start(*arguments)
    commands.wait_until(lambda: workers(process.pid), process)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=commands.PATIENCE)
    assert process.returncode == 130 and "to continue:" in errors and "Traceback" not in errors, errors
    assert any((place / "checkpoint.safetensors").exists() for place in unfinished())

    done = commands.run(*arguments)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    with open(folder / "trials.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["state"] for row in rows] == ENDS
    assert "diverged" in rows[2]["reason"] and "batch_size is 5000" in rows[3]["reason"]
    assert [row["training.batch_size"] for row in rows] == ["100", "100", "100", "5000"]
    for number in (1, 2):
        assert [row["epoch"] for row in estimates(places.trial(number))] == [*range(EVERY, EPOCHS + 1, EVERY)]
    Image.open(folder / "trials.png").verify()
    text = (folder / "trials.md").read_text()
    assert "digits (embedded)" in text and "measured on validation data, nothing on test data" in text
    assert not (folder / "ray").exists() and not list(folder.glob("trials/*/checkpoint.safetensors"))
    assert not [name for name in [*rows[0], *estimates(places.trial(1))[0]] if "test" in name]
    plan = json.loads((folder / "search.json").read_text())
    assert plan["measured_on"] == "validation data" and len(plan["sessions"]) == 3
    assert plan["settings"]["discriminator"] == on_digits(PAPER).as_dict()["discriminator"]
    commands.assert_one_sentence(call(search.main, *arguments[1:], "--keep", 0.5), "keep", "search.json")

    # The winner as a preset: the very curve that its trial had, in spite of all kills.
    best = json.loads((folder / "best.json").read_text())
    updates = len(load_digits_28().train) // 100
    again = commands.start(
        "mnist", folder / "best.json", "--seed", seed, "--dataset", "digits", "--threads", 1,
        "--precision", "float32", "--stopping.max-updates", EPOCHS * updates, "--stopping.first-estimate",
        EVERY * updates, "--stopping.estimate-every", EVERY * updates, "--stopping.patience", 1000, "--runs", tmp_path,
    )  # fmt: skip
    place = tmp_path / "mnist" / f"small-best-seed{seed}-digits"
    commands.wait_until(lambda: len(estimates(place)) == EPOCHS // EVERY, again)
    again.kill()  # What it measures at its end is tested elsewhere, and takes long.
    again.communicate()
    config = json.loads((place / "config.json").read_text())
    assert config["preset"] == "small-best" and config["preset_file"] == str(folder / "best.json")
    assert {**config["settings"], "stopping": {}} == {**best["settings"], "stopping": {}}
    assert estimates(place) == estimates(places.trial(best["search"]["trial"]))


def test_two_searches_do_not_share_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with RunFolder(tmp_path / "search" / "mine").hold():
        assert cli.run(search.main, ["mnist", "--fast", "--runs", str(tmp_path), "--name", "mine"]) == 2
    assert "another process is at work there" in capfd.readouterr().err


def test_no_trial_is_stopped_before_its_grace_or_before_others_came_as_far() -> None:
    others = [[-500.0, 10.0, 20.0], [-500.0, 30.0, 40.0], [-500.0, -400.0], [-500.0]]
    assert stopping_bar([-600.0], others, 2, 0.5) is None
    assert stopping_bar([-600.0, -600.0], others, 2, 0.5) == 10.0
    assert stopping_bar([-600.0, 10.0], others, 2, 0.5) is None
    assert stopping_bar([-600.0, 9.0, 9.0], others, 2, 0.5) is None  # Only two others have come to a third estimate.
    assert stopping_bar([-600.0, -399.0], others, 2, 1.0) is None
    assert stopping_bar([-600.0, -401.0], others, 2, 1.0) == -400.0


def plan_for(experiment: str, settings: dict[str, Any], dataset: DatasetRecord) -> Plan:
    lengths = {"epochs": 2, "grace_epochs": 1, "estimate_epochs": 1}
    compute = {"device": "cpu", "precision": "float32", "threads": 1}
    about = {"experiment": experiment, "preset": "paper", "asked": dataset.name.split()[0], "searcher": "random"}
    return Plan(settings=settings, dataset=dataset, space={}, seed=1, keep=0.5, **about, **lengths, **compute)


def test_the_summary_finds_the_setting_that_decides_and_the_best_trial(tmp_path: Path) -> None:
    record = {
        "discriminator.input_dropout": {"uniform": [0.0, 0.5]},
        "training.learning_rate": {"log_uniform": [0.01, 1.0]},
        "generator.joint": {"choice": ["relu:10", "relu:20"]},
    }
    space = parse_space(record, PAPER, "space")
    digits = DatasetRecord(name="digits (embedded)", embedded=True, checksum="")
    plan = plan_for("mnist", PAPER.as_dict(), digits)
    trials = []
    for number in range(1, 31):
        values = propose(space, [], "random", 1, number)
        score = 100 * values["discriminator.input_dropout"] + (values["generator.joint"] == "relu:20")
        state = "diverged" if number == 4 else "finished"
        rows = [{"epoch": 1.0, "seconds": 1.0, COLUMN: score}]
        trials.append(Trial(tmp_path, TrialRecord(number, values, state), rows))
    shares = importance(space, trials)
    assert sum(shares.values()) == pytest.approx(1) and max(shares, key=shares.__getitem__) == next(iter(record))
    best = max(trials, key=lambda trial: trial.history[0][COLUMN] * (trial.record.number != 4))
    assert winner(trials) is best
    write_summary(tmp_path, plan, space, trials, "the digits stand in for MNIST")
    written = json.loads((tmp_path / "best.json").read_text())
    assert written["settings"] == with_values(plan.config, best.record.values).as_dict()
    lines = (tmp_path / "trials.md").read_text().splitlines()
    assert "NOTE: the digits stand in for MNIST." in lines
    numbers = [int(line.split("|")[1]) for line in [line for line in lines if line.startswith("|")][2:]]
    assert numbers[0] == best.record.number and numbers[-1] == 4 and len(numbers) == 30


def test_a_flickr_trial_scores_validation_photos_and_goes_on_where_it_stood(flickr_run: Any, tmp_path: Path) -> None:
    from data.mirflickr import EMBEDDED, load_mirflickr

    record = json.loads((flickr_run.folder / "config.json").read_text())
    cache = flickr_run.runs / "cache"
    photos = load_mirflickr(cache / f"scenes-{flickr_runs.IMAGES}", EMBEDDED)
    scenes = DatasetRecord(name=photos.name, embedded=True, checksum=photos.checksum, images=flickr_runs.IMAGES)
    plan = plan_for("flickr-tags", record["settings"], scenes)

    def start(name: str, plan: Plan) -> Places:
        places = Places(tmp_path / name, flickr_run.root, cache)
        Trial(places.trial(1), TrialRecord(1, {"training.learning_rate": 0.05})).write()
        write_json(places.folder / "search.json", plan)
        return places

    def train(name: str, updates: int) -> list[dict[str, float]]:
        places, finished = start(name, plan), False
        while not finished:
            training = open_trial(places, 1)
            splits = training.estimate.data.splits
            assert set(splits.test) == set(splits.valid)  # No test photo is known to a trial.
            for _ in range(updates):
                if not training.finished:
                    training.trainer.step()
                    training.after_update()
            training.checkpoint()
            finished = training.finished
        (trained,) = read_trials(places).values()
        return [{**row, "seconds": 0} for row in trained.history]

    whole = train("whole", 1_000)
    assert len(whole) == 2 and 0 < whole[-1]["valid_average_precision"] <= 1
    assert train("parts", 1) == whole
    other = start("other", replace(plan, dataset=replace(scenes, checksum="")))
    with pytest.raises(Exception, match="are not those that the search started with"):
        open_trial(other, 1)
