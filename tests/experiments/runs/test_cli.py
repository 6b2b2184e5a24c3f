"""Command lines: errors as sentences, names, presets as files, commands that can be typed as printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from experiments import UsageError
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig, paper
from experiments.runs import cli
from tests.experiments import commands


@dataclass(frozen=True)
class Command(cli.Options):
    config: Annotated[MnistConfig, tyro.conf.arg(name="")]
    preset: tyro.conf.Suppress[str] = "paper"


def parse(*argv: str) -> Command:
    return cli.parse_command(Command, MNIST_PRESETS, argv, "test")


def test_options_that_were_given_are_known() -> None:
    plain = parse("paper")
    assert plain.given == frozenset() and plain.fast and plain.config == paper()
    some = parse("gan", "--stopping.max-updates", "5", "--training.learning_rate=0.2", "--no-fast", "--resume")
    assert some.given == {"stopping.max_updates", "training.learning_rate", "fast", "resume"}
    assert not some.fast and some.preset_settings == MNIST_PRESETS["gan"]().as_dict()


HELP = {
    "mnist --help": tuple(MNIST_PRESETS),
    "flickr_tags paper --help-all": ("--features.scaling", "--decoding.samples", "maxout:1000x3,dropout=0.5"),
    "word_vectors train --help": ("--min-count",),
    "parzen --help": ("mnist-train", "mnist-kmeans", "START:STOP:COUNT", ".safetensors", "MiB", "nats"),
    "sample --help": ("--labels", "--per-label"),
    "tag --help": ("--json", "--top"),
    "demo --help": ("--port", "--no-open"),
    "reproduce --help": ("--fast", "--dry-run"),
}


def test_help_names_what_there_is_and_loads_nothing_slow() -> None:
    program = (
        "import runpy, sys\n"
        "for line in sys.argv[1:]:\n"
        "    sys.argv = [line, *line.split()[1:]]\n"
        "    try: runpy.run_module(f'experiments.{line.split()[0]}', run_name='__main__', alter_sys=True)\n"
        "    except SystemExit as end: assert not end.code\n"
        "    print('end of help')\n"
        "print({'torch', 'gensim', 'scipy', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *HELP], cwd=commands.ROOT, capture_output=True, text=True)
    *helps, rest = done.stdout.split("end of help")
    assert rest.strip() == "set()", done
    for shown, (line, words) in zip(helps, HELP.items(), strict=True):
        assert all(word in shown for word in words), line


def test_help_is_short_and_help_all_has_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*argv: str) -> str:
        with pytest.raises(SystemExit) as end:
            parse(*argv)
        assert not end.value.code
        return capsys.readouterr().out

    short, whole = shown("paper", "--seed", "3", "--training.decay", "2", "--help"), shown("paper", "--help-all")
    assert len(short.splitlines()) < 60 and "--training.decay" not in short and "--seed" in short
    assert set(re.findall(r"--[\w.-]+", short)) - {"--help-all"} <= set(re.findall(r"--[\w.-]+", whole))
    for section, values in paper().as_dict().items():
        assert all(f"--{section}.{name.replace('_', '-')}" in whole for name in values)


def test_a_preset_goes_through_its_file(tmp_path: Path) -> None:
    config = replace(paper(), training=replace(paper().training, learning_rate=0.3))
    cli.write_preset(tmp_path / "best.json", "wide", config, "Found by a search.", score=3)
    command = parse(str(tmp_path / "best.json"), "--seed", "4")
    assert (command.config, command.preset, command.seed) == (config, "wide", 4)
    assert command.preset_settings == config.as_dict()
    for name, words in (("paper", "taken"), ("..", "plain name"), ("a\nb", "plain name"), ("--x", "taken")):
        cli.write_preset(tmp_path / "bad.json", name, config, "")
        with pytest.raises(UsageError, match=rf"bad\.json.*{words}"):
            parse(str(tmp_path / "bad.json"))
    (tmp_path / "bad.json").write_text('{"name": "x", "settings": {"generator": 3}}')
    with pytest.raises(UsageError, match=r"bad\.json: "):
        parse(str(tmp_path / "bad.json"))
    with pytest.raises(UsageError, match=r"--seed 9{30}: .* 64 bits"):
        parse("paper", "--seed", "9" * 30)
    with pytest.raises(UsageError, match="no such file; give a preset's name"):
        parse(str(tmp_path / "none.json"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\nb", "a\x1b[2J", "\udcff"])
def test_names_that_are_no_folder_of_their_own_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        cli.check_name(name)


def test_a_printed_command_runs_where_it_was_printed(tmp_path: Path) -> None:
    """With the interpreter's folder on the PATH, below the current folder, and elsewhere."""
    program = "from experiments.runs.cli import printed_command as p; print(p('experiments.sample', 'a b', '--help'))"
    above = Path(sys.executable).parents[2]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for cwd, changes, start in ((above, {}, ""), (tmp_path, {"PATH": path}, "python -m")):
        environment = commands.environment(**{"PATH": "/usr/bin:/bin", **changes})
        printed = subprocess.run(
            [sys.executable, "-c", program], cwd=cwd, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        assert printed.startswith(start) and shlex.split(printed)[-2:] == ["a b", "--help"]
        done = subprocess.run(printed, shell=True, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and "python -m experiments.sample" in done.stdout, (printed, done.stderr)


def raising(error: BaseException) -> Callable[[object], int]:
    def main(argv: object) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UsageError("two\nlines"), 2, "error: two lines\n"),
        (KeyboardInterrupt(), 130, "\nstopped\n"),
        (KeyboardInterrupt("saved"), 130, "\nsaved\n"),
    ],
)
def test_how_commands_end(error: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (cli.run(raising(error), []), capsys.readouterr().err) == (status, words)


def test_an_endless_file_name_is_shortened() -> None:
    text = cli.sentence(FileNotFoundError(2, "No such file", "a\n" * 9_999))
    assert len(text) <= 1_000 and "\n" not in text and text.endswith(" a : No such file")


def test_odd_standard_output() -> None:
    """Characters that the terminal cannot show, then no standard output at all."""
    program = (
        "import sys; from experiments.runs.cli import run\n"
        "def main(argv):\n    print('\\udcff — ½')\n    sys.stdout = None\n"
        "sys.exit(run(main))\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_ends_a_command_quietly() -> None:
    program = "from experiments.runs.cli import run; run(lambda argv: print('line\\n' * 1_000_000))"
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} | head -1", shell=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("line\n", "")
