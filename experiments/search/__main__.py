"""A search for settings on validation data, on one machine or a cluster: ``python -m experiments.search mnist PRESET``.

Wires a space (``space``), trials (``trials``), Ray Tune (``on_ray``) and tables (``summary``). Test data is never used;
the best settings are written as a preset's file for the training commands.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments import UsageError
from experiments.flickr_tags.presets import FLICKR_PRESETS, FlickrConfig
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig
from experiments.runs.cli import check_name, printed_command, read_preset, run
from experiments.runs.files import read_record
from experiments.runs.folder import environment
from experiments.runs.training import resuming_command
from experiments.search.space import Searcher, Space, find_space, parse_space, propose, spell_space, with_values
from experiments.search.trials import (
    OBJECTIVES,
    SEARCH,
    Plan,
    Trial,
    find_photos,
    prepare_photos,
    read_trials,
    seen,
    start,
    stopping_bar,
    winner,
)

PRESETS: dict[str, Any] = {"mnist": MNIST_PRESETS, "flickr-tags": FLICKR_PRESETS}

#: Trials, and epochs of each: in all, at least, and between estimates. For photos in proportion to its preset's length.
LENGTHS = {"mnist": (30, 60, 25, 5), "flickr-tags": (30, 36, 12, 3)}
#: The same for a smoke test, its data, space, and settings besides.
FAST_LENGTHS = {"mnist": (6, 30, 25, 5), "flickr-tags": (4, 4, 2, 1)}
FAST_DATA = {"mnist": ("digits", None), "flickr-tags": ("scenes", 60)}
FAST_SPACE = {"mnist": "small", "flickr-tags": "optimiser"}
FAST_SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": {"estimate.samples_per_class": 20, "estimate.images": 100},
    "flickr-tags": {"words.epochs": 5, "words.min_count": 20, "decoding.min_count": 20, "estimate_images": 10},
}

#: Seconds between two drawings of the plot while trials are trained.
DRAW_EVERY = 60.0


@dataclass(frozen=True)
class Command:
    """Search a preset's settings on validation data, and write the best as a preset's file.

    Trials are trained by Ray: on this machine's cores, or with RAY_ADDRESS in the environment by that cluster, whose
    nodes must all see the data root and the folder of runs under the same paths.
    """

    experiment: tyro.conf.Positional[Literal["mnist", "flickr-tags"]] = "mnist"
    """Experiment whose settings to search; the score is the validation log-likelihood of mnist, the validation mean
    average precision of flickr-tags."""
    preset: tyro.conf.Positional[str] = "paper"
    """Preset, or a preset's file, that gives all settings outside the space."""
    space: str | None = None
    """What to choose from: a space's name (mnist: balance, optimiser, small; flickr-tags: balance, optimiser), or a
    JSON file such as {"training.learning_rate": {"log_uniform": [0.02, 0.2]}, "generator.joint": {"choice":
    ["relu:1200", "relu:1200,dropout=0.5"]}, "training.momentum_ramp": {"uniform": [10000, 90000]}, "training.decay":
    1.000004}. The default is balance."""
    searcher: Searcher = "tpe"
    """random, or tpe: ten at random, then by a model of those so far."""
    trials: int | None = None
    """Trials in all; 30 if not given. With --resume a greater number adds some."""
    epochs: int | None = None
    """Epochs of a trial that is not stopped; 60 if not given, 36 for flickr-tags."""
    grace_epochs: int | None = None
    """Epochs before a trial may be stopped, since good networks can score badly at first; 25 if not given, 12 for
    flickr-tags."""
    estimate_epochs: int | None = None
    """Epochs from one estimate to the next; 5 if not given, 3 for flickr-tags."""
    keep: float = 0.5
    """After those, a trial is stopped unless its best score is among this share of the other trials' scores at the same
    epoch; 1 stops only a trial below all others."""
    seed: int = 1
    """Seed of the proposals and of every trial's training: experiments.mnist best.json --seed SEED repeats the best."""
    cpus_per_trial: int = 1
    """Cores, and threads, of a trial."""
    gpus_per_trial: float = 0.0
    """GPUs of a trial; 0.5 lets two share one. Without, trials run on the processor."""
    parallel: int | None = None
    """Trials at once; as many as fit if not given."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products while training; auto takes the faster one on the machine that starts the search, and
    float32 where only trials have GPUs."""
    dataset: str | None = None
    """As of the training command: auto, mnist or digits; auto, mirflickr, flickr-mini, scenes or a folder."""
    images: int | None = None
    """Of flickr-tags: only the first so many photos that have a tag; of the embedded scenes, render just so many."""
    data_root: Path | None = None
    """Folder of the data sets; else $CGAN_DATA, else data/raw."""
    runs: Path = Path("runs")
    """Folder of all runs; this search goes to RUNS/search/NAME."""
    name: str | None = None
    """Name of the search; EXPERIMENT-PRESET if not given, with -fast after it for --fast."""
    resume: bool = False
    """Continue the search of this name, or start it."""
    fast: bool = False
    """A smoke test: a few short trials of small nets on embedded data; its figures mean nothing."""

    def __post_init__(self) -> None:
        check_name(self.name)
        counts = ("trials", "epochs", "grace_epochs", "estimate_epochs", "cpus_per_trial", "parallel")
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} {value}: at least 1 is needed")
        if not 0 < self.keep <= 1:
            raise UsageError(f"--keep {self.keep}: give a share of the trials, above 0 and at most 1")
        if self.gpus_per_trial < 0:
            raise UsageError(f"--gpus-per-trial {self.gpus_per_trial}: it must not be negative")
        if self.images is not None and (self.experiment == "mnist" or self.images < 10):
            raise UsageError(f"--images {self.images}: it is for flickr-tags, and 10 or more")


@dataclass(frozen=True)
class Folders:
    """Absolute paths: the search's own folder, the data root, and the cache that all runs share."""

    folder: Path
    root: Path
    cache: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    command = tyro.cli(Command, args=argv, prog="python -m experiments.search")
    preset, config = find_preset(command)
    if command.fast:
        config = with_values(config, FAST_SETTINGS[command.experiment])
    space = find_space(
        command.experiment, command.space or (FAST_SPACE[command.experiment] if command.fast else None), config
    )
    lengths = check_lengths(command)
    missing = [name for name in ("ray", "optuna") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"a search needs {' and '.join(missing)}: pip install -e '.[cluster]'")
    from filelock import FileLock, Timeout

    from data.roots import data_root

    name = command.name or f"{command.experiment}-{preset}{'-fast' if command.fast else ''}"
    folder = (command.runs / "search" / name).absolute()
    folders = Folders(folder, data_root(command.data_root).absolute(), (command.runs / "cache").absolute())
    if (folder / SEARCH).exists() and not command.resume:
        raise UsageError(f"{folder}: a search is there already; --resume continues it, --name starts another")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "search.lock", timeout=0):
            return search(command, preset, config, space, lengths, folders)
    except Timeout:
        raise UsageError(f"{folder}: another process is searching there; wait for it or end it") from None


def find_preset(command: Command) -> tuple[str, MnistConfig | FlickrConfig]:
    """Return name and settings of the preset, or of a preset's file."""
    presets = PRESETS[command.experiment]
    if command.preset.endswith(".json"):
        name, config, _ = read_preset(command.preset, presets)
        return name, config
    if command.preset not in presets:
        raise UsageError(
            f"{command.preset} is no preset of {command.experiment}: choose {', '.join(presets)}, or give a .json file"
        )
    return command.preset, presets[command.preset]()


def check_lengths(command: Command) -> tuple[int, int, int, int]:
    """Return trials, epochs, grace epochs and epochs between estimates; ``UsageError`` if they do not divide."""
    default = (FAST_LENGTHS if command.fast else LENGTHS)[command.experiment]
    asked = (command.trials, command.epochs, command.grace_epochs, command.estimate_epochs)
    trials, epochs, grace, every = (
        usual if given is None else given for given, usual in zip(asked, default, strict=True)
    )
    if epochs % every or grace % every or grace > epochs:
        raise UsageError(
            f"--epochs {epochs}, --grace-epochs {grace} and --estimate-epochs {every}: the first two must be multiples "
            "of the third, and the second at most the first"
        )
    return trials, epochs, grace, every


def search(
    command: Command,
    preset: str,
    config: MnistConfig | FlickrConfig,
    space: Space,
    lengths: tuple[int, int, int, int],
    folders: Folders,
) -> int:
    """Search, or resume, and return the exit status."""
    from cgan.trainer import same_identity
    from experiments.search import summary

    before = read_record(folders.folder / SEARCH, dict[str, Any]) if (folders.folder / SEARCH).exists() else {}
    plan, notice = make_plan(command, preset, config, space, lengths, folders, before)
    if before:
        kept = Plan.read(folders.folder)
        asked = {**asdict(plan), "device": kept.device, "threads": kept.threads}
        same_identity(_through_json(asdict(kept)), _through_json(asked), folders.folder / SEARCH)
        # In the order it was started with.
        space = parse_space(kept.space, config, str(folders.folder / SEARCH))
    trials = read_trials(folders.folder)
    wanted = lengths[0]
    over = sum(trial.over for trial in trials)
    print(
        f"search {folders.folder.name}: {plan.experiment} {preset} on {plan.dataset['name']}, {wanted} trials of up to "
        f"{plan.epochs} epochs, {plan.searcher}" + (f"; {over} have ended" if trials else "")
    )
    if notice:
        print(f"NOTE: {notice.rstrip('.')}.")
    if over < max(wanted, len(trials)):
        session = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **asdict(environment())}
        plan.write(folders.folder, [*before.get("sessions", []), session])
        trials = run_all(command, plan, space, trials, wanted, folders, notice)
    report(folders.folder, plan, space, trials, notice)
    best = winner(trials, plan.experiment)
    if best is None:
        raise UsageError(f"no trial has a score: {folders.folder / summary.MARKDOWN} says why")
    _, words, unit = OBJECTIVES[plan.experiment]
    module = f"experiments.{plan.experiment.replace('-', '_')}"
    training_command = printed_command(module, folders.folder / summary.BEST)
    print(
        f"best: trial {best.number}, {words} {best.bests(plan.experiment)[-1]:.4g}{f' {unit}' if unit else ''}; all "
        f"trials: {folders.folder / summary.MARKDOWN}, {summary.PLOT}\n"
        f"to train it: {training_command}"
    )
    return 0


def _through_json(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record as it is read from a file: tuples become lists."""
    found: dict[str, Any] = json.loads(json.dumps(record))
    return found


def make_plan(
    command: Command,
    preset: str,
    config: MnistConfig | FlickrConfig,
    space: Space,
    lengths: tuple[int, int, int, int],
    folders: Folders,
    before: dict[str, Any],
) -> tuple[Plan, str | None]:
    """Find and prepare the data; return what the trials share, and a notice about the data."""
    import torch

    from cgan.devices import resolve_device, resolve_precision

    _, epochs, grace, every = lengths
    # Trials may have GPUs where the command itself has none: what it prepares, it then prepares on the processor.
    device = "cuda" if command.gpus_per_trial else "cpu"
    here = device if torch.cuda.is_available() else "cpu"
    precision = before.get("precision") if command.precision == "auto" else command.precision
    if precision is None:
        precision = resolve_precision("auto", resolve_device(here)) if here == device else "float32"
    finding = find_digits if isinstance(config, MnistConfig) else find_tagged
    dataset, notice = finding(command, config, folders, here)  # type: ignore[arg-type]
    plan = Plan(
        experiment=command.experiment,
        preset=preset,
        settings=config.as_dict(),
        space=spell_space(space),
        searcher=command.searcher,
        seed=command.seed,
        epochs=epochs,
        grace_epochs=grace,
        estimate_epochs=every,
        keep=command.keep,
        dataset=dataset,
        device=device,
        precision=precision,
        threads=command.cpus_per_trial,
    )
    return plan, notice


def find_digits(
    command: Command, config: MnistConfig, folders: Folders, device: str
) -> tuple[dict[str, Any], str | None]:
    """Return the data set of an MNIST search and its notice; its classifier is trained and kept beside the trials."""
    from data.mnist import load_digit_images
    from experiments.mnist.evaluate import digit_classifier

    name = command.dataset or (FAST_DATA["mnist"][0] if command.fast else "auto")
    dataset = load_digit_images(name, folders.root)  # type: ignore[arg-type]
    digit_classifier(dataset, folders.folder)
    return {"name": dataset.name, "embedded": dataset.embedded, "checksum": dataset.checksum}, dataset.notice


def find_tagged(
    command: Command, config: FlickrConfig, folders: Folders, device: str
) -> tuple[dict[str, Any], str | None]:
    """Return the photos of a Flickr search and their notice; features and word vectors are computed and kept."""
    fast_name, fast_images = FAST_DATA["flickr-tags"]
    name = command.dataset or (fast_name if command.fast else "auto")
    images = command.images or (fast_images if command.fast else None)
    photos = find_photos(config, name, images, folders.root, folders.cache)
    prepare_photos(config, photos, images, device, folders.root, folders.cache)
    if photos.embedded:
        asked = "scenes"
    else:
        asked = photos.name if photos.name in ("mirflickr", "flickr-mini") else str(photos.folder.absolute())
    about = {"name": photos.name, "embedded": photos.embedded, "checksum": photos.checksum}
    return {**about, "asked": asked, "images": images}, photos.notice


def run_all(
    command: Command,
    plan: Plan,
    space: Space,
    trials: list[Trial],
    wanted: int,
    folders: Folders,
    notice: str | None,
) -> list[Trial]:
    """Train what is left and return all trials. Raises ``Interrupted`` with the command to continue after Ctrl-C."""
    from cgan.trainer import Interrupted
    from experiments.search import on_ray

    def new(known: list[Trial], number: int) -> Trial:
        values = propose(space, seen(known, plan.experiment), plan.searcher, plan.seed, number)
        return start(folders.folder, number, values)

    def stop_early(trial: Trial, others: list[Trial]) -> str | None:
        mine = trial.bests(plan.experiment)
        if len(mine) >= plan.estimates:
            return None
        grace = plan.grace_epochs // plan.estimate_epochs
        bar = stopping_bar(mine, [other.bests(plan.experiment) for other in others], grace, plan.keep)
        epoch = len(mine) * plan.estimate_epochs
        return None if bar is None else f"{mine[-1]:.4g} by epoch {epoch}, below the {bar:.4g} that the others had"

    display = Display(plan, wanted, trials)

    def on_event(kind: str, trial: Trial, result: dict[str, Any]) -> None:
        display.show(kind, trial, result, board.trials.values())
        if kind == "over" or (kind == "estimate" and time.monotonic() - display.drawn > DRAW_EVERY):
            report(folders.folder, plan, space, list(board.trials.values()), notice)
            display.drawn = time.monotonic()

    board = on_ray.Board(trials, new, wanted, stop_early, on_event)
    config = {"folder": str(folders.folder), "root": str(folders.root), "cache": str(folders.cache)}
    cpus, gpus = float(command.cpus_per_trial), command.gpus_per_trial
    with display, on_ray.interrupts(board), on_ray.started(cpus, gpus) as room:
        parallel = command.parallel or int(room)
        display.say(f"{parallel} trials at once, {command.cpus_per_trial} threads each; folder {folders.folder}")
        on_ray.run_trials(board, config, folders.folder / "ray", cpus=cpus, gpus=gpus, parallel=parallel)
    found = [board.trials[number] for number in sorted(board.trials)]
    if board.interrupted and not all(trial.over for trial in found):
        report(folders.folder, plan, space, found, notice)
        raise Interrupted(f"stopped and saved; to continue:\n  {resuming_command('experiments.search')}")
    return found


def report(folder: Path, plan: Plan, space: Space, trials: list[Trial], notice: str | None) -> None:
    """Write the table, the plot and the best settings as they are now."""
    from experiments.search import summary

    summary.write_tables(folder, plan, space, trials, notice)
    title = f"Search {folder.name} on {plan.dataset['name']}: {len(trials)} trials"
    summary.draw(folder / summary.PLOT, plan, space, trials, title)


class Display:
    """A progress bar of all trials' epochs, and a line for each estimate."""

    def __init__(self, plan: Plan, wanted: int, trials: Sequence[Trial]) -> None:
        from tqdm import tqdm

        self.plan, self.wanted, self.drawn = plan, wanted, 0.0
        self.epochs = {trial.number: self._epochs(trial) for trial in trials}
        self.bar = tqdm(
            total=max(wanted, len(trials)) * plan.epochs,
            initial=int(sum(self.epochs.values())),
            unit="epoch",
            dynamic_ncols=True,
            disable=None,
        )

    def _epochs(self, trial: Trial) -> float:
        """Return the epochs done; all of them for a trial that has ended."""
        return self.plan.epochs if trial.over else (trial.history[-1]["epoch"] if trial.history else 0)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def show(self, kind: str, trial: Trial, result: dict[str, Any], trials: Any) -> None:
        """Print a trial's new estimate, or how it ended."""
        column, words, unit = OBJECTIVES[self.plan.experiment]
        self.epochs[trial.number] = (
            self.plan.epochs if trial.over else result.get("epoch", self.epochs.get(trial.number, 0))
        )
        self.bar.n = round(sum(self.epochs.values()))
        self.bar.refresh()
        clock = time.strftime("%H:%M:%S")
        if kind == "died":
            self.say(f"{clock}  trial {trial.number:>3}  its process died; it continues in another")
        elif kind in ("estimate", "over"):
            best = winner(list(trials), self.plan.experiment)
            line = f"{clock}  trial {trial.number:>3}"
            if trial.history:
                last = trial.history[-1]
                line += f"  epoch {last['epoch']:>3.0f}  {words} {last[column]:9.4g}{f' {unit}' if unit else ''}"
            if kind == "over":
                line += f"  {trial.state}{f': {trial.reason}' if trial.reason else ''}"
            if best is not None:
                line += f"  (best {best.bests(self.plan.experiment)[-1]:.4g}, trial {best.number})"
            self.say(line)


if __name__ == "__main__":
    raise SystemExit(run(main))
