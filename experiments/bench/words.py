"""The benchmark's paths of words: nearest words, decoding tags, cleaning a corpus, training skip-gram."""

from __future__ import annotations

import bz2
import csv
import gzip
import html
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_plus, unquote_to_bytes

import numpy as np

from embeddings.corpus import CorpusFile, token_line, write_lines
from embeddings.vocabulary import Vocabulary
from experiments.bench.measure import Candidate, Check, Job
from experiments.bench.sizes import SAMPLES_OF_IMAGE, Sizes

#: Cosines nearer than this may change places: float32 products of 200 numbers differ by less.
TIE = 1e-6

#: Queries whose neighbours are compared before anything is timed.
COMPARED = 50

#: Skip-gram's minimum count for these small corpora.
MIN_COUNT = 5

#: Commonest words whose cosines are compared after training.
COMMON = 200

#: Smallest correlation of those cosines with gensim's that agrees.
MIN_CORRELATION = 0.8

#: Words kept of an image (section 4.2).
WORDS = 10


# ---------------------------------------------------------------------------------------------------------------------
# Nearest words, and tags from them


def nearest(device: str, threads: int, sizes: Sizes) -> Job:
    """Benchmark the nearest words of random unit vectors, the hardest case for any index."""
    from gensim.models import KeyedVectors

    vocabulary, queries = random_words(sizes), unit_vectors(sizes.queries, sizes.dimension, seed=1)
    keyed = KeyedVectors(sizes.dimension)
    keyed.add_vectors(vocabulary.words, vocabulary.vectors)
    some, compared = queries[: sizes.gensim_queries], queries[:COMPARED]
    ranks = vocabulary.nearest(compared, sizes.top, device)[0]
    exact = exact_neighbours(vocabulary, compared, sizes.top)
    by_gensim = np.array(
        [[keyed.key_to_index[word] for word, _ in keyed.similar_by_vector(query, sizes.top)] for query in compared]
    )
    agreement = [
        Check(f"share of neighbours that are {whose}", same_words(ranks, other, vocabulary, compared), 1, True)
        for whose, other in (("those of float64 products", exact), ("gensim's", by_gensim))
    ]
    alternatives = [
        Candidate(
            "gensim similar_by_vector, one by one",
            "alternative",
            lambda: [keyed.similar_by_vector(query, topn=sizes.top) for query in some],
            len(some) / len(queries),
            f"{len(some)} queries",
        )
    ]
    try:
        import faiss
    except ImportError:
        left_out = {"left_out": "faiss IndexFlatIP, which is not installed: pip install --editable '.[bench]'"}
    else:
        left_out = {}
        faiss.omp_set_num_threads(threads)
        flat = faiss.IndexFlatIP(sizes.dimension)
        flat.add(vocabulary.vectors)
        found = flat.search(compared, sizes.top)[1]
        what = "share of neighbours that are faiss's"
        agreement.append(Check(what, same_words(ranks, found, vocabulary, compared), 1, True))
        alternatives.insert(0, Candidate("faiss IndexFlatIP", "alternative", lambda: flat.search(queries, sizes.top)))
    return Job(
        path="nearest",
        what=f"nearest {sizes.top} of {sizes.words:,} words x {sizes.dimension} of {sizes.queries:,} queries",
        amount=sizes.queries,
        unit="queries",
        agreement=agreement,
        candidates=[
            Candidate("exact search", "ours", lambda: vocabulary.nearest(queries, sizes.top, device)),
            *alternatives,
            *product_limits(vocabulary.vectors, queries, device),
        ],
        facts=left_out,
    )


def decoding(device: str, sizes: Sizes) -> Job:
    """Benchmark the tags of images from 100 sampled vectors each, scattered around one word's vector."""
    from embeddings.decoding import decode

    vocabulary = random_words(sizes)
    images = max(1, sizes.queries // SAMPLES_OF_IMAGE)
    rng = np.random.default_rng(2)
    centres = vocabulary.vectors[rng.integers(len(vocabulary), size=images)]
    scatter = unit_vectors(images * SAMPLES_OF_IMAGE, sizes.dimension, seed=3)
    vectors = centres[:, None] + scatter.reshape(images, SAMPLES_OF_IMAGE, -1)
    few = vectors[: sizes.decoded_images]

    def ours(some: np.ndarray = vectors) -> Any:
        return decode(vocabulary, some, sizes.top, WORDS, device=device)

    looped = np.array([decode_one(vocabulary, each, sizes.top) for each in few])
    same = float((ours(few).ranks == looped).mean())
    return Job(
        path="decoding",
        what=f"{WORDS} tags of {images} images x {SAMPLES_OF_IMAGE} samples, {sizes.words:,} words x {sizes.dimension}",
        amount=images,
        unit="images",
        agreement=[Check("share of words that are the loop's, in place", same, 1, True)],
        candidates=[
            Candidate("all samples at once", "ours", ours),
            Candidate(
                "an image at a time",
                "alternative",
                lambda: [decode_one(vocabulary, each, sizes.top) for each in few],
                len(few) / images,
                f"{len(few)} images, in NumPy",
            ),
            *product_limits(vocabulary.vectors, vectors.reshape(-1, sizes.dimension), device),
        ],
    )


def decode_one(vocabulary: Vocabulary, samples: np.ndarray, top: int) -> list[int]:
    """Decode one image's samples (samples, d) the direct way: cosines with all words, the best of each, a count."""
    units = samples / np.linalg.norm(samples, axis=1, keepdims=True)
    cosines = units @ vocabulary.vectors.T
    counts: Counter[int] = Counter()
    sums: Counter[int] = Counter()
    for row in cosines:
        for word in np.argpartition(-row, top)[:top].tolist():
            counts[word] += 1
            sums[word] += row[word]
    return sorted(counts, key=lambda word: (-counts[word], -sums[word], word))[:WORDS]


def random_words(sizes: Sizes) -> Vocabulary:
    """Return a vocabulary of random unit vectors."""
    names = [f"w{number}" for number in range(sizes.words)]
    return Vocabulary.from_arrays(names, unit_vectors(sizes.words, sizes.dimension, seed=0))


def unit_vectors(count: int, dimension: int, seed: int) -> np.ndarray:
    """Return random vectors (count, dimension) float32 of length one."""
    made = np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def exact_neighbours(vocabulary: Vocabulary, queries: np.ndarray, top: int) -> np.ndarray:
    """Return the nearest words of ``queries`` by products in float64, the nearest first: (m, top)."""
    words = vocabulary.vectors.astype(np.float64)
    return np.argsort(-(queries.astype(np.float64) @ words.T), axis=1, kind="stable")[:, :top]


def same_words(ranks: np.ndarray, other: np.ndarray, vocabulary: Vocabulary, queries: np.ndarray) -> float:
    """Return the share of places of two lists of neighbours (m, top) with the same word, or with another as near."""
    near = [np.einsum("mkd,md->mk", vocabulary.vectors[each].astype(np.float64), queries) for each in (ranks, other)]
    return float(((ranks == other) | (np.abs(near[0] - near[1]) < TIE)).mean())


def product_limits(words: np.ndarray, queries: np.ndarray, device: str) -> list[Candidate]:
    """Return the products of all queries with all words alone, first in the type that the search computes in."""
    import torch

    from embeddings.nearest import int8_is_fast

    quick = device == "cpu" and int8_is_fast()
    return [
        Candidate(
            f"the {str(dtype).removeprefix('torch.')} products alone", "limit", products(words, queries, dtype, device)
        )
        for dtype in ([torch.int8, torch.float32] if quick else [torch.float32])
    ]


def products(words: np.ndarray, queries: np.ndarray, dtype: Any, device: str) -> Callable[[], None]:
    """Return a function that multiplies block by block into memory allocated once."""
    import torch

    from embeddings.nearest import QUERIES, ROWS

    left, right = torch.from_numpy(queries).to(device), torch.from_numpy(words).to(device)
    if dtype == torch.int8:
        left, right = (left * 300).to(dtype), (right * 300).to(dtype)
    buffer = torch.empty(QUERIES * ROWS, dtype=torch.int32 if dtype == torch.int8 else dtype, device=device)

    def multiply() -> None:
        for queried in left.split(QUERIES):
            for block in right.split(ROWS):
                out = buffer[: len(queried) * len(block)].view(len(queried), -1)
                (torch._int_mm if dtype == torch.int8 else torch.mm)(queried, block.T, out=out)

    return multiply


# ---------------------------------------------------------------------------------------------------------------------
# Corpus and skip-gram


def corpus(shards: Sequence[Path], name: str, folder: Path, sizes: Sizes) -> Job:
    """Benchmark cleaning rows of metadata into lines of tokens, on one core."""
    from data.yfcc100m import Tally, read_batches

    plain, count = folder / "rows.tsv", min(sizes.timed_rows, sizes.rows)
    write_rows(shards, plain, count)
    first = folder / "first.tsv"
    write_rows(shards, first, min(count, 2_000))

    def ours(path: Path = plain) -> list[CorpusFile]:
        batches = read_batches(path, Tally())
        lines = ([token_line(r.title, r.description, r.tags) for r in batch] for batch in batches)
        return write_lines(lines, folder, "ours")

    def loop(path: Path = plain) -> Path:
        return csv_and_re(path, folder / "loop.txt")

    cleaned = [word for file in ours(first) for word in file.path.read_text(encoding="utf-8").split()]
    looped = loop(first).read_text(encoding="utf-8").split()
    share = count / sizes.rows
    return Job(
        path="corpus",
        what=f"cleaning {sizes.rows:,} rows, {name} repeated, one core",
        amount=sizes.rows,
        unit="rows",
        agreement=[Check("share of tokens that the csv and re loop finds, too", overlap(cleaned, looped), 0.98, True)],
        candidates=[
            Candidate("decode, clean, write", "ours", ours, share),
            Candidate("csv and re loop", "alternative", loop, share),
            Candidate("reading the bytes and URL-decoding the three columns", "limit", lambda: read_only(plain), share),
        ],
        facts={"bytes": plain.stat().st_size / share},
    )


def write_rows(shards: Sequence[Path], path: Path, count: int) -> None:
    """Write ``count`` rows of the shards to ``path``, starting again when they end."""
    with open(path, "wb") as file:
        left = count
        while left:
            for shard in shards:
                with unpacked(shard) as rows:
                    for row in itertools.islice(rows, left):
                        file.write(row)
                        left -= 1


def unpacked(shard: Path) -> IO[bytes]:
    """Return a shard's bytes, unpacked by its ending."""
    if shard.suffix == ".bz2":
        return bz2.open(shard)
    return gzip.open(shard) if shard.suffix == ".gz" else open(shard, "rb")  # type: ignore[return-value]


def csv_and_re(path: Path, out: Path) -> Path:
    """Clean rows the direct way, every column through the standard library, word by word; return ``out``, written."""
    csv.field_size_limit(1 << 30)
    with open(path, encoding="utf-8", newline="") as file, open(out, "w", encoding="utf-8") as lines:
        for columns in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if len(columns) != 23:
                continue
            text = html.unescape(re.sub(r"<[^>]+>", " ", unquote_plus(columns[6]) + " " + unquote_plus(columns[7])))
            text = re.sub(r"https?://\S+", " ", text).lower()
            tokens = [word for word in re.findall(r"\w+", text) if not word.isdigit()]
            for tag in columns[8].split(","):
                word = re.sub(r"\W+", "", unquote_plus(tag).lower())
                if word and not word.isdigit():
                    tokens.append(word)
            lines.write(" ".join(tokens) + "\n")
    return out


def read_only(path: Path) -> int:
    """Read the rows, cut out title, description and tags, and URL-decode them; how many bytes came out."""
    size = 0
    with open(path, "rb") as file:
        while rows := file.readlines(1 << 20):
            text = b"\n".join([b"\t".join(row.split(b"\t", 9)[6:9]) for row in rows])
            size += len(unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "replace"))
    return size


def overlap(found: Sequence[str], other: Sequence[str]) -> float:
    """Return the number of common tokens, divided by the mean length: 1 for the same bags of words."""
    common = (Counter(found) & Counter(other)).total()
    return 2 * common / max(1, len(found) + len(other))


def skip_gram(shards: Sequence[Path], name: str, folder: Path, threads: int, sizes: Sizes) -> Job:
    """Benchmark word vectors from lines of tokens: counting and training, on all cores."""
    from gensim.models import Word2Vec

    from data.yfcc100m import Tally, read_batches
    from embeddings.skipgram import SkipGram, train

    rows = folder / "skip-gram.tsv"
    write_rows(shards, rows, sizes.lines or min(number_of_rows(shards), sizes.timed_rows))
    batches = ([token_line(r.title, r.description, r.tags) for r in batch] for batch in read_batches(rows, Tally()))
    files = write_lines(batches, folder, "skip-gram")
    settings = SkipGram(vector_size=sizes.dimension, min_count=MIN_COUNT, epochs=sizes.passes, workers=threads)
    options = {
        "sg": 1,
        "vector_size": settings.vector_size,
        "min_count": settings.min_count,
        "window": settings.window,
        "negative": settings.negative,
        "sample": settings.sample,
        "alpha": settings.alpha,
        "min_alpha": settings.min_alpha,
        "epochs": settings.epochs,
        "seed": settings.seed,
        "workers": threads,
    }

    def ours() -> Vocabulary:
        return train(files, settings)

    def iterable() -> Any:
        return Word2Vec(Lines(files[0].path), **options)

    def corpus_file() -> Any:
        return Word2Vec(corpus_file=str(files[0].path), **options)

    vocabulary, model = ours(), iterable()
    counts = {word: model.wv.get_vecattr(word, "count") for word in model.wv.index_to_key}
    assert vocabulary.counts is not None
    own = dict(zip(vocabulary.words, vocabulary.counts.tolist(), strict=True))
    tokens = files[0].tokens * sizes.passes
    return Job(
        path="skip-gram",
        what=f"skip-gram, {files[0].tokens:,} tokens of {name}, {sizes.passes} passes, {sizes.dimension} numbers",
        amount=tokens,
        unit="words",
        agreement=[
            Check("words that one has and the other not, or counts otherwise", len(own.items() ^ counts.items()), 0),
            Check(
                f"correlation of the {COMMON} commonest words' cosines with gensim's",
                correlation(vocabulary, model.wv),
                MIN_CORRELATION,
                True,
            ),
        ],
        candidates=[
            Candidate("a file at a time, counted beforehand", "ours", ours),
            Candidate("gensim over a Python iterable", "alternative", iterable),
            Candidate("gensim corpus_file", "limit", corpus_file),
        ],
        facts={"vocabulary": len(vocabulary), "workers": threads},
    )


class Lines:
    """A corpus as gensim's introduction reads one: a list of words from each line, again at each pass."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[list[str]]:
        with open(self.path, encoding="utf-8") as file:
            for line in file:
                yield line.split()


def correlation(vocabulary: Vocabulary, keyed: Any) -> float:
    """Return the correlation of the commonest words' cosines in two sets of vectors; threads make no two runs equal."""
    words = vocabulary.words[:COMMON]
    cosines = []
    for vectors in (vocabulary.vectors[: len(words)], np.stack([keyed[word] for word in words])):
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines.append((units @ units.T)[np.triu_indices(len(words), 1)])
    return float(np.corrcoef(*cosines)[0, 1])


def number_of_rows(shards: Sequence[Path], most: int = 200_000) -> int:
    """Count the rows of all shards, up to ``most``."""
    rows = itertools.chain.from_iterable(_each_row(shard) for shard in shards)
    return sum(1 for _ in itertools.islice(rows, most))


def _each_row(shard: Path) -> Iterator[bytes]:
    with unpacked(shard) as file:
        yield from file
