"""Commands as a user types them, run as real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: Seconds after which a command hangs, even on a busy machine.
PATIENCE = 900

#: Nets of the unimodal experiment that train in seconds, with every kind of layer of the paper's.
SMALL_NETS = (
    "--generator.input-branch", "relu:32,dropout=0.5",
    "--generator.condition-branch", "relu:32,dropout=0.5",
    "--generator.joint", "relu:64,dropout=0.5",
    "--discriminator.input-branch", "maxout:24x3,dropout=0.5",
    "--discriminator.condition-branch", "maxout:8x3,dropout=0.5",
    "--discriminator.joint", "maxout:24x2,dropout=0.5",
    "--estimate.samples-per-class", "30",
    "--estimate.images", "100",
    "--dataset", "digits",
    "--threads", "1",
    "--precision", "float32",
)  # fmt: skip
SHORT = ("--stopping.max-updates", "360", "--stopping.first-estimate", "40", "--stopping.estimate-every", "120")


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without a data root, so that only what a test names is found; one thread."""
    kept = {name: value for name, value in os.environ.items() if name != "CGAN_DATA"}
    return {**kept, "OMP_NUM_THREADS": "1", **changes}


def run(*arguments: object, cwd: Path = ROOT, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m experiments.<arguments>`` to its end."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(**changes), capture_output=True, text=True, timeout=PATIENCE
    )


def start(*arguments: object, cwd: Path = ROOT, **changes: str) -> subprocess.Popen[str]:
    """Start the same and leave it running; its output is piped."""
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def shell(line: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command line that was printed to be typed."""
    return subprocess.run(
        line, shell=True, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )


def wait_until(true: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Return what ``true`` finds at last, while the process is at work."""
    deadline = time.monotonic() + PATIENCE
    while not (found := true()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def command(module: object, *arguments: object) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]


def assert_one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check for exit status 2, and on standard error one line that starts with ``error:`` and holds ``words``."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    for word in words:
        assert word in lines[0]
