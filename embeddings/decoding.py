"""From many sampled vectors of an item to its words: the nearest words of every sample, the commonest of them all.

Sampling and measures are the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from tqdm import tqdm

from embeddings import EmbeddingError
from embeddings.vocabulary import Vocabulary, unusable_row

#: Samples whose neighbours are held at a time: a few blocks of the search, and some MiB of counting.
_SAMPLES = 8192


@dataclass(frozen=True, eq=False)
class Decoded:
    """The words of n items, each item's best first; all three arrays are (n, words).

    ``ranks``: int64, the words' frequency ranks in the vocabulary; -1 where an item has fewer words.
    ``shares``: float32 from 0 to 1, the part of the item's samples that have the word among their neighbours.
    ``similarity``: float32, the summed cosines of the word to those samples. Both are 0 where the rank is -1.
    """

    ranks: np.ndarray
    shares: np.ndarray
    similarity: np.ndarray

    def rankings(self, vocabulary: Vocabulary) -> list[list[str]]:
        """Return each item's words, its best first; ``vocabulary`` is the one that decoded."""
        return [[vocabulary.words[rank] for rank in row if rank >= 0] for row in self.ranks.tolist()]


def decode(
    vocabulary: Vocabulary,
    vectors: np.ndarray | Iterable[np.ndarray],
    neighbours: int = 20,
    words: int = 10,
    *,
    device: str = "cpu",
    progress: bool = False,
) -> Decoded:
    """Return the ``words`` commonest of the ``neighbours`` nearest words of each item's samples (section 4.2).

    Of the words of all of an item's samples those stand first that occur most often, of equally common ones that of
    the larger summed cosine, then the more frequent one. ``vectors`` is (n, samples, d), or blocks (b, samples, d) of
    it one after the other. The search runs on ``device``; ``progress`` shows a bar.

    Raises ``EmbeddingError`` for vectors of another shape or dimension, without samples, not finite or zero (NaN would
    decode to the vocabulary's first words, which look like good ones), and ``neighbours`` out of range.
    """
    if not 1 <= neighbours <= len(vocabulary):
        raise EmbeddingError(
            f"decoding was to take the {neighbours:,} words nearest to a sample, but the vocabulary holds "
            f"{len(vocabulary):,}: take 1 to {len(vocabulary):,} neighbours, or a lower minimum count"
        )
    whole, dimension = hasattr(vectors, "ndim"), vocabulary.vectors.shape[1]  # else an iterable of blocks
    parts = [Decoded(np.empty((0, words), np.int64), *np.empty((2, 0, words), np.float32))]
    total, first = len(vectors) if whole else None, 0  # type: ignore[arg-type]
    with tqdm(total=total, desc="decoding", unit="image", disable=None if progress else True, leave=False) as bar:
        for block in [vectors] if whole else vectors:
            block = np.asarray(block)
            if block.ndim != 3 or block.shape[1] == 0 or block.shape[2] != dimension:
                raise EmbeddingError(
                    f"the sampled vectors are of shape {block.shape}: give (images, samples, {dimension}), one sample "
                    "or more, and decode with the vocabulary that they were trained on"
                )
            size = max(1, _SAMPLES // block.shape[1])
            for part in (block[start : start + size] for start in range(0, len(block), size)):
                flat = part.reshape(-1, dimension)
                if (bad := unusable_row(flat)) is not None:
                    image, sample = divmod(bad[0], block.shape[1])
                    raise EmbeddingError(
                        f"the vector of image {first + image}, sample {sample} (both counted from 0) {bad[1]}, so no "
                        "word is near to it: its generator has diverged; take an earlier checkpoint or train again"
                    )
                near, cosines = vocabulary.nearest(flat, neighbours, device)
                shape = (*part.shape[:2], neighbours)
                parts.append(commonest(near.reshape(shape), cosines.reshape(shape), len(vocabulary), words))
                bar.update(len(part))
                first += len(part)
    return Decoded(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Decoded)))


def commonest(ranks: np.ndarray, cosines: np.ndarray, vocabulary_size: int, words: int) -> Decoded:
    """Return the ``words`` commonest neighbours of each item.

    ``ranks`` (n, samples, neighbours) are integers from 0 to ``vocabulary_size`` - 1, no word twice in one sample;
    ``cosines`` are of the same shape.
    """
    items, samples = ranks.shape[:2]
    # Word w of item i has the key i V + w: one sort finds the different words of all items.
    keys = (np.arange(items)[:, None] * vocabulary_size + ranks.reshape(items, -1)).ravel()
    found, of, counts = np.unique(keys, return_inverse=True, return_counts=True)
    # Float32 cosines add up in float64 without rounding (but for ones below a millionth), so ties stay ties.
    sums = np.bincount(of.ravel(), weights=cosines.ravel(), minlength=len(found))
    item, rank = np.divmod(found, vocabulary_size)
    order = np.lexsort((rank, -sums, -counts, item))
    item = item[order]
    place = np.arange(len(order)) - np.searchsorted(item, np.arange(items))[item]
    kept = place < words
    order, at = order[kept], (item[kept], place[kept])
    result = Decoded(np.full((items, words), -1, dtype=np.int64), *np.zeros((2, items, words), dtype=np.float32))
    result.ranks[at] = rank[order]
    result.shares[at] = counts[order] / samples
    result.similarity[at] = sums[order]
    return result


def restrict(vocabulary: Vocabulary, min_count: int) -> Vocabulary:
    """Return the words of ``vocabulary`` seen at least ``min_count`` times, itself if all were; ranks stay the same.

    Raises ``EmbeddingError`` when the counts are not known or no word is left.
    """
    counts, commonest_word = vocabulary.counts, vocabulary.words[0]
    if counts is None:
        raise EmbeddingError(
            f"a minimum count of {min_count:,} was asked for, but the vocabulary does not say how often its words "
            "were seen: use a vocabulary saved with its counts, or ask for no minimum"
        )
    if (kept := int(np.count_nonzero(counts >= min_count))) == 0:
        raise EmbeddingError(
            f"no word was seen {min_count:,} times, the commonest ({commonest_word!r}) {counts[0]:,} times: lower the "
            "minimum count"
        )
    return vocabulary if kept == len(vocabulary) else vocabulary.subset(range(kept))  # The most frequent stand first.
