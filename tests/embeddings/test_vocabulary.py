"""Vocabularies: what is refused, all formats read and written, neighbours as gensim's."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors

from embeddings import EmbeddingError
from embeddings.vocabulary import Vocabulary, unit_rows

WORDS = ["the", "dog", "dogs", "köln", "東京", "puppy"]


def vectors(n: int = len(WORDS), d: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def gensims(words: list[str], values: np.ndarray) -> KeyedVectors:
    keyed = KeyedVectors(values.shape[1])
    keyed.add_vectors(words, values)
    return keyed


@pytest.mark.parametrize(
    ("words", "values", "counts", "says"),
    [
        ([], vectors(0), None, "no word"),
        (["a", "b"], vectors(3), None, "one row for each word"),
        (["a", "b"], np.ones(2, np.float32), None, "one row for each word"),
        (["a", "dog", "dog"], vectors(3), None, "'dog' more than once"),
        (["a", ""], vectors(2), None, "'' is no word"),
        (["a", "b\n"], vectors(2), None, "is no word"),
        (["a", "dog"], np.array([[1, 2], [np.nan, 1]]), None, "'dog' is not finite"),
        (["a", "dog"], np.array([[1, 2], [np.inf, 1]]), None, "'dog' is not finite"),
        (["a", "dog"], np.array([[1, 2], [0, 0]]), None, "'dog' is zero"),
        (["a", "b"], vectors(2), [1, 2], "most frequent first"),
        (["a", "b"], vectors(2), [1], "one for each word"),
    ],
)
def test_what_no_vocabulary_can_be(words, values, counts, says: str) -> None:
    with pytest.raises(EmbeddingError, match=says):
        Vocabulary(words, values, counts)


@pytest.mark.parametrize(
    ("queries", "k", "says"),
    [
        (np.ones((2, 4)), 1, "the word vectors of 5 numbers"),
        (np.ones(5), 1, "one row of 5 for each query"),
        (np.ones((2, 5)), 0, "ask for 1 to 6"),
        (np.ones((2, 5)), 7, "ask for 1 to 6"),
        (np.array([[1.0] * 5, [0.0] * 5]), 1, "query 1 .* is zero"),
        (np.array([[np.nan] * 5]), 1, "query 0 .* is not finite"),
    ],
)
def test_what_no_query_can_be(queries: np.ndarray, k: int, says: str) -> None:
    with pytest.raises(EmbeddingError, match=says):
        Vocabulary(WORDS, vectors()).nearest(queries, k)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_sentence() -> None:
    with pytest.raises(EmbeddingError, match="torch finds no GPU"):
        Vocabulary(WORDS, vectors()).nearest(vectors(), 2, "cuda")


def test_neighbours_are_gensims() -> None:
    """Not of length one, of a size where groups are used, and each query at another length."""
    rng = np.random.default_rng(1)
    words = [f"w{number}" for number in range(11_000)]
    values = (vectors(11_000, 50) * rng.uniform(0.1, 30, (11_000, 1))).astype(np.float32)
    queries = np.concatenate([vectors(30, 50, 2) * 7, values[:10]]).astype(np.float32)
    ranks, cosines = Vocabulary(words, values).nearest(queries, 20)
    keyed = gensims(words, values)
    for query, found, near in zip(queries, ranks, cosines, strict=True):
        expected = keyed.similar_by_vector(query, topn=20)
        np.testing.assert_allclose(near, [cosine for _, cosine in expected], rtol=0, atol=5e-7)
        for word, (theirs, _), rank, place in zip([words[r] for r in found], expected, found, range(20), strict=True):
            if word != theirs:  # Only where float32 cannot tell the two apart.
                other = unit_rows(values[[rank, keyed.key_to_index[theirs]]]) @ unit_rows(query[None])[0]
                assert abs(other[0] - other[1]) < 5e-7, (place, word, theirs)


def test_no_neighbours_of_no_queries() -> None:
    ranks, cosines = Vocabulary(WORDS, vectors()).nearest(np.empty((0, 5)), 3)
    assert ranks.shape == cosines.shape == (0, 3)


def test_vectors_of_extreme_length_keep_their_direction() -> None:
    direction = vectors(1, 5, 3).astype(np.float64)
    for scale in (1e-37, 1e-20, 1e20, 1e37):
        np.testing.assert_allclose(unit_rows((direction * scale).astype(np.float32)), unit_rows(direction), atol=1e-6)


@pytest.mark.parametrize(
    ("word", "close"),
    [("Dog", "dog"), ("do gs", "dogs"), ("pupy", "puppy"), ("Köln!", "köln"), ("dogss", "dogs")],
)
def test_an_unknown_word_names_the_closest(word: str, close: str) -> None:
    vocabulary = Vocabulary(WORDS, vectors())
    assert vocabulary.index("köln") == 3
    with pytest.raises(EmbeddingError, match=f"did you mean '{close}'"):
        vocabulary.index(word)
    with pytest.raises(EmbeddingError, match="no word is spelt like it"):
        vocabulary.index("xylophone")


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    Vocabulary(WORDS, vectors(), [9, 5, 5, 3, 2, 1]).save(path, {"settings": {"seed": 1}})
    loaded = Vocabulary.load(path)
    assert loaded.words == WORDS
    assert np.array_equal(loaded.vectors, vectors())
    assert loaded.counts is not None and loaded.counts.tolist() == [9, 5, 5, 3, 2, 1]
    assert loaded.info["settings"] == {"seed": 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["v.bin", "v.json"]
    keyed = KeyedVectors.load_word2vec_format(str(path), binary=True)
    assert keyed.index_to_key == WORDS
    assert np.array_equal(keyed.vectors, vectors())


def test_files_of_two_different_times_are_no_pair(tmp_path: Path) -> None:
    Vocabulary(WORDS, vectors()).save(tmp_path / "v.bin")
    described = (tmp_path / "v.json").read_text()
    Vocabulary(WORDS, vectors(seed=5)).save(tmp_path / "v.bin")
    (tmp_path / "v.json").write_text(described)
    with pytest.raises(EmbeddingError, match="checksum differs"):
        Vocabulary.load(tmp_path / "v.bin")
    (tmp_path / "v.json").write_text("{")
    with pytest.raises(EmbeddingError, match="not readable as JSON"):
        Vocabulary.load(tmp_path / "v.bin")
    (tmp_path / "v.json").unlink()
    assert len(Vocabulary.load(tmp_path / "v.bin")) == len(WORDS)


def test_a_failed_saving_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    Vocabulary(WORDS, vectors()).save(path)
    before = path.read_bytes(), (tmp_path / "v.json").read_bytes()
    with pytest.raises(EmbeddingError, match="holds a space"):
        Vocabulary(["a b"], vectors(1)).save(path)
    with pytest.raises(ValueError):
        Vocabulary(WORDS, vectors(seed=5)).save(path, {"loss": float("nan")})
    with pytest.raises(EmbeddingError, match=r"\.bin"):
        Vocabulary(WORDS, vectors()).save(tmp_path / "v.txt")
    assert (path.read_bytes(), (tmp_path / "v.json").read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("form", ["binary", "text", "glove", "original"])
def test_every_format_is_told_by_its_content(tmp_path: Path, form: str, pack) -> None:
    path = tmp_path / "vectors"
    values = vectors(len(WORDS), 300)
    if form == "original":  # Mikolov's own tool ends each vector with a newline.
        pairs = zip(WORDS, values, strict=True)
        path.write_bytes(b"6 300\n" + b"".join(w.encode() + b" " + v.tobytes() + b"\n" for w, v in pairs))
    else:
        options = {"binary": form == "binary", "write_header": form != "glove"}
        gensims(WORDS, values).save_word2vec_format(str(path), **options)
    path.write_bytes(pack(path.read_bytes()))
    loaded = Vocabulary.load(path)
    assert loaded.words == WORDS
    np.testing.assert_array_equal(loaded.vectors, values)
    assert loaded.counts is None


def test_a_large_binary_file_is_read_in_pieces(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(3000)]
    gensims(words, vectors(3000, 300)).save_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    loaded = Vocabulary.load(tmp_path / "v.bin")
    assert loaded.words == words
    assert np.array_equal(loaded.vectors, vectors(3000, 300))


def test_glove_words_may_hold_spaces(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("the 0.5 1 -2e-3\n. . 1 2 3\n")
    assert Vocabulary.load(tmp_path / "glove.txt").words == ["the", ". ."]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no word vectors"),
        (b"\x00\x01\x02", "no word vectors"),
        (b"just some prose\nand more", "no word vectors"),
        (b"dog 1 2\ncat 1\n", "line 2"),
        (b"2 2\ndog 1 2\ncat x y\n", "line 3"),
        (b"3 2\ndog 1 2\ncat 1 3\n", "2 of the 3"),
        (b"0 5\n", "claims to hold 0"),
        (b"99999999999999 200\n", "claims to hold"),
        (b"2 2\ndog " + b"\x00\x00\x80?" * 2 + b"cat \x00\x00", "1 of the 2"),
        (b"2 2\ndog " + b"\x00\x00\x80?" * 2 + b"dog " + b"\x00\x00\x80?" * 2, "'dog' more than once"),
        (b"1 2\ndog " + b"\x00\x00\xc0\x7f" * 2, "'dog' is not finite"),
        (b"dog 1 2\n\xff\xfe 1 2\n", "not UTF-8"),
        (b"dog 1 2\ncat 0 0\n", "'cat' is zero"),
        (gzip.compress(b"dog 1 2\n" * 9)[:-12], "damaged"),
        (b"BZh9 nothing", "damaged"),
        (gzip.compress(b"dog 1 2\n" * 9)[:12] + b"\xff" * 20, "damaged"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(EmbeddingError, match=says) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)


def test_the_json_is_plain(tmp_path: Path) -> None:
    Vocabulary(WORDS, vectors(), [6, 5, 4, 3, 2, 1]).save(tmp_path / "v.bin")
    record = json.loads((tmp_path / "v.json").read_text())
    assert record["counts"] == [6, 5, 4, 3, 2, 1]
    assert (record["words"], record["dimension"]) == (6, 5)
