"""Titles, descriptions and user tags turned into lines of word tokens, and the files that hold those lines.

Knows nothing of any data set's file format, and trains nothing.
"""

from __future__ import annotations

import functools
import html
import itertools
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from embeddings import EmbeddingError

#: Changes whenever the same text would give other tokens: a corpus says which cleaning made it.
CLEANING = 1
#: Lines of one corpus file; skip-gram training reports at least this often.
LINES_PER_FILE = 1_000_000
#: What a corpus folder says about itself.
MANIFEST = "manifest.json"

_TAG = re.compile(r"<(?:!--.*?--|[/!?]?[A-Za-z][^<>]*)>", re.DOTALL)
_ELEMENT = re.compile(r"<[/!?]?[A-Za-z][^<>]*>")
# The lengths of names are bounded, or a long row of dots or hyphens would take hours.
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,99}://\S+|\bwww\.\S+|\bmailto:\S+", re.IGNORECASE)
# A host name that goes on to a path, such as bit.ly/x or flickr.com/photos, and hosts of the commonest endings.
_HOST = re.compile(
    r"\b(?:[A-Za-z0-9-]{1,63}\.){1,20}(?:[A-Za-z]{2,}/\S*|(?:com|org|net|edu|gov|info|co\.[a-z]{2})\b)", re.IGNORECASE
)
_INNER_DOT = re.compile(r"\.[A-Za-z]")
_TAG_MARKS = re.compile("[<&:.]")
_MACHINE_TAG = re.compile(r"\s*\w+:\w+\s*=")

# ASCII by table: letters and digits stay, in lower case; everything else separates words, or vanishes from a tag.
_ALNUM = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_LOWER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
_WORDS = bytes(_LOWER[code] if code in _ALNUM else 0x20 for code in range(256))
_NO_TAG = bytes(code for code in range(256) if code not in _ALNUM and code != ord(","))

# Invisible joiners stand within words and belong to none: soft hyphen, ZWNJ, ZWJ, word joiner, BOM.
_JOINERS = ("\u00ad", "\u200c", "\u200d", "\u2060", "\ufeff")


def tag_word(tag: str) -> str:
    """Return a user tag as ONE token: lower case, spaces and punctuation removed, as MIRFLICKR's cleaned tags.

    A machine tag (``namespace:predicate=value``), a URL or a bare number gives "".
    """
    if "<" in tag or "&" in tag:
        tag = strip_markup(tag)
    if _MACHINE_TAG.match(tag) or _URL.search(tag):
        return ""
    word = "".join(_word_pattern().findall(_fold(tag).replace("_", " ")))
    return word if _has_letter(word) else ""


def token_line(title: str, description: str, tags: Sequence[str]) -> str:
    """Return one photo's tokens, separated by single spaces: title, description, then tags. "" if nothing is left.

    A word of a title or description is a run of letters, their combining marks and digits, in any script, with at
    least one letter, in lower case (Unicode NFC). HTML tags, entities, URLs and bare numbers go. A tag is one token.
    (gensim's ``tokenize`` cuts Hindi and Thai words to pieces, and words at digits.)
    """
    text, tagged = _word_line(f"{title}\n{description}"), _tag_line(tags)
    return f"{text} {tagged}" if text and tagged else text or tagged


def strip_markup(text: str) -> str:
    """Return ``text`` with HTML tags replaced by spaces and entities by their characters; typed-out tags go as well.

    ``<`` that opens no tag stays (``I <3 dogs``).
    """
    text = html.unescape(_without_tags(text))
    return _without_tags(text) if "<" in text else text


def _without_tags(text: str) -> str:
    # Behind the last end of a comment none can begin; looking for its end from every "<!--" there would take hours.
    before, end, after = text.rpartition("-->")
    return _TAG.sub(" ", before + end) + _ELEMENT.sub(" ", after)


def _fold(text: str) -> str:
    for joiner in _JOINERS:
        text = text.replace(joiner, "")
    return unicodedata.normalize("NFC", text.lower())


def _has_letter(word: str) -> bool:
    return word.isalpha() or any(map(str.isalpha, word))


def _word_line(text: str) -> str:
    if "<" in text or "&" in text:
        text = strip_markup(text)
    if "://" in text or "ww." in text or "WW." in text or "ailto:" in text:
        text = _URL.sub(" ", text)
    if "." in text and _INNER_DOT.search(text):  # Full stops are followed by a space; only others can be host names.
        text = _HOST.sub(" ", text)
    if text.isascii():
        return _plain_line(text.encode("ascii").translate(_WORDS))
    found = _word_pattern().findall(_fold(text).replace("_", " "))
    return " ".join([word for word in found if _has_letter(word)])


def _tag_line(tags: Sequence[str]) -> str:
    if not tags:
        return ""
    joined = ",".join(tags)
    # A tag that holds a comma itself must not fall in two.
    if joined.isascii() and not _TAG_MARKS.search(joined) and joined.count(",") == len(tags) - 1:
        return _plain_line(joined.encode("ascii").translate(_LOWER, _NO_TAG).replace(b",", b" "))
    return " ".join([word for word in map(tag_word, tags) if word])


def _plain_line(line: bytes) -> str:
    """Join ASCII tokens by single spaces, without those of digits only."""
    # No list of words is made for the ordinary line, which holds no digit: this is what makes it fast.
    if len(line.translate(None, b"0123456789")) == len(line):
        while b"  " in line:
            line = line.replace(b"  ", b" ")
        return line.strip().decode("ascii")
    return b" ".join([word for word in line.split() if not word.isdigit()]).decode("ascii")


@functools.lru_cache(maxsize=1)
def _word_pattern() -> re.Pattern[str]:
    r"""Return a pattern of runs of \w and combining marks, which Python's \w leaves out."""
    marks = "".join(chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M")
    return re.compile(rf"[\w{marks}]+")


@dataclass(frozen=True)
class CorpusFile:
    """One file of token lines: UTF-8, one photo a line, tokens separated by single spaces."""

    name: str
    size: int
    lines: int
    tokens: int


@dataclass(frozen=True)
class ShardRecord:
    """What became of one file of metadata: its size, checksum and counts, and the corpus files made of it."""

    name: str
    size: int
    sha256: str
    rows: int
    lines: int
    tokens: int
    skipped: dict[str, int]
    damage: str | None
    files: list[CorpusFile]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """``manifest.json`` of a corpus folder; ``cleaning`` is the version of the rules that made it."""

    cleaning: int
    complete: bool
    notice: str | None = None
    rows: int
    lines: int
    tokens: int
    skipped: dict[str, int]
    shards: list[ShardRecord]


def write_lines(
    batches: Iterable[Sequence[str]], folder: Path, stem: str, lines_per_file: int = LINES_PER_FILE
) -> list[CorpusFile]:
    """Write token lines to ``folder/STEM-0.txt``, ``-1.txt`` ..., leaving empty ones out.

    The files get their names only when all are whole; a killed process leaves hidden ``.tmp`` files.
    """
    written: list[tuple[Path, CorpusFile]] = []
    kept = (line for batch in batches for line in batch if line)
    for number in itertools.count():
        temporary = folder / f".{stem}-{number}.{os.getpid()}.tmp"
        lines = tokens = 0
        with open(temporary, "wb") as file:
            for line in itertools.islice(kept, lines_per_file):
                file.write(line.encode("utf-8") + b"\n")
                lines += 1
                tokens += line.count(" ") + 1
            size = file.tell()
        if not lines:
            temporary.unlink()
            break
        written.append((temporary, CorpusFile(f"{stem}-{number}.txt", size, lines, tokens)))
    for temporary, made in written:
        os.replace(temporary, folder / made.name)
    return [made for _, made in written]


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left in a corpus folder; no process may be writing there."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in ``folder``, None without one; raises ``EmbeddingError`` if it is damaged or foreign."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EmbeddingError(f"{path} is not a corpus manifest ({error}): make the corpus again") from None


def load_corpus(folder: Path) -> tuple[list[CorpusFile], Manifest]:
    """Return the files of a finished corpus, in order, and its manifest.

    Raises ``EmbeddingError`` if there is no corpus in ``folder``, or it is unfinished or damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise EmbeddingError(f"{folder} holds no corpus ({MANIFEST} is missing): make one, or name its folder")
    if not manifest.complete:
        raise EmbeddingError(f"the corpus in {folder} is unfinished: give the corpus command again to continue it")
    files = [file for shard in manifest.shards for file in shard.files]
    for file in files:
        path = folder / file.name
        if not path.is_file() or path.stat().st_size != file.size:
            raise EmbeddingError(f"{path} is missing or of another size than {MANIFEST} says: make the corpus again")
    return files, manifest


def count_words(
    paths: Iterable[Path], minimum: int, progress: Callable[[int], object] = lambda tokens: None
) -> dict[str, int]:
    """Return how often each word occurs, of those with ``minimum`` or more: most frequent first, then by code point.

    Holds each different word (about 160 bytes). ``progress`` is called with the number of tokens just counted.
    """
    counts: Counter[bytes] = Counter()
    for path in paths:
        with open(path, "rb") as file:
            while lines := file.readlines(1 << 20):
                tokens = b"".join(lines).split()
                counts.update(tokens)
                progress(len(tokens))
    kept = [(word.decode("utf-8"), count) for word, count in counts.items() if count >= minimum]
    return dict(sorted(kept, key=lambda item: (-item[1], item[0])))
