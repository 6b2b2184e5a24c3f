"""The run folder ``runs/<experiment>/<name>/``: create it, write into it whole or not at all, read it back."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments import UsageError

CONFIG, RESULT, METRICS, CHECKPOINT, BEST = (
    "config.json",
    "result.json",
    "metrics.csv",
    "checkpoint.safetensors",
    "best.safetensors",
)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` through a temporary file beside it, so that a reader sees the old or the new whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """``record`` as indented JSON; numbers that JSON does not know (NaN, infinity) are refused with ``ValueError``."""
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises ``UsageError`` naming the file if it is missing or broken."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give the folder of a run, such as runs/mnist/paper-seed1") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as JSON ({error}); restore it, or make the run anew") from None
    if not isinstance(record, dict):
        raise UsageError(f"{path}: holds no JSON object; restore it, or make the run anew")
    return record


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
    return spec.name if spec else Path(sys.argv[0]).name
