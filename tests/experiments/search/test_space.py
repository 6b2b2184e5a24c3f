"""Spaces: what they refuse, that every value of every named one makes a preset, and what searchers propose."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import UsageError
from experiments.flickr_tags.presets import FLICKR_PRESETS
from experiments.mnist.presets import MNIST_PRESETS
from experiments.search import __main__ as search
from experiments.search.trials import Trial, TrialRecord
from tests.experiments import commands
from tests.experiments.conftest import Call

pytest.importorskip("optuna", reason="needs the extra: pip install -e '.[cluster]'")
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.search.space import NAMED, find_space, parse_space, propose, with_values

PAPER, FLICKR = MNIST_PRESETS["paper"](), FLICKR_PRESETS["paper"]()


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "nothing to choose"),
        ({"learning_rate": 0.1}, "did you mean training.learning_rate"),
        ({"training.learning_rate": True}, "Expected float"),
        ({"training.learning_rate": {"choice": []}}, "no range and no choice"),
        ({"training.learning_rate": {"uniform": [0.2, 0.1]}}, "low"),
        ({"training.learning_rate": {"log_uniform": [0, 0.1]}}, "must be positive"),
        ({"training.momentum_ramp": {"uniform": [0.5, 10]}}, "Expected int"),
        ({"training.momentum_ramp": {"uniform": [0, 10**400]}}, "numbers up to 1e+12"),
        ({"training.momentum_ramp": {"choice": [1, 10**400]}}, "numbers up to 1e+12"),
        ({"training.update": {"choice": ["simultaneous", "both"]}}, "alternating"),
        ({"discriminator.input_dropout": {"uniform": [0, 1]}}, "below 1"),
        ({"generator.joint": {"choice": ["relu:100", "tanh:100"]}}, "tanh:100"),
        ({"generator.joint": {"uniform": [1, 2]}}, "for layers"),
        ({"stopping.max_updates": 10}, "--epochs"),
        ({"sampling.dropout": True}, "no score would change"),
    ],
)
def test_what_is_no_space_is_refused_in_a_sentence_that_names_the_field(record: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_space(record, PAPER, "space.json")
    assert words in str(raised.value) and str(raised.value).startswith("space.json: ")
    assert "\n" not in str(raised.value) and all(name in str(raised.value) for name in record)


def test_a_space_is_read_with_names_as_the_command_line_spells_them() -> None:
    record = {
        "training.learning-rate": {"log_uniform": [0.01, 1]},
        "training.momentum_ramp": {"uniform": [1000, 3000]},
        "generator.joint": {"choice": ["relu:100 relu:50,dropout=0.5", "relu:10"]},
        "generator.joint_init": "fan_in:1",
    }
    assert parse_space(record, PAPER, "space.json") == {
        "training.learning_rate": FloatDistribution(0.01, 1.0, log=True),
        "training.momentum_ramp": IntDistribution(1000, 3000),
        "generator.joint": CategoricalDistribution(("relu:100 relu:50,dropout=0.5", "relu:10")),
        "generator.joint_init": CategoricalDistribution(("fan_in:1",)),
    }
    config = with_values(PAPER, {"generator.joint": "relu:100 relu:50,dropout=0.5", "training.momentum_ramp": 2000})
    assert [str(layer) for layer in config.generator.joint] == ["relu:100", "relu:50,dropout=0.5"]
    assert config.training.momentum_ramp == 2000


def test_every_value_of_a_named_space_makes_a_preset() -> None:
    for experiment, config in (("mnist", PAPER), ("flickr-tags", FLICKR)):
        for name in json.loads(NAMED.read_text())[experiment]:
            space = parse_space(find_space(experiment, name)[0], config, name)
            for number in range(20):
                with_values(config, propose(space, [], "random", 3, number))
    assert find_space("mnist", None)[0] == find_space("mnist", "balance")[0]


def test_the_model_proposes_what_did_well_shuns_what_was_lost_and_repeats_itself() -> None:
    space = {
        "rate": FloatDistribution(0.001, 1.0, log=True),
        "kind": CategoricalDistribution(("good", "bad", "lost")),
        "units": IntDistribution(1, 9),
    }

    def tried(number: int) -> Trial:
        values = propose(space, [], "random", 1, number)
        score = -abs(math.log10(values["rate"]) + 2) - (values["kind"] == "bad")
        state: Any = "diverged" if values["kind"] == "lost" else "finished" if score > -1 else "stopped"
        rows = [] if state == "diverged" else [{"valid_log_likelihood": each} for each in (-9.0, score)]
        return Trial(Path(), TrialRecord(number, values, state), rows)

    seen = [tried(number) for number in range(1, 41)]
    seen.append(Trial(Path(), TrialRecord(41, tried(99).record.values)))
    asked = [propose(space, seen, "tpe", 1, number) for number in range(42, 72)]
    assert sum(one["kind"] == "good" for one in asked) >= 20
    assert sum(0.002 < one["rate"] < 0.05 for one in asked) >= 20
    assert all(1 <= one["units"] <= 9 and isinstance(one["units"], int) for one in asked)
    assert asked[:3] == [propose(space, seen, "tpe", 1, number) for number in (42, 43, 44)]
    assert propose(space, [], "random", 1, 1) != propose(space, [], "random", 2, 1)


@pytest.mark.parametrize("values", [{}, {"b": 0.5}, {"a": 7.0}, {"a": "x"}, {"a": 10**400}, {"a": 0.5}])
def test_a_trial_that_does_not_fit_is_named(values: dict[str, Any]) -> None:
    """Of another space; the last one finished without an estimate."""
    rows = [] if values == {"a": 0.5} else [{"valid_log_likelihood": 1.0}]
    trial = Trial(Path("trials/0001"), TrialRecord(1, values, "finished"), rows)
    with pytest.raises(UsageError, match="trials/0001: no trial of this search"):
        propose({"a": FloatDistribution(0, 1)}, [trial], "tpe", 1, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mnist", "nothing"), "preset of mnist"),
        (("mnist", "missing.json"), "missing.json: no such file"),
        (("mnist", "paper", "--space", "wide"), "balance"),
        (("mnist", "paper", "--space", __file__.replace(".py", ".json")), "balance"),
        (("mnist", "paper", "--epochs", "52"), "multiples"),
        (("mnist", "paper", "--grace-epochs", "100"), "at most"),
        (("mnist", "paper", "--keep", "0"), "above 0"),
        (("mnist", "--fast"), "ray and optuna"),
    ],
)
def test_mistakes_end_in_one_sentence_before_anything_starts(
    arguments: tuple[str, ...], words: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words == "ray and optuna":
        monkeypatch.setitem(sys.modules, "ray", None)
        monkeypatch.setitem(sys.modules, "optuna", None)
    commands.assert_one_sentence(call(search.main, *arguments, "--runs", tmp_path), words)
    assert not list(tmp_path.iterdir())
