"""The benchmark's path of start-up: how long ``--help`` of a training command takes, as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.bench.measure import Candidate, Check, Job
from experiments.mnist.presets import MNIST_PRESETS

ROOT = Path(__file__).resolve().parents[2]

#: What a command would load first if it did not wait until it knows that it must.
HEAVY = "import torch"


def start_up() -> Job:
    """Benchmark ``python -m experiments.mnist --help``."""
    printed = python("-m", "experiments.mnist", "--help")()
    missing = sum(name not in printed for name in MNIST_PRESETS)
    return Job(
        path="start-up",
        what="python -m experiments.mnist --help",
        amount=1,
        unit="starts",
        agreement=[Check("presets that the help does not name", missing, 0)],
        candidates=[
            Candidate("heavy imports where used", "ours", python("-m", "experiments.mnist", "--help")),
            Candidate("importing PyTorch alone", "alternative", python("-c", HEAVY)),
            Candidate("importing the command line's library", "limit", python("-c", "import tyro")),
        ],
        aim="under 2 s",
    )


def python(*arguments: str) -> Callable[[], str]:
    """Return a function that runs Python to its end in the checkout, and returns what it printed."""

    def process() -> str:
        done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout

    return process
