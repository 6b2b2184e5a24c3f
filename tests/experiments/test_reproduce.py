"""The whole suite: its plan, what it skips, and, by real processes, failures, kills, and going on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from experiments import UsageError, reproduce
from experiments.mnist import __main__ as mnist
from experiments.mnist.presets import MNIST_PRESETS, paper
from experiments.reproduce import Command, Step, plan
from experiments.runs.files import write_json, write_text
from experiments.runs.folder import RunFolder
from experiments.runs.records import DatasetRecord, MnistResult, RunConfig
from tests.experiments import commands
from tests.experiments.conftest import Call
from tests.experiments.runs.test_folder import RESULT


def steps(**changes: Any) -> dict[str, Step]:
    return {step.name: step for step in plan(Command(**changes))}


def test_order_and_commands(tmp_path: Path) -> None:
    found = steps(seeds=2, runs=tmp_path / "runs", out=tmp_path / "out", data_root=tmp_path)
    nets = [f"mnist {preset}-seed{seed}" for seed in (1, 2) for preset in MNIST_PRESETS]
    rest = ["control real images", "control k-means", "corpus of words", "word vectors"]
    rest += ["flickr-tags paper-mirflickr-seed1", "flickr-tags paper-mirflickr-seed2", "tables", "report"]
    assert list(found) == nets + rest
    for name in nets:
        arguments = found[name].arguments
        assert "--resume" in arguments and arguments[arguments.index("--dataset") + 1] == "mnist"
    assert found["control k-means"].product == tmp_path / "runs" / "mnist-controls" / "mnist-kmeans.json"
    # Without metadata the embedded rows serve for words, but never for real photos.
    assert "--words.vectors" not in found["flickr-tags paper-mirflickr-seed1"].arguments
    assert str(found["word vectors"].product).endswith("embedded.bin")


def test_words_of_real_metadata_go_to_the_photos(tmp_path: Path) -> None:
    (tmp_path / "yfcc100m").mkdir()
    (tmp_path / "yfcc100m" / "yfcc100m_dataset-0.bz2").touch()
    found = steps(runs=tmp_path / "runs", data_root=tmp_path, min_count=7)
    photos = found["flickr-tags paper-mirflickr-seed1"]
    assert photos.arguments[photos.arguments.index("--words.vectors") + 1] == str(found["word vectors"].product)
    assert photos.needs == ("word vectors",) and str(found["word vectors"].product).endswith("min-count-7.bin")


@pytest.mark.parametrize("fast", [False, True])
def test_every_command_is_one_that_exists(fast: bool, tmp_path: Path) -> None:
    """Each step's own parser takes its arguments: asked for help after them, it gives it instead of an error."""
    chosen = {step.module: step for step in plan(Command(fast=fast, runs=tmp_path, out=tmp_path, data_root=tmp_path))}
    program = (
        "import sys, json, importlib, contextlib, io\n"
        "for module, arguments in json.load(sys.stdin):\n"
        "    name = {'sample': 'mnist.sample', 'tables': 'report.tables'}.get(module, module + '.__main__')\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        try: importlib.import_module('experiments.' + name).main([*arguments, '--help'])\n"
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
    assert step.run is not None and not step.is_done()
    step.run.path.mkdir(parents=True)
    config = RunConfig(
        experiment="mnist",
        preset="paper",
        dataset=DatasetRecord(name="mnist", embedded=False, checksum="x"),
        seed=1,
        settings=paper().as_dict(),
        device="cpu",
        precision="float32",
    )
    result = msgspec.json.decode((RESULT / "result.json").read_bytes(), type=MnistResult)

    def done(**changes: Any) -> bool:
        assert step.run is not None
        step.run.write_config(config)
        step.run.write_result(replace(result, **{"stopped_by": "max_updates", "updates": step.updates, **changes}))
        return step.is_done()

    assert done() and done(stopped_by="patience", updates=100)
    assert not done(updates=62_108), "cut short"
    other = {**config.settings, "training": {**config.settings["training"], "learning_rate": 0.5}}
    step.run.write_config(replace(config, settings=other))
    assert not step.is_done(), "another run of the same name"
    assert done()
    write_text(step.run.result_path, '{"status": ')
    assert not step.is_done()


def test_how_much_of_a_training_is_done(tmp_path: Path) -> None:
    step = steps(runs=tmp_path)["mnist paper-seed1"]
    assert step.share() == 0 and step.run is not None
    step.run.path.mkdir(parents=True)
    step.run.write_metrics([{"update": 500}, {"update": step.updates // 4}])
    assert step.share() == 0.25
    write_text(step.run.metrics_path, "update,epoch\n")
    assert step.share() == 0


def test_estimate_and_plan_are_printed_before_anything_is_done(tmp_path: Path) -> None:
    done = commands.run("reproduce", "--dry-run", "--fast", "--runs", tmp_path / "runs", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "runs").exists() and not (tmp_path / "out").exists()
    for step in plan(Command(fast=True, runs=tmp_path / "runs", out=tmp_path / "out")):
        assert f"experiments.{step.module} " in done.stdout and step.name in done.stdout
    assert re.search(r"about \d+ (min|s) left on two quiet cores", done.stdout)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"presets": ("papre",)}, "did you mean paper"), ({"seeds": 0}, "at least one"), ({"epochs": 0}, "at least one")],
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


def test_a_failure_stops_only_what_needs_it_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "samples.npy"
    np.save(samples, np.random.default_rng(0).random((30, 4), dtype=np.float32))
    listed = [
        parzen_step(tmp_path, "broken", tmp_path / "missing.npy"),
        parzen_step(tmp_path, "after it", samples, needs=("broken",)),
        parzen_step(tmp_path, "sound", samples),
    ]
    monkeypatch.setattr(reproduce, "plan", lambda command: listed)
    assert reproduce.main(["--runs", str(tmp_path / "runs")]) == 1
    printed = capsys.readouterr().out
    assert "failed: broken" in printed and "missing.npy" in printed.split("failed: broken")[-1]
    assert "left out: after it" in printed and "1 step done" in printed and (tmp_path / "sound.json").is_file()
    # What is done is not repeated; what is repaired is done.
    before = (tmp_path / "sound.json").stat().st_mtime_ns
    np.save(tmp_path / "missing.npy", np.load(samples))
    assert reproduce.main(["--runs", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "sound.json").stat().st_mtime_ns == before
    assert {"broken.json", "after it.json"} <= {path.name for path in tmp_path.iterdir()}


def start(folder: Path) -> subprocess.Popen[str]:
    """Start one training that would take minutes, in a group of its own as a terminal's is; wait for an estimate."""
    options = ["--fast", "--presets", "paper", "--threads", "1", "--runs", folder / "runs", "--out", folder / "out"]
    program = (
        # A shell's background job has interrupts ignored, and so would all that it starts.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import dataclasses, sys; from experiments import reproduce; from experiments.runs import cli\n"
        "made = reproduce.plan\n"
        "def only(command):\n"
        "    step = made(command)[0]\n"
        "    changes = {'stopping.max_updates': 5000, 'stopping.first_estimate': 2, 'stopping.estimate_every': 2}\n"
        "    arguments = [t for n, v in changes.items() for t in ('--' + n.replace('_', '-'), str(v))]\n"
        "    settings = {**step.settings, **changes}\n"
        "    return [dataclasses.replace(step, arguments=(*step.arguments, *arguments), settings=settings)]\n"
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
    before = last_update(folder)
    commands.wait_until(lambda: last_update(folder) > before, process)
    return process


def last_update(folder: Path) -> int:
    table = RunFolder(folder / "runs" / "mnist" / "paper-seed1-digits").read_metrics()
    return 0 if table.empty else int(table["update"].iloc[-1])


def test_interrupt_kill_and_going_on(tmp_path: Path, call: Call) -> None:
    refusal = ("--fast", "--runs", tmp_path / "runs", "--out", tmp_path / "out")
    process = start(tmp_path)
    commands.assert_one_sentence(call(reproduce.main, *refusal), "reproduce.lock", "wait for it or end it")
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 130, printed
    assert "stopped: mnist paper-seed1-digits" in printed and "the same command goes on from here" in printed
    saved = last_update(tmp_path)

    process = start(tmp_path)
    # Only the parent is killed; the training that it leaves behind holds its folder against another one.
    process.kill()
    process.wait()
    training = ("paper", "--dataset", "digits", "--runs", tmp_path / "runs", "--resume")
    commands.assert_one_sentence(call(mnist.main, *training), "another process is at work")
    os.killpg(process.pid, signal.SIGINT)
    log, deadline = tmp_path / "runs" / "logs" / "mnist-paper-seed1-digits.log", time.monotonic() + 60
    while log.read_text(encoding="utf-8").count("saved; to go on") < 2:
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.1)
    assert last_update(tmp_path) > saved


def test_a_score_without_its_figure_is_not_done(tmp_path: Path) -> None:
    step = parzen_step(tmp_path, "score", tmp_path / "x.npy")
    for record, done in (({"test_mean": 1.0}, True), ({}, False), ([1], False)):
        write_json(tmp_path / "score.json", record)
        assert step.is_done() == done
