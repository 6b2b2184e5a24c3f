"""Verdicts against the arithmetic of their rules."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.report.digits import table1
from experiments.report.records import load
from experiments.report.verdicts import CLOSE_NATS, ONE_SEED, OTHERS, PAPER, SOURCES, Verdict, verdicts
from experiments.runs.records import DatasetRecord, Interval
from tests.experiments.report.builders import DIGITS, MINI, MIRFLICKR, REFERENCE, flickr_run, mnist_run, write


def all_of(*folders: Path) -> list[Verdict]:
    runs = load(folders)
    real = runs.select(embedded=False, experiments=("mnist", "flickr-tags", "parzen"))
    return verdicts(table1(runs, embedded=False), real)


def verdict_of(folder: Path, claim: str) -> Verdict:
    (found,) = [verdict for verdict in all_of(folder) if claim in verdict.claim]
    return found


CUT = {"stopping": {"max_updates": 9_000}, "result": {"stopped_by": "max_updates"}}


@pytest.mark.parametrize(
    ("scores", "cut", "word"),
    [
        ([191.8], False, "higher"),  # One seed: 10 nats of spread are assumed, so the interval is 20 wide ...
        ([150.0], False, "open"),  # ... and 18 more or less decide nothing.
        ([100.0], False, "lower"),
        ([191.8], True, "higher"),  # Longer training could only raise it ...
        ([100.0], True, "open"),  # ... so lower is not said of a run that was cut short.
        ([131.0, 134.0, 132.5, 133.0], False, "equal"),
        ([100.0, 120.0, 160.0, 150.0], False, "open"),  # A wide spread makes nothing equal.
        ([190.0, 200.0, 195.0], False, "higher"),
    ],
)
def test_log_likelihood_beside_the_published_one(tmp_path: Path, scores: list[float], cut: bool, word: str) -> None:
    for seed, score in enumerate(scores, start=1):
        mnist_run(tmp_path / str(seed), seed=seed, score=score, error=2.0, **(CUT if cut else {}))
    gap, n = np.mean(scores) - 132, len(scores)
    if n == 1:
        half = 1.96 * math.hypot(ONE_SEED, 2.0)
    else:
        half = stats.ttest_1samp(scores, 132).confidence_interval(0.95).high - np.mean(scores)
        assert f"{np.mean(scores):.1f} ± {half:.1f} nats over {n} seeds" == verdict_of(tmp_path, "reach 132").measured
    half = math.hypot(half, 1.96 * 1.8)
    if not cut:
        decided = "higher" if gap > half else "lower" if gap < -half else "equal" if half <= CLOSE_NATS else "open"
        assert word == decided
    found = verdict_of(tmp_path, "reach 132 ± 1.8 nats")
    assert found.word == word and found.agrees is (None if word == "open" else word == "equal")
    remarks = ["training cut short"] * cut + ["rests on one seed"] * (n == 1)
    assert found.remark == ", ".join(remarks) and found.origin == PAPER


@pytest.mark.parametrize(
    ("paper", "gan", "cut", "word", "agrees"),
    [
        (132.0, 225.0, {}, "lower", True),
        (225.0, 132.0, {}, "higher", False),
        (132.0, 135.0, {}, "open", None),
        (192.0, 140.0, CUT, "open", None),  # A net that was cut short is not said to be surpassed.
    ],
)
def test_order_of_the_two_nets(tmp_path: Path, paper: float, gan: float, cut: dict, word: str, agrees: object) -> None:
    mnist_run(tmp_path / "paper", score=paper)
    mnist_run(tmp_path / "gan", preset="gan", score=gan, **cut)
    found = verdict_of(tmp_path, "below the unconditional")
    assert (found.word, found.agrees) == (word, agrees) and ("cut short" in found.remark) == bool(cut)


@pytest.mark.parametrize(
    ("scores", "word", "agrees"),
    [
        ([230.0, 230.6, 244.5], "open", None),  # t intervals on two degrees of freedom are wide.
        ([250.0, 251.0, 252.0], "higher", True),
        ([225.0, 225.5, 226.0, 224.5], "equal", True),
        ([200.0, 201.0, 202.0], "lower", False),
    ],
)
def test_the_conjecture(tmp_path: Path, scores: list[float], word: str, agrees: bool | None) -> None:
    for seed, score in enumerate(scores, start=1):
        mnist_run(tmp_path / str(seed), preset="conditional-best", seed=seed, score=score)
    # Neither the paper's own settings nor others under the preset's name speak to it.
    mnist_run(tmp_path / "paper", score=300.0)
    mnist_run(tmp_path / "other", preset="conditional-best", score=300.0, changes={"training.decay": 2.0})
    found = verdict_of(tmp_path, "With more exploration")
    assert (found.word, found.agrees) == (word, agrees)


@pytest.mark.parametrize(
    ("share", "word", "wrong", "rejects"),
    [(0.99, "higher", 0.1, "lower"), (0.98, "equal", 0.77, "higher"), (0.9, "lower", 0.505, "equal")],
)
def test_labels_and_wrong_labels(tmp_path: Path, share: float, word: str, wrong: float, rejects: str) -> None:
    mnist_run(tmp_path / "paper", share=share)
    mnist_run(tmp_path / "tutorial", preset="tutorial", accepted=[[0.9, wrong], [0.2, 0.1]])
    found = verdict_of(tmp_path, "Each row of figure 2")
    assert (found.word, found.agrees) == (word, word != "lower") and f"{share:.1%}" in found.measured
    # One claim for all nets, and the verdict on the one whose source makes it.
    found = verdict_of(tmp_path, "D rejects a real image")
    assert (found.word, found.agrees, found.origin) == (rejects, rejects == "lower", SOURCES)
    assert found.measured == f"accepted: 10.0% (paper), {wrong:.1%} (tutorial)"


@pytest.mark.parametrize(
    ("dataset", "notice", "low", "high", "word", "agrees"),
    [
        (MIRFLICKR, None, 0.01, 0.05, "higher", True),
        (MIRFLICKR, None, -0.01, 0.05, "open", None),
        (MIRFLICKR, None, -0.01, 0.01, "equal", False),
        (MIRFLICKR, None, -0.05, -0.01, "lower", False),
        (MIRFLICKR, "a part of it", 0.01, 0.05, "higher", None),
        (MINI, None, 0.01, 0.05, "higher", None),
    ],
)
def test_tags(
    tmp_path: Path, dataset: DatasetRecord, notice: str | None, low: float, high: float, word: str, agrees: bool | None
) -> None:
    """With one seed the interval over photos decides; the paper's own preset and photos come before all others."""
    gap = Interval(value=(low + high) / 2, low=low, high=high)
    flickr_run(tmp_path / "a", dataset=dataset, notice=notice, gap=gap)
    best = Interval(value=0.5, low=0.4, high=0.6)
    flickr_run(tmp_path / "other", preset="matching-aware", gap=best)
    flickr_run(tmp_path / "changed", gap=best, dataset=MIRFLICKR, changes={"words.centred": True})
    found = verdict_of(tmp_path, "Tags generated")
    assert (found.word, found.agrees) == (word, agrees) and "user tags and annotations" in found.measured
    assert ("not the paper's photos" in found.remark) == (dataset is MINI or notice is not None)
    assert "+0.500 [0.400, 0.600] (matching-aware" in found.measured and "centred" not in found.measured


def test_without_runs_and_with_embedded_ones_every_verdict_is_open(tmp_path: Path) -> None:
    mnist_run(tmp_path / "digits", dataset=DIGITS, score=300.0)
    write(tmp_path / "empty.json", {})
    found = all_of(tmp_path)
    assert [verdict.origin for verdict in found] == [PAPER] * 5 + [SOURCES] * 2 + [OTHERS] * 2
    assert all(verdict.word == "open" and "not run: " in verdict.measured for verdict in found)

    controls = [verdict for verdict in all_of(REFERENCE / "mnist-controls") if verdict.origin == OTHERS]
    assert [(verdict.word, verdict.agrees) for verdict in controls] == [("equal", True), ("higher", True)]


def test_of_two_groups_of_the_same_settings_the_one_with_more_seeds_decides(tmp_path: Path) -> None:
    older, gap = replace(MINI, checksum="0lder"), Interval(value=0.5, low=0.4, high=0.6)
    flickr_run(tmp_path / "a", dataset=older, gap=gap)
    for seed, value in enumerate((0.1, 0.2, 0.3), start=1):
        flickr_run(tmp_path / f"b{seed}", seed=seed, gap=Interval(value=value, low=0.0, high=1.0))
    found = verdict_of(tmp_path, "Tags generated")
    half = 0.1 * stats.t.ppf(0.975, 2) / math.sqrt(3)
    decided, other = found.measured.split("commonest tags: ")[1].split("; ")
    assert decided.startswith(f"+0.200 [{0.2 - half:.3f}, ".replace("-", "−")) and other.startswith("+0.500")
    assert other.endswith(" (2))") and not decided.endswith(" (2))") and "one seed" not in found.remark
