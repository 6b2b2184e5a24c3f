"""One photo, many words: do the samples of a photo differ as its real tags do, and are they right? (section 2)

Every method draws equally many words for each photo: a sampled vector's nearest word, or a real tag. Ranks nothing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from embeddings.vocabulary import Vocabulary, unit_rows
from experiments.flickr_tags import baselines
from experiments.flickr_tags.baselines import Regressor, Tags
from experiments.flickr_tags.dataset import FlickrData, Pairs, make_pairs
from experiments.flickr_tags.measures import Truth, bootstrap, sample_diversity
from experiments.runs.records import SOURCES, CalibrationBin, OneToMany

#: The words drawn for n photos: n lists of equal length.
Words = Sequence[Sequence[str]]

#: Ends of the bins of the reliability curve: shares of a photo's samples that have a word.
EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


def nearest_word(vectors: np.ndarray, vocabulary: Vocabulary) -> list[list[str]]:
    """Return the word nearest by cosine to each of the vectors (n, samples, d)."""
    ranks, _ = vocabulary.nearest(vectors.reshape(-1, vectors.shape[2]), 1)
    return [[vocabulary.words[rank] for rank in row] for row in ranks.reshape(vectors.shape[:2]).tolist()]


def measure(words: Words, diversity: np.ndarray, truth: Truth) -> OneToMany:
    """Return all measures of the words of n photos; ``diversity`` (n,) is of the vectors they came from.

    Coverage is the share of a photo's true tags that are among its words, correctness the share of its words that are
    true tags. Photos without true tags count for neither.
    """
    tagged = [(drawn, set(true)) for drawn, true in zip(words, truth, strict=True) if true]
    return OneToMany(
        diversity=bootstrap(diversity),
        coverage=bootstrap(np.array([len(true.intersection(drawn)) / len(true) for drawn, true in tagged])),
        correctness=bootstrap(np.array([np.mean([word in true for word in drawn]) for drawn, true in tagged])),
        calibration=calibration(words, truth),
    )


def calibration(words: Words, truth: Truth) -> list[CalibrationBin]:
    """Return a reliability curve: of words that a share of a photo's samples have, how many are true tags of it.

    A bin for each interval of ``EDGES`` that some (photo, word) falls in. A calibrated method has equal numbers.
    """
    found = [
        (count / len(drawn), word in true)
        for drawn, true in zip(words, truth, strict=True)
        if true
        for word, count in sorted(Counter(drawn).items())
    ]
    share, right = np.array(found, dtype=float).reshape(-1, 2).T
    bins = []
    for low, high in pairwise(EDGES):
        here = (share > low) & (share <= high)
        if here.any():
            means = {"drawn": float(share[here].mean()), "right": float(right[here].mean())}
            bins.append(CalibrationBin(low=low, high=high, pairs=int(here.sum()), **means))
    return bins


def similar_tags(
    train_features: np.ndarray,
    train_tags: Tags,
    features: np.ndarray,
    neighbours: int,
    samples: int,
    rng: np.random.Generator,
) -> list[list[str]]:
    """Return ``samples`` real tags for each photo, drawn from all tags of the ``neighbours`` nearest training photos.

    A tag comes as often as these photos have it; every training photo must have one.
    """
    nearest, _ = baselines.nearest_images(train_features, features, neighbours)
    tags_of = ([tag for image in row for tag in sorted(set(train_tags[image]))] for row in nearest.tolist())
    return [rng.choice(tags, samples).tolist() for tags in tags_of]


def ridge_with_noise(
    predicted: np.ndarray,
    fitted: np.ndarray,
    pairs: Pairs,
    units: np.ndarray,
    samples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return (n, samples, d): vectors that ridge predicts plus Gaussian noise of its residuals' covariance.

    ``predicted`` (n, d) is of the photos asked for, ``fitted`` (m, d) of the training photos. A residual is what the
    unit vector of a training photo's tag differs from the photo's prediction; ``pairs`` lists (photo, tag), ``units``
    (V, d) the vectors.
    """
    covariance = np.cov(units[pairs.words].astype(np.float64) - fitted[pairs.images], rowvar=False)
    noise = rng.multivariate_normal(np.zeros(len(covariance)), covariance, (len(predicted), samples), method="eigh")
    return (predicted[:, None] + noise).astype(np.float32)


def real_diversity(tags: Tags, vocabulary: Vocabulary) -> np.ndarray:
    """Return (n,): mean cosine distance between the word vectors of a photo's tags; NaN with fewer than two."""
    ranks = [[vocabulary.index(tag) for tag in sorted(set(of_photo)) if tag in vocabulary] for of_photo in tags]
    return np.array([sample_diversity(vocabulary.vectors[row][None])[0] if row else np.nan for row in ranks])


def compare(
    data: FlickrData,
    vocabulary: Vocabulary,
    vectors: dict[str, np.ndarray],
    voters: int,
    alpha: float,
    regressor: Regressor,
    seed: int,
) -> dict[str, OneToMany]:
    """Return the measures of every source of ``SOURCES`` on the test photos.

    ``vocabulary`` holds the words that can be drawn, ``data.vocabulary`` all. ``vectors`` are the cGAN's samples
    (n, samples, d) by source; ``voters`` and ``alpha`` are the settings of the baselines of the same kind,
    ``regressor`` the trained MLP. True tags are those that can be drawn.
    """
    drawable = [[tag for tag in tags if tag in vocabulary] for tags in data.tags]
    test = data.splits.test
    truth = [drawable[i] for i in test.tolist()]
    # Training photos that have a tag which can be drawn; ``taggable`` sees to it that there are some.
    tagged = [i for i in data.splits.train.tolist() if drawable[i]]
    known = [drawable[i] for i in tagged]
    x, test_x, samples = data.features[tagged], data.features[test], next(iter(vectors.values())).shape[1]
    _, means = baselines.mean_tag_vectors(known, data.vocabulary)
    units, rng = unit_rows(data.vocabulary.vectors), np.random.default_rng(seed % 2**64)
    predicted = baselines.ridge_vectors(x, means, np.concatenate([test_x, x]), alpha)
    pairs = make_pairs(known, np.arange(len(known)), data.vocabulary, sys.maxsize)
    drawn = {
        **vectors,
        "ridge_noise": ridge_with_noise(predicted[: len(test)], predicted[len(test) :], pairs, units, samples, rng),
        "mlp_dropout": regressor.sample(test_x, samples, seed),
    }
    found = {
        source: measure(nearest_word(block, vocabulary), sample_diversity(block), truth)
        for source, block in drawn.items()
    }
    similar = similar_tags(x, known, test_x, voters, samples, rng)
    of_words = units[[[data.vocabulary.index(word) for word in row] for row in similar]]
    found["similar"] = measure(similar, sample_diversity(of_words), truth)
    found["real"] = OneToMany(diversity=bootstrap(real_diversity(truth, data.vocabulary)))
    return {source: found[source] for source in SOURCES}
