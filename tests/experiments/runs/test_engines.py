"""Corpus and features on a real Ray: the same bytes as without it, also where workers are killed or engines change."""

from __future__ import annotations

import bz2
import contextlib
import json
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
from experiments.runs import cli
from experiments.word_vectors import __main__ as word_vectors
from tests.experiments.commands import PATIENCE, ROOT, assert_one_sentence, environment, run, start, wait_until
from tests.experiments.conftest import Call
from tests.experiments.word_vectors.test_command import children_of, manifest, rows, shards, text_files

pytest.importorskip("ray", reason="Ray is not installed: pip install -e .[cluster]")
if not Path("/proc").is_dir():
    pytest.skip("needs /proc to find a worker's process", allow_module_level=True)


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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Ray]:
    """A cluster of two machines with a core each, as far as Ray can tell; each runs one worker at a time."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=environment(RAY_USAGE_STATS_ENABLED="0"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Ray(process.stdout.readline().strip(), process.pid)
    finally:
        process.stdin.close()
        process.wait(60)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder but locks."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def features_in(folder: Path) -> dict[tuple[str, bytes], bytes]:
    """The features of each image in a cache; how many share a file depends on the time that computing took."""
    found = {}
    for path in folder.rglob("*.safetensors"):
        arrays = load_file(path)
        for image, vector in zip(arrays["images"], arrays["vectors"], strict=True):
            found[path.parent.name, image.tobytes()] = vector.tobytes()
    return found


# ---- the corpus


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small shards and two that take seconds."""
    folder = shards(tmp_path_factory.mktemp("metadata"), 2, 50)
    large = rows(2000)
    for number in (8, 9):
        (folder / f"yfcc100m_dataset-{number}.bz2").write_bytes(bz2.compress(large * (20 + number), 1))
    return folder


@pytest.fixture(scope="module")
def expected(metadata: Path) -> dict[str, bytes]:
    """The corpus by processes of this machine."""
    corpus = metadata / "corpus"
    assert cli.run(word_vectors.main, ["corpus", str(metadata), "--corpus", str(corpus)]) == 0
    return contents(corpus)


def half_done(corpus: Path) -> Path | None:
    """The hidden file that a worker is writing, once there is a good part in it."""
    for path in corpus.glob(".yfcc100m_dataset-*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # Small ones come and go.
            if path.stat().st_size > 1 << 16:
                return path
    return None


def test_a_corpus_with_a_worker_killed_is_the_same(
    tmp_path: Path, metadata: Path, expected: dict[str, bytes], cluster: Ray
) -> None:
    corpus = tmp_path / "corpus"
    process = start(
        "word_vectors", "corpus", metadata, "--corpus", corpus, "--engine", "ray", RAY_ADDRESS=cluster.address
    )
    writing = wait_until(lambda: half_done(corpus), process)
    worker = int(writing.name.split(".")[-2])  # The name ends in the process that writes.
    assert worker != process.pid
    os.kill(worker, signal.SIGKILL)
    said, errors = process.communicate(timeout=PATIENCE)
    # Ray says nothing of the lost worker among results.
    assert (process.returncode, errors) == (0, "")
    assert contents(corpus) == expected
    assert "114,100 rows of 4 files" in said


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


def test_engines_take_turns_at_one_corpus(tmp_path: Path, metadata: Path, expected: dict[str, bytes]) -> None:
    """Begun by one engine, killed; gone on with by the other, killed again; ended by the first. Ray is its own here.

    Whoever reaches the ports of that Ray may run code: it listens on the loopback address alone.
    """
    corpus = tmp_path / "corpus"
    arguments = ["word_vectors", "corpus", metadata, "--corpus", corpus, "--workers", 1]
    kept: dict[str, tuple[bytes, int]] = {}
    for engine, shards_done in (("local", 2), ("ray", 3)):
        # Neither an address that names no cluster, nor a setting from outside opens the ports of a Ray started here.
        changes = {"RAY_ADDRESS": "local", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"} if engine == "ray" else {}
        process = start(*arguments, "--engine", engine, **changes)
        try:
            wait_until(
                lambda done=shards_done: (
                    (corpus / "manifest.json").exists()
                    and len(manifest(corpus)["shards"]) == done
                    and half_done(corpus) is not None
                ),
                process,
            )
            if engine == "ray":
                addresses = listening(process.pid)
                assert addresses and addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
        finally:
            process.kill()
            process.communicate()
        assert not manifest(corpus)["complete"]
        before, kept = kept, text_files(corpus)
        assert len(kept) == shards_done and kept.items() >= before.items()
    done = run(*arguments, "--engine", "local")
    assert done.returncode == 0, done.stderr
    assert text_files(corpus).items() >= kept.items()
    assert contents(corpus) == expected


# ---- features

EXTRACT = """
import contextlib, sys, time
from pathlib import Path
import numpy as np, torch
from embeddings.images import extract as images
from embeddings.images.networks import FrozenNetwork, Preprocessing
from experiments.runs import cli
from experiments.runs import engines

class Slow(Preprocessing):
    # Enough time to be killed in; and without timm, which takes seconds to import in each worker.
    def transform(self):
        def prepared(image):
            time.sleep(0.03)
            return torch.from_numpy(np.array(image.resize((64, 64)))).permute(2, 0, 1)
        return prepared

def main(arguments):
    engine, photos, cache = arguments
    images.SAVE_EVERY = 0.0
    engines.PASSES_AT_ONCE = 2
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 16, 7, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3600, 300)]
    module = torch.nn.Sequential(*layers).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    preprocessing = Slow((3, 64, 64), (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0, "center")
    network = FrozenNetwork("small", 300, None, module, preprocessing, "random", "0" * 64, {})
    compute = engines.run_passes if engine == "ray" else None
    paths = images.find_images([photos])
    with engines.cluster() if compute else contextlib.nullcontext():
        found = images.extract(network, paths, Path(cache), progress=False, compute=compute)
        print(*found.skipped.values(), len(found.vectors), flush=True)
        if compute:
            # The number of threads decides the last bits, and no machine of this cluster has two cores for two threads.
            torch.set_num_threads(2)
            images.extract(network, paths, progress=False, compute=compute)

sys.exit(cli.run(main, sys.argv[1:]))
"""


def extracting(engine: str, photos: Path, cache: Path, **changes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", EXTRACT, engine, str(photos), str(cache)],
        cwd=ROOT,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def actors(pid: int) -> list[int]:
    """The processes below that one that are actors which make passes."""
    below = children_of(pid)
    names = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in below}
    found = [child for child, name in names.items() if name.startswith(b"ray::_Passes")]
    return found + [actor for child in below for actor in actors(child)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of their own, one of them damaged."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(61):
        image = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((180, 170))
        image.save(folder / f"im{number}.jpg")
    whole = (folder / "im20.jpg").read_bytes()
    (folder / "im20.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def test_features_with_a_worker_killed_are_the_same(tmp_path: Path, photos: Path, cluster: Ray) -> None:
    alone = extracting("local", photos, tmp_path / "local")
    process = extracting("ray", photos, tmp_path / "ray", RAY_ADDRESS=cluster.address)
    wait_until(lambda: list((tmp_path / "ray").rglob("*.safetensors")), process)
    workers = actors(cluster.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and errors.startswith("error: no machine of the Ray cluster has 2 cores"), errors
    assert "--threads" in errors and errors.count("\n") == 1
    assert said == alone.communicate(timeout=PATIENCE)[0] and said.strip().endswith(" 60")
    assert features_in(tmp_path / "ray") == features_in(tmp_path / "local") != {}


def test_a_network_computes_the_same_where_it_is_sent_to() -> None:
    import ray.cloudpickle
    import torch

    from embeddings.images.networks import load_network

    network = load_network("mobilenetv1_100", random_weights=True)
    sent = ray.cloudpickle.loads(ray.cloudpickle.dumps(network))
    assert sent.describe() == network.describe()
    pixels = torch.randint(0, 256, (3, *network.preprocessing.input_size), dtype=torch.uint8)
    x = network.preprocessing.normalise(pixels).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(sent.module(x), network.module(x))


# ---- what cannot be done is one sentence


def test_trials_may_have_gpus_where_the_command_has_none(
    tmp_path: Path, cluster: Ray, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No machine of this cluster has one, which the cluster tells, not the command's own device."""
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e .[cluster]")
    from experiments.search import __main__ as search

    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    done = call(search.main, "mnist", "--fast", "--gpus-per-trial", 0.5, "--runs", tmp_path, "--name", "gpus")
    assert_one_sentence(done, "0.5 GPUs, but there are", "lower --cpus-per-trial or --gpus-per-trial")
    plan = json.loads((tmp_path / "search" / "gpus" / "search.json").read_text())
    assert plan["device"] == "cuda" and plan["precision"] == "float32"


def test_without_ray_or_its_cluster_one_sentence_says_how_to_fix_it(
    tmp_path: Path, metadata: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpus"
    cleaning = ["corpus", metadata, "--corpus", corpus, "--engine", "ray"]
    done = run("word_vectors", *cleaning, RAY_ADDRESS="127.0.0.1:9")
    assert_one_sentence(done, "no Ray cluster answers at RAY_ADDRESS 127.0.0.1:9 (Connection refused)", "unset")
    monkeypatch.setitem(sys.modules, "ray", None)
    tagging = ["paper", "--runs", tmp_path, "--engine", "ray"]
    for main, arguments in ((word_vectors.main, cleaning), (flickr_tags.main, tagging)):
        done = call(main, *arguments)
        assert_one_sentence(done, "--engine ray needs Ray, which is not installed: pip install -e .[cluster]")
    assert contents(tmp_path) == {}
