"""Read word vectors from word2vec's files (text or binary) and GloVe's, plain or packed, without trusting them.

gensim's reader is not used: it takes the memory that a header promises, ignores what follows the promised words, and
invents counts.
"""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import EmbeddingError

#: Numbers of the longest vector, and bytes of the longest line or word, that are read.
LONGEST_VECTOR, LONGEST_LINE = 1 << 16, 1 << 20

_BOM = b"\xef\xbb\xbf"


@dataclass
class LeftOut:
    """Words of a file that no vocabulary can hold, by reason."""

    words: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, word: str) -> None:
        """Note ``word``, left out for ``reason``."""
        self.words.setdefault(reason, []).append(word)

    def __str__(self) -> str:
        """Return one line: how many words were left out for each reason, the first three by name; "" without any."""
        parts = []
        for reason, words in self.words.items():
            named = ", ".join(ascii(word) for word in words[:3]) + (", ..." if len(words) > 3 else "")
            parts.append(f"{len(words):,} {reason} ({named})")
        return f"left out: {'; '.join(parts)}" if parts else ""


def find_oddity(word: str) -> str | None:
    """Return why no vocabulary can hold ``word``; None if one can."""
    if not word:
        return "empty"
    if word != "".join(word.split()):
        return "with white space"
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:  # What was not UTF-8 in a file, read with surrogates in its place.
        return "not UTF-8"
    return None


def read_vectors(path: Path) -> tuple[list[str], np.ndarray, LeftOut]:
    """Return the words of a file, their vectors (V, d) float32, and what was left out.

    The file may be packed by gzip or bzip2 and begin with a byte order mark; its format is found from its content.
    Memory is taken as vectors arrive. Raises ``EmbeddingError`` when the file is damaged or of another kind,
    ``OSError`` when it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(3)
        size = file.seek(0, io.SEEK_END)
    packed = head == b"BZh" or head[:2] == b"\x1f\x8b"
    opener: Any = open if not packed else bz2.open if head == b"BZh" else gzip.open
    try:
        with opener(path, "rb") as stream:
            rows, dimension = _rows(io.BufferedReader(stream, LONGEST_LINE), path, None if packed else size)
            return _gather(rows, dimension)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise EmbeddingError(f"{path}: the packed file is damaged ({error}): download it again") from None


def _gather(rows: Iterable[tuple[bytes, bytes]], dimension: int) -> tuple[list[str], np.ndarray, LeftOut]:
    """Return words, vectors and odd words of ``rows``: each a word and the bytes of its vector."""
    words: dict[str, None] = {}
    vectors, left_out = bytearray(), LeftOut()
    for encoded, vector in rows:
        word = encoded.decode("utf-8", "surrogateescape")
        reason = "repeated" if word in words else find_oddity(word)
        if reason:
            left_out.add(reason, word)
        else:
            words[word] = None
            vectors += vector
    return list(words), np.frombuffer(vectors, dtype="<f4").reshape(-1, dimension), left_out


def _rows(stream: io.BufferedReader, path: Path, size: int | None) -> tuple[Iterator[tuple[bytes, bytes]], int]:
    """Return the rows of a file and their dimension, by the format that its first two lines have."""
    first = stream.readline(LONGEST_LINE).removeprefix(_BOM)
    fields = first.split()
    if len(fields) != 2 or not all(number.isdigit() for number in fields):
        if len(fields) < 2 or _floats(fields[1:]) is None:
            raise EmbeddingError(f"{path} holds no word vectors in word2vec's or GloVe's format: name another file")
        return _text_rows(chain([first], _lines(stream, path)), path, None, len(fields) - 1), len(fields) - 1
    # Numbers of thousands of digits are no sizes, and Python refuses to convert them.
    count, dimension = (int(number) if len(number) <= 15 else 10**15 for number in fields)
    second = stream.readline(LONGEST_LINE)
    text = 0 < dimension <= len(second.split()) and _floats(second.split()[-dimension:]) is not None
    least = count * ((2 if text else 4) * dimension + 1)
    if not count or not 0 < dimension <= LONGEST_VECTOR or (size is not None and least > size):
        found = "is packed" if size is None else f"has {size:,} bytes"
        raise EmbeddingError(
            f"{path} promises {count:,} vectors of {dimension:,} numbers, but {found}: download it again"
        )
    if text:
        return _text_rows(chain([second], _lines(stream, path)), path, count, dimension), dimension
    return _binary_rows(stream, path, count, dimension, second), dimension


def _lines(stream: io.BufferedReader, path: Path) -> Iterator[bytes]:
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise EmbeddingError(f"{path} holds a line of more than {LONGEST_LINE:,} bytes: download it again")
        yield line


def _floats(fields: list[bytes]) -> np.ndarray | None:
    """Return the numbers in ``fields`` as float32; None if one is no number."""
    try:
        return np.fromiter(map(float, fields), dtype="<f4", count=len(fields))
    except ValueError:
        return None


def _text_rows(lines: Iterable[bytes], path: Path, count: int | None, dimension: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield word and vector of each line ``word number ...``; a word may hold blanks, or be missing."""
    found = 0
    for number, line in enumerate(lines, start=1 if count is None else 2):
        fields = line.split()
        if not fields:
            continue
        found += 1
        vector = _floats(fields[-dimension:])
        if vector is None or len(vector) < dimension:
            fault = "decimal commas; write points" if b"," in line else f"not a word with {dimension:,} numbers"
            raise EmbeddingError(f"{path}, line {number:,}: {fault}; download the file again")
        yield b" ".join(fields[:-dimension]), vector.tobytes()
    if count not in (None, found):
        raise EmbeddingError(f"{path} holds {found:,} words where it promises {count:,}: download it again")


def _binary_rows(
    stream: io.BufferedReader, path: Path, count: int, dimension: int, buffer: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Yield word and vector ``count`` times, from ``buffer`` and then the stream."""
    at, width = 0, 4 * dimension
    for _ in range(count):
        while (end := buffer.find(b" ", at)) < 0 or len(buffer) < end + 1 + width:
            more = stream.read(max(width, 1 << 16))
            if not more or (end < 0 and len(buffer) - at > LONGEST_LINE):
                raise EmbeddingError(f"{path}: ends early or is damaged: download it again")
            buffer, at = buffer[at:] + more, 0
        word = buffer[at:end].lstrip(
            b"\n"
        )  # Some writers end each vector with a newline, and then perhaps not the last.
        if any(byte < 32 for byte in word):
            raise EmbeddingError(
                f"{path}: not read in step, since some word holds a blank: write it again without such words, or as "
                "text"
            )
        at = end + 1 + width
        yield word, buffer[end + 1 : at]
    rest = buffer[at:] + stream.read(1 << 16)
    if rest.strip():
        raise EmbeddingError(
            f"{path} holds bytes behind the {count:,} words it promises: its header is wrong, or it is damaged; "
            "download it again"
        )
