"""A vocabulary: a gensim ``KeyedVectors`` with checked contents, and exact nearest words for many vectors at once.

gensim reads and writes the files; what it reads wrongly or lets pass is checked here. Trains and downloads nothing.
"""

from __future__ import annotations

import bz2
import difflib
import gzip
import logging
import os
import shutil
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from pooch import file_hash

from embeddings import EmbeddingError
from embeddings.skipgram import quiet_gensim

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

    from embeddings import nearest as exact

#: What the JSON beside a word2vec file says it is.
FORMAT = "word vectors 1"
#: Numbers beyond this come from a file read out of step, not from training.
LARGEST = 1e6

#: Words that no vocabulary can hold, by the reason why.
LeftOut = defaultdict[str, list[str]]
#: Counts in the JSON beside a saved file, where they are known.
Counts = list[Annotated[int, msgspec.Meta(ge=0, le=2**62)]] | None

_BLOCK = 1 << 20
_ROWS = 1 << 14
_BOM = b"\xef\xbb\xbf"
_AGAIN = "restore the file, or download it again"


class Vocabulary:
    """Words, most frequent first, each with its vector.

    ``keyed_vectors``: the gensim object that holds them; ``words``: V different ones without white space;
    ``vectors``: (V, d) float32, finite, none zero; ``counts``: (V,) int64, falling, or None where they are not known;
    ``info``: what a saved vocabulary was saved with; ``left_out``: words that no vocabulary can hold, by reason.
    """

    def __init__(
        self, keyed_vectors: KeyedVectors, info: dict[str, Any] | None = None, left_out: LeftOut | None = None
    ) -> None:
        """Check ``keyed_vectors`` and leave out words that are empty, hold white space or are no valid text.

        Raises ``EmbeddingError`` when no word is left, or a vector is not finite, zero or absurdly large.
        """
        self.left_out = defaultdict(list) if left_out is None else left_out
        self.keyed_vectors = _checked(keyed_vectors, self.left_out)
        self.info = dict(info or {})
        self._indexes: dict[str, exact.Index] = {}

    @classmethod
    def from_arrays(
        cls, words: Sequence[str], vectors: np.ndarray, counts: Sequence[int] | np.ndarray | None = None
    ) -> Vocabulary:
        """Return the vocabulary of ``words`` with the rows of ``vectors`` (V, d) and, if known, their counts."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        words = list(words)
        if vectors.ndim != 2 or len(vectors) != len(words):
            raise EmbeddingError(f"{len(words):,} words have vectors of shape {vectors.shape}: give one row per word")
        vocabulary = cls(_keyed(words, vectors))
        if len(vocabulary) != len(words) or len(set(words)) < len(words):
            raise EmbeddingError(f"each word must be there once, without blanks; {vocabulary.describe_left_out()}")
        vocabulary._set_counts(counts)
        return vocabulary

    def _set_counts(self, counts: Sequence[int] | np.ndarray | None) -> None:
        if counts is None:
            return
        counts = np.asarray(counts, dtype=np.int64)
        if counts.shape != (len(self),) or bool((np.diff(counts) > 0).any()):
            raise EmbeddingError("the counts must be one per word, the most frequent first: sort the words by them")
        self.keyed_vectors.expandos["count"] = counts

    @property
    def words(self) -> list[str]:
        return self.keyed_vectors.index_to_key

    @property
    def vectors(self) -> np.ndarray:
        return self.keyed_vectors.vectors

    @property
    def counts(self) -> np.ndarray | None:
        return self.keyed_vectors.expandos.get("count")

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.keyed_vectors.key_to_index

    def describe_left_out(self) -> str:
        """Return how many words were left out for each reason, the first three by name; "" without any."""
        parts = [
            f"{len(words):,} {reason} ({', '.join(map(ascii, words[:3]))}{', ...' if len(words) > 3 else ''})"
            for reason, words in self.left_out.items()
        ]
        return f"left out: {'; '.join(parts)}" if parts else ""

    def index(self, word: str) -> int:
        """Return the frequency rank of ``word``, from 0. Raises ``EmbeddingError`` naming the closest spellings."""
        if word in self:
            return self.keyed_vectors.key_to_index[word]
        plain = "".join(word.lower().split())
        # Words of quite another length cannot be close, and comparing all of them takes seconds.
        near = [other for other in self.words if abs(len(other) - len(plain)) <= 1 + len(plain) // 4]
        close = difflib.get_close_matches(plain, near)
        advice = f"did you mean {' or '.join(map(repr, close))}?" if close else "no word is spelt like it"
        raise EmbeddingError(f"the word {word!r} is not among the vocabulary's {len(self):,}: {advice}")

    def subset(self, ranks: Sequence[int] | np.ndarray) -> Vocabulary:
        """Return the vocabulary of the words with these frequency ranks, which must rise."""
        counts = None if self.counts is None else self.counts[ranks]
        smaller = Vocabulary.from_arrays([self.words[rank] for rank in ranks], self.vectors[ranks], counts)
        smaller.info = dict(self.info)
        return smaller

    def nearest(self, queries: np.ndarray, k: int, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` words nearest by cosine to each row of ``queries`` (m, d), exactly, the nearest first.

        Frequency ranks (m, k) int64 and cosines (m, k) float32; of equally near words the more frequent comes first.
        The first call keeps the vectors made ready (1,000 to 1,600 bytes a word at 200-d). Raises ``EmbeddingError``
        when k is not from 1 to V, the dimension does not fit, a query is zero or not finite, or there is no GPU.
        """
        import torch

        from embeddings import nearest as exact

        queries, dimension = np.asarray(queries), self.vectors.shape[1]
        if queries.ndim != 2 or queries.shape[1] != dimension:
            raise EmbeddingError(
                f"the queries have the shape {queries.shape}, but word vectors have {dimension} numbers: give one row "
                f"of {dimension} per query"
            )
        if not 1 <= k <= len(self):
            raise EmbeddingError(f"{k:,} nearest words of {len(self):,} were asked for: ask for 1 to {len(self):,}")
        if (bad := unusable_row(queries)) is not None:
            raise EmbeddingError(f"query {bad[0]} (counted from 0) {bad[1]}: leave it out or correct it")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EmbeddingError(f"the device {device} was asked for, but torch finds no GPU: use cpu")
        if device not in self._indexes:
            self._indexes[device] = exact.prepare(unit_rows(self.vectors), device)
        return exact.search(self._indexes[device], unit_rows(queries), k)

    def save(self, path: str | Path, info: dict[str, Any] | None = None) -> None:
        """Write ``path`` (.bin) in word2vec's binary format by gensim, and a JSON of the same name beside it.

        The JSON holds counts, ``info`` and the other file's checksum. Each appears whole or not at all.
        """
        path, (words, dimension) = Path(path), self.vectors.shape
        if path.suffix != ".bin":
            raise EmbeddingError(f"{path}: word vectors are saved in word2vec's binary format: end the name in .bin")
        temporary, described = (path.with_name(f".{path.name}.{os.getpid()}.{kind}.tmp") for kind in ("bin", "json"))
        record = {"format": FORMAT, "words": words, "dimension": dimension, "sha256": "", **(info or {})}
        record["counts"] = None if self.counts is None else self.counts.tolist()
        try:
            with quiet_gensim(logging.ERROR):  # It would warn that words stand in their order already.
                self.keyed_vectors.save_word2vec_format(str(temporary), binary=True, sort_attr="none")
            record["sha256"] = file_hash(str(temporary))
            described.write_bytes(msgspec.json.encode(record) + b"\n")
            for made, place in ((temporary, path), (described, path.with_suffix(".json"))):
                with open(made, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(made, place)
        finally:
            temporary.unlink(missing_ok=True)
            described.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Return the vocabulary in a word2vec file (text or binary) or a GloVe file (text without a header).

        The file may be packed by gzip or bzip2 and begin with a byte order mark; its format is found from its content.
        Words that no vocabulary can hold are left out (``left_out``). Raises ``EmbeddingError`` when the file is
        damaged or of another kind, ``OSError`` when it cannot be read.
        """
        path, left_out = Path(path), LeftOut(list)
        keyed_vectors = _read(path, left_out)
        counts, info = _read_description(path)
        try:
            vocabulary = cls(keyed_vectors, info, left_out)
            vocabulary._set_counts(counts)
        except EmbeddingError as error:
            raise EmbeddingError(f"{path}: {error}") from None
        return vocabulary


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return ``vectors`` (n, d), none of them zero, as float32 at length one."""
    units = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), _ROWS):
        rows = np.asarray(vectors[start : start + _ROWS], dtype=np.float64)
        # By the largest number first: squares of very large or small ones would leave float64's range.
        rows = rows / np.abs(rows).max(1, keepdims=True)
        units[start : start + _ROWS] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def unusable_row(vectors: np.ndarray) -> tuple[int, str] | None:
    """Return number and fault of the first row that has no direction; None if all have one."""
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        for wrong, why in ((~np.isfinite(rows).all(1), "is not finite"), (~rows.any(1), "is zero")):
            if wrong.any():
                return start + int(wrong.argmax()), why
    return None


def _keyed(words: list[str], vectors: np.ndarray) -> KeyedVectors:
    from gensim.models import KeyedVectors

    keyed = KeyedVectors(vectors.shape[1])
    keyed.index_to_key, keyed.vectors = words, vectors
    keyed.key_to_index = {word: rank for rank, word in enumerate(words)}
    return keyed


def _checked(keyed: KeyedVectors, left_out: LeftOut) -> KeyedVectors:
    """Return ``keyed`` without odd words and sorted by count; the object itself where nothing changes."""
    words, counts, kept = keyed.index_to_key, keyed.expandos.get("count"), list[int]()
    made_up = counts is not None and len(words) > 1 and np.array_equal(counts, np.arange(len(words), 0, -1))
    if made_up:  # By gensim's reader, for a file without counts.
        counts = None
    for rank, word in enumerate(words):
        if word is None:  # Where gensim ignored a repeated word.
            continue
        if not word or word != "".join(word.split()):
            left_out["with white space" if word else "empty"].append(word)
        elif any("\ud800" <= character <= "\udfff" for character in word):  # Bytes that could not be decoded.
            left_out["not UTF-8"].append(word)
        else:
            kept.append(rank)
    if not kept:
        raise EmbeddingError("the vocabulary holds no word: give at least one word with its vector")
    if counts is not None:
        kept.sort(key=lambda rank: -counts[rank])
    if made_up or kept != list(range(len(keyed.vectors))) or keyed.vectors.dtype != np.float32:
        keyed = _keyed([words[rank] for rank in kept], np.asarray(keyed.vectors[kept], dtype=np.float32))
        if counts is not None:
            keyed.expandos["count"] = np.asarray(counts, dtype=np.int64)[kept]
    if (bad := unusable_row(keyed.vectors)) is not None:
        raise EmbeddingError(f"the vector of the word {keyed.index_to_key[bad[0]]!r} {bad[1]}: leave the word out")
    if (largest := float(np.abs(keyed.vectors).max())) > LARGEST:
        raise EmbeddingError(
            f"a vector holds the number {largest:.1e}: the file was read out of step, as happens where a word of a "
            "binary file holds a blank; write it again without such words, or as text"
        )
    return keyed


# ---- reading files


def _read(path: Path, left_out: LeftOut) -> KeyedVectors:
    """Let gensim read a file of any format and packing, and check what gensim does not."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plain = _unpacked(path, folder)
        size = plain.stat().st_size
        with open(plain, "rb") as file:
            first, second = file.readline(_BLOCK), file.readline(_BLOCK)
        header = _header(first)
        fields = (second if header else first).split()
        count, dimension = header or (None, len(fields) - 1)
        whole = max(len(first), len(second)) < _BLOCK  # A longer line is no word with its vector.
        text = whole and len(fields) > dimension > 0 and _are_numbers(fields[-dimension:])
        if count is None and not text:
            raise EmbeddingError(f"{path} holds no word vectors in word2vec's or GloVe's format: name another file")
        if count is not None and (not count or not dimension or count * ((2 if text else 4) * dimension + 1) > size):
            raise EmbeddingError(
                f"{path} promises {count:,} vectors of {dimension:,} numbers, but has {size:,} bytes; {_AGAIN}"
            )
        if text:
            plain = _cleaned(plain, folder, path, count, dimension, left_out)
        keyed = _load(plain, path, not text, left_out)
        if not text:
            words = [word for word in keyed.index_to_key if word is not None]  # None: gensim ignored a repeated one.
            _check_size(plain, path, [*words, *left_out.get("repeated", ())], dimension)
        return keyed


def _unpacked(path: Path, folder: Path) -> Path:
    """Return the file without packing and byte order mark: itself where it has neither, else a copy in ``folder``."""
    with open(path, "rb") as file:
        head = file.read(3)
    opener: Any = bz2.open if head == b"BZh" else gzip.open if head[:2] == b"\x1f\x8b" else open
    if opener is open and head != _BOM:
        return path
    plain = folder / "vectors"
    # Generous bounds, so that a small packed file cannot fill the disk: numbers pack to a half or a third.
    room = min(shutil.disk_usage(folder).free, 64 * path.stat().st_size + _BLOCK)
    try:
        with opener(path, "rb") as packed, open(plain, "wb") as unpacked:
            data = packed.read(_BLOCK).removeprefix(_BOM)
            if header := _header(data.partition(b"\n")[0]):
                room = min(room, header[0] * (header[1] * 32 + 4096) + 4096)
            while data:
                if unpacked.tell() + len(data) > room:
                    raise EmbeddingError(f"{path}: unpacks to more than its header promises, or numbers do; {_AGAIN}")
                unpacked.write(data)
                data = packed.read(_BLOCK)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise EmbeddingError(f"{path}: the packed file is damaged ({error}); {_AGAIN}") from None
    return plain


def _header(first: bytes) -> tuple[int, int] | None:
    """Return the word count and the dimension that a first line states, or None if it is no header."""
    fields = first.split()
    if len(fields) != 2 or not all(number.isdigit() for number in fields):
        return None
    # Numbers of thousands of digits are no sizes, and Python refuses to convert them.
    count, dimension = (int(number) if len(number) <= 15 else 10**15 for number in fields)
    return count, dimension


def _are_numbers(fields: Sequence[bytes]) -> bool:
    try:
        return bool([float(field) for field in fields])
    except ValueError:
        return False


def _check_size(plain: Path, path: Path, words: Sequence[str], dimension: int) -> None:
    """Raise ``EmbeddingError`` unless the words that gensim read, and their vectors, make up the whole binary file."""
    spelt = [word.encode("utf-8", "surrogateescape") for word in words]
    with open(plain, "rb") as file:
        read = len(file.readline()) + sum(map(len, spelt)) + len(words) * (4 * dimension + 1)
        rest = plain.stat().st_size - read
        if 0 < rest < 100:  # White space at the end is nobody's fault.
            file.seek(-rest, os.SEEK_END)
            rest = len(file.read().strip())
    # Some writers end each vector with a newline, and then perhaps not the last.
    if rest not in (0, len(words), len(words) - 1) or any(character < 32 for word in spelt for character in word):
        raise EmbeddingError(
            f"{path} holds {rest:,} bytes more than the {len(words):,} words it promises: its header is wrong, some "
            f"word holds a blank, or it is damaged; {_AGAIN}"
        )


def _cleaned(plain: Path, folder: Path, path: Path, count: int | None, dimension: int, left_out: LeftOut) -> Path:
    """Write the lines of a text file with a word and its numbers to ``folder``, leaving odd words out."""
    cleaned, lines = folder / "cleaned", 0
    with open(plain, "rb") as source, open(cleaned, "wb") as target:
        if count is not None:
            source.readline()
        for number, line in enumerate(iter(lambda: source.readline(_BLOCK), b""), start=1 if count is None else 2):
            fields = line.split()
            if not fields:
                continue
            lines += 1
            if len(fields) < dimension or not _are_numbers(fields[-dimension:]):
                fault = "decimal commas; write points" if b"," in line else f"not a word with {dimension:,} numbers"
                raise EmbeddingError(f"{path}, line {number:,}: {fault}; {_AGAIN}")
            if len(fields) == dimension + 1:
                target.write(b" ".join(fields) + b"\n")
            else:
                word = b" ".join(fields[:-dimension]).decode("utf-8", "surrogateescape")
                left_out["with white space" if word else "empty"].append(word)
    if count not in (None, lines):
        raise EmbeddingError(f"{path} holds {lines:,} words where it promises {count:,}; {_AGAIN}")
    if not cleaned.stat().st_size:
        raise EmbeddingError(f"{path} holds no word: name another file")
    return cleaned


def _load(file: Path, path: Path, binary: bool, left_out: LeftOut) -> KeyedVectors:
    """Let gensim read ``file``; words that it ignores because they come again are noted."""
    from gensim.models import KeyedVectors

    def note(record: logging.LogRecord) -> bool:
        if "duplicate word '" in record.msg and isinstance(record.args, tuple):
            left_out["repeated"].append(str(record.args[0]))
        return False  # Nothing is shown.

    logger = logging.getLogger("gensim.models.keyedvectors")
    level = logger.level
    logger.setLevel(logging.WARNING)  # What a quiet logger does not record would be missing from the count.
    logger.addFilter(note)
    try:
        keyed = KeyedVectors.load_word2vec_format(
            str(file), binary=binary, no_header=not binary, unicode_errors="surrogateescape"
        )
    except (EOFError, ValueError) as error:
        raise EmbeddingError(f"{path}: ends early or is damaged ({error}); {_AGAIN}") from None
    finally:
        logger.removeFilter(note)
        logger.setLevel(level)
    keyed.expandos.pop("count", None)  # gensim makes counts up where a file has none.
    return keyed


def _read_description(path: Path) -> tuple[list[int] | None, dict[str, Any]]:
    """Return counts and further fields of the JSON beside a saved file; nothing of a JSON of another kind."""
    described = path.with_suffix(".json")
    if path.suffix != ".bin" or not described.is_file():
        return None, {}
    try:
        record = msgspec.json.decode(described.read_bytes(), type=dict[str, Any])
        if record.get("format") != FORMAT:
            return None, {}
        counts = msgspec.convert(record.pop("counts", None), Counts)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EmbeddingError(
            f"{described}: not readable as the account of {path.name} ({error}): delete it, or restore both"
        ) from None
    if file_hash(str(path)) != record.get("sha256"):
        raise EmbeddingError(f"{described} is not of {path.name} (its checksum differs): delete it, or restore both")
    return counts, record
