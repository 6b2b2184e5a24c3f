"""The paper's language model (section 4.2): ``python -m experiments.word_vectors corpus|train|nearest|import``."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from embeddings.skipgram import SkipGram
from experiments import UsageError
from experiments.runs.cli import check_least, parse, printed_command, run, sentence
from experiments.runs.engines import Engine
from experiments.runs.files import check_output, write_bytes
from experiments.runs.folder import environment

if TYPE_CHECKING:
    import numpy as np

    from embeddings.corpus import Manifest
    from embeddings.vocabulary import Vocabulary

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
    """Run the command and return the exit status."""
    command: Corpus | Train | Nearest | Import = parse(
        Command,  # type: ignore[arg-type]
        "experiments.word_vectors",
        argv,
        description="Word embeddings as in section 4.2: YFCC100M metadata to a 200-d skip-gram vocabulary.",
    )
    stages = {Corpus: make_corpus, Train: train, Nearest: show_nearest, Import: import_vectors}
    stages[type(command)](command)  # type: ignore[operator]
    return 0


def make_corpus(command: Corpus) -> None:
    """Clean the metadata and print what became of it."""
    from data.roots import data_root
    from data.yfcc100m import FOLDERS, default_shards, find_shards
    from embeddings.corpus import MANIFEST
    from experiments.word_vectors import cleaning

    check_least(command, workers=0)
    notice = None
    if command.sources:
        shards = find_shards(command.sources)
    elif shards := default_shards(data_root(command.data_root)):
        print(f"reading the files in {shards[0].parent}")
    else:
        looked = ", ".join(str(data_root(command.data_root) / name) for name in FOLDERS)
        importing = printed_command("experiments.word_vectors", "import", "glove-wiki-gigaword-200")
        print(
            f"NOTE: no YFCC100M metadata (yfcc100m_dataset-0.bz2 and the like) in {looked}: put it there, name its "
            f"files, or take published vectors: {importing}\nNOTE: {EMBEDDED_NOTICE}."
        )
        shards, notice = [embedded_rows(command.corpus.parent)], EMBEDDED_NOTICE
    started = time.monotonic()
    manifest = cleaning.make_corpus(
        shards, command.corpus, notice=notice, workers=command.workers, engine=command.engine
    )
    for record in manifest.shards:
        if record.damage:
            print(f"NOTE: {record.name}: {record.damage}; what was readable is in the corpus.")
    print(
        f"{manifest.rows:,} rows of {len(shards)} file{'s' * (len(shards) > 1)} in {time.monotonic() - started:.1f} s: "
        f"{manifest.lines:,} lines of {manifest.tokens:,} tokens\n{cleaning.skipped(manifest)}\n"
        f"the corpus is in {command.corpus}, described in {command.corpus / MANIFEST}"
    )


def embedded_rows(folder: Path) -> Path:
    """Return the file, below ``folder``, of the embedded scenes' rows; write it if it is not there yet."""
    import bz2

    from data.scenes import VERSION, caption_rows

    # Named unlike YFCC100M's files, so that a corpus of these rows is never taken for one of theirs.
    path = folder / f"scenes-{VERSION}.bz2"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, bz2.compress("".join(f"{row}\n" for row in caption_rows(seed=1)).encode()))
    return path


def train(command: Train) -> None:
    """Train vectors on a corpus and store them with what made them."""
    from tqdm import tqdm

    from embeddings import skipgram
    from embeddings.corpus import load_corpus

    check_output(command.out, "--out", ".bin")
    files, manifest = load_corpus(command.corpus)
    if command.out.exists():
        if not is_made_by(command.out, command.settings, manifest):
            raise UsageError(
                f"{command.out} exists and was made otherwise, or is damaged: name another --out, or delete it"
            )
        print(f"{command.out} exists already, made of this corpus with these settings")
        _print_notice(manifest.notice)
        return
    command.out.parent.mkdir(parents=True, exist_ok=True)
    tokens, epochs = manifest.tokens, command.settings.epochs
    workers = skipgram.workers_for(command.settings, tokens)
    if workers > 1:
        print(f"NOTE: {workers} threads train at once, so that no two runs agree to the bit; --workers 1 repeats.")
    started = time.monotonic()
    with tqdm(total=tokens * (epochs + 1), unit=" words", unit_scale=True, disable=None, desc="counting") as bar:

        def training(count: int) -> None:
            bar.set_description("training", refresh=False)
            bar.update(count)

        vocabulary = skipgram.train(command.corpus, files, command.settings, bar.update, training)
    seconds = time.monotonic() - started
    info = {
        "settings": asdict(command.settings),
        "cores": os.cpu_count(),
        "workers": workers,
        "seconds": round(seconds, 1),
        "environment": asdict(environment()),
        "corpus": asdict(manifest),
    }
    vocabulary.save(command.out, info)
    assert vocabulary.counts is not None
    print(
        f"{len(vocabulary):,} words seen {command.settings.min_count:,} times or more, which are "
        f"{vocabulary.counts.sum() / tokens:.1%} of the corpus's {tokens:,}; {epochs} epochs in {seconds:.1f} s\n"
        f"the vectors are in {command.out}, described in {command.out.with_suffix('.json')}"
    )
    if len(vocabulary) < 2000 and command.settings.min_count >= 50:
        print("NOTE: few words are left; a small corpus needs a lower minimum count, such as 5.")
    _print_notice(manifest.notice)


def _print_notice(notice: str | None) -> None:
    if notice:
        print(f"NOTE: {notice}.")


def is_made_by(path: Path, settings: SkipGram, manifest: Manifest) -> bool:
    """Return whether the vectors at ``path`` are whole, and were made of this corpus with these settings."""
    from embeddings import EmbeddingError
    from embeddings.vocabulary import Vocabulary

    try:
        info = Vocabulary.load(path).info
    except EmbeddingError:
        return False
    return info.get("settings") == asdict(settings) and info.get("corpus") == asdict(manifest)


def show_nearest(command: Nearest) -> None:
    """Print the neighbours."""
    from embeddings.vocabulary import Vocabulary

    check_least(command, top=1)
    if not command.vectors.exists():
        raise UsageError(f"{command.vectors}: no such file; train or import vectors, or name theirs with --vectors")
    vectors = None if command.vector is None else read_vectors(command.vector)
    vocabulary = Vocabulary.load(command.vectors)
    _print_notice(vocabulary.describe_left_out())
    corpus = vocabulary.info.get("corpus")
    _print_notice(corpus.get("notice") if isinstance(corpus, dict) else None)
    words, most = list(command.words), min(command.top, len(vocabulary))
    if not words and vectors is None:
        words = [word for word in vocabulary.words if len(word) >= 4][:10] or vocabulary.words[:10]
    if ranks := [vocabulary.index(word) for word in words]:
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
    words, counts = [vocabulary.words[rank] for rank in ranks], vocabulary.counts
    width = max([8, *map(len, words)])
    print(f"\n{title}\n  {'word':{width}}  cosine{'' if counts is None else '       count'}")
    for rank, word, cosine in zip(ranks, words, cosines, strict=True):
        print(f"  {word:{width}}  {cosine:6.3f}" + ("" if counts is None else f"  {counts[rank]:>10,}"))


def read_vectors(path: Path) -> np.ndarray:
    """Return the vectors of a .npy file, or of a text file with one per line, as (m, d); a single one may be flat."""
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of an empty file, which is refused below.
            vectors = np.load(path, mmap_mode="r") if path.suffix == ".npy" else np.loadtxt(path, ndmin=2)
    except OSError:
        raise
    except Exception as error:  # Of many kinds for a damaged header.
        # NumPy takes whatever is no array for a pickle, and says how to run the code in it.
        reason = "it holds no array, or one of Python objects" if "pickle" in str(error) else error
        raise UsageError(f"{path}: no vectors in it ({reason}); give .npy, or text with one vector a line") from None
    vectors = np.atleast_2d(vectors)
    if vectors.ndim != 2 or vectors.size == 0 or vectors.dtype.kind not in "fiu":
        raise UsageError(f"{path}: an array of {vectors.dtype}, {vectors.shape}, where one real vector a row is needed")
    return vectors


def import_vectors(command: Import) -> None:
    """Load, check and store."""
    from embeddings.vocabulary import Vocabulary

    check_output(command.out, "--out", ".bin")
    if command.out.exists():
        raise UsageError(f"{command.out} is there already: name another --out, or delete it")
    path = Path(command.source).expanduser()
    if not path.exists():
        if path.suffix or len(path.parts) != 1:
            raise UsageError(f"{path}: no such file; give a word2vec or GloVe file, or a name of gensim's downloader")
        path = download(command.source)
    command.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"reading {path}")
    vocabulary = Vocabulary.load(path)
    of_file = ("format", "words", "dimension", "sha256")
    info = {name: value for name, value in vocabulary.info.items() if name not in of_file}
    vocabulary.save(command.out, info | {"imported": command.source})
    _print_notice(vocabulary.describe_left_out())
    print(f"{len(vocabulary):,} words with vectors of {vocabulary.vectors.shape[1]} numbers are in {command.out}")


def download(name: str) -> Path:
    """Return the file that gensim's downloader has, or fetches, under ``name``; none of the code beside it is run."""
    import logging
    import socket

    import gensim.downloader

    from embeddings.skipgram import quiet_gensim

    socket.setdefaulttimeout(20)  # The downloader itself would wait for ever for a silent server.
    try:
        with quiet_gensim(logging.CRITICAL + 1):  # It logs a traceback of what it raises.
            return Path(gensim.downloader.load(name, return_path=True))
    except Exception as error:  # The downloader raises bare Exceptions.
        raise UsageError(
            f"gensim's downloader cannot bring {name!r} ({sentence(error)}): check the name and the network, or give a "
            "word2vec or GloVe file"
        ) from None
    finally:
        socket.setdefaulttimeout(None)


if __name__ == "__main__":
    sys.exit(run(main))
