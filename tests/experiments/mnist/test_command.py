"""The MNIST experiment as a user runs it, on the embedded digits: a whole run, kills, interrupts, mistakes."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from sklearn.neighbors import KernelDensity

from cgan import checkpoint as checkpoints
from data.digits import load_digits_28
from experiments.mnist import __main__ as mnist
from experiments.runs import cli
from tests.experiments import commands

#: Nets small enough for seconds, with every kind of layer of the paper's.
SMALL = (
    "--generator.input-branch", "relu:32,dropout=0.5",
    "--generator.condition-branch", "relu:32,dropout=0.5",
    "--generator.joint", "relu:64,dropout=0.5",
    "--discriminator.input-branch", "maxout:24x3,dropout=0.5",
    "--discriminator.condition-branch", "maxout:8x3,dropout=0.5",
    "--discriminator.joint", "maxout:24x2,dropout=0.5",
    "--estimate.samples-per-class", "30",
    "--estimate.images", "100",
    "--dataset", "digits",
    "--threads", "1",
    "--precision", "float32",
)  # fmt: skip
LENGTH = ("--stopping.max-updates", "360", "--stopping.first-estimate", "40", "--stopping.estimate-every", "120")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one whole run."""
    root = tmp_path_factory.mktemp("runs")
    done = commands.run("mnist", "paper", *SMALL, *LENGTH, "--runs", root)
    assert done.returncode == 0, done.stderr
    assert "digits (embedded)" in done.stdout and "Parzen log-likelihood: test" in done.stdout
    return root / "mnist" / "paper-seed1-digits"


def metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the clock."""
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_a_run_leaves_the_folder_that_the_design_names(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    pictures = {"samples", "curves", "acceptance", "label_fidelity", "neighbours", "interpolation", "parzen"}
    assert names >= {"config.json", "metrics.csv", "checkpoint.safetensors", "best.safetensors", "result.json"}
    assert names >= {f"{name}.png" for name in pictures}
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.startswith(".") for name in names)
    for name in pictures:
        Image.open(finished / f"{name}.png").verify()
    assert [int(row["update"]) for row in metrics(finished)] == [40, 120, 240, 360]


def test_the_result_says_what_was_measured_on_what(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert result["dataset"]["name"] == "digits (embedded)" and result["dataset"]["embedded"] is True
    assert result["status"] == "finished" and result["stopped_by"] == "max_updates" and result["seed"] == 1
    assert result["parzen"]["n_samples"] == 300 and result["parzen"]["n_test"] == 300 and result["parzen"]["dim"] == 784
    assert np.isfinite([result["parzen"][key] for key in ("valid_mean", "valid_se", "test_mean", "test_se")]).all()
    best = max(metrics(finished), key=lambda row: float(row["valid_log_likelihood"]))
    assert result["best_update"] == int(best["update"])
    assert len(result["label_fidelity"]["per_class"]) == 10 and np.shape(result["acceptance"]["mean"]) == (2, 2)
    assert isinstance(result["collapse"], list)
    assert {"command", "git_revision", "packages"} <= result["environment"].keys()


def test_a_finished_run_is_shown_and_not_run_over(finished: Path) -> None:
    before = (finished / "result.json").read_bytes()
    root = finished.parents[1]
    shown = commands.run("mnist", "paper", *SMALL, *LENGTH, "--runs", root, "--resume")
    assert shown.returncode == 0 and "is finished" in shown.stdout
    commands.assert_one_sentence(
        commands.run("mnist", "paper", *SMALL, *LENGTH, "--runs", root), "finished run", "--name"
    )
    assert (finished / "result.json").read_bytes() == before


def test_killed_at_random_and_resumed_it_ends_bit_for_bit_the_same(finished: Path, tmp_path: Path) -> None:
    arguments = ("mnist", "paper", *SMALL, *LENGTH, "--runs", tmp_path, "--resume")
    folder = tmp_path / "mnist" / finished.name
    rng = random.Random(5)
    for _ in range(3):
        process = commands.start(*arguments)
        seen = len(metrics(folder)) if (folder / "metrics.csv").exists() else 0
        # Let it get past one more estimate, so that the resumptions really start from different checkpoints.
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if (folder / "metrics.csv").exists() and len(metrics(folder)) > seen:
                break
            time.sleep(0.02)
        time.sleep(rng.random() * 0.3)
        process.kill()
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
    done = commands.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert metrics(folder) == metrics(finished)
    for name in ("best.safetensors", "checkpoint.safetensors"):
        ours, theirs = load_file(folder / name), load_file(finished / name)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.numpy().tobytes() == theirs[key].numpy().tobytes(), (name, key)


def test_replicas_leave_the_runs_that_their_seeds_leave_alone(finished: Path, tmp_path: Path) -> None:
    arguments = ("mnist", "paper", *SMALL, *LENGTH, "--runs", tmp_path, "--replicas", 2)
    process = commands.start(*arguments)
    folders = [tmp_path / "mnist" / f"paper-seed{seed}-digits" for seed in (1, 2)]
    while process.poll() is None and not (folders[1] / "metrics.csv").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "--replicas 2 --resume" in errors and "Traceback" not in errors
    at = [checkpoints.load(folder / "checkpoint.safetensors")[1]["trainer"]["t"] for folder in folders]
    assert at[0] == at[1] >= 40
    done = commands.run(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert "seed 2  update     360" in done.stdout and done.stdout.count("Parzen log-likelihood: test") == 2
    ours, alone = metrics(folders[0]), metrics(finished)
    assert len(ours) == len(alone) == len(metrics(folders[1]))
    for row, expected in zip(ours, alone, strict=True):
        numbers = ("update", "d_loss", "g_loss", "valid_log_likelihood", "variety")
        # Rounding alone sets them apart, and 360 updates let it grow.
        assert [float(row[name]) for name in numbers] == pytest.approx(
            [float(expected[name]) for name in numbers], 1e-2
        )
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert [result["seed"] for result in results] == [1, 2]
    assert results[0]["sessions"][0]["replicas"] == 2
    assert results[0]["parzen"]["test_mean"] != results[1]["parzen"]["test_mean"]
    names = [{path.name for path in folder.iterdir() if "tfevents" not in path.name} for folder in (*folders, finished)]
    assert names[0] == names[1] == names[2]
    shown = commands.run(*arguments, "--resume")
    assert shown.returncode == 0 and shown.stdout.count("is finished") == 2


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    arguments = ("mnist", "paper", *SMALL, "--runs", tmp_path, "--stopping.first-estimate", "20")
    process = commands.start(*arguments)
    folder = tmp_path / "mnist" / "paper-seed1-digits"
    while process.poll() is None and not (folder / "metrics.csv").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "python -m experiments.mnist paper" in errors and "--resume" in errors and "Traceback" not in errors
    _, record = checkpoints.load(folder / "checkpoint.safetensors")
    assert record["trainer"]["t"] >= 20
    again = commands.run(*arguments, "--resume", "--stopping.max-updates", record["trainer"]["t"] + 5)
    assert again.returncode == 0, again.stderr
    commands.assert_one_sentence(
        commands.run(*arguments, "--name", "paper-seed1-digits", "--training.batch-size", "50"), "finished run"
    )


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    short = ("mnist", "paper", *SMALL, "--runs", tmp_path, "--stopping.max-updates", "20")
    assert commands.run(*short).returncode == 0
    folder = tmp_path / "mnist" / "paper-seed1-digits"
    # A finished run is no answer to other settings, but more updates are trained on.
    commands.assert_one_sentence(commands.run(*short, "--resume", "--training.decay", "1.001"), "training.decay")
    assert commands.run(*short[:-1], "30", "--resume").returncode == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["updates"] == 30 and len(result["sessions"]) == 2
    (folder / "result.json").unlink()
    before = (folder / "checkpoint.safetensors").read_bytes()
    commands.assert_one_sentence(commands.run(*short), "unfinished run", "--resume")
    commands.assert_one_sentence(commands.run(*short, "--resume", "--training.learning-rate", "0.2"), "settings")
    assert (folder / "checkpoint.safetensors").read_bytes() == before


def test_training_on_real_digits_improves_the_likelihood(tmp_path: Path) -> None:
    """The unconditional net at a small size: what it starts from is the mean image and noise."""
    done = commands.run(
        "mnist", "gan", "--dataset", "digits", "--threads", 1, "--runs", tmp_path,
        "--generator.joint", "relu:200", "relu:200", "--discriminator.joint", "maxout:60x3,dropout=0.5",
        "--generator.output-bias", "zero", "--estimate.images", 200, "--estimate.samples-per-class", 60,
        "--stopping.first-estimate", 1, "--stopping.estimate-every", 500, "--stopping.max-updates", 1000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = metrics(tmp_path / "mnist" / "gan-seed1-digits")
    first, last = float(rows[0]["valid_log_likelihood"]), max(float(row["valid_log_likelihood"]) for row in rows[1:])
    assert last > first + 200
    folder = tmp_path / "mnist" / "gan-seed1-digits"
    assert not {"acceptance", "dropout_on"} & json.loads((folder / "result.json").read_text()).keys()
    commands.assert_one_sentence(commands.run("sample", folder, "--dropout"), "no dropout", "--dropout")


def test_a_diverging_run_stops_with_one_sentence_and_is_recorded(tmp_path: Path) -> None:
    done = commands.run(
        "mnist", "paper", *SMALL, *LENGTH, "--runs", tmp_path,
        "--training.learning-rate", "1e6", "--stopping.max-updates", 2000, "--stopping.first-estimate", 1900,
        "--stopping.estimate-every", 1900,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "learning_rate" in last
    result = json.loads((tmp_path / "mnist" / "paper-seed1-digits" / "result.json").read_text())
    assert result["status"] == "diverged" and result["reason"] in last


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data-root", "/nowhere/at/all"), ("/nowhere/at/all", "does not exist")),
        (("--dataset", "digits", "--device", "cuda:77"), ("cuda:77",)),
        (("--dataset", "digits", "--training.learning-rate", "-1"), ("learning_rate",)),
        (("--dataset", "digits", "--generator.joint", "relu:0"), ("units",)),
        (("--dataset", "digits", "--generator.condition", "none"), ("condition",)),
        (("--dataset", "digits", "--training.batch-size", "5000"), ("batch_size",)),
        (("--dataset", "digits", "--threads", "-1"), ("threads",)),
        (("--dataset", "digits", "--replicas", "0"), ("--replicas",)),
        (("--dataset", "digits", "--replicas", "2", "--training.optimiser", "adam"), ("replicas", "one by one")),
        (("--dataset", "digits", "--name", "../elsewhere"), ("--name",)),
        (("--dataset", "digits", "--estimate.samples-per-class", "5"), ("samples_per_class",)),
    ],
)
def test_mistakes_get_one_sentence(arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    done = commands.run("mnist", "paper", *arguments, "--runs", tmp_path / "runs")
    commands.assert_one_sentence(done, *words)
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_help_names_every_preset_and_loads_no_torch() -> None:
    done = commands.run("mnist", "--help")
    assert done.returncode == 0 and all(name in done.stdout for name in ("paper", "paper-literal", "gan", "tutorial"))
    loaded = "import sys, experiments.mnist, experiments.sample, experiments.parzen; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout.strip() == "False"


def test_sample_draws_a_row_per_label(finished: Path, tmp_path: Path) -> None:
    png, npy = tmp_path / "grid.png", tmp_path / "images.npy"
    done = commands.run("sample", finished, "--labels", "3,0-1", "--per-label", 4, "--out", png, "--npy", npy)
    assert done.returncode == 0 and "digits (embedded)" in done.stdout, done.stderr
    images = np.load(npy)
    assert images.shape == (12, 784) and images.dtype == np.float32 and 0 <= images.min() <= images.max() <= 1
    other = tmp_path / "other.npy"
    commands.run("sample", finished, "--labels", "3", "--per-label", 12, "--out", png, "--npy", other)
    # The same noise under another label: the rows of 3 agree, the others do not.
    assert np.array_equal(np.load(other)[:4], images[:4]) and not np.allclose(np.load(other)[4:], images[4:], atol=1e-3)


def test_the_result_tells_what_dropout_left_on_while_drawing_does(finished: Path, tmp_path: Path) -> None:
    npy, digits = tmp_path / "images.npy", load_digits_28()
    arguments = ("--seed", 1, "--per-label", 30, "--out", tmp_path / "grid.png", "--npy", npy)
    assert commands.run("sample", finished, *arguments).returncode == 0
    plain = np.load(npy)
    done = commands.run("sample", finished, *arguments, "--dropout")
    assert done.returncode == 0 and "dropout" in done.stdout, done.stderr
    images = np.load(npy).astype(np.float64)
    assert not np.allclose(images, plain, atol=1e-3)
    on = json.loads((finished / "result.json").read_text())["dropout_on"]
    # A leaf of all images, because the tree's bounds lose up to thousands of nats at 784 dimensions.
    density = KernelDensity(bandwidth=on["parzen"]["sigma"], leaf_size=len(images) + 1).fit(images)
    assert on["parzen"]["test_mean"] == pytest.approx(density.score_samples(digits.test.images).mean(), abs=3e-3)
    assert max(on["parzen"]["valid_means"]) == pytest.approx(
        density.score_samples(digits.valid.images).mean(), abs=3e-3
    )
    spread = [
        images[30 * label : 30 * (label + 1)].std(0, ddof=1).mean()
        / digits.train.images[digits.train.labels == label].astype(np.float64).std(0, ddof=1).mean()
        for label in range(10)
    ]
    assert on["variety"]["per_class"] == pytest.approx(spread, rel=1e-4)
    assert len(on["label_fidelity"]["per_class"]) == 10


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", None),
        ("config.json", {"settings": "none"}),
        ("config.json", {"sessions": 5}),
        ("config.json", {"threads": "two"}),
        ("result.json", None),
        ("result.json", {"updates": "many"}),
        ("result.json", {"parzen": None}),
    ],
)
def test_a_run_with_a_damaged_record_is_refused_and_left(
    finished: Path, name: str, changes: dict[str, Any] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mnist" / "x"
    folder.mkdir(parents=True)
    for file in ("config.json", "result.json"):
        shutil.copy(finished / file, folder / file)
    record = {} if changes is None else json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps(record))
    arguments = ["paper", *SMALL, *LENGTH, "--runs", str(tmp_path), "--name", "x", "--resume"]
    assert cli.run(mnist.main, arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and str(folder / name) in errors and len(errors.splitlines()) == 1
    assert json.loads((folder / name).read_text()) == record and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--labels", "0-12"), "0-9"),
        (("--labels", "a"), "0-9"),
        (("--per-label", "0"), "at least 1"),
        (("--per-label", "1000000000"), "at most 10,000"),
        (("--out", "grid.png", "--npy", "./grid.png"), "another name"),
        (("--npy", "tests"), "that is a folder"),
        (("--out", "nowhere/grid.png"), "folder"),
        (("--out", "grid.jpg"), ".png"),
    ],
)
def test_sample_refuses_in_one_sentence(finished: Path, arguments: tuple[str, ...], word: str, tmp_path: Path) -> None:
    commands.assert_one_sentence(commands.run("sample", finished, "--out", tmp_path / "g.png", *arguments), word)
    assert not list(tmp_path.iterdir())


def test_sample_refuses_damaged_and_foreign_runs(finished: Path, tmp_path: Path) -> None:
    commands.assert_one_sentence(commands.run("sample", tmp_path / "none"), "no such folder")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((finished / "config.json").read_bytes())
    commands.assert_one_sentence(commands.run("sample", broken), "best.safetensors", "no such")
    (broken / "best.safetensors").write_bytes((finished / "best.safetensors").read_bytes()[:-100])
    commands.assert_one_sentence(commands.run("sample", broken), "best.safetensors", "damaged")
    config = json.loads((finished / "config.json").read_text())
    config["settings"]["generator"]["joint"] = ["relu:65"]
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "best.safetensors").write_bytes((finished / "best.safetensors").read_bytes())
    commands.assert_one_sentence(commands.run("sample", broken), "another spec")
