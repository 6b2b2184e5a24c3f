"""What the Flickr experiment measures, against plain transcriptions."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from cgan.batches import TrainingSet
from cgan.networks import Discriminator, Generator
from cgan.settings import TrainingSettings
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Layer
from cgan.trainer import Trainer
from embeddings import EmbeddingError
from embeddings.vocabulary import Vocabulary
from experiments import UsageError
from experiments.flickr_tags.dataset import FlickrData, Pairs, Splits, fit_scale
from experiments.flickr_tags.evaluate import (
    Estimator,
    compare,
    rank_by_baselines,
    tag,
    taggable,
)
from experiments.flickr_tags.measures import precision
from experiments.flickr_tags.presets import FLICKR_PRESETS, FlickrConfig
from experiments.runs.records import Interval
from tests.experiments.flickr_tags.test_dataset import made_photos

WORDS = [f"word{i}" for i in range(40)]


def made_data(images: int, seed: int = 0) -> FlickrData:
    rng = np.random.default_rng(seed)
    tags = [tuple(rng.choice(WORDS[:30], size=6, replace=False).tolist()) for _ in range(images)]
    train = int(0.7 * images)
    vectors = rng.standard_normal((len(WORDS), 8)).astype(np.float32)
    features = rng.random((images, 5)).astype(np.float32)
    config = FLICKR_PRESETS["paper"]()
    return FlickrData(
        photos=made_photos(tags),
        rows=np.arange(images),
        tags=tuple(tags),
        user_tags=tuple(tags),
        features=features,
        scale=fit_scale(features, config.features),
        network={"checksum": "0"},
        vocabulary=Vocabulary.from_arrays(WORDS, vectors, list(range(400, 360, -1))),
        splits=Splits(np.arange(train), np.arange(train, images - 10), np.arange(images - 10, images)),
        pairs=Pairs(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)),
        counts={},
    )


def decoding(**settings: int) -> FlickrConfig:
    config = FLICKR_PRESETS["paper"]()
    return replace(config, decoding=replace(config.decoding, neighbours=3, **settings))


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


def small_trainer(data: FlickrData, seed: int = 1) -> Trainer:
    """A real but small trainer for the sizes of the data."""
    layers = (Layer.parse("relu:12"),)
    width, size = data.features.shape[1], data.vocabulary.vectors.shape[1]
    condition = {"condition": "real", "condition_dim": width, "condition_branch": layers, "input_branch": layers}
    generator = Generator(
        GeneratorSpec(input_dim=4, noise="normal", output_dim=size, output="linear", **condition),  # type: ignore[arg-type]
        torch.Generator().manual_seed(seed),
    )
    discriminator = Discriminator(
        DiscriminatorSpec(input_dim=size, **condition),  # type: ignore[arg-type]
        torch.Generator().manual_seed(seed + 1),
    )
    words = torch.from_numpy(data.vocabulary.vectors)
    index = torch.arange(20)
    examples = TrainingSet(words, torch.from_numpy(data.features), index, index)
    return Trainer(generator, discriminator, examples, TrainingSettings(batch_size=10), seed=seed)


def test_an_estimate_sees_validation_images_alone_and_repeats_itself() -> None:
    data = made_data(60)
    config = replace(decoding(samples=5), estimate_images=4)
    trainer, cpu = small_trainer(data), torch.device("cpu")
    first = Estimator(config, data, cpu)(trainer)
    assert math.isfinite(first.score) and first.score == first.columns["valid_average_precision"]
    assert Estimator(config, data, cpu)(trainer) == first
    changed = data.features.copy()
    changed[data.splits.test] *= -3
    others = tuple(("word0",) if i in data.splits.test else tags for i, tags in enumerate(data.tags))
    assert Estimator(config, replace(data, features=changed, tags=others), cpu)(trainer) == first


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_dead_generator_does_not_look_alive(value: float) -> None:
    """Vectors without a direction would decode to the vocabulary's first words, which score like the commonest tags."""
    data = made_data(60)
    trainer = small_trainer(data)
    with torch.no_grad():
        for parameter in trainer.G.parameters():
            parameter.fill_(value)
    assert math.isnan(Estimator(decoding(samples=5), data, torch.device("cpu"))(trainer).score)
    with pytest.raises(EmbeddingError, match="zero" if value == 0 else "not finite"):
        tag(trainer.G, data.features[:3], data.vocabulary, decoding(samples=5), torch.Generator())


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
