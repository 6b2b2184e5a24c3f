"""Spaces: what they refuse, that every value of every named one makes a preset, and what searchers propose."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from experiments import UsageError
from experiments.flickr_tags.presets import FLICKR_PRESETS
from experiments.mnist.presets import MNIST_PRESETS
from experiments.runs import cli
from experiments.search import __main__ as search
from experiments.search.space import (
    SPACES,
    Choice,
    LogUniform,
    Seen,
    Space,
    Uniform,
    checked,
    find_space,
    parse_space,
    propose,
    spell_space,
    with_values,
)
from tests.experiments import commands

PAPER = MNIST_PRESETS["paper"]()


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "nothing to choose"),
        ({"training.rate": 0.1}, "no field training.rate"),
        ({"learning_rate": 0.1}, "did you mean training.learning_rate"),
        ({"training": 0.1}, "no field training"),
        ({"training.learning_rate": "0.1"}, "wrong type"),
        ({"training.learning_rate": True}, "wrong type"),
        ({"training.learning_rate": {"choice": []}}, "no values"),
        ({"training.learning_rate": {"choice": [0.1, 0.1]}}, "twice"),
        ({"training.learning_rate": {"uniform": [0.2, 0.1]}}, "empty"),
        ({"training.learning_rate": {"uniform": [0.1, 0.1]}}, "empty"),
        ({"training.learning_rate": {"log_uniform": [0, 0.1]}}, "above 0"),
        ({"training.learning_rate": {"uniform": [0.1]}}, "no range and no choice"),
        ({"training.learning_rate": {"normal": [0, 1]}}, "no range and no choice"),
        ({"training.learning_rate": {"uniform": [-1.0, 0.1]}}, "must be positive"),
        ({"training.momentum_ramp": {"uniform": [0.5, 10]}}, "takes int"),
        ({"training.update": {"choice": ["simultaneous", "both"]}}, "'alternating'"),
        ({"discriminator.input_dropout": {"uniform": [0, 1]}}, "below 1"),
        ({"generator.joint": {"choice": ["relu:100", "tanh:100"]}}, "tanh:100"),
        ({"generator.joint": {"uniform": [1, 2]}}, "list of layers"),
        ({"generator.joint_init": {"choice": ["he"]}}, "initialisation 'he'"),
        ({"stopping.max_updates": 10}, "--epochs"),
        ({"estimate.images": 10}, "would not compare"),
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
        "generator.joint": {"choice": ["relu:100 relu:50,dropout=0.5", ["relu:10"]]},
        "generator.joint_init": "fan_in:1",
    }
    space = parse_space(record, PAPER, "space.json")
    assert space == {
        "training.learning_rate": LogUniform(0.01, 1.0),
        "training.momentum_ramp": Uniform(1000, 3000),
        "generator.joint": Choice(("relu:100 relu:50,dropout=0.5", "relu:10")),
        "generator.joint_init": Choice(("fan_in",)),
    }
    assert parse_space(json.loads(json.dumps(spell_space(space))), PAPER, "again") == space
    config = with_values(PAPER, {"generator.joint": "relu:100 relu:50,dropout=0.5", "training.momentum_ramp": 2000})
    assert [str(layer) for layer in config.generator.joint] == ["relu:100", "relu:50,dropout=0.5"]
    assert config.training.momentum_ramp == 2000 and config.discriminator == PAPER.discriminator


def test_every_named_space_is_one_of_its_experiments_paper_preset() -> None:
    for experiment, presets in (("mnist", MNIST_PRESETS), ("flickr-tags", FLICKR_PRESETS)):
        for name, space in SPACES[experiment].items():
            assert checked(space, presets["paper"](), name).keys() == space.keys()
            for number in range(20):
                with_values(presets["paper"](), propose(space, [], "random", 3, number))
    assert find_space("mnist", None, PAPER).keys() == SPACES["mnist"]["balance"].keys()


def test_random_proposals_fill_the_space_and_are_the_same_again() -> None:
    space: Space = {
        "a": Uniform(-1.0, 3.0),
        "b": LogUniform(0.001, 1000.0),
        "c": Choice(("x", "y", None)),
        "d": Uniform(1, 4),
    }
    drawn = [propose(space, [], "random", 7, number) for number in range(1, 3001)]
    assert drawn[:50] == [propose(space, [], "random", 7, number) for number in range(1, 51)]
    assert drawn[0] != propose(space, [], "random", 8, 1)
    a = [one["a"] for one in drawn]
    logs = [math.log10(one["b"]) for one in drawn]
    # Means of 3,000 uniform numbers: within four standard errors of the middle.
    assert abs(sum(a) / 3000 - 1) < 4 * 4 / math.sqrt(12 * 3000) and min(a) < -0.99 and max(a) > 2.99
    assert abs(sum(logs) / 3000) < 4 * 6 / math.sqrt(12 * 3000) and min(logs) < -2.98 and max(logs) > 2.98
    for name, values in (("c", ("x", "y", None)), ("d", (1, 2, 3, 4))):
        count = Counter(one[name] for one in drawn)
        assert set(count) == set(values) and all(abs(n - 3000 / len(values)) < 150 for n in count.values())


def test_the_model_proposes_what_did_well_and_shuns_what_was_lost() -> None:
    pytest.importorskip("optuna", reason="needs the extra: pip install -e '.[cluster]'")
    space: Space = {"rate": LogUniform(0.001, 1.0), "kind": Choice(("good", "bad", "lost")), "units": Uniform(1, 9)}

    def played(number: int) -> Seen:
        values = propose(space, [], "random", 1, number)
        if values["kind"] == "lost":
            return Seen(values, [], "diverged")
        score = -abs(math.log10(values["rate"]) + 2) - (values["kind"] == "bad")
        return Seen(values, [-9.0, score], "finished" if score > -1 else "stopped")

    seen = [played(number) for number in range(1, 41)]
    seen.append(Seen(propose(space, [], "random", 1, 99), [], "waiting"))
    asked = [propose(space, seen, "tpe", 1, number) for number in range(42, 72)]
    assert asked[:5] == [propose(space, seen, "tpe", 1, number) for number in range(42, 47)]
    good = sum(one["kind"] == "good" for one in asked)
    assert good >= 20 and sum(0.002 < one["rate"] < 0.05 for one in asked) >= 20
    assert all(1 <= one["units"] <= 9 and isinstance(one["units"], int) for one in asked)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mnist", "nothing"), "no preset of mnist"),
        (("mnist", "missing.json"), "missing.json: no such file"),
        (("mnist", "paper", "--space", "wide"), "balance"),
        (("mnist", "paper", "--space", "missing.json"), "missing.json"),
        (("mnist", "gan"), "condition is none"),
        (("mnist", "paper", "--epochs", "52"), "multiples"),
        (("mnist", "paper", "--grace-epochs", "100"), "at most"),
        (("mnist", "paper", "--keep", "0"), "above 0"),
        (("mnist", "paper", "--trials", "0"), "at least 1"),
        (("flickr-tags", "paper", "--space", "small"), "optimiser"),
    ],
)
def test_mistakes_end_in_one_sentence_before_anything_starts(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(search.main, [*arguments, "--runs", str(tmp_path)]) == 2
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and words in said[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "word"), [(None, "no such file; give a space's file"), ("", "so correct it"), ('{"tr', "so correct it")]
)
def test_a_space_that_is_missing_or_cut_says_what_a_space_is(content: str | None, word: str, tmp_path: Path) -> None:
    space = tmp_path / "space.json"
    if content is not None:
        space.write_text(content)
    done = commands.run("search", "mnist", "--space", space, "--runs", tmp_path / "runs")
    commands.assert_one_sentence(done, str(space), word)


def test_without_the_extra_one_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    # A process whose imports find neither package, as in an environment without the extra.
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('ray', 'optuna') else find(name, *a)\n"
        "from experiments.runs import cli\n"
        "from experiments.search import __main__ as search\n"
        f"sys.exit(cli.run(search.main, ['mnist', '--fast', '--runs', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=commands.ROOT, capture_output=True, text=True, timeout=60)
    commands.assert_one_sentence(done, "ray and optuna", "pip install -e '.[cluster]'")
