"""The benchmark: every path run for real on small sizes, the form of its figures, alternatives that do the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from cgan.batches import draw_batch
from embeddings.decoding import decode
from embeddings.vocabulary import Vocabulary
from experiments.bench import __main__ as bench
from experiments.bench import plain, training, words
from experiments.bench.measure import Candidate, Context, Job, measure, table
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig
from tests.experiments.commands import assert_one_sentence
from tests.experiments.conftest import Call


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets these two for its process; give them back."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


def test_every_path_is_timed_and_printed(tmp_path: Path, call: Call) -> None:
    (tmp_path / "root").mkdir()
    out = tmp_path / "figures" / "bench.json"
    quick = ("--quick", "--repeats", 1, "--threads", 1)
    done = call(bench.main, *quick, "--data-root", tmp_path / "root", "--out", out)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert [row["path"] for row in record["rows"]] == list(get_args(bench.PathName))
    for row in record["rows"]:
        ours, *others = row["candidates"]
        assert ours["role"] == "ours" and "alternative" in {each["role"] for each in others}
        assert all(each["times"] == [each["median_s"]] and each["median_s"] > 0 for each in row["candidates"])
        assert f"| {row['path']} " in done.stdout
    assert out.with_suffix(".md").read_text() in done.stdout and "the figures mean nothing" in done.stdout
    assert record["machine"]["processor"] in done.stdout and record["machine"]["threads"] == 1
    what = {row["path"]: row["what"] for row in record["rows"]}
    assert all("digits (embedded)" in what[path] for path in ("update", "tutorial", "parzen"))
    assert "embedded scenes" in what["corpus"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--repeats", "0"), "--repeats 0"),
        (("--out", "figures.csv"), ".json"),
        (("--out", "setup.cfg/bench.json"), "is a file, not a folder"),
        (("--threads", "1", "--device", "abacus"), "abacus"),
        (("update", "--threads", "1", "--data-root", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_get_one_sentence(arguments: tuple[str, ...], words: str, tmp_path: Path, call: Call) -> None:
    out = () if "--out" in arguments else ("--out", tmp_path / "bench.json")
    assert_one_sentence(call(bench.main, *arguments, *out), words)
    assert not list(tmp_path.iterdir())


def test_candidates_take_turns_and_shares_are_scaled_up() -> None:
    calls: list[str] = []
    parts = (("ours", "a", 1), ("alternative", "b", 0.1), ("limit", "c", 4))
    candidates = [Candidate(role, name, lambda name=name: calls.append(name), share) for role, name, share in parts]
    row = measure("path", Job("work", 10, "things", candidates), 3)
    assert "".join(calls) == "abc" * 3
    assert [each["scaled"] for each in row["candidates"]] == [1, 10, 0.25]
    lines = table([row]).splitlines()
    assert len(lines) == 5 and "scaled up" in lines[3] and "limit: c" in lines[4]
    seconds = [each["median_s"] for each in row["candidates"]]
    assert f"{seconds[1] / seconds[0]:.2f} times ours" in lines[3]
    assert f"ours is {seconds[0] / seconds[2]:.2f} times this" in lines[4]


# ---- what is timed does the same work

CONTEXT = Context(True, torch.device("cpu"), "float32", 1, Path(__file__).parent, Path(__file__).parent)


def small(preset: str, **changes: Any) -> MnistConfig:
    config = MNIST_PRESETS[preset]()
    return replace(config, training=replace(config.training, batch_size=16), **changes)


def test_an_update_makes_the_products_that_its_layers_need() -> None:
    # Of each weight: forward, its gradient, its input's gradient. G's noise takes none, D's input the fakes' only.
    g = [(100, 1200), (1200, 1200), (1200, 784)]
    d = [(784, 1200), (240, 1200), (240, 1)]
    needed = sum(2 * 16 * a * b * (2 if a == 100 else 3) for a, b in g)
    needed += sum(2 * 32 * a * b * (2.5 if a == 784 else 3) for a, b in d)
    products = training.products_of(training.trainers(CONTEXT, small("gan"))[0].step)
    for made in (products, training.products_of(training.replayed(products))):
        assert sum(2 * math.prod(left.shape) * right.shape[-1] for left, right in made) == needed


def undropped(spec: Any) -> Any:
    names = ("input_branch", "condition_branch", "joint")
    branches = {name: tuple(replace(layer, dropout=0.0) for layer in getattr(spec, name)) for name in names}
    return replace(spec, input_dropout=0.0, condition_dropout=0.0, **branches)


def distance(found: Iterable[Tensor], reference: Iterable[Tensor]) -> float:
    a, b = (torch.cat([tensor.detach().double().flatten() for tensor in each]) for each in (found, reference))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("preset", ["paper", "tutorial"])
@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-4), ("bfloat16", 0.2)])
def test_first_losses_and_gradients_are_the_plain_loops(preset: str, precision: Any, most: float) -> None:
    config = MNIST_PRESETS[preset]()
    config = small(preset, generator=undropped(config.generator), discriminator=undropped(config.discriminator))
    (ours,) = training.trainers(replace(CONTEXT, precision=precision), config)
    G, D = plain.networks(ours)
    rng = torch.Generator()
    rng.set_state(ours.rng.get_state())
    batch = draw_batch(ours.training_set, ours.next_examples(), ours.settings, ours.G.spec, ours.D.spec, rng)
    fake = G(batch.z, batch.y_fake)
    d_loss = plain.discriminator_loss(D, batch.x, batch.y, fake, batch.y_fake)
    g_loss = plain.generator_loss(D, fake, batch.y_fake)
    ours.step()
    assert ours.loss_sums.tolist() == pytest.approx([d_loss.item(), g_loss.item()], abs=most)
    for name, loss, net, own in (("D", d_loss, D, ours.D), ("G", g_loss, G, ours.G)):
        expected = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
        # From what the first update left in the optimiser.
        state, settings = ours.optimisers[name].state, ours.settings
        key, rate = "velocity", -settings.learning_rate
        if settings.optimiser == "adam":
            key, rate = "exp_avg", 1 - settings.adam_beta1
        assert distance([state[parameter][key] / rate for parameter in own.parameters()], expected) < most


def test_the_loop_over_images_finds_the_same_tags() -> None:
    vocabulary = Vocabulary.from_arrays([f"w{number}" for number in range(500)], words.unit_vectors(500, seed=0))
    vectors = vocabulary.vectors[:3, None] + words.unit_vectors(300, seed=3).reshape(3, 100, -1)
    found = decode(vocabulary, vectors, words.NEAREST, words.WORDS)
    assert np.array_equal(found.ranks, [words.decode_one(vocabulary, each) for each in vectors])
