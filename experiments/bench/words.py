"""Benchmark work on words: nearest words, tags from them, cleaning a corpus, training skip-gram."""

from __future__ import annotations

import csv
import html
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote_plus, unquote_to_bytes

import numpy as np
import smart_open
import torch
from gensim.models import KeyedVectors, Word2Vec
from gensim.models.word2vec import LineSentence

from data.yfcc100m import default_shards, read_batches
from embeddings.corpus import CorpusFile, token_line, write_lines
from embeddings.decoding import decode
from embeddings.skipgram import SkipGram, train
from embeddings.vocabulary import Vocabulary, unit_rows
from experiments.bench.measure import Candidate, Check, Context, Job
from experiments.word_vectors.__main__ import embedded_rows

#: Of section 4.2: numbers of a word vector, samples of an image, nearest words of each, words kept.
DIMENSION, SAMPLES, NEAREST, WORDS = 200, 100, 20, 10
#: Rows of metadata that the figure of cleaning is for.
ROWS = 1_000_000
#: Skip-gram's minimum count for these small corpora, and its passes over them.
MIN_COUNT, PASSES = 5, 2
#: How far a neighbour's cosine may lie from the one that belongs in its place: float32 rounds 200 products by less.
TOLERANCE = 1e-6
#: Queries whose neighbours are compared before anything is timed.
COMPARED = 50
#: Queries and words of a product that is made alone.
BLOCK = 1024, 16_384


# ---- nearest words, and tags from them


def nearest(context: Context) -> Job:
    """Benchmark the nearest words of random unit vectors, the hardest case for any index."""
    device, vocabulary = str(context.device), random_words(context.sizes.words)
    queries, keyed = unit_vectors(context.sizes.queries, seed=1), vocabulary.keyed_vectors
    some, compared = queries[: context.sizes.gensim_queries], queries[:COMPARED]

    def by_gensim() -> list[list[tuple[str, float]]]:
        return [keyed.similar_by_vector(query, topn=NEAREST) for query in some]

    alternatives = [Candidate("gensim similar_by_vector, one by one", by_gensim, len(some) / len(queries))]
    try:
        import faiss
    except ImportError:
        print("faiss IndexFlatIP is left out, which is not installed: pip install --editable '.[bench]'")
    else:
        faiss.omp_set_num_threads(context.threads)
        flat = faiss.IndexFlatIP(DIMENSION)
        flat.add(vocabulary.vectors)
        alternatives.insert(0, Candidate("faiss IndexFlatIP", lambda: flat.search(queries, NEAREST)))
    # By cosines, not by words: of two words that are equally near, either may stand first.
    exact = compared.astype(np.float64) @ vocabulary.vectors.T.astype(np.float64)
    found = np.take_along_axis(exact, vocabulary.nearest(compared, NEAREST, device)[0], 1)
    off = float(np.abs(found + np.sort(-exact, 1)[:, :NEAREST]).max())
    return Job(
        path="nearest",
        what=f"nearest {NEAREST} of {len(vocabulary):,} words x {DIMENSION} of {len(queries):,} queries",
        amount=len(queries),
        unit="queries",
        agreement=[Check("largest difference of a neighbour's cosine from float64's", off, TOLERANCE)],
        ours=Candidate("exact search", lambda: vocabulary.nearest(queries, NEAREST, device)),
        alternatives=alternatives,
        limits=[products(vocabulary.vectors, queries, context.device)],
    )


def decoding(context: Context) -> Job:
    """Benchmark the tags of images from sampled vectors, scattered around one word's vector."""
    vocabulary, images = random_words(context.sizes.words), max(1, context.sizes.queries // SAMPLES)
    centres = vocabulary.vectors[np.random.default_rng(2).integers(len(vocabulary), size=images)]
    vectors = centres[:, None] + unit_vectors(images * SAMPLES, seed=3).reshape(images, SAMPLES, -1)
    few = vectors[: context.sizes.decoded_images]

    def ours(some: np.ndarray = vectors) -> np.ndarray:
        return decode(vocabulary, some, NEAREST, WORDS, device=str(context.device)).ranks

    def loop() -> list[list[int]]:
        return [decode_one(vocabulary, each) for each in few]

    same = float((ours(few) == np.array(loop())).mean())
    return Job(
        path="decoding",
        what=f"{WORDS} tags of {images} images x {SAMPLES} samples, {len(vocabulary):,} words x {DIMENSION}",
        amount=images,
        unit="images",
        agreement=[Check("share of words that are the loop's, in place", same, 1, True)],
        ours=Candidate("all samples at once", ours),
        alternatives=[Candidate("an image at a time, in NumPy", loop, len(few) / images)],
        limits=[products(vocabulary.vectors, vectors.reshape(-1, DIMENSION), context.device)],
    )


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


def random_words(count: int) -> Vocabulary:
    """Return a vocabulary of random unit vectors."""
    return Vocabulary.from_arrays([f"w{number}" for number in range(count)], unit_vectors(count, seed=0))


def unit_vectors(count: int, seed: int) -> np.ndarray:
    """Return random vectors (count, ``DIMENSION``) float32 of length one."""
    return unit_rows(np.random.default_rng(seed).standard_normal((count, DIMENSION), dtype=np.float32))


def products(words: np.ndarray, queries: np.ndarray, device: torch.device) -> Candidate:
    """Return the float32 products of all queries with all words alone."""
    left, right = (torch.from_numpy(each).to(device) for each in (queries, words))

    def multiply() -> None:
        for some_queries in left.split(BLOCK[0]):
            for some_words in right.split(BLOCK[1]):
                torch.mm(some_queries, some_words.T)

    return Candidate("the float32 products alone", multiply)


# ---- corpus and skip-gram


def corpus(context: Context) -> Job:
    """Benchmark cleaning rows of metadata into lines of tokens, on one core."""
    (shards, name), folder, count = metadata(context), context.folder, context.sizes.rows
    rows, first = folder / "rows.tsv", folder / "first.tsv"
    write_rows(itertools.cycle(shards), count, rows)
    write_rows([rows], 2_000, first)
    files = folder / clean(first, folder).name, csv_and_re(first, folder / "loop.txt")
    cleaned, looped = (file.read_text(encoding="utf-8").split() for file in files)
    share = count / ROWS
    return Job(
        path="corpus",
        what=f"cleaning {ROWS:,} rows, {name} repeated, one core",
        amount=ROWS,
        unit="rows",
        agreement=[Check("share of tokens that the csv and re loop finds, too", overlap(cleaned, looped), 0.98, True)],
        ours=Candidate("decode, clean, write", lambda: clean(rows, folder), share),
        alternatives=[Candidate("csv and re loop", lambda: csv_and_re(rows, folder / "loop.txt"), share)],
        limits=[Candidate("reading the bytes and URL-decoding the three columns", lambda: decode_columns(rows), share)],
    )


def metadata(context: Context) -> tuple[list[Path], str]:
    """Return files of rows and their name: YFCC100M's that lie under the data root, else of the embedded scenes."""
    shards = default_shards(context.root)
    if shards:
        return shards, shards[0].parent.name
    return [embedded_rows(context.folder)], "rows of the embedded scenes"


def write_rows(shards: Iterable[Path], count: int, path: Path) -> None:
    """Write the first ``count`` rows of the shards, unpacked, to ``path``."""
    rows = itertools.chain.from_iterable(smart_open.open(shard, "rb") for shard in shards)
    with open(path, "wb") as file:
        file.writelines(itertools.islice(rows, count))


def clean(rows: Path, folder: Path) -> CorpusFile:
    """Clean rows as ``experiments.word_vectors`` does, and return the file of their lines."""
    lines = ([token_line(r.title, r.description, r.tags) for r in batch] for batch in read_batches(rows))
    return write_lines(lines, folder, rows.stem, lines_per_file=ROWS)[0]


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
    (shards, name), rows = metadata(context), context.folder / "skip-gram.tsv"
    write_rows(shards, context.sizes.lines, rows)
    file, folder = clean(rows, context.folder), context.folder
    settings = SkipGram(DIMENSION, MIN_COUNT, epochs=PASSES, workers=context.threads)

    def gensim() -> KeyedVectors:
        return Word2Vec(sentences=LineSentence(str(folder / file.name)), **asdict(settings), sg=1).wv

    vocabulary, keyed = train(folder, [file], settings), gensim()
    assert vocabulary.counts is not None
    own = set(zip(vocabulary.words, vocabulary.counts.tolist(), strict=True))
    other = {(word, keyed.get_vecattr(word, "count")) for word in keyed.index_to_key}
    return Job(
        path="skip-gram",
        what=f"skip-gram, {file.tokens:,} tokens of {name}, {PASSES} passes, {DIMENSION} numbers",
        amount=file.tokens * PASSES,
        unit="words",
        agreement=[Check("words that one has and the other not, or counts otherwise", len(own ^ other), 0)],
        ours=Candidate("a file at a time, counted beforehand", lambda: train(folder, [file], settings)),
        alternatives=[Candidate("gensim over a Python iterable", gensim)],
    )
