"""Measures of ranked tags, image by image, and bootstrap intervals of their means over images.

Rankings and true tags are strings, so any method can be measured.

Of n images, ``rankings[i]`` holds the tags of image i, best first, none twice; ``truth[i]`` its true tags, in any
order. For an image without true tags every measure gives NaN, and the intervals leave it out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike

from embeddings.vocabulary import Vocabulary, unit_rows
from experiments.runs.records import Interval

Rankings = Sequence[Sequence[str]]
Truth = Sequence[Collection[str]]


def hits(rankings: Rankings, truth: Truth, at: int) -> np.ndarray:
    """Return (n, ``at``) bool: whether the tag at each place of a ranking is a true one; false beyond its end."""
    found = np.zeros((len(rankings), at), dtype=bool)
    for image, (ranking, true) in enumerate(zip(rankings, truth, strict=True)):
        found[image, : len(ranking[:at])] = [tag in true for tag in ranking[:at]]
    return found


def of_tagged(values: ArrayLike, truth: Truth) -> np.ndarray:
    """Return ``values`` (n,), but NaN for images without true tags."""
    return np.where([bool(true) for true in truth], values, np.nan)


def precision(rankings: Rankings, truth: Truth, at: int = 10) -> np.ndarray:
    """Return (n,) in [0, 1]: right tags among the first ``at``, divided by ``at``, also where a ranking is shorter."""
    return of_tagged(hits(rankings, truth, at).sum(1) / at, truth)


def average_precision(rankings: Rankings, truth: Truth, at: int = 100) -> np.ndarray:
    """Return (n,) in [0, 1]: sum over the right tags among the first ``at`` of the precision at their places, divided
    by min(true tags, ``at``).

    One if and only if all true tags (or ``at`` of them) stand first; true tags outside the ranking count as never
    found. The mean over images is the mean average precision.
    """
    right = hits(rankings, truth, at)
    at_place = right.cumsum(1) / np.arange(1, at + 1)
    true = np.array([len(set(tags)) for tags in truth])
    return of_tagged((at_place * right).sum(1) / np.clip(true, 1, at), truth)


def best_cosine(rankings: Rankings, truth: Truth, vocabulary: Vocabulary, at: int = 10) -> np.ndarray:
    """Return (n,) in [-1, 1]: each true tag's best cosine to one of the first ``at`` tags, averaged over true tags.

    A near miss (table for chair) counts by how near it is; a right tag counts 1. True tags without a vector are left
    out, and an image without any other gives NaN. Where no ranked tag has a vector, the image gives 0, as unrelated
    words would on average. Methods compare only under the same ``vocabulary``: take the whole one.
    """
    values = np.full(len(rankings), np.nan)
    for image, (ranking, true) in enumerate(zip(rankings, truth, strict=True)):
        # Sorted, so that a set's order, which changes from process to process, cannot change the last digits.
        wanted = [vocabulary.index(tag) for tag in sorted(set(true)) if tag in vocabulary]
        given = [vocabulary.index(tag) for tag in ranking[:at] if tag in vocabulary]
        if wanted and given:
            left, right = (unit_rows(vocabulary.vectors[ranks]).astype(np.float64) for ranks in (wanted, given))
            values[image] = np.clip(left @ right.T, -1, 1).max(1).mean()
        elif wanted:
            values[image] = 0
    return values


def per_image(
    rankings: Rankings, truth: Truth, vocabulary: Vocabulary, at: int = 10, depth: int = 100
) -> dict[str, np.ndarray]:
    """Return each measure (n,) by its name in ``MethodMeasures``: ``depth`` tags count for average precision, else
    ``at``.

    Recall divides the right tags by the true ones, F1 is the harmonic mean of precision and recall, a hit is whether
    any of the tags is right.
    """
    right, true = hits(rankings, truth, at).sum(1), np.array([len(set(tags)) for tags in truth])
    return {
        "precision_at_10": precision(rankings, truth, at),
        "recall_at_10": of_tagged(right / np.maximum(true, 1), truth),
        "f1_at_10": of_tagged(2 * right / (at + true), truth),
        "mean_average_precision": average_precision(rankings, truth, depth),
        "hit_at_10": of_tagged(right > 0, truth),
        "best_cosine": best_cosine(rankings, truth, vocabulary, at),
    }


def distinct(rankings: Rankings, at: int = 10) -> int:
    """Return how many different tags stand among the first ``at`` of any image."""
    return len({tag for ranking in rankings for tag in ranking[:at]})


def highest_precision(truth: Truth, vocabulary: Vocabulary, at: int) -> float | None:
    """Return the mean precision at ``at`` of the best choice among ``vocabulary``; None if no photo has a true tag."""
    right = [min(at, sum(tag in vocabulary for tag in set(tags))) for tags in truth if tags]
    return float(np.mean(right)) / at if right else None


def sample_diversity(vectors: np.ndarray) -> np.ndarray:
    """Return (n,) in [0, 2]: mean cosine distance, 1 - cosine, of all pairs of an image's samples; NaN with one sample.

    ``vectors``: (n, samples, d), finite, none zero. Of unit vectors u the S (S - 1) ordered pairs of different ones
    have the cosines |sum of u|^2 - S in sum.
    """
    samples = vectors.shape[1]
    if samples < 2:
        return np.full(len(vectors), np.nan)
    values = np.empty(len(vectors))
    for image, drawn in enumerate(vectors):
        drawn = drawn.astype(np.float64)
        total = np.square((drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).sum(0)).sum()
        values[image] = 1 - (total - samples) / (samples * (samples - 1))
    # Equal samples: the rounding of S^2 - S^2 must not make the distance negative.
    return np.clip(values, 0, 2)


def bootstrap(values: np.ndarray) -> Interval | None:
    """Return the mean of ``values`` (n,) over images with its 95% percentile bootstrap interval (Efron, 1979).

    NaN values are left out; None where none is left.
    """
    from scipy import stats

    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    if not len(kept):
        return None
    mean = float(kept.mean())
    if len(kept) == 1:
        return Interval(value=mean, low=mean, high=mean)
    rng = np.random.default_rng(0)
    found = stats.bootstrap((kept,), np.mean, n_resamples=2000, method="percentile", rng=rng).confidence_interval
    return Interval(value=mean, low=float(found.low), high=float(found.high))
