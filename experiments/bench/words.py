"""Benchmark work on words: nearest words, tags from them, cleaning a corpus."""

from __future__ import annotations

import csv
import html
import itertools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote_plus, unquote_to_bytes

import numpy as np
import smart_open
import torch

from data.yfcc100m import default_shards, read_batches
from embeddings.corpus import token_line, write_lines
from embeddings.decoding import decode
from embeddings.vocabulary import Vocabulary, unit_rows
from experiments.bench.measure import Candidate, Context, Job
from experiments.word_vectors.__main__ import embedded_rows

#: Of section 4.2: numbers of a word vector, samples of an image, nearest words of each, words kept.
DIMENSION, SAMPLES, NEAREST, WORDS = 200, 100, 20, 10
#: Rows of metadata that the figure of cleaning is for.
ROWS = 1_000_000
#: Queries and words of a product that is made alone.
BLOCK = 1024, 16_384


def nearest(context: Context) -> Job:
    """Benchmark the nearest words of random unit vectors, the hardest case for any index."""
    device, vocabulary = str(context.device), random_words(context)
    queries, keyed = unit_vectors(context.size(10_000, 200), seed=1), vocabulary.keyed_vectors
    some = queries[: context.size(100, 20)]

    def by_gensim() -> list[list[tuple[str, float]]]:
        return [keyed.similar_by_vector(query, topn=NEAREST) for query in some]

    candidates = [Candidate("ours", "exact search", lambda: vocabulary.nearest(queries, NEAREST, device))]
    try:
        import faiss
    except ImportError:
        print("faiss IndexFlatIP is left out, which is not installed: pip install --editable '.[bench]'")
    else:
        faiss.omp_set_num_threads(context.threads)
        flat = faiss.IndexFlatIP(DIMENSION)
        flat.add(vocabulary.vectors)
        candidates.append(Candidate("alternative", "faiss IndexFlatIP", lambda: flat.search(queries, NEAREST)))
    share = len(some) / len(queries)
    candidates.append(Candidate("alternative", "gensim similar_by_vector, one by one", by_gensim, share))
    candidates.append(products(vocabulary.vectors, queries, context.device))
    what = f"nearest {NEAREST} of {len(vocabulary):,} words x {DIMENSION} of {len(queries):,} queries"
    return Job(what, len(queries), "queries", candidates)


def decoding(context: Context) -> Job:
    """Benchmark the tags of images from sampled vectors, scattered around one word's vector."""
    device, vocabulary, images = str(context.device), random_words(context), context.size(100, 2)
    centres = vocabulary.vectors[np.random.default_rng(2).integers(len(vocabulary), size=images)]
    vectors = centres[:, None] + unit_vectors(images * SAMPLES, seed=3).reshape(images, SAMPLES, -1)
    few = vectors[: context.size(10, 1)]

    def ours() -> object:
        return decode(vocabulary, vectors, NEAREST, WORDS, device=device)

    def loop() -> list[list[int]]:
        return [decode_one(vocabulary, each) for each in few]

    candidates = [
        Candidate("ours", "all samples at once", ours),
        Candidate("alternative", "an image at a time, in NumPy", loop, len(few) / images),
        products(vocabulary.vectors, vectors.reshape(-1, DIMENSION), context.device),
    ]
    what = f"{WORDS} tags of {images} images x {SAMPLES} samples, {len(vocabulary):,} words x {DIMENSION}"
    return Job(what, images, "images", candidates)


def decode_one(vocabulary: Vocabulary, samples: np.ndarray) -> list[int]:
    """Decode one image's samples (samples, d) the direct way: cosines with all words, the best of each, a count."""
    units = samples / np.linalg.norm(samples, axis=1, keepdims=True)
    counts: Counter[int] = Counter()
    sums: Counter[int] = Counter()
    for row in units @ vocabulary.vectors.T:
        for word in np.argpartition(-row, NEAREST)[:NEAREST].tolist():
            counts[word] += 1
            sums[word] += row[word]
    return sorted(counts, key=lambda word: (-counts[word], -sums[word], word))[:WORDS]


def random_words(context: Context) -> Vocabulary:
    """Return a vocabulary of random unit vectors, as large as the paper's."""
    count = context.size(247_465, 4_000)
    return Vocabulary.from_arrays([f"w{number}" for number in range(count)], unit_vectors(count, seed=0))


def unit_vectors(count: int, seed: int) -> np.ndarray:
    """Return random vectors (count, ``DIMENSION``) float32 of length one."""
    return unit_rows(np.random.default_rng(seed).standard_normal((count, DIMENSION), dtype=np.float32))


def products(words: np.ndarray, queries: np.ndarray, device: torch.device) -> Candidate:
    """Return the limit: the float32 products of all queries with all words."""
    left, right = (torch.from_numpy(each).to(device) for each in (queries, words))

    def multiply() -> None:
        for some_queries in left.split(BLOCK[0]):
            for some_words in right.split(BLOCK[1]):
                torch.mm(some_queries, some_words.T)

    return Candidate("limit", "the float32 products alone", multiply)


def corpus(context: Context) -> Job:
    """Benchmark cleaning rows of metadata into lines of tokens, on one core."""
    (shards, name), folder, count = metadata(context), context.folder, context.size(200_000, 2_000)
    rows, share = folder / "rows.tsv", count / ROWS
    write_rows(itertools.cycle(shards), count, rows)
    candidates = [
        Candidate("ours", "decode, clean, write", lambda: clean(rows, folder), share),
        Candidate("alternative", "csv and re loop", lambda: csv_and_re(rows, folder / "loop.txt"), share),
        Candidate("limit", "reading and URL-decoding the three columns", lambda: decode_columns(rows), share),
    ]
    return Job(f"cleaning {ROWS:,} rows, {name} repeated, one core", ROWS, "rows", candidates)


def metadata(context: Context) -> tuple[list[Path], str]:
    """Return files of rows and their name: YFCC100M's that lie under the data root, else of the embedded scenes."""
    if shards := default_shards(context.root):
        return shards, shards[0].parent.name
    return [embedded_rows(context.folder)], "rows of the embedded scenes"


def write_rows(shards: Iterable[Path], count: int, path: Path) -> None:
    """Write the first ``count`` rows of the shards, unpacked, to ``path``."""
    rows = itertools.chain.from_iterable(smart_open.open(shard, "rb") for shard in shards)
    with open(path, "wb") as file:
        file.writelines(itertools.islice(rows, count))


def clean(rows: Path, folder: Path) -> None:
    """Clean rows into lines of tokens as ``experiments.word_vectors`` does."""
    lines = ([token_line(r.title, r.description, r.tags) for r in batch] for batch in read_batches(rows))
    write_lines(lines, folder, rows.stem, lines_per_file=ROWS)


def csv_and_re(path: Path, out: Path) -> None:
    """Clean rows the direct way, every column through the standard library, word by word, and write them to ``out``."""
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


def decode_columns(path: Path) -> None:
    """Read the rows, cut out title, description and tags, and URL-decode them."""
    with open(path, "rb") as file:
        while rows := file.readlines(1 << 20):
            text = b"\n".join([b"\t".join(row.split(b"\t", 9)[6:9]) for row in rows])
            unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "replace")
