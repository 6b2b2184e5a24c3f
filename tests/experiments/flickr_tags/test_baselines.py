"""Baselines and measures of tags: against scikit-learn, closed forms and slow transcriptions."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics

from embeddings.vocabulary import Vocabulary
from experiments import UsageError
from experiments.flickr_tags import baselines, measures

TAGS = [f"t{number:02}" for number in range(40)]


def random_case(seed: int, images: int = 30) -> tuple[list[list[str]], list[set[str]]]:
    """Rankings of all tags, and from 1 to 12 true tags, right ones likelier among the first."""
    rng = np.random.default_rng(seed)
    truth = [set(rng.choice(TAGS, rng.integers(1, 13), replace=False)) for _ in range(images)]
    scores = rng.standard_normal((images, len(TAGS)))
    scores += np.array([[tag in true for tag in TAGS] for true in truth])
    return [[TAGS[i] for i in row] for row in (-scores).argsort(1)], truth


def vocabulary_of(words: list[str], dimension: int = 6, seed: int = 0) -> Vocabulary:
    return Vocabulary.from_arrays(words, np.random.default_rng(seed).standard_normal((len(words), dimension)))


def test_measures_are_scikit_learns() -> None:
    rankings, truth = random_case(0)
    found = measures.per_image(rankings, truth, vocabulary_of(TAGS))
    for image, (ranking, own) in enumerate(zip(rankings, truth, strict=True)):
        true, predicted = ([tag in among for tag in TAGS] for among in (own, ranking[:10]))
        scores = metrics.precision_recall_fscore_support(true, predicted, average="binary", zero_division=0)[:3]
        assert [found[f"{name}_at_10"][image] for name in ("precision", "recall", "f1")] == pytest.approx(scores)
        average = metrics.average_precision_score(true, [-ranking.index(tag) for tag in TAGS])
        assert found["mean_average_precision"][image] == pytest.approx(average)
        assert found["hit_at_10"][image] == (scores[0] > 0)


def test_average_precision_of_a_cut_ranking() -> None:
    truth = [{"a", "b", "c"}]
    assert measures.average_precision([["a", "x", "b"]], truth)[0] == pytest.approx((1 + 2 / 3) / 3)
    assert measures.average_precision([["a", "x", "b"]], truth, at=2)[0] == pytest.approx(1 / 2)
    assert measures.average_precision([["b", "a", "x", "y"]], truth, at=2)[0] == 1
    assert measures.average_precision([[]], truth)[0] == 0
    assert measures.precision([["a", "x"]], truth)[0] == 1 / 10  # As if the rest of a short ranking were wrong.


def test_an_image_without_true_tags_is_left_out() -> None:
    of_images = measures.per_image([["a"], ["a"], ["b"]], [["a"], [], ["a"]], vocabulary_of(["a", "b"]))
    for values in of_images.values():
        assert np.isnan(values).tolist() == [False, True, False]
    interval = measures.bootstrap(of_images["hit_at_10"])
    assert interval == measures.bootstrap(np.array([1.0, 0.0])) and interval.value == 0.5
    assert measures.bootstrap(np.full(3, np.nan)) is None


def test_the_highest_precision_is_that_of_the_best_choice_of_words() -> None:
    truth = [("t00", "t01", "t09"), (), tuple(TAGS[:8]), ("t07",)]
    # 2, 5 and 0 of the tags can be generated; the photo without a tag does not count.
    assert measures.highest_precision(truth, vocabulary_of(TAGS[:5]), 4) == pytest.approx((2 + 4 + 0) / 3 / 4)
    assert measures.highest_precision([()], vocabulary_of(TAGS), 4) is None


def test_best_cosine_of_near_misses_and_unknown_words() -> None:
    vectors = np.array([[1, 0], [1, 1], [0, -1]], dtype=np.float32)
    vocabulary = Vocabulary.from_arrays(["chair", "table", "sky"], vectors)
    truth = [["chair"], ["chair"], ["chair"], ["unknown"], ["chair", "sky", "unknown"]]
    rankings = [["chair"], ["sky", "table"], ["unknown"], ["chair"], ["sky", "table"]]
    expected = [1, np.sqrt(0.5), 0, np.nan, (np.sqrt(0.5) + 1) / 2]
    np.testing.assert_allclose(measures.best_cosine(rankings, truth, vocabulary), expected, atol=1e-6)


def test_sample_diversity_pair_by_pair() -> None:
    drawn = np.random.default_rng(3).standard_normal((4, 7, 5)).astype(np.float32) * 3
    units = drawn.astype(np.float64) / np.linalg.norm(drawn.astype(np.float64), axis=2, keepdims=True)
    expected = [np.mean([1 - a @ b for a, b in itertools.combinations(image, 2)]) for image in units]
    np.testing.assert_allclose(measures.sample_diversity(drawn), expected)
    same = measures.sample_diversity(np.tile(drawn[:, :1], (1, 50, 1)))
    assert (same >= 0).all() and (same < 1e-12).all()
    assert np.isnan(measures.sample_diversity(drawn[:, :1])).all()


def slow_vote(train: np.ndarray, tags: list[list[str]], query: np.ndarray, neighbours: int, words: int) -> list[str]:
    train, query = train.astype(np.float64), query.astype(np.float64)
    cosines = [float(row @ query / np.sqrt((row @ row) * (query @ query))) for row in train]
    voters = sorted(range(len(train)), key=lambda i: -cosines[i])[:neighbours]
    votes: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    frequency = Counter(tag for of_image in tags for tag in set(of_image))
    for voter in voters:
        for tag in set(tags[voter]):
            votes[tag] += 1
            sums[tag] += cosines[voter]
    return sorted(frequency, key=lambda tag: (-votes[tag], -round(sums[tag], 5), -frequency[tag], tag))[:words]


@pytest.mark.parametrize(("neighbours", "words"), [(20, 100), (99, 10)])
def test_votes_one_by_one(neighbours: int, words: int) -> None:
    rng = np.random.default_rng(10)
    train, queries = (np.maximum(rng.standard_normal((n, 30)), 0).astype(np.float32) for n in (60, 11))
    tags = [list(rng.choice(TAGS, rng.integers(0, 7))) for _ in range(60)]
    rankings = baselines.vote(train, tags, queries, neighbours, words)
    assert rankings == [slow_vote(train, tags, query, neighbours, words) for query in queries]


def test_mean_vectors_are_of_directions() -> None:
    vocabulary = Vocabulary.from_arrays(["a", "b"], np.array([[3, 0], [0, 1]], dtype=np.float32))
    rows, vectors = baselines.mean_tag_vectors([["a", "b", "b"], ["unknown"], ["a"], []], vocabulary)
    assert rows.tolist() == [0, 2]
    np.testing.assert_allclose(vectors, [[0.5, 0.5], [1, 0]])
    assert baselines.mean_tag_vectors([[]], vocabulary)[1].shape == (0, 2)


def nonlinear_case(seed: int = 14) -> tuple[Vocabulary, list[np.ndarray], list[list[list[str]]]]:
    """Tags that depend on the product of two features' signs, which no linear map can follow."""
    rng = np.random.default_rng(seed)
    vocabulary = vocabulary_of(["same", "other", *TAGS[:8]], dimension=6)
    features = [rng.standard_normal((n, 12)).astype(np.float32) * 0.2 + 3 for n in (600, 100, 60)]
    for rows in features:
        rows[:, :2] += np.sign(rows[:, :2] - 3)
    signs = [np.sign((rows[:, 0] - 3) * (rows[:, 1] - 3)) for rows in features]
    return vocabulary, features, [[["same" if s > 0 else "other"] for s in part] for part in signs]


def test_the_mlp_learns_what_a_linear_map_cannot_and_stops_where_validation_images_are_best() -> None:
    vocabulary, (train, valid, test), (train_tags, valid_tags, test_tags) = nonlinear_case()
    vectors, valid_vectors = (baselines.mean_tag_vectors(tags, vocabulary)[1] for tags in (train_tags, valid_tags))

    def trained(valid_vectors: np.ndarray = valid_vectors, **options: Any) -> np.ndarray:
        regressor = baselines.train_mlp(train, vectors, valid, valid_vectors, hidden=64, **options)
        return regressor.vectors(test)

    before = torch.random.get_rng_state()
    rankings = baselines.nearest_words(trained(epochs=60, seed=1), vocabulary, words=3)
    assert torch.equal(before, torch.random.get_rng_state())
    first, again, other = (trained(epochs=3, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert all(len(ranking) == 3 for ranking in rankings)
    right = measures.precision(rankings, test_tags, at=1).mean()
    linear = baselines.nearest_words(baselines.ridge_vectors(train, vectors, test, 1.0), vocabulary)
    assert right > 0.9 > 0.75 > measures.precision(linear, test_tags, at=1).mean()
    # Validation tags opposite to the training ones: the first epoch is the best, and its weights are what counts.
    short, long = (trained(-valid_vectors, epochs=epochs, patience=2, seed=1) for epochs in (1, 10_000))
    assert np.array_equal(short, long)
    with pytest.raises(UsageError, match="diverged in epoch 1"):
        trained(learning_rate=1e38)
