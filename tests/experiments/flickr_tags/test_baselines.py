"""Baselines and measures of tags: against scikit-learn, SciPy, closed forms and slow transcriptions."""

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


def random_case(seed: int, images: int = 30, ranked: int = 40) -> tuple[list[list[str]], list[set[str]]]:
    """Rankings of ``ranked`` tags each, and from 1 to 12 true tags, right ones likelier among the first."""
    rng = np.random.default_rng(seed)
    truth = [set(rng.choice(TAGS, rng.integers(1, 13), replace=False)) for _ in range(images)]
    scores = rng.standard_normal((images, len(TAGS)))
    scores += np.array([[tag in true for tag in TAGS] for true in truth])
    return [[TAGS[i] for i in row[:ranked]] for row in (-scores).argsort(1)], truth


def indicator(tags: list, first: int | None = None) -> np.ndarray:
    return np.array([[tag in list(of_image)[:first] for tag in TAGS] for of_image in tags])


def vocabulary_of(words: list[str], dimension: int = 6, seed: int = 0) -> Vocabulary:
    return Vocabulary.from_arrays(words, np.random.default_rng(seed).standard_normal((len(words), dimension)))


# Measures


def test_precision_recall_and_f1_are_scikit_learns() -> None:
    rankings, truth = random_case(0)
    for image in range(len(truth)):
        true, predicted = indicator(truth[image : image + 1])[0], indicator(rankings[image : image + 1], 10)[0]
        expected = metrics.precision_recall_fscore_support(true, predicted, average="binary", zero_division=0)[:3]
        of_image = measures.per_image(rankings[image : image + 1], truth[image : image + 1], vocabulary_of(TAGS))
        found = [of_image[name][0] for name in ("precision", "recall", "f1")]
        assert found == pytest.approx(expected)


def test_average_precision_is_scikit_learns_where_every_tag_is_ranked() -> None:
    rankings, truth = random_case(1)
    scores = np.array([[-ranking.index(tag) for tag in TAGS] for ranking in rankings])
    true = indicator(truth)
    expected = [metrics.average_precision_score(*pair) for pair in zip(true, scores, strict=True)]
    found = measures.average_precision(rankings, truth)
    np.testing.assert_allclose(found, expected)
    assert found.mean() == pytest.approx(metrics.label_ranking_average_precision_score(true, scores))


def test_average_precision_of_a_cut_ranking() -> None:
    truth = [{"a", "b", "c"}]
    assert measures.average_precision([["a", "x", "b"]], truth)[0] == pytest.approx((1 + 2 / 3) / 3)
    assert measures.average_precision([["a", "x", "b"]], truth, at=2)[0] == pytest.approx(1 / 2)
    assert measures.average_precision([["b", "a", "x", "y"]], truth, at=2)[0] == 1
    assert measures.average_precision([[]], truth)[0] == 0


def test_a_short_ranking_is_measured_as_if_the_rest_were_wrong() -> None:
    of_image = measures.per_image([["a", "b"]], [["a", "c", "c"]], vocabulary_of(["a", "b", "c"]))
    assert of_image["precision"][0] == pytest.approx(1 / 10)
    assert of_image["recall"][0] == pytest.approx(1 / 2)
    assert of_image["f1"][0] == pytest.approx(2 / 12)


def test_hit_and_distinct() -> None:
    rankings, vocabulary = [["a", "b", "c"], ["b", "c", "d"]], vocabulary_of(["a"])
    assert measures.per_image(rankings, [["c"], ["a"]], vocabulary)["hit"].tolist() == [1, 0]
    assert measures.per_image(rankings, [["c"], ["a"]], vocabulary, at=2)["hit"].tolist() == [0, 0]
    assert measures.distinct(rankings) == 4
    assert measures.distinct(rankings, at=1) == 2


def test_an_image_without_true_tags_is_left_out_and_counted() -> None:
    rankings, truth = [["a"], ["a"], ["b"]], [["a"], [], ["a"]]
    of_images = measures.per_image(rankings, truth, vocabulary_of(["a", "b"]))
    assert set(of_images) == {"precision", "recall", "f1", "average_precision", "hit", "best_cosine"}
    for values in of_images.values():
        assert np.isnan(values).tolist() == [False, True, False]
    interval = measures.bootstrap(of_images["hit"])
    assert interval == measures.bootstrap(np.array([1.0, 0.0])) and interval.value == 0.5
    assert measures.bootstrap(np.full(3, np.nan)) is None


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
    same = np.tile(drawn[:, :1], (1, 50, 1))
    np.testing.assert_allclose(measures.sample_diversity(same), 0, atol=1e-12)
    assert (measures.sample_diversity(same) >= 0).all()
    assert np.isnan(measures.sample_diversity(drawn[:, :1])).all()
    assert measures.sample_diversity(np.array([[[1.0, 0], [-2, 0]]])) == pytest.approx([2])


def test_commonest_tags_by_images_then_by_the_alphabet() -> None:
    tags = [["b", "a", "c", "c", "c"], ["d", "b"], [], ["a", "e"]]
    assert baselines.tag_frequencies(tags) == [("a", 2), ("b", 2), ("c", 1), ("d", 1), ("e", 1)]
    assert baselines.commonest(tags, 2, words=3) == [["a", "b", "c"]] * 2
    assert baselines.commonest(tags, 1) == [["a", "b", "c", "d", "e"]]


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


@pytest.mark.parametrize("neighbours", [1, 20, 99])
def test_votes_one_by_one(neighbours: int) -> None:
    rng = np.random.default_rng(10)
    train, queries = (np.maximum(rng.standard_normal((n, 30)), 0).astype(np.float32) for n in (60, 11))
    tags = [list(rng.choice(TAGS, rng.integers(0, 7))) for _ in range(60)]
    for words in (10, 100):
        rankings = baselines.vote(train, tags, queries, neighbours, words)
        assert rankings == [slow_vote(train, tags, query, neighbours, words) for query in queries]


def test_mean_vectors_are_of_directions() -> None:
    vocabulary = Vocabulary.from_arrays(["a", "b"], np.array([[3, 0], [0, 1]], dtype=np.float32))
    rows, vectors = baselines.mean_tag_vectors([["a", "b", "b"], ["unknown"], ["a"], []], vocabulary)
    assert rows.tolist() == [0, 2]
    np.testing.assert_allclose(vectors, [[0.5, 0.5], [1, 0]])
    assert baselines.mean_tag_vectors([[]], vocabulary)[1].shape == (0, 2)


@pytest.mark.parametrize(("images", "alpha"), [(25, 1e-3), (200, 2.0)])
def test_ridge_solves_the_normal_equations(images: int, alpha: float) -> None:
    rng = np.random.default_rng(11)
    train, queries = (rng.uniform(size=(n, 40)).astype(np.float32) for n in (images, 9))
    vectors = rng.standard_normal((images, 6)).astype(np.float32)
    x, t = train.astype(np.float64), vectors.astype(np.float64)
    xc, tc = x - x.mean(0), t - t.mean(0)
    weights = np.linalg.solve(xc.T @ xc + alpha * np.eye(40), xc.T @ tc)
    predicted = (queries - x.mean(0)) @ weights + t.mean(0)
    np.testing.assert_allclose(baselines.ridge_vectors(train, vectors, queries, alpha), predicted, atol=1e-8)


def test_nearest_words_are_by_cosine() -> None:
    vocabulary, vectors = vocabulary_of(TAGS), np.random.default_rng(12).standard_normal((9, 6))
    cosines = vectors @ (vocabulary.vectors / np.linalg.norm(vocabulary.vectors, axis=1, keepdims=True)).T
    rankings = baselines.nearest_words(vectors, vocabulary, words=7)
    assert rankings == [[TAGS[i] for i in row[:7]] for row in (-cosines).argsort(1)]
    assert len(baselines.nearest_words(vectors, vocabulary)[0]) == len(TAGS)


def nonlinear_case(seed: int = 14) -> tuple[Vocabulary, list[np.ndarray], list[list[list[str]]]]:
    """Tags that depend on the product of two features' signs, which no linear map can follow."""
    rng = np.random.default_rng(seed)
    vocabulary = vocabulary_of(["same", "other", *TAGS[:8]], dimension=6)
    features = [rng.standard_normal((n, 12)).astype(np.float32) * 0.2 + 3 for n in (600, 100, 60)]
    for rows in features:
        rows[:, :2] += np.sign(rows[:, :2] - 3)
    signs = [np.sign((rows[:, 0] - 3) * (rows[:, 1] - 3)) for rows in features]
    return vocabulary, features, [[["same" if s > 0 else "other"] for s in part] for part in signs]


def mlp(
    train: np.ndarray,
    vectors: np.ndarray,
    valid: np.ndarray,
    valid_vectors: np.ndarray,
    queries: np.ndarray,
    vocabulary: Vocabulary,
    words: int = 100,
    **options: Any,
) -> list[list[str]]:
    regressor = baselines.train_mlp(train, vectors, valid, valid_vectors, **options)
    return baselines.nearest_words(regressor.vectors(queries), vocabulary, words)


def test_the_mlp_learns_what_a_linear_map_cannot() -> None:
    vocabulary, (train, valid, test), (train_tags, valid_tags, test_tags) = nonlinear_case()
    vectors, valid_vectors = (baselines.mean_tag_vectors(tags, vocabulary)[1] for tags in (train_tags, valid_tags))
    before = torch.random.get_rng_state()
    net = {"hidden": 64, "epochs": 60, "seed": 1, "words": 3}
    rankings = mlp(train, vectors, valid, valid_vectors, test, vocabulary, **net)
    assert torch.equal(before, torch.random.get_rng_state())
    short = [
        mlp(train, vectors, valid, valid_vectors, test, vocabulary, hidden=64, epochs=3, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert short[0] == short[1] != short[2]
    assert all(len(ranking) == 3 for ranking in rankings)
    right = measures.precision(rankings, test_tags, at=1).mean()
    linear = baselines.nearest_words(baselines.ridge_vectors(train, vectors, test, 1.0), vocabulary)
    assert right > 0.9 > 0.75 > measures.precision(linear, test_tags, at=1).mean()


def test_the_mlp_stops_where_validation_images_are_best() -> None:
    """Validation tags opposite to the training ones: the first epoch is the best, and its weights are what counts."""
    vocabulary, (train, valid, test), (train_tags, valid_tags, _) = nonlinear_case()
    vectors, valid_vectors = (baselines.mean_tag_vectors(tags, vocabulary)[1] for tags in (train_tags, valid_tags))
    net = {"hidden": 64, "patience": 2, "seed": 1}
    short, long = (
        mlp(train, vectors, valid, -valid_vectors, test, vocabulary, epochs=epochs, **net) for epochs in (1, 10_000)
    )
    assert short == long


def test_an_mlp_that_diverges_says_so() -> None:
    _, (train, valid, _), _ = nonlinear_case()
    vectors = [np.ones((len(rows), 6), dtype=np.float32) for rows in (train, valid)]
    with pytest.raises(UsageError, match="diverged in epoch 1"):
        baselines.train_mlp(train, vectors[0], valid, vectors[1], hidden=8, learning_rate=1e38)
