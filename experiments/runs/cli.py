"""Command lines: options that all training commands share, presets as files, help, errors as one sentence."""

from __future__ import annotations

import difflib
import os
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from cgan import CganError
from cgan.specs import Init, Layer
from data import DataError
from embeddings import EmbeddingError
from experiments import UsageError
from experiments.runs.files import read_record
from experiments.runs.records import Text

Parsed = TypeVar("Parsed", bound="Options")
Form = TypeVar("Form")

#: Errors that a user can fix: printed as one sentence. Any other is a bug and keeps its traceback.
USER_ERRORS = (CganError, DataError, EmbeddingError, UsageError, OSError)

PREFIX = "cgan-"  # How the names of the console commands begin.


def console() -> None:
    """Run the command that the console command is named after: ``cgan-flickr-tags`` is ``experiments.flickr_tags``.

    As ``python -m`` runs it, but modules are not looked for in the current folder.
    """
    name = Path(sys.argv[0]).name.removeprefix(PREFIX).replace("-", "_")
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> int:
    """Call ``main(argv)`` and return the exit status: what ``main`` returns or 0, 2 on a user's error, 130 on Ctrl-C.

    ``CGAN_TRACEBACK=1`` in the environment shows the traceback of a user's error as well. Output that nobody reads any
    more (``| head``) ends the command quietly; characters that the terminal cannot show are escaped.
    """
    if (sys.argv[1:] if argv is None else argv)[:1] == ["--version"]:
        installed = list(metadata.distributions(name="cgan-reproduction"))
        print(f"cgan-reproduction {installed[0].version if installed else '(not installed)'}")
        return 0
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main(argv) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Or Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except USER_ERRORS as error:
        if os.environ.get("CGAN_TRACEBACK") == "1":
            raise
        sys.stdout.flush()
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return 130


def sentence(error: BaseException) -> str:
    """Return the error as one line, an endless one without its middle; an ``OSError`` as its file and reason."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        name = error.filename2 or error.filename  # Of two, as in renaming a file, the one that was asked for.
        text = f"{name}: {error.strerror}" if name else error.strerror
    text = " ".join(text.split())
    return text if len(text) <= 1_000 else f"{text[:600]} ... {text[-300:]}"


def printed_command(module: str, *arguments: object) -> str:
    """Return the command line of ``module`` as it can be typed in the current folder, in the form this one has.

    That is ``python -m module arguments``, or the name of a console command; by its path where the shell would not find
    it by its name.
    """
    started = Path([*sys.orig_argv, "", ""][1])  # The options of Python that may stand there begin otherwise.
    beside = started.with_name(PREFIX + module.removeprefix("experiments.").replace("_", "-"))
    console_command = started.name.startswith(PREFIX) and beside.exists()
    program = beside if console_command else Path(sys.executable)
    name, here = beside.name if console_command else "python", Path.cwd()
    if shutil.which(name) != str(program):
        name = str(program.relative_to(here) if program.is_relative_to(here) else program)
    return shlex.join([name, *([] if console_command else ["-m", module]), *map(str, arguments)])


def clock(seconds: float) -> str:
    """Return a duration in words, such as 45 s, 12 min or 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def check_name(name: str | None, option: str = "--name") -> None:
    """Raise ``UsageError`` if a name cannot be that of a folder of its own."""
    if name is not None and (name in ("", ".", "..") or Path(name).name != name or not name.isprintable()):
        raise UsageError(f"{option} {name!r}: give a plain name, without folders and control characters")


def check_least(command: Any, **least: float) -> None:
    """Raise ``UsageError`` if an option that was given is below its least value."""
    for name, lowest in least.items():
        value = getattr(command, name)
        if value is not None and value < lowest:
            raise UsageError(f"--{name.replace('_', '-')} {value}: give {lowest} or more")


def check_choice(name: str, known: Sequence[str], what: str) -> None:
    """Raise ``UsageError`` with the nearest spelling if ``name`` is not among ``known``."""
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"{what} {name!r} is unknown: {guess}there are {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every training command, whatever is trained."""

    seed: int = 1
    """Seed of all randomness: initial weights, batches, noise, dropout."""
    resume: bool = False
    """Go on from the last checkpoint of the run of this name, or start it; a finished run prints its result."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products while training; auto takes bfloat16 where it is quicker. All else is float32."""
    threads: int | None = None
    """Processor threads; PyTorch's own choice if not given. A run repeats to the bit with the same number only."""
    fast: bool = True
    """Train with the fast update (cgan.fast); --no-fast takes the plain one (cgan.update): same algorithm, slower."""
    preset_file: tyro.conf.Suppress[str | None] = None
    """The file that the preset was read from, if it is not one of this package's."""
    preset_settings: Annotated[Mapping[str, Any], tyro.conf.Suppress, tyro.conf.Fixed] = field(default_factory=dict)
    """The preset's own settings, before the command line changed any."""
    given: Annotated[frozenset[str], tyro.conf.Suppress, tyro.conf.Fixed] = frozenset()
    """Options that the command line gave, such as ``stopping.max_updates``."""


def parse(command: type[Form], module: str, argv: Sequence[str] | None, **more: Any) -> Form:
    """Return the ``command``, a dataclass or a union of several, that the arguments ask for; ``more`` goes to tyro."""
    argv = ["--help" if word == "--help-all" else word for word in (sys.argv[1:] if argv is None else argv)]
    return tyro.cli(command, args=argv, prog=_program(module), **more)


def _program(module: str) -> str:
    program, *words = shlex.split(printed_command(module))
    return " ".join([Path(program).name, *words])


def parse_command(
    command: type[Parsed], presets: Mapping[str, Callable[[], Any]], argv: Sequence[str] | None, module: str
) -> Parsed:
    """Return the ``command(config, preset=name)`` that the arguments ask for.

    A preset is chosen by name, or given as a file (``read_preset``). Ends the program with status 2 on a mistake and 0
    after ``--help``, which leaves the preset's settings to ``--help-all``.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    about = {name: (make.__doc__ or "").strip() for name, make in presets.items()}
    configs, file = {name: make() for name, make in presets.items()}, None
    if argv and argv[0].endswith(".json"):
        file = argv[0]
        name, configs[name], about[name] = read_preset(file, presets)
        argv = [name, *argv[1:]]
    elif argv and not argv[0].startswith("-"):
        check_choice(argv[0], tuple(configs), "preset")
    form, asked = command, {"--help-all", "--help", "-h"} & set(argv)
    if asked:
        argv = [*(word for word in argv[:1] if word in configs), "--help"]
    if asked and "--help-all" not in asked:
        # The same command, whose settings are not options.
        hidden = tyro.conf.Suppress[type(next(iter(configs.values())))]  # type: ignore[misc, valid-type]
        form = make_dataclass(command.__name__, [("config", hidden)], bases=(command,), frozen=True)
        for name in argv[:-1]:
            about[name] += "\n\nIts settings are options too, such as --stopping.max-updates: --help-all shows them."
    entries = {
        name: (about[name], form(config, preset=name, preset_file=None if name in presets else file))  # type: ignore[call-arg]
        for name, config in configs.items()
    }
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_text_rule(Layer, "LAYER"))
    registry.primitive_rule(_text_rule(Init, "INIT"))
    with registry:
        parsed = tyro.extras.overridable_config_cli(entries, args=argv, prog=_program(module))
    if not -(2**63) <= parsed.seed < 2**63:
        raise UsageError(f"--seed {parsed.seed}: give a whole number of at most 64 bits")
    given = {re.sub(r"^(no-)?", "", a[2:].partition("=")[0]).replace("-", "_") for a in argv if a.startswith("--")}
    own = entries[parsed.preset][1].config.as_dict()  # type: ignore[attr-defined]
    return replace(parsed, preset_settings=own, given=frozenset(given))


@dataclass(frozen=True, kw_only=True)
class PresetFile:
    """The form of a preset's file, such as a search's ``best.json``."""

    name: Text
    about: Text = ""
    settings: dict[str, Any]


def read_preset(text: str, presets: Mapping[str, Callable[[], Any]]) -> tuple[str, Any, str]:
    """Return name, settings and description of the preset in the file ``text``; raises ``UsageError`` naming it."""
    missing = "give a preset's name, or a preset's file, such as a search's best.json"
    record = read_record(Path(text), PresetFile, missing=missing, fix="write the preset again")
    check_name(record.name, f"{text}: name")
    if record.name in presets or record.name.startswith("-"):
        raise UsageError(f"{text}: the name {record.name} is taken by a preset of this package; choose another")
    config = type(next(iter(presets.values()))())
    try:
        return record.name, config.from_dict(record.settings), record.about
    except (CganError, UsageError) as error:
        raise UsageError(f"{text}: {error}") from None


def _text_rule(kind: Any, metavar: str) -> Callable[[Any], Any]:
    """Return tyro's rule for a type that is read by ``parse`` and shown by ``str``."""
    spec = tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda texts: kind.parse(texts[0]),
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )
    return lambda info: spec if info.type is kind else None
