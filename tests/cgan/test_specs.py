"""Specs and settings: every spelling reads back as it was, and every mistake gets one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cgan import CganError
from cgan.settings import StoppingSettings, TrainingSettings
from cgan.specs import GeneratorSpec, Init, Layer
from tests.cgan.nets import CASES, refused, specs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relu:1200", Layer("relu", 1200)),
        ("maxout:240x5", Layer("maxout", 240, 5)),
        ("leaky_relu:512,batch_norm,dropout=0.4", Layer("leaky_relu", 512, 1, True, 0.4)),
        ("linear:3, dropout=.25 ,batch_norm", Layer("linear", 3, 1, True, 0.25)),
        ("uniform:0.05", Init("uniform", 0.05)),
        ("normal:2e-2", Init("normal", 0.02)),
        ("fan_in", Init("fan_in", 1.0)),
        (" torch:.5 ", Init("torch", 0.5)),
    ],
)
def test_layers_and_initialisations_are_spelt_as_documented(text: str, expected: Layer | Init) -> None:
    assert type(expected).parse(text) == expected


BAD_LAYERS = ["", "relu", "relu:", "relu:0", "relu:-3", "relu:12.5", "relu:10x2", "relu:10\nrelu:10", "RELU:10"]
BAD_LAYERS += ["tanh:10", "maxout:240", "maxout:240x1", "maxout:0x5", "relu:10,", "relu:10,norm", "relu:10;batch_norm"]
BAD_LAYERS += [f"relu:10,dropout{value}" for value in ("", "=", "=1", "=-0.1", "=1e1")]
BAD_INITS = ["", "uniform", "normal:", "uniform:0", "uniform:-1", "uniform:nan", "uniform:inf", "uniform:1e999"]
BAD_INITS += ["fan_in:", "fan_in:0", "xavier:1", "normal:0.02x", "normal:1,2"]


def test_malformed_layers_and_initialisations_are_refused() -> None:
    for kind, word, texts in ((Layer, "layer", BAD_LAYERS), (Init, "initialisation", BAD_INITS)):
        for text in texts:
            with refused(word):
                kind.parse(text)


@pytest.mark.parametrize("name", CASES)
def test_specs_survive_json(name: str) -> None:
    for spec in CASES[name][0]:
        assert type(spec).from_dict(json.loads(json.dumps(spec.as_dict()))) == spec
        for number in (5e-324, 0.1, 1 / 3, 1 - 2**-53):
            layers = (Layer("maxout", 3, 2, True, number), Layer("relu", 5, dropout=number))
            odd = replace(spec, joint=layers, joint_init=Init("fan_in", number), input_dropout=number)
            assert type(odd).from_dict(json.loads(json.dumps(odd.as_dict()))) == odd
            assert odd.layers == spec.input_branch + spec.condition_branch + layers


@pytest.mark.parametrize("joint", ["relu:64", ("relu:64",), ["relu:64"], Layer("relu", 64), (Layer("relu", 64),)])
def test_layers_and_initialisations_are_taken_as_text_too(joint: Any) -> None:
    spec = GeneratorSpec(3, joint=joint, joint_init="normal:0.02")
    assert spec == GeneratorSpec(3, joint=(Layer("relu", 64),), joint_init=Init("normal", 0.02))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_dim": 0}, ("input_dim", "0")),
        ({"condition_dim": 0}, ("condition_dim",)),
        ({"condition": "none"}, ("condition is none",)),
        ({"condition": "embedding"}, ("embedding_dim",)),
        ({"embedding_dim": 3}, ("embedding_dim",)),
        ({"condition": "label"}, ("condition", "'label'")),
        ({"input_dropout": 1.0}, ("input_dropout", "1.0")),
        ({"condition_dropout": float("nan")}, ("condition_dropout", "nan")),
        ({"output_dim": 0}, ("output_dim",)),
        ({"output": "softmax"}, ("output", "'softmax'")),
        ({"noise": "gaussian"}, ("noise", "'gaussian'")),
        ({"joint": ["relu"]}, ("layer 'relu'",)),
        ({"joint": 5}, ("joint: layer 5", "such as")),
        ({"joint": ["relu:3", 5]}, ("joint: layer 5", "such as")),
        ({"joint_init": 0.05}, ("joint_init: initialisation 0.05", "uniform:0.05")),
        ({"input_dim": "100"}, ("GeneratorSpec", "wrong type")),
        ({"colour": "red"}, ("colour",)),
        ({"joint": ["relu:100000000000"]}, ("joint", "GB")),
        ({"output_dim": 10**10}, ("output_dim", "GB")),
    ],
)
def test_a_malformed_record_is_refused(change: dict[str, Any], words: tuple[str, ...]) -> None:
    record = specs()[0].as_dict() | change
    with pytest.raises(CganError) as caught:
        GeneratorSpec.from_dict(record)
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text
    (name,) = change
    with pytest.raises(CganError, match=name):  # A record that lacks a field, or has one too many.
        GeneratorSpec.from_dict({key: value for key, value in record.items() if key != name or name == "colour"})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Layer("tanh", 3), ("activation", "'tanh'", "relu")),
        (lambda: Init("normal", float("nan")), ("positive",)),
        (lambda: TrainingSettings(batch_size=0), ("batch_size is 0",)),
        (lambda: TrainingSettings(learning_rate=float("nan")), ("learning_rate is nan",)),
        (lambda: TrainingSettings(learning_rate=1e300), ("learning_rate is 1e+300", "at most 1e30")),
        (lambda: TrainingSettings(learning_rate=1e-7), ("learning_rate is 1e-07", "min_learning_rate 1e-06")),
        (lambda: TrainingSettings(decay=0.9), ("decay is 0.9",)),
        (lambda: TrainingSettings(momentum_start=1.0), ("momentum_start is 1.0",)),
        (lambda: TrainingSettings(momentum_ramp=-1), ("momentum_ramp is -1",)),
        (lambda: TrainingSettings(adam_beta2=1.5), ("adam_beta2 is 1.5",)),
        (lambda: TrainingSettings(generator_loss="hinge"), ("generator_loss is 'hinge'", "minimax")),
        (lambda: StoppingSettings(max_updates=0), ("max_updates is 0",)),
        (lambda: StoppingSettings(patience=-1), ("patience is -1",)),
        (lambda: StoppingSettings(keep="first"), ("keep is 'first'",)),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, words: tuple[str, ...]) -> None:
    with refused(*words):
        make()
