"""The benchmark as a command: every path run for real on small sizes, the form of its figures, what it refuses."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import torch

from experiments.bench import __main__ as bench
from experiments.runs import cli
from tests.experiments import commands


def test_every_path_is_compared_timed_and_printed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    options = ("--quick", "--repeats", 1, "--threads", 1, "--data-root", tmp_path / "root")
    done = commands.run("bench", *options, "--out", tmp_path / "figures" / "bench.json")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "figures" / "bench.json").read_text())
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
    assert "the figures mean nothing" in (tmp_path / "figures" / "bench.md").read_text()
    machine, settings = record["machine"], record["settings"]
    assert machine["processor"] in done.stdout and machine["threads"] == 1 and machine["gpu"] is None
    assert settings["quick"] and settings["replicas"] == 2
    assert str(tmp_path) not in json.dumps(settings)
    what = {row["path"]: row["what"] for row in record["rows"]}
    assert all("digits (embedded)" in what[path] for path in ("update", "tutorial", "parzen"))
    assert all("embedded scenes" in what[path] for path in ("corpus", "skip-gram"))
    assert "rendered scenes" in what["features"] and "random" in what["features"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_is_measured(tmp_path: Path) -> None:
    paths = ("update", "tutorial", "replicas", "parzen", "nearest", "decoding", "features")
    (tmp_path / "root").mkdir()
    options = ("--quick", "--repeats", 1, "--device", "cuda", "--data-root", tmp_path / "root")
    done = commands.run("bench", *paths, *options, "--out", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "bench.json").read_text())["machine"]["gpu"]


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets these two for its process; give them back."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


@pytest.mark.usefixtures("one_thread")
def test_disagreeing_results_are_told_and_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.bench import words

    # A loop that finds other tags: each image's worst word is swapped for word 0.
    right = words.decode_one
    monkeypatch.setattr(words, "decode_one", lambda *arguments: [*right(*arguments)[:-1], 0])
    out = tmp_path / "bench.json"
    arguments = ["decoding", "--quick", "--repeats", "1", "--threads", "1", "--device", "cpu", "--out", str(out)]
    assert cli.run(bench.main, arguments) == 1
    (row,) = json.loads(out.read_text())["rows"]
    assert row["candidates"] == [] and "is 0.9, where at least 1 agrees" in row["disagreement"][0]
    printed = capsys.readouterr()
    assert "not timed" in printed.out and "decoding: share of words" in printed.err


@pytest.mark.usefixtures("one_thread")
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
def test_mistakes_get_one_sentence(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = () if "--out" in arguments else ("--out", str(tmp_path / "bench.json"))
    assert cli.run(bench.main, [*arguments, *out]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0]
    assert not list(tmp_path.iterdir())
