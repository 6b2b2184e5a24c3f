"""Benchmark work on words: nearest words, tags from them, cleaning a corpus, training skip-gram."""

from __future__ import annotations

import csv
import html
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus, unquote_to_bytes

import numpy as np
import smart_open
import torch
from gensim.models import Word2Vec
from gensim.models.word2vec import LineSentence

from data.yfcc100m import default_shards, read_batches
from embeddings.corpus import CorpusFile, token_line, write_lines
from embeddings.decoding import decode
from embeddings.nearest import QUERIES, ROWS
from embeddings.skipgram import SkipGram, train
from embeddings.vocabulary import Vocabulary, unit_rows
from experiments.bench.context import ALL, Context, Sizes
from experiments.bench.measure import Candidate, Check, Job
from experiments.word_vectors.__main__ import embedded_rows

#: Cosines nearer than this may change places: float32 products of 200 numbers differ by less.
TIE = 1e-6
#: Queries whose neighbours are compared before anything is timed.
COMPARED = 50
#: Skip-gram's minimum count for these small corpora.
MIN_COUNT = 5
#: Commonest words whose cosines are compared after training, and the smallest correlation that agrees.
COMMON, MIN_CORRELATION = 200, 0.8
#: Words kept of an image (section 4.2).
WORDS = 10


# ---- nearest words, and tags from them


def nearest(context: Context) -> Job:
    """Benchmark the nearest words of random unit vectors, the hardest case for any index."""
    sizes, device, vocabulary = context.sizes, str(context.device), random_words(context.sizes)
    queries, keyed = unit_vectors(sizes.queries, sizes.dimension, seed=1), vocabulary.keyed_vectors
    some, compared = queries[: sizes.gensim_queries], queries[:COMPARED]

    def by_gensim(chosen: np.ndarray) -> list[list[int]]:
        found = [keyed.similar_by_vector(query, topn=sizes.top) for query in chosen]
        return [[keyed.key_to_index[word] for word, _ in words] for words in found]

    others = {
        "those of float64 products": exact_neighbours(vocabulary, compared, sizes.top),
        "gensim's": np.array(by_gensim(compared)),
    }
    note = f"{len(some)} queries"
    alternatives = [
        Candidate("gensim similar_by_vector, one by one", lambda: by_gensim(some), len(some) / len(queries), note)
    ]
    facts = {}
    try:
        import faiss
    except ImportError:
        facts["left_out"] = "faiss IndexFlatIP, which is not installed: pip install --editable '.[bench]'"
    else:
        faiss.omp_set_num_threads(context.threads)
        flat = faiss.IndexFlatIP(sizes.dimension)
        flat.add(vocabulary.vectors)
        others["faiss's"] = flat.search(compared, sizes.top)[1]
        alternatives.insert(0, Candidate("faiss IndexFlatIP", lambda: flat.search(queries, sizes.top)))
    ranks = vocabulary.nearest(compared, sizes.top, device)[0]
    return Job(
        path="nearest",
        what=f"nearest {sizes.top} of {sizes.words:,} words x {sizes.dimension} of {sizes.queries:,} queries",
        amount=sizes.queries,
        unit="queries",
        agreement=[
            Check(f"share of neighbours that are {whose}", same_words(ranks, other, vocabulary, compared), 1, True)
            for whose, other in others.items()
        ],
        ours=Candidate("exact search", lambda: vocabulary.nearest(queries, sizes.top, device)),
        alternatives=alternatives,
        limits=product_limits(vocabulary.vectors, queries, context.device),
        facts=facts,
    )


def decoding(context: Context) -> Job:
    """Benchmark the tags of images from sampled vectors, scattered around one word's vector."""
    sizes, vocabulary = context.sizes, random_words(context.sizes)
    images, samples = max(1, sizes.queries // sizes.samples_per_image), sizes.samples_per_image
    centres = vocabulary.vectors[np.random.default_rng(2).integers(len(vocabulary), size=images)]
    scatter = unit_vectors(images * samples, sizes.dimension, seed=3).reshape(images, samples, -1)
    vectors = centres[:, None] + scatter
    few = vectors[: sizes.decoded_images]

    def ours(some: np.ndarray = vectors) -> np.ndarray:
        return decode(vocabulary, some, sizes.top, WORDS, device=str(context.device)).ranks

    def loop() -> list[list[int]]:
        return [decode_one(vocabulary, each, sizes.top) for each in few]

    same = float((ours(few) == np.array(loop())).mean())
    return Job(
        path="decoding",
        what=f"{WORDS} tags of {images} images x {samples} samples, {sizes.words:,} words x {sizes.dimension}",
        amount=images,
        unit="images",
        agreement=[Check("share of words that are the loop's, in place", same, 1, True)],
        ours=Candidate("all samples at once", ours),
        alternatives=[Candidate("an image at a time", loop, len(few) / images, f"{len(few)} images, in NumPy")],
        limits=product_limits(vocabulary.vectors, vectors.reshape(-1, sizes.dimension), context.device),
    )


def decode_one(vocabulary: Vocabulary, samples: np.ndarray, top: int) -> list[int]:
    """Decode one image's samples (samples, d) the direct way: cosines with all words, the best of each, a count."""
    units = samples / np.linalg.norm(samples, axis=1, keepdims=True)
    counts: Counter[int] = Counter()
    sums: Counter[int] = Counter()
    for row in units @ vocabulary.vectors.T:
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
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32))


def exact_neighbours(vocabulary: Vocabulary, queries: np.ndarray, top: int) -> np.ndarray:
    """Return the nearest words of ``queries`` by products in float64, the nearest first: (m, top)."""
    words = vocabulary.vectors.astype(np.float64)
    return np.argsort(-(queries.astype(np.float64) @ words.T), axis=1, kind="stable")[:, :top]


def same_words(ranks: np.ndarray, other: np.ndarray, vocabulary: Vocabulary, queries: np.ndarray) -> float:
    """Return the share of places of two lists of neighbours (m, top) with the same word, or with another as near."""
    near = [np.einsum("mkd,md->mk", vocabulary.vectors[each].astype(np.float64), queries) for each in (ranks, other)]
    return float(((ranks == other) | (np.abs(near[0] - near[1]) < TIE)).mean())


def product_limits(words: np.ndarray, queries: np.ndarray, device: torch.device) -> list[Candidate]:
    """Return the float32 products of all queries with all words alone."""
    left, right = (torch.from_numpy(each).to(device) for each in (queries, words))
    out = torch.empty(QUERIES * ROWS, device=device)

    def multiply() -> None:
        for queried in left.split(QUERIES):
            for block in right.split(ROWS):
                torch.mm(queried, block.T, out=out[: len(queried) * len(block)].view(len(queried), -1))

    return [Candidate("the float32 products alone", multiply)]


# ---- corpus and skip-gram


def corpus(context: Context) -> Job:
    """Benchmark cleaning rows of metadata into lines of tokens, on one core."""
    (shards, name), folder, count = metadata(context), context.folder, context.sizes.timed_rows
    rows, first = folder / "rows.tsv", folder / "first.tsv"
    repeated = itertools.chain.from_iterable(raw_rows(shards) for _ in itertools.repeat(None))
    write_rows(repeated, count, rows)
    write_rows(raw_rows([rows]), 2_000, first)
    files = clean(first, folder).path, csv_and_re(first, folder / "loop.txt")
    cleaned, looped = (file.read_text(encoding="utf-8").split() for file in files)
    share = count / context.sizes.rows
    return Job(
        path="corpus",
        what=f"cleaning {context.sizes.rows:,} rows, {name} repeated, one core",
        amount=context.sizes.rows,
        unit="rows",
        agreement=[Check("share of tokens that the csv and re loop finds, too", overlap(cleaned, looped), 0.98, True)],
        ours=Candidate("decode, clean, write", lambda: clean(rows, folder), share),
        alternatives=[Candidate("csv and re loop", lambda: csv_and_re(rows, folder / "loop.txt"), share)],
        limits=[Candidate("reading the bytes and URL-decoding the three columns", lambda: decode_columns(rows), share)],
        facts={"bytes": rows.stat().st_size / share},
    )


def metadata(context: Context) -> tuple[list[Path], str]:
    """Return files of rows and their name: YFCC100M's that lie under the data root, else of the embedded scenes."""
    shards = default_shards(context.root)
    if shards:
        return shards, shards[0].parent.name
    return [embedded_rows(context.folder)], "rows of the embedded scenes"


def raw_rows(shards: Sequence[Path]) -> Iterator[bytes]:
    """Yield the rows of all shards, unpacked."""
    for shard in shards:
        with smart_open.open(shard, "rb") as file:
            yield from file


def write_rows(rows: Iterable[bytes], count: int, path: Path) -> None:
    """Write at most ``count`` rows to ``path``."""
    with open(path, "wb") as file:
        file.writelines(itertools.islice(rows, count))


def clean(rows: Path, folder: Path) -> CorpusFile:
    """Clean rows as ``experiments.word_vectors`` does, and return the file of their lines."""
    lines = ([token_line(r.title, r.description, r.tags) for r in batch] for batch in read_batches(rows))
    return write_lines(lines, folder, rows.stem, lines_per_file=ALL)[0]


def csv_and_re(path: Path, out: Path) -> Path:
    """Clean rows the direct way, every column through the standard library, word by word; return ``out``, written."""
    csv.field_size_limit(1 << 30)
    with open(path, encoding="utf-8", newline="") as file, open(out, "w", encoding="utf-8") as lines:
        for columns in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if len(columns) != 23:
                continue
            text = html.unescape(re.sub(r"<[^>]+>", " ", unquote_plus(columns[6]) + " " + unquote_plus(columns[7])))
            text = re.sub(r"https?://\S+", " ", text).lower()
            tags = [re.sub(r"\W+", "", unquote_plus(tag).lower()) for tag in columns[8].split(",")]
            tokens = [word for word in [*re.findall(r"\w+", text), *tags] if word and not word.isdigit()]
            lines.write(" ".join(tokens) + "\n")
    return out


def decode_columns(path: Path) -> int:
    """Read the rows, cut out title, description and tags, and URL-decode them; return how many bytes came out."""
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


def skip_gram(context: Context) -> Job:
    """Benchmark word vectors from lines of tokens: counting and training, on all cores."""
    (shards, name), sizes, rows = metadata(context), context.sizes, context.folder / "skip-gram.tsv"
    write_rows(raw_rows(shards), sizes.lines, rows)
    file = clean(rows, context.folder)
    settings = SkipGram(sizes.dimension, MIN_COUNT, epochs=sizes.passes, workers=context.threads)

    def gensim(**source: Any) -> Any:
        return Word2Vec(**source, **asdict(settings), sg=1).wv

    def iterable() -> Any:
        return gensim(sentences=LineSentence(str(file.path)))

    vocabulary, keyed = train([file], settings), iterable()
    assert vocabulary.counts is not None
    own = set(zip(vocabulary.words, vocabulary.counts.tolist(), strict=True))
    other = {(word, keyed.get_vecattr(word, "count")) for word in keyed.index_to_key}
    correlated = correlation(vocabulary, keyed)
    return Job(
        path="skip-gram",
        what=f"skip-gram, {file.tokens:,} tokens of {name}, {sizes.passes} passes, {sizes.dimension} numbers",
        amount=file.tokens * sizes.passes,
        unit="words",
        agreement=[
            Check("words that one has and the other not, or counts otherwise", len(own ^ other), 0),
            Check(
                f"correlation of the {COMMON} commonest words' cosines with gensim's", correlated, MIN_CORRELATION, True
            ),
        ],
        ours=Candidate("a file at a time, counted beforehand", lambda: train([file], settings)),
        alternatives=[Candidate("gensim over a Python iterable", iterable)],
        limits=[Candidate("gensim corpus_file", lambda: gensim(corpus_file=str(file.path)))],
        facts={"vocabulary": len(vocabulary), "workers": context.threads},
    )


def correlation(vocabulary: Vocabulary, keyed: Any) -> float:
    """Return the correlation of the commonest words' cosines in two sets of vectors; threads make no two runs equal."""
    words = vocabulary.words[:COMMON]
    units = [unit_rows(vocabulary.vectors[: len(words)]), unit_rows(np.stack([keyed[word] for word in words]))]
    cosines = [(each @ each.T)[np.triu_indices(len(words), 1)] for each in units]
    return float(np.corrcoef(*cosines)[0, 1])
