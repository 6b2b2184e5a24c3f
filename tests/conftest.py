"""The order of the test files, and processes that start at once."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

ROOT = Path(__file__).parent

#: Folders and files that start whole runs, kill them or start Ray; the longest first, so that no worker of
#: ``make test`` ends long after the other.
LONG = (
    "experiments/runs/test_engines.py",
    "experiments/search/test_command.py",
    "experiments/flickr_tags",
    "experiments/mnist",
    "experiments/test_reproduce.py",
    "experiments",
    "cgan/metrics",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(ROOT).as_posix()
        return next((place for place, start in enumerate(LONG) if name.startswith(start)), len(LONG))

    items.sort(key=place)


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Return the context of real processes that start at once: they are forked from one that has imported PyTorch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cgan.loop"])
    return context


@pytest.fixture
def memory_grown() -> Callable[[], int]:
    """Return a function that gives by how many bytes this process has grown at its peak, from now on."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        pytest.skip("needs Linux's account of a process's memory")

    def kibibytes(name: str) -> int:
        return int(re.findall(rf"{name}:\s+(\d+)", status.read_text())[0])

    clear.write_text("5")  # The peak is counted anew.
    before = kibibytes("VmRSS")
    return lambda: (kibibytes("VmHWM") - before) * 1024
