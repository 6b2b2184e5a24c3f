"""Small files: whole or not at all, and readable errors about what a stranger left in them."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from experiments import UsageError
from experiments.runs import cli, files
from experiments.runs.records import DatasetRecord, RunConfig, Session, Weights

CONFIG = RunConfig(
    experiment="mnist",
    preset="paper",
    dataset=DatasetRecord(name="mnist", embedded=False, checksum="abc"),
    seed=1,
    settings={"training": {"learning_rate": 0.1}},
    device="cpu",
    precision="float32",
    sessions=[Session(command="python", git_revision=None, started="2026", device="cpu", threads=1)],
)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    files.write_json(path, {"score": 1.0, "ß": "é"})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"score": math.nan})
    with pytest.raises(UsageError, match=r"r\.json: .*not valid text"):
        files.write_json(path, {"name": "\udcff"})
    assert files.read_record(path, dict[str, Any]) == {"score": 1.0, "ß": "é"}
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OSError) as caught:
        files.write_json(tmp_path / "x.json", {})
    assert cli.sentence(caught.value).startswith(f"{tmp_path / 'x.json'}: ")
    assert {path.name for path in tmp_path.iterdir()} == {"r.json", "x.json"}


@dataclass(frozen=True, kw_only=True)
class Outer:
    kind: Literal["mnist", "flickr-tags"]
    weights: list[Weights]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"kind": "mnist", "weights": [{"update": -3, "sha256": ""}]}', "field weights[0].update: int >= 0"),
        (b'{"kind": "mnist", "weights": [{"update": 1}]}', "weights[0]: Object missing required field sha256"),
        (b'{"kind": "nothing", "weights": []}', "'nothing', choose mnist or flickr-tags"),
        (b'{"weights": []}', "missing required field kind"),
        (b"[1]", "the file"),
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 200_000, "not valid JSON"),
        (b"[" + b"9" * 5000, "not valid JSON"),
        (b'{"a":"\\ud800x"}', "not valid JSON"),
        (b" " * (files.MAX_BYTES + 1), "larger than"),
    ],
    ids=range(11),
)
def test_errors_name_file_field_and_what_is_expected(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        files.read_record(path, Outer, fix="delete it")
    message = str(caught.value).replace("Expected ", "").replace("`", "")
    assert message.startswith(f"{path}: ") and message.endswith("; delete it") and "\n" not in message
    assert words in message
    with pytest.raises(UsageError, match="no such file; ask somebody"):
        files.read_record(tmp_path / "none.json", Outer, missing="ask somebody")


def test_where_nothing_can_be_written_is_said_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files.check_output(tmp_path / "new" / "folders" / "x.json", "--json")
    files.check_output(tmp_path / "file", "--json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for path, words in ((tmp_path, "that is a folder"), (tmp_path / "file" / "a" / "x.json", "file is a file")):
        with pytest.raises(UsageError, match=f"--json .*{words}"):
            files.check_output(path, "--json")


def test_a_killed_write_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """A process that writes without end is killed: the file is whole."""
    path = tmp_path / "r.json"
    program = (
        "import sys; from pathlib import Path; from experiments.runs.files import write_json\n"
        "i = 0\n"
        "while True: i += 1; write_json(Path(sys.argv[1]), {'i': [i] * 20_000})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    process.wait()
    values = files.read_record(path, dict[str, list[int]])["i"]
    assert len(values) == 20_000 and len(set(values)) == 1
