"""YFCC100M's rows: both editions, all packings, bad rows counted, damage survived."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import DataError
from data.yfcc100m import (
    BLOCK,
    LONGEST_ROW,
    Record,
    RowError,
    Tally,
    default_shards,
    find_shards,
    parse_row,
    read_batches,
)


def row(
    title: str = "", description: str = "", tags: tuple[str, ...] = (), photo: str = "42", later: bool = False
) -> str:
    columns = [photo, "12345678@N00", "nick", "2010-01-01 10:00:00.0", "1262340000", "Canon+EOS"]
    columns += [quote_plus(title), quote_plus(description), ",".join(map(quote_plus, tags))]
    columns += ["", "-0.1", "51.5", "16"]
    columns += ["http://www.flickr.com/photos/1/42/", "http://farm1.staticflickr.com/1/42_a.jpg"]
    columns += ["Attribution+License", "http://creativecommons.org/licenses/by/2.0/", "1", "1", "a", "b", "jpg", "0"]
    if later:
        columns[:1] = ["7", photo, "693b08cb0e693b08cb0e693b08cb0e69"]
    assert len(columns) == (25 if later else 23)
    return "\t".join(columns)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ("", "too few columns"),
        ("\t".join(row().split("\t")[:22]), "too few columns"),
        ("\t".join(row(later=True).split("\t")[:23]), "too few columns"),
        (row() + "\tx", "too many columns"),
        (row(photo="id"), "no photo id"),
        (row().replace("nick", "ni\0ck"), "NUL character"),
        (row("a\0b"), "NUL character"),
        (row(tags=("x", "\0")), "NUL character"),
    ],
)
def test_a_bad_row_says_why(bad: str, kind: str) -> None:
    with pytest.raises(RowError, match=kind):
        parse_row(bad)


def read_records(path: Path, tally: Tally, block: int = BLOCK) -> list[Record]:
    return [record for batch in read_batches(path, tally, block) for record in batch]


def write(path: Path, *rows: str | bytes, pack: Callable[[bytes], bytes] = bytes) -> Path:
    data = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in rows)
    path.write_bytes(pack(data))
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_bad_rows_are_counted_and_skipped_in_every_packing(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    good = [row("first"), row("second", later=True), row("third")]
    broken = row("TITLE").encode().replace(b"TITLE", b"\xff\xfe")
    encoded = row("TITLE").replace("TITLE", "%FF%FE")
    path = write(tmp_path / "shard", good[0], broken, "short", encoded, good[1], b"\0", good[2], pack=pack)
    tally = Tally()
    assert [record.title for record in read_records(path, tally)] == ["first", "second", "third"]
    assert tally.rows == 3
    assert tally.skipped == {"broken encoding": 2, "too few columns": 2}
    assert tally.damage is None and tally.size == path.stat().st_size


def test_an_endless_row_is_left_out_in_bounded_memory(tmp_path: Path) -> None:
    path = write(
        tmp_path / "shard", row("one"), "x" * (3 * LONGEST_ROW), row("two"), row("y" * LONGEST_ROW), row("three")
    )
    for block in (1 << 16, 1 << 20, 1 << 23):
        tally = Tally()
        assert [record.title for record in read_records(path, tally, block)] == ["one", "two", "three"]
        assert tally.skipped == {"longer than 1 MiB": 2}


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_damaged_packing_keeps_what_was_readable_and_says_so(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    # Random text keeps the packed file long: bz2 gives whole blocks of 900 kB only.
    titles = [os.urandom(2000).hex() for _ in range(400)]
    path = write(tmp_path / "shard", *map(row, titles), pack=pack)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 5 // 6])
    tally = Tally()
    read = [record.title for record in read_records(path, tally)]
    assert 200 <= len(read) < 400 and read == titles[: len(read)]
    assert tally.damage is not None and tally.skipped.get("cut off by the file's damage", 0) <= 1
    assert tally.size == path.stat().st_size
    assert tally.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([bytes, gzip.compress, bz2.compress]))
def test_arbitrary_bytes_never_stop_the_reader(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary"
    path.write_bytes(pack(data))
    tally = Tally()
    assert len(read_records(path, tally)) == tally.rows
    if tally.damage is None:
        lines = data.split(b"\n")
        assert tally.rows + sum(tally.skipped.values()) == len(lines) - (not lines[-1])


@settings(max_examples=40, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), max_size=5),
    st.booleans(),
)
def test_whatever_was_typed_comes_back(title: str, tags: list[str], later: bool) -> None:
    assert parse_row(row(title, "", tuple(tags), later=later)) == Record("42", title, "", tuple(tags))


def test_shards_are_found_by_file_folder_and_glob(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        write(tmp_path / f"yfcc100m_dataset-{number}.bz2", row(), pack=bz2.compress)
    (tmp_path / "README.md").write_text("not a shard")
    write(tmp_path / "own.tsv", row())
    names = ["yfcc100m_dataset-0.bz2", "yfcc100m_dataset-2.bz2", "yfcc100m_dataset-10.bz2"]
    assert [path.name for path in find_shards([tmp_path])] == names
    assert [path.name for path in find_shards([tmp_path / "*-[02].bz2", tmp_path / names[0]])] == names[:2]
    assert [path.name for path in find_shards([tmp_path / "own.tsv"])] == ["own.tsv"]
    (tmp_path / "empty").mkdir()
    for missing in ("nowhere", "empty", "*.gz"):
        with pytest.raises(DataError, match="name the metadata files"):
            find_shards([tmp_path / missing])


def test_the_data_root_is_looked_through_in_order(tmp_path: Path) -> None:
    assert default_shards(tmp_path) == []
    for name in ("yfcc-mini", "yfcc100m", ""):
        (tmp_path / name).mkdir(exist_ok=True)
        shard = write(tmp_path / name / "yfcc100m_dataset-0.bz2", row(), pack=bz2.compress)
        assert default_shards(tmp_path) == [shard]
