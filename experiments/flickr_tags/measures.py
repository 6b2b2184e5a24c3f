"""Measures of ranked tags, image by image, and bootstrap intervals of their means over images.

Rankings and true tags are strings, so any method can be measured.

Of n images, ``rankings[i]`` holds the tags of image i, best first, none twice; ``truth[i]`` its true tags, in any
order. For an image without true tags every measure gives NaN, and the intervals leave it out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from experiments.runs.records import Interval

if TYPE_CHECKING:
    from embeddings.vocabulary import Vocabulary

Rankings = Sequence[Sequence[str]]
Truth = Sequence[Collection[str]]

#: Numbers drawn at a time by the bootstrap, and numbers of sampled vectors taken at a time.
_HELD = 1 << 22


def hits(rankings: Rankings, truth: Truth, at: int) -> np.ndarray:
    """Return (n, ``at``) bool: whether the tag at each place of an image's ranking is one of its true tags.

    Places beyond the end of a ranking are not. Raises ``ValueError`` when there are not as many rankings as images,
    or a ranking holds a tag twice, which would count twice.
    """
    found = np.zeros((len(rankings), at), dtype=bool)
    for image, (ranking, true) in enumerate(zip(rankings, truth, strict=True)):
        top, wanted = ranking[:at], frozenset(true)
        if len(set(top)) < len(top):
            raise ValueError(f"the ranking of image {image} (counted from 0) holds a tag twice")
        found[image, : len(top)] = [tag in wanted for tag in top]
    return found


def precision(rankings: Rankings, truth: Truth, at: int = 10) -> np.ndarray:
    """Return (n,) in [0, 1]: right tags among the first ``at``, divided by ``at``, also where a ranking is shorter."""
    return _of_tagged(hits(rankings, truth, at).sum(1) / at, truth)


def recall(rankings: Rankings, truth: Truth, at: int = 10) -> np.ndarray:
    """Return (n,) in [0, 1]: right tags among the first ``at``, divided by the number of true tags."""
    return _of_tagged(hits(rankings, truth, at).sum(1) / np.maximum(_true_counts(truth), 1), truth)


def f1(rankings: Rankings, truth: Truth, at: int = 10) -> np.ndarray:
    """Return (n,) in [0, 1]: harmonic mean of precision and recall, 2 right / (``at`` + true)."""
    return _of_tagged(2 * hits(rankings, truth, at).sum(1) / (at + _true_counts(truth)), truth)


def average_precision(rankings: Rankings, truth: Truth, at: int = 100) -> np.ndarray:
    """Return (n,) in [0, 1]: sum over the right tags among the first ``at`` of the precision at their places, divided
    by min(true tags, ``at``).

    One if and only if all true tags (or ``at`` of them) stand first; true tags outside the ranking count as never
    found. The mean over images is the mean average precision.
    """
    right = hits(rankings, truth, at)
    at_place = right.cumsum(1) / np.arange(1, at + 1)
    return _of_tagged((at_place * right).sum(1) / np.clip(_true_counts(truth), 1, at), truth)


def hit(rankings: Rankings, truth: Truth, at: int = 10) -> np.ndarray:
    """Return (n,) 0 or 1: whether at least one of the first ``at`` tags is right."""
    return _of_tagged(hits(rankings, truth, at).any(1).astype(np.float64), truth)


def best_cosine(rankings: Rankings, truth: Truth, vocabulary: Vocabulary, at: int = 10) -> np.ndarray:
    """Return (n,) in [-1, 1]: each true tag's best cosine to one of the first ``at`` tags, averaged over true tags.

    A near miss (table for chair) counts by how near it is; a right tag counts 1. True tags without a vector are left
    out, and an image without any other gives NaN. Where no ranked tag has a vector, the image gives 0, as unrelated
    words would on average. Methods compare only under the same ``vocabulary``: take the whole one, not one restricted
    for decoding.
    """
    from embeddings.vocabulary import unit_rows

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


def distinct(rankings: Rankings, at: int = 10) -> int:
    """Return how many different tags stand among the first ``at`` of any image."""
    return len({tag for ranking in rankings for tag in ranking[:at]})


def sample_diversity(vectors: np.ndarray) -> np.ndarray:
    """Return (n,) in [0, 2]: mean cosine distance, 1 - cosine, of all pairs of an image's samples; NaN with one sample.

    ``vectors``: (n, samples, d), finite, none zero. Of unit vectors u the S (S - 1) ordered pairs of different ones
    have the cosines |sum of u|^2 - S in sum.
    """
    images, samples, dimension = vectors.shape
    if samples < 2:
        return np.full(images, np.nan)
    values = np.empty(images)
    size = max(1, _HELD // (samples * dimension))
    for start in range(0, images, size):
        units = np.asarray(vectors[start : start + size], dtype=np.float64)
        units = units / np.linalg.norm(units, axis=2, keepdims=True)
        total = np.square(units.sum(1)).sum(1)
        values[start : start + size] = 1 - (total - samples) / (samples * (samples - 1))
    # Equal samples: the rounding of S^2 - S^2 must not make the distance negative.
    return np.clip(values, 0, 2)


def per_image(
    rankings: Rankings, truth: Truth, vocabulary: Vocabulary, at: int = 10, depth: int = 100
) -> dict[str, np.ndarray]:
    """Return each measure (n,) by name: ``depth`` tags count for average precision, else ``at``."""
    return {
        "precision": precision(rankings, truth, at),
        "recall": recall(rankings, truth, at),
        "f1": f1(rankings, truth, at),
        "average_precision": average_precision(rankings, truth, depth),
        "hit": hit(rankings, truth, at),
        "best_cosine": best_cosine(rankings, truth, vocabulary, at),
    }


def bootstrap(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> Interval | None:
    """Return the mean of ``values`` (n,) over images with its 95% percentile bootstrap interval (Efron, 1979).

    NaN values are left out; None where none is left.
    """
    from scipy import stats

    values = np.asarray(values, dtype=np.float64)
    kept = values[~np.isnan(values)]
    if not len(kept):
        return None
    mean = float(kept.mean())
    if len(kept) == 1:
        return Interval(value=mean, low=mean, high=mean)
    found = stats.bootstrap(
        (kept,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _HELD // len(kept)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value=mean, low=float(found.low), high=float(found.high))


def paired_difference(first: np.ndarray, second: np.ndarray) -> Interval | None:
    """Return the interval of the mean of ``first - second``, two methods' values (n,) of the same images in order.

    Narrower than the two intervals apart suggest: that some images are hard for both cancels out. An image that is NaN
    in either is left out. Raises ``ValueError`` when the lengths differ.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"values of {np.shape(first)} and {np.shape(second)} images are not of the same images")
    return bootstrap(np.subtract(first, second, dtype=np.float64))


def _true_counts(truth: Truth) -> np.ndarray:
    return np.array([len(set(true)) for true in truth], dtype=np.int64)


def _of_tagged(values: ArrayLike, truth: Truth) -> np.ndarray:
    """Return ``values``, but NaN for images without true tags."""
    return np.where(_true_counts(truth) > 0, values, np.nan)
