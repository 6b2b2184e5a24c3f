"""Generators that come with the package: their files, how they are made from a run, and commands that take them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.neighbors import KNeighborsClassifier

from data.digits import load_digits_28
from data.scenes import write_scenes
from embeddings.images.networks import packaged_weights
from experiments import generators
from experiments.flickr_tags import tag
from experiments.generators import __main__ as command
from experiments.mnist import sample
from experiments.mnist.presets import MNIST_PRESETS
from experiments.parzen import __main__ as parzen
from tests.experiments.commands import assert_one_sentence
from tests.experiments.conftest import Call, FlickrRun


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Return a file's tensors and record by the safetensors library alone."""
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["record"])  # noqa: SIM118


@pytest.mark.parametrize("name", generators.names())
def test_what_comes_with_the_package(name: str, call: Call, tmp_path: Path) -> None:
    path = generators.FOLDER / f"{name}.safetensors"
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert path.stat().st_size < 5 * 2**20 and f"# Generator `{name}`" in card and "/tmp" not in card
    net = generators.load_generator(name)
    assert net.record is not None and net.config.dataset.checksum in card
    if net.config.experiment == "mnist":
        assert net.generator.spec == MNIST_PRESETS[net.config.preset]().generator
    if net.classes:
        npy = tmp_path / "images.npy"
        assert call(sample.main, name, "--out", tmp_path / "grid.png", "--npy", npy).returncode == 0
        digits = load_digits_28()  # Other writers' digits than those that trained it.
        judge = KNeighborsClassifier(1).fit(digits.train.images, digits.train.labels)
        assert (judge.predict(np.load(npy)) == np.arange(10).repeat(10)).mean() > 0.5
    if net.config.experiment == "flickr-tags" and packaged_weights():
        write_scenes(tmp_path / "scenes", 2)
        photo = next((tmp_path / "scenes" / "mirflickr").glob("*.jpg"))
        done = call(tag.main, name, photo, "--json", "-")
        assert done.returncode == 0, done.stderr
        assert {word for word, _ in json.loads(done.stdout)[str(photo)]} < set(net.record.words)


def test_a_run_becomes_a_generator(
    mnist_run: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = call(command.main, mnist_run, "--name", "small", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    tensors, record = read(tmp_path / "small.safetensors")
    single, _ = read(mnist_run / "best.safetensors")
    expected = {name: tensor.astype(np.float16) for name, tensor in single.items() if name.startswith("G.")}
    assert tensors.keys() == expected.keys() and all(np.array_equal(tensors[n], expected[n]) for n in expected)
    config, result = (json.loads((mnist_run / f"{name}.json").read_text()) for name in ("config", "result"))
    for field in ("preset", "seed", "dataset", "settings"):
        assert record["config"][field] == config[field]
    assert record["weights"] == result["weights"] and record["licence"] == "MIT"
    assert record["figure"]["value"] == result["parzen"]["test_mean"]
    assert record["figure"]["error"] == result["parzen"]["test_se"]
    card = (tmp_path / "small.md").read_text()
    assert f"{result['parzen']['test_mean']:.1f} ± {result['parzen']['test_se']:.1f} nats" in card
    assert str(mnist_run.parents[2]) not in card + json.dumps(record)

    monkeypatch.setattr(generators, "FOLDER", tmp_path)
    arrays = []
    for run in ("small", mnist_run):
        done = call(sample.main, run, "--out", tmp_path / "grid.png", "--npy", tmp_path / "images.npy")
        assert done.returncode == 0 and "digits (embedded)" in done.stdout
        arrays.append(np.load(tmp_path / "images.npy"))
    assert not np.array_equal(*arrays) and np.allclose(*arrays, atol=5e-3)
    assert call(parzen.main, "--samples", "small", "--json", tmp_path / "p.json", "--count", 100).returncode == 0
    assert json.loads((tmp_path / "p.json").read_text())["test"] == "digits (embedded)"

    assert_one_sentence(call(sample.main, "smal"), "smal: no such folder", "generators by name: small")
    assert_one_sentence(call(tag.main, "small", tmp_path / "grid.png"), "of mnist, not of flickr-tags")
    assert_one_sentence(call(command.main, "small", "--name", "again"), "give the folder of a run")
    (tmp_path / "small.safetensors").write_bytes((tmp_path / "small.safetensors").read_bytes()[:-10])
    assert_one_sentence(call(sample.main, "small"), "small.safetensors", "not a readable safetensors file")


def test_a_tagger_becomes_a_generator(
    flickr_run: FlickrRun, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = call(command.main, flickr_run.folder, "--name", "tags", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((flickr_run.folder / "result.json").read_text())
    _, record = read(tmp_path / "tags.safetensors")
    assert record["figure"]["value"] == result["measures"]["cgan"]["precision_at_10"]["value"]
    assert len(record["words"]) == result["vocabulary"]["decoding"]
    assert "precision at 10" in (tmp_path / "tags.md").read_text()
    photo = json.loads((flickr_run.folder / "table2.json").read_text())["photos"][0]["path"]
    monkeypatch.setattr(generators, "FOLDER", tmp_path)
    shares = []
    for run in ("tags", flickr_run.folder):
        done = call(tag.main, run, photo, "--json", "-")
        assert done.returncode == 0, done.stderr
        shares.append(dict(json.loads(done.stdout)[photo]))
    both = shares[0].keys() & shares[1].keys()
    assert len(both) >= 9 and all(abs(shares[0][word] - shares[1][word]) < 0.05 for word in both)
    assert_one_sentence(call(sample.main, "tags"), "of flickr-tags, not of mnist")
