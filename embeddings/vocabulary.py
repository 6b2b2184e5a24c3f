"""A vocabulary: a gensim ``KeyedVectors`` with checked contents, and exact nearest words for many vectors at once.

Trains and downloads nothing; ``embeddings.word_files`` reads the files.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from embeddings import EmbeddingError
from embeddings.word_files import LeftOut, find_oddity, read_vectors

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

    from embeddings import nearest as exact

#: What the JSON beside a word2vec file says it is.
FORMAT = "word vectors 1"
#: Numbers beyond this come from a file read out of step, not from training.
LARGEST = 1e6

_ROWS = 1 << 14


@dataclass(frozen=True)
class Description:
    """The JSON beside a saved word2vec file; further fields are the writer's own."""

    format: str
    words: int
    dimension: int
    sha256: str
    counts: list[Annotated[int, msgspec.Meta(ge=0, le=2**62)]] | None = None


class Vocabulary:
    """Words, most frequent first, each with its vector.

    ``keyed_vectors``: the gensim object that holds them; ``words``: V different ones without white space;
    ``vectors``: (V, d) float32, finite, none zero; ``counts``: (V,) int64, falling, or None where they are not known;
    ``info``: what a saved vocabulary was saved with; ``left_out``: words that were left out, see ``LeftOut``.
    """

    def __init__(self, keyed_vectors: KeyedVectors) -> None:
        """Check ``keyed_vectors``, leave out words that no vocabulary can hold, and sort the others by count.

        Raises ``EmbeddingError`` when no word is left, or a vector is not finite, zero or absurdly large.
        """
        self.left_out = LeftOut()
        self.info: dict[str, Any] = {}
        self._indexes: dict[str, exact.Index] = {}
        words, kept = keyed_vectors.index_to_key, []
        for rank, word in enumerate(words):
            if word is None:  # Where gensim ignored a repeated word.
                continue
            if reason := find_oddity(word):
                self.left_out.add(reason, word)
            else:
                kept.append(rank)
        if not kept:
            raise EmbeddingError("the vocabulary holds no word: give at least one word with its vector")
        counts = keyed_vectors.expandos.get("count")
        if counts is not None and len(words) > 1 and np.array_equal(counts, np.arange(len(words), 0, -1)):
            counts = None  # Made up by gensim's reader.
        if counts is not None:
            kept.sort(key=lambda rank: -counts[rank])
        vectors = np.asarray(keyed_vectors.vectors)
        whole = kept == list(range(len(vectors)))
        if not whole or vectors.dtype != np.float32:
            vectors = np.ascontiguousarray(vectors[kept], dtype=np.float32)
        _check_vectors([words[rank] for rank in kept], vectors)
        if vectors is not keyed_vectors.vectors or (counts is None and "count" in keyed_vectors.expandos):
            keyed_vectors = _keyed([words[rank] for rank in kept], vectors)
            if counts is not None:
                keyed_vectors.expandos["count"] = np.asarray(counts, dtype=np.int64)[kept]
        self.keyed_vectors = keyed_vectors

    @classmethod
    def from_arrays(
        cls, words: Sequence[str], vectors: np.ndarray, counts: Sequence[int] | np.ndarray | None = None
    ) -> Vocabulary:
        """Return the vocabulary of ``words`` with the rows of ``vectors`` (V, d) and, if known, their counts."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        words = list(words)
        if vectors.ndim != 2 or len(vectors) != len(words) or (words and vectors.shape[1] == 0):
            raise EmbeddingError(f"{len(words):,} words have vectors of shape {vectors.shape}: give one row per word")
        if len(set(words)) < len(words):
            twice = Counter(words).most_common(1)[0][0]
            raise EmbeddingError(f"the word {twice!r} is given more than once: keep one of its vectors")
        vocabulary = cls(_keyed(words, vectors))
        if len(vocabulary) != len(words):
            raise EmbeddingError(f"no vocabulary holds such words: {vocabulary.left_out}")
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

    def index(self, word: str) -> int:
        """Return the frequency rank of ``word``, from 0. Raises ``EmbeddingError`` naming the closest spellings."""
        if word in self:
            return self.keyed_vectors.key_to_index[word]
        close = self.closest_spellings(word)
        advice = f"did you mean {' or '.join(map(repr, close))}?" if close else "no word is spelt like it"
        raise EmbeddingError(f"the word {word!r} is not among the vocabulary's {len(self):,}: {advice}")

    def closest_spellings(self, word: str, most: int = 3) -> list[str]:
        """Return up to ``most`` words spelt almost like ``word`` (its case and spaces aside), the closest first."""
        plain = "".join(word.lower().split())
        if plain in self:
            return [plain]
        # Words of quite another length cannot be close, and comparing all of them takes seconds.
        slack = 1 + len(plain) // 4
        near = [other for other in self.words if abs(len(other) - len(plain)) <= slack]
        return difflib.get_close_matches(plain, near, n=most, cutoff=0.6)

    def subset(self, ranks: Sequence[int] | np.ndarray) -> Vocabulary:
        """Return the vocabulary of the words with these frequency ranks, which must rise."""
        counts = None if self.counts is None else self.counts[ranks]
        smaller = Vocabulary.from_arrays([self.words[rank] for rank in ranks], self.vectors[ranks], counts)
        smaller.info = dict(self.info)
        return smaller

    def nearest(self, queries: np.ndarray, k: int, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` words nearest by cosine to each row of ``queries`` (m, d), exactly, the nearest first.

        Frequency ranks (m, k) int64 and cosines (m, k) float32; of equally near words the more frequent comes first.
        The first call prepares the vectors and keeps the result (1,000 to 1,600 bytes a word at 200-d); beside it at
        most 256 MiB are held, whatever m is. Raises ``EmbeddingError`` when k is not from 1 to V, the dimension does
        not fit, a query is zero or not finite, or the device is missing.
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
        """Write ``path`` (.bin) in word2vec's binary format, and a JSON of the same name beside it.

        The JSON holds counts, ``info`` and the other file's checksum, so that files of two different times are never
        taken for a pair. Each appears whole or not at all.
        """
        import pooch

        path = Path(path)
        if path.suffix != ".bin":
            raise EmbeddingError(f"{path}: word vectors are saved in word2vec's binary format: end the name in .bin")
        temporary, described = (path.with_name(f".{path.name}.{os.getpid()}.{kind}.tmp") for kind in ("bin", "json"))
        try:
            with open(temporary, "wb") as file:
                file.write(f"{len(self)} {self.vectors.shape[1]}\n".encode())
                for word, vector in zip(self.words, self.vectors.astype("<f4", copy=False), strict=True):
                    file.write(word.encode() + b" " + vector.tobytes())
            record = {
                "format": FORMAT,
                "words": len(self),
                "dimension": self.vectors.shape[1],
                "sha256": pooch.file_hash(str(temporary), alg="sha256"),
                **(info or {}),
                "counts": None if self.counts is None else self.counts.tolist(),
            }
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
        path = Path(path)
        words, vectors, left_out = read_vectors(path)
        counts: list[int] | None = None
        info: dict[str, Any] = {}
        described = path.with_suffix(".json")
        if path.suffix == ".bin" and described.is_file():
            counts, info = _read_description(described, path)
        try:
            vocabulary = cls.from_arrays(words, vectors, counts)
        except EmbeddingError as error:
            raise EmbeddingError(f"{path}: {error}") from None
        vocabulary.info, vocabulary.left_out = info, left_out
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


def _check_vectors(words: Sequence[str], vectors: np.ndarray) -> None:
    """Raise ``EmbeddingError`` about the first vector that has no direction, or numbers of no training."""
    if (bad := unusable_row(vectors)) is not None:
        raise EmbeddingError(f"the vector of the word {words[bad[0]]!r} {bad[1]}: leave the word out")
    if (largest := float(np.abs(vectors).max())) > LARGEST:
        raise EmbeddingError(
            f"a vector holds the number {largest:.1e}: the file was read out of step, as happens where a word of a "
            "binary file holds a blank; write it again without such words, or as text"
        )


def _read_description(described: Path, path: Path) -> tuple[list[int] | None, dict[str, Any]]:
    """Return counts and further fields of the JSON beside a saved file; nothing of a JSON of another kind."""
    import pooch

    try:
        record = msgspec.json.decode(described.read_bytes(), type=dict[str, Any])
        if record.get("format") != FORMAT:
            return None, {}
        description = msgspec.convert(record, Description)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EmbeddingError(
            f"{described}: not readable as the account of {path.name} ({error}): delete it, or restore both"
        ) from None
    if pooch.file_hash(str(path), alg="sha256") != description.sha256:
        raise EmbeddingError(f"{described} is not of {path.name} (its checksum differs): delete it, or restore both")
    record.pop("counts", None)
    return description.counts, record
