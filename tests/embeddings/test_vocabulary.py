"""Vocabularies: gensim's objects in and out, every file format, hostile files, neighbours as gensim finds them."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors, Word2Vec

from embeddings import EmbeddingError
from embeddings.skipgram import quiet_gensim
from embeddings.vocabulary import Vocabulary

WORDS = ["the", "dog", "dogs", "köln", "東京", "puppy"]
ONES = b"\x00\x00\x80?" * 2


def vectors(n: int = len(WORDS), d: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def keyed(words: list[str], values: np.ndarray) -> KeyedVectors:
    made = KeyedVectors(values.shape[1])
    made.add_vectors(words, values)
    return made


def test_a_gensim_model_goes_in_and_comes_out() -> None:
    model = Word2Vec([["dog", "puppy", "dog"], ["sea", "dog"]] * 5, vector_size=8, min_count=1, seed=1, workers=1)
    vocabulary = Vocabulary(model.wv)
    assert vocabulary.keyed_vectors is model.wv
    assert vocabulary.words == model.wv.index_to_key and vocabulary.counts.tolist() == [15, 5, 5]
    assert vocabulary.keyed_vectors.most_similar("dog") == model.wv.most_similar("dog")
    assert "dog" in vocabulary and len(vocabulary) == 3 and vocabulary.index("dog") == 0
    unsorted = keyed(["rare", "often"], vectors(2))
    unsorted.set_vecattr("rare", "count", 3)
    unsorted.set_vecattr("often", "count", 30)
    assert Vocabulary(unsorted).words == ["often", "rare"]


@pytest.mark.parametrize(
    ("words", "values", "counts", "says"),
    [
        ([], vectors(0), None, "no word"),
        (["a", "b"], vectors(3), None, "one row per word"),
        (["a", "dog", "dog"], vectors(3), None, "must be there once"),
        (["a", ""], vectors(2), None, "1 empty"),
        (["a", "b\n"], vectors(2), None, "white space"),
        (["a", "dog"], np.array([[1, 2], [np.nan, 1]]), None, "'dog' is not finite"),
        (["a", "dog"], np.array([[1, 2], [0, 0]]), None, "'dog' is zero"),
        (["a", "dog"], np.array([[1, 2], [7e22, 1]]), None, "out of step"),
        (["a", "b"], vectors(2), [1, 2], "most frequent first"),
        (["a", "b"], vectors(2), [1], "one per word"),
    ],
)
def test_unusable_contents_are_refused(words, values, counts, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EmbeddingError, match=says):
        Vocabulary.from_arrays(words, values, counts)


@pytest.mark.parametrize(
    ("queries", "k", "says"),
    [
        (np.ones((2, 4)), 1, "word vectors have 5 numbers: give one row of 5 per query"),
        (np.ones((2, 5)), 7, "ask for 1 to 6"),
        (np.array([[1.0] * 5, [0.0] * 5]), 1, "query 1 .* is zero"),
        (np.array([[np.nan] * 5]), 1, "query 0 .* is not finite"),
    ],
)
def test_unusable_queries_are_refused(queries: np.ndarray, k: int, says: str) -> None:
    with pytest.raises(EmbeddingError, match=says):
        Vocabulary.from_arrays(WORDS, vectors()).nearest(queries, k)


def test_neighbours_equal_those_of_gensim() -> None:
    """Not of length one, of a size where groups are used, and each query at another length."""
    rng = np.random.default_rng(1)
    words = [f"w{number}" for number in range(11_000)]
    values = vectors(11_000, 50) * rng.uniform(0.1, 30, (11_000, 1)).astype(np.float32)
    queries = np.concatenate([vectors(30, 50, 2) * 7, values[:10]])
    vocabulary = Vocabulary.from_arrays(words, values)
    ranks, cosines = vocabulary.nearest(queries, 20)
    for query, found, near in zip(queries, ranks, cosines, strict=True):
        expected = vocabulary.keyed_vectors.similar_by_vector(query, topn=20)
        np.testing.assert_allclose(near, [cosine for _, cosine in expected], rtol=0, atol=5e-7)
        assert [words[rank] for rank in found] == [word for word, _ in expected]
    assert [each.shape for each in vocabulary.nearest(np.empty((0, 50)), 3)] == [(0, 3), (0, 3)]


def test_an_unknown_word_names_the_closest() -> None:
    vocabulary = Vocabulary.from_arrays(WORDS, vectors())
    for word, close in (("do gs", "did you mean 'dogs'"), ("Köln!", "'köln'"), ("xylophone", "no word is spelt like")):
        with pytest.raises(EmbeddingError, match=close):
            vocabulary.index(word)


def test_a_saved_vocabulary_reads_back_here_and_in_gensim(tmp_path: Path) -> None:
    path, counts = tmp_path / "v.bin", [6, 5, 4, 3, 2, 1]
    Vocabulary.from_arrays(WORDS, vectors(), counts).save(path, {"settings": {"seed": 1}})
    loaded = Vocabulary.load(path)
    assert loaded.words == WORDS and np.array_equal(loaded.vectors, vectors()) and loaded.counts.tolist() == counts
    assert loaded.info["settings"] == {"seed": 1} and not loaded.describe_left_out()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["v.bin", "v.json"]
    theirs = KeyedVectors.load_word2vec_format(str(path), binary=True)
    assert Vocabulary(theirs).counts is None  # gensim makes counts up where a file has none.
    assert theirs.index_to_key == WORDS and np.array_equal(theirs.vectors, vectors())
    record = json.loads((tmp_path / "v.json").read_text())
    assert (record["counts"], record["words"], record["dimension"]) == (counts, 6, 5)
    part = loaded.subset([1, 4])
    assert part.words == ["dog", "東京"] and part.counts.tolist() == [5, 2] and part.info == loaded.info


def test_files_of_two_different_times_are_no_pair(tmp_path: Path) -> None:
    path, described = tmp_path / "v.bin", tmp_path / "v.json"
    Vocabulary.from_arrays(WORDS, vectors(), [6, 5, 4, 3, 2, 1]).save(path)
    old, record = described.read_text(), json.loads(described.read_text())
    Vocabulary.from_arrays(WORDS, vectors(seed=5)).save(path)
    for content, says in (
        (old, "checksum differs"),
        ("{", "not readable"),
        ("[" * 100_000, "not readable"),
        (json.dumps({**record, "counts": [10**30]}), "not readable"),
        (json.dumps({**record, "counts": [[1]]}), "not readable"),
    ):
        described.write_text(content)
        with pytest.raises(EmbeddingError, match=says) as caught:
            Vocabulary.load(path)
        assert "v.json" in str(caught.value) and len(str(caught.value)) < 400
    described.unlink()
    assert len(Vocabulary.load(path)) == len(WORDS)


def test_a_failed_save_leaves_the_old_files(tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    Vocabulary.from_arrays(WORDS, vectors()).save(path)
    before = path.read_bytes(), (tmp_path / "v.json").read_bytes()
    with pytest.raises(TypeError):
        Vocabulary.from_arrays(WORDS, vectors(seed=5)).save(path, {"a": object()})
    with pytest.raises(EmbeddingError, match=r"\.bin"):
        Vocabulary.from_arrays(WORDS, vectors()).save(tmp_path / "v.txt")
    assert (path.read_bytes(), (tmp_path / "v.json").read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("form", ["binary", "text", "glove", "original", "marked", "newline"])
def test_every_format_is_found_from_its_content(tmp_path: Path, form: str, pack) -> None:  # type: ignore[no-untyped-def]
    path, values = tmp_path / "vectors", vectors(len(WORDS), 300)
    if form == "original":  # Mikolov's own tool ends each vector with a newline.
        pairs = zip(WORDS, values, strict=True)
        path.write_bytes(b"6 300\n" + b"".join(w.encode() + b" " + v.tobytes() + b"\n" for w, v in pairs))
    else:
        options = {"binary": form in ("binary", "newline"), "write_header": form not in ("glove", "marked")}
        keyed(WORDS, values).save_word2vec_format(str(path), **options)
    if form == "marked":  # A byte order mark, Windows line ends, and a blank line at the end.
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\n")
    if form == "newline":
        path.write_bytes(path.read_bytes() + b"\r\n")
    path.write_bytes(pack(path.read_bytes()))
    loaded = Vocabulary.load(path)
    assert loaded.words == WORDS and loaded.counts is None
    np.testing.assert_array_equal(loaded.vectors, values)


def test_odd_words_are_left_out_and_counted(tmp_path: Path) -> None:
    text = tmp_path / "v.txt"
    text.write_bytes(b"6 2\nthe 1 2\nmy name 1 2\n 3 4\n\xff\xfe 1 2\nthe 5 6\nnew\xc2\xa0york  1\t2\n")
    loaded = Vocabulary.load(text)
    assert loaded.words == ["the"] and loaded.vectors.tolist() == [[1, 2]]
    for part in ("1 empty", "2 with white space (", "1 not UTF-8", "1 repeated ('the')"):
        assert part in loaded.describe_left_out()
    binary = tmp_path / "v.bin"
    binary.write_bytes(b"4 2\ndog " + ONES + b"\xff\xfe " + ONES + b"dog " + ONES + b" " + ONES)
    with quiet_gensim(logging.ERROR):  # A caller who wants none of gensim's warnings loses no check.
        loaded = Vocabulary.load(binary)
    assert loaded.words == ["dog"]
    assert "1 not UTF-8" in loaded.describe_left_out() and "1 repeated" in loaded.describe_left_out()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no word vectors"),
        (b"just some prose\nand more", "no word vectors"),
        (b"dog 1 2\ncat 1\n", "line 2"),
        (b"2 2\ndog 1 2\ncat 1,5 2,5\n", "line 3: decimal commas"),
        (b"3 2\ndog 1 2\ncat 1 3\n", "2 words where it promises 3"),
        (b"1 274877906944\n", "promises 1 vectors of 274,877,906,944"),
        (b"9" * 5000 + b" 200\n", "promises"),
        (b"2 2\ndog " + ONES + b"cat \x00\x00", "promises|ends early"),
        (b"1 2\ndog " + ONES + b"cat " + ONES, "bytes more than the 1 words"),
        (b"2 2\nmy dog " + ONES + b"cat " + ONES, "more than|ends early|not finite"),
        (b"1 2\ndog " + b"\x00\x00\xc0\x7f" * 2, "'dog' is not finite"),
        (b"dog 1 2\ncat 0 0\n", "'cat' is zero"),
        (gzip.compress(b"dog 1 2\n" * 9, mtime=0)[:-12], "damaged"),
        (gzip.compress(b"1 2\ndog 1 2\n" + b" " * 3 * 10**6, mtime=0), "more than its header promises"),
        (gzip.compress(b"dog 1 2\n" * 10**6, mtime=0), "more than its header promises, or numbers do"),
        (b"dog" + b" 1" * 600_000, "no word vectors"),
        (b"dog 1 2\nsea 1 2\n" + b"cat" * 600_000 + b" 1 2\n", "line 3"),
        (b"BZh9 nothing", "damaged"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(EmbeddingError, match=says) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)


def test_random_damage_never_gives_a_traceback(tmp_path: Path) -> None:
    """A flipped byte or a cut gives other numbers, a word left out, or one sentence."""
    rng, path = np.random.default_rng(0), tmp_path / "v.bin"
    Vocabulary.from_arrays(WORDS, vectors()).save(path)
    (tmp_path / "v.json").unlink()
    keyed(WORDS, vectors()).save_word2vec_format(str(tmp_path / "v.txt"), binary=False)
    for whole in (path.read_bytes(), (tmp_path / "v.txt").read_bytes()):
        for _ in range(60):
            damaged = bytearray(whole)
            damaged[rng.integers(len(damaged))] = rng.integers(256)
            path.write_bytes(damaged[: rng.integers(1, len(damaged) + 1)] if rng.random() < 0.3 else damaged)
            try:
                assert len(Vocabulary.load(path)) <= len(WORDS) + 1
            except EmbeddingError as error:
                assert "\n" not in str(error)
