"""Command lines: errors as sentences, names, presets as files, commands that can be typed as printed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from experiments import UsageError
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig, paper
from experiments.runs import cli
from experiments.runs.files import flat, write_json
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
    "mnist paper --seed 3 --help": ("--seed", "--help-all"),
    "mnist paper --help-all": tuple(f"--{name.replace('_', '-')}" for name in flat(paper().as_dict())),
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
        assert "--training.decay" not in shown or "--help-all" in line, "the short help has no settings"


def test_a_preset_goes_through_its_file(tmp_path: Path) -> None:
    config, file = replace(paper(), training=replace(paper().training, learning_rate=0.3)), tmp_path / "best.json"
    write_json(file, {"name": "wide", "about": "Found.", "score": 3, "settings": config.as_dict()})
    command = parse(str(file), "--seed", "4")
    assert (command.config, command.preset, command.seed) == (config, "wide", 4)
    assert command.preset_settings == config.as_dict()
    for name, words in (("paper", "taken"), ("..", "plain name"), ("a\nb", "plain name"), ("--x", "taken")):
        write_json(file, {"name": name, "settings": config.as_dict()})
        with pytest.raises(UsageError, match=rf"best\.json.*{words}"):
            parse(str(file))
    write_json(file, {"name": "x", "settings": {"generator": 3}})
    with pytest.raises(UsageError, match=r"best\.json: "):
        parse(str(file))
    with pytest.raises(UsageError, match=r"--seed 9{30}: .* 64 bits"):
        parse("paper", "--seed", "9" * 30)
    with pytest.raises(UsageError, match="no such file; give a preset's name"):
        parse(str(tmp_path / "none.json"))


def test_names_that_are_no_folder_of_their_own_are_refused() -> None:
    for name in ("", ".", "..", "a/b", "/a", "a\nb", "a\x1b[2J", "\udcff"):
        with pytest.raises(UsageError, match="--name"):
            cli.check_name(name)


def test_a_printed_command_runs_where_it_was_printed(tmp_path: Path) -> None:
    """With the interpreter's folder on the PATH, below the current folder, and elsewhere."""
    program = "from experiments.runs.cli import printed_command as p; print(p('experiments.sample', 'a b', '--help'))"
    above = Path(sys.executable).parents[2]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for cwd, changes, start in ((above, {}, ""), (tmp_path, {"PATH": path}, "python -m")):
        options = {"cwd": cwd, "env": commands.environment(**{"PATH": "/usr/bin:/bin", **changes})}
        options |= {"capture_output": True, "text": True, "check": True}
        printed = subprocess.run([sys.executable, "-c", program], **options).stdout.strip()
        assert printed.startswith(start) and shlex.split(printed)[-2:] == ["a b", "--help"]
        assert "python -m experiments.sample" in subprocess.run(printed, shell=True, **options).stdout


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UsageError("two\nlines"), 2, "error: two lines\n"),
        (KeyboardInterrupt(), 130, "\nstopped\n"),
        (KeyboardInterrupt("saved"), 130, "\nsaved\n"),
    ],
)
def test_how_commands_end(error: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: object) -> int:
        raise error

    assert (cli.run(main, []), capsys.readouterr().err) == (status, words)


def test_an_endless_file_name_is_shortened() -> None:
    text = cli.sentence(FileNotFoundError(2, "No such file", "a\n" * 9_999))
    assert len(text) <= 1_000 and "\n" not in text and text.endswith(" a : No such file")


def test_odd_standard_output() -> None:
    """Characters that the terminal cannot show, a reader that goes away, then no standard output at all."""
    program = (
        "import sys; from experiments.runs.cli import run\n"
        "def odd(argv):\n    print('\\udcff — ½')\n    sys.stdout = None\n"
        "long = lambda argv: print('line\\n' * 1_000_000)\n"
        "sys.exit(run({'odd': odd, 'long': long}[sys.argv[1]]))\n"
    )
    typed = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"
    for line, said in ((f"{typed} odd", "\\udcff \\u2014 \\xbd\n"), (f"{typed} long | head -1", "line\n")):
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
