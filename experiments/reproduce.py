"""Run a plan of commands to its end: ``python -m experiments.reproduce [--plan FILE] [--fast] [--dry-run]``.

A plan is a text file, one command per line. Trains nothing itself: every command runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cgan import CganError
from experiments import UsageError
from experiments.runs.cli import clock, command_words, parse, printed_command, run, sentence
from experiments.runs.files import flat, read_record, without_folders, write_bytes, write_text
from experiments.runs.folder import ADDED, RunFolder, is_of_the_run
from experiments.runs.records import DivergedResult

PLANS = Path(__file__).resolve().parent / "plans"

#: Where a smoke test keeps its runs and results: apart from the real ones.
FAST_RUNS, FAST_OUT = Path("results/fast/runs"), Path("results/fast")

#: Seconds of an update and of everything else of a training on a quiet core, for the estimate that is printed first.
TRAINING_SECONDS = {"mnist": (0.03, 30), "flickr_tags": (0.15, 300)}
OTHER_SECONDS = 60.0

#: Modules that show all runs: they wait for every line above them, are always run again, and are quick.
OVERVIEWS = ("tables", "report")

#: The option that names what a command makes, by which it is known to be done.
PRODUCTS = {"parzen": "--json", "sample": "--npy", "bench": "--out"}
PRODUCTS |= {"word_vectors corpus": "--corpus", "word_vectors train": "--out"}

#: Settings of estimates and of the stopping point that are part of a run's name.
NAMED = ("--stopping.keep", "--estimate.dropout", "--estimate.no-dropout")

#: Settings that a preset leaves to what the command finds.
FOUND = ("features.network", "features.grid", "features.random_weights")

#: Signals that end a plan as Ctrl-C does.
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))

State = Literal["done", "diverged", "skipped", "failed", "left out", "stopped"]


@dataclass(frozen=True)
class Command:
    """Run a plan: train and measure every net that it names, with several seeds, then write tables and report.

    Commands that are done are skipped and interrupted trainings go on, so the same command may be given again at any
    time, also on another machine to which the runs were copied. One that fails stops only those that need its files.
    """

    plan: Path | None = None
    """A text file of commands in order of importance, without "python -m experiments."; --seed 1-5 stands for five
    seeds, {runs}, {out}, {data} and {device} for the options below. The whole reproduction if not given."""
    fast: bool = False
    """A smoke test of everything on embedded data (digits, scenes), in minutes; its figures mean nothing."""
    dry_run: bool = False
    """Print the commands, what is done, and the time left; do nothing."""
    jobs: int = 0
    """Commands at work at once, a thread each; 0 takes one for each core, one with a GPU."""
    data_root: Path | None = None
    """Folder of the data sets; else $CGAN_DATA, else data/raw."""
    runs: Path | None = None
    """Folder of all runs; runs if not given, results/fast/runs for a smoke test."""
    out: Path | None = None
    """Folder of the tables and the report; results if not given, results/fast for a smoke test."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    publish: Path | None = None
    """Only copy the plan's finished runs into this folder, as experiments/results holds them: settings, estimates,
    result and pictures, without weights and without folders of this machine."""

    def __post_init__(self) -> None:
        if self.plan is not None and self.fast:
            raise UsageError("--fast has a plan of its own: give --plan or --fast, not both")
        if self.jobs < 0:
            raise UsageError(f"--jobs {self.jobs}: give 0, for one a core, or a number of processes")

    @property
    def plan_file(self) -> Path:
        """The file of commands."""
        return self.plan or PLANS / ("fast.txt" if self.fast else "paper.txt")

    @property
    def places(self) -> dict[str, str]:
        """What stands for the names in braces of a plan."""
        from data.roots import data_root

        runs, out = (FAST_RUNS, FAST_OUT) if self.fast else (Path("runs"), Path("results"))
        places = {"runs": self.runs or runs, "out": self.out or out, "data": data_root(self.data_root)}
        return {name: str(folder) for name, folder in places.items()} | {"device": self.device}


@dataclass(frozen=True)
class Step:
    """One command, and how to find out whether it is done."""

    name: str
    module: str
    """Its module in ``experiments``, or pytest."""
    arguments: tuple[str, ...]
    seconds: float
    """About how long it takes on a quiet core."""
    product: Path | None = None
    """The file or folder that a finished command leaves; None: the command is repeated each time."""
    runs: tuple[RunFolder, ...] = ()
    """The folders of a training, one a seed."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of a training: the settings that its runs must have to count as done, by dotted name."""
    precision: str = "auto"
    """Of a training: the precision that its runs must have; auto takes any."""
    embedded: bool | None = None
    """Of a training: whether its data are embedded; None takes any."""
    needs: tuple[str, ...] = ()
    """Names of the commands whose files it takes."""

    @property
    def full_module(self) -> str:
        """The module as Python's -m takes it."""
        return self.module if self.module == "pytest" else f"experiments.{self.module}"

    @property
    def typed(self) -> str:
        """The command as a person types it."""
        return printed_command(self.full_module, *self.arguments)

    def is_done(self) -> bool:
        """Return whether all that the command makes is there, with its settings and length. A divergence counts."""
        if self.runs:
            return all(self._is_done(folder) for folder in self.runs)
        if self.product is None or not self.product.is_file():
            return False
        if self.product.suffix != ".json":
            return True
        try:
            record = read_record(self.product, dict[str, Any])
        except (UsageError, OSError):
            return False
        command = shlex.join(["python", "-m", f"experiments.{self.module}", *self.arguments])
        return bool(record) and (self.module != "parzen" or record.get("command") == command)

    def _is_done(self, folder: RunFolder) -> bool:
        try:
            result, config = folder.read_result(), folder.read_config()
        except (UsageError, CganError, OSError):
            return False
        recorded = {**ADDED, **flat(config.settings)}
        same = all(
            recorded.get(name) == value
            for name, value in self.settings.items()
            if name not in FOUND and is_of_the_run(name)
        )
        same = same and self.precision in ("auto", config.precision)
        same = same and self.embedded in (None, config.dataset.embedded)
        if isinstance(result, DivergedResult):
            return same
        return same and (result.stopped_by == "patience" or result.updates >= self.settings["stopping.max_updates"])

    def has_diverged(self) -> bool:
        """Return whether every run of the training ended, one or more of them by divergence."""
        return self.is_done() and any(isinstance(folder.read_result(), DivergedResult) for folder in self.runs)

    def share(self) -> float:
        """Return how much of the command is done, from 0 to 1: of a training by its last estimate."""
        if self.is_done():
            return 1.0
        done = []
        for folder in self.runs:
            try:
                last = float(folder.read_metrics()["update"].iloc[-1])
                done.append(min(1.0, last / self.settings["stopping.max_updates"]))
            except (UsageError, OSError, KeyError, IndexError, TypeError, ValueError):
                done.append(0.0)
        return sum(done) / len(done) if done else 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 1 if a step failed, 130 after Ctrl-C."""
    from filelock import FileLock, Timeout

    command = parse(Command, "experiments.reproduce", argv)
    steps = plan(command)
    if command.publish is not None:
        return publish(steps, command.publish)
    jobs = command.jobs or default_jobs(command.device)
    print(overview(steps, jobs))
    if command.dry_run:
        return 0
    # Background jobs of a shell have interrupts ignored, and so would all that they start.
    for number in INTERRUPTS:
        signal.signal(number, signal.default_int_handler)
    folder, started = Path(command.places["runs"]), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "reproduce.lock", timeout=0):
            states = run_steps(steps, folder / "logs", jobs)
    except Timeout:
        raise UsageError(
            f"{folder / 'reproduce.lock'}: another reproduction is at work in {folder}; wait for it or end it"
        ) from None
    print(summary(steps, states, time.monotonic() - started, folder / "logs"))
    if "stopped" in states.values():
        return 130
    return 1 if {"failed", "left out"} & set(states.values()) else 0


@cache
def default_jobs(device: str) -> int:
    """Return one job a core, or one in all where a GPU computes."""
    from cgan.devices import resolve_device

    return (os.cpu_count() or 1) if resolve_device(device).type == "cpu" else 1


# ---------------------------------------------------------------------------------------------------------------------
# The plan


def plan(command: Command) -> list[Step]:
    """Return the steps of the plan's file in order; raises ``UsageError`` naming the line that is no command."""
    path, steps = command.plan_file, list[Step]()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"--plan {sentence(error)}; give a file of commands") from None
    except UnicodeDecodeError:
        raise UsageError(f"--plan {path}: not a text in UTF-8; give a file of commands") from None
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
            for made in steps_of(words, command) if words else ():
                made = replace(made, needs=tuple(step.name for step in steps if depends_on(made, step)))
                if made.name in {step.name for step in steps}:
                    raise UsageError(f"{made.name} is there already; name one of them by --name")
                steps.append(made)
        except (ValueError, UsageError, CganError) as error:
            raise UsageError(f"{path}, line {number}: {sentence(error)}") from None
        except SystemExit:
            raise UsageError(f"{path}, line {number}: not a command; see the message above") from None
    if not steps:
        raise UsageError(f"--plan {path}: there is no command in it; give one a line, such as mnist paper --seed 1-5")
    return steps


def steps_of(words: Sequence[str], command: Command) -> list[Step]:
    """Return the steps of one line of a plan, one a seed."""
    places = command.places

    def filled(match: re.Match[str]) -> str:
        if match[1] not in places:
            known = ", ".join(f"{{{name}}}" for name in places)
            raise UsageError(f"nothing is named {match[0]}; there are {known}")
        return places[match[1]]

    # Options as two words: --seed=3 is --seed 3.
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    module, *arguments = (re.sub(r"\{(\w*)\}", filled, word) for word in words)
    if module in TRAINING_SECONDS:
        return trainings(module, arguments, command)
    if module in ("pytest", "bench", "sample", "parzen", "word_vectors", *OVERVIEWS):
        if command.data_root and module in ("bench", "parzen") and "--data-root" not in arguments:
            arguments += ["--data-root", places["data"]]
        option = PRODUCTS.get(module) or PRODUCTS.get(f"{module} {arguments[0] if arguments else ''}")
        product = Path(arguments[arguments.index(option) + 1]) if option in arguments[:-1] else None
        name = " ".join([module, "/".join(product.parts[-2:]) if product else "".join(arguments[:1])])
        if option == "--corpus" and product is not None:
            product /= "manifest.json"  # Written last.
        return [Step(name, module, tuple(arguments), 5.0 if module in OVERVIEWS else OTHER_SECONDS, product)]
    known = ", ".join([*TRAINING_SECONDS, "parzen", "sample", "word_vectors", "bench", "pytest", *OVERVIEWS])
    raise UsageError(f"{module!r} is no command of a plan: there are {known}")


def take_seeds(arguments: list[str]) -> range:
    """Take ``--seed A-B`` out of the arguments and return the seeds it stands for; seed 1 if it is not there."""
    if "--seed" not in arguments:
        return range(1, 2)
    at = arguments.index("--seed")
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", "".join(arguments[at + 1 : at + 2]))
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise UsageError("--seed: give a number, or two such as 1-5")
    del arguments[at : at + 2]
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def trainings(module: str, arguments: list[str], command: Command) -> list[Step]:
    """Return a training for each seed; the arguments are read by the command's own parser."""
    from experiments.flickr_tags.__main__ import parse as parse_flickr
    from experiments.mnist.__main__ import parse as parse_mnist
    from experiments.mnist.presets import on_digits

    numbers = take_seeds(arguments)
    parsed: Any = (parse_mnist if module == "mnist" else parse_flickr)(arguments)
    config, replicas = parsed.config, getattr(parsed, "replicas", 1)
    if parsed.dataset == "digits":
        config = on_digits(config, parsed.given)
    settings = flat(json.loads(json.dumps(config.as_dict())))  # As the recorded ones are: tuples become lists.
    embedded = None if parsed.dataset == "auto" else parsed.dataset in ("digits", "scenes")
    name = parsed.name or run_name(module, parsed, arguments)
    options = ["--runs", command.places["runs"], "--device", command.device, "--resume"]
    options += ["--data-root", command.places["data"]] if command.data_root else []
    options += ["--threads", "1"] if (command.jobs or default_jobs(command.device)) > 1 else []
    steps = []
    for seed in numbers:
        own = ["--seed", str(seed), "--name", name if replicas > 1 else f"{name}-seed{seed}"]
        folder = Path(command.places["runs"]) / module.replace("_", "-")
        update, rest = TRAINING_SECONDS[module]
        steps.append(
            Step(
                name=f"{module} {name}-seed{seed}",
                module=module,
                arguments=(*without(arguments, "--name"), *own, *options),
                seconds=rest + settings["stopping.max_updates"] * update * replicas,
                runs=tuple(RunFolder(folder / f"{name}-seed{seed + i}") for i in range(replicas)),
                settings=settings,
                precision=parsed.precision,
                embedded=embedded,
            )
        )
    return steps


def run_name(module: str, parsed: Any, arguments: Sequence[str]) -> str:
    """Return the run's name without its seed: preset, data set of photos, and whatever options change."""
    plain = ["--dataset", "--images", "--precision", "--replicas", "--words.vectors", "--name"]
    plain += [word for word in arguments if word.startswith(("--stopping.", "--estimate.")) and word not in NAMED]
    changed = [re.sub(r"^--(\w+\.)?", "", word) for word in without(arguments[1:], *plain)]
    changes = re.sub(r"[^a-z0-9.]+", "-", "-".join(changed).lower()).strip("-")[:80]
    photos = Path(parsed.dataset).name if module == "flickr_tags" else ""
    return "-".join(filter(None, [parsed.preset, photos, changes]))


def without(arguments: Sequence[str], *options: str) -> list[str]:
    """Return the arguments without some options and their values."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [word for before, word in pairs if before not in options and word not in options]


def depends_on(step: Step, other: Step) -> bool:
    """Return whether ``step`` names what ``other`` makes among its arguments."""
    made = [other.product, *(folder.path for folder in other.runs)]
    names = {str(path.parent if path.name == "manifest.json" else path) for path in made if path}
    return step.module not in OVERVIEWS and not names.isdisjoint(step.arguments)


def overview(steps: Sequence[Step], jobs: int) -> str:
    """Return the steps with their commands, what is done of each, and the time left."""
    lines, left = [], 0.0
    for step in steps:
        share = step.share()
        left += step.seconds * (1 - share)
        state = "done" if share == 1 else f"{share:.0%}" if share else clock(step.seconds)
        lines.append(f"{state:>8}  {step.name}\n          {step.typed}")
    return "\n".join([*lines, f"about {clock(left / jobs)} left on {jobs} quiet core{'s' * (jobs > 1)}"])


# ---------------------------------------------------------------------------------------------------------------------
# Running it


def run_steps(steps: Sequence[Step], logs: Path, jobs: int) -> dict[str, State]:
    """Run the steps in order, ``jobs`` at a time, and return how each ended, by name; output goes to ``logs``.

    On an interrupt the steps at work save themselves, and no other begins.
    """
    from tqdm import tqdm

    logs.mkdir(parents=True, exist_ok=True)
    states: dict[str, State] = {}
    for step in steps:  # What is made of files that are made anew is made anew as well.
        if all(name in states for name in step.needs) and step.is_done():
            states[step.name] = "skipped"
    todo, running = [step for step in steps if step.name not in states], list[Running]()
    with tqdm(total=len(steps), unit="command", dynamic_ncols=True, disable=None) as bar:

        def say(text: str) -> None:
            bar.write(f"{text}  [{len(states)} of {len(steps)} ended]", file=sys.stdout)
            sys.stdout.flush()

        def start_more() -> None:
            for step in list(todo):
                if missing := [name for name in step.needs if states.get(name) in ("failed", "left out")]:
                    states[step.name] = "left out"
                    todo.remove(step)
                    say(f"left out: {step.name}, which needs {', '.join(missing)}")
                above = [s.name for s in steps[: steps.index(step)]] if step.module in OVERVIEWS else step.needs
                if step in todo and len(running) < jobs and all(name in states for name in above):
                    todo.remove(step)
                    running.append(Running(step, start(step, logs), time.monotonic()))
                    say(f"running: {step.name}")

        try:
            while todo or running:
                start_more()
                for work in [work for work in running if work.process.poll() is not None]:
                    running.remove(work)
                    name, state = work.step.name, end_of(work, logs)
                    states[name] = state
                    reason = f": {last_line(work.step, logs)}" if state == "failed" else ""
                    say(f"{state}: {name} ({clock(time.monotonic() - work.started)}){reason}")
                bar.set_postfix_str(", ".join(work.step.name for work in running))
                bar.update(len(states) - bar.n)
                time.sleep(0.2)
        except BaseException as error:
            bar.set_postfix_str("saving")
            for number in INTERRUPTS:  # Another one must not keep these commands from saving.
                signal.signal(number, signal.SIG_IGN)
            # The commands run in sessions of their own: the terminal's interrupt has not reached them.
            for work in running:
                work.process.send_signal(signal.SIGINT)
            for work in running:
                work.process.wait()
                states[work.step.name] = "stopped"
            if not isinstance(error, KeyboardInterrupt):
                raise
    return states


@dataclass(frozen=True)
class Running:
    """A step at work."""

    step: Step
    process: subprocess.Popen[bytes]
    started: float


def start(step: Step, logs: Path) -> subprocess.Popen[bytes]:
    """Start a step's command in a session of its own."""
    for path in (step.product, *(folder.path for folder in step.runs)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_path(step, logs), "a", encoding="utf-8") as log:
        print(f"$ {step.typed}", file=log, flush=True)
        return subprocess.Popen(
            [*command_words(step.full_module), *step.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end_of(work: Running, logs: Path) -> State:
    """Return how the ended process ended."""
    if work.process.returncode:
        return "diverged" if work.step.has_diverged() else "failed"
    if not work.step.runs or work.step.is_done():
        return "done"
    with open(log_path(work.step, logs), "a", encoding="utf-8") as log:
        print("the run of this name has other settings, or was cut short: give it another name", file=log)
    return "failed"


def log_path(step: Step, logs: Path) -> Path:
    """Return the file that takes a step's output."""
    return logs / (re.sub(r"[^\w.-]+", "-", step.name) + ".log")


def last_line(step: Step, logs: Path) -> str:
    """Return the last line that a step printed."""
    lines = [line.strip() for line in log_path(step, logs).read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it printed nothing")


def summary(steps: Sequence[Step], states: Mapping[str, State], seconds: float, logs: Path) -> str:
    """Return how all ended, the failures by name and with their last line."""
    done, skipped = (sum(state in kinds for state in states.values()) for kinds in (("done", "diverged"), ("skipped",)))
    lines = [f"{done} step{'s' * (done != 1)} done, {skipped} done before, in {clock(seconds)}"]
    for step in steps:
        state = states.get(step.name, "not begun")
        if state == "failed":
            lines.append(f"failed: {step.name}: {last_line(step, logs)}\n  log: {log_path(step, logs)}\n  {step.typed}")
        elif state in ("left out", "stopped", "diverged", "not begun"):
            lines.append(f"{state}: {step.name}")
    if "stopped" in states.values():
        lines.append("the same command goes on from here")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------------------
# Reference results

PUBLISHED = ("samples.png", "curves.png", "precision.png", "precision_user_tags.png", "reliability.png", "table2.md")


def publish(steps: Sequence[Step], out: Path) -> int:
    """Copy what is done into ``out``, as reference results; print what was copied and what is not done."""
    for step in steps:
        if not step.is_done():
            print(f"not done: {step.name}")
            continue
        if step.module == "parzen" and step.product is not None:
            target = out / step.product.parent.name / step.product.name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, without_folders(step.product.read_text(encoding="utf-8")))
            print(f"{target}")
        for folder in step.runs:
            target = out / step.module.replace("_", "-") / folder.path.name
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.path.iterdir()):
                if path.name in ("config.json", "result.json", "metrics.csv"):
                    write_text(target / path.name, without_folders(path.read_text(encoding="utf-8")))
                elif path.name in PUBLISHED:
                    write_bytes(target / path.name, path.read_bytes())
            print(f"{target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
