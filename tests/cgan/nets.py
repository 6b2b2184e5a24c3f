"""Small networks, data and settings that several test modules share, and the form that every error must have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from cgan import CganError
from cgan.batches import TrainingSet
from cgan.networks import Discriminator, Generator
from cgan.settings import TrainingSettings
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Init
from cgan.specs import parse_layers as layers
from cgan.trainer import Trainer

CLASSES, DATA_DIM, COUNT = 4, 5, 13

#: Learning rate and momentum differ at each of the first updates, and both reach their ends within four.
SGD = TrainingSettings(
    batch_size=6,
    learning_rate=0.5,
    decay=1.5,
    min_learning_rate=0.2,
    momentum_start=0.5,
    momentum_end=0.9,
    momentum_ramp=3,
)
ADAM = replace(SGD, optimiser="adam", learning_rate=0.02, min_learning_rate=0.01)
MATCHING = replace(SGD, discriminator_loss="matching_aware")


def specs(
    *,
    condition: str = "one_hot",
    dropout: float = 0.0,
    generator: dict[str, Any] | None = None,
    discriminator: dict[str, Any] | None = None,
) -> tuple[GeneratorSpec, DiscriminatorSpec]:
    """Return the paper's shape in small, ReLU branches in G and maxout branches in D; any field can be replaced."""
    width = {"none": 0, "real": 3}.get(condition, CLASSES)
    shared: dict[str, Any] = {
        "condition": condition,
        "condition_dim": width,
        "embedding_dim": 2 if condition == "embedding" else 0,
        **{f"{part}_init": Init("fan_in") for part in ("input", "condition", "joint", "output")},
    }
    drop = f",dropout={dropout}" if dropout else ""
    g = {
        "input_dim": 3,
        "output_dim": DATA_DIM,
        "input_branch": layers(f"relu:4{drop}"),
        "joint": layers(f"relu:6{drop}"),
    }
    d = {"input_dim": DATA_DIM, "input_branch": layers(f"maxout:4x3{drop}"), "joint": layers(f"maxout:5x2{drop}")}
    if width:
        g["condition_branch"], d["condition_branch"] = layers(f"relu:3{drop}"), layers(f"maxout:3x2{drop}")
    return (
        GeneratorSpec(**{**shared, **g, **(generator or {})}),
        DiscriminatorSpec(**{**shared, **d, **(discriminator or {})}),
    )


def packs(pair: tuple[GeneratorSpec, DiscriminatorSpec], size: int) -> tuple[GeneratorSpec, DiscriminatorSpec]:
    """Return the same networks with a D that judges ``size`` data of one condition together."""
    return pair[0], replace(pair[1], pack=size)


#: Dropout in every place that has it.
DROPPED = specs(
    dropout=0.5, generator={"input_dropout": 0.5, "condition_dropout": 0.25}, discriminator={"input_dropout": 0.2}
)
EMBEDDED = specs(
    condition="embedding",
    generator={"output": "tanh", "noise": "normal", "joint": layers("leaky_relu:6", "leaky_relu:5,batch_norm")},
    discriminator={"joint": layers("leaky_relu:5", "linear:4,dropout=0.25")},
)
NORMALISED = specs(discriminator={"joint": layers("maxout:5x2,batch_norm", "relu:4")})

#: Every branch of the update by name: specs and settings.
CASES = {
    "paper": (specs(), SGD),
    "paper, minimax": (specs(), replace(SGD, generator_loss="minimax")),
    "paper, matching-aware": (DROPPED, MATCHING),
    "paper, matching-aware minimax": (specs(), replace(MATCHING, generator_loss="minimax")),
    "paper, packs of 3, matching-aware": (packs(DROPPED, 3), MATCHING),
    "vectors, packs of 2": (
        packs(specs(condition="real"), 2),
        replace(SGD, learning_rate=0.05, min_learning_rate=0.02),
    ),
    "no condition, packs of 4": (packs(specs(condition="none"), 4), SGD),
    "alternating, packs of 2, fresh conditions": (
        packs(specs(dropout=0.5), 2),
        replace(SGD, update="alternating", fake_conditions="fresh"),
    ),
    "no condition": (specs(condition="none", generator={"output_bias": "marginals"}), SGD),
    "fresh conditions": (DROPPED, replace(SGD, fake_conditions="fresh")),
    "vectors, matching-aware": (
        specs(condition="real", dropout=0.5, generator={"output": "linear", "noise": "uniform"}),
        replace(MATCHING, learning_rate=0.05, min_learning_rate=0.02),
    ),
    "empty branches": (specs(generator={"condition_branch": (), "joint": ()}, discriminator={"input_branch": ()}), SGD),
    "alternating": (specs(dropout=0.5), replace(MATCHING, update="alternating")),
    "label embedding": (EMBEDDED, SGD),
    "batch-normalised D, minimax": (NORMALISED, replace(SGD, generator_loss="minimax")),
    "Adam": (specs(), ADAM),
    "tutorial": (EMBEDDED, replace(ADAM, update="alternating", fake_conditions="fresh")),
}
#: Those that ``cgan.fast.update`` makes itself.
FAST = [name for name in CASES if name.startswith(("paper", "no ", "fresh", "vectors", "empty"))]


def training_set(condition: str = "one_hot", dtype: torch.dtype = torch.float32) -> TrainingSet:
    """Return data in (0, 1) that depend on their conditions."""
    rng = torch.Generator().manual_seed(5)
    labels = torch.randint(CLASSES, (COUNT,), generator=rng)
    x = (torch.rand(COUNT, DATA_DIM, generator=rng) + torch.eye(CLASSES, DATA_DIM)[labels]) / 2
    y = {"none": None, "real": torch.randn(COUNT, 3, generator=rng).to(dtype)}.get(condition, labels)
    return TrainingSet(x.to(dtype), y)


def trainer(
    pair: tuple[GeneratorSpec, DiscriminatorSpec],
    settings: TrainingSettings = SGD,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 3,
    data: TrainingSet | None = None,
    **options: Any,
) -> Trainer:
    """Return a trainer of networks of ``dtype``, on ``training_set()`` unless ``data`` are given."""
    rng = torch.Generator().manual_seed(seed)
    data = data or training_set(pair[0].condition, dtype)
    g, d = Generator(pair[0], rng, data.x.mean(0)), Discriminator(pair[1], rng)
    return Trainer(g.to(dtype), d.to(dtype), data, settings, seed=seed, **options)


def assert_same_state(a: Trainer, b: Trainer, relative: float = 0.0, absolute: float = 0.0) -> None:
    """Compare weights, buffers, optimiser state, random state, loss sums and counters."""
    (ours, record), (theirs, expected) = a.state(), b.state()
    assert ours.keys() == theirs.keys() and record == expected
    for name, value in ours.items():
        tolerance = {"rtol": relative, "atol": absolute}
        if name == "loss_sums" and relative:
            tolerance = {"rtol": 1e-5, "atol": 1e-6}
        if name == "rng":
            assert torch.equal(value, theirs[name])
        else:
            torch.testing.assert_close(value, theirs[name], **tolerance, msg=name)


def assert_one_sentence(error: BaseException, *parts: str) -> None:
    """Check that the message is one line of reasonable length that holds each of ``parts``."""
    text = str(error)
    assert text and "\n" not in text and len(text) < 500, text
    for part in parts:
        assert part in text, text


@contextmanager
def refused(*parts: str) -> Iterator[None]:
    """Expect a ``CganError`` of one sentence that holds each of ``parts``."""
    with pytest.raises(CganError) as caught:
        yield
    assert_one_sentence(caught.value, *parts)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
