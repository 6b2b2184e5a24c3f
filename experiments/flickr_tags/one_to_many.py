"""One photo, many words: do the samples of a photo differ as its real tags do, and are they right? (section 2)

Every method draws equally many words for each photo: a sampled vector's nearest word, or a real tag. Draws words and
measures them; ranks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from experiments.flickr_tags import baselines
from experiments.flickr_tags.baselines import Regressor, Tags
from experiments.flickr_tags.measures import Truth, bootstrap, sample_diversity
from experiments.runs.records import SOURCES, CalibrationBin, OneToMany

if TYPE_CHECKING:
    from embeddings.vocabulary import Vocabulary
    from experiments.flickr_tags.dataset import FlickrData

#: The words drawn for n photos: n lists of equal length.
Words = Sequence[Sequence[str]]

#: Ends of the bins of the reliability curve: shares of a photo's samples that have a word.
EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


def nearest_word(vectors: np.ndarray, vocabulary: Vocabulary) -> list[list[str]]:
    """Return the word nearest by cosine to each of the vectors (n, samples, d)."""
    ranks, _ = vocabulary.nearest(vectors.reshape(-1, vectors.shape[2]), 1)
    return [[vocabulary.words[rank] for rank in row] for row in ranks.reshape(vectors.shape[:2]).tolist()]


def coverage(words: Words, truth: Truth) -> np.ndarray:
    """Return (n,) in [0, 1]: share of a photo's true tags that are among its words; NaN without true tags."""
    return np.array(
        [
            len(set(drawn) & set(true)) / len(set(true)) if true else np.nan
            for drawn, true in zip(words, truth, strict=True)
        ]
    )


def correctness(words: Words, truth: Truth) -> np.ndarray:
    """Return (n,) in [0, 1]: share of a photo's words that are true tags of it; NaN without true tags."""
    return np.array(
        [
            np.mean([word in set(true) for word in drawn]) if true else np.nan
            for drawn, true in zip(words, truth, strict=True)
        ]
    )


def calibration(words: Words, truth: Truth) -> list[CalibrationBin]:
    """Return a reliability curve: of words that a share of a photo's samples have, how many are true tags of it.

    A bin for each interval of ``EDGES`` that some (photo, word) falls in. A calibrated method has equal numbers.
    """
    shares, right = list[float](), list[bool]()
    for drawn, true in zip(words, truth, strict=True):
        for word in sorted(set(drawn)) if true else ():
            shares.append(list(drawn).count(word) / len(drawn))
            right.append(word in set(true))
    share, is_right = np.array(shares), np.array(right, dtype=float)
    bins = []
    for low, high in pairwise(EDGES):
        here = (share > low) & (share <= high)
        if here.any():
            mean, true_share = float(share[here].mean()), float(is_right[here].mean())
            bins.append(CalibrationBin(low=low, high=high, pairs=int(here.sum()), drawn=mean, right=true_share))
    return bins


def measure(words: Words, diversity: np.ndarray, truth: Truth) -> OneToMany:
    """Return all measures of the words of n photos; ``diversity`` (n,) is of the vectors they came from."""
    return OneToMany(
        diversity=bootstrap(diversity),
        coverage=bootstrap(coverage(words, truth)),
        correctness=bootstrap(correctness(words, truth)),
        calibration=calibration(words, truth),
    )


def similar_tags(
    train_features: np.ndarray,
    train_tags: Tags,
    features: np.ndarray,
    neighbours: int,
    samples: int,
    rng: np.random.Generator,
) -> list[list[str]]:
    """Return ``samples`` real tags for each photo, drawn from all tags of the ``neighbours`` nearest training photos.

    A tag comes as often as these photos have it. Raises ``UsageError`` when the arrays do not fit.
    """
    nearest, _ = baselines.nearest_images(train_features, features, neighbours)
    drawn = []
    for row in nearest.tolist():
        tags = [tag for image in row for tag in sorted(set(train_tags[image]))]
        drawn.append(rng.choice(tags, samples).tolist() if tags else [""] * samples)
    return drawn


def ridge_with_noise(
    train_features: np.ndarray,
    train_vectors: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    features: np.ndarray,
    alpha: float,
    samples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return (n, samples, d): the linear map's vector of each photo plus Gaussian noise of the residuals' covariance.

    ``train_features``, ``train_vectors`` and ``alpha`` are those of ``baselines.ridge``. ``pairs`` are features (m, f)
    and unit word vectors (m, d) of (photo, tag) pairs: a residual is what a tag differs from its photo's prediction.
    """
    predicted = baselines.ridge_vectors(train_features, train_vectors, np.concatenate([features, pairs[0]]), alpha)
    mean, fitted = predicted[: len(features)], predicted[len(features) :]
    covariance = np.cov(pairs[1].astype(np.float64) - fitted, rowvar=False)
    noise = rng.multivariate_normal(np.zeros(len(covariance)), covariance, (len(features), samples), method="eigh")
    return (mean[:, None] + noise).astype(np.float32)


def real_diversity(tags: Tags, vocabulary: Vocabulary) -> np.ndarray:
    """Return (n,): mean cosine distance between the word vectors of a photo's tags; NaN with fewer than two."""
    values = np.full(len(tags), np.nan)
    for i, of_photo in enumerate(tags):
        ranks = [vocabulary.index(tag) for tag in sorted(set(of_photo)) if tag in vocabulary]
        if len(ranks) > 1:
            values[i] = sample_diversity(vocabulary.vectors[ranks][None])[0]
    return values


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

    ``vectors`` are the cGAN's samples (n, samples, d) by source; ``voters`` and ``alpha`` are the settings of the
    baselines of the same kind, ``regressor`` the trained MLP. True tags are those that ``vocabulary`` can give.
    """
    from embeddings.vocabulary import unit_rows

    train, test = data.splits.train, data.splits.test
    truth = [[tag for tag in data.tags[i] if tag in vocabulary] for i in test.tolist()]
    known = [[tag for tag in data.tags[i] if tag in vocabulary] for i in train.tolist()]
    x, test_x, samples = data.features[train], data.features[test], next(iter(vectors.values())).shape[1]
    having, means = baselines.mean_tag_vectors(known, data.vocabulary)
    rng = np.random.default_rng(seed)
    units = unit_rows(data.vocabulary.vectors)
    pairs = [(i, data.vocabulary.index(tag)) for i, tags in enumerate(known) for tag in tags]
    of_pairs = x[[i for i, _ in pairs]], units[[rank for _, rank in pairs]]
    drawn = {
        **vectors,
        "ridge_noise": ridge_with_noise(x[having], means, of_pairs, test_x, alpha, samples, rng),
        "mlp_dropout": regressor.sample(test_x, samples, seed),
    }
    found = {
        source: measure(nearest_word(block, vocabulary), sample_diversity(block), truth)
        for source, block in drawn.items()
    }
    similar = similar_tags(x, known, test_x, voters, samples, rng)
    of_words = np.array([[units[data.vocabulary.index(word)] for word in row] for row in similar])
    found["similar"] = measure(similar, sample_diversity(of_words), truth)
    found["real"] = OneToMany(diversity=bootstrap(real_diversity(truth, data.vocabulary)))
    return {source: found[source] for source in SOURCES if source in found}
