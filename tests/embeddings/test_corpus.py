"""Cleaning text to tokens in several scripts, against hand-made truth and gensim; corpus files and word counts."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from itertools import chain, islice
from pathlib import Path

import msgspec
import pytest
from gensim.utils import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st

from data.yfcc100m import default_shards, read_batches
from embeddings import EmbeddingError
from embeddings.corpus import (
    MANIFEST,
    Manifest,
    ShardRecord,
    count_words,
    load_corpus,
    remove_unfinished,
    tag_word,
    token_line,
    write_lines,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A black dog , and 2 spotted dogs!", "a black dog and spotted dogs"),
        ("Nikon D90 with 35mm, the 2nd of 100", "nikon d90 with 35mm the 2nd of"),
        ("cafe\u0301 Café", "café café"),
        ("東京タワー、夜景 2010", "東京タワー 夜景"),
        ("Красная ПЛОЩАДЬ, Москва", "красная площадь москва"),
        ("مسجد الأقصى، ١٢٣", "مسجد الأقصى"),
        ("हिन्दी में शब्द १२", "हिन्दी में शब्द"),
        ("วัดพระแก้ว กรุงเทพ", "วัดพระแก้ว กรุงเทพ"),
        ("می\u200cخواهم soft\u00adhyphen", "میخواهم softhyphen"),
        ("snake_case dog's 🐕", "snake case dog s"),
        ("12 345 ½ ²", ""),
        ('My <a href="http://x.org/dogs" rel="nofollow">dog</a><br />runs', "my dog runs"),
        ("I <3 dogs and cats > mice", "i dogs and cats mice"),
        ("fish &amp; chips &quot;caf&eacute;&quot; &lt;b&gt;bold&lt;/b&gt;", "fish chips café bold"),
        ("one<!-- a note -->two", "one two"),
        ("see http://www.flickr.com/photos/1/ and www.example.org/x?y=1, HTTPS://A.B end", "see and end"),
        ("bit.ly/abc flickr.com example.co.uk mail", "mail"),
    ],
)
def test_words_by_hand(text: str, expected: str) -> None:
    assert token_line(text, "", []) == token_line("", text, []) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("New York", "newyork"),
        ("Rock 'n' Roll", "rocknroll"),
        ("हिन्दी शब्द", "हिन्दीशब्द"),
        ("c&amp;a", "ca"),
        ("geo:lat=51.5", ""),
        ("upcoming:event=123", ""),
        ("http://x.org/a", ""),
        ("2010", ""),
        ("35mm", "35mm"),
        ("u.s.a.", "usa"),
        ("!!!", ""),
    ],
)
def test_tags_by_hand(tag: str, expected: str) -> None:
    assert tag_word(tag) == expected
    assert token_line("", "", ["dog", tag, "cat"]) == " ".join(["dog", *([expected] if expected else []), "cat"])


@settings(max_examples=50, deadline=None)
@given(st.text("abcXYZ ,;!?'()-\n", max_size=60))
def test_plain_text_gives_gensims_tokens(text: str) -> None:
    assert token_line(text, "", []).split() == list(tokenize(text, lower=True))


@pytest.mark.parametrize("piece", ["<!--", "a.", "a-"])
def test_a_long_row_of_anything_is_cleaned_in_time(piece: str) -> None:
    """Each took minutes when every beginning of a comment, address or host name was followed to the row's end."""
    text = piece * (100_000 // len(piece))
    token_line(f"{text}://", f"{text}.b", [text])
    assert token_line(f"dog <!-- {text} --> cat <!-- <b>sea", "", []) == "dog cat sea"


def test_real_captions_give_gensims_tokens() -> None:
    root = os.environ.get("CGAN_DATA")
    shards = default_shards(Path(root)) if root else []
    if not shards:
        pytest.skip("no YFCC100M metadata under CGAN_DATA")
    compared = 0
    for row in islice(chain.from_iterable(read_batches(shards[0])), 3000):
        text = f"{row.title} {row.description}"
        if text.isascii() and not any(c.isdigit() or c in "_<&" for c in text):
            expected = [*tokenize(text, lower=True), *(tag.lower() for tag in row.tags)]
            assert token_line(row.title, row.description, row.tags).split() == expected
            compared += 1
    assert compared > 2000


@settings(max_examples=50, deadline=None)
@given(TEXT, TEXT, st.lists(TEXT, max_size=4))
def test_tokens_of_any_text_are_clean(title: str, description: str, tags: list[str]) -> None:
    line = token_line(title, description, tags)
    assert line == " ".join(line.split())
    for token in line.split():
        assert {unicodedata.category(c)[0] for c in token} <= {"L", "M", "N"}
        assert any(c.isalpha() for c in token)
        assert token == unicodedata.normalize("NFC", token)
    tagged = token_line("", "", tags).split()
    assert len(tagged) <= len(tags)
    assert line.split() == token_line(title, description, []).split() + tagged


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=80), st.lists(st.text(st.characters(codec="ascii")), max_size=4))
def test_ascii_text_gives_the_same_tokens_as_any_other(text: str, tags: list[str]) -> None:
    # A letter beyond ASCII at the end sends the same text the other way.
    assert token_line(text + " ö", "", []).split() == [*token_line(text, "", []).split(), "ö"]
    assert token_line("", "", tags).split() == [word for word in map(tag_word, tags) if word]


def test_files_are_cut_by_lines_and_an_interrupted_writing_leaves_none(tmp_path: Path) -> None:
    lines = [f"word{number} dog" for number in range(10)]

    def broken():
        yield ["a b"] * 5
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_lines(broken(), tmp_path, "shard", lines_per_file=2)
    assert not list(tmp_path.glob("*.txt"))
    remove_unfinished(tmp_path)
    assert not list(tmp_path.iterdir())
    files = write_lines([lines[:3], [""], [*lines[3:], ""]], tmp_path, "shard", lines_per_file=4)
    assert [(file.lines, file.tokens) for file in files] == [(4, 8), (4, 8), (2, 4)]
    assert sorted(tmp_path.iterdir()) == [tmp_path / f"shard-{i}.txt" for i in range(3)]
    assert "".join((tmp_path / file.name).read_text() for file in files).splitlines() == lines
    assert [file.size for file in files] == [(tmp_path / file.name).stat().st_size for file in files]


def test_counts_come_most_frequent_first(tmp_path: Path) -> None:
    lines = [*(f"w{number % 97} köln" for number in range(1000)), "köln b a a"]
    files = write_lines([lines], tmp_path, "shard", lines_per_file=400)
    expected = Counter(word for line in lines for word in line.split())
    seen: list[int] = []
    counts = count_words([tmp_path / file.name for file in files], 2, seen.append)
    assert counts == {word: count for word, count in expected.items() if count >= 2}
    assert list(counts.items()) == sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    assert sum(seen) == expected.total()


def write_manifest(folder: Path, complete: bool = True) -> None:
    files = write_lines([["a b"]], folder, "shard")
    shard = ShardRecord("shard", 9, "", 1, 1, 2, {}, None, files)
    made = Manifest(cleaning=1, complete=complete, rows=1, lines=1, tokens=2, skipped={}, shards=[shard])
    (folder / MANIFEST).write_bytes(msgspec.json.encode(made))


def test_a_corpus_is_loaded_only_if_whole(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match="holds no corpus"):
        load_corpus(tmp_path)
    write_manifest(tmp_path, complete=False)
    with pytest.raises(EmbeddingError, match="unfinished"):
        load_corpus(tmp_path)
    write_manifest(tmp_path)
    assert [file.tokens for file in load_corpus(tmp_path)[0]] == [2]
    (tmp_path / "shard-0.txt").write_text("a")
    with pytest.raises(EmbeddingError, match="another size"):
        load_corpus(tmp_path)
    for broken in ("{", "[]", "{}", "[" * 100_000):
        (tmp_path / MANIFEST).write_text(broken)
        with pytest.raises(EmbeddingError, match="not a corpus manifest"):
            load_corpus(tmp_path)
