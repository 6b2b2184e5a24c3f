"""The whole suite in order: ``python -m experiments.reproduce [--fast] [--dry-run]``.

Trains nothing itself: every step is an ordinary command in a process of its own, and a finished one is not repeated.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from cgan import CganError
from experiments import UsageError
from experiments.flickr_tags.presets import FLICKR_PRESETS
from experiments.mnist.presets import MNIST_PRESETS, on_digits
from experiments.runs.cli import check_choice, clock, printed_command, run
from experiments.runs.files import flat, read_record
from experiments.runs.folder import LOCATIONS, Experiment, RunFolder
from experiments.runs.records import DivergedResult

#: Where a smoke run keeps its runs and results: apart from the real ones.
FAST_RUNS, FAST_OUT = Path("results/fast/runs"), Path("results/fast")

#: Seconds of an update on two quiet cores, for the estimate that is printed first; a GPU is much quicker.
UPDATE_SECONDS: dict[Experiment, float] = {"mnist": 0.03, "flickr-tags": 0.15}

#: Photos of a smoke run.
FAST_IMAGES = 60

#: Settings that a preset leaves to what the command finds.
FOUND = ("features.network", "features.grid", "features.random_weights", *LOCATIONS)

State = Literal["done", "skipped", "failed", "left out", "stopped"]


@dataclass(frozen=True)
class Command:
    """Run everything: nets on MNIST with several seeds, controls, word vectors, photos, the tables, the report.

    Finished steps are skipped and interrupted ones go on, so the same command may be given again at any time. A step
    that fails stops only those that need it.
    """

    fast: bool = False
    """A smoke test of all of it on embedded data (digits, scenes), in minutes; its figures mean nothing."""
    dry_run: bool = False
    """Print the steps with their commands and estimated times, and do nothing."""
    seeds: int = 3
    """Seeds 1 to SEEDS of every preset; a smoke test takes one."""
    presets: tuple[str, ...] = tuple(MNIST_PRESETS)
    """Presets of the unimodal experiment."""
    flickr_presets: tuple[str, ...] = ("paper",)
    """Presets of the multimodal experiment."""
    photos: str = "mirflickr"
    """Photos of the multimodal experiment, as experiments.flickr_tags --dataset takes them."""
    min_count: int = 200
    """Words seen less often get no vector (section 4.2); a small corpus needs a lower number."""
    epochs: int = 5
    """Passes over the corpus of words; a small one needs more."""
    data_root: Path | None = None
    """Folder of the data sets; else $CGAN_DATA, else data/raw."""
    runs: Path | None = None
    """Folder of all runs; runs if not given, results/fast/runs for a smoke test."""
    out: Path | None = None
    """Folder of the tables and the report; results if not given, results/fast for a smoke test."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    threads: int | None = None
    """Processor threads of each step; PyTorch's own choice if not given."""

    def __post_init__(self) -> None:
        for name in self.presets:
            check_choice(name, tuple(MNIST_PRESETS), "--presets")
        for name in self.flickr_presets:
            check_choice(name, tuple(FLICKR_PRESETS), "--flickr-presets")
        for option, value in (("--seeds", self.seeds), ("--min-count", self.min_count), ("--epochs", self.epochs)):
            if value < 1:
                raise UsageError(f"{option} {value}: at least one is needed")

    @property
    def runs_folder(self) -> Path:
        """Folder of all runs."""
        return self.runs or (FAST_RUNS if self.fast else Path("runs"))


@dataclass(frozen=True)
class Step:
    """One command, and how to find out whether it is done."""

    name: str
    module: str
    """Its module in ``experiments``."""
    arguments: tuple[str, ...]
    seconds: float
    """About how long it takes on two quiet cores."""
    product: Path | None = None
    """The file that a finished step leaves; None: the step is quick, and always repeated."""
    run: RunFolder | None = None
    """The run's folder, of a training."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of a training: the settings that its run must have to count as done, by dotted name."""
    needs: tuple[str, ...] = ()
    """Names of steps without which this one cannot be done."""

    @property
    def updates(self) -> int:
        """Of a training: its full length."""
        return int(self.settings.get("stopping.max_updates", 0))

    @property
    def typed(self) -> str:
        """The command as a person types it."""
        return printed_command(f"experiments.{self.module}", *self.arguments)

    def is_done(self) -> bool:
        """Return whether the product is there, and, of a training, has this step's settings and length."""
        if self.product is None or not self.product.is_file():
            return False
        try:
            if self.run is None:
                return self.product.suffix != ".json" or "test_mean" in read_record(self.product, dict[str, Any])
            result, recorded = self.run.read_result(), flat(self.run.read_config().settings)
        except (UsageError, CganError, OSError):
            return False
        same = all(
            recorded.get(name) == value
            for name, value in self.settings.items()
            if name not in FOUND and not name.startswith("stopping.")
        )
        if isinstance(result, DivergedResult):
            return False
        return same and (result.stopped_by == "patience" or result.updates >= self.updates)

    def share(self) -> float:
        """Return how much of a training is done, from 0 to 1, by its last estimate."""
        try:
            metrics = self.run.read_metrics() if self.run else None
            return min(1.0, float(metrics["update"].iloc[-1]) / self.updates)  # type: ignore[index]
        except (UsageError, OSError, KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):
            return 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 1 if a step failed, 130 after Ctrl-C."""
    from filelock import FileLock, Timeout

    command = tyro.cli(Command, args=argv, prog="python -m experiments.reproduce")
    steps = plan(command)
    print(overview(steps))
    if command.dry_run:
        return 0
    # On SIGTERM the step's process must end, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder, started = command.runs_folder, time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "reproduce.lock", timeout=0):
            states = run_steps(steps, folder / "logs")
    except Timeout:
        raise UsageError(
            f"{folder / 'reproduce.lock'}: another reproduction is at work in {folder}; wait for it or end it"
        ) from None
    print(summary(steps, states, time.monotonic() - started, folder / "logs"))
    if "stopped" in states.values():
        return 130
    return 1 if {"failed", "left out"} & set(states.values()) else 0


# ---------------------------------------------------------------------------------------------------------------------
# The plan


def plan(command: Command) -> list[Step]:
    """Return all steps in order."""
    runs, out = command.runs_folder, command.out or (FAST_OUT if command.fast else Path("results"))
    seeds = range(1, 1 + (1 if command.fast else command.seeds))
    nets = [mnist_step(command, preset, seed) for seed in seeds for preset in command.presets]
    photos = [flickr_step(command, preset, seed) for seed in seeds for preset in command.flickr_presets]
    # The scenes bring their own metadata, which exists once they are rendered.
    words = word_steps(command, photos[0].name if command.fast and photos else None)
    return [
        *nets,
        *(fast_scoring(command) if command.fast else controls(command)),
        *([*photos, *words] if command.fast else [*words, *photos]),
        Step("tables", "tables", ("--runs", str(runs), "--out", str(out)), 2),
        Step("report", "report", ("--runs", str(runs), "--out", str(out / "report.html")), 10),
    ]


def mnist_step(command: Command, preset: str, seed: int) -> Step:
    """Return the training of a preset of the unimodal experiment; a smoke test trains on the digits."""
    config, changes = MNIST_PRESETS[preset](), {}
    if command.fast:
        config = on_digits(config)
        changes = {"stopping.max_updates": 200, "stopping.first_estimate": 100, "stopping.estimate_every": 100}
        changes |= {"estimate.samples_per_class": 20, "estimate.images": 100}
    name = f"{preset}-seed{seed}{'-digits' if command.fast else ''}"
    arguments = (preset, "--dataset", "digits" if command.fast else "mnist", "--seed", str(seed))
    return training(command, "mnist", name, arguments, config, changes, overhead=20)


def flickr_step(command: Command, preset: str, seed: int) -> Step:
    """Return the training of a preset of the multimodal experiment; a smoke test trains on scenes."""
    config = FLICKR_PRESETS[preset]()
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    if command.fast:
        changes = {"stopping.max_updates": 20, "stopping.first_estimate": 10, "words.epochs": 5}
        changes |= {"words.min_count": 20, "decoding.min_count": 20}
        arguments = (preset, "--dataset", "scenes", "--images", str(FAST_IMAGES))
    else:
        changes = {"words.min_count": command.min_count, "decoding.min_count": command.min_count}
        arguments = (preset, "--dataset", command.photos)
        # Vectors of embedded rows do not fit real photos: without metadata, the command says what is missing.
        if has_metadata(command):
            arguments, needs = (*arguments, "--words.vectors", str(vectors(command))), ("word vectors",)
    name = f"{preset}-{'scenes' if command.fast else Path(command.photos).name}-seed{seed}"
    arguments = (*arguments, "--seed", str(seed))
    overhead = 50 if command.fast else 1_800
    return training(command, "flickr-tags", name, arguments, config, changes, overhead=overhead, needs=needs)


def training(
    command: Command,
    experiment: Experiment,
    name: str,
    arguments: tuple[str, ...],
    config: Any,
    changes: Mapping[str, int],
    *,
    overhead: float,
    needs: tuple[str, ...] = (),
) -> Step:
    """Return the training of ``config`` with ``changes``; ``overhead``: seconds for all but the updates."""
    # Through JSON, as the recorded settings have gone: tuples become lists.
    settings = {**flat(json.loads(json.dumps(config.as_dict()))), **changes}
    changed = [text for name, value in changes.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    folder = RunFolder(command.runs_folder / experiment / name)
    where = ("--runs", str(command.runs_folder), "--name", name, *_root(command), "--device", command.device)
    return Step(
        name=f"{experiment} {name}",
        module=experiment.replace("-", "_"),
        arguments=(*arguments, *where, *_threads(command), "--resume", *changed),
        seconds=overhead + settings["stopping.max_updates"] * UPDATE_SECONDS[experiment],
        product=folder.result_path,
        run=folder,
        settings=settings,
        needs=needs,
    )


def controls(command: Command) -> list[Step]:
    """Return the two controls of the Parzen measure."""
    steps = []
    for samples, name, seconds in (("mnist-train", "real images", 10), ("mnist-kmeans", "k-means", 80)):
        product = command.runs_folder / "mnist-controls" / f"{samples}.json"
        arguments = ("--samples", samples, "--json", str(product), *_root(command), *_threads(command))
        steps.append(Step(f"control {name}", "parzen", arguments, seconds, product))
    return steps


def fast_scoring(command: Command) -> list[Step]:
    """Return a smoke test's steps in place of the controls, which need MNIST: draw samples of a run, and score them."""
    if "paper" not in command.presets:
        return []
    run, folder = command.runs_folder / "mnist" / "paper-seed1-digits", command.runs_folder / "samples"
    drawn, score, needs = folder / "samples.npy", folder / "score.json", ("mnist paper-seed1-digits",)
    files = ("--labels", "0-9", "--out", str(folder / "grid.png"), "--npy", str(drawn))
    scored = ("--samples", str(run), "--count", "100", "--json", str(score))
    return [
        Step("samples", "sample", (str(run), *files), 8, drawn, needs=needs),
        Step("score", "parzen", scored, 8, score, needs=needs),
    ]


def word_steps(command: Command, scenes: str | None) -> list[Step]:
    """Return corpus and word vectors; ``scenes``: the step that renders the scenes, whose own rows are then used."""
    folder, product = command.runs_folder, vectors(command)
    corpus = folder / "word-vectors" / "corpus"
    if scenes:
        source: tuple[str, ...] = (
            str(folder / "cache" / f"scenes-{FAST_IMAGES}" / "yfcc100m" / "yfcc100m_dataset-0.bz2"),
        )
    else:
        source = _root(command)
    # Times of the whole of YFCC100M; without metadata the embedded rows serve.
    seconds = (5.0, 10.0) if scenes or not has_metadata(command) else (4_000.0, 20_000.0)
    size = ("--min-count", str(20 if scenes else command.min_count), "--epochs", str(command.epochs))
    train = ("train", "--corpus", str(corpus), "--out", str(product), *size)
    needs = (scenes,) if scenes else ()
    return [
        Step("corpus of words", "word_vectors", ("corpus", *source, "--corpus", str(corpus)), seconds[0], needs=needs),
        Step("word vectors", "word_vectors", train, seconds[1], product, needs=("corpus of words",)),
    ]


def vectors(command: Command) -> Path:
    """Return the file of the word vectors."""
    name = f"min-count-{command.min_count}" if has_metadata(command) and not command.fast else "embedded"
    return command.runs_folder / "word-vectors" / f"{name}.bin"


def has_metadata(command: Command) -> bool:
    """Return whether YFCC100M metadata lies under the data root."""
    from data.roots import data_root
    from data.yfcc100m import default_shards

    return bool(default_shards(data_root(command.data_root)))


def _root(command: Command) -> tuple[str, ...]:
    return ("--data-root", str(command.data_root)) if command.data_root else ()


def _threads(command: Command) -> tuple[str, ...]:
    return ("--threads", str(command.threads)) if command.threads else ()


def overview(steps: Sequence[Step]) -> str:
    """Return the steps with their commands and times, and what is done."""
    lines, left = [], 0.0
    for step in steps:
        done = step.is_done()
        left += 0 if done else step.seconds * (1 - step.share())
        lines.append(f"{'done' if done else clock(step.seconds):>8}  {step.name}\n          {step.typed}")
    return "\n".join([*lines, f"about {clock(left)} left on two quiet cores; a GPU takes a small part of it"])


# ---------------------------------------------------------------------------------------------------------------------
# Running it


def run_steps(steps: Sequence[Step], logs: Path) -> dict[str, State]:
    """Run the steps in order and return how each ended, by name; output goes to a file each in ``logs``.

    On an interrupt the step at work saves itself, and no other begins.
    """
    from tqdm import tqdm

    logs.mkdir(parents=True, exist_ok=True)
    states: dict[str, State] = {step.name: "skipped" for step in steps if step.is_done()}
    todo = [step for step in steps if step.name not in states]
    # Weighted by time, so that the bar's own estimate corrects itself by the finished steps.
    form = "{percentage:3.0f}%|{bar}| {elapsed}, about {remaining} left{postfix}"
    total = sum(step.seconds for step in todo)
    with tqdm(total=total, bar_format=form, smoothing=0, dynamic_ncols=True, disable=None) as bar:
        for step in todo:
            if missing := [name for name in step.needs if states.get(name) in ("failed", "left out")]:
                states[step.name] = "left out"
                bar.write(f"left out: {step.name}, which needs {', '.join(missing)}", file=sys.stdout)
                continue
            states[step.name] = run_step(step, logs, bar)
            if states[step.name] == "stopped":
                break
    return states


def run_step(step: Step, logs: Path, bar: Any) -> State:
    """Run one step while the bar moves on."""
    if step.product:
        step.product.parent.mkdir(parents=True, exist_ok=True)
    started, shown, first = time.monotonic(), 0.0, step.share()
    bar.set_postfix_str(step.name)
    if bar.disable:
        print(f"running: {step.name}", flush=True)
    with open(log_path(step, logs), "a", encoding="utf-8") as log:
        print(f"$ {step.typed}", file=log, flush=True)
        arguments = [sys.executable, "-m", f"experiments.{step.module}", *step.arguments]
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                # By estimates where there are some, else by the clock, but never to the end.
                share = max(step.share() - first, 0) or (time.monotonic() - started) / step.seconds
                part = max(shown, min(share, 0.95) * step.seconds)
                bar.update(part - shown)
                shown = part
                time.sleep(0.2 if time.monotonic() - started < 5 else 1)
        except KeyboardInterrupt:
            bar.set_postfix_str(f"{step.name} is saving")
            end(process)
            return "stopped"
    bar.update(min(step.seconds - shown, max(bar.total - bar.n, 0)) if bar.total else 0)
    took = clock(time.monotonic() - started)
    if process.returncode == 0:
        bar.write(f"done: {step.name} ({took})", file=sys.stdout)
        return "done"
    bar.write(f"failed: {step.name} ({took}): {last_line(step, logs)}", file=sys.stdout)
    return "failed"


def end(process: subprocess.Popen[bytes]) -> None:
    """Let an interrupted process save itself; interrupt it only if the terminal has not: a second one would kill it."""
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()


def log_path(step: Step, logs: Path) -> Path:
    """Return the file that takes a step's output."""
    return logs / f"{step.name.replace(' ', '-')}.log"


def last_line(step: Step, logs: Path) -> str:
    """Return the last line that a step printed."""
    lines = [line.strip() for line in log_path(step, logs).read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it printed nothing")


def summary(steps: Sequence[Step], states: Mapping[str, State], seconds: float, logs: Path) -> str:
    """Return how all ended, the failures by name and with their last line."""
    done, skipped = (sum(state == kind for state in states.values()) for kind in ("done", "skipped"))
    lines = [f"{done} step{'s' * (done != 1)} done, {skipped} done before, in {clock(seconds)}"]
    for step in steps:
        state = states.get(step.name, "not begun")
        if state == "failed":
            lines.append(f"failed: {step.name}: {last_line(step, logs)}\n  log: {log_path(step, logs)}\n  {step.typed}")
        elif state in ("left out", "stopped", "not begun"):
            lines.append(f"{state}: {step.name}")
    if "stopped" in states.values():
        lines.append("the same command goes on from here")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run(main))
