"""Run a plan, a text file of commands, to its end: ``python -m experiments.reproduce [--plan FILE] [--dry-run]``."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from cgan import CganError
from experiments import UsageError
from experiments.runs.cli import USER_ERRORS, check_least, clock, parse, printed_command, run, sentence
from experiments.runs.files import flat, locked, read_record, without_folders, write_bytes, write_text
from experiments.runs.folder import ADDED, RunFolder, is_of_the_run
from experiments.runs.records import DivergedResult

PLANS = Path(__file__).resolve().parent / "plans"

#: Seconds of an update and of everything else of a training on a quiet core, for the estimate that is printed first.
TRAINING_SECONDS = {"mnist": (0.03, 30), "flickr_tags": (0.15, 300)}
OTHER_SECONDS = 60.0

OVERVIEWS = ("tables", "report")  # They show all runs, and are always run again.
OTHERS = ("parzen", "sample", "word_vectors", "bench", "pytest", *OVERVIEWS)

#: Options that name what a command makes, by which it is known to be done; the first of these that is given counts.
PRODUCTS = ("--json", "--npy", "--out", "--corpus")

#: Options that are no part of a run's name, nor are --stopping and --estimate but for those that change its samples.
UNNAMED = ("--dataset", "--images", "--precision", "--replicas", "--words.vectors", "--name")
NAMED = ("--stopping.keep", "--estimate.dropout", "--estimate.no-dropout")

#: Settings that a preset leaves to what the command finds; they say nothing of whether a run is the one asked for.
FOUND = (
    *("features.network", "features.grid", "features.random_weights"),
    *("generator.condition_dim", "discriminator.condition_dim"),  # As many numbers a photo as the network gives.
)

#: Signals that end a plan as Ctrl-C does.
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))

#: What ``--publish`` copies of a run: texts without folders of this machine, and files as they are.
TEXTS = ("config.json", "result.json", "metrics.csv")
PICTURES = (
    *("samples.png", "curves.png", "precision.png", "precision_user_tags.png", "reliability.png", "trade_off.png"),
    "table2.md",
)


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
    """Trainings at work at once, a thread each; 0 takes one for each core, one with a GPU."""
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
        check_least(self, jobs=0)

    @cached_property
    def places(self) -> dict[str, str]:
        """What stands for the names in braces of a plan; a smoke test keeps its runs apart from the real ones."""
        from data.roots import data_root

        runs, out = ("results/fast/runs", "results/fast") if self.fast else ("runs", "results")
        places = {"runs": self.runs or runs, "out": self.out or out, "data": data_root(self.data_root)}
        return {name: str(folder) for name, folder in places.items()} | {"device": self.device}

    @cached_property
    def workers(self) -> int:
        """The number of trainings at work at once."""
        from cgan.devices import resolve_device

        cores = os.cpu_count() or 1
        return self.jobs or (cores if resolve_device(self.device).type == "cpu" else 1)


@dataclass(frozen=True, eq=False)
class Step:
    """One command, and how to find out whether it is done."""

    name: str
    module: str
    arguments: tuple[str, ...]
    seconds: float = OTHER_SECONDS  # About how long it takes on a quiet core.
    product: Path | None = None  # The file that a finished command leaves; None: the command is repeated each time.
    runs: tuple[RunFolder, ...] = ()  # The folders of a training, one a seed.
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of a training: what its runs must have to count as done; settings by dotted name, ``precision``, ``embedded``."""
    max_updates: int = 0  # Of a training: its planned length.

    @property
    def typed(self) -> str:
        """The command as a person types it."""
        return printed_command(self.module, *self.arguments)

    def log(self, logs: Path) -> Path:
        """Return the file in the folder ``logs`` that takes the command's output."""
        return logs / (re.sub(r"[^\w.-]+", "-", self.name) + ".log")

    def share(self) -> float:
        """Return how much of the command is done, from 0 to 1: of a training by its last estimate."""
        if self.runs:
            return sum(self._share(folder) for folder in self.runs) / len(self.runs)
        if self.product is None or not self.product.is_file():
            return 0.0
        if self.module != "experiments.parzen":
            return 1.0
        command = shlex.join(["python", "-m", self.module, *self.arguments])  # A score holds its own.
        try:
            return float(read_record(self.product, dict[str, Any]).get("command") == command)
        except UsageError:
            return 0.0

    def _share(self, folder: RunFolder) -> float:
        try:
            if not folder.result_path.exists():
                metrics = folder.read_metrics()
                return 0.0 if metrics.empty else min(0.99, float(metrics["update"].max()) / self.max_updates)
            result, config = folder.read_result(), folder.read_config()
        except USER_ERRORS:
            return 0.0
        recorded = {**ADDED, **flat(config.settings), "precision": config.precision}
        recorded["embedded"] = config.dataset.embedded
        if any(recorded.get(name) != value for name, value in self.settings.items()):
            return 0.0
        # A divergence is an end: the same seed would only diverge again.
        ended = isinstance(result, DivergedResult) or result.stopped_by == "patience"
        return 1.0 if ended else min(1.0, result.updates / self.max_updates)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 1 if a step failed, 130 after Ctrl-C."""
    command = parse(Command, "experiments.reproduce", argv)
    steps = plan(command)
    if command.publish is not None:
        return publish(steps, command.publish)
    left = 0.0
    for step in steps:
        share = step.share()
        left += step.seconds * (1 - share)
        state = "done" if share == 1 else f"{share:.0%}" if share else clock(step.seconds)
        print(f"{state:>8}  {step.name}\n          {step.typed}")
    print(f"about {clock(left / command.workers)} left, with {command.workers} at a time on quiet cores")
    if command.dry_run:
        return 0
    # Background jobs of a shell have interrupts ignored, and so would all that they start.
    for number in INTERRUPTS:
        signal.signal(number, signal.default_int_handler)
    folder, started = Path(command.places["runs"]), time.monotonic()
    lock = folder / "reproduce.lock"
    with locked(lock, f"{lock}: another reproduction is at work in {folder}; wait for it or end it"):
        states = run_steps(steps, folder / "logs", command.workers)
    ended = list(states.values())
    counts = [f"{ended.count(state)} {state}" for state in dict.fromkeys(ended)]
    print(f"{', '.join(counts)} in {clock(time.monotonic() - started)}")
    for step in steps:
        if (state := states.get(step.name, "not begun")) not in ("done", "done before"):
            print(f"{state}: {step.name}")
    if "stopped" in ended:
        print("the same command goes on from here")
        return 130
    return int("failed" in ended)


def plan(command: Command) -> list[Step]:
    """Return the steps of the plan's file in order; raises ``UsageError`` naming the line that is no command."""
    path, steps = command.plan or PLANS / ("fast.txt" if command.fast else "paper.txt"), list[Step]()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--plan {path}: {reason}; give a text file of commands, in UTF-8") from None
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
            for made in steps_of(words, command) if words else ():
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
    # Options as two words: --seed=3 is --seed 3.
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    try:
        module, *arguments = (re.sub(r"{(.*?)}|[{}]", lambda name: places[name[1]], word) for word in words)
    except KeyError:
        known = ", ".join(f"{{{name}}}" for name in places)
        raise UsageError(f"nothing has the name in braces; there are {known}") from None
    if module in TRAINING_SECONDS:
        return trainings(module, arguments, command)
    if module not in OTHERS:
        raise UsageError(f"{module!r} is no command of a plan: there are {', '.join([*TRAINING_SECONDS, *OTHERS])}")
    if command.data_root and module in ("bench", "parzen") and "--data-root" not in arguments:
        arguments += ["--data-root", places["data"]]
    option = next((name for name in PRODUCTS if name in arguments[:-1] and module not in OVERVIEWS), None)
    product = Path(arguments[arguments.index(option) + 1]) if option else None
    name = " ".join([module, "/".join(product.parts[-2:]) if product else "".join(arguments[:1])])
    if option == "--corpus" and product:
        product /= "manifest.json"  # Written last.
    full = module if module == "pytest" else f"experiments.{module}"
    return [Step(name, full, tuple(arguments), product=product)]


def trainings(module: str, arguments: list[str], command: Command) -> list[Step]:
    """Return a training for each seed of ``--seed A-B``; the arguments are read by the command's own parser."""
    from experiments.flickr_tags.__main__ import parse as parse_flickr
    from experiments.mnist.__main__ import parse as parse_mnist
    from experiments.mnist.presets import on_digits

    missing = "" if "--seed" in arguments else "1"
    seeds = next((word for option, word in pairwise(arguments) if option == "--seed"), missing)
    arguments = without(arguments, "--seed")
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", seeds)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < first + 1_000:
        raise UsageError("--seed: give a number, or two such as 1-5, of 1,000 seeds at most")
    parsed: Any = (parse_mnist if module == "mnist" else parse_flickr)(arguments)
    config, replicas = parsed.config, getattr(parsed, "replicas", 1)
    if parsed.dataset == "digits":
        config = on_digits(config, parsed.given)
    settings = flat(json.loads(json.dumps(config.as_dict())))  # As the recorded ones are: tuples become lists.
    wanted = {key: value for key, value in settings.items() if key not in FOUND and is_of_the_run(key)}
    wanted |= {} if parsed.precision == "auto" else {"precision": parsed.precision}
    wanted |= {} if parsed.dataset == "auto" else {"embedded": parsed.dataset in ("digits", "scenes")}
    name = parsed.name
    if name is None:  # Preset, data set of photos, and whatever options change.
        unnamed = [a for a in arguments if a.startswith(("--stopping.", "--estimate.")) and a not in NAMED]
        changed = [re.sub(r"^--(\w+\.)?", "", word) for word in without(arguments[1:], *UNNAMED, *unnamed)]
        changes = re.sub(r"[^a-z0-9.]+", "-", "-".join(changed).lower()).strip("-")[:80]
        photos = Path(parsed.dataset).name if module == "flickr_tags" else ""
        name = "-".join(filter(None, [parsed.preset, photos, changes]))
    folder = Path(command.places["runs"]) / module.replace("_", "-")
    options = ["--runs", command.places["runs"], "--device", command.device, "--resume"]
    options += ["--data-root", command.places["data"]] if command.data_root else []
    options += ["--threads", "1"] if command.workers > 1 else []
    update, rest = TRAINING_SECONDS[module]
    updates = settings["stopping.max_updates"]
    steps = []
    for seed in range(first, last + 1):
        own = ["--seed", str(seed), "--name", name if replicas > 1 else f"{name}-seed{seed}"]
        step = Step(
            name=f"{module} {name}-seed{seed}",
            module=f"experiments.{module}",
            arguments=(*without(arguments, "--name"), *own, *options),
            seconds=rest + updates * update * replicas,
            runs=tuple(RunFolder(folder / f"{name}-seed{seed + i}") for i in range(replicas)),
            settings=wanted,
            max_updates=updates,
        )
        steps.append(step)
    return steps


def without(arguments: Sequence[str], *options: str) -> list[str]:
    """Return the arguments without some options and their values."""
    pairs = pairwise(["", *arguments])
    return [word for before, word in pairs if before not in options and word not in options]


def to_do(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that are not done, and those that read what one of these makes anew, such as a run's samples."""
    found: list[Step] = []
    made: set[str] = set()
    for step in steps:
        if step.share() < 1 or not made.isdisjoint(step.arguments):
            found.append(step)
            made |= {str(path) for path in (*step.runs, step.product) if path}
    return found


def run_steps(steps: Sequence[Step], logs: Path, jobs: int) -> dict[str, str]:
    """Run the steps in order and return how each ended, by name; output goes to ``logs``.

    Trainings run ``jobs`` at a time; any other command waits for all above it, whose files it may need, and runs alone.
    On an interrupt the steps at work save themselves, and no other begins.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting = to_do(steps)
    states = {step.name: "done before" for step in steps if step not in waiting}
    running: dict[Step, tuple[subprocess.Popen[bytes], float]] = {}

    def say(text: str) -> None:
        print(f"{text}  [{len(states)} of {len(steps)} ended]", flush=True)

    try:
        while waiting or running:
            for step, (process, started) in list(running.items()):
                if process.poll() is not None:
                    del running[step]
                    states[step.name], reason = ending(step, process.returncode, logs)
                    say(f"{states[step.name]}: {step.name} ({clock(time.monotonic() - started)}){reason}")
            room = len(running) < jobs and all(step.runs for step in running)
            if waiting and (room if waiting[0].runs else not running):
                step = waiting.pop(0)
                running[step] = start(step, logs), time.monotonic()
                say(f"running: {step.name}")
            else:
                time.sleep(0.2)
    except BaseException as error:
        for number in INTERRUPTS:  # Another one must not keep these commands from saving.
            signal.signal(number, signal.SIG_IGN)
        # The commands run in sessions of their own: the terminal's interrupt has not reached them.
        for process, _ in running.values():
            process.send_signal(signal.SIGINT)
        for step, (process, _) in running.items():
            process.wait()
            states[step.name] = "stopped"
        if not isinstance(error, KeyboardInterrupt):
            raise
    return states


def ending(step: Step, status: int, logs: Path) -> tuple[str, str]:
    """Return how a step ended, and of a failure the last line that it printed."""
    if status == 0:
        return "done", ""
    if step.runs and step.share() == 1:  # Its result is there all the same.
        return "diverged", ""
    printed = step.log(logs).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "failed", f": {printed[-1]}\n  log: {step.log(logs)}"


def start(step: Step, logs: Path) -> subprocess.Popen[bytes]:
    """Start a step's command in a session of its own."""
    if step.product:
        step.product.parent.mkdir(parents=True, exist_ok=True)
    with open(step.log(logs), "a", encoding="utf-8") as log:
        print(f"$ {step.typed}", file=log, flush=True)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        return subprocess.Popen(shlex.split(step.typed), start_new_session=True, **quiet)  # type: ignore[call-overload, no-any-return]


def publish(steps: Sequence[Step], out: Path) -> int:
    """Copy what is done into ``out``, as reference results; print what was copied and what is not done."""
    for step in steps:
        if step.share() < 1:
            print(f"not done: {step.name}")
            continue
        copied = [folder.path / name for folder in step.runs for name in (*TEXTS, *PICTURES)]
        if step.product and step.module == "experiments.parzen":
            copied = [step.product]
        for path in filter(Path.exists, copied):
            # As below the folder of runs: experiment and run, or the folder of the scores.
            target = out.joinpath(*path.parts[-3 if step.runs else -2 :])
            if path.name in PICTURES:
                write_bytes(target, path.read_bytes())
            else:
                write_text(target, without_folders(path.read_text(encoding="utf-8")))
            print(target)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
