"""The package as ``pip install .`` leaves it, used from another folder: console commands, package data, versions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from tests.experiments import commands
from tests.experiments.commands import assert_one_sentence

#: Needed to build: not tests, results or outputs.
SOURCES = ("README.md", "setup.cfg", "pyproject.toml", "cgan", "data", "embeddings", "experiments")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the ``bin`` of a fresh environment with the package in it; torch and the like are this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    for name in SOURCES:
        source = commands.ROOT / name
        if source.is_dir():
            unwanted = shutil.ignore_patterns("raw", "results", "__pycache__", "*.egg-info")
            shutil.copytree(source, folder / "source" / name, ignore=unwanted)
        else:
            (folder / "source").mkdir(exist_ok=True)
            shutil.copy(source, folder / "source" / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    packages = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    # Only the first folder of packages has its own .pth files read: an editable install there is not seen.
    (Path(packages) / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", folder / "source"], check=True, capture_output=True)
    shutil.rmtree(folder / "source")
    return python.parent


def run(program: Path | str, *arguments: object, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment, with nothing of this checkout on the path."""
    environment = {name: value for name, value in commands.environment(**changes).items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(program), *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=commands.PATIENCE,
    )  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a folder with somebody else's package ``data`` and packages of other names of this project."""
    for name in ("data", "embeddings", "cgan"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('of somebody else')\n")
    return tmp_path


def scripts() -> list[str]:
    """Return the names of the console commands."""
    text = (commands.ROOT / "setup.cfg").read_text(encoding="utf-8")
    return re.findall(r"^    (cgan-[\w-]+) = ", text, re.MULTILINE)


def test_each_console_command_answers(installed: Path, elsewhere: Path) -> None:
    assert len(scripts()) >= 11
    for name in scripts():
        done = run(installed / name, "--help", cwd=elsewhere)
        assert done.returncode == 0 and done.stdout.startswith(f"usage: {name} "), (name, done.stderr)
    done = run(installed / "cgan-mnist", "--version", cwd=elsewhere)
    assert done.stdout == f"cgan-reproduction {metadata.version('cgan-reproduction')}\n"
    done = run(installed / "cgan-sample", "--tyro-print-completion", "bash", cwd=elsewhere)
    assert done.returncode == 0 and "--per-label" in done.stdout and "cgan-sample" in done.stdout


def test_figure_2_is_drawn_without_data_or_runs(installed: Path, elsewhere: Path) -> None:
    done = run(installed / "cgan-sample", "--npy", "images.npy", cwd=elsewhere)
    assert done.returncode == 0 and "generator paper" in done.stdout, done.stderr
    assert np.load(elsewhere / "images.npy").shape == (100, 784)
    assert_one_sentence(run(installed / "cgan-sample", "pape", cwd=elsewhere), "generators by name: ", "paper")


def test_printed_commands_can_be_typed(installed: Path, elsewhere: Path) -> None:
    """A run, what it prints to be typed next, a report from the package's templates, and a plan of commands."""
    path = {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}
    length = ("--stopping.max-updates", 20, "--stopping.first-estimate", 10, "--stopping.estimate-every", 10)
    small = (*commands.SMALL_NETS, *length)
    done = run(installed / "cgan-mnist", "paper", *small, cwd=elsewhere, **path)
    assert done.returncode == 0, done.stderr
    more = re.search(r"more images: (.*)", done.stdout)
    assert more and more[1].startswith("cgan-sample runs/mnist/paper-seed1-digits")
    assert run("sh", "-c", more[1], cwd=elsewhere, **path).returncode == 0
    done = run(installed / "cgan-report", "--out", "report.html", cwd=elsewhere)
    assert done.returncode == 0 and "<html" in (elsewhere / "report.html").read_text(), done.stderr
    (elsewhere / "plan.txt").write_text("sample runs/mnist/paper-seed1-digits --out again.png --npy again.npy\n")
    done = run(installed / "cgan-reproduce", "--plan", "plan.txt", cwd=elsewhere)
    assert done.returncode == 0 and (elsewhere / "again.npy").is_file(), done.stdout + done.stderr
    assert f"{installed / 'cgan-sample'} runs/mnist" in done.stdout
    assert run(installed / "cgan-reproduce", "--fast", "--dry-run", cwd=elsewhere).returncode == 0


def test_a_package_of_the_same_name_is_one_sentence_for_python_m(installed: Path, elsewhere: Path) -> None:
    done = run(installed / "python", "-m", "experiments.mnist", "--help", cwd=elsewhere)
    assert_one_sentence(done, str(elsewhere / "cgan"), "console commands")
    shutil.rmtree(elsewhere / "cgan")
    done = run(installed / "python", "-m", "experiments.mnist", "--help", cwd=elsewhere)
    assert_one_sentence(done, str(elsewhere / "data"), "console commands")
    done = run(installed / "python", "-c", "import experiments", cwd=elsewhere)
    assert done.returncode == 1 and "ImportError: Python finds the package data" in done.stderr
