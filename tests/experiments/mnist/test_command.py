"""The MNIST experiment as a user runs it, on the embedded digits: a whole run, kills, interrupts, mistakes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from cgan import checkpoint
from experiments.mnist import __main__ as mnist
from experiments.runs import cli
from experiments.runs.folder import RunFolder
from experiments.runs.records import NUMERICS, DivergedResult, MnistResult
from tests.experiments import commands
from tests.experiments.mutations import mutate_text


def metrics(folder: Path) -> pd.DataFrame:
    """Return metrics.csv without the clock."""
    return RunFolder(folder).read_metrics().drop(columns="seconds")


def result(folder: Path) -> MnistResult:
    found = RunFolder(folder).read_result()
    assert isinstance(found, MnistResult)
    return found


def wait_for(process: subprocess.Popen[str], path: Path) -> None:
    while process.poll() is None and not path.exists():
        time.sleep(0.02)


SMALL, LENGTH = commands.SMALL_NETS, commands.SHORT

#: What is refused or shown without training runs in this process, which saves the start of another one.
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs ``experiments.mnist`` here; it returns exit status, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.run(mnist.main, [str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


def assert_refused(done: tuple[int, str, str], *words: str) -> None:
    status, _, errors = done
    assert status == 2 and errors.startswith("error: ") and len(errors.splitlines()) == 1, errors
    assert all(word in errors for word in words), errors


def test_a_run_leaves_the_files_that_the_design_names(mnist_run: Path) -> None:
    names = {path.name for path in mnist_run.iterdir()}
    pictures = {"samples", "curves", "acceptance", "label_fidelity", "neighbours", "interpolation", "parzen"}
    assert names >= {"config.json", "metrics.csv", "checkpoint.safetensors", "best.safetensors", "result.json"}
    assert names >= {f"{name}.png" for name in pictures}
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".tmp") for name in names)
    for name in pictures:
        Image.open(mnist_run / f"{name}.png").verify()
    assert metrics(mnist_run)["update"].tolist() == [40, 120, 240, 360]


def test_records_hold_what_was_trained_and_measured(mnist_run: Path) -> None:
    found, config = result(mnist_run), RunFolder(mnist_run).read_config("mnist")
    assert found.dataset.name == "digits (embedded)" and found.dataset.embedded
    assert found.stopped_by == "max_updates" and found.seed == 1 and found.updates == 360
    assert (found.parzen.n_samples, found.parzen.n_test, found.parzen.dim) == (300, 300, 784)
    assert np.isfinite([found.parzen.valid_mean, found.parzen.valid_se, found.parzen.test_mean]).all()
    table = metrics(mnist_run)
    assert found.best_update == table["update"][table["valid_log_likelihood"].idxmax()]
    assert found.weights == RunFolder(mnist_run).best_weights() and found.weights.update == found.best_update
    assert len(found.label_fidelity.per_class) == 10 and np.shape(found.acceptance.mean) == (2, 2)
    assert (config.numerics, config.fast, config.threads) == (NUMERICS, True, 1)
    assert config.changes.keys() == {
        "generator.input_branch", "generator.condition_branch", "generator.joint", "discriminator.input_branch",
        "discriminator.condition_branch", "discriminator.joint", "estimate.samples_per_class", "estimate.images",
    }  # fmt: skip
    assert config.preset_updates is not None and config.preset_updates > 360


def test_a_finished_run_is_shown_and_never_trained_on_unasked(mnist_run: Path, call: Call) -> None:
    before, root = (mnist_run / "result.json").read_bytes(), mnist_run.parents[1]
    # Also where the stopping options are left out: those of the run hold.
    for length in (LENGTH, ()):
        status, printed, _ = call("paper", *SMALL, *length, "--runs", root, "--resume")
        assert status == 0 and "is finished" in printed and "test log-likelihood" in printed
    _, printed, _ = call("paper", *SMALL, "--stopping.max-updates", 100, "--runs", root, "--resume")
    assert "trained for 360 updates, more than the 100 asked for" in printed
    assert_refused(call("paper", *SMALL, *LENGTH, "--runs", root), "finished run", "--name")
    assert (mnist_run / "result.json").read_bytes() == before


def test_going_on_past_the_end_is_announced_and_sets_the_old_result_aside(mnist_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mnist" / mnist_run.name
    shutil.copytree(mnist_run, folder)
    arguments = ("mnist", "paper", *SMALL, "--runs", tmp_path, "--resume", "--stopping.max-updates", 100_000)
    process = commands.start(*arguments)
    wait_for(process, folder / "of-update-360")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "going on from update 360, to at most 100,000" in printed and "of-update-360" in printed
    assert not (folder / "result.json").exists() and not (folder / "acceptance.png").exists()
    aside = folder / "of-update-360"
    assert (aside / "result-of-update-360.json").read_bytes() == (mnist_run / "result.json").read_bytes()
    # A shorter end than where it stands: measured as it is.
    done = commands.run(*arguments[:-1], 300)
    assert done.returncode == 0, done.stderr
    assert result(folder).updates > 360 and len(result(folder).sessions) == 3


def test_killed_at_random_and_resumed_it_ends_bit_for_bit_the_same(mnist_run: Path, tmp_path: Path) -> None:
    arguments = ("mnist", "paper", *SMALL, *LENGTH, "--runs", tmp_path, "--resume")
    folder, rng = tmp_path / "mnist" / mnist_run.name, random.Random(5)
    for _ in range(3):
        process = commands.start(*arguments)
        seen = len(RunFolder(folder).read_metrics())
        # Let it get past one more estimate, so that the resumptions really start from different checkpoints.
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline and len(RunFolder(folder).read_metrics()) <= seen:
            time.sleep(0.02)
        time.sleep(rng.random() * 0.3)
        process.kill()
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
    done = commands.run(*arguments)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(metrics(folder), metrics(mnist_run), check_exact=True)
    for name in ("best.safetensors", "checkpoint.safetensors"):
        ours, theirs = load_file(folder / name), load_file(mnist_run / name)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.numpy().tobytes() == theirs[key].numpy().tobytes(), (name, key)


def test_replicas_leave_the_runs_that_their_seeds_leave_alone(mnist_run: Path, tmp_path: Path) -> None:
    arguments = ("mnist", "paper", *SMALL, *LENGTH, "--runs", tmp_path, "--replicas", 2)
    process = commands.start(*arguments)
    folders = [tmp_path / "mnist" / f"paper-seed{seed}-digits" for seed in (1, 2)]
    wait_for(process, folders[1] / "metrics.csv")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "--replicas 2 --resume" in errors and "Traceback" not in errors
    stopped = [checkpoint.load(folder / "checkpoint.safetensors")[1]["trainer"]["t"] for folder in folders]
    assert stopped[0] == stopped[1] >= 40
    done = commands.run(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"going on from update {stopped[0]}") == 2 and "seed 2  update     360" in done.stdout
    ours, alone = metrics(folders[0]), metrics(mnist_run)
    numbers = ["update", "d_loss", "g_loss", "valid_log_likelihood", "diversity"]
    # Rounding alone sets them apart, and 360 updates let it grow.
    pd.testing.assert_frame_equal(ours[numbers], alone[numbers], rtol=1e-2)
    results = [result(folder) for folder in folders]
    assert [found.seed for found in results] == [1, 2] and results[0].sessions[0].replicas == 2
    assert results[0].parzen.test_mean != results[1].parzen.test_mean
    names = [{path.name for path in f.iterdir() if "tfevents" not in path.name} for f in (*folders, mnist_run)]
    assert names[0] == names[1] == names[2]


def test_ctrl_c_saves_and_prints_a_command_that_goes_on(tmp_path: Path) -> None:
    arguments = ("mnist", "paper", *SMALL, "--runs", tmp_path, "--stopping.first-estimate", 20)
    process = commands.start(*arguments)
    folder = tmp_path / "mnist" / "paper-seed1-digits"
    wait_for(process, folder / "metrics.csv")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    update = checkpoint.load(folder / "checkpoint.safetensors")[1]["trainer"]["t"]
    assert update >= 20
    printed = errors.strip().splitlines()[-1].strip()
    again = subprocess.run(
        f"{printed} --stopping.max-updates {update + 5}",
        shell=True,
        cwd=commands.ROOT,
        env=commands.environment(),
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert f"going on from update {update:,}" in again.stdout
    # The command printed at the end runs as well.
    sample = next(line for line in again.stdout.splitlines() if line.startswith("more images: "))
    typed = f"{sample.removeprefix('more images: ')} --out {tmp_path / 'grid.png'}"
    assert subprocess.run(typed, shell=True, cwd=commands.ROOT, env=commands.environment()).returncode == 0
    assert (tmp_path / "grid.png").exists()


def test_resuming_another_run_is_refused(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "mnist" / "x"
    shutil.copytree(mnist_run, folder)
    same = ("paper", *SMALL, *LENGTH, "--runs", tmp_path, "--name", "x", "--resume")
    for changes, word in (
        (("--training.decay", "1.001"), "training.decay"),
        (("--seed", "2"), "seed"),
        (("--precision", "bfloat16"), "precision"),
        (("--no-fast",), "fast"),
    ):
        assert_refused(call(*same, *changes), word)
    (folder / "result.json").unlink()
    before = (folder / "checkpoint.safetensors").read_bytes()
    assert_refused(call(*same[:-1]), "unfinished run", "--resume")
    assert_refused(call(*same, "--training.learning-rate", "0.2"), "learning_rate")
    config = json.loads((mnist_run / "config.json").read_text()) | {"numerics": 0}
    (folder / "config.json").write_text(json.dumps(config))
    assert_refused(call(*same), "older revision", "another --name")
    assert (folder / "checkpoint.safetensors").read_bytes() == before


def test_two_processes_never_mix_in_one_folder(call: Call, tmp_path: Path) -> None:
    arguments = ("paper", *SMALL, "--runs", tmp_path, "--name", "same", "--stopping.max-updates", 100_000)
    first = commands.start("mnist", *arguments, "--seed", 1)
    wait_for(first, tmp_path / "mnist" / "same" / "config.json")
    for options in (("--seed", 2), ("--seed", 1, "--resume")):
        assert_refused(call(*arguments, *options), "another process is at work")
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 130 and RunFolder(tmp_path / "mnist" / "same").read_config().seed == 1


def test_the_plain_update_trains_as_well(mnist_run: Path, tmp_path: Path) -> None:
    arguments = ("--runs", tmp_path, "--no-fast", "--stopping.max-updates", 40, "--stopping.first-estimate", 40)
    done = commands.run("mnist", "paper", *SMALL, *arguments)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "mnist" / "paper-seed1-digits"
    assert RunFolder(folder).read_config().fast is False
    # Other masks, the same algorithm: after 40 updates the losses are still alike.
    assert metrics(folder)["d_loss"][0] == pytest.approx(metrics(mnist_run)["d_loss"][0], rel=0.05)


def test_training_on_real_digits_improves_the_likelihood(tmp_path: Path) -> None:
    """The unconditional net at a small size: it starts from the mean image and noise."""
    done = commands.run(
        "mnist", "gan", "--dataset", "digits", "--threads", 1, "--runs", tmp_path,
        "--generator.joint", "relu:200", "relu:200", "--discriminator.joint", "maxout:60x3,dropout=0.5",
        "--generator.output-bias", "zero", "--estimate.images", 200, "--estimate.samples-per-class", 60,
        "--stopping.first-estimate", 1, "--stopping.estimate-every", 500, "--stopping.max-updates", 1000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "mnist" / "gan-seed1-digits"
    scores = metrics(folder)["valid_log_likelihood"]
    assert scores[1:].max() > scores[0] + 200
    assert result(folder).acceptance is None and result(folder).dropout_on is None
    commands.assert_one_sentence(commands.run("sample", folder, "--dropout"), "no dropout", "--dropout")


def test_a_diverging_run_stops_with_one_sentence_and_is_recorded(call: Call, tmp_path: Path) -> None:
    arguments = ("mnist", "paper", *SMALL, "--runs", tmp_path, "--training.learning-rate", "1e6")
    done = commands.run(*arguments, "--stopping.max-updates", 2000, "--stopping.first-estimate", 1900)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "learning_rate" in last
    found = RunFolder(tmp_path / "mnist" / "paper-seed1-digits").read_result()
    assert isinstance(found, DivergedResult) and found.reason in last
    status, printed, _ = call(*arguments[1:], "--resume")
    assert status == 2 and "diverged at update" in printed


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="limits of file sizes are POSIX's")
def test_a_full_disk_names_the_file_and_how_to_go_on(tmp_path: Path) -> None:
    """A limit on file sizes gives the same kind of error as a full disk, in the middle of training."""
    arguments = ["paper", *SMALL, *LENGTH, "--runs", str(tmp_path)]
    program = (
        "import resource, signal, sys; from experiments.mnist import __main__ as m; from experiments.runs import cli\n"
        "from experiments.mnist.evaluate import Estimator\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "estimate = Estimator.__call__\n"
        "def call(self, trainer):\n"
        "    if trainer.t > 100: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))\n"
        "    return estimate(self, trainer)\n"
        "Estimator.__call__ = call\n"
        "sys.exit(cli.run(m.main, sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=commands.environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "safetensors" in last and "last checkpoint there is whole" in last
    assert commands.run("mnist", *arguments, "--resume").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data-root", "/nowhere/at/all"), ("/nowhere/at/all", "does not exist")),
        (("--device", "cuda:77"), ("cuda:77",)),
        (("--training.learning-rate", "-1"), ("learning_rate",)),
        (("--generator.joint", "relu:0"), ("units",)),
        (("--generator.joint", "relu:100000000000"), ("joint", "weights", "GB")),
        (("--generator.condition", "none"), ("condition",)),
        (("--training.batch-size", "5000"), ("batch_size",)),
        (("--generator.joint", "relu:8,batch_norm", "--training.batch-size", "1"), ("batch_size", "batch norm")),
        (("--threads", "-1"), ("threads",)),
        (("--replicas", "0"), ("--replicas",)),
        (("--replicas", "1000000000"), ("--replicas",)),
        (("--replicas", "2", "--training.optimiser", "adam"), ("one by one",)),
        (("--name", "../elsewhere"), ("--name",)),
        (("--name", ".."), ("--name",)),
        (("--estimate.samples-per-class", "5"), ("samples_per_class",)),
        (("--estimate.samples-per-class", "1000000000"), ("samples_per_class",)),
    ],
)
def test_mistakes_get_one_sentence_and_leave_nothing(
    arguments: tuple[str, ...], words: tuple[str, ...], call: Call, tmp_path: Path
) -> None:
    dataset = () if "--data-root" in arguments else ("--dataset", "digits")
    assert_refused(call("paper", *dataset, *arguments, "--runs", tmp_path / "runs"), *words)
    assert not (tmp_path / "runs").exists()


def test_help_names_every_preset_and_loads_no_torch() -> None:
    done = commands.run("mnist", "--help")
    assert done.returncode == 0 and all(name in done.stdout for name in ("paper", "paper-literal", "gan", "tutorial"))
    loaded = (
        "import sys, experiments.mnist.__main__, experiments.mnist.sample, experiments.reproduce\n"
        "print({'torch', 'pandas', 'matplotlib', 'sklearn', 'gensim'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True)
    assert found.stdout.strip() == "set()", found
    commands.assert_one_sentence(commands.run("mnist", "papr"), "did you mean paper?")


@pytest.mark.parametrize("name", ["config.json", "result.json", "checkpoint.safetensors"])
def test_changed_records_are_resumed_or_refused_and_left(
    mnist_run: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, rng = tmp_path / "mnist" / "x", random.Random(3)
    folder.mkdir(parents=True)
    arguments = ["paper", *SMALL, *LENGTH, "--runs", str(tmp_path), "--name", "x", "--resume"]
    files = ["config.json", "result.json", "best.safetensors"]
    record: Any = None
    if name.endswith("json"):
        record = json.loads((mnist_run / name).read_text())
    else:
        tensors, record = checkpoint.load(mnist_run / name)
        files = ["config.json", "best.safetensors", "classifier.safetensors"]
    for _ in range(60 if name.endswith("json") else 25):
        for file in files:
            shutil.copy(mnist_run / file, folder / file)
        changed = mutate_text(record, rng)
        if name.endswith("json"):
            (folder / name).write_bytes(changed)
        else:
            try:
                values = json.loads(changed)
                assert isinstance(values, dict)
                checkpoint.save(folder / name, tensors, values)
            except (ValueError, AssertionError, RecursionError, TypeError):
                continue
            if values.get("progress") == record["progress"] and values.get("trainer") == record["trainer"]:
                continue  # It would train or measure.
        status = cli.run(mnist.main, arguments)
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert status in (0, 2) and len(errors) == (1 if status == 2 else 0)
        if status == 2:
            assert str(folder) in errors[0]
