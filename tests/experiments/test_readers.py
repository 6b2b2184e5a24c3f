"""Files of every kind as an accident or a stranger may have changed them: each is read, or refused in one sentence."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save

from data.mirflickr import flickr_ids, load_mirflickr
from data.mnist import FILES, read_file
from data.scenes import caption_rows
from data.yfcc100m import read_batches
from embeddings.corpus import Manifest, load_corpus, token_line
from embeddings.images.cache import FeatureCache
from embeddings.images.extract import open_image
from embeddings.images.networks import load_network
from experiments import reproduce
from experiments.mnist.presets import MNIST_PRESETS
from experiments.runs.cli import USER_ERRORS, read_preset, sentence
from experiments.runs.files import write_json
from experiments.runs.folder import RunFolder
from experiments.search.space import find_space, parse_space, propose
from experiments.search.trials import Places, read_trials
from experiments.word_vectors.__main__ import read_vectors
from tests.data.test_mirflickr import write_layout
from tests.experiments.mutations import fuzz_count, mutate_bytes

#: A file to change, its content, and what reads it.
Reader = tuple[Path, bytes, Callable[[], Any]]
SPACE = {"training.learning_rate": {"log_uniform": [0.02, 0.2]}, "training.momentum_ramp": {"uniform": [10, 90]}}


def mnist_gz(folder: Path) -> Reader:
    path = folder / f"{FILES[3].name}.gz"
    return path, gzip.compress(bytes(10_008)), lambda: read_file(folder, FILES[3])


def picture(folder: Path, form: str) -> Reader:
    packed = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(packed, form)
    return folder / "photo", packed.getvalue(), lambda: open_image(folder / "photo")


def photos(folder: Path, name: str) -> Reader:
    path = write_layout(folder) / name
    content = path.read_bytes() if path.exists() else b"flickr8k_file,number\n12_a.jpg,1\n34_b.jpg,2\n"
    return path, content, lambda: (load_mirflickr(folder), flickr_ids(folder))


def metadata(folder: Path, pack: Callable[[bytes], bytes]) -> Reader:
    path, rows = folder / "rows", "".join(f"{row}\n" for row in islice(caption_rows(seed=1), 50))
    lines = lambda: [token_line(*row[1:]) for batch in read_batches(path) for row in batch]  # noqa: E731
    return path, pack(rows.encode()), lines


def corpus(folder: Path) -> Reader:
    manifest = Manifest(cleaning=1, complete=True, rows=1, lines=1, tokens=1, skipped={}, shards=[])
    return folder / "manifest.json", json.dumps(asdict(manifest)).encode(), lambda: load_corpus(folder)


def query(folder: Path) -> Reader:
    packed = io.BytesIO()
    np.save(packed, np.ones((3, 4)))
    return folder / "query.npy", packed.getvalue(), lambda: read_vectors(folder / "query.npy")


def metrics(folder: Path) -> Reader:
    rows = b"update,epoch,valid_log_likelihood\n1,0.5,-10.25\n2,1.0,nan\n"
    return folder / "metrics.csv", rows, lambda: RunFolder(folder).read_metrics()


def preset(folder: Path) -> Reader:
    path = folder / "mine.json"
    write_json(path, {"name": "mine", "about": "about", "settings": MNIST_PRESETS["paper"]().as_dict()})
    return path, path.read_bytes(), lambda: read_preset(str(path), MNIST_PRESETS)


def space(folder: Path) -> Reader:
    path = folder / "space.json"

    def read() -> None:
        record, where = find_space("mnist", str(path))
        propose(parse_space(record, MNIST_PRESETS["paper"](), where), [], "random", 1, 1)

    return path, json.dumps(SPACE).encode(), read


def trial(folder: Path, changed: str) -> Reader:
    files = {
        "trial.json": b'{"number": 1, "values": {"training.learning_rate": 0.1, "training.momentum_ramp": 20}, '
        b'"state": "finished", "reason": ""}',
        "metrics.csv": b"update,epoch,seconds,valid_log_likelihood\n10,1,0.5,-9\n20,2,1.0,7.5\n",
    }
    places, known = Places(folder, folder, folder), parse_space(SPACE, MNIST_PRESETS["paper"](), "space")
    places.trial(1).mkdir(parents=True)
    for name, content in files.items():
        (places.trial(1) / name).write_bytes(content)
    read = lambda: propose(known, read_trials(places).values(), "tpe", 1, 2)  # noqa: E731
    return places.trial(1) / changed, files[changed], read


def plan(folder: Path) -> Reader:
    """Without trainings, whose arguments take half a second to parse."""
    path, lines = folder / "plan.txt", b"sample {runs}/a --npy {out}/a.npy # a\nparzen --samples {out}/a.npy --json b\n"
    command = reproduce.Command(plan=path, runs=folder / "runs", out=folder / "out")
    return path, lines, lambda: [step.share() for step in reproduce.plan(command)]


def features(folder: Path) -> Reader:
    store, images = FeatureCache(folder, {"name": "net"}, 4), [bytes([i]) * 32 for i in range(3)]
    store.add(images, np.ones((3, 4), dtype=np.float32))
    (path,) = store.folder.iterdir()

    def read() -> None:
        # By its own checksum, as if it had been written so.
        path.rename(path.with_stem(hashlib.sha256(path.read_bytes()).hexdigest()))
        store.read(images)

    return path, path.read_bytes(), read


def weights(folder: Path) -> Reader:
    path, state = folder / "weights.safetensors", timm.create_model("test_resnet", num_classes=0).state_dict()
    return path, save(state), lambda: load_network("test_resnet", str(path))


READERS: dict[str, Callable[[Path], Reader]] = {
    "MNIST": mnist_gz,
    **{form: lambda folder, form=form: picture(folder, form) for form in ("JPEG", "PNG", "TIFF", "WEBP", "GIF")},
    "tags": lambda folder: photos(folder, "mirflickr/meta/tags/tags1.txt"),
    "annotations": lambda folder: photos(folder, "mirflickr25k_annotations_v080/sky.txt"),
    "sources.csv": lambda folder: photos(folder, "sources.csv"),
    **{pack.__module__: lambda folder, pack=pack: metadata(folder, pack) for pack in (gzip.compress, bz2.compress)},
    "rows": lambda folder: metadata(folder, bytes),
    "trial.json": lambda folder: trial(folder, "trial.json"),
    "trial's metrics.csv": lambda folder: trial(folder, "metrics.csv"),
    **{read.__name__: read for read in (corpus, query, metrics, preset, space, plan, features, weights)},
}


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    path, content, read = READERS[name](tmp_path)
    for _ in range(fuzz_count(40)):
        path.write_bytes(mutate_bytes(content, rng))
        try:
            read()
        except USER_ERRORS as error:
            assert "\n" not in sentence(error) and len(sentence(error)) <= 1_000
    path.write_bytes(content)
    if name != "MNIST":  # These are not MNIST's own bytes.
        read()
