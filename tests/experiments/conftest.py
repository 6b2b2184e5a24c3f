"""Whole runs of both experiments, which several tests of commands share, and commands within this process."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from experiments.flickr_tags import __main__ as flickr_tags
from experiments.mnist import __main__ as mnist
from experiments.runs import cli
from tests.experiments import browser, commands, flickr_runs

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs ``main(arguments)`` as from a shell, but here, which saves seconds of imports."""

    def inner(main: Callable[..., int | None], *arguments: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        status = cli.run(main, [str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return inner


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    """Yield an empty page of a real Chromium; skip without one."""
    with browser.new_page(tmp_path_factory.mktemp("chromium")) as page:
        yield page


def run_once(
    factory: pytest.TempPathFactory, name: str, main: Callable[..., int | None], *arguments: object
) -> tuple[Path, str]:
    """Run ``main(arguments)`` with ``--runs FOLDER/runs``; return FOLDER and what the command printed.

    Parallel test processes share the run: the first that asks for it makes it. It is made within that process, since
    imports alone would take longer than the run; tests of kills run the same command in a process of its own.
    """
    top = factory.getbasetemp()
    folder = (top.parent if "PYTEST_XDIST_WORKER" in os.environ else top) / name
    with FileLock(f"{folder}.lock"):
        printed = folder / "printed.txt"
        if not printed.exists():
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "root").mkdir(parents=True)
            where = ("--runs", folder / "runs", "--data-root", folder / "root")
            out, errors = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
                status = cli.run(main, list(map(str, (*arguments, *where))))
            # No bar is drawn where there is no terminal.
            assert (status, errors.getvalue()) == (0, "")
            printed.write_text(out.getvalue())
    return folder, printed.read_text()


@dataclass(frozen=True)
class FlickrRun:
    """A finished run: its folder, the folder of all runs, an empty data root, and what the command printed."""

    folder: Path
    runs: Path
    root: Path
    printed: str


@pytest.fixture(scope="session")
def flickr_run(tmp_path_factory: pytest.TempPathFactory) -> FlickrRun:
    """A whole run on 40 rendered scenes, with nothing under the data root."""
    folder, printed = run_once(tmp_path_factory, "flickr", flickr_tags.main, *flickr_runs.ARGUMENTS)
    runs = folder / "runs"
    return FlickrRun(runs / "flickr-tags" / flickr_runs.NAME, runs, folder / "root", printed)


@pytest.fixture(scope="session")
def mnist_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a whole run on the digits: seed 1, alone in its folder of runs."""
    folder, printed = run_once(tmp_path_factory, "mnist", mnist.main, "paper", *commands.SMALL_NETS, *commands.SHORT)
    assert "digits (embedded)" in printed and "test log-likelihood" in printed
    return folder / "runs" / "mnist" / "paper-seed1-digits"
