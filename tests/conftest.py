"""The order of the test files, and processes that start at once."""

from __future__ import annotations

import multiprocessing
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
