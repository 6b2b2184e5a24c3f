"""What the Flickr experiment measures, against plain transcriptions."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from cgan.specs import Layer
from cgan.trainer import Trainer
from embeddings.vocabulary import Vocabulary
from experiments import UsageError
from experiments.flickr_tags.__main__ import build
from experiments.flickr_tags.dataset import FlickrData, Scale, Splits, make_pairs
from experiments.flickr_tags.evaluate import Estimator, compare, rank_by_baselines, taggable
from experiments.flickr_tags.measures import precision
from experiments.flickr_tags.presets import FLICKR_PRESETS, FlickrConfig
from experiments.runs.records import Interval
from tests.experiments.flickr_tags.test_dataset import changed, made_photos

WORDS = [f"word{i}" for i in range(40)]


def made_data(images: int, seed: int = 0) -> FlickrData:
    rng = np.random.default_rng(seed)
    tags = [tuple(rng.choice(WORDS[:30], size=6, replace=False).tolist()) for _ in range(images)]
    train = int(0.7 * images)
    vectors = rng.standard_normal((len(WORDS), 8)).astype(np.float32)
    vocabulary = Vocabulary.from_arrays(WORDS, vectors, list(range(400, 360, -1)))
    features = rng.random((images, 5)).astype(np.float32)
    config = FLICKR_PRESETS["paper"]()
    return FlickrData(
        photos=made_photos(tags),
        rows=np.arange(images),
        tags=tuple(tags),
        user_tags=tuple(tags),
        features=features,
        scale=Scale.fit(features, config.features),
        network={"checksum": "0"},
        vocabulary=vocabulary,
        splits=Splits(np.arange(train), np.arange(train, images - 10), np.arange(images - 10, images)),
        pairs=make_pairs(tags, np.arange(train), vocabulary, 10_000),
        counts={},
    )


def decoding(length: float = 10.0, **settings: int) -> FlickrConfig:
    """The paper's preset with nets that fit, and are small."""
    layers = (Layer.parse("relu:12"),)
    sizes = {"condition_dim": 5, "condition_branch": layers, "input_branch": layers}
    return changed(
        FLICKR_PRESETS["paper"](),
        generator={"input_dim": 4, "output_dim": 8, **sizes},
        discriminator={"input_dim": 8, "joint": (), **sizes},
        training={"batch_size": 10, "averaging": 0.0},
        decoding={"neighbours": 3, **settings},
        words={"length": length},
    )


def small_trainer(data: FlickrData, length: float = 10.0) -> Trainer:
    return build(decoding(length), data, 1, "float32", torch.device("cpu"))


@pytest.mark.parametrize(("images", "min_photos", "least"), [(100, 10, 2), (100, 1, 1), (1000, 10, 10), (100, 0, 0)])
def test_only_words_of_so_many_training_photos_come_out(images: int, min_photos: int, least: int) -> None:
    data = made_data(images)
    counts = Counter(tag for i in data.splits.train.tolist() for tag in data.tags[i])
    found = taggable(data, decoding(min_photos=min_photos))
    expected = [word for word in WORDS if counts[word] >= least]
    assert found.words == expected
    ranks = [data.vocabulary.index(word) for word in expected]
    np.testing.assert_array_equal(found.vectors, data.vocabulary.vectors[ranks])


def test_too_few_frequent_words_are_an_error() -> None:
    assert taggable(made_data(100), decoding(min_photos=0, min_count=391)).words == WORDS[:10]
    with pytest.raises(UsageError, match=r"only 2 words .* --decoding.min-photos or --decoding.neighbours"):
        taggable(made_data(100), decoding(min_photos=0, min_count=399))


def test_the_comparison_is_of_the_same_photos() -> None:
    data = made_data(100)
    truth = [data.tags[i] for i in range(50)]
    rng = np.random.default_rng(1)
    rankings = {name: [rng.permutation(WORDS).tolist() for _ in truth] for name in ("cgan", "vote")}
    rows = compare(rankings, truth, data.vocabulary, 10, np.full(50, 0.25))
    first, second = (precision(rankings[name], truth, 10) for name in ("cgan", "vote"))
    for name, values in (("cgan", first), ("vote", second)):
        interval = rows[name].precision_at_10
        assert interval.value == pytest.approx(values.mean(), abs=1e-12)
        assert interval.low < values.mean() < interval.high
    difference = rows["vote"].cgan_minus_this_precision
    assert difference.value == pytest.approx((first - second).mean(), abs=1e-12)
    assert rows["cgan"].diversity == Interval(value=0.25, low=0.25, high=0.25)
    assert rows["vote"].diversity is None and rows["cgan"].cgan_minus_this_precision is None


@pytest.mark.parametrize("length", [0.0, 5.0])
def test_words_are_learnt_at_one_length_or_at_their_own(length: float) -> None:
    data = made_data(60)
    expected = data.vocabulary.vectors.astype(np.float64)
    if length:
        expected = length * expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(small_trainer(data, length).training_set.x, expected, rtol=1e-5)


def test_an_estimate_sees_validation_images_alone_and_repeats_itself() -> None:
    data = made_data(60)
    config = replace(decoding(samples=5), estimate_images=4)
    trainer, cpu = small_trainer(data), torch.device("cpu")
    first = Estimator(config, data, cpu)(trainer)
    assert math.isfinite(first.score) and first.score == first.columns["valid_average_precision"]
    assert Estimator(config, data, cpu)(trainer) == first
    features = data.features.copy()
    features[data.splits.test] *= -3
    others = tuple(("word0",) if i in data.splits.test else tags for i, tags in enumerate(data.tags))
    assert Estimator(config, replace(data, features=features, tags=others), cpu)(trainer) == first


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_dead_generator_does_not_look_alive(value: float) -> None:
    """Vectors without a direction would decode to the vocabulary's first words, which score like the commonest tags."""
    data = made_data(60)
    trainer = small_trainer(data)
    with torch.no_grad():
        for parameter in trainer.G.parameters():
            parameter.fill_(value)
    assert math.isnan(Estimator(decoding(samples=5), data, torch.device("cpu"))(trainer).score)


def test_baselines_never_see_a_test_images_tags() -> None:
    data, config = made_data(60), decoding(min_photos=0)
    words = taggable(data, config)
    hidden = replace(data, tags=tuple(() if i in data.splits.test else tags for i, tags in enumerate(data.tags)))
    (found, chosen, _), (again, same, _) = (
        rank_by_baselines(each, words, 1, lambda ranking: float(len({tuple(row) for row in ranking})))
        for each in (data, hidden)
    )
    assert again == found and same == chosen
    assert found.keys() == {"commonest", "vote", "ridge", "mlp"}
    assert all(len(ranking) == len(data.splits.test) for ranking in found.values())
