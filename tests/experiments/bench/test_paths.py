"""The benchmark's parts: timing in turn, ratios, checks that can fail, products watched, loops compared with ours."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cgan.devices import seeded
from cgan.networks import Discriminator
from data.digits import load_digits_28
from embeddings.vocabulary import Vocabulary
from experiments.bench import parzen as bench_parzen
from experiments.bench import plain as bench_plain
from experiments.bench import training as bench_training
from experiments.bench import words as bench_words
from experiments.bench.measure import Candidate, Check, Job, disagreements, measure, ratios, seconds, table
from experiments.bench.products import products_of, replayed
from experiments.bench.sizes import QUICK, Sizes, whole
from experiments.mnist.presets import MNIST_PRESETS


def job(candidates: list[Candidate], agreement: list[Check]) -> Job:
    return Job("path", "some work", 10, "things", agreement, candidates)


GOOD = Check("a difference", 0.0, 1e-3)


def test_candidates_take_turns_and_shares_are_scaled_up() -> None:
    calls: list[str] = []
    row = measure(
        job(
            [
                Candidate("a", "ours", lambda: calls.append("a")),
                Candidate("b", "alternative", lambda: calls.append("b"), 0.001),
                Candidate("c", "limit", lambda: calls.append("c"), 4),
            ],
            [GOOD],
        ),
        repeats=3,
        synchronise=lambda: calls.append("."),
    )
    assert "".join(calls) == ".a..b..c." * 3
    assert [each["scaled"] for each in row["candidates"]] == [1, 1000, 0.25]
    assert all(len(each["times"]) == 3 for each in row["candidates"])


def test_ratios_compare_medians() -> None:
    measured = [
        {"name": "ours", "role": "ours", "median_s": 2.0},
        {"name": "loop", "role": "alternative", "median_s": 8.0},
        {"name": "product", "role": "limit", "median_s": 1.0},
    ]
    assert ratios(measured) == {"times_faster": {"loop": 4.0}, "times_the_limit": {"product": 2.0}}


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

    row = measure(job([Candidate("a", "ours", never)], [GOOD, check]), repeats=2)
    assert not check.agrees and GOOD.agrees
    assert row["candidates"] == [] and "not timed" in table([row])
    (told,) = disagreements([row])
    assert check.what in told


def test_a_table_has_a_line_for_each_alternative_and_limit() -> None:
    made = job(
        [
            Candidate("a", "ours", list),
            *(Candidate(name, "alternative", list) for name in ("slow", "slower")),
            Candidate("product", "limit", list),
        ],
        [GOOD],
    )
    lines = table([measure(made, 1)]).splitlines()
    assert len(lines) == 4 and all(line.count("|") == 7 for line in lines)
    assert "slow:" in lines[2] and "product:" in lines[2] and "slower:" in lines[3]


def test_the_table_says_what_was_scaled_up() -> None:
    candidates = [Candidate("a", "ours", list), Candidate("loop", "alternative", list, 0.1, "one of ten")]
    assert "s, scaled up (one of ten)" in table([measure(job(candidates, [GOOD]), 1)])


def test_seconds_keep_three_digits() -> None:
    assert [seconds(value) for value in (0.0123456, 1.23456, 1234.5)] == ["12.3 ms", "1.23 s", "1,234 s"]


def test_the_whole_work_is_measured_if_asked() -> None:
    sizes = whole(Sizes())
    assert sizes.kde_images == sizes.broadcast_images == sizes.samples and sizes.gensim_queries == sizes.queries
    assert sizes.timed_rows == sizes.rows and sizes.epoch_updates is None and sizes.loop_photos == sizes.photos
    assert sizes.decoded_images == 100


def test_products_are_watched_through_the_backward_pass() -> None:
    first, second = torch.nn.Linear(7, 5), torch.nn.Linear(5, 3)
    products = products_of(lambda: second(first(torch.rand(11, 7)).relu()).sum().backward())
    shapes = sorted((*product.left.shape, product.right.shape[1]) for product in products)
    # (n, k, m): two forward; of the second layer its weight's and its input's gradient, of the first its weight's.
    assert sorted(map(sorted, shapes)) == sorted(
        map(sorted, [(11, 7, 5), (11, 5, 3), (3, 11, 5), (11, 3, 5), (5, 11, 7)])
    )
    assert sum(product.operations for product in products) == 2 * 11 * (2 * 7 * 5 + 3 * 5 * 3)
    again = products_of(replayed(products, torch.device("cpu")))
    assert again == products


def test_an_update_makes_the_products_that_its_layers_need() -> None:
    place = bench_training.Place(load_digits_28(), torch.device("cpu"), "float32")
    config = MNIST_PRESETS["gan"]()
    one = bench_training.trainer(config, bench_training.training_set(config, place), place, 0)
    operations = sum(product.operations for product in products_of(one.step))
    # Of each weight: forward, its gradient, its input's gradient. G's noise takes none, D's input the fakes' only.
    g = [(100, 1200), (1200, 1200), (1200, 784)]
    d = [(784, 1200), (240, 1200), (240, 1)]
    needed = sum(2 * 100 * a * b * (2 if a == 100 else 3) for a, b in g)
    needed += sum(2 * 200 * a * b * (2.5 if a == 784 else 3) for a, b in d)
    assert operations == needed


def test_the_floors_of_a_gpu_are_scaled_to_the_updates() -> None:
    products = products_of(lambda: torch.rand(30, 20) @ torch.rand(20, 10))
    # On "meta", which computes nothing, the candidates can be made as for a GPU.
    place = bench_training.Place(load_digits_28(), torch.device("meta"), "bfloat16")
    arithmetic, memory = bench_training.limits(products, 1_000, place, updates=50, share=0.1)
    done, needed = 2 * 1024**3, 50 * 2 * 30 * 20 * 10
    # A call that does k times the operations of a tenth of the work does k / 10 of the whole.
    assert arithmetic.role == memory.role == "limit" and arithmetic.share == pytest.approx(0.1 * done / needed)
    assert memory.share == pytest.approx(0.1 * 2 * 2**30 / (50 * 16 * 1_000))


@pytest.mark.parametrize(("preset", "fast"), [("paper", True), ("paper", False), ("gan", True), ("tutorial", True)])
def test_gradients_agree_and_would_not_if_the_loop_played_another_game(
    preset: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bench_training.Place(load_digits_28(), torch.device("cpu"), "float32")
    config = MNIST_PRESETS[preset]()
    config = replace(config, training=replace(config.training, batch_size=16))
    assert all(check.agrees for check in bench_training.gradients_agree(config, place, fast))
    right = bench_plain.generator_loss
    monkeypatch.setattr(bench_plain, "generator_loss", lambda *arguments: 1.001 * right(*arguments))
    wrong = [check for check in bench_training.gradients_agree(config, place, fast) if not check.agrees]
    assert "of G's gradient" in wrong[0].what


def test_maxout_pieces_change_places_between_ours_and_the_plain_net() -> None:
    spec = bench_training.without_dropout(MNIST_PRESETS["paper"]()).discriminator
    ours, plain = Discriminator(spec, seeded(0, "D")), bench_plain.Discriminator(spec)
    x, labels = torch.rand(5, 784), torch.arange(5)
    bench_plain.copy_weights(ours, plain)
    torch.testing.assert_close(plain(x, labels)[:, 0], ours(x, labels), rtol=1e-4, atol=1e-6)
    for mine, parameter in zip(ours.parameters(), plain.parameters(), strict=True):
        parameter.data = mine.data
    assert not torch.allclose(plain(x, labels)[:, 0], ours(x, labels), rtol=1e-4, atol=1e-6)


def test_seeds_agree_and_would_not_with_other_seeds() -> None:
    place = bench_training.Place(load_digits_28(), torch.device("cpu"), "float32")
    config = MNIST_PRESETS["paper"]()
    config = replace(config, training=replace(config.training, batch_size=16))
    data = bench_training.training_set(config, place)
    assert bench_training.seeds_agree(config, data, place, 2).agrees
    one, other = (bench_training.trainer(config, data, place, seed) for seed in (0, 1))
    start = bench_training.held(one)
    for each in (one, other):
        each.step()
    ways = [[a - b for a, b in zip(bench_training.held(each), start, strict=True)] for each in (other, one)]
    assert bench_training.distance(*ways) > 0.5


def test_the_broadcast_loop_is_the_density() -> None:
    samples, images = (torch.rand(9, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    squares = ((images[:, None] - samples[None]).double() ** 2).sum(2).numpy()
    for sigma in (0.1, 1.0):
        closed = np.log(np.exp(-squares / (2 * sigma**2)).mean(1)) - 2 * math.log(2 * math.pi * sigma**2)
        np.testing.assert_allclose(bench_parzen.broadcast(images, samples, (sigma,))[0], closed, atol=1e-4)


def test_few_images_are_repeated_with_noise_no_two_alike() -> None:
    made = bench_parzen.rows(np.zeros((3, 5), dtype=np.float32), 8, 0)
    assert made.shape == (8, 5) and len(np.unique(made, axis=0)) == 8 and 0 <= made.min() <= made.max() <= 1
    assert bench_parzen.rows(made, 4, 0).tolist() == made[:4].tolist()


def test_a_wrong_neighbour_is_seen_and_a_tie_is_none() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]], dtype=np.float32)
    vocabulary, queries = Vocabulary.from_arrays(list("abcd"), vectors), np.array([[1, 0.1]], dtype=np.float32)
    exact = bench_words.exact_neighbours(vocabulary, queries, 3)
    assert exact.tolist() == [[0, 2, 3]]
    assert bench_words.same_words(np.array([[2, 0, 3]]), exact, vocabulary, queries) == 1
    assert bench_words.same_words(np.array([[0, 2, 1]]), exact, vocabulary, queries) == pytest.approx(2 / 3)


def test_the_loops_tags_are_the_commonest_of_the_nearest() -> None:
    vocabulary = Vocabulary.from_arrays([f"w{i}" for i in range(50)], bench_words.unit_vectors(50, 8, 0))
    samples = bench_words.unit_vectors(30, 8, 1)
    near = bench_words.exact_neighbours(vocabulary, samples, 5)
    counts = np.bincount(near.ravel(), minlength=50)
    found = bench_words.decode_one(vocabulary, samples, 5)
    assert len(found) == 10 and counts[found].tolist() == sorted(counts.tolist(), reverse=True)[:10]


def test_bags_of_words_overlap_as_far_as_they_are_alike() -> None:
    assert bench_words.overlap(["a", "b", "b"], ["b", "a", "b"]) == 1
    assert bench_words.overlap(["a", "b", "b"], ["b", "c"]) == pytest.approx(0.4)
    assert bench_words.overlap(["a"], []) == 0


def test_vectors_of_another_training_do_not_correlate() -> None:
    words = [f"w{i}" for i in range(60)]
    vocabulary = Vocabulary.from_arrays(words, bench_words.unit_vectors(60, 16, 0))
    same = dict(zip(words, vocabulary.vectors, strict=True))
    shuffled = dict(zip(words, vocabulary.vectors[::-1], strict=True))
    assert bench_words.correlation(vocabulary, same) == pytest.approx(1)
    assert bench_words.correlation(vocabulary, shuffled) < bench_words.MIN_CORRELATION


def test_quick_sizes_are_small() -> None:
    assert QUICK.words <= 10_000 and QUICK.rows == QUICK.timed_rows <= 10_000 and QUICK.photos <= 10
