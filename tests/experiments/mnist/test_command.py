"""The MNIST experiment as a user runs it, on the embedded digits: a whole run, kills, interrupts, mistakes."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from cgan import checkpoint
from cgan.loop import Estimate
from cgan.specs import LAYER_FIELDS
from cgan.trainer import Trainer
from experiments.mnist import __main__ as mnist
from experiments.mnist import evaluate, sample
from experiments.mnist.evaluate import CLASSIFIER, Estimator
from experiments.runs.folder import RunFolder
from experiments.runs.records import NUMERICS, DivergedResult, MnistResult
from tests.experiments import commands
from tests.experiments.commands import assert_one_sentence, wait_until
from tests.experiments.conftest import Call
from tests.experiments.mutations import fuzz_count, mutate_text

SMALL, LENGTH = commands.SMALL_NETS, commands.SHORT


def metrics(folder: Path) -> pd.DataFrame:
    """Return metrics.csv without the clock."""
    return RunFolder(folder).read_metrics().drop(columns="seconds")


def result(folder: Path) -> MnistResult:
    found = RunFolder(folder).read_result()
    assert isinstance(found, MnistResult)
    return found


def estimates(folder: Path) -> int:
    return len(RunFolder(folder).read_metrics())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without figures, whose drawing takes longer than a short run; where files are compared they are drawn."""
    monkeypatch.setattr(evaluate, "draw_figures", lambda *_: None)


def folder_with_classifier(mnist_run: Path, runs: Path, name: str = "paper-seed1-digits") -> Path:
    """Make the folder of a run with the classifier in it, which takes seconds to train."""
    folder = runs / "mnist" / name
    folder.mkdir(parents=True)
    shutil.copy(mnist_run / CLASSIFIER, folder)
    return folder


def test_a_run_leaves_the_files_that_the_design_names(mnist_run: Path) -> None:
    names = {path.name for path in mnist_run.iterdir()}
    pictures = {"samples", "curves", "acceptance", "label_fidelity", "neighbours", "interpolation", "parzen"}
    assert names >= {"config.json", "metrics.csv", "checkpoint.safetensors", "best.safetensors", "result.json"}
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".tmp") for name in names)
    for name in pictures:
        Image.open(mnist_run / f"{name}.png").verify()
    found, config, table = result(mnist_run), RunFolder(mnist_run).read_config("mnist"), metrics(mnist_run)
    assert found.dataset.name == "digits (embedded)" and found.dataset.embedded
    assert found.stopped_by == "max_updates" and found.seed == 1 and found.updates == 360
    assert (found.parzen.n_samples, found.parzen.n_test, found.parzen.dim) == (300, 300, 784)
    assert np.isfinite([found.parzen.valid_mean, found.parzen.valid_se, found.parzen.test_mean]).all()
    assert table["update"].tolist() == [40, 120, 240, 360]
    assert found.best_update == table["update"][table["valid_log_likelihood"].idxmax()]
    assert found.weights == RunFolder(mnist_run).best_weights() and found.weights.update == found.best_update
    assert len(found.label_fidelity.per_class) == 10 and np.shape(found.acceptance.mean) == (2, 2)
    assert (config.numerics, config.fast, config.threads) == (NUMERICS, True, 1)
    branches = {f"{net}.{part}" for net in ("generator", "discriminator") for part in LAYER_FIELDS}
    assert config.changes.keys() == branches | {"estimate.samples_per_class", "estimate.images"}
    assert config.preset_updates is not None and config.preset_updates > 360


@pytest.mark.usefixtures("undrawn")
def test_settings_are_chosen_without_a_look_at_the_test_images(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    """A run like any other, but that its figures are of the validation images; training knows nothing of it."""
    folder = folder_with_classifier(mnist_run, tmp_path, "chosen")
    chosen = "--estimate.measured-on", "validation", "--name", "chosen", "--runs", tmp_path
    done = call(mnist.main, "paper", *SMALL, *LENGTH, *chosen)
    assert done.returncode == 0 and "validation log-likelihood" in done.stdout
    assert not re.search("test (log|digits)", done.stdout)
    found, of_test = result(folder), result(mnist_run)
    assert (found.measured_on, of_test.measured_on) == ("validation", "test")
    pd.testing.assert_frame_equal(metrics(folder), metrics(mnist_run))
    assert found.parzen.test_mean == pytest.approx(found.parzen.valid_mean, abs=1e-9)
    assert of_test.parzen.valid_mean == pytest.approx(found.parzen.valid_mean, abs=1e-9)
    assert of_test.parzen.test_mean != pytest.approx(of_test.parzen.valid_mean, abs=1e-3)


def test_a_finished_run_is_shown_and_never_trained_on_unasked(mnist_run: Path, call: Call) -> None:
    before, root = (mnist_run / "result.json").read_bytes(), mnist_run.parents[1]
    # Also where the stopping options are left out: those of the run hold.
    for length in (LENGTH, ()):
        done = call(mnist.main, "paper", *SMALL, *length, "--runs", root, "--resume")
        assert done.returncode == 0 and "is finished" in done.stdout and "test log-likelihood" in done.stdout
    done = call(mnist.main, "paper", *SMALL, "--stopping.max-updates", 100, "--runs", root, "--resume")
    assert "trained for 360 updates, more than the 100 asked for" in done.stdout
    assert_one_sentence(call(mnist.main, "paper", *SMALL, *LENGTH, "--runs", root), "finished run", "--name")
    assert (mnist_run / "result.json").read_bytes() == before


def test_an_interrupted_run_goes_on_as_it_prints(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    """A finished run trained on past its end, which sets its result aside; alone in its folder until Ctrl-C."""
    folder = Path(shutil.copytree(mnist_run, tmp_path / "mnist" / "x"))
    arguments = ("paper", *SMALL, "--runs", tmp_path, "--name", "x", "--stopping.max-updates", 99_999)
    process = commands.start("mnist", *arguments, "--resume")
    wait_until(lambda: estimates(folder) > 4, process)
    for options in (("--seed", 2), ("--resume",)):
        assert_one_sentence(call(mnist.main, *arguments, *options), "another process is at work")
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=commands.PATIENCE)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "going on from update 360, to at most 99,999" in printed and "of-update-360" in printed
    assert not (folder / "result.json").exists() and not (folder / "acceptance.png").exists()
    aside = folder / "of-update-360" / "result-of-update-360.json"
    assert aside.read_bytes() == (mnist_run / "result.json").read_bytes()
    update = checkpoint.load(folder / "checkpoint.safetensors")[1]["trainer"]["t"]
    assert update > 360
    # Asked for a shorter end than where it stands, the printed command measures it as it is.
    again = commands.shell(errors.strip().splitlines()[-1].replace("99999", "300"))
    assert again.returncode == 0, again.stderr
    assert f"going on from update {update:,}" in again.stdout
    assert result(folder).updates == update and len(result(folder).sessions) == 3
    # The command printed at the end runs as well.
    (line,) = (line for line in again.stdout.splitlines() if line.startswith("more images: "))
    module, *options = shlex.split(line.partition(" -m ")[2])
    assert module == "experiments.sample"
    assert call(sample.main, *options, "--out", tmp_path / "grid.png").returncode == 0
    assert (tmp_path / "grid.png").exists()


@pytest.mark.usefixtures("undrawn")
def test_killed_at_random_and_resumed_it_ends_bit_for_bit_the_same(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    arguments = ("paper", *SMALL, *LENGTH, "--runs", tmp_path, "--resume")
    folder = folder_with_classifier(mnist_run, tmp_path)
    process = commands.start("mnist", *arguments)
    wait_until(lambda: estimates(folder) > 1, process)
    time.sleep(random.random() * 0.2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = call(mnist.main, *arguments)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(metrics(folder), metrics(mnist_run), check_exact=True)
    for name in ("best.safetensors", "checkpoint.safetensors"):
        ours, theirs = load_file(folder / name), load_file(mnist_run / name)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.numpy().tobytes() == theirs[key].numpy().tobytes(), (name, key)


def test_replicas_leave_the_runs_that_their_seeds_leave_alone(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    arguments = ("paper", *SMALL, *LENGTH, "--runs", tmp_path, "--replicas", 2)
    folders = [folder_with_classifier(mnist_run, tmp_path, f"paper-seed{seed}-digits") for seed in (1, 2)]
    process = commands.start("mnist", *arguments)
    wait_until((folders[1] / "metrics.csv").exists, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=commands.PATIENCE)
    assert process.returncode == 130 and "--replicas 2 --resume" in errors and "Traceback" not in errors
    stopped = [checkpoint.load(folder / "checkpoint.safetensors")[1]["trainer"]["t"] for folder in folders]
    assert stopped[0] == stopped[1] >= 40
    done = call(mnist.main, *arguments, "--resume")
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


def test_resuming_another_run_is_refused(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "mnist" / "x"
    shutil.copytree(mnist_run, folder)
    same = (mnist.main, "paper", *SMALL, *LENGTH, "--runs", tmp_path, "--name", "x", "--resume")
    for changes, word in (
        (("--training.decay", "1.001"), "training.decay"),
        (("--seed", "2"), "seed"),
        (("--precision", "bfloat16"), "precision"),
        (("--no-fast",), "fast"),
    ):
        assert_one_sentence(call(*same, *changes), word)
    (folder / "result.json").unlink()
    before = (folder / "checkpoint.safetensors").read_bytes()
    assert_one_sentence(call(*same[:-1]), "unfinished run", "--resume")
    assert_one_sentence(call(*same, "--training.learning-rate", "0.2"), "learning_rate")
    config = json.loads((mnist_run / "config.json").read_text()) | {"numerics": 0}
    (folder / "config.json").write_text(json.dumps(config))
    assert_one_sentence(call(*same), "older revision", "another --name")
    (folder / "config.json").write_bytes(b"")  # As a power cut may leave it.
    assert_one_sentence(call(*same, "--seed", "2"), "checkpoint.safetensors", "seed")
    assert (folder / "checkpoint.safetensors").read_bytes() == before
    (folder / "config.json").write_bytes(b"")
    done = call(*same)
    assert done.returncode == 0 and "config.json is empty" in done.stdout, done.stderr
    assert RunFolder(folder).read_result().parzen == RunFolder(mnist_run).read_result().parzen


def test_the_plain_update_trains_as_well_and_needs_nothing_of_the_fast_one(mnist_run: Path, tmp_path: Path) -> None:
    folder = folder_with_classifier(mnist_run, tmp_path)
    without = "import sys; sys.modules['cgan.fast'] = None; from experiments.mnist import __main__ as mnist"
    length = ("--stopping.max-updates", "40", "--stopping.first-estimate", "40")
    command = [sys.executable, "-c", f"{without}; mnist.main(sys.argv[1:])", "paper", *SMALL, "--no-fast", *length]
    command += ["--runs", str(tmp_path)]
    done = subprocess.run(command, cwd=commands.ROOT, env=commands.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert RunFolder(folder).read_config().fast is False
    # Other masks, the same algorithm: after 40 updates the losses are still alike.
    assert metrics(folder)["d_loss"][0] == pytest.approx(metrics(mnist_run)["d_loss"][0], rel=0.05)


@pytest.mark.usefixtures("undrawn")
def test_training_on_real_digits_improves_the_likelihood(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    """The unconditional net at a small size: it starts from the mean image and noise."""
    folder = folder_with_classifier(mnist_run, tmp_path, "gan-seed1-digits")
    done = call(
        mnist.main, "gan", "--dataset", "digits", "--threads", 1, "--runs", tmp_path,
        "--generator.joint", "relu:200", "relu:200", "--discriminator.joint", "maxout:60x3,dropout=0.5",
        "--generator.output-bias", "zero", "--estimate.images", 200, "--estimate.samples-per-class", 60,
        "--stopping.first-estimate", 1, "--stopping.estimate-every", 350, "--stopping.max-updates", 700,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = metrics(folder)["valid_log_likelihood"]
    assert scores[1:].max() > scores[0] + 200
    assert result(folder).acceptance is None and result(folder).dropout_on is None
    assert_one_sentence(call(sample.main, folder, "--dropout"), "no dropout", "--dropout")


def test_a_diverging_run_stops_with_one_sentence_and_is_recorded(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    folder = folder_with_classifier(mnist_run, tmp_path)
    arguments = (mnist.main, "paper", *SMALL, "--runs", tmp_path, "--training.learning-rate", "1e6")
    done = call(*arguments, "--stopping.max-updates", 2000, "--stopping.first-estimate", 1900)
    assert_one_sentence(done, "learning_rate")
    found = RunFolder(folder).read_result()
    assert isinstance(found, DivergedResult) and found.reason in done.stderr
    again = call(*arguments, "--resume")
    assert again.returncode == 2 and "diverged at update" in again.stdout


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="limits of file sizes are POSIX's")
@pytest.mark.usefixtures("undrawn")
def test_a_full_disk_names_the_file_and_how_to_go_on(
    mnist_run: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on file sizes gives the same kind of error as a full disk, in the middle of training."""
    folder_with_classifier(mnist_run, tmp_path)
    arguments = ["paper", *SMALL, "--stopping.max-updates", 120, "--stopping.first-estimate", 40, "--runs", tmp_path]
    arguments += ["--stopping.estimate-every", 80]
    limits, estimate = resource.getrlimit(resource.RLIMIT_FSIZE), Estimator.__call__

    def fill(self: Estimator, trainer: Trainer) -> Estimate:
        if trainer.t > 40:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        return estimate(self, trainer)

    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Estimator, "__call__", fill)
            done = call(mnist.main, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "safetensors" in last and "last checkpoint there is whole" in last
    done = call(mnist.main, *arguments, "--resume")
    assert done.returncode == 0 and "going on from update 40" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data-root", "/nowhere/at/all"), ("/nowhere/at/all", "does not exist")),
        (("--device", "cuda:77"), ("cuda:77",)),
        (("--generator.joint", "relu:100000000000"), ("joint", "weights", "GB")),
        (("--training.batch-size", "5000"), ("batch_size",)),
        (("--generator.joint", "relu:8,batch_norm", "--training.batch-size", "1"), ("batch_size", "batch norm")),
        (("--replicas", "1000000000"), ("--replicas",)),
        (("--replicas", "2", "--training.optimiser", "adam"), ("one by one",)),
        (("--name", "../elsewhere"), ("--name",)),
    ],
)
def test_mistakes_get_one_sentence_and_leave_nothing(
    arguments: tuple[str, ...], words: tuple[str, ...], call: Call, tmp_path: Path
) -> None:
    dataset = () if "--data-root" in arguments else ("--dataset", "digits")
    assert_one_sentence(call(mnist.main, "paper", *dataset, *arguments, "--runs", tmp_path / "runs"), *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["config.json", "result.json", "checkpoint.safetensors"])
def test_changed_records_are_resumed_or_refused_and_left(
    mnist_run: Path, name: str, tmp_path: Path, call: Call
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
    for _ in range(fuzz_count(20)):
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
        done = call(mnist.main, *arguments)
        if done.returncode:
            assert_one_sentence(done, str(folder))
