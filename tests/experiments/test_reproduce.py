"""Plans: what their lines become, what counts as done, and, by real processes, failures, interrupts, going on."""

from __future__ import annotations

import importlib
import re
import shutil
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from experiments import UsageError, reproduce
from experiments.mnist.evaluate import CLASSIFIER
from experiments.mnist.presets import paper
from experiments.reproduce import PLANS, Command, Step, plan, to_do
from experiments.runs.files import write_json, write_text
from experiments.runs.folder import RunFolder
from experiments.runs.records import DivergedResult, MnistResult
from tests.experiments import commands
from tests.experiments.conftest import Call
from tests.experiments.runs import test_files
from tests.experiments.runs.test_folder import RESULT

#: Two short trainings on the digits.
SHORT = " ".join([*commands.SMALL_NETS[:-4], "--stopping.max-updates", "40", "--stopping.first-estimate", "40"])


def steps(tmp_path: Path, text: str, **changes: Any) -> dict[str, Step]:
    write_text(tmp_path / "plan.txt", text)
    asked = {"plan": tmp_path / "plan.txt", "runs": tmp_path / "runs", "out": tmp_path / "out", **changes}
    return {step.name: step for step in plan(Command(**asked))}


def test_a_line_is_a_command_for_each_seed(tmp_path: Path) -> None:
    found = steps(
        tmp_path,
        "# a comment\n\nmnist paper --seed 2-3 --training.averaging 0.9 --dataset mnist  # another\n"
        "mnist gan --replicas 2\nflickr_tags paper --dataset flickr-mini\n",
        jobs=2,
    )
    folders = {
        name: [str(folder.path.relative_to(tmp_path / "runs")) for folder in s.runs] for name, s in found.items()
    }
    assert folders == {
        "mnist paper-averaging-0.9-seed2": ["mnist/paper-averaging-0.9-seed2"],
        "mnist paper-averaging-0.9-seed3": ["mnist/paper-averaging-0.9-seed3"],
        "mnist gan-seed1": ["mnist/gan-seed1", "mnist/gan-seed2"],
        "flickr_tags paper-flickr-mini-seed1": ["flickr-tags/paper-flickr-mini-seed1"],
    }
    arguments = found["mnist paper-averaging-0.9-seed3"].arguments
    for option, value in {"--seed": "3", "--training.averaging": "0.9", "--threads": "1"}.items():
        assert arguments[arguments.index(option) + 1] == value
    assert "--resume" in arguments and "--seed 2-3" not in " ".join(arguments)
    assert found["mnist gan-seed1"].arguments[-1] == "1" and "gan" in found["mnist gan-seed1"].arguments


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mnist papre --seed 1", "did you mean paper"),
        ("mnist paper --seed 3-1", "such as 1-5"),
        ("mnist paper --seed 1-99999999999", "1,000 seeds at most"),
        ("mnist paper --runs {runs:>99999999999}", "nothing has the name in braces"),
        ("mnist paper --runs {runs", "nothing has the name in braces"),
        ("mnist paper\nmnist paper", "line 2: mnist paper-seed1 is there already"),
        ("rm -rf /", "'rm' is no command of a plan"),
        ("mnist paper --runs {home}", "line 1: nothing has the name in braces; there are {runs}"),
        ("mnist paper --learning-rate 3", "line 1: not a command"),
        ("mnist paper --estimate.images 0", "line 1: estimate.images is 0"),
        ("# nothing", "there is no command in it"),
        ('mnist "paper', "No closing quotation"),
    ],
)
def test_mistakes_in_a_plan_name_the_line(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        steps(tmp_path, line)
    with pytest.raises(UsageError, match=r"none.txt: .*No such file.*; give a text file of commands"):
        plan(Command(plan=tmp_path / "none.txt"))
    (tmp_path / "binary.txt").write_bytes(b"\x93NUMPY")
    with pytest.raises(UsageError, match="in UTF-8"):
        plan(Command(plan=tmp_path / "binary.txt"))


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_line_of_the_plans_is_a_command_that_exists(path: Path, tmp_path: Path, call: Call) -> None:
    """Trainings are parsed by ``plan`` itself; the parsers of the others give help after the arguments."""
    found = plan(Command(plan=path, runs=tmp_path, out=tmp_path, data_root=tmp_path))
    made = {str(tmp_path), str(tmp_path / "yfcc100m")}
    for step in found:  # What lies below the folder of runs is made by a line above.
        made |= {a for option, a in pairwise(step.arguments) if option in reproduce.PRODUCTS}
        assert {a for a in step.arguments if a.startswith(str(tmp_path))} <= made, step.name
        made |= {str(folder) for folder in step.runs}
    for module, step in {step.module: step for step in found if not step.runs and step.module != "pytest"}.items():
        own = {"experiments.sample": "experiments.mnist.sample", "experiments.tables": "experiments.report.tables"}
        with pytest.raises(SystemExit) as end:
            call(importlib.import_module(own.get(module, f"{module}.__main__")).main, *step.arguments, "--help")
        assert not end.value.code, module


def test_a_run_whose_network_gives_other_sizes_counts_as_done(tmp_path: Path) -> None:
    """The committed run on features of 1,280 numbers: no preset and no line of a plan says so."""
    options = "--features.weights package --generator.condition-branch relu:1500,dropout=0.5 --name many-tags-lite0"
    line = f"flickr_tags many-tags --dataset flickr-mini --precision float32 {options}"
    (step,) = steps(tmp_path, line, runs=RESULT.parents[1]).values()
    assert step.share() == 1


CONFIG = replace(test_files.CONFIG, settings=paper().as_dict())


def test_what_counts_as_done(tmp_path: Path) -> None:
    (step,) = steps(tmp_path, "mnist paper").values()
    (folder,) = step.runs
    assert step.share() == 0
    folder.path.mkdir(parents=True)
    folder.write_metrics([{"update": 500}, {"update": 31_250}])
    assert step.share() == 0.25
    result = msgspec.json.decode((RESULT / "result.json").read_bytes(), type=MnistResult)

    def done(settings: dict[str, Any] = CONFIG.settings, **changes: Any) -> bool:
        folder.write_config(replace(CONFIG, settings=settings))
        folder.write_result(replace(result, **{"stopped_by": "max_updates", "updates": 125_000, **changes}))
        return step.share() == 1

    assert done() and done(stopped_by="patience", updates=100)
    assert not done(updates=62_108), "cut short"
    for line, same in (("--precision bfloat16", False), ("--dataset digits", False), ("--precision float32", True)):
        (asked,) = steps(tmp_path, f"mnist paper --name paper {line}").values()
        assert done() and (asked.share() == 1) == same, line
    assert not done({**CONFIG.settings, "stopping": {**CONFIG.settings["stopping"], "keep": "last"}})
    other = {**CONFIG.settings, "training": {**CONFIG.settings["training"], "learning_rate": 0.5}}
    assert not done(other), "another run of the same name"
    assert done()
    write_text(folder.result_path, '{"status": ')
    assert step.share() == 0
    lost = DivergedResult(experiment="mnist", preset="paper", reason="D", dataset=CONFIG.dataset, seed=1, updates=9)
    folder.write_result(lost)
    assert step.share() == 1, "the same seed would only diverge again"
    made = tmp_path / "out.npy"
    made.touch()
    of_run, of_samples = f"sample {folder.path} --npy {made}", f"parzen --samples {made} --json {tmp_path}/score.json"
    whole = list(steps(tmp_path, f"mnist paper\n{of_run}\n{of_samples}").values())
    assert to_do(whole) == whole[2:]
    folder.result_path.unlink()
    assert to_do(whole) == whole, "samples of a run that is trained anew are drawn anew"


def test_a_score_that_is_damaged_or_of_another_command_is_not_done(tmp_path: Path) -> None:
    line = f"parzen --samples x.npy --json {tmp_path}/score.json"
    (step,) = steps(tmp_path, line).values()
    typed = {"command": f"python -m experiments.{line}"}
    for record, done in ((typed, True), ({"command": f"{typed['command']} --seed 2"}, False), ({}, False), ([], False)):
        write_json(tmp_path / "score.json", record)
        assert step.share() == done


def test_finished_runs_are_published_without_folders_of_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = steps(tmp_path, "mnist paper --seed 1-2")
    (folder,) = found["mnist paper-seed1"].runs
    folder.path.mkdir(parents=True)
    typed = f"python -m experiments.mnist paper --runs {tmp_path}/runs --seed 1 --data-root=/home/me/data --resume"
    result = msgspec.json.decode((RESULT / "result.json").read_bytes(), type=MnistResult)
    environment = replace(result.environment, command=typed)
    placed = {**CONFIG.settings, "features": {"weights": "/home/me/net.safetensors"}}
    folder.write_config(replace(CONFIG, settings=placed))
    folder.write_result(replace(result, updates=125_000, environment=environment))
    folder.write_metrics([{"update": 500, "valid_log_likelihood": 1.5}])
    (folder.path / "samples.png").write_bytes(b"png")
    (folder.path / "checkpoint.safetensors").write_bytes(b"large")
    assert reproduce.publish(list(found.values()), tmp_path / "results") == 0
    assert "not done: mnist paper-seed2" in capsys.readouterr().out
    published = RunFolder(tmp_path / "results" / "mnist" / "paper-seed1")
    files = {"config.json", "result.json", "metrics.csv", "samples.png"}
    assert {path.name for path in published.path.iterdir()} == files
    text = published.result_path.read_text() + published.config_path.read_text()
    assert "/home" not in text and str(tmp_path) not in text and '"net.safetensors"' in text
    copied = published.read_result()
    assert isinstance(copied, MnistResult) and copied.parzen == result.parzen
    assert copied.environment.command == "python -m experiments.mnist paper --seed 1 --resume"


def options(folder: Path, *more: object) -> tuple[object, ...]:
    return ("--plan", folder / "plan.txt", "--runs", folder / "runs", "--out", folder / "out", *more)


def test_a_plan_runs_two_at_a_time_and_a_failure_stops_only_what_needs_it(
    mnist_run: Path, tmp_path: Path, call: Call
) -> None:
    for seed in (1, 2):  # The classifier takes seconds to train.
        (tmp_path / "runs" / "mnist" / f"small-seed{seed}").mkdir(parents=True)
        shutil.copy(mnist_run / CLASSIFIER, tmp_path / "runs" / "mnist" / f"small-seed{seed}")
    write_text(
        tmp_path / "plan.txt",
        f"parzen --samples {tmp_path}/missing.npy --json {tmp_path}/broken.json\n"
        f"mnist conditional-best --name small --seed 1-2 {SHORT}\n"
        "tables --runs {runs} --out {out}\n",
    )
    done = commands.run("reproduce", *options(tmp_path, "--jobs", 2))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "missing.npy" in done.stdout.split("failed: ")[1]
    assert "3 done" in done.stdout and "1 failed" in done.stdout
    assert done.stdout.index("running: mnist small-seed2") < done.stdout.index("done: mnist small-")
    table = (tmp_path / "out" / "table1-embedded.csv").read_text()
    assert "1;2" in table, "the table waits for both seeds"
    # What is done is not repeated.
    assert call(reproduce.main, *options(tmp_path, "--dry-run")).stdout.count("    done  ") == 2


def test_an_interrupted_plan_saves_and_knows_how_far_it_came(tmp_path: Path, call: Call) -> None:
    long = ("--stopping.max-updates", "500", "--stopping.first-estimate", "2", "--stopping.estimate-every", "2")
    line = " ".join(["mnist paper --name long", *commands.SMALL_NETS[:-4], *long])
    (step,) = steps(tmp_path, line).values()
    (folder,) = step.runs

    process = commands.start("reproduce", *options(tmp_path, "--jobs", 1))
    commands.wait_until(lambda: len(folder.read_metrics()), process)
    refused = call(reproduce.main, *options(tmp_path))
    commands.assert_one_sentence(refused, "reproduce.lock", "wait for it or end it")
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=commands.PATIENCE)
    assert process.returncode == 130, printed
    assert f"stopped: {step.name}" in printed and "the same command goes on from here" in printed
    again = call(reproduce.main, *options(tmp_path, "--dry-run"))
    assert re.search(r"[1-9]\d*%  mnist long-seed1\n", again.stdout), again.stdout
