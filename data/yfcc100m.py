"""Stream YFCC100M metadata from the disk as records: photo id, title, description and user tags, URL-decoded.

Reads both editions (23 and 25 columns), plain, gzip and bzip2. Cleans no text and makes no tokens.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from data import DataError

#: Folders under the data root in which the shards are looked for, in this order.
FOLDERS = ("", "yfcc100m", "yfcc-mini")
#: File names of the published shards, as they come or unpacked.
SHARD_NAME = re.compile(r"yfcc100m_dataset(-\d+)?(\.tsv|\.txt)?(\.bz2|\.gz)?")
#: Bytes asked of a file at a time, and of the longest row that is read (Flickr's own limits stay far below): together
#: they bound the memory of reading.
BLOCK = LONGEST_ROW = 1 << 20


class Record(NamedTuple):
    """One photo or video: text as its owner typed it, HTML and all, but no longer URL-encoded."""

    photo_id: str
    title: str
    description: str
    tags: tuple[str, ...]


@dataclass
class Tally:
    """Counts of one shard's rows; filled while it is read, complete when the reading ends."""

    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    #: What stopped the decompression early; None for a sound file.
    damage: str | None = None
    #: Bytes read of the file (compressed as it lies; in the end all of it), and in the end their SHA-256.
    size: int = 0
    sha256: str = ""


class RowError(ValueError):
    """A row that cannot be used; its text is the kind of fault."""


def find_shards(sources: Iterable[str | Path]) -> list[Path]:
    """Return the shards that ``sources`` name, each once, in natural order (``-2`` before ``-10``).

    A source is a file of any name, a folder (of which the files with the published names are taken) or a glob.
    Raises ``DataError`` when a source names nothing.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        path = Path(source).expanduser()
        files = [path] if path.is_file() else _published(path)
        files = files or [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
        if not files:
            raise DataError(
                f"{path} names no YFCC100M metadata (yfcc100m_dataset-0.bz2 and the like): name the metadata files, "
                "their folder or a glob"
            )
        found.update({file.resolve(): file for file in files})
    return sorted(found.values(), key=_natural)


def default_shards(root: Path) -> list[Path]:
    """Return the shards of the first of ``root``, ``root/yfcc100m``, ``root/yfcc-mini`` that holds any; [] if none."""
    found = (_published(root / name) for name in FOLDERS)
    return next((sorted(shards, key=_natural) for shards in found if shards), [])


def _published(folder: Path) -> list[Path]:
    """Return the files of a folder with the published names; [] where there is no such folder."""
    files = folder.iterdir() if folder.is_dir() else ()
    return [file for file in files if file.is_file() and SHARD_NAME.fullmatch(file.name)]


def parse_row(row: str) -> Record:
    """Return the record of a row without its line end. A hash after the photo id marks the later edition.

    Raises ``RowError`` with the reason when the row cannot be used.
    """
    count = row.count("\t") + 1
    if count < 23:
        raise RowError("too few columns")
    columns = row.split("\t", 11)
    if count == 25 and _is_number(columns[1]) and re.fullmatch("[0-9a-fA-F]{16,}", columns[2]):
        photo_id, title, description, tags = columns[1], columns[8], columns[9], columns[10]
    elif count > 23:
        raise RowError("too many columns")
    elif _is_number(columns[0]) and not _is_number(columns[1]):
        photo_id, title, description, tags = columns[0], columns[6], columns[7], columns[8]
    else:
        # Digits twice are a line number and a photo id: the later edition with columns missing.
        raise RowError("too few columns" if _is_number(columns[0]) else "no photo id")
    if "%" in tags:
        # A comma within a tag is %2C: the list is cut before it is decoded.
        decoded = tuple([_url_decode(tag) for tag in tags.split(",") if tag])
    else:
        decoded = tuple(tags.replace("+", " ").split(",")) if tags else ()
    record = Record(photo_id, _url_decode(title), _url_decode(description), decoded)
    if "\0" in row or any("\0" in text for text in (record.title, record.description, *record.tags)):
        raise RowError("NUL character")
    return record


def read_batches(path: str | Path, tally: Tally | None = None, block: int = BLOCK) -> Iterator[list[Record]]:
    """Yield the shard's records in order, about ``block`` bytes of rows at a time, in constant memory.

    The file's first bytes decide how it is unpacked. Unusable rows are counted by kind in ``tally`` and skipped; a
    file whose packing breaks off gives the rows before the damage, and ``tally.damage`` says what happened.
    The tally's size and checksum are those of the file as it lies. Raises ``OSError`` when it cannot be read.
    """
    import pooch

    tally = Tally() if tally is None else tally
    pending = b""
    for data in _unpacked(Path(path), tally, block):
        if len(pending) > LONGEST_ROW and b"\n" not in data:
            continue  # Joined to a row that is too long already, each piece would cost a copy of it.
        *rows, pending = (pending + data).split(b"\n")
        if rows:
            yield _parse_rows(rows, tally)
        pending = pending[: LONGEST_ROW + 1]  # Enough to tell that the row is too long.
    if pending and tally.damage:
        tally.skipped["cut off by the file's damage"] += 1
    elif pending:
        yield _parse_rows([pending], tally)
    tally.size, tally.sha256 = Path(path).stat().st_size, pooch.file_hash(str(path), alg="sha256")


def _parse_rows(rows: list[bytes], tally: Tally) -> list[Record]:
    records = []
    for row in rows:
        try:
            if len(row) > LONGEST_ROW:
                raise RowError("longer than 1 MiB")
            records.append(parse_row(row.decode("utf-8")))
        except UnicodeDecodeError:
            tally.skipped["NUL character" if b"\0" in row else "broken encoding"] += 1
        except RowError as error:
            tally.skipped[str(error)] += 1
    tally.rows += len(records)
    return records


def _url_decode(text: str) -> str:
    text = text.replace("+", " ")
    return unquote(text, encoding="utf-8", errors="strict") if "%" in text else text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that compares runs of digits as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _unpacked(path: Path, tally: Tally, block: int) -> Iterator[bytes]:
    """Yield the unpacked bytes in pieces of at most ``block``; damage ends them and is noted."""
    with io.BufferedReader(io.FileIO(path), max(block, 1 << 16)) as file:
        magic = file.peek(3)[:3]
        packed: Any = file
        if magic == b"BZh":
            packed = bz2.BZ2File(file)
        elif magic[:2] == b"\x1f\x8b":
            packed = gzip.GzipFile(fileobj=file)
        try:
            # read1 hands over what one step gave: read would lose it when the next step meets the damage.
            while data := packed.read1(block):
                tally.size = file.tell()
                yield data
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            what = "ends early" if isinstance(error, EOFError) else "is broken"
            tally.damage = f"the packed data {what}, after {tally.rows:,} usable rows ({error})"
