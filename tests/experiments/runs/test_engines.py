"""Corpus and features on a real Ray: the same bytes as without it, also where workers are killed or engines change."""

from __future__ import annotations

import bz2
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.numpy import load_file

from experiments.flickr_tags import __main__ as flickr_tags
from experiments.word_vectors import __main__ as word_vectors
from tests.experiments import flickr_runs
from tests.experiments.commands import assert_one_sentence, environment, start, wait_until
from tests.experiments.conftest import Call, FlickrRun
from tests.experiments.word_vectors.test_command import children_of, manifest, rows, shards, text_files

pytest.importorskip("ray", reason="Ray is not installed: pip install -e .[cluster]")
if not Path("/proc").is_dir():
    pytest.skip("needs /proc to find a worker's process", allow_module_level=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder but locks."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def half_done(corpus: Path) -> Path | None:
    """The hidden file that a worker is writing, once there is a good part in it."""
    for path in corpus.glob(".yfcc100m_dataset-*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # Small ones come and go.
            if path.stat().st_size > 1 << 16:
                return path
    return None


def listening(pid: int) -> set[str]:
    """The addresses, in hexadecimal, at which that process or one below it listens."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    sockets = [line.split() for table in tables for line in table]
    addresses = {row[9]: row[1].rpartition(":")[0] for row in sockets if row[3] == "0A"}  # By inode, of listeners.
    found: set[str] = set()
    processes = [pid]
    for process in processes:
        with contextlib.suppress(OSError):  # Some end meanwhile.
            processes += children_of(process)
            for link in Path(f"/proc/{process}/fd").iterdir():
                inode = os.readlink(link).removeprefix("socket:[").rstrip("]")
                if inode in addresses:
                    found.add(addresses[inode])
    return found


def test_engines_take_turns_at_one_corpus(tmp_path: Path, call: Call) -> None:
    """Begun by this machine's processes; gone on with by Ray, whose worker is killed first, then the command itself.

    Whoever reaches the ports of that Ray may run code: it listens on the loopback address alone.
    """
    metadata, corpus, whole = shards(tmp_path / "metadata", 2, 50), tmp_path / "corpus", tmp_path / "whole"
    assert call(word_vectors.main, "corpus", metadata, "--corpus", corpus).returncode == 0
    kept = text_files(corpus)
    for number in (8, 9):  # Two that take seconds.
        (metadata / f"yfcc100m_dataset-{number}.bz2").write_bytes(bz2.compress(rows(2000) * (20 + number), 1))
    arguments = ["corpus", metadata, "--workers", 1, "--corpus"]
    # Neither an address that names no cluster, nor a setting from outside opens the ports of a Ray started here.
    outside = {"RAY_ADDRESS": "local", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    process = start("word_vectors", *arguments, corpus, "--engine", "ray", **outside)
    try:
        writing = wait_until(lambda: half_done(corpus), process)
        worker = int(writing.name.split(".")[-2])  # The name ends in the process that writes.
        assert worker != process.pid
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: len(manifest(corpus)["shards"]) == 3 and half_done(corpus), process)
        addresses = listening(process.pid)
        assert addresses and addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    finally:
        process.kill()
        errors = process.communicate()[1]
    assert errors == "" and not manifest(corpus)["complete"]
    kept |= text_files(corpus)
    for folder in (corpus, whole):
        done = call(word_vectors.main, *arguments, folder)
        assert done.returncode == 0 and "114,100 rows of 4 files" in done.stdout, done.stderr
    assert text_files(corpus).items() >= kept.items()
    assert contents(corpus) == contents(whole)


class Ray(NamedTuple):
    """A cluster: where drivers join it, and the process that holds its machines."""

    address: str
    pid: int


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
machine = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100 << 20}
cluster = Cluster(initialize_head=True, head_node_args={**machine, "include_dashboard": False})
cluster.add_node(**machine)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture
def cluster() -> Iterator[Ray]:
    """A cluster of two machines with a core each, as far as Ray can tell; each runs one worker at a time."""
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    quiet = environment(RAY_USAGE_STATS_ENABLED="0")
    process = subprocess.Popen([sys.executable, "-c", CLUSTER], env=quiet, **pipe)
    try:
        address = process.stdout.readline().strip()
        assert address, "Ray did not start"
        yield Ray(address, process.pid)
    finally:
        process.stdin.close()
        process.wait(60)


def actors(pid: int) -> list[int]:
    """The processes below that one that are actors which make passes."""
    below = children_of(pid)
    names = {}
    for child in below:
        with contextlib.suppress(OSError):  # It has just ended.
            names[child] = Path(f"/proc/{child}/cmdline").read_bytes()
    found = [child for child, name in names.items() if name.startswith(b"ray::_Passes")]
    return found + [actor for child in below for actor in actors(child)]


def features_in(folder: Path) -> dict[tuple[str, bytes], bytes]:
    """The features of each image in a cache; how many share a file depends on the time that computing took."""
    found = {}
    for path in folder.rglob("*.safetensors"):
        arrays = load_file(path)
        for image, vector in zip(arrays["images"], arrays["vectors"], strict=True):
            found[path.parent.name, image.tobytes()] = vector.tobytes()
    return found


def test_features_by_a_cluster_with_a_worker_killed_are_the_same(
    flickr_run: FlickrRun, tmp_path: Path, cluster: Ray
) -> None:
    expected = features_in(flickr_run.runs / "cache")
    places = ("--runs", tmp_path, "--data-root", flickr_run.root, "--engine", "ray")
    process = start("flickr_tags", *flickr_runs.ARGUMENTS, *places, RAY_ADDRESS=cluster.address)
    try:
        os.kill(wait_until(lambda: actors(cluster.pid), process)[0], signal.SIGKILL)
        wait_until(lambda: features_in(tmp_path / "cache") == expected, process)
    finally:
        process.kill()
        process.communicate()
    assert len(expected) == flickr_runs.IMAGES


def test_without_ray_or_its_cluster_one_sentence_says_how_to_fix_it(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata, cleaning = shards(tmp_path / "data", 1, 5), ["--corpus", tmp_path / "out" / "corpus", "--engine", "ray"]
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    done = call(word_vectors.main, "corpus", metadata, *cleaning)
    assert_one_sentence(done, "no Ray cluster answers at RAY_ADDRESS 127.0.0.1:9 (Connection refused)", "unset")
    monkeypatch.setitem(sys.modules, "ray", None)
    tagging = ["paper", "--runs", tmp_path / "out", "--engine", "ray"]
    for main, arguments in ((word_vectors.main, ["corpus", metadata, *cleaning]), (flickr_tags.main, tagging)):
        done = call(main, *arguments)
        assert_one_sentence(done, "--engine ray needs Ray, which is not installed: pip install -e .[cluster]")
    assert contents(tmp_path / "out") == {}
