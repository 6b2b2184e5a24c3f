"""Speed of corpus cleaning and of the nearest words, each beside an alternative and a limit: a table and a JSON.

``python -m experiments.bench_words``. Needs faiss (``pip install faiss-cpu``) for one row of the table; goes without.
"""

from __future__ import annotations

import bz2
import csv
import html
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote_plus

import tyro

from experiments import UsageError, runs
from experiments.cli import run

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Bench:
    """Measure, print a table, write a JSON. Each figure is the best of its repeats, taken in turn with the others."""

    parts: tuple[Literal["corpus", "nearest"], ...] = ("corpus", "nearest")
    """What to measure."""
    rows: int = 1_000_000
    """Rows of metadata, real ones repeated."""
    words: int = 247_465
    """Words of the vocabulary (section 4.2), random unit vectors."""
    dimension: int = 200
    """Numbers in a vector (section 4.2)."""
    queries: int = 10_000
    """Queries, random unit vectors."""
    top: int = 20
    """Nearest words of each query (section 4.2)."""
    gensim_queries: int = 100
    """Queries that gensim's loop is measured on; its time is scaled up to all."""
    repeats: int = 3
    """How often each is measured."""
    threads: int = 0
    """Threads of the nearest words; 0 takes all cores. The corpus is measured on one core."""
    data_root: Path | None = None
    """Folder with the metadata; else $CGAN_DATA, else data/raw."""
    out: Path = Path("experiments/results/word-vectors/bench.json")
    """File of the figures."""


@dataclass(frozen=True)
class Timing:
    """The best of several measurements: seconds passed, and seconds the processors spent on it."""

    name: str
    seconds: float
    cpu_seconds: float
    #: What ``seconds`` took care of, in ``unit``s.
    amount: float
    unit: str
    note: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the exit status."""
    bench = tyro.cli(Bench, args=argv, prog="python -m experiments.bench_words", description=Bench.__doc__)
    # Before torch or BLAS is loaded: faiss and gensim take their threads from here.
    threads = bench.threads or os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    results: dict[str, list[Timing]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "corpus" in bench.parts:
            results["corpus"] = bench_corpus(bench, Path(folder))
            print_table("corpus, one core", results["corpus"])
        if "nearest" in bench.parts:
            results["nearest"] = bench_nearest(bench, threads)
            print_table(f"nearest words, {threads} threads", results["nearest"])
    bench.out.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(
        bench.out,
        {
            "settings": asdict(bench) | {"out": str(bench.out), "data_root": None, "threads": threads},
            "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
            "results": {part: [asdict(timing) for timing in timings] for part, timings in results.items()},
            "environment": runs.environment(),
        },
    )
    print(f"\nthe figures are in {bench.out}")
    return 0


def measure(
    candidates: Sequence[tuple[str, Callable[[], object], float, str, str]],
    repeats: int,
    scale: dict[str, float],
) -> list[Timing]:
    """Time (name, function, amount, unit, note) in turn, ``repeats`` times, and keep the best of each."""
    best: dict[str, tuple[float, float]] = {}
    for _ in range(repeats):
        for name, function, *_ in candidates:
            wall, spent = time.perf_counter(), time.process_time()
            function()
            wall, spent = time.perf_counter() - wall, time.process_time() - spent
            before = best.get(name, (float("inf"), float("inf")))
            best[name] = min(wall, before[0]), min(spent, before[1])
    return [
        Timing(name, best[name][0] * scale.get(name, 1), best[name][1] * scale.get(name, 1), amount, unit, note)
        for name, _, amount, unit, note in candidates
    ]


def print_table(title: str, timings: Sequence[Timing]) -> None:
    """Seconds, processor seconds and rates, and how often ours (the first) fits into each in either time.

    Where other work shares the processors, the processor seconds of one thread are the fairer comparison; of several
    threads they count the waiting for one another as well.
    """
    print(f"\n{title}\n  {'':44}  seconds  processor s  {'rate':>20}  times ours: seconds, processor s")
    for timing in timings:
        rate = f"{timing.amount / timing.seconds:,.0f} {timing.unit}/s"
        times = timing.seconds / timings[0].seconds, timing.cpu_seconds / timings[0].cpu_seconds
        print(
            f"  {timing.name:44}  {timing.seconds:7.2f}  {timing.cpu_seconds:11.2f}  {rate:>20}  "
            f"{times[0]:18.2f}, {times[1]:11.2f}{'  ' + timing.note if timing.note else ''}"
        )


def bench_corpus(bench: Bench, folder: Path) -> list[Timing]:
    """Plain text to token files by ours and by csv + re; bzip2 alone."""
    from data.roots import data_root
    from data.yfcc100m import Tally, default_shards, read_batches
    from embeddings.corpus import token_line, write_lines

    shards = default_shards(data_root(bench.data_root))
    if not shards:
        raise UsageError("no YFCC100M metadata under the data root: give --data-root, or --parts nearest")
    packed = [shard.read_bytes() for shard in shards]
    unpacked = b"".join(map(bz2.decompress, packed))
    lines = unpacked.splitlines(keepends=True)
    plain = folder / "rows.tsv"
    with open(plain, "wb") as file:
        for start in range(0, bench.rows, len(lines)):
            file.writelines(lines[: bench.rows - start])

    def ours() -> None:
        batches = read_batches(plain, Tally())
        write_lines(([token_line(r.title, r.description, r.tags) for r in batch] for batch in batches), folder, "ours")

    def read_only() -> None:
        for _ in read_batches(plain, Tally()):
            pass

    def unpack() -> None:
        for data in packed:
            bz2.decompress(data)

    repeated = bench.rows / len(lines)
    return measure(
        [
            ("ours: decode, clean, write", ours, bench.rows, "rows", ""),
            ("csv + re loop", lambda: csv_and_re(plain, folder / "loop.txt"), bench.rows, "rows", ""),
            ("ours, reading and decoding alone", read_only, bench.rows, "rows", ""),
            (
                "bzip2 alone, if packed",
                unpack,
                bench.rows,
                "rows",
                f"{len(unpacked) / 1e6:.1f} MB measured, scaled",
            ),
        ],
        bench.repeats,
        {"bzip2 alone, if packed": repeated},
    )


def csv_and_re(path: Path, out: Path) -> None:
    """What one would write first: every column through the standard library, word by word."""
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


def bench_nearest(bench: Bench, threads: int) -> list[Timing]:
    """Ours, faiss, gensim's loop, and the matrix product that all of them contain."""
    import numpy as np
    import torch
    from gensim.models import KeyedVectors

    from embeddings.nearest import QUERIES, ROWS, int8_is_fast
    from embeddings.vocabulary import Vocabulary

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)

    def units(number: int) -> np.ndarray:
        made = rng.standard_normal((number, bench.dimension), dtype=np.float32)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return made

    words, queries = units(bench.words), units(bench.queries)
    names = [f"w{number}" for number in range(bench.words)]
    vocabulary = Vocabulary(names, words)
    started = time.perf_counter()
    vocabulary.nearest(queries[:1], bench.top)
    ready = f"ready in {time.perf_counter() - started:.1f} s, once"

    def products(arithmetic: torch.dtype) -> Callable[[], None]:
        left, right = torch.from_numpy(queries), torch.from_numpy(words)
        if arithmetic == torch.int8:
            left, right = (left * 300).to(torch.int8), (right * 300).to(torch.int8)

        def multiply() -> None:
            for queried in left.split(QUERIES):
                for block in right.split(ROWS):
                    torch._int_mm(queried, block.T) if arithmetic == torch.int8 else torch.mm(queried, block.T)

        return multiply

    keyed = KeyedVectors(bench.dimension)
    keyed.add_vectors(names, words)
    some = queries[: bench.gensim_queries]
    amount, unit = float(bench.queries), "queries"
    loop = "gensim similar_by_vector, one by one"
    candidates: list[tuple[str, Callable[[], Any], float, str, str]] = [
        (
            f"ours ({'int8' if int8_is_fast() else 'float32'} candidates)",
            lambda: vocabulary.nearest(queries, bench.top),
            amount,
            unit,
            ready,
        ),
        (
            loop,
            lambda: [keyed.similar_by_vector(query, topn=bench.top) for query in some],
            amount,
            unit,
            f"{len(some)} queries measured, scaled",
        ),
        ("the float32 products alone, blocked", products(torch.float32), amount, unit, ""),
    ]
    if int8_is_fast():
        candidates.append(("the int8 products alone, blocked", products(torch.int8), amount, unit, ""))
    try:
        import faiss
    except ImportError:
        print("faiss is not installed: its row is left out")
    else:
        faiss.omp_set_num_threads(threads)
        flat = faiss.IndexFlatIP(bench.dimension)
        flat.add(words)
        same = (flat.search(queries[:200], bench.top)[1] == vocabulary.nearest(queries[:200], bench.top)[0]).mean()
        note = f"{same:.2%} of 200 queries' neighbours are ours, in place"
        candidates.insert(1, ("faiss IndexFlatIP", lambda: flat.search(queries, bench.top), amount, unit, note))
    return measure(candidates, bench.repeats, {loop: bench.queries / len(some)})


if __name__ == "__main__":
    sys.exit(run(main))
