"""The benchmark: every path run for real on small sizes, the form of its figures, checks that can fail, mistakes."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.digits import load_digits_28
from experiments.bench import __main__ as bench
from experiments.bench import plain, training, words
from experiments.bench.measure import Candidate, Check, Job, measure, table
from experiments.mnist.presets import MNIST_PRESETS
from tests.experiments.conftest import Call

QUICK = ("--quick", "--repeats", 1, "--threads", 1)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets these two for its process; give them back."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


def test_every_path_is_compared_timed_and_printed(tmp_path: Path, call: Call) -> None:
    (tmp_path / "root").mkdir()
    out = tmp_path / "figures" / "bench.json"
    done = call(bench.main, *QUICK, "--data-root", tmp_path / "root", "--out", out)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert [row["path"] for row in record["rows"]] == list(bench.PATHS)
    for row in record["rows"]:
        assert row["agreement"] and not row["disagreement"]
        ours, *others = row["candidates"]
        assert ours["role"] == "ours" and "alternative" in {each["role"] for each in others}
        for each in row["candidates"]:
            assert len(each["times"]) == 1 and each["median_s"] == statistics.median(each["times"]) > 0
            ratio = each["median_s"] / ours["median_s"]
            if each["role"] == "alternative":
                assert row["ratios"]["times_faster"][each["name"]] == pytest.approx(ratio)
            if each["role"] == "limit":
                assert row["ratios"]["times_the_limit"][each["name"]] == pytest.approx(1 / ratio)
        assert f"| {row['path']} " in done.stdout
    assert "the figures mean nothing" in out.with_suffix(".md").read_text()
    machine, settings = record["machine"], record["settings"]
    assert machine["processor"] in done.stdout and machine["threads"] == 1
    assert settings["quick"] and settings["replicas"] == 2 and str(tmp_path) not in json.dumps(settings)
    what = {row["path"]: row["what"] for row in record["rows"]}
    assert all("digits (embedded)" in what[path] for path in ("update", "tutorial", "parzen"))
    assert all("embedded scenes" in what[path] for path in ("corpus", "skip-gram"))
    assert "rendered scenes" in what["features"] and "random" in what["features"]


def test_disagreeing_results_are_told_and_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    # A loop that finds other tags: each image's worst word is swapped for word 0.
    right = words.decode_one
    monkeypatch.setattr(words, "decode_one", lambda *arguments: [*right(*arguments)[:-1], 0])
    out = tmp_path / "bench.json"
    done = call(bench.main, "decoding", *QUICK, "--device", "cpu", "--out", out)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["candidates"] == [] and "is 0.9, where at least 1 agrees" in row["disagreement"][0]
    assert done.returncode == 1 and "not timed" in done.stdout and "decoding: share of words" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--repeats", "0"), "--repeats 0"),
        (("--out", "figures.csv"), ".json"),
        (("--out", "setup.cfg/bench.json"), "is a file, not a folder"),
        (("--threads", "1", "--device", "abacus"), "abacus"),
        (("update", "--threads", "1", "--data-root", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_get_one_sentence(arguments: tuple[str, ...], words: str, tmp_path: Path, call: Call) -> None:
    out = () if "--out" in arguments else ("--out", tmp_path / "bench.json")
    done = call(bench.main, *arguments, *out)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and words in errors[0]
    assert not list(tmp_path.iterdir())


def test_candidates_take_turns_and_shares_are_scaled_up() -> None:
    calls: list[str] = []
    ours = Candidate("a", lambda: calls.append("a"))
    tenth = Candidate("b", lambda: calls.append("b"), 0.1)
    limit = Candidate("c", lambda: calls.append("c"), 4)
    row = measure(Job("path", "work", 10, "things", [Check("a difference", 0, 1e-3)], ours, [tenth], [limit]), 3)
    assert "".join(calls) == "abc" * 3
    assert [each["scaled"] for each in row["candidates"]] == [1, 10, 0.25]
    lines = table([row]).splitlines()
    assert len(lines) == 5 and "scaled up" in lines[3] and "limit: c" in lines[4]


@pytest.mark.parametrize(("value", "bound", "at_least"), [(2e-3, 1e-3, False), (math.nan, 1, False), (0.9, 1, True)])
def test_a_number_beyond_its_bound_does_not_agree(value: float, bound: float, at_least: bool) -> None:
    assert not Check("a number", value, bound, at_least).agrees


def setup(preset: str) -> training.Setup:
    config = MNIST_PRESETS[preset]()
    config = replace(config, training=replace(config.training, batch_size=16))
    return training.Setup(config, load_digits_28(), torch.device("cpu"), "float32")


def test_an_update_makes_the_products_that_its_layers_need() -> None:
    # Of each weight: forward, its gradient, its input's gradient. G's noise takes none, D's input the fakes' only.
    g = [(100, 1200), (1200, 1200), (1200, 784)]
    d = [(784, 1200), (240, 1200), (240, 1)]
    needed = sum(2 * 16 * a * b * (2 if a == 100 else 3) for a, b in g)
    needed += sum(2 * 32 * a * b * (2.5 if a == 784 else 3) for a, b in d)
    products = training.products_of(setup("gan").trainers()[0].step)
    for made in (products, training.products_of(training.replayed(products))):
        assert sum(2 * math.prod(left.shape) * right.shape[-1] for left, right in made) == needed


@pytest.mark.parametrize("preset", ["paper", "tutorial"])
def test_gradients_agree_and_would_not_with_another_loss(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(check.agrees for check in training.gradients_agree(setup(preset)))
    right = plain.generator_loss
    monkeypatch.setattr(plain, "generator_loss", lambda *arguments: 1.001 * right(*arguments))
    wrong = [check for check in training.gradients_agree(setup(preset)) if not check.agrees]
    assert "of G's gradient" in wrong[0].what
