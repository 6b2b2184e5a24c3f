"""The benchmark's parts: timing in turn, checks that can fail, products watched, results compared with references."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.digits import load_digits_28
from embeddings.vocabulary import Vocabulary
from experiments.bench import plain, training, words
from experiments.bench.limits import Product, products_of, replayed
from experiments.bench.measure import Candidate, Check, Job, measure, table
from experiments.mnist.presets import MNIST_PRESETS

GOOD = Check("a difference", 0.0, 1e-3)


def job(ours: Candidate, alternatives: list[Candidate], limits: list[Candidate], *checks: Check) -> Job:
    return Job("path", "some work", 10, "things", [GOOD, *checks], ours, alternatives, limits)


def setup(preset: str) -> training.Setup:
    config = MNIST_PRESETS[preset]()
    config = replace(config, training=replace(config.training, batch_size=16))
    return training.Setup(config, load_digits_28(), torch.device("cpu"), "float32")


def test_candidates_take_turns_and_shares_are_scaled_up() -> None:
    calls: list[str] = []
    ours = Candidate("a", lambda: calls.append("a"))
    tenth = Candidate("b", lambda: calls.append("b"), 0.1)
    limit = Candidate("c", lambda: calls.append("c"), 4)
    row = measure(job(ours, [tenth], [limit]), 3)
    assert "".join(calls) == "abc" * 3
    assert [each["scaled"] for each in row["candidates"]] == [1, 10, 0.25]
    lines = table([row]).splitlines()
    assert len(lines) == 5 and all(line.count("|") == 5 for line in lines)
    assert "scaled up" in lines[3] and "limit: c" in lines[4]


@pytest.mark.parametrize(
    "check",
    [
        Check("a difference", 2e-3, 1e-3),
        Check("a difference", math.nan, 1e-3),
        Check("a share", 0.9, 1, at_least=True),
        Check("a share", math.nan, 1, at_least=True),
    ],
)
def test_what_disagrees_is_not_timed(check: Check) -> None:
    def never() -> None:
        raise AssertionError("timed")

    row = measure(job(Candidate("a", never), [], [], check), repeats=2)
    assert not check.agrees and GOOD.agrees
    assert row["candidates"] == [] and "not timed" in table([row])
    assert row["disagreement"] == [str(check)]


def operations(products: list[Product]) -> int:
    return sum(2 * math.prod(left.shape) * right.shape[-1] for left, right in products)


def test_an_update_makes_the_products_that_its_layers_need() -> None:
    # Of each weight: forward, its gradient, its input's gradient. G's noise takes none, D's input the fakes' only.
    g = [(100, 1200), (1200, 1200), (1200, 784)]
    d = [(784, 1200), (240, 1200), (240, 1)]
    needed = sum(2 * 16 * a * b * (2 if a == 100 else 3) for a, b in g)
    needed += sum(2 * 32 * a * b * (2.5 if a == 784 else 3) for a, b in d)
    products = products_of(setup("gan").trainers()[0].step)
    assert operations(products) == needed
    assert operations(products_of(replayed(products))) == needed


@pytest.mark.parametrize("preset", ["paper", "gan", "tutorial"])
def test_gradients_agree_and_would_not_with_another_loss(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(check.agrees for check in training.gradients_agree(setup(preset)))
    right = plain.generator_loss
    monkeypatch.setattr(plain, "generator_loss", lambda *arguments: 1.001 * right(*arguments))
    wrong = [check for check in training.gradients_agree(setup(preset)) if not check.agrees]
    assert "of G's gradient" in wrong[0].what


def test_a_wrong_neighbour_is_seen_and_a_tie_is_none() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]], dtype=np.float32)
    vocabulary, queries = Vocabulary.from_arrays(list("abcd"), vectors), np.array([[1, 0.1]], dtype=np.float32)
    exact = words.exact_neighbours(vocabulary, queries, 3)
    assert exact.tolist() == [[0, 2, 3]]
    assert words.same_words(np.array([[2, 0, 3]]), exact, vocabulary, queries) == 1
    assert words.same_words(np.array([[0, 2, 1]]), exact, vocabulary, queries) == pytest.approx(2 / 3)


def test_bags_of_words_overlap_as_far_as_they_are_alike() -> None:
    assert words.overlap(["a", "b", "b"], ["b", "a", "b"]) == 1
    assert words.overlap(["a", "b", "b"], ["b", "c"]) == pytest.approx(0.4)
