"""The run folder ``runs/<experiment>/<name>/``: create it, write into it whole or not at all, read it back."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from cgan import CganError
from experiments import UsageError

Parsed = TypeVar("Parsed")

CONFIG, RESULT, METRICS, CHECKPOINT, BEST = (
    "config.json",
    "result.json",
    "metrics.csv",
    "checkpoint.safetensors",
    "best.safetensors",
)

#: In the folder of a search, whose trials are no runs.
SEARCH = "search.json"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` through a temporary file beside it, so that a reader sees the old or the new whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:  # The reader knows nothing of the temporary file.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None


def check_output(path: Path, option: str) -> None:
    """Raise ``UsageError`` if no file can be written to ``path``: before the work, not after it.

    Folders that are missing on the way are for the writer to make.
    """
    if path.is_dir():
        raise UsageError(f"{option} {path}: that is a folder; give the name of a file to write")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UsageError(f"{option} {path}: {above} is a file, not a folder; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: nothing may be written in {above}; choose another place, or get the right")


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """``record`` as indented JSON; numbers that JSON does not know (NaN, infinity) are refused with ``ValueError``."""
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")


def read_json(
    path: Path,
    absent: str = "give the folder of a run, such as runs/mnist/paper-seed1",
    broken: str = "restore it, or make the run anew",
) -> dict[str, Any]:
    """The object in a JSON file; raises ``UsageError`` naming the file, with its mend if it is missing or broken."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"{path}: no such file; {absent}") from None
    except (ValueError, RecursionError) as error:  # Also of numbers too long and brackets too deep.
        raise UsageError(f"{path}: not readable as JSON ({error}); {broken}") from None
    if not isinstance(record, dict):
        raise UsageError(f"{path}: holds no JSON object; {broken}")
    return record


def read_config(
    folder: Path, module: str, needed: Mapping[str, Sequence[str]], parse: Callable[[dict[str, Any]], Parsed]
) -> tuple[dict[str, Any], Parsed]:
    """``config.json`` of the run that ``module`` left in ``folder``, and the settings in it as ``parse`` reads them.

    ``needed`` are the record's other objects, each with the fields it must hold. Raises ``UsageError`` naming the file
    if it is missing, broken, or of another experiment.
    """
    path = folder / CONFIG
    record = read_json(path)
    if record.get("experiment") != module.removeprefix("experiments.").replace("_", "-"):
        raise UsageError(f"{path}: not of a run of {module}; give the folder of one")
    for section, names in {**needed, "settings": ()}.items():
        held = record.get(section)
        if not isinstance(held, dict) or not held.keys() >= set(names):
            raise UsageError(f"{path}: {section} is missing or damaged; restore it, or make the run anew")
    try:
        return record, parse(record["settings"])
    except (CganError, UsageError) as error:
        raise UsageError(f"{path}: {error}; restore it, or make the run anew") from None


def write_metrics(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """``rows`` (one per estimate, same keys) as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def environment() -> dict[str, Any]:
    """What the run ran on and with, for ``result.json``: package versions, platform, git revision, command."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn")
    return {
        "command": " ".join(["python -m", _module_name(), *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_cores": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in packages},
        "git_revision": git_revision(),
    }


def git_revision() -> str | None:
    """The checkout's commit, with ``+changes`` if tracked files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name
