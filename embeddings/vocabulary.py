"""Words and their vectors: load, check, save, and find the words nearest to many vectors at once.

Trains nothing, downloads nothing.
"""

from __future__ import annotations

import array
import bz2
import contextlib
import difflib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embeddings import EmbeddingError

if TYPE_CHECKING:
    from embeddings import nearest as exact

#: What the JSON beside a word2vec file says it is.
FORMAT = "word vectors 1"

_BLOCK = 1 << 20
_ROWS = 1 << 14


class Vocabulary:
    """Words, most frequent first, each with its vector.

    ``words``: V different ones, none empty, none with white space at its ends or a line break in it.
    ``vectors``: (V, d) float32, finite, none zero. ``counts``: None, or (V,) int64, falling.
    Raises ``EmbeddingError`` when something of this does not hold.
    """

    def __init__(
        self, words: Sequence[str], vectors: np.ndarray, counts: Sequence[int] | np.ndarray | None = None
    ) -> None:
        self.words = list(words)
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.counts = None if counts is None else np.asarray(counts, dtype=np.int64)
        #: What a saved vocabulary was saved with.
        self.info: dict[str, Any] = {}
        if not self.words:
            raise EmbeddingError("the vocabulary holds no word: give at least one word with its vector")
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words) or self.vectors.shape[1] == 0:
            raise EmbeddingError(
                f"{len(self.words):,} words have vectors of shape {self.vectors.shape}: give one row for each word"
            )
        self._ranks = {word: rank for rank, word in enumerate(self.words)}
        if len(self._ranks) < len(self.words):
            twice = next(word for rank, word in enumerate(self.words) if self._ranks[word] != rank)
            raise EmbeddingError(f"the vocabulary holds the word {twice!r} more than once: keep one of its vectors")
        for word in self.words:
            if not word or word != word.strip() or "\n" in word:
                raise EmbeddingError(f"{word!r} is no word: it is empty or has white space at its ends or a line break")
        if (bad := unusable_row(self.vectors)) is not None:
            raise EmbeddingError(
                f"the vector of the word {self.words[bad[0]]!r} {bad[1]}: leave the word out or mend its vector"
            )
        if self.counts is not None and (
            self.counts.shape != (len(self.words),) or bool((np.diff(self.counts) > 0).any())
        ):
            raise EmbeddingError(
                "the counts are not one for each word, the most frequent first: sort the words by them"
            )
        self._indexes: dict[str, exact.Index] = {}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ranks

    def index(self, word: str) -> int:
        """The frequency rank of ``word``, from 0. Raises ``EmbeddingError`` naming the closest spellings."""
        try:
            return self._ranks[word]
        except KeyError:
            pass
        close = self.closest_spellings(word)
        mend = f"did you mean {' or '.join(map(repr, close))}?" if close else "no word is spelt like it"
        raise EmbeddingError(f"the word {word!r} is not among the vocabulary's {len(self):,}: {mend}")

    def closest_spellings(self, word: str, most: int = 3) -> list[str]:
        """Up to ``most`` words spelt almost like ``word`` (its case and spaces aside), the closest first."""
        plain = "".join(word.lower().split())
        if plain in self._ranks:
            return [plain]
        # Words much longer or shorter cannot be close, and the comparison of all takes seconds.
        slack = 1 + len(plain) // 4
        near = [other for other in self.words if abs(len(other) - len(plain)) <= slack]
        return difflib.get_close_matches(plain, near, n=most, cutoff=0.6)

    def nearest(self, queries: np.ndarray, k: int, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` words nearest by cosine to each row of ``queries`` (m, d), exactly, the nearest first.

        Returns frequency ranks (m, k) int64 and cosines (m, k) float32; of equally near words the more frequent
        comes first. The first call makes the vectors ready and keeps that (1,000 to 1,600 bytes a word at 200-d);
        beside it at most 256 MiB are held, whatever m is.
        Raises ``EmbeddingError`` when k is not from 1 to V, the dimension does not fit, a query is zero or not finite,
        or there is no such device.
        """
        import torch

        from embeddings import nearest as exact

        queries = np.asarray(queries)
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise EmbeddingError(
                f"the queries are of shape {queries.shape}, the word vectors of {self.vectors.shape[1]} numbers: give "
                f"one row of {self.vectors.shape[1]} for each query"
            )
        if not 1 <= k <= len(self):
            raise EmbeddingError(f"{k:,} nearest words of {len(self):,} were asked for: ask for 1 to {len(self):,}")
        if (bad := unusable_row(queries)) is not None:
            raise EmbeddingError(f"query {bad[0]} (counted from 0) {bad[1]}: leave it out or mend it")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EmbeddingError(f"the device {device} was asked for, but torch finds no GPU: take cpu")
        if device not in self._indexes:
            self._indexes[device] = exact.prepare(unit_rows(self.vectors), device)
        return exact.search(self._indexes[device], unit_rows(queries), k)

    def save(self, path: str | Path, info: dict[str, Any] | None = None) -> None:
        """Write ``path``, word2vec's binary format, and beside it a JSON of the same name with counts and ``info``.

        Each appears whole or not at all; the JSON holds the other's checksum, so that no two of different times
        are taken for a pair. Raises ``EmbeddingError`` for a name that does not end in .bin, or a word with a
        space, which the format cannot hold.
        """
        path = Path(path)
        if path.suffix != ".bin":
            raise EmbeddingError(f"{path}: word vectors are saved in word2vec's binary format; end the name in .bin")
        for word in self.words:
            if " " in word:
                raise EmbeddingError(f"the word {word!r} holds a space, which word2vec's format cannot: rename it")
        digest = hashlib.sha256()
        temporary, described = (path.with_name(f".{path.name}.{os.getpid()}.{kind}.tmp") for kind in ("bin", "json"))
        try:
            with open(temporary, "wb") as file:
                header = f"{len(self)} {self.vectors.shape[1]}\n".encode()
                digest.update(header)
                file.write(header)
                for start in range(0, len(self), _ROWS):
                    rows = self.vectors[start : start + _ROWS].astype("<f4", copy=False)
                    pairs = zip(self.words[start : start + _ROWS], rows, strict=True)
                    data = b"".join([word.encode("utf-8") + b" " + row.tobytes() + b"\n" for word, row in pairs])
                    digest.update(data)
                    file.write(data)
            record = {
                "format": FORMAT,
                "words": len(self),
                "dimension": self.vectors.shape[1],
                "sha256": digest.hexdigest(),
                **(info or {}),
                "counts": None if self.counts is None else self.counts.tolist(),
            }
            described.write_text(json.dumps(record, allow_nan=False) + "\n", encoding="utf-8")
            os.replace(temporary, path)
            os.replace(described, path.with_suffix(".json"))
        finally:
            temporary.unlink(missing_ok=True)
            described.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read what ``save`` wrote, word2vec's binary or text format, or GloVe's text; plain, .gz or .bz2.

        The format is told by the content. Raises ``EmbeddingError`` when the file is damaged, is none of these,
        or holds words or vectors that a vocabulary cannot; ``OSError`` when it cannot be read.
        """
        path = Path(path)
        words, vectors = _read(path)
        described = path.with_suffix(".json")
        info: dict[str, Any] = {}
        if path.suffix == ".bin" and described.is_file():
            info = _read_info(described, path)
        try:
            vocabulary = cls(words, vectors, info.pop("counts", None))
        except EmbeddingError as error:
            raise EmbeddingError(f"{path}: {error}") from None
        vocabulary.info = info
        return vocabulary


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """``vectors``, (n, d) without zero rows, as float32 at length one."""
    units = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), _ROWS):
        rows = np.asarray(vectors[start : start + _ROWS], dtype=np.float64)
        # By the largest number first: the squares of very large or small ones would leave float64's range.
        rows = rows / np.abs(rows).max(1, keepdims=True)
        units[start : start + _ROWS] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def unusable_row(vectors: np.ndarray) -> tuple[int, str] | None:
    """The first row that has no direction, and why; None if all have one."""
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        for wrong, why in ((~np.isfinite(rows).all(1), "is not finite"), (~rows.any(1), "is zero")):
            if wrong.any():
                return start + int(wrong.argmax()), why
    return None


def _read_info(described: Path, path: Path) -> dict[str, Any]:
    try:
        info = json.loads(described.read_text(encoding="utf-8"))
    except ValueError:
        raise EmbeddingError(f"{described}: not readable as JSON; delete it, or restore it with {path.name}") from None
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        return {}
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while data := file.read(_BLOCK):
            digest.update(data)
    if digest.hexdigest() != info.get("sha256"):
        raise EmbeddingError(f"{described} is not of {path.name} (its checksum differs): delete it, or restore the two")
    return info


def _read(path: Path) -> tuple[list[str], np.ndarray]:
    """Words and vectors of a file in any of the formats."""
    with _sound(path), _unpack(path) as file:
        head = file.read(_BLOCK)
    first, _, rest = head.partition(b"\n")
    header = first.split()
    if len(header) == 2 and all(number.isdigit() for number in header):
        count, dimension = map(int, header)
        text = _numbers(rest.partition(b"\n")[0], dimension) is not None
    else:
        count, dimension, text = None, len(first.split()) - 1, True
        if dimension < 1 or _numbers(first, dimension) is None:
            raise EmbeddingError(f"{path} holds no word vectors in word2vec's or GloVe's format: name another file")
    if count == 0 or dimension == 0 or (count or 0) * dimension > 1 << 38:
        raise EmbeddingError(f"{path} claims to hold {count:,} vectors of {dimension:,} numbers: fetch it anew")
    with _sound(path), _unpack(path) as file:
        if text:
            return _read_text(file, path, count, dimension)
        assert count is not None
        return _read_binary(file, path, count, dimension)


@contextlib.contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Name the file in what reading a damaged one raises."""
    try:
        yield
    except UnicodeDecodeError:
        raise EmbeddingError(f"{path} holds a word that is not UTF-8: convert it to UTF-8, or fetch it anew") from None
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise EmbeddingError(f"{path}: the packed file is damaged ({error}); fetch it anew") from None


def _unpack(path: Path) -> IO[bytes] | gzip.GzipFile:
    with open(path, "rb") as file:
        magic = file.read(3)
    if magic == b"BZh":
        return bz2.open(path, "rb")
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(path, "rb")
    return open(path, "rb")


def _numbers(line: bytes, dimension: int) -> tuple[bytes, array.array[float]] | None:
    """The word and the vector of a line of text; None if it is not of this form. A word may hold spaces."""
    word, *numbers = line.rstrip().rsplit(b" ", dimension)
    if len(numbers) != dimension:
        return None
    try:
        return word, array.array("f", map(float, numbers))
    except (ValueError, OverflowError):
        return None


def _read_text(
    file: IO[bytes] | gzip.GzipFile, path: Path, count: int | None, dimension: int
) -> tuple[list[str], np.ndarray]:
    words: list[str] = []
    values = array.array("f")
    if count is not None:
        file.readline()
    for line in file:
        found = _numbers(line, dimension)
        if found is None:
            if not line.strip():
                continue
            number = len(words) + (1 if count is None else 2)
            raise EmbeddingError(f"{path}, line {number:,}: not a word with {dimension:,} numbers; fetch the file anew")
        words.append(found[0].decode("utf-8"))
        values.extend(found[1])
    if count not in (None, len(words)):
        raise EmbeddingError(f"{path} holds {len(words):,} of the {count:,} words it promises: fetch it anew")
    return words, np.frombuffer(values, dtype=np.float32).reshape(len(words), dimension)


def _read_binary(
    file: IO[bytes] | gzip.GzipFile, path: Path, count: int, dimension: int
) -> tuple[list[str], np.ndarray]:
    size = 4 * dimension
    words: list[str] = []
    values = bytearray()
    file.readline()
    for record in _records(file, size):
        word, vector = record
        words.append(word.decode("utf-8"))
        values += vector
        if len(words) == count:
            break
    if len(words) < count:
        raise EmbeddingError(f"{path} ends after {len(words):,} of the {count:,} words it promises: fetch it anew")
    return words, np.frombuffer(values, dtype="<f4").astype(np.float32, copy=False).reshape(count, dimension)


def _records(file: IO[bytes] | gzip.GzipFile, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Word and vector bytes, one after the other; ends at the last whole one. Some writers end each with a newline."""
    buffer = b""
    while data := file.read(_BLOCK + size):
        buffer += data
        start = 0
        while (space := buffer.find(b" ", start)) >= 0 and space + 1 + size <= len(buffer):
            yield buffer[start:space].lstrip(b"\n"), buffer[space + 1 : space + 1 + size]
            start = space + 1 + size
        buffer = buffer[start:]
