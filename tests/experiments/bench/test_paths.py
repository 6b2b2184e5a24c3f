"""The benchmark's parts: timing in turn, checks that can fail, products watched, loops compared with references."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.digits import load_digits_28
from embeddings.vocabulary import Vocabulary
from experiments.bench import parzen, plain, training, words
from experiments.bench.limits import limits, operations, products_of, replayed
from experiments.bench.measure import Candidate, Check, Job, disagreements, measure, table
from experiments.mnist.presets import MNIST_PRESETS

GOOD = Check("a difference", 0.0, 1e-3)


def job(ours: Candidate, alternatives: list[Candidate], limits: list[Candidate], *checks: Check) -> Job:
    return Job("path", "some work", 10, "things", [GOOD, *checks], ours, alternatives, limits)


def setup(preset: str, device: str = "cpu") -> training.Setup:
    config = MNIST_PRESETS[preset]()
    config = replace(config, training=replace(config.training, batch_size=16))
    return training.Setup(config, load_digits_28(), torch.device(device), "float32")


def test_candidates_take_turns_and_shares_are_scaled_up() -> None:
    calls: list[str] = []
    ours = Candidate("a", lambda: calls.append("a"))
    tenth = Candidate("b", lambda: calls.append("b"), 0.1, "one of ten")
    limit = Candidate("c", lambda: calls.append("c"), 4)
    row = measure(job(ours, [tenth, ours], [limit]), 3, synchronise=lambda: calls.append("."))
    assert "".join(calls) == ".a..b..a..c." * 3
    assert [each["scaled"] for each in row["candidates"]] == [1, 10, 1, 0.25]
    lines = table([row]).splitlines()
    assert len(lines) == 4 and all(line.count("|") == 7 for line in lines)
    assert "s, scaled up (one of ten)" in lines[2] and "c:" in lines[2] and "a:" in lines[3]


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
    assert row["candidates"] == [] and row["ratios"] == {} and "not timed" in table([row])
    (told,) = disagreements([row])
    assert check.what in told


def test_products_are_watched_through_the_backward_pass() -> None:
    first, second = torch.nn.Linear(7, 5), torch.nn.Linear(5, 3)
    products = products_of(lambda: second(first(torch.rand(11, 7)).relu()).sum().backward())
    shapes = [sorted((*left.shape, right.shape[1])) for left, right in products]
    # (n, k, m): two forward; of the second layer its weight's and its input's gradient, of the first its weight's.
    assert sorted(shapes) == sorted(map(sorted, [(11, 7, 5), (11, 5, 3), (3, 11, 5), (11, 3, 5), (5, 11, 7)]))
    assert operations(products) == 2 * 11 * (2 * 7 * 5 + 3 * 5 * 3)
    assert operations(products_of(replayed(products))) == operations(products)


def test_an_update_makes_the_products_that_its_layers_need() -> None:
    # Of each weight: forward, its gradient, its input's gradient. G's noise takes none, D's input the fakes' only.
    g = [(100, 1200), (1200, 1200), (1200, 784)]
    d = [(784, 1200), (240, 1200), (240, 1)]
    needed = sum(2 * 16 * a * b * (2 if a == 100 else 3) for a, b in g)
    needed += sum(2 * 32 * a * b * (2.5 if a == 784 else 3) for a, b in d)
    assert operations(products_of(setup("gan").trainer().step)) == needed


def test_the_floors_of_a_gpu_are_scaled_to_the_updates() -> None:
    # On "meta", which computes nothing, the candidates can be made as for a GPU.
    a, b = torch.empty(30, 20, device="meta"), torch.empty(20, 10, device="meta")
    arithmetic, memory = limits([(a, b)], 1_000, updates=50, share=0.1)
    # A call that does k times the operations of a tenth of the work does k / 10 of the whole.
    assert arithmetic.share == pytest.approx(0.1 * 2 * 8192**3 / (50 * 2 * 30 * 20 * 10))
    assert memory.share == pytest.approx(0.1 * 2 * 2**30 / (50 * 16 * 1_000))


@pytest.mark.parametrize(("preset", "fast"), [("paper", True), ("paper", False), ("gan", True), ("tutorial", True)])
def test_gradients_agree_and_would_not_with_another_loss(
    preset: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(check.agrees for check in training.gradients_agree(setup(preset), fast))
    right = plain.generator_loss
    monkeypatch.setattr(plain, "generator_loss", lambda *arguments: 1.001 * right(*arguments))
    wrong = [check for check in training.gradients_agree(setup(preset), fast) if not check.agrees]
    assert "of G's gradient" in wrong[0].what


def test_the_broadcast_loop_is_the_density() -> None:
    samples, images = (torch.rand(9, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    squares = ((images[:, None] - samples[None]).double() ** 2).sum(2).numpy()
    for sigma in (0.1, 1.0):
        closed = np.log(np.exp(-squares / (2 * sigma**2)).mean(1)) - 2 * math.log(2 * math.pi * sigma**2)
        np.testing.assert_allclose(parzen.broadcast(images, samples, (sigma,))[0], closed, atol=1e-4)


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


def test_vectors_of_another_training_do_not_correlate() -> None:
    names, vectors = [f"w{i}" for i in range(60)], words.unit_vectors(60, 16, 0)
    vocabulary = Vocabulary.from_arrays(names, vectors)
    assert words.correlation(vocabulary, dict(zip(names, vectors, strict=True))) == pytest.approx(1)
    assert words.correlation(vocabulary, dict(zip(names, vectors[::-1], strict=True))) < words.MIN_CORRELATION
