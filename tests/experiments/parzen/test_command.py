"""``python -m experiments.parzen``: files of samples, a run's folder, the two controls, and hostile input."""

from __future__ import annotations

import functools
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.neighbors import KernelDensity

from data.mnist import load_digit_images
from experiments import UsageError
from experiments.generators import load_generator
from experiments.mnist.sampling import samples_of
from experiments.parzen import __main__ as parzen
from experiments.parzen import sample_files
from experiments.parzen.sample_files import read_images
from tests.experiments import commands
from tests.experiments.conftest import Call


def images(n: int, d: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, d), dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a user with good files: s.npy, v.npy and t.npy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CGAN_DATA", raising=False)
    for seed, (name, n) in enumerate({"s": 200, "v": 40, "t": 50}.items()):
        np.save(f"{name}.npy", images(n, seed=seed))
    return tmp_path


@pytest.fixture
def score(call: Call) -> Call:
    return functools.partial(call, parzen.main)


FILES = ("--samples", "s.npy", "--valid", "v.npy", "--test", "t.npy")


def test_it_prints_draws_and_writes_what_scikit_learn_finds(folder: Path, score: Call) -> None:
    out = ("--json", "out.json", "--plot", "out.png")
    done = score(*FILES, *out)
    assert done.returncode == 0 and done.stderr == ""
    result = json.loads(Path("out.json").read_text())
    sigmas = np.logspace(-1, 0, 10)
    densities = [KernelDensity(bandwidth=sigma).fit(np.load("s.npy")) for sigma in sigmas]
    curve = [density.score(np.load("v.npy")) / 40 for density in densities]
    best = int(np.argmax(curve))
    test = densities[best].score_samples(np.load("t.npy"))
    assert result["sigma"] == pytest.approx(sigmas[best])
    np.testing.assert_allclose(result["valid_means"], curve, atol=1e-4)
    valid = densities[best].score_samples(np.load("v.npy"))
    assert result["valid_mean"] == pytest.approx(valid.mean(), abs=1e-4)
    assert result["valid_se"] == pytest.approx(valid.std() / math.sqrt(40), abs=1e-4)
    assert result["test_mean"] == pytest.approx(test.mean(), abs=1e-4)
    assert result["test_se"] == pytest.approx(test.std() / math.sqrt(50), abs=1e-4)
    assert (result["n_samples"], result["n_valid"], result["n_test"], result["dim"]) == (200, 40, 50, 4)
    assert result["command"] == f"python -m experiments.parzen {' '.join((*FILES, *out))}"
    assert f"{test.mean():.2f}" in done.stdout and f"sigma {sigmas[best]:.4g}" in done.stdout
    assert "widen" not in done.stdout
    Image.open("out.png").verify()


def test_the_edge_of_the_grid_is_reported(folder: Path, score: Call) -> None:
    for grid, word in (("0.5:5:3", "below 0.5"), ("0.001:0.01:3", "above 0.01")):
        assert f"widen --sigmas {word}" in score(*FILES, "--sigmas", grid).stdout


def test_the_same_images_are_read_from_any_file(folder: Path) -> None:
    samples = np.load("s.npy")
    np.savez("one.npz", anything=samples)
    np.savez_compressed("several.npz", labels=np.arange(200), images=samples[:3], samples=samples.astype(np.float64))
    save_file({"images": samples, "labels": np.arange(200)}, "several.safetensors")
    np.save("square.npy", samples.reshape(200, 2, 2))
    np.save("fortran.npy", np.asfortranarray(samples))
    Path("fortran.npy").rename("FORTRAN.NPY")
    for name in ("one.npz", "several.npz", "several.safetensors", "square.npy", "FORTRAN.NPY"):
        read, notes = read_images(Path(name))
        assert read.dtype == np.float32 and np.array_equal(read, samples) and not notes, name
    half = torch.from_numpy(samples).bfloat16()
    save_tensors({"samples": half}, "half.safetensors")
    assert torch.equal(torch.from_numpy(read_images(Path("half.safetensors"))[0]), half.float())
    levels = np.random.default_rng(0).integers(0, 256, (200, 4), dtype=np.uint8)
    np.save("bytes.npy", levels)
    read, notes = read_images(Path("bytes.npy"))
    np.testing.assert_allclose(read, levels / 255, rtol=1e-6)
    assert "divided by 255" in notes[0]


def test_values_outside_0_and_1_get_advice_that_fits(folder: Path, score: Call) -> None:
    samples = np.load("s.npy")
    np.save("tanh.npy", 2 * samples - 1)
    done = score("--samples", "tanh.npy", *FILES[2:])
    assert done.returncode == 0 and done.stderr.startswith("note: tanh.npy holds values from -")
    assert "(x + 1) / 2" in done.stderr and len(done.stderr.splitlines()) == 1
    np.save("rounded.npy", np.float32(1.0000001) * samples)
    assert score("--samples", "rounded.npy", *FILES[2:]).stderr == ""
    np.save("levels.npy", 255 * samples)
    commands.assert_one_sentence(score("--samples", "levels.npy", *FILES[2:]), "levels.npy", "divide the first by 255")
    # Twice the range is another scale as well: sigma is not what should change.
    done = score("--samples", "tanh.npy", *FILES[2:], "--sigmas", "0.001:0.01:3")
    assert done.returncode == 0 and "widen" not in done.stdout


def test_the_kmeans_control_is_lloyds_algorithm_from_the_other_controls_images() -> None:
    train = (load_digits().data / 16).astype(np.float32)
    real, _ = parzen.control("mnist-train", train, 60, seed=3)
    assert len(np.unique(real, axis=0)) == 60 and (real[:, None] == train[None]).all(2).any(1).all()
    centres, notes = parzen.control("mnist-kmeans", train, 60, seed=3)
    expected = KMeans(60, init=real, n_init=1, max_iter=parzen.ROUNDS, tol=0).fit(train).cluster_centers_
    np.testing.assert_allclose(centres, expected, atol=1e-5)
    assert "4 rounds of k-means" in notes[0]


def test_a_run_is_scored_on_images_it_has_not_seen(mnist_run: Path, tmp_path: Path, score: Call) -> None:
    out = tmp_path / "out.json"
    # The command's own default is the data set of the run; the name without "-digits" finds it too.
    done = score("--samples", mnist_run.with_name("paper-seed1"), "--count", 100, "--json", out)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    dataset = load_digit_images("digits", tmp_path)
    assert (result["n_samples"], result["n_test"]) == (100, len(dataset.test.images))
    net = load_generator(mnist_run)
    samples = samples_of(net.generator, net.classes, 10, 0)
    squares = cdist(dataset.test.images, samples, "sqeuclidean")
    kernels = logsumexp(-squares / (2 * result["sigma"] ** 2), axis=1) - math.log(100)
    mean = kernels.mean() - 392 * math.log(2 * math.pi * result["sigma"] ** 2)
    assert result["test_mean"] == pytest.approx(mean, abs=1e-3)
    commands.assert_one_sentence(score("--samples", mnist_run, "--count", 55), "multiple")
    commands.assert_one_sentence(score("--samples", tmp_path), "config.json")


def write_bad_files() -> None:
    good = images(20)
    Path("cut.npy").write_bytes(Path("s.npy").read_bytes()[:-100])
    np.savez("several.npz", a=good, b=good)
    np.savez("none.npz")
    with zipfile.ZipFile("text.npz", "w") as packed:
        packed.writestr("samples.npy", "no array")
    np.save("objects.npy", np.array([[1, "a"]], dtype=object))
    np.save("integers.npy", np.arange(80).reshape(20, 4))
    np.save("binary.npy", np.eye(4, dtype=np.uint8))
    np.save("flat.npy", good[0])
    np.save("wide.npy", images(20, 9))
    np.save("nan.npy", np.where(np.arange(20)[:, None] == 7, np.nan, good))
    np.save("huge.npy", good.astype(np.float64) * 1e300)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--samples no-such.npy", ["there is no such file"]),
        ("--samples cut.npy", ["not a whole .npy file"]),
        ("--samples several.npz", ["the arrays a, b", '"samples"']),
        ("--samples none.npz", ["no array"]),
        ("--samples text.npz", ["text.npz: an array of shape ()"]),
        ("--samples objects.npy", ["plain numbers"]),
        ("--samples integers.npy", ["int64", "floats in [0, 1]"]),
        ("--samples binary.npy", ["all 0 or 1", "float32"]),
        ("--samples flat.npy", ["(4,)"]),
        ("--samples wide.npy", ["--samples wide.npy has 9", "--valid v.npy has 4"]),
        ("--samples nan.npy", ["NaN", "image 7 of 20"]),
        ("--samples huge.npy", ["infinity"]),
        ("--samples mnist-train --count 0", ["--count 0"]),
        ("--count 5", ["--count", "leave it out"]),
        ("--sigmas 1:0.1:10", ["sigmas from 1 to 0.1"]),
        ("--sigmas 0.1:1", ["START:STOP:COUNT"]),
        ("--sigmas 0.1:1:100000000", ["at most 1,000"]),
        ("--json s.npy", ["--json s.npy", ".json"]),
        ("--memory-mib 0", ["memory_mib=0"]),
        ("--valid mnist-train", ["--valid mnist-train"]),
        ("--valid mnist --data-root no-such-folder", ["no-such-folder"]),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(
    folder: Path, score: Call, arguments: str, words: list[str]
) -> None:
    write_bad_files()
    typed = [*FILES, "--json", "out.json", "--plot", "out.png", *arguments.split()]
    given = dict(zip(typed[::2], typed[1::2], strict=True))
    done = score(*(word for pair in given.items() for word in pair))
    commands.assert_one_sentence(done, *words)
    assert not list(folder.glob("out.*")) and done.stdout == ""


def test_an_array_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_files, "MAX_UNPACKED", 100_000)
    np.savez_compressed(tmp_path / "bomb.npz", samples=np.zeros((1_000, 100), dtype=np.float32))
    with pytest.raises(UsageError, match="samples takes 400,128 bytes unpacked, and at most 100,000"):
        read_images(tmp_path / "bomb.npz")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_a_file_damaged_anywhere_is_read_or_refused_but_never_breaks_the_reader(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"samples{suffix}"
    np.save(tmp_path / "samples.npy", images(6))
    np.savez_compressed(tmp_path / "samples.npz", samples=images(6))
    save_file({"samples": images(6)}, tmp_path / "samples.safetensors")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        if rng.random() < 0.3:
            damaged = damaged[: rng.integers(len(damaged))]
        else:
            for place in rng.integers(0, min(len(damaged), 140), rng.integers(1, 4)):
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read, _ = read_images(path)
            assert read.dtype == np.float32 and np.isfinite(read).all()
        except UsageError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 50
