"""The run folder's files: whole or not at all, and readable errors."""

from __future__ import annotations

import csv
import math
import os
import subprocess
from pathlib import Path

import pytest

from cgan import CganError
from experiments import UsageError
from experiments.mnist import presets
from experiments.mnist.sample import parse_labels
from experiments.runs import cli
from experiments.runs import folder as runs


def test_json_comes_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    record = {"a": [1, 2.5, None], "ß": "é"}
    runs.write_json(tmp_path / "r.json", record)
    assert runs.read_json(tmp_path / "r.json") == record
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_numbers_that_json_does_not_know_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    runs.write_json(path, {"score": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        runs.write_json(path, {"score": math.nan})
    assert runs.read_json(path) == {"score": 1.0}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 200_000, b"[" + b"9" * 5000])
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"result\.json"):
        runs.read_json(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"experiment": "flickr-tags"}, "not of a run of experiments.mnist"),
        ({"dataset": None}, "dataset is missing or damaged"),
        ({"dataset": {"name": "mnist"}}, "dataset is missing or damaged"),
        ({"settings": [1]}, "settings is missing or damaged"),
        ({"settings": {}}, "not the settings of an MNIST run"),
        ({"settings": presets.paper().as_dict() | {"generator": None}}, "GeneratorSpec"),
    ],
)
def test_a_config_of_another_kind_is_named(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    whole = {"experiment": "mnist", "dataset": {"name": "mnist", "embedded": False}}
    whole["settings"] = presets.paper().as_dict()
    needed = {"dataset": ("name", "embedded")}

    def read() -> object:
        return runs.read_config(tmp_path, "experiments.mnist", needed, presets.MnistConfig.from_dict)

    runs.write_json(tmp_path / "config.json", whole)
    assert read() == (whole, presets.paper())
    runs.write_json(tmp_path / "config.json", whole | changes)
    with pytest.raises(UsageError, match=rf"config\.json: .*{words}"):
        read()


def test_where_nothing_can_be_written_is_told_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    runs.check_output(tmp_path / "new" / "folders" / "x.json", "--json")
    runs.check_output(tmp_path / "file", "--json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for path, words in ((tmp_path, "that is a folder"), (tmp_path / "file" / "a" / "x.json", "file is a file")):
        with pytest.raises(UsageError, match=f"--json .*{words}"):
            runs.check_output(path, "--json")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_rights_is_told_beforehand(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="locked"):
        runs.check_output(tmp_path / "locked" / "x.json", "--json")


def test_a_failed_write_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OSError) as caught:
        runs.write_json(tmp_path / "x.json", {})
    assert cli.sentence(caught.value).startswith(f"{tmp_path / 'x.json'}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_failed_rename_names_the_place_and_not_the_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "temporary").write_text("")
    with pytest.raises(OSError) as caught:
        os.replace(tmp_path / "temporary", tmp_path / "there")
    assert cli.sentence(caught.value).startswith(f"{tmp_path / 'there'}: ")


def test_metrics_are_a_table(tmp_path: Path) -> None:
    rows = [{"update": 1, "score": -2.5, "dataset": "digits (embedded)"}, {"update": 2, "score": 3.0, "dataset": "a,b"}]
    runs.write_metrics(tmp_path / "metrics.csv", rows)
    with open(tmp_path / "metrics.csv", newline="") as file:
        assert [{k: str(v) for k, v in row.items()} for row in rows] == list(csv.DictReader(file))


def test_the_revision_is_the_checkouts() -> None:
    here = Path(runs.__file__).parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True).stdout.strip()
    assert (runs.git_revision() or "").removesuffix("+changes") == head


@pytest.mark.parametrize("name", presets.MNIST_PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = presets.MNIST_PRESETS[name]()
    assert presets.MnistConfig.from_dict(config.as_dict()) == config


def test_the_papers_table_stands_in_its_preset() -> None:
    """Section 4.1, figure by figure."""
    config = presets.paper()
    g, d, t = config.generator, config.discriminator, config.training

    def shape(layers: tuple[presets.Layer, ...]) -> list[tuple[str, int, int]]:
        return [(layer.activation, layer.units, layer.pieces) for layer in layers]

    assert (g.input_dim, g.output_dim, g.output, g.condition, g.condition_dim) == (100, 784, "sigmoid", "one_hot", 10)
    assert shape(g.layers) == [("relu", 200, 1), ("relu", 1000, 1), ("relu", 1200, 1)]
    assert shape(d.layers) == [("maxout", 240, 5), ("maxout", 50, 5), ("maxout", 240, 4)]
    assert {layer.dropout for layer in g.layers + d.layers} == {0.5}
    assert (t.batch_size, t.learning_rate, t.decay, t.min_learning_rate) == (100, 0.1, 1.00004, 1e-6)
    assert (t.momentum_start, t.momentum_end, t.optimiser) == (0.5, 0.7, "sgd")


@pytest.mark.parametrize("broken", [{}, {"generator": {}}, {"generator": 3}])
def test_settings_of_another_form_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises((UsageError, CganError), match=r"settings|fields|spec"):
        presets.MnistConfig.from_dict(broken)


def test_labels_in_words() -> None:
    assert parse_labels("all", 3) == [0, 1, 2]
    assert parse_labels("3, 0-1,9", 10) == [3, 0, 1, 9]
    assert parse_labels("all", None) == []
    for text, classes in (("3-1", 10), ("10", 10), ("-1", 10), ("", 10), ("0-9", None)):
        with pytest.raises(UsageError):
            parse_labels(text, classes)
