"""Decoding: against the protocol written out word by word, gensim's neighbours, and every refusal."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings import EmbeddingError
from embeddings.decoding import Decoded, decode, restrict
from embeddings.vocabulary import Vocabulary, unit_rows


def vocabulary_of(vectors: np.ndarray, counts: list[int] | None = None) -> Vocabulary:
    return Vocabulary.from_arrays([f"w{number}" for number in range(len(vectors))], vectors, counts)


def transcription(
    vectors: np.ndarray, samples: np.ndarray, neighbours: int, words: int
) -> list[list[tuple[int, float, float]]]:
    """The protocol of section 4.2, one sample after the other: (rank, share, summed cosine) of each image's words."""
    units = unit_rows(vectors).astype(np.float64)
    images = []
    for image in samples:
        occurrences: dict[int, int] = defaultdict(int)
        similarity: dict[int, float] = defaultdict(float)
        for sample in unit_rows(image).astype(np.float64):
            # Cosines count in float32's precision, so that equal vectors are equally near however they were summed.
            cosines = [float(np.float32((sample * unit).sum())) for unit in units]
            for rank in sorted(range(len(units)), key=lambda rank: (-cosines[rank], rank))[:neighbours]:
                occurrences[rank] += 1
                similarity[rank] += cosines[rank]
        best = sorted(occurrences, key=lambda rank: (-occurrences[rank], -similarity[rank], rank))[:words]
        images.append([(rank, occurrences[rank] / len(image), similarity[rank]) for rank in best])
    return images


def assert_same(decoded: Decoded, expected: list[list[tuple[int, float, float]]], words: int) -> None:
    assert decoded.ranks.shape == decoded.shares.shape == decoded.similarity.shape == (len(expected), words)
    assert (decoded.ranks.dtype, decoded.shares.dtype, decoded.similarity.dtype) == (np.int64, np.float32, np.float32)
    for image, best in enumerate(expected):
        filling = words - len(best)
        ranks, shares, sums = zip(*best, strict=True)
        assert decoded.ranks[image].tolist() == [*ranks, *[-1] * filling]
        np.testing.assert_allclose(decoded.shares[image], [*shares, *[0] * filling], rtol=1e-6)
        np.testing.assert_allclose(decoded.similarity[image], [*sums, *[0] * filling], rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(2, 40),
    dimension=st.integers(1, 6),
    images=st.integers(1, 4),
    samples=st.integers(1, 12),
    neighbours=st.integers(1, 10),
    words=st.integers(1, 15),
    levels=st.integers(1, 3),
)
def test_the_protocol_word_by_word(seed, size, dimension, images, samples, neighbours, words, levels) -> None:
    """Of few different numbers, so that words, samples, cosines and sums are often exactly equal."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-levels, levels + 1, (size, dimension)).astype(np.float32)
    drawn = rng.integers(-levels, levels + 1, (images, samples, dimension)).astype(np.float32)
    for rows in (vectors, drawn):
        rows[~rows.any(-1), 0] = 1
    neighbours = min(neighbours, size)
    decoded = decode(vocabulary_of(vectors), drawn, neighbours, words)
    assert_same(decoded, transcription(vectors, drawn, neighbours, words), words)


def test_blocks_are_as_good_as_one_array() -> None:
    rng = np.random.default_rng(2)
    vocabulary = vocabulary_of(rng.standard_normal((300, 8)))
    drawn = rng.standard_normal((23, 7, 8))
    whole = decode(vocabulary, drawn, 5, 40)
    assert (whole.ranks >= 0).any() and (whole.ranks < 0).any()
    blocks = decode(vocabulary, iter(np.split(drawn, [0, 1, 2, 9, 23])), 5, 40)
    for name in ("ranks", "shares", "similarity"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))


@pytest.mark.parametrize(("value", "says"), [(np.nan, "is not finite"), (-np.inf, "is not finite"), (0, "is zero")])
def test_a_diverged_generator_is_an_error(value: float, says: str) -> None:
    drawn = np.ones((4, 6, 3), dtype=np.float32)
    drawn[2, 5] = value
    for vectors in (drawn, (drawn[i : i + 1] for i in range(4))):
        with pytest.raises(EmbeddingError, match=rf"image 2, sample 5 .* {says}"):
            decode(vocabulary_of(np.eye(3)), vectors, 2)


@pytest.mark.parametrize(
    ("drawn", "neighbours", "says"),
    [
        (np.ones((2, 4, 5)), 2, r"shape \(2, 4, 5\): give \(images, samples, 3\)"),
        (np.ones((4, 3)), 2, r"shape \(4, 3\)"),
        (np.ones((2, 0, 3)), 2, "one sample or more"),
        (np.ones((2, 4, 3)), 4, "the vocabulary holds 3: take 1 to 3"),
        ([np.ones((2, 4, 3)), np.ones((2, 4, 2))], 2, r"shape \(2, 4, 2\)"),
    ],
)
def test_what_cannot_be_decoded(drawn, neighbours: int, says: str) -> None:
    with pytest.raises(EmbeddingError, match=says):
        decode(vocabulary_of(np.eye(3)), drawn, neighbours, 2)


def test_a_minimum_count_leaves_the_frequent_words_and_their_ranks() -> None:
    vectors = np.random.default_rng(4).standard_normal((5, 3))
    vocabulary = vocabulary_of(vectors, [9, 7, 7, 2, 1])
    vocabulary.info = {"window": 5}
    smaller = restrict(vocabulary, 7)
    assert smaller.words == ["w0", "w1", "w2"] and smaller.counts.tolist() == [9, 7, 7]
    assert smaller.info == {"window": 5}
    np.testing.assert_array_equal(smaller.vectors, vocabulary.vectors[:3])
    assert restrict(vocabulary, 1) is vocabulary
    with pytest.raises(EmbeddingError, match="does not say how often"):
        restrict(vocabulary_of(np.eye(2)), 5)
    with pytest.raises(EmbeddingError, match=r"no word was seen 5 times, the commonest \('w0'\) 4 times"):
        restrict(vocabulary_of(np.eye(2), [4, 4]), 5)
