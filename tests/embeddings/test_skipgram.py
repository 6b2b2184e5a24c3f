"""Skip-gram: settings, repeatability, many files, and what the vectors of real captions mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gensim.models import Word2Vec

from embeddings import EmbeddingError
from embeddings.corpus import CorpusFile, token_line, write_lines
from embeddings.skipgram import SkipGram, train
from embeddings.vocabulary import Vocabulary

Corpus = tuple[Path, list[CorpusFile]]

TOPICS = [
    ["dog", "puppy", "bark", "leash"],
    ["sea", "beach", "wave", "sand"],
    ["car", "road", "wheel", "driver"],
]


def lines(number: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(TOPICS[rng.integers(3)], 8)) for _ in range(number)]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return tmp_path, write_lines([lines(1500)], tmp_path, "shard", lines_per_file=600)


SMALL = {"vector_size": 16, "min_count": 2, "workers": 1, "epochs": 3}


@pytest.mark.parametrize(
    "wrong",
    [*({name: 0} for name in ("vector_size", "min_count", "epochs", "alpha")), {"sample": 1.0}, {"seed": -1}],
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(EmbeddingError, match=next(iter(wrong))):
        SkipGram(**wrong)


def test_one_worker_and_a_seed_give_the_same_vectors_twice(corpus: Corpus) -> None:
    first, second = (train(*corpus, SkipGram(**SMALL)) for _ in range(2))
    assert first.words == second.words
    assert np.array_equal(first.vectors, second.vectors)
    other = train(*corpus, SkipGram(**SMALL, seed=2))
    assert not np.array_equal(first.vectors, other.vectors)


def test_one_file_and_one_epoch_are_gensims_own(tmp_path: Path) -> None:
    files = write_lines([lines(800)], tmp_path, "shard")
    settings = SkipGram(**{**SMALL, "epochs": 1})
    ours = train(tmp_path, files, settings)
    model = Word2Vec(sg=1, vector_size=16, min_count=1, epochs=1, seed=1, workers=1, sorted_vocab=0)
    model.build_vocab_from_freq(dict(zip(ours.words, ours.counts.tolist(), strict=True)), corpus_count=800)
    model.train(corpus_file=str(tmp_path / files[0].name), total_words=files[0].tokens, epochs=1)
    assert np.array_equal(ours.vectors, model.wv.vectors)


def test_words_come_most_frequent_first_with_their_counts(corpus: Corpus) -> None:
    counted, trained = [], []
    vocabulary = train(*corpus, SkipGram(**SMALL), counted.append, trained.append)
    text = " ".join((corpus[0] / file.name).read_text() for file in corpus[1]).split()
    assert dict(zip(vocabulary.words, vocabulary.counts, strict=True)) == {w: text.count(w) for w in set(text)}
    assert (np.diff(vocabulary.counts) <= 0).all()
    assert sum(counted) == len(text) and sum(trained) == 3 * len(text)


def test_more_workers_than_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = write_lines([["a b c", "a b"]], tmp_path, "shard", lines_per_file=1)
    assert train(tmp_path, files, SkipGram(vector_size=4, min_count=1, workers=16)).words == ["a", "b", "c"]
    assert capfd.readouterr().err == ""


def test_a_minimum_count_that_leaves_nothing_is_an_error(corpus: Corpus) -> None:
    with pytest.raises(EmbeddingError, match="no word of the corpus occurs 1,000,000 times: lower the minimum"):
        train(*corpus, SkipGram(min_count=1_000_000))


PAIRS = [
    ("dog", "dogs"),
    ("dog", "puppy"),
    ("beach", "sand"),
    ("ocean", "waves"),
    ("snow", "mountain"),
    ("basketball", "player"),
    ("bike", "bicycle"),
    ("guitar", "microphone"),
    ("boy", "girl"),
    ("surfer", "surfboard"),
]


def partner_ranks(vocabulary: Vocabulary, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """For each pair the share of the vocabulary that is nearer to its first word than its second is."""
    first = vocabulary.vectors[[vocabulary.index(word) for word, _ in pairs]]
    ranks, _ = vocabulary.nearest(first, len(vocabulary))
    second = np.array([vocabulary.index(word) for _, word in pairs])
    return (ranks == second[:, None]).argmax(1) / len(vocabulary)


def test_real_captions_put_like_words_near_each_other(tmp_path: Path) -> None:
    from data.yfcc100m import default_shards, read_batches

    root = os.environ.get("CGAN_DATA")
    shards = default_shards(Path(root)) if root else []
    if not shards:
        pytest.skip("no YFCC100M metadata under CGAN_DATA")
    records = (record for shard in shards for batch in read_batches(shard) for record in batch)
    files = write_lines([[token_line(r.title, r.description, r.tags) for r in records]], tmp_path, "shard")
    settings = {"vector_size": 100, "min_count": 20, "epochs": 2, "workers": 3}
    shares = np.array(
        [partner_ranks(train(tmp_path, files, SkipGram(seed=seed, **settings)), PAIRS) for seed in (1, 2)]
    )
    # By chance a partner stands in the middle, at 0.5, and all ten stand within the first tenth once in 10^10.
    assert (shares.min(0) < 0.1).all(), shares.round(3)
    assert np.median(shares) < 0.02, shares.round(3)
