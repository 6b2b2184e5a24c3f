"""Clean YFCC100M metadata to a corpus: each file by a process of its own, or by a task on Ray; resumable."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from embeddings import corpus
from embeddings.corpus import Manifest, ShardRecord
from experiments import UsageError
from experiments.runs import engines
from experiments.runs.engines import Engine
from experiments.runs.files import locked, write_json

#: Arguments of ``clean_shard`` by the shard's name.
Jobs = Mapping[str, tuple[Path, str, Path, frozenset[str], ShardRecord | None]]


def make_corpus(
    shards: Sequence[Path],
    folder: Path,
    *,
    without: frozenset[str] = frozenset(),
    notice: str | None = None,
    workers: int = 0,
    engine: Engine = "local",
) -> Manifest:
    """Clean all ``shards`` that are not done yet into ``folder`` and return the manifest.

    Rows of the photos whose ids are in ``without`` are left out. ``workers`` 0 takes one process per core. Raises
    ``UsageError`` where the folder is in use, holds another corpus, or no row gives a token.
    """
    from tqdm import tqdm

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--corpus {folder}: that is a file; give a folder to write the corpus into")
    engines.check(engine)
    paths = {shard.name: shard for shard in shards}
    listed = str(shards[0]) + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")
    if len(set(map(_stem, paths))) < len(shards):
        raise UsageError(f"two of {listed} would become corpus files of one name: rename one of them")
    with locked(folder / ".lock", f"another corpus command is writing to {folder}: wait for it, or name another"):
        corpus.remove_unfinished(folder)
        before = corpus.read_manifest(folder)
        if before is not None and before.cleaning != corpus.CLEANING:
            raise UsageError(f"{folder} holds a corpus of another cleaning: delete it, or name another with --corpus")
        # What an earlier command finished; ``clean_shard`` checks the files again.
        done = {record.name: record for record in before.shards} if before else {}
        if others := sorted(set(done) - set(paths)):
            raise UsageError(
                f"{folder} holds a corpus of other files ({others[0]}): name another folder with --corpus, or delete it"
            )

        def write(complete: bool) -> Manifest:
            records = [done[name] for name in paths if name in done]
            kinds = sum((Counter(record.skipped) for record in records), Counter[str]())
            totals = {name: sum(getattr(each, name) for each in records) for name in ("rows", "lines", "tokens")}
            manifest = Manifest(
                cleaning=corpus.CLEANING,
                complete=complete,
                notice=notice,
                skipped=dict(sorted(kinds.items())),
                shards=records,
                **totals,
            )
            write_json(folder / corpus.MANIFEST, manifest)
            return manifest

        jobs: Jobs = {
            name: (shard.resolve(), name, folder.resolve(), without, done.get(name)) for name, shard in paths.items()
        }
        size = sum(shard.stat().st_size for shard in shards)
        with tqdm(total=size, desc="corpus", unit="B", unit_scale=True, disable=None) as bar:
            for name, record in (_on_ray if engine == "ray" else _in_processes)(jobs, workers, bar):
                done[name] = record
                manifest = write(complete=False)
        corpus.remove_unfinished(folder)  # Of a worker that was lost, whose shard another one cleaned.
        if not manifest.lines:
            damage = "".join(f"{record.damage}; " for record in manifest.shards if record.damage)
            raise UsageError(
                f"no row of {listed} gave a token ({damage}{skipped(manifest)}): name files of YFCC100M metadata"
            )
        return write(complete=True)


def clean_shard(
    shard: Path, name: str, folder: Path, without: frozenset[str] = frozenset(), before: ShardRecord | None = None
) -> ShardRecord:
    """Turn one shard into corpus files and return its record; ``before``, while input and output agree with it."""
    import pooch

    from data.yfcc100m import Tally, read_batches

    if before is not None:
        sizes = {shard: before.size, **{folder / file.name: file.size for file in before.files}}
        same = all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())
        if same and pooch.file_hash(str(shard), alg="sha256") == before.sha256:
            _count_bytes(before.size)
            return before
        for file in before.files:
            (folder / file.name).unlink(missing_ok=True)
    tally = Tally()

    def batches() -> Iterator[list[str]]:
        size = 0
        for batch in read_batches(shard, tally):
            kept = [record for record in batch if record.photo_id not in without]
            if left_out := len(batch) - len(kept):
                tally.skipped["of the photo set itself"] += left_out
                tally.rows -= left_out
            yield [corpus.token_line(record.title, record.description, record.tags) for record in kept]
            _count_bytes(tally.size - size)
            size = tally.size

    files = corpus.write_lines(batches(), folder, _stem(name))
    return ShardRecord(
        name=name,
        size=tally.size,
        sha256=tally.sha256,
        rows=tally.rows,
        lines=sum(file.lines for file in files),
        tokens=sum(file.tokens for file in files),
        skipped=dict(sorted(tally.skipped.items())),
        damage=tally.damage,
        files=files,
    )


def skipped(manifest: Manifest) -> str:
    """Return in words what was left out."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in manifest.skipped.items())
    return f"rows skipped: {kinds or 'none'}; rows without a word: {manifest.rows - manifest.lines:,}"


def _stem(name: str) -> str:
    """Return what a shard's corpus files are called, before their number."""
    return re.sub(r"(\.tsv|\.txt)?(\.bz2|\.gz)?$", "", name)


def _on_ray(jobs: Jobs, workers: int, bar: Any) -> Iterator[tuple[str, ShardRecord]]:
    """Yield each shard's record as a task of Ray finishes it."""
    for name, record in engines.run_tasks(clean_shard, jobs, workers):
        for file in record.files:
            path = jobs[name][2] / file.name
            if not path.is_file() or path.stat().st_size != file.size:
                raise UsageError(
                    f"{path} was written by another machine of the Ray cluster, but is not here: name a --corpus that "
                    "lies on a disk they share"
                )
        bar.update(record.size)
        yield name, record


#: In a process of ``_in_processes``: the bytes that all of them have read, shared with the command for its bar.
_bytes_read: Any = None


def _count_bytes(size: int) -> None:
    if _bytes_read is not None:
        with _bytes_read:
            _bytes_read.value += size


def _in_processes(jobs: Jobs, workers: int, bar: Any) -> Iterator[tuple[str, ShardRecord]]:
    """Do the same by at most ``workers`` processes of this machine (0: one per core), which end with this one."""
    # Spawned, not forked: the same on all systems, and no library's lock is inherited in a bad state.
    context = multiprocessing.get_context("spawn")
    read, others = context.Value("q"), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(workers or os.cpu_count() or 1, len(jobs)), context, _start, (read,))
    try:
        working = {pool.submit(clean_shard, *job): name for name, job in jobs.items()}
        while working:
            for future in wait(working, 0.5, FIRST_COMPLETED).done:
                yield working.pop(future), future.result()
            bar.update(read.get_obj().value - bar.n)  # Without its lock, which a killed process may hold.
    except BrokenProcessPool:
        raise UsageError(
            "a process that cleaned a file was stopped from outside (out of memory?): give the command again to "
            "continue, with fewer --workers if it stops again"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _start(read: Any) -> None:
    """Prepare a process: it shares ``read``, and ends when the command ends it, or is no more."""
    global _bytes_read
    _bytes_read = read
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
