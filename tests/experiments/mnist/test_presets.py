"""Presets: the paper's figures stand in them, and they survive their JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cgan import CganError
from cgan.specs import Layer
from experiments import UsageError
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig, gan, on_digits, paper


@pytest.mark.parametrize("name", MNIST_PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = MNIST_PRESETS[name]()
    assert MnistConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_the_papers_settings_stand_in_its_preset() -> None:
    """Section 4.1, figure by figure."""
    config = paper()
    g, d, t = config.generator, config.discriminator, config.training

    def shape(layers: tuple[Layer, ...]) -> list[tuple[str, int, int]]:
        return [(layer.activation, layer.units, layer.pieces) for layer in layers]

    assert (g.input_dim, g.output_dim, g.output, g.condition, g.condition_dim) == (100, 784, "sigmoid", "one_hot", 10)
    assert shape(g.layers) == [("relu", 200, 1), ("relu", 1000, 1), ("relu", 1200, 1)]
    assert shape(d.layers) == [("maxout", 240, 5), ("maxout", 50, 5), ("maxout", 240, 4)]
    assert {layer.dropout for layer in g.layers + d.layers} == {0.5}
    assert (t.batch_size, t.learning_rate, t.decay, t.min_learning_rate) == (100, 0.1, 1.00004, 1e-6)
    assert (t.momentum_start, t.momentum_end, t.optimiser) == (0.5, 0.7, "sgd")


def test_digits_have_settings_of_their_own_unless_given() -> None:
    config, mnist = on_digits(paper()), paper()
    assert config.stopping.max_updates < mnist.stopping.max_updates and config.generator == mnist.generator
    assert [layer.units for layer in config.discriminator.layers] == [
        layer.units for layer in mnist.discriminator.layers
    ]
    assert config.discriminator.condition_init != mnist.discriminator.condition_init
    given = on_digits(paper(), {"stopping.max_updates", "discriminator.joint"})
    assert given.stopping.max_updates == mnist.stopping.max_updates
    assert given.discriminator.joint == mnist.discriminator.joint
    assert on_digits(config) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"generator": {}},
        {"training": {"learning_rate": "quick"}},
        {"stopping": None},
        {"estimate": {"images": 0}},
        {"sampling": {"dropout_rate": 0.1}},
        {"sampling": {"dropout": True}, "generator": gan().generator.as_dict()},
    ],
)
def test_settings_of_another_form_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((UsageError, CganError)) as caught:
        MnistConfig.from_dict(paper().as_dict() | changes)
    assert "\n" not in str(caught.value)
