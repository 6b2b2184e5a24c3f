"""The whole suite in order: ``python -m experiments.reproduce [--fast] [--dry-run]``.

Plays nothing itself: every step is an ordinary command in a process of its own, and one that is done is not done again.
"""

from __future__ import annotations

import csv
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments import UsageError
from experiments.flickr_tags.presets import FLICKR_PRESETS
from experiments.mnist.presets import MNIST_PRESETS
from experiments.report.records import FOUND, KMEANS, LENGTH, REAL, flat, number, own_settings
from experiments.report.tables import clock
from experiments.runs import cli
from experiments.runs import folder as runs

#: Where a smoke run keeps its runs and results: out of the way of the real ones.
FAST_RUNS, FAST_OUT = Path("results/fast/runs"), Path("results/fast")

#: Seconds an update takes on two quiet cores, for the estimate that is printed first; a GPU is much quicker.
UPDATE_SECONDS = {"mnist": 0.03, "flickr-tags": 0.15}

#: Photos of a smoke run.
FAST_IMAGES = 60

State = Literal["done", "skipped", "failed", "left out", "stopped"]


@dataclass(frozen=True)
class Command:
    """Do everything: the nets on MNIST with several seeds, controls, word vectors, photos, the tables, the report.

    What is done already is skipped, and what was interrupted goes on, so the same command may be given again at any
    time. A step that fails stops only those that need it.
    """

    fast: bool = False
    """A smoke version of all of it on embedded data (digits, scenes), in minutes; its figures mean nothing."""
    dry_run: bool = False
    """Print the steps with their commands and estimated times, and do nothing."""
    seeds: int = 3
    """Seeds 1 to SEEDS of every preset; a smoke run takes one."""
    presets: tuple[str, ...] = tuple(MNIST_PRESETS)
    """Presets of the unimodal experiment."""
    flickr_presets: tuple[str, ...] = ("paper",)
    """Presets of the multimodal experiment."""
    photos: str = "mirflickr"
    """Photos of the multimodal experiment, as experiments.flickr_tags --dataset takes them."""
    min_count: int = 200
    """Words seen less often get no vector (section 4.2); a small corpus needs a lower one."""
    epochs: int = 5
    """Passes over the corpus of words; a small one needs more."""
    data_root: Path | None = None
    """Folder of the data sets; else $CGAN_DATA, else data/raw."""
    runs: Path | None = None
    """Folder of all runs; runs if not given, results/fast/runs for a smoke run."""
    out: Path | None = None
    """Folder of the tables and the report; results if not given, results/fast for a smoke run."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    threads: int | None = None
    """Processor threads of each step; PyTorch's own choice if not given."""

    def __post_init__(self) -> None:
        for flag, names, known in (
            ("--presets", self.presets, MNIST_PRESETS),
            ("--flickr-presets", self.flickr_presets, FLICKR_PRESETS),
        ):
            for name in names:
                if name not in known:
                    raise UsageError(f"{flag} {name}: choose among {', '.join(known)}")
        for flag, value in (("--seeds", self.seeds), ("--min-count", self.min_count), ("--epochs", self.epochs)):
            if value < 1:
                raise UsageError(f"{flag} {value}: at least one is needed")


@dataclass(frozen=True)
class Step:
    """One command, and how to tell whether it is done."""

    name: str
    module: str
    """Its module in ``experiments``."""
    arguments: tuple[str, ...]
    seconds: float
    """About how long it takes on two quiet cores."""
    product: Path | None = None
    """The file that a finished step leaves; None: the step is quick, and always done."""
    folder: Path | None = None
    """Of a training: the run's folder."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of a training: the settings that its run must have to count as done, by dotted name."""
    needs: tuple[str, ...] = ()
    """Names of steps without whose product this one cannot be done."""

    @property
    def command(self) -> list[str]:
        """What is run."""
        return [sys.executable, "-m", f"experiments.{self.module}", *self.arguments]

    @property
    def typed(self) -> str:
        """The command as a person types it."""
        return shlex.join(["python", "-m", f"experiments.{self.module}", *self.arguments])

    def is_done(self) -> bool:
        """Whether the step's product is there, and, of a training, is of its settings and length."""
        if self.product is None or not self.product.is_file():
            return False
        if self.product.suffix != ".json":
            return True
        try:
            record = runs.read_json(self.product)
            config = runs.read_json(self.folder / runs.CONFIG) if self.folder else {}
        except (UsageError, OSError):
            return False
        if self.folder is None:
            return number(record, "test_mean") is not None
        recorded = flat(config["settings"]) if isinstance(config.get("settings"), Mapping) else {}
        # A setting that the run's time did not know is as the preset had it then.
        same = all(recorded.get(name, value) == value for name, value in self.settings.items() if name != LENGTH)
        long_enough = record.get("stopped_by") == "patience" or (number(record, "updates") or 0) >= self._updates
        return same and long_enough and record.get("status") == "finished"

    @property
    def _updates(self) -> float:
        return number(self.settings, LENGTH) or 0

    def share(self) -> float:
        """How much of a training is done, from 0 to 1, by its last estimate."""
        if self.folder is None or not self._updates:
            return 0.0
        try:
            with open(self.folder / runs.METRICS, encoding="utf-8", newline="") as file:
                *_, last = csv.DictReader(file)
            return min(1.0, float(last["update"]) / self._updates)
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            return 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 1 if a step failed, 130 after Ctrl-C."""
    command = tyro.cli(Command, args=argv, prog="python -m experiments.reproduce")
    steps = plan(command)
    folder = runs_folder(command)
    print(overview(steps))
    if command.dry_run:
        return 0
    # A process that is told to end must end its step's, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with alone(folder) as lock:
        started = time.monotonic()
        states = play(steps, folder / "logs", lock)
    print(summary(steps, states, time.monotonic() - started, folder / "logs"))
    if "stopped" in states.values():
        return 130
    return 1 if {"failed", "left out"} & set(states.values()) else 0


def runs_folder(command: Command) -> Path:
    """Where the runs go."""
    return command.runs or (FAST_RUNS if command.fast else Path("runs"))


# ---------------------------------------------------------------------------------------------------------------------
# The plan


def plan(command: Command) -> list[Step]:
    """All steps in order."""
    folder, out = runs_folder(command), command.out or (FAST_OUT if command.fast else Path("results"))
    steps = mnist_steps(command, folder)
    if not command.fast:
        steps += controls(command, folder)
    elif "paper" in command.presets:
        steps += fast_scoring(folder)
    # The scenes bring their own metadata, which is there once they are rendered.
    multimodal = flickr_steps(command, folder)
    words = word_steps(command, folder, multimodal[0].name if command.fast and multimodal else None)
    steps += [*multimodal, *words] if command.fast else [*words, *multimodal]
    steps.append(Step("tables", "tables", ("--runs", str(folder), "--out", str(out)), 2))
    steps.append(Step("report", "report", ("--runs", str(folder), "--out", str(out / "report.html")), 10))
    return steps


def mnist_steps(command: Command, folder: Path) -> list[Step]:
    """Every preset with every seed, the first seed of all presets first."""
    steps = []
    for seed in range(1, 1 + (1 if command.fast else command.seeds)):
        for preset in command.presets:
            name = f"{preset}-seed{seed}{'-digits' if command.fast else ''}"
            changes = {"stopping.max_updates": 200, "stopping.first_estimate": 100, "stopping.estimate_every": 100}
            changes |= {"estimate.samples_per_class": 20, "estimate.images": 100}
            dataset = "digits" if command.fast else "mnist"
            steps.append(
                training(
                    "mnist",
                    changes if command.fast else {},
                    ("--dataset", dataset, "--seed", str(seed)),
                    (preset, name, folder, command),
                    overhead=20,
                )
            )
    return steps


def flickr_steps(command: Command, folder: Path) -> list[Step]:
    """Every preset of the multimodal experiment with every seed."""
    steps = []
    for seed in range(1, 1 + (1 if command.fast else command.seeds)):
        for preset in command.flickr_presets:
            changes: dict[str, int] = {}
            if command.fast:
                changes = {"stopping.max_updates": 20, "stopping.first_estimate": 10, "words.epochs": 5}
                changes |= {"words.min_count": 20, "decoding.min_count": 20}
                arguments: tuple[str, ...] = ("--dataset", "scenes", "--images", str(FAST_IMAGES))
            else:
                changes = {"words.min_count": command.min_count, "decoding.min_count": command.min_count}
                # Vectors of embedded rows do not go with real photos: the command then says what is missing.
                words = ("--words.vectors", str(vectors(command, folder))) if has_metadata(command) else ()
                arguments = ("--dataset", command.photos, *words)
            name = f"{preset}-{'scenes' if command.fast else Path(command.photos).name}-seed{seed}"
            steps.append(
                training(
                    "flickr-tags",
                    changes,
                    (*arguments, "--seed", str(seed)),
                    (preset, name, folder, command),
                    overhead=50 if command.fast else 1_800,
                    needs=("word vectors",) if not command.fast and has_metadata(command) else (),
                )
            )
    return steps


def training(
    experiment: Literal["mnist", "flickr-tags"],
    changes: Mapping[str, int],
    arguments: tuple[str, ...],
    whose: tuple[str, str, Path, Command],
    *,
    overhead: float,
    needs: tuple[str, ...] = (),
) -> Step:
    """A training of a preset with ``changes`` to its settings; ``overhead``: seconds for all but the updates.

    ``whose``: the preset, the run's name, the folder of runs, the command.
    """
    preset, name, folder, command = whose
    own = own_settings(experiment, preset)
    assert own is not None
    changed = tuple(text for field, value in changes.items() for text in (_flag(field), str(value)))
    # What the words come from stands in the arguments, where it is given at all.
    settings = {k: v for k, v in {**own, **changes}.items() if k not in (*FOUND, "words.vectors")}
    place = folder / experiment / name
    return Step(
        name=f"{experiment} {name}",
        module=experiment.replace("-", "_"),
        arguments=(preset, *arguments, "--runs", str(folder), "--name", name, *_common(command), "--resume", *changed),
        seconds=overhead + settings[LENGTH] * UPDATE_SECONDS[experiment],
        product=place / runs.RESULT,
        folder=place,
        settings=settings,
        needs=needs,
    )


def controls(command: Command, folder: Path) -> list[Step]:
    """The two controls of the Parzen measure."""
    steps = []
    for word, name, seconds in ((REAL, "real images", 10), (KMEANS, "k-means", 80)):
        product = folder / "mnist-controls" / f"{word}.json"
        threads = ("--threads", str(command.threads)) if command.threads else ()
        arguments = ("--samples", word, "--json", str(product), *_root(command), *threads)
        steps.append(Step(f"control {name}", "parzen", arguments, seconds, product))
    return steps


def fast_scoring(folder: Path) -> list[Step]:
    """In the controls' place, which need MNIST: samples of a smoke run drawn and scored."""
    run = folder / "mnist" / "paper-seed1-digits"
    drawn, score = folder / "samples" / "samples.npy", folder / "samples" / "score.json"
    few = ("--labels", "0-9", "--per-label", "10")
    files = ("--out", str(drawn.with_name("grid.png")), "--npy", str(drawn))
    images = ("--valid", str(drawn), "--test", str(drawn))
    return [
        Step("samples", "sample", (str(run), *few, *files), 8, drawn, needs=("mnist paper-seed1-digits",)),
        Step(
            "score",
            "parzen",
            ("--samples", str(run), "--count", "100", *images, "--json", str(score)),
            8,
            score,
            needs=("samples",),
        ),
    ]


def word_steps(command: Command, folder: Path, scenes: str | None) -> list[Step]:
    """Corpus and word vectors; ``scenes``: the step that renders the scenes, whose own rows are taken."""
    corpus, product = folder / "word-vectors" / "corpus", vectors(command, folder)
    if scenes:
        rows = folder / "cache" / f"scenes-{FAST_IMAGES}" / "yfcc100m" / "yfcc100m_dataset-0.bz2"
        source: tuple[str, ...] = (str(rows),)
        min_count, seconds = 20, (5.0, 10.0)
    else:
        source, min_count = _root(command), command.min_count
        # Times of the whole of YFCC100M; without metadata the embedded rows serve, and their file is called so.
        seconds = (4_000.0, 20_000.0) if has_metadata(command) else (5.0, 10.0)
    size = ("--min-count", str(min_count), "--epochs", str(command.epochs))
    train = ("train", "--corpus", str(corpus), "--out", str(product), *size)
    needs = (scenes,) if scenes else ()
    return [
        Step("corpus of words", "word_vectors", ("corpus", *source, "--corpus", str(corpus)), seconds[0], needs=needs),
        Step("word vectors", "word_vectors", train, seconds[1], product, needs=("corpus of words",)),
    ]


def vectors(command: Command, folder: Path) -> Path:
    """The file of the word vectors."""
    name = f"min-count-{command.min_count}" if has_metadata(command) and not command.fast else "embedded"
    return folder / "word-vectors" / f"{name}.bin"


def has_metadata(command: Command) -> bool:
    """Whether YFCC100M metadata lies under the data root."""
    from data.roots import data_root
    from data.yfcc100m import default_shards

    return bool(default_shards(data_root(command.data_root)))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _root(command: Command) -> tuple[str, ...]:
    return ("--data-root", str(command.data_root)) if command.data_root else ()


def _common(command: Command) -> tuple[str, ...]:
    threads = ("--threads", str(command.threads)) if command.threads else ()
    return (*_root(command), "--device", command.device, *threads)


def overview(steps: Sequence[Step]) -> str:
    """The steps, one a line, with commands, times, and what is done."""
    lines = []
    left = 0.0
    for step in steps:
        done = step.is_done()
        left += 0 if done else step.seconds * (1 - step.share())
        lines.append(f"{'done' if done else clock(step.seconds):>8}  {step.name}\n          {step.typed}")
    lines.append(f"about {clock(left)} left on two quiet cores; a GPU takes a small part of it")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------------------
# Playing it


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Hold ``folder``'s lock, also by the steps' processes, which may outlive a killed one; its descriptor.

    Raises ``UsageError`` if another process holds it.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "reproduce.lock", "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"{file.name}: another call, or a step that a killed one left behind, is at work in {folder}; wait for "
                "it or end it"
            ) from None
        yield file.fileno()


def play(steps: Sequence[Step], logs: Path, lock: int) -> dict[str, State]:
    """Do the steps in order; how each ended, by name. Output goes to a file each below ``logs``.

    After an interrupt the step at work has saved itself, and the others are not begun.
    """
    from tqdm import tqdm

    logs.mkdir(parents=True, exist_ok=True)
    states: dict[str, State] = {}
    # Weighted by time, so that the bar's own estimate corrects itself by the steps that are done.
    form = "{percentage:3.0f}%|{bar}| {elapsed}, about {remaining} left{postfix}"
    todo = [step for step in steps if not step.is_done()]
    total = sum(step.seconds for step in todo)
    with tqdm(total=total, bar_format=form, smoothing=0, dynamic_ncols=True, disable=None) as bar:
        for step in steps:
            if step not in todo:
                states[step.name] = "skipped"
                continue
            broken = [name for name in step.needs if states.get(name) in ("failed", "left out")]
            if broken:
                states[step.name] = "left out"
                bar.write(f"left out: {step.name}, which needs {', '.join(broken)}", file=sys.stdout)
            else:
                states[step.name] = play_one(step, logs / f"{step.name.replace(' ', '-')}.log", lock, bar)
            if states[step.name] == "stopped":
                break
    return states


def play_one(step: Step, log: Path, lock: int, bar: Any) -> State:
    """Do one step, the bar moving on with it."""
    if step.product:
        step.product.parent.mkdir(parents=True, exist_ok=True)
    begun, shown = time.monotonic(), 0.0
    first = step.share()
    bar.set_postfix_str(step.name)
    if bar.disable:
        print(f"begun: {step.name}", flush=True)
    with open(log, "a", encoding="utf-8") as file:
        print(f"$ {step.typed}", file=file, flush=True)
        process = subprocess.Popen(
            step.command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, pass_fds=(lock,)
        )
        try:
            while True:
                try:
                    code = process.wait(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    # By estimates where there are some, else by the clock, but never to the end.
                    done = max(step.share() - first, 0) or (time.monotonic() - begun) / step.seconds
                    part = min(done, 0.95) * step.seconds
                    bar.update(max(part - shown, 0))
                    shown = max(part, shown)
        except KeyboardInterrupt:
            # The terminal has told the step as well; a second signal would cut short its saving.
            bar.set_postfix_str(f"{step.name} is saving")
            _end(process)
            return "stopped"
    # Sums of fractions may end a little above the total, which the bar would complain about.
    bar.update(min(step.seconds - shown, max(bar.total - bar.n, 0)) if bar.total else 0)
    took = clock(time.monotonic() - begun)
    if code == 0:
        bar.write(f"done: {step.name} ({took})", file=sys.stdout)
        return "done"
    bar.write(f"failed: {step.name} ({took}): {last_line(log)}", file=sys.stdout)
    return "failed"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let an interrupted process save itself; ask it to where it was not told."""
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()


def last_line(log: Path) -> str:
    """What a step said last."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "no word")


def summary(steps: Sequence[Step], states: Mapping[str, State], seconds: float, logs: Path) -> str:
    """How all ended, the failures by name and with what they said."""
    count = {state: sum(found == state for found in states.values()) for state in ("done", "skipped", "failed")}
    lines = [f"{count['done']} steps done, {count['skipped']} were done before, in {clock(seconds)}"]
    for step in steps:
        state = states.get(step.name, "not begun")
        if state == "failed":
            log = logs / f"{step.name.replace(' ', '-')}.log"
            lines.append(f"failed: {step.name}: {last_line(log)}\n  all it said: {log}\n  {step.typed}")
        elif state in ("left out", "stopped", "not begun"):
            lines.append(f"{state}: {step.name}")
    if "stopped" in states.values():
        lines.append("the same command goes on from here")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
