"""Whole runs of both experiments, which several tests of commands share."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.experiments import commands, flickr_runs


@dataclass(frozen=True)
class FlickrRun:
    """A finished run: its folder, the folder of all runs, an empty data root, and what the command printed."""

    folder: Path
    runs: Path
    root: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def flickr_run(tmp_path_factory: pytest.TempPathFactory) -> FlickrRun:
    """A whole run on 40 rendered scenes, with nothing under the data root."""
    place = tmp_path_factory.mktemp("flickr")
    (place / "root").mkdir()
    done = commands.run(*flickr_runs.arguments(place / "runs", place / "root"))
    assert done.returncode == 0, done.stderr
    return FlickrRun(place / "runs" / "flickr-tags" / flickr_runs.NAME, place / "runs", place / "root", done)


@pytest.fixture(scope="session")
def mnist_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a whole run on the digits: seed 1, alone in its folder of runs."""
    runs = tmp_path_factory.mktemp("mnist-runs")
    done = commands.run("mnist", "paper", *commands.SMALL_NETS, *commands.SHORT, "--runs", runs)
    assert done.returncode == 0, done.stderr
    assert "digits (embedded)" in done.stdout and "test log-likelihood" in done.stdout
    return runs / "mnist" / "paper-seed1-digits"
