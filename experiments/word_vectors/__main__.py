"""The paper's language model (section 4.2): ``python -m experiments.word_vectors corpus|train|nearest|import``.

Wires YFCC100M's rows, their cleaning, skip-gram and the neighbours of words; holds no formula of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from experiments import UsageError
from experiments.runs import engines
from experiments.runs import folder as runs
from experiments.runs.cli import run, sentence
from experiments.runs.engines import Engine

if TYPE_CHECKING:
    import numpy as np

    from embeddings.vocabulary import Vocabulary

from embeddings.skipgram import SkipGram

FOLDER = Path("runs") / "word-vectors"

#: What must be said wherever words of the embedded rows are shown.
EMBEDDED_NOTICE = (
    "the words are those of the embedded scenes' invented captions, not of photos: no number from them stands beside "
    "the paper's"
)


@dataclass(frozen=True)
class Corpus:
    """YFCC100M metadata to lines of tokens: one photo, one line. Goes on where an interrupted one stopped."""

    sources: tyro.conf.Positional[tuple[str, ...]] = ()
    """Metadata files (.bz2, .gz or plain), folders or globs; else what lies under the data root, else the embedded
    scenes' rows, whose words are made up."""
    data_root: Path | None = None
    """Folder looked into, with its yfcc100m and yfcc-mini; else $CGAN_DATA, else data/raw."""
    corpus: Path = FOLDER / "corpus"
    """Folder that the corpus is written to."""
    workers: int = 0
    """Processes, each on a file of its own; 0 takes one for each core."""
    engine: Engine = "local"
    """local: processes of this machine. ray: tasks of a Ray that is started here, or of the cluster at $RAY_ADDRESS,
    whose machines must see the same files; --workers 0 takes all its cores. The corpus is the same."""


@dataclass(frozen=True)
class Train:
    """A corpus to skip-gram vectors, in word2vec's binary format with a JSON beside it."""

    corpus: Path = FOLDER / "corpus"
    """Folder of the corpus."""
    out: Path = FOLDER / "vectors.bin"
    """File of the vectors."""
    settings: Annotated[SkipGram, tyro.conf.arg(name="")] = field(default_factory=SkipGram)


@dataclass(frozen=True)
class Nearest:
    """The words nearest to words, or to vectors, by cosine, as a table."""

    words: tyro.conf.Positional[tuple[str, ...]] = ()
    """Words; without any, and without --vector, the commonest of at least four letters."""
    vectors: Path = FOLDER / "vectors.bin"
    """File of the word vectors, in any format that import takes."""
    vector: Path | None = None
    """File of vectors to find words for: .npy, or text with one vector a line."""
    top: int = 10
    """Neighbours of each."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the products are computed."""


@dataclass(frozen=True)
class Import:
    """Word vectors that others trained, checked and stored as ours: for those who have no YFCC100M."""

    source: tyro.conf.Positional[str]
    """A word2vec (text or binary) or GloVe file, or a name of gensim's downloader (glove-wiki-gigaword-200)."""
    out: Path = FOLDER / "vectors.bin"
    """File that the vectors are stored in."""


Command = (
    Annotated[Corpus, tyro.conf.subcommand("corpus")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Nearest, tyro.conf.subcommand("nearest")]
    | Annotated[Import, tyro.conf.subcommand("import")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    command: Corpus | Train | Nearest | Import = tyro.cli(
        Command,  # type: ignore[arg-type]
        args=argv,
        prog="python -m experiments.word_vectors",
        description="Word embeddings as in section 4.2: YFCC100M metadata to a 200-d skip-gram vocabulary.",
    )
    if isinstance(command, Corpus):
        make_corpus(command)
    elif isinstance(command, Train):
        train(command)
    elif isinstance(command, Nearest):
        show_nearest(command)
    else:
        import_vectors(command)
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# corpus


def make_corpus(command: Corpus) -> dict[str, Any]:
    """Clean all shards that are not done yet, each in a process of its own; the manifest."""
    from filelock import FileLock, Timeout

    from embeddings import corpus

    if command.workers < 0:
        raise UsageError(f"--workers {command.workers}: give 0, for one for each core, or a number of processes")
    if command.corpus.exists() and not command.corpus.is_dir():
        raise UsageError(f"--corpus {command.corpus}: that is a file; give a folder to write the corpus into")
    engines.check(command.engine)
    shards, notice = _shards(command)
    names = shard_names(shards)
    if len(set(map(_stem, names))) < len(names):
        raise UsageError(f"two of {_listed(shards)} would become corpus files of one name: rename one of them")
    folder = command.corpus
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder / ".lock", timeout=0))
        except Timeout:
            raise UsageError(f"another corpus command is at work in {folder}: wait for it, or name another") from None
        corpus.remove_unfinished(folder)
        done = _done_before(folder, names)
        started = time.monotonic()

        def write(complete: bool) -> dict[str, Any]:
            ordered = [done[name] for name in names if name in done]
            manifest = {
                "cleaning": corpus.CLEANING,
                "complete": complete,
                **({"notice": notice} if notice else {}),
                **_totals(ordered),
                "shards": ordered,
            }
            runs.write_json(folder / corpus.MANIFEST, manifest)
            return manifest

        jobs = {
            name: (shard.resolve(), name, folder.resolve(), done.get(name))
            for shard, name in zip(shards, names, strict=True)
        }
        with _bar(shards) as bar:
            for name, record in (_on_ray if command.engine == "ray" else _in_processes)(jobs, command.workers, bar):
                done[name] = record
                write(complete=False)
        corpus.remove_unfinished(folder)  # Of a worker that was lost, whose shard another one cleaned.
        totals = _totals([done[name] for name in names])
        if not totals["lines"]:
            damage = "".join(f"{done[name]['damage']}; " for name in names if done[name]["damage"])
            raise UsageError(
                f"no row of {_listed(shards)} gave a token ({damage}{_skipped(totals)}): name files of YFCC100M "
                "metadata"
            )
        manifest = write(complete=True)
    seconds = time.monotonic() - started
    for record in manifest["shards"]:
        if record["damage"]:
            print(f"NOTE: {record['name']}: {record['damage']}; what was readable is in the corpus.")
    print(
        f"{manifest['rows']:,} rows of {_files(shards)} in {seconds:.1f} s: {manifest['lines']:,} lines of "
        f"{manifest['tokens']:,} tokens\n{_skipped(manifest)}\nthe corpus is in {folder}, its account in "
        f"{folder / corpus.MANIFEST}"
    )
    return manifest


def _shards(command: Corpus) -> tuple[list[Path], str | None]:
    """The files to read, saying which they are, and what must be said wherever their words are shown."""
    from data.roots import data_root
    from data.yfcc100m import FOLDERS, default_shards, find_shards

    if command.sources:
        return find_shards(command.sources), None
    root = data_root(command.data_root)
    shards = default_shards(root)
    if shards:
        print(f"reading {_files(shards)} of {shards[0].parent}")
        return shards, None
    looked = ", ".join(str(root / name) for name in FOLDERS)
    print(
        f"NOTE: no YFCC100M metadata (yfcc100m_dataset-0.bz2 and the like) in {looked}; put it into one of them, name "
        "its files, or take vectors that others trained: python -m experiments.word_vectors import "
        f"glove-wiki-gigaword-200\nNOTE: {EMBEDDED_NOTICE}."
    )
    return [embedded_rows(command.corpus.parent)], EMBEDDED_NOTICE


def embedded_rows(folder: Path) -> Path:
    """The file, below ``folder``, of the embedded scenes' rows; written if it is not there yet."""
    import bz2

    from data.scenes.scenes import VERSION, caption_rows

    # Named unlike YFCC100M's files, so that a corpus of these rows is never taken for one of theirs.
    path = folder / f"scenes-{VERSION}.bz2"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(bz2.compress("".join(f"{row}\n" for row in caption_rows(seed=1)).encode()))
        os.replace(temporary, path)
    return path


def _files(shards: Sequence[Path]) -> str:
    return f"{len(shards)} file{'s' if len(shards) > 1 else ''}"


def shard_names(shards: Sequence[Path]) -> list[str]:
    """A name for each shard that does not depend on where all lie: its path below their common folder."""
    parents = [str(shard.resolve().parent) for shard in shards]
    common = os.path.commonpath(parents)
    return [Path(os.path.relpath(shard.resolve(), common)).as_posix() for shard in shards]


def _stem(name: str) -> str:
    """How a shard's corpus files are called, before their number."""
    return re.sub(r"(\.tsv|\.txt)?(\.bz2|\.gz)?$", "", name).replace("/", "-")


def _done_before(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What an earlier command finished in the folder, by shard name; the files are checked again by ``clean_shard``."""
    from embeddings import corpus

    path = folder / corpus.MANIFEST
    if not path.exists():
        return {}
    manifest = runs.read_json(path)
    try:
        done = {record["name"]: record for record in manifest["shards"]}
        cleaning = manifest["cleaning"]
        for record in done.values():  # What will be looked up in it, looked up here.
            _totals([record])
            _ = record["size"], record["sha256"], record["damage"]
            _ = [(file["name"], file["size"]) for file in record["files"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(f"{path} is not a corpus manifest: name another folder with --corpus") from None
    if cleaning != corpus.CLEANING:
        raise UsageError(f"{folder} holds a corpus of another cleaning: delete it, or name another with --corpus")
    if others := sorted(set(done) - set(names)):
        raise UsageError(
            f"{folder} holds a corpus of other files ({others[0]}): name another folder with --corpus, or delete it"
        )
    return done


#: What ``clean_shard`` is given for each shard, but for its last argument, by the shard's name.
Jobs = Mapping[str, tuple[Path, str, Path, dict[str, Any] | None]]


class _Bar:
    """The progress bar of the corpus: bytes read, with the rows gone through in a second."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.rows, self.started = bar, 0, time.monotonic()

    def add(self, size: int, rows: int) -> None:
        """So much more was done."""
        self.set(self.bar.n + size, self.rows + rows)

    def set(self, size: int, rows: int) -> None:
        """So much is done; less than before where work was lost."""
        self.rows = rows
        self.bar.set_postfix_str(f"{rows / (time.monotonic() - self.started):,.0f} rows/s", refresh=False)
        self.bar.update(size - self.bar.n)


@contextmanager
def _bar(shards: Sequence[Path]) -> Iterator[_Bar]:
    from tqdm import tqdm

    size = sum(shard.stat().st_size for shard in shards)
    with tqdm(total=size, desc="corpus", unit="B", unit_scale=True, disable=None) as bar:
        yield _Bar(bar)


def _on_ray(jobs: Jobs, workers: int, bar: _Bar) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each shard's record as it is finished by a task of Ray. Raises ``UsageError`` where its files do not arrive."""
    from experiments.word_vectors.__main__ import (
        clean_shard,  # By the name that workers know it by, not as of __main__.
    )

    told = None if bar.bar.disable else bar.set
    for name, record in engines.run_tasks(clean_shard, jobs, workers, told):
        folder = jobs[name][2]
        for file in record["files"]:
            path = folder / file["name"]
            if not path.is_file() or path.stat().st_size != file["size"]:
                raise UsageError(
                    f"{path} was written by another machine of the Ray cluster, but is not here: name a --corpus that "
                    "lies on a disk they share"
                )
        yield name, record


def _in_processes(jobs: Jobs, workers: int, bar: _Bar) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same by processes of this machine. At most ``workers`` run, 0 one for each core; they end with this one."""
    # Started afresh, not forked: the same on all systems, and no lock of a library is inherited in a bad state.
    context = multiprocessing.get_context("spawn")
    waiting = list(jobs)
    working: dict[Connection, tuple[Any, str]] = {}
    try:
        while waiting or working:
            while waiting and len(working) < (workers or os.cpu_count() or 1):
                name = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(sender, *jobs[name]), daemon=True)
                process.start()
                # The child alone holds the sending end: its death is seen here, and this one's death there.
                sender.close()
                working[receiver] = process, name
            for receiver in [receiver for receiver in wait(list(working)) if isinstance(receiver, Connection)]:
                process, name = working[receiver]
                try:
                    message = receiver.recv()
                except EOFError:
                    raise UsageError(
                        f"the process that cleaned {name} was stopped from outside (out of memory?): give the command "
                        "again to go on, with fewer --workers if it stops again"
                    ) from None
                if isinstance(message, str):
                    raise UsageError(message)
                if isinstance(message, dict):
                    process.join()
                    receiver.close()
                    del working[receiver]
                    yield name, message
                    continue
                bar.add(*message)
    finally:
        for process, _ in working.values():
            process.terminate()
            process.join()


def _work(sender: Connection, shard: Path, name: str, folder: Path, before: dict[str, Any] | None) -> None:
    """What a child process does: send (bytes, rows) while it works, then the record, or a sentence on failure."""
    try:
        record = clean_shard(shard, name, folder, before, lambda size, rows: sender.send((size, rows)))
        sender.send(record)
    except (BrokenPipeError, KeyboardInterrupt):
        # Nobody is left to take the result.
        return
    except OSError as error:
        sender.send(sentence(error))


def clean_shard(
    shard: Path,
    name: str,
    folder: Path,
    before: dict[str, Any] | None = None,
    progress: Callable[[int, int], object] = lambda size, rows: None,
) -> dict[str, Any]:
    """Turn one shard into corpus files; the record of it for the manifest.

    ``before`` is the record of an earlier time: if the input (size and checksum) and the output (size) are still
    those, it is returned and nothing is written. ``progress`` is called with bytes read and rows gone through.
    """
    from data.yfcc100m import Tally, read_batches
    from embeddings.corpus import token_line, write_lines

    if before is not None:
        if _still_holds(before, shard, folder, progress):
            return before
        for file in before["files"]:
            (folder / file["name"]).unlink(missing_ok=True)
    tally = Tally()

    def batches() -> Iterator[list[str]]:
        size = rows = 0
        for batch in read_batches(shard, tally):
            yield [token_line(record.title, record.description, record.tags) for record in batch]
            seen = tally.rows + sum(tally.skipped.values())
            progress(tally.size - size, seen - rows)
            size, rows = tally.size, seen

    files = write_lines(batches(), folder, _stem(name))
    return {
        "name": name,
        "size": tally.size,
        "sha256": tally.sha256,
        "rows": tally.rows,
        "lines": sum(file.lines for file in files),
        "tokens": sum(file.tokens for file in files),
        "skipped": dict(sorted(tally.skipped.items())),
        "damage": tally.damage,
        "files": [
            {"name": file.path.name, "size": file.size, "lines": file.lines, "tokens": file.tokens} for file in files
        ],
    }


def _still_holds(before: dict[str, Any], shard: Path, folder: Path, progress: Callable[[int, int], object]) -> bool:
    import hashlib

    for file in before["files"]:
        path = folder / file["name"]
        if not path.is_file() or path.stat().st_size != file["size"]:
            return False
    if shard.stat().st_size != before["size"]:
        return False
    digest = hashlib.sha256()
    with open(shard, "rb") as opened:
        while data := opened.read(1 << 20):
            digest.update(data)
            progress(len(data), 0)
    return digest.hexdigest() == before["sha256"]


def _totals(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    skipped: Counter[str] = Counter()
    for record in records:
        skipped.update(record["skipped"])
    sums = {name: sum(record[name] for record in records) for name in ("rows", "lines", "tokens")}
    return {**sums, "skipped": dict(sorted(skipped.items()))}


def _skipped(totals: dict[str, Any]) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in totals["skipped"].items())
    wordless = totals["rows"] - totals["lines"]
    return f"rows skipped: {kinds or 'none'}; rows without a word: {wordless:,}"


def _listed(shards: Sequence[Path]) -> str:
    return str(shards[0]) + (f" and {len(shards) - 1} more" if len(shards) > 1 else "")


# ---------------------------------------------------------------------------------------------------------------------
# train, nearest, import


def train(command: Train) -> None:
    """Train vectors on a corpus and store them with what made them."""
    from tqdm import tqdm

    from embeddings import skipgram
    from embeddings.corpus import load_corpus

    _check_out(command.out)
    corpus = load_corpus(command.corpus)
    settings = asdict(command.settings)
    if command.out.exists() and not is_made_by(command.out, settings, corpus.manifest):
        raise UsageError(
            f"{command.out} is there already and was made otherwise, or is damaged: name another --out, or delete it"
        )
    if command.out.exists():
        print(f"{command.out} is there already, made of this corpus with these settings")
        _print_notice(corpus.manifest)
        return
    command.out.parent.mkdir(parents=True, exist_ok=True)
    tokens = sum(file.tokens for file in corpus.files)
    progress = {"unit": " words", "unit_scale": True, "disable": None}
    with (
        tqdm(total=tokens, desc="counting", **progress) as counting,
        tqdm(total=tokens * command.settings.epochs, desc="training", **progress) as training,
    ):
        started = time.monotonic()
        vocabulary = skipgram.train(corpus.files, command.settings, counting.update, training.update)
    seconds = time.monotonic() - started
    assert vocabulary.counts is not None
    vocabulary.save(
        command.out,
        {
            "settings": settings,
            "cores": os.cpu_count(),
            "seconds": round(seconds, 1),
            "environment": runs.environment(),
            "corpus": corpus.manifest,
        },
    )
    print(
        f"{len(vocabulary):,} words seen {command.settings.min_count:,} times or more, which are "
        f"{vocabulary.counts.sum() / tokens:.1%} of the corpus's {tokens:,}; {command.settings.epochs} epochs in "
        f"{seconds:.1f} s ({tokens * command.settings.epochs / seconds:,.0f} words/s)\nthe vectors are {command.out}, "
        f"their account {command.out.with_suffix('.json')}"
    )
    if len(vocabulary) < 2000 and command.settings.min_count >= 50:
        print("NOTE: few words are left; a small corpus needs a lower --min-count, such as 5.")
    _print_notice(corpus.manifest)


def _print_notice(manifest: Any) -> None:
    if isinstance(manifest, dict) and manifest.get("notice"):
        print(f"NOTE: {manifest['notice']}.")


def is_made_by(path: Path, settings: dict[str, Any], manifest: dict[str, Any]) -> bool:
    """Whether the account beside the vectors at ``path`` names them as they are, these settings and this corpus."""
    import hashlib

    described = path.with_suffix(".json")
    info = runs.read_json(described) if described.exists() else {}
    if info.get("settings") != settings or info.get("corpus") != manifest:
        return False
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest() == info.get("sha256")


def show_nearest(command: Nearest) -> None:
    """Print the neighbours."""
    from embeddings.vocabulary import Vocabulary

    if command.top < 1:
        raise UsageError(f"--top {command.top}: ask for at least 1 neighbour")
    if not command.vectors.exists():
        raise UsageError(
            f"{command.vectors}: no such file; train vectors or import some, or name theirs with --vectors"
        )
    vectors = None if command.vector is None else read_vectors(command.vector)
    vocabulary = Vocabulary.load(command.vectors)
    _print_notice(vocabulary.info.get("corpus"))
    words = list(command.words)
    if not words and vectors is None:
        words = [word for word in vocabulary.words if len(word) >= 4][:10] or vocabulary.words[:10]
    ranks = [vocabulary.index(word) for word in words]
    most = min(command.top, len(vocabulary))
    if words:
        # One more than asked for: a word's nearest is itself.
        found = vocabulary.nearest(vocabulary.vectors[ranks], min(most + 1, len(vocabulary)), command.device)
        for word, rank, nearest, cosines in zip(words, ranks, *found, strict=True):
            others = nearest != rank
            _print_table(word, vocabulary, nearest[others][:most], cosines[others][:most])
    if vectors is not None:
        found = vocabulary.nearest(vectors, most, command.device)
        for number, (nearest, cosines) in enumerate(zip(*found, strict=True)):
            _print_table(f"vector {number}", vocabulary, nearest, cosines)


def _print_table(title: str, vocabulary: Vocabulary, ranks: np.ndarray, cosines: np.ndarray) -> None:
    words = [vocabulary.words[rank] for rank in ranks]
    width = max([8, *map(len, words)])
    print(f"\n{title}\n  {'word':{width}}  cosine{'' if vocabulary.counts is None else '       count'}")
    for rank, word, cosine in zip(ranks, words, cosines, strict=True):
        count = "" if vocabulary.counts is None else f"  {vocabulary.counts[rank]:>10,}"
        print(f"  {word:{width}}  {cosine:6.3f}{count}")


def read_vectors(path: Path) -> np.ndarray:
    """The vectors of a .npy file, or of a text file with one a line, as (m, d); a single one may be flat."""
    import warnings

    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # That there is no data is told below.
            vectors = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, ndmin=2)
    except (ValueError, EOFError) as error:
        if "pickle" in str(error):  # NumPy takes whatever is no array for a pickle, and says how to run the code in it.
            error = ValueError("it holds no array, or one of Python objects")
        raise UsageError(f"{path}: no vectors in it ({error}); give .npy, or text with one vector a line") from None
    if vectors.ndim == 1:
        vectors = vectors[None]
    if vectors.ndim != 2 or vectors.size == 0 or vectors.dtype.kind not in "fiu":
        raise UsageError(f"{path}: an array of {vectors.dtype}, {vectors.shape}, where one real vector a row is needed")
    return vectors


def import_vectors(command: Import) -> None:
    """Load, check and store."""
    from embeddings.vocabulary import Vocabulary

    _check_out(command.out)
    if command.out.exists():
        raise UsageError(f"{command.out} is there already: name another --out, or delete it")
    path = Path(command.source).expanduser()
    if not path.exists():
        if path.suffix in (".bin", ".txt", ".vec", ".gz", ".bz2") or len(path.parts) != 1:
            raise UsageError(f"{path}: no such file; give a word2vec or GloVe file, or a name of gensim's downloader")
        path = download(command.source)
    command.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"reading {path}")
    vocabulary = Vocabulary.load(path)
    info = vocabulary.info | {"imported": command.source}
    for name in ("format", "words", "dimension", "sha256"):
        info.pop(name, None)
    vocabulary.save(command.out, info)
    print(f"{len(vocabulary):,} words with vectors of {vocabulary.vectors.shape[1]} numbers are in {command.out}")


def download(name: str) -> Path:
    """The file of the word vectors that gensim's downloader knows as ``name``, fetched if it is not there yet.

    None of the code that the downloader brings along is run. Raises ``UsageError`` when there is no such name or it
    cannot be fetched.
    """
    import gensim.downloader

    with _patience(20), _silenced("gensim"):
        try:
            return Path(gensim.downloader.load(name, return_path=True))
        except Exception as error:  # The downloader raises bare Exceptions.
            raise UsageError(
                f"gensim's downloader cannot bring {name!r} ({sentence(error)}): check the name and the network, or "
                "give a word2vec or GloVe file"
            ) from None


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Give up on a silent server: the downloader itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Keep a library from logging a traceback of what will be raised and told in a sentence."""
    import logging

    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_out(out: Path) -> None:
    """Fail before the work, not after it, where its result could not be stored."""
    if out.suffix != ".bin":
        raise UsageError(f"--out {out}: the vectors are stored in word2vec's binary format; end the name in .bin")
    runs.check_output(out, "--out")


if __name__ == "__main__":
    sys.exit(run(main))
