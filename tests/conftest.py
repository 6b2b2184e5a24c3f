"""The order of the test files: those that last longest start first, so that no worker ends long after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent

#: Folders and files that start whole runs, kill them or start Ray; the longest first.
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
