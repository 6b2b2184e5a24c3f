"""Skip-gram: settings, repeatability, many files, and that words of one topic come near each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gensim.models import Word2Vec

from embeddings import EmbeddingError
from embeddings.corpus import CorpusFile, write_lines
from embeddings.skipgram import SkipGram, train

Corpus = tuple[Path, list[CorpusFile]]

TOPICS = [["dog", "puppy", "bark", "leash"], ["sea", "beach", "wave", "sand"], ["car", "road", "wheel", "driver"]]


def lines(number: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(TOPICS[rng.integers(3)], 8)) for _ in range(number)]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return tmp_path, write_lines([lines(1500)], tmp_path, "shard", lines_per_file=600)


SMALL = {"vector_size": 16, "min_count": 2, "workers": 1, "epochs": 3}


@pytest.mark.parametrize(
    "wrong", [*({name: 0} for name in ("vector_size", "min_count", "epochs", "alpha")), {"sample": 1.0}, {"seed": -1}]
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


def test_several_workers_learn_the_topics_of_all_files(corpus: Corpus, capfd: pytest.CaptureFixture[str]) -> None:
    vocabulary = train(*corpus, SkipGram(**{**SMALL, "workers": 3, "epochs": 5, "sample": 0.0}))
    for topic in TOPICS:
        ranks, _ = vocabulary.nearest(vocabulary.vectors[[vocabulary.index(topic[0])]], 4)
        assert {vocabulary.words[rank] for rank in ranks[0]} == set(topic)
    few = write_lines([["a b c", "a b"]], corpus[0], "few", lines_per_file=1)  # Fewer lines than workers.
    assert train(corpus[0], few, SkipGram(vector_size=4, min_count=1, workers=16)).words == ["a", "b", "c"]
    assert capfd.readouterr().err == ""
    with pytest.raises(EmbeddingError, match="no word of the corpus occurs 1,000,000 times: lower the minimum"):
        train(*corpus, SkipGram(min_count=1_000_000))
