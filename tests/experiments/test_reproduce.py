"""The whole suite: its plan, what it skips, and, by real processes, failures, kills, and going on."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import UsageError, reproduce
from experiments.mnist.presets import MNIST_PRESETS
from experiments.report import records as run_records
from experiments.reproduce import Command, Step, plan
from tests.experiments import commands
from tests.experiments.report.test_tables import write


def steps(**changes: Any) -> dict[str, Step]:
    return {step.name: step for step in plan(Command(**changes))}


def finished(step: Step, **changes: Any) -> Path:
    """The folder of a finished run as the step asks for."""
    assert step.folder is not None
    settings: dict[str, Any] = {}
    for name, value in step.settings.items():
        *sections, last = name.split(".")
        inner = settings
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    write(step.folder / "config.json", {"settings": settings, **changes.pop("config", {})})
    record = {"status": "finished", "stopped_by": "patience", "updates": 100, **changes}
    write(step.folder / "result.json", record)
    return step.folder


def test_order_and_commands(tmp_path: Path) -> None:
    found = steps(seeds=2, runs=tmp_path / "runs", out=tmp_path / "out", data_root=tmp_path)
    names = list(found)
    nets = [f"mnist {preset}-seed{seed}" for seed in (1, 2) for preset in MNIST_PRESETS]
    assert names[: len(nets)] == nets
    rest = ["control real images", "control k-means", "corpus of words", "word vectors"]
    rest += ["flickr-tags paper-mirflickr-seed1", "flickr-tags paper-mirflickr-seed2", "tables", "report"]
    assert names[len(nets) :] == rest
    for name in nets:
        arguments = found[name].arguments
        assert "--resume" in arguments and arguments[arguments.index("--dataset") + 1] == "mnist"
    assert found["control k-means"].product == tmp_path / "runs" / "mnist-controls" / "mnist-kmeans.json"
    # Without metadata the embedded rows serve for words, but never for real photos.
    assert "--words.vectors" not in found["flickr-tags paper-mirflickr-seed1"].arguments
    assert str(found["word vectors"].product).endswith("embedded.bin")


def test_words_of_real_metadata_go_to_the_photos(tmp_path: Path) -> None:
    write(tmp_path / "yfcc100m" / "yfcc100m_dataset-0.bz2", "")
    found = steps(runs=tmp_path / "runs", data_root=tmp_path, min_count=7)
    photos = found["flickr-tags paper-mirflickr-seed1"]
    assert photos.arguments[photos.arguments.index("--words.vectors") + 1] == str(found["word vectors"].product)
    assert photos.needs == ("word vectors",)
    assert str(found["word vectors"].product).endswith("min-count-7.bin")


@pytest.mark.parametrize("fast", [False, True])
def test_every_command_is_one_that_exists(fast: bool, tmp_path: Path) -> None:
    """Each step's own parser takes its arguments: asked for help after them, it gives it instead of an error."""
    chosen = {step.module: step for step in plan(Command(fast=fast, runs=tmp_path, out=tmp_path, data_root=tmp_path))}
    program = (
        "import sys, json, importlib, contextlib, io\n"
        "for module, arguments in json.load(sys.stdin):\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        try: importlib.import_module('experiments.' + module).main([*arguments, '--help'])\n"
        "        except SystemExit as end: assert not end.code, (module, end.code)\n"
        "        else: raise AssertionError(module)\n"
    )
    listed = json.dumps([[module, step.arguments] for module, step in chosen.items()])
    done = subprocess.run(
        [sys.executable, "-c", program], input=listed, cwd=commands.ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_what_counts_as_done(tmp_path: Path) -> None:
    step = steps(runs=tmp_path)["mnist paper-seed1"]
    assert not step.is_done()
    folder = finished(step)
    assert step.is_done()
    finished(step, stopped_by="max_updates", updates=62_108)
    assert not step.is_done(), "cut short"
    finished(step, stopped_by="max_updates", updates=int(step.settings[run_records.LENGTH]))
    assert step.is_done()
    finished(step, status="diverged")
    assert not step.is_done()
    finished(step)
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["training"]["learning_rate"] = 0.5
    write(folder / "config.json", config)
    assert not step.is_done(), "another run of the same name"
    write(folder / "result.json", '{"status": ')
    assert not step.is_done()


def test_how_much_of_a_training_is_done(tmp_path: Path) -> None:
    step = steps(runs=tmp_path)["mnist paper-seed1"]
    assert step.share() == 0
    assert step.folder is not None
    whole = int(step.settings[run_records.LENGTH])
    write(step.folder / "metrics.csv", f"update,epoch\n500,1\n{whole // 4},150\n")
    assert step.share() == 0.25
    write(step.folder / "metrics.csv", "update,epoch\n")
    assert step.share() == 0


def test_estimate_and_plan_are_printed_before_anything_is_done(tmp_path: Path) -> None:
    done = commands.run("reproduce", "--dry-run", "--fast", "--runs", tmp_path / "runs", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "runs").exists() and not (tmp_path / "out").exists()
    for step in plan(Command(fast=True, runs=tmp_path / "runs", out=tmp_path / "out")):
        assert step.typed in done.stdout
    assert re.search(r"about \d+ (min|s) left on two quiet cores", done.stdout)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"presets": ("papre",)}, "choose among paper"), ({"seeds": 0}, "at least one"), ({"epochs": 0}, "at least one")],
)
def test_mistakes(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Command(**changes)


# ---------------------------------------------------------------------------------------------------------------------
# Real processes


def parzen_step(folder: Path, name: str, samples: Path, **changes: Any) -> Step:
    product = folder / f"{name}.json"
    files = ("--samples", str(samples), "--valid", str(samples), "--test", str(samples), "--json", str(product))
    return Step(name, "parzen", files, 5, product, **changes)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "samples.npy"
    np.save(path, np.random.default_rng(0).random((30, 4), dtype=np.float32))
    return path


def test_a_failure_stops_only_what_needs_it_and_is_named(
    tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [
        parzen_step(tmp_path, "broken", tmp_path / "missing.npy"),
        parzen_step(tmp_path, "after it", samples, needs=("broken",)),
        parzen_step(tmp_path, "sound", samples),
    ]
    monkeypatch.setattr(reproduce, "plan", lambda command: listed)
    assert reproduce.main(["--runs", str(tmp_path / "runs")]) == 1
    told = capsys.readouterr().out
    assert "failed: broken" in told and "missing.npy" in told.split("failed: broken")[-1]
    assert "left out: after it" in told
    assert "1 steps done" in told and (tmp_path / "sound.json").is_file()
    # What is done is not done again; what is mended is.
    before = (tmp_path / "sound.json").stat().st_mtime_ns
    np.save(tmp_path / "missing.npy", np.load(samples))
    assert reproduce.main(["--runs", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "sound.json").stat().st_mtime_ns == before
    assert {"broken.json", "after it.json"} <= {path.name for path in tmp_path.iterdir()}


def start(folder: Path) -> subprocess.Popen[str]:
    """One training that would take minutes, in a group of its own as a terminal's is, once it has begun to train."""
    options = ["--fast", "--presets", "paper", "--threads", "1", "--runs", folder / "runs", "--out", folder / "out"]
    program = (
        # A shell's background job has interrupts ignored, and so would all that it starts.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from experiments import reproduce, cli\n"
        "made = reproduce.plan\n"
        "import dataclasses\n"
        "def only(command):\n"
        "    step = made(command)[0]\n"
        "    arguments = [*step.arguments, '--stopping.max-updates', '5000', '--stopping.first-estimate', '2',\n"
        "                 '--stopping.estimate-every', '2']\n"
        "    settings = {**step.settings, 'stopping.max_updates': 5000, 'stopping.first_estimate': 2,\n"
        "                'stopping.estimate_every': 2}\n"
        "    return [dataclasses.replace(step, arguments=tuple(arguments), settings=settings)]\n"
        "reproduce.plan = only\n"
        "sys.exit(cli.run(reproduce.main))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, options)],
        cwd=commands.ROOT,
        env=commands.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    metrics = folder / "runs" / "mnist" / "paper-seed1-digits" / "metrics.csv"
    deadline = time.monotonic() + 240
    while not metrics.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def last_update(folder: Path) -> int:
    text = (folder / "runs" / "mnist" / "paper-seed1-digits" / "metrics.csv").read_text(encoding="utf-8")
    return int(text.splitlines()[-1].split(",")[0])


def free(folder: Path) -> bool:
    """Whether nobody holds the lock."""
    with open(folder / "runs" / "reproduce.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def test_interrupt_kill_and_going_on(tmp_path: Path) -> None:
    process = start(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 130, told
    assert "stopped: mnist paper-seed1-digits" in told and "the same command goes on from here" in told
    assert free(tmp_path)
    saved = last_update(tmp_path)

    process = start(tmp_path)
    while last_update(tmp_path) <= saved:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    # Only the parent is killed; the training it leaves behind must not meet another one in its folder.
    process.kill()
    process.wait()
    assert not free(tmp_path)
    refused = commands.run("reproduce", "--fast", "--runs", tmp_path / "runs", "--out", tmp_path / "out")
    commands.assert_one_sentence(refused, "reproduce.lock", "wait for it or end it")
    os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + 240
    while not free(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    log = (tmp_path / "runs" / "logs" / "mnist-paper-seed1-digits.log").read_text(encoding="utf-8")
    assert log.count("saved; to go on") == 2
    assert last_update(tmp_path) > saved
