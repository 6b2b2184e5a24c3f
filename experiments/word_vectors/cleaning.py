"""Clean YFCC100M metadata to a corpus: each file by a process of its own, or by a task on Ray; resumable.

What a token is, ``embeddings.corpus`` decides; how rows are read, ``data.yfcc100m``.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

from embeddings import corpus
from embeddings.corpus import Manifest, ShardRecord
from experiments import UsageError
from experiments.runs import engines
from experiments.runs.cli import sentence
from experiments.runs.engines import Engine
from experiments.runs.files import write_json

#: Arguments of ``clean_shard`` but for its last, by the shard's name.
Jobs = Mapping[str, tuple[Path, str, Path, frozenset[str], ShardRecord | None]]
Progress = Callable[[int, int], object]


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

    Rows of the photos whose ids are in ``without`` are left out. ``notice`` is what must be said wherever these words
    are shown; ``workers`` 0 takes one process per core. Raises ``UsageError`` where the folder is in use, holds another
    corpus, or no row gives a token.
    """
    from filelock import FileLock, Timeout
    from tqdm import tqdm

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--corpus {folder}: that is a file; give a folder to write the corpus into")
    engines.check(engine)
    paths = {shard.name: shard for shard in shards}
    listed = str(shards[0]) + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")
    if len(set(map(_stem, paths))) < len(shards):
        raise UsageError(f"two of {listed} would become corpus files of one name: rename one of them")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder / ".lock", timeout=0))
        except Timeout:
            raise UsageError(f"another corpus command is writing to {folder}: wait for it, or name another") from None
        corpus.remove_unfinished(folder)
        done = _done_before(folder, paths)

        def write(complete: bool) -> Manifest:
            manifest = _manifest([done[name] for name in paths if name in done], complete, notice)
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
    shard: Path,
    name: str,
    folder: Path,
    without: frozenset[str] = frozenset(),
    before: ShardRecord | None = None,
    progress: Progress = lambda size, rows: None,
) -> ShardRecord:
    """Turn one shard into corpus files and return its record.

    ``before`` is the record of an earlier time: where input (size, checksum) and output (size) still agree with it, it
    is returned and nothing is written. ``progress`` is called with the bytes read and the rows gone through.
    """
    from data.yfcc100m import Tally, read_batches

    if before is not None:
        if _still_holds(before, shard, folder, progress):
            return before
        for file in before.files:
            (folder / file.name).unlink(missing_ok=True)
    tally = Tally()

    def batches() -> Iterator[list[str]]:
        size = rows = 0
        for batch in read_batches(shard, tally):
            kept = [record for record in batch if record.photo_id not in without]
            yield [corpus.token_line(record.title, record.description, record.tags) for record in kept]
            seen = tally.rows + sum(tally.skipped.values())
            progress(tally.size - size, seen - rows)
            size, rows = tally.size, seen

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


def _done_before(folder: Path, names: Collection[str]) -> dict[str, ShardRecord]:
    """Return what an earlier command finished, by shard name; ``clean_shard`` checks the files again."""
    manifest = corpus.read_manifest(folder)
    if manifest is None:
        return {}
    if manifest.cleaning != corpus.CLEANING:
        raise UsageError(f"{folder} holds a corpus of another cleaning: delete it, or name another with --corpus")
    done = {record.name: record for record in manifest.shards}
    if others := sorted(set(done) - set(names)):
        raise UsageError(
            f"{folder} holds a corpus of other files ({others[0]}): name another folder with --corpus, or delete it"
        )
    return done


def _manifest(shards: list[ShardRecord], complete: bool, notice: str | None) -> Manifest:
    kinds = sum((Counter(record.skipped) for record in shards), Counter[str]())
    return Manifest(
        cleaning=corpus.CLEANING,
        complete=complete,
        notice=notice,
        rows=sum(record.rows for record in shards),
        lines=sum(record.lines for record in shards),
        tokens=sum(record.tokens for record in shards),
        skipped=dict(sorted(kinds.items())),
        shards=shards,
    )


def _on_ray(jobs: Jobs, workers: int, bar: Any) -> Iterator[tuple[str, ShardRecord]]:
    """Yield each shard's record as a task of Ray finishes it. Raises ``UsageError`` where its files do not arrive."""
    rows, started = 0, time.monotonic()
    for name, record in engines.run_tasks(clean_shard, jobs, workers):
        for file in record.files:
            path = jobs[name][2] / file.name
            if not path.is_file() or path.stat().st_size != file.size:
                raise UsageError(
                    f"{path} was written by another machine of the Ray cluster, but is not here: name a --corpus that "
                    "lies on a disk they share"
                )
        rows += record.rows
        bar.set_postfix_str(f"{rows / (time.monotonic() - started):,.0f} rows/s", refresh=False)
        bar.update(record.size)
        yield name, record


def _in_processes(jobs: Jobs, workers: int, bar: Any) -> Iterator[tuple[str, ShardRecord]]:
    """Do the same by at most ``workers`` processes of this machine (0: one per core), which end with this one."""
    # Spawned, not forked: the same on all systems, and no library's lock is inherited in a bad state.
    context = multiprocessing.get_context("spawn")
    waiting = list(jobs)
    working: dict[Connection, tuple[Any, str]] = {}
    rows, started = 0, time.monotonic()
    try:
        while waiting or working:
            while waiting and len(working) < (workers or os.cpu_count() or 1):
                name = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(sender, *jobs[name]), daemon=True)
                process.start()
                sender.close()  # The child alone holds the sending end, so that its death is seen here.
                working[receiver] = process, name
            for receiver in cast(list["Connection"], wait(list(working))):
                name = working[receiver][1]
                try:
                    message = receiver.recv()
                except EOFError:
                    message = (
                        f"the process that cleaned {name} was stopped from outside (out of memory?): give the command "
                        "again to continue, with fewer --workers if it stops again"
                    )
                if isinstance(message, str):
                    raise UsageError(message)
                if isinstance(message, ShardRecord):
                    working.pop(receiver)[0].join()
                    yield name, message
                else:
                    rows += message[1]
                    bar.set_postfix_str(f"{rows / (time.monotonic() - started):,.0f} rows/s", refresh=False)
                    bar.update(message[0])
    finally:
        for process, _ in working.values():
            process.terminate()
            process.join()


def _work(
    sender: Connection, shard: Path, name: str, folder: Path, without: frozenset[str], before: ShardRecord | None
) -> None:
    """Clean a shard in a child process: send (bytes, rows) on the way, then the record, or a sentence on failure."""
    try:
        sender.send(clean_shard(shard, name, folder, without, before, lambda size, rows: sender.send((size, rows))))
    except (BrokenPipeError, KeyboardInterrupt):  # Nobody is left to take the result.
        return
    except OSError as error:
        sender.send(sentence(error))


def _still_holds(before: ShardRecord, shard: Path, folder: Path, progress: Progress) -> bool:
    """Return whether a shard and the corpus files made of it are as an earlier command left them."""
    import pooch

    made = [(folder / file.name, file.size) for file in before.files]
    if not all(path.is_file() and path.stat().st_size == size for path, size in [(shard, before.size), *made]):
        return False
    same = pooch.file_hash(str(shard), alg="sha256") == before.sha256
    progress(before.size if same else 0, 0)
    return same
