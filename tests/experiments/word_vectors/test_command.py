"""The command as a user runs it: real kills, real mistakes, changed input."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from embeddings.vocabulary import Vocabulary
from experiments.runs import cli
from experiments.word_vectors.__main__ import main
from experiments.word_vectors.cleaning import clean_shard
from tests.experiments.commands import assert_one_sentence, run, start, wait_until
from tests.experiments.conftest import Call

TOPICS = [["dog", "puppy", "bark", "leash"], ["sea", "beach", "wave", "sand"], ["car", "road", "wheel", "driver"]]


def rows(number: int, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    made = []
    for photo in range(number):
        title, description, tags = rng.choice(TOPICS[rng.integers(3)], (3, 6))
        columns = [str(photo + 1), "", "", "", "", "", "+".join(title), "+".join(description), ",".join(tags)]
        made.append("\t".join([*columns, *[""] * 14]))
    return ("\n".join(made) + "\n").encode()


def shards(folder: Path, number: int = 3, each: int = 400) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(number):
        (folder / f"yfcc100m_dataset-{shard}.bz2").write_bytes(bz2.compress(rows(each, shard)))
    return folder


def manifest(corpus: Path) -> dict[str, Any]:
    return json.loads((corpus / "manifest.json").read_text())


def text_files(corpus: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in corpus.glob("*.txt")}


OPTIONS = ["--min-count", 5, "--vector-size", 16, "--workers", 1, "--sample", 0]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with metadata in ``data``, a corpus and vectors made of it by the command."""
    folder = tmp_path_factory.mktemp("chain")
    shards(folder / "data" / "yfcc100m")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CGAN_DATA", "data")
        assert cli.run(main, ["corpus", "--workers", "1"]) == cli.run(main, ["train", *map(str, OPTIONS)]) == 0
    return folder


def test_corpus_and_vectors_say_what_made_them_and_are_not_made_again(
    chain: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = chain / "runs" / "word-vectors" / "corpus"
    record = manifest(corpus)
    assert record["complete"] and record["rows"] == record["lines"] == 1200 and record["tokens"] == 1200 * 18
    for shard in record["shards"]:
        assert shard["size"] == (chain / "data" / "yfcc100m" / shard["name"]).stat().st_size
    assert not list(corpus.glob(".*.tmp"))
    vocabulary = Vocabulary.load(chain / "runs" / "word-vectors" / "vectors.bin")
    assert vocabulary.info["settings"]["min_count"] == 5 and vocabulary.info["corpus"] == record
    assert vocabulary.counts is not None and vocabulary.counts.sum() == 1200 * 18
    monkeypatch.chdir(chain)
    before = text_files(corpus)
    done = call(main, "corpus", "data/yfcc100m/*.bz2")
    assert done.returncode == 0 and text_files(corpus) == before
    assert "1,200 rows of 3 files" in done.stdout and "rows skipped: none" in done.stdout
    done = call(main, "train", *OPTIONS)
    assert done.returncode == 0 and "exists already" in done.stdout


def test_neighbours_are_printed(chain: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(chain)
    vocabulary = Vocabulary.load(chain / "runs" / "word-vectors" / "vectors.bin")
    query = vocabulary.vectors[vocabulary.index("car")]
    np.save(chain / "query.npy", query)
    np.savetxt(chain / "query.txt", [query])
    done = call(main, "nearest", "dog", "sea", "--vector", "query.npy", "--top", 3)
    assert done.returncode == 0, done.stderr
    tables = [part.splitlines() for part in done.stdout.strip("\n").split("\n\n")]
    assert [table[0] for table in tables] == ["dog", "sea", "vector 0"]
    found = [[line.split()[0] for line in table[2:]] for table in tables]
    assert set(found[0]) == {"puppy", "bark", "leash"}
    assert set(found[1]) == {"beach", "wave", "sand"}
    assert found[2][0] == "car" and tables[2][2].split()[1] == "1.000"
    from_text = call(main, "nearest", "--vector", "query.txt", "--top", 3).stdout
    assert from_text.strip("\n").splitlines() == tables[2]


def test_mistakes_are_one_sentence_and_change_nothing(chain: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in chain.rglob("*") if path.is_file() and path.suffix != ".lock"}
    (chain / "bad.npy").write_bytes(b"no array")
    np.save(chain / "other.npy", np.ones((2, 3)))
    header = (chain / "other.npy").read_bytes()[:128].replace(b"(2, 3), }" + b" " * 12, b"(1000000000000, 3), }")
    (chain / "huge.npy").write_bytes(header)
    (chain / "open.npy").write_bytes(header.replace(b"(1", b"(((1"))
    empty = chain / "empty"
    empty.mkdir()
    (empty / "prose.txt").write_text("no metadata at all\n")
    vectors = chain / "runs" / "word-vectors" / "vectors.bin"
    (chain / "damaged.bin").write_bytes(vectors.read_bytes()[:-9])
    shutil.copy(vectors.with_suffix(".json"), chain / "damaged.json")
    (chain / "strange").mkdir()
    made = manifest(vectors.parent / "corpus")
    made["shards"] = [{"name": "prose.txt", "files": "none"}]
    (chain / "strange" / "manifest.json").write_text(json.dumps(made))
    (chain / "cut.bz2").write_bytes(bz2.compress(rows(400, 9))[:-900])
    mistakes: list[tuple[list[object], str]] = [
        (["nearest", "dgo"], "did you mean 'dog'"),
        (["nearest", "--vector", "huge.npy"], "no vectors in it"),
        (["nearest", "--vector", "open.npy"], "no vectors in it"),
        (["train", "--out", "damaged.bin"], "is damaged"),
        (["corpus", "empty/prose.txt", "--corpus", "strange"], "manifest.json is not a corpus manifest"),
        (["corpus", "cut.bz2", "--corpus", "cut"], "the packed data ends early"),
        (["nearest", "--vector", "other.npy"], "word vectors have 16 numbers"),
        (["train", "--corpus", "none"], "holds no corpus"),
        (["train", "--min-count", 9], "made otherwise"),
        (["train", "--min-count", 100_000, "--out", "new.bin"], "lower the minimum count"),
        (["train", "--out", "new.txt"], ".bin"),
        (["import", "bad.npy"], "is there already"),
        (["corpus", "none.bz2"], "name the metadata files"),
        (["corpus", "empty/prose.txt"], "holds a corpus of other files"),
        (["corpus", "empty/prose.txt", "--corpus", "new"], "1 too few columns"),
    ]
    monkeypatch.chdir(chain)
    monkeypatch.setenv("CGAN_DATA", str(empty))
    for arguments, words in mistakes:
        assert_one_sentence(call(main, *arguments), words)
    with FileLock(chain / "cut" / ".lock"):
        assert_one_sentence(call(main, "corpus", "cut.bz2", "--corpus", "cut"), "another corpus command")
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not (chain / "new.bin").exists()


def test_rows_of_held_out_photos_are_left_out(tmp_path: Path) -> None:
    source = shards(tmp_path / "data", 1, 50) / "yfcc100m_dataset-0.bz2"
    made = {}
    for name, without in (("whole", []), ("part", ["2", "50"])):
        (tmp_path / name).mkdir()
        record = clean_shard(source, source.name, tmp_path / name, frozenset(without))
        made[name] = (tmp_path / name / record.files[0].name).read_text().splitlines()
    assert made["part"] == made["whole"][:1] + made["whole"][2:49] and len(made["whole"]) == 50


def test_a_changed_input_is_done_again_alone(tmp_path: Path, call: Call) -> None:
    folder = shards(tmp_path / "data", 1, 50)
    changed = folder / "yfcc100m_dataset-1"
    changed.write_bytes(rows(50, 1))
    arguments = [main, "corpus", folder, "--corpus", tmp_path / "corpus"]
    assert call(*arguments).returncode == 0
    before = text_files(tmp_path / "corpus")
    # The same size, other words: only the checksum tells.
    changed.write_bytes(changed.read_bytes().replace(b"puppy", b"kitty"))
    assert call(*arguments).returncode == 0
    after = text_files(tmp_path / "corpus")
    assert after["yfcc100m_dataset-0-0.txt"] == before["yfcc100m_dataset-0-0.txt"]
    assert after["yfcc100m_dataset-1-0.txt"][0] == before["yfcc100m_dataset-1-0.txt"][0].replace(b"puppy", b"kitty")
    # A lost output is made again, too.
    (tmp_path / "corpus" / "yfcc100m_dataset-0-0.txt").unlink()
    assert call(*arguments).returncode == 0
    assert text_files(tmp_path / "corpus")["yfcc100m_dataset-0-0.txt"][0] == before["yfcc100m_dataset-0-0.txt"][0]


def test_a_kill_loses_only_the_unfinished_shard(tmp_path: Path, call: Call) -> None:
    folder = shards(tmp_path / "data", 2, 50)
    (folder / "yfcc100m_dataset-9.bz2").write_bytes(bz2.compress(rows(2000) * 20, 1))
    corpus = tmp_path / "corpus"
    arguments = ["corpus", folder, "--corpus", corpus, "--workers", 1]
    process = start("word_vectors", *arguments)
    try:
        # Both small shards are in the manifest, and the large one is being written.
        wait_until(
            lambda: (corpus / "manifest.json").exists() and len(manifest(corpus)["shards"]) == 2 and big(corpus),
            process,
        )
        children = children_of(process.pid)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert not manifest(corpus)["complete"]
    before = text_files(corpus)
    assert set(before) == {"yfcc100m_dataset-0-0.txt", "yfcc100m_dataset-1-0.txt"}
    # The child notices that nobody listens any more.
    assert children
    deadline = time.monotonic() + 120
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert call(main, "train", "--corpus", corpus, "--out", tmp_path / "v.bin").returncode == 2
    done = call(main, *arguments)
    assert done.returncode == 0, done.stderr
    after = text_files(corpus)
    assert {name: after[name] for name in before} == before
    assert manifest(corpus)["complete"] and manifest(corpus)["rows"] == 40_100
    assert not list(corpus.glob(".*.tmp"))


def big(corpus: Path) -> bool:
    return any(path.stat().st_size > 1 << 20 for path in corpus.glob(".yfcc100m_dataset-9*.tmp"))


def children_of(pid: int) -> list[int]:
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc to see a process's children")
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # A thread that has just ended.
            children += map(int, (task / "children").read_text().split())
    return children


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_import_takes_published_vectors_and_what_gensims_downloader_holds(tmp_path: Path, call: Call) -> None:
    """The downloader's own folder, filled as it fills it, with its list of names; its code is not run."""
    name = "glove-wiki-gigaword-200"
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.gz").write_bytes(gzip.compress(b"2 3\nthe 1 0 0\ndog 0 1 0\n"))
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('this code was run')")
    listed = {"corpora": {}, "models": {name: {"file_name": f"{name}.gz", "parts": 1}}}
    (tmp_path / "information.json").write_text(json.dumps(listed))
    # An address that refuses at once: the list of names is then taken from the folder.
    refused = "http://127.0.0.1:9"
    offline = {"GENSIM_DATA_DIR": str(tmp_path), "https_proxy": refused, "HTTPS_PROXY": refused}
    done = run("word_vectors", "import", name, "--out", tmp_path / "v.bin", **offline)
    assert done.returncode == 0, done.stderr
    assert Vocabulary.load(tmp_path / "v.bin").words == ["the", "dog"]
    done = run("word_vectors", "import", "glove-twitter", "--out", tmp_path / "w.bin", **offline)
    assert_one_sentence(done, "gensim's downloader", "'glove-twitter'", "check the name")
    (tmp_path / "glove.txt").write_text("the 1 0 0\ndog 0.5 0.5 0\ncat 0.4 0.5 0.1\nmy name 1 2 3\n")
    done = call(main, "import", tmp_path / "glove.txt", "--out", tmp_path / "own.bin")
    assert done.returncode == 0 and "NOTE: left out: 1 with white space ('my name')." in done.stdout, done.stderr
    assert Vocabulary.load(tmp_path / "own.bin").words == ["the", "dog", "cat"]


def test_without_any_metadata_the_embedded_rows_serve_and_every_output_says_so(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "the words are those of the embedded scenes' invented captions"
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CGAN_DATA", "root")
    made = call(main, "corpus")
    assert made.returncode == 0, made.stderr
    assert "NOTE: no YFCC100M metadata" in made.stdout and "import glove" in made.stdout and said in made.stdout
    assert "8,000 rows of 1 file in" in made.stdout
    options = ["--epochs", 1, "--vector-size", 16, "--workers", 1]
    trained = call(main, "train", *options)  # The paper's minimum count of 200 leaves words.
    assert trained.returncode == 0 and said in trained.stdout and "seen 200 times or more" in trained.stdout
    assert "few words are left" in trained.stdout
    shown = call(main, "nearest", "sea")
    assert shown.returncode == 0 and shown.stdout.startswith("NOTE: ") and said in shown.stdout
    corpus = tmp_path / "runs" / "word-vectors" / "corpus"
    assert manifest(corpus)["notice"].startswith(said)
    # Metadata that comes later is not mixed into it.
    shards(tmp_path / "root" / "yfcc100m", 1, 5)
    done = call(main, "corpus")
    assert_one_sentence(done, "holds a corpus of other files (scenes-", "--corpus", "delete it")
    assert not list((tmp_path / "root").glob("scenes*"))
