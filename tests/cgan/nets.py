"""Small nets, data and settings that several test modules share, and the form every error must have."""

from __future__ import annotations

from typing import Any

import torch

from cgan.networks import Discriminator, Generator
from cgan.settings import TrainingSettings
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Init, Layer
from cgan.trainer import Examples, Trainer

CLASSES, DATA_DIM, COUNT = 4, 5, 13


def layers(*texts: str) -> tuple[Layer, ...]:
    return tuple(Layer.parse(text) for text in texts)


def specs(
    *,
    condition: str = "one_hot",
    dropout: float = 0.0,
    generator: dict[str, Any] | None = None,
    discriminator: dict[str, Any] | None = None,
) -> tuple[GeneratorSpec, DiscriminatorSpec]:
    """The paper's shape in small: ReLU branches in G, maxout branches in D; any field can be replaced."""
    width = {"none": 0, "real": 3}.get(condition, CLASSES)
    shared: dict[str, Any] = {
        "condition": condition,
        "condition_dim": width,
        "embedding_dim": 2 if condition == "embedding" else 0,
        **{f"{part}_init": Init("fan_in") for part in ("input", "condition", "joint", "output")},
    }
    off = f",dropout={dropout}" if dropout else ""
    g = {
        "input_dim": 3,
        "output_dim": DATA_DIM,
        "input_branch": layers(f"relu:4{off}"),
        "joint": layers(f"relu:6{off}"),
    }
    d = {"input_dim": DATA_DIM, "input_branch": layers(f"maxout:4x3{off}"), "joint": layers(f"maxout:5x2{off}")}
    if width:
        g["condition_branch"], d["condition_branch"] = layers(f"relu:3{off}"), layers(f"maxout:3x2{off}")
    return (
        GeneratorSpec(**{**shared, **g, **(generator or {})}),
        DiscriminatorSpec(**{**shared, **d, **(discriminator or {})}),
    )


def examples(condition: str = "one_hot", dtype: torch.dtype = torch.float32) -> Examples:
    """Data in (0, 1) that depend on their conditions."""
    rng = torch.Generator().manual_seed(5)
    labels = torch.randint(CLASSES, (COUNT,), generator=rng)
    x = (torch.rand(COUNT, DATA_DIM, generator=rng) + torch.eye(CLASSES, DATA_DIM)[labels]) / 2
    y = {"none": None, "real": torch.randn(COUNT, 3, generator=rng).to(dtype)}.get(condition, labels)
    return Examples(x.to(dtype), y)


def trainer(
    pair: tuple[GeneratorSpec, DiscriminatorSpec],
    settings: TrainingSettings,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 3,
    data: Examples | None = None,
    **options: Any,
) -> Trainer:
    """A trainer of nets of ``dtype``, on ``examples`` unless ``data`` are given."""
    rng = torch.Generator().manual_seed(seed)
    data = data or examples(pair[0].condition, dtype)
    g, d = Generator(pair[0], rng, data.x.mean(0)), Discriminator(pair[1], rng)
    return Trainer(g.to(dtype), d.to(dtype), data, settings, seed=seed, **options)


def assert_one_sentence(error: BaseException, *words: str) -> None:
    """One line of reasonable length that holds every one of ``words``."""
    text = str(error)
    assert text and "\n" not in text and len(text) < 500, text
    for word in words:
        assert word in text, text
