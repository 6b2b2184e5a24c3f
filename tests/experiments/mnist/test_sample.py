"""``experiments.sample``: rows of labels, the array beside the figure, and refusals of damaged and foreign runs."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from cgan import CganError, checkpoint
from data.digits import load_digits_28
from experiments import UsageError
from experiments.generators import load_generator
from experiments.mnist import sample
from experiments.mnist.evaluate import measure_run
from experiments.mnist.sample import parse_labels
from experiments.runs.folder import RunFolder, identity
from tests.experiments import commands
from tests.experiments.conftest import Call
from tests.experiments.mutations import fuzz_count, mutate


def test_a_row_per_label(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    png, npy = tmp_path / "grid.png", tmp_path / "images.npy"
    done = call(sample.main, mnist_run, "--labels", "3,0-1", "--per-label", 4, "--out", png, "--npy", npy)
    assert done.returncode == 0 and "digits (embedded)" in done.stdout, done.stderr
    images = np.load(npy)
    assert images.shape == (12, 784) and images.dtype == np.float32 and 0 <= images.min() <= images.max() <= 1
    other = tmp_path / "other.npy"
    # As after `make mnist` without a connection: the run's name lacks -digits.
    short = mnist_run.with_name(mnist_run.name.removesuffix("-digits"))
    done = call(sample.main, short, "--labels", "3", "--per-label", 12, "--out", png, "--npy", other)
    assert done.returncode == 0 and "embedded digits" in done.stdout
    # The same noise under another label: the rows of 3 agree, the rest does not.
    assert np.array_equal(np.load(other)[:4], images[:4]) and not np.allclose(np.load(other)[4:], images[4:], atol=1e-3)


def test_the_result_holds_what_dropout_left_on_does(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    npy, digits = tmp_path / "images.npy", load_digits_28()
    arguments = ("--seed", 1, "--per-label", 30, "--out", tmp_path / "grid.png", "--npy", npy)
    assert call(sample.main, mnist_run, *arguments).returncode == 0
    plain = np.load(npy)
    done = call(sample.main, mnist_run, *arguments, "--dropout")
    assert done.returncode == 0 and "dropout" in done.stdout, done.stderr
    images = np.load(npy).astype(np.float64)
    assert not np.allclose(images, plain, atol=1e-3)
    on = json.loads((mnist_run / "result.json").read_text())["dropout_on"]
    # A leaf of all images, because the tree's bounds lose up to thousands of nats at 784 dimensions.
    density = KernelDensity(bandwidth=on["parzen"]["sigma"], leaf_size=len(images) + 1).fit(images)
    assert on["parzen"]["test_mean"] == pytest.approx(density.score_samples(digits.test.images).mean(), abs=3e-3)
    assert max(on["parzen"]["valid_means"]) == pytest.approx(
        density.score_samples(digits.valid.images).mean(), abs=3e-3
    )
    deviation = [
        images[30 * label : 30 * (label + 1)].std(0, ddof=1).mean()
        / digits.train.images[digits.train.labels == label].astype(np.float64).std(0, ddof=1).mean()
        for label in range(10)
    ]
    assert on["diversity"]["per_class"] == pytest.approx(deviation, rel=1e-4)
    assert len(on["label_fidelity"]["per_class"]) == 10
    done = call(sample.main, mnist_run, *arguments, "--dropout-rate", 0.5)  # That of training.
    assert done.returncode == 0 and "at a rate of 0.5" in done.stdout and np.array_equal(np.load(npy), images)
    assert call(sample.main, mnist_run, *arguments, "--dropout-rate", 0.05).returncode == 0
    assert abs(np.load(npy) - plain).mean() < abs(images - plain).mean()


def test_a_run_is_drawn_and_measured_with_the_dropout_that_its_settings_state(
    mnist_run: Path, call: Call, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(mnist_run, run)
    before, npy = json.loads((run / "result.json").read_text()), tmp_path / "images.npy"

    def drawn(*more: object) -> np.ndarray:
        done = call(sample.main, run, "--per-label", 3, "--out", tmp_path / "grid.png", "--npy", npy, *more)
        assert done.returncode == 0, done.stderr
        return np.load(npy)

    off, on, low = drawn("--dropout-rate", 0), drawn("--dropout"), drawn("--dropout-rate", 0.05)
    assert np.array_equal(drawn(), off)
    config = json.loads((run / "config.json").read_text())
    for sampling, expected in (({"dropout": True, "dropout_rate": 0.05}, low), ({"dropout": True}, on)):
        config["settings"]["sampling"] = sampling
        (run / "config.json").write_text(json.dumps(config))
        folder = RunFolder(run)  # The same weights, as of a run that was trained with this setting.
        tensors, record = checkpoint.load(folder.best_path)
        checkpoint.save(folder.best_path, tensors, record | {"identity": identity(folder.read_config())})
        assert np.array_equal(drawn(), expected) and np.array_equal(drawn("--dropout-rate", 0), off)
    measured = msgspec.to_builtins(measure_run(folder, load_digits_28()))
    assert measured["sampling"] == {"dropout": True, "dropout_rate": None}
    for name in ("parzen", "diversity", "label_fidelity"):
        assert measured[name] == before["dropout_on"][name] != before[name], "the same noise and masks"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--labels", "0-12"), "0-9"),
        (("--per-label", "1000000000"), "1 to 10,000"),
        (("--npy", "tests"), "that is a folder"),
        (("--out", "grid.jpg"), ".png"),
        (("--dropout-rate", "1.0"), "0 (off) to below 1"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(
    mnist_run: Path, arguments: tuple[str, ...], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    with pytest.raises(UsageError, match=re.escape(word)):
        sample.main([str(mnist_run), "--out", "g.png", *arguments])
    assert [path.name for path in tmp_path.iterdir()] == ["tests"]


def test_damaged_and_foreign_runs_are_refused(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    commands.assert_one_sentence(call(sample.main, tmp_path / "none"), "no such folder")
    run = tmp_path / "run"
    run.mkdir()
    config, best = json.loads((mnist_run / "config.json").read_text()), (mnist_run / "best.safetensors").read_bytes()

    def refused(words: tuple[str, ...], weights: bytes | None = best, **changes: object) -> None:
        (run / "config.json").write_text(json.dumps(config | changes))
        if weights is not None:
            (run / "best.safetensors").write_bytes(weights)
        with pytest.raises((UsageError, CganError)) as caught:
            load_generator(run)
        assert all(word in str(caught.value) for word in words), caught.value

    refused(("best.safetensors", "no such"), weights=None)
    refused(("best.safetensors", "not a readable safetensors file"), weights=best[:-100])
    refused(("config.json", "field seed", "int"), seed="1")
    refused(("best.safetensors", "weights of another run"), seed=2)
    settings = config["settings"]
    for joint, file in (("relu:65", "best.safetensors"), ("relu:1000000000000", "config.json")):
        wider = settings | {"generator": settings["generator"] | {"joint": [joint]}}
        refused((file,), settings=wider)
    (run / "best.safetensors").write_bytes(best)
    (run / "config.json").write_text(json.dumps(config | {"settings": settings | {"sampling": 5}}))
    commands.assert_one_sentence(call(sample.main, run, "--out", tmp_path / "g.png"), str(run), "settings.sampling")
    # Without an identity to compare, no memory is taken for what the file cannot hold.
    large = settings | {"generator": settings["generator"] | {"joint": ["relu:1000000"]}}
    checkpoint.save(run / "best.safetensors", checkpoint.load(mnist_run / "best.safetensors")[0], {"t": 1, "score": 0})
    refused(("best.safetensors", "config.json describes nets of"), weights=None, settings=large, numerics=0)


def test_changed_runs_are_sampled_or_refused(mnist_run: Path, tmp_path: Path) -> None:
    """One field of ``config.json`` or of the record in ``best.safetensors`` changed, by accident or by a stranger."""
    rng = random.Random(2)
    tensors, record = checkpoint.load(mnist_run / "best.safetensors")
    config = json.loads((mnist_run / "config.json").read_text())
    refused = 0
    for number in range(count := fuzz_count(150)):
        shutil.copy(mnist_run / "best.safetensors", tmp_path)
        (tmp_path / "config.json").write_text(json.dumps(mutate(config, rng) if number % 2 else config))
        if number % 2 == 0:
            checkpoint.save(tmp_path / "best.safetensors", tensors, mutate(record, rng))
        try:
            load_generator(tmp_path)
        except (UsageError, CganError) as error:
            refused += 1
            assert "\n" not in str(error) and str(tmp_path) in str(error)
    assert refused > 0.3 * count


def test_labels_in_words() -> None:
    assert parse_labels("all", 3) == [0, 1, 2] and parse_labels("all", None) == []
    assert parse_labels("3, 0-1,9", 10) == [3, 0, 1, 9]
    for text, classes in (("3-1", 10), ("10", 10), ("-1", 10), ("", 10), ("a", 10), ("0-9", None)):
        with pytest.raises(UsageError):
            parse_labels(text, classes)
