"""A search for settings on validation data, on one machine or a cluster: ``python -m experiments.search mnist PRESET``.

Wires a space (``experiments.search_space``), trials (``search_trials``), Ray Tune (``search_ray``) and what is left for
readers (``search_report``). Nothing is measured on test data; the winner is a preset's file for the training commands.
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
    begin,
    find_photos,
    hopeless,
    prepare_photos,
    read_trials,
    seen,
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
    """Whose settings: validation likelihood is the score of mnist, validation mean average precision of flickr-tags."""
    preset: tyro.conf.Positional[str] = "paper"
    """The preset whose settings hold but for those of the space; or a preset's file."""
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
    """Epochs that every trial gets, since nets that succeed look dead at first; 25 if not given, 12 for flickr-tags."""
    estimate_epochs: int | None = None
    """Epochs from one estimate to the next; 5 if not given, 3 for flickr-tags."""
    keep: float = 0.5
    """After those, a trial goes on while its best score is above what this share of the others had reached by then; 1
    stops only those below all others."""
    seed: int = 1
    """Of the proposals, and of every trial's training: experiments.mnist best.json --seed SEED repeats the winner."""
    cpus_per_trial: int = 1
    """Cores, and threads, of a trial."""
    gpus_per_trial: float = 0.0
    """GPUs of a trial; 0.5 lets two share one. Without, trials run on the processor."""
    parallel: int | None = None
    """Trials at once; as many as fit if not given."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products while training; auto takes what is quicker on the machine that begins the search,
    and float32 where only trials have GPUs."""
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
    """Go on with the search of this name, or begin it."""
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
class Place:
    """Where all lies, as absolute paths: the search's folder, the data root, and what is kept for all runs."""

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
    place = Place(folder, data_root(command.data_root).absolute(), (command.runs / "cache").absolute())
    if (folder / SEARCH).exists() and not command.resume:
        raise UsageError(f"{folder}: there is a search; --resume goes on with it, --name starts another")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "search.lock", timeout=0):
            return search(command, preset, config, space, lengths, place)
    except Timeout:
        raise UsageError(f"{folder}: another process is searching there; wait for it or end it") from None


def find_preset(command: Command) -> tuple[str, MnistConfig | FlickrConfig]:
    """Name and settings of the preset, or of a preset's file."""
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
    """Trials, epochs, grace epochs and epochs between estimates; ``UsageError`` if estimates would miss the ends."""
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
    place: Place,
) -> int:
    """Search, or resume, and return the exit status."""
    from cgan.trainer import same_identity
    from experiments.search import summary as search_report

    before = read_record(place.folder / SEARCH, dict[str, Any]) if (place.folder / SEARCH).exists() else {}
    plan, notice = make_plan(command, preset, config, space, lengths, place, before)
    if before:
        kept = Plan.read(place.folder)
        asked = {**asdict(plan), "device": kept.device, "threads": kept.threads}
        same_identity(_through_json(asdict(kept)), _through_json(asked), place.folder / SEARCH)
        # In the order that it was begun with.
        space = parse_space(kept.space, config, str(place.folder / SEARCH))
    trials = read_trials(place.folder)
    wanted = lengths[0]
    over = sum(trial.over for trial in trials)
    print(
        f"search {place.folder.name}: {plan.experiment} {preset} on {plan.dataset['name']}, {wanted} trials of up to "
        f"{plan.epochs} epochs, {plan.searcher}" + (f"; {over} are over" if trials else "")
    )
    if notice:
        print(f"NOTE: {notice.rstrip('.')}.")
    if over < max(wanted, len(trials)):
        session = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **asdict(environment())}
        plan.write(place.folder, [*before.get("sessions", []), session])
        trials = run_all(command, plan, space, trials, wanted, place, notice)
    report(place.folder, plan, space, trials, notice)
    best = winner(trials, plan.experiment)
    if best is None:
        raise UsageError(f"no trial has a score: {place.folder / search_report.MARKDOWN} says why")
    _, words, unit = OBJECTIVES[plan.experiment]
    module = f"experiments.{plan.experiment.replace('-', '_')}"
    training_command = printed_command(module, place.folder / search_report.BEST)
    print(
        f"best: trial {best.number}, {words} {best.bests(plan.experiment)[-1]:.4g}{f' {unit}' if unit else ''}; all "
        f"trials: {place.folder / search_report.MARKDOWN}, {search_report.PLOT}\n"
        f"to train it: {training_command}"
    )
    return 0


def _through_json(record: dict[str, Any]) -> dict[str, Any]:
    """As the record comes back from a file: tuples as lists."""
    found: dict[str, Any] = json.loads(json.dumps(record))
    return found


def make_plan(
    command: Command,
    preset: str,
    config: MnistConfig | FlickrConfig,
    space: Space,
    lengths: tuple[int, int, int, int],
    place: Place,
    before: dict[str, Any],
) -> tuple[Plan, str | None]:
    """What the trials share, the data found and prepared; and what must be said of the data."""
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
    dataset, notice = finding(command, config, place, here)  # type: ignore[arg-type]
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


def find_digits(command: Command, config: MnistConfig, place: Place, device: str) -> tuple[dict[str, Any], str | None]:
    """The data set of an MNIST search, with the classifier that reads samples trained beside the trials."""
    from data.mnist import load_digit_images
    from experiments.mnist.evaluate import digit_classifier

    name = command.dataset or (FAST_DATA["mnist"][0] if command.fast else "auto")
    dataset = load_digit_images(name, place.root)  # type: ignore[arg-type]
    digit_classifier(dataset, place.folder)
    return {"name": dataset.name, "embedded": dataset.embedded, "checksum": dataset.checksum}, dataset.notice


def find_tagged(command: Command, config: FlickrConfig, place: Place, device: str) -> tuple[dict[str, Any], str | None]:
    """The photos of a Flickr search, with their features and word vectors made and kept."""
    fast_name, fast_images = FAST_DATA["flickr-tags"]
    name = command.dataset or (fast_name if command.fast else "auto")
    images = command.images or (fast_images if command.fast else None)
    photos = find_photos(config, name, images, place.root, place.cache)
    prepare_photos(config, photos, images, device, place.root, place.cache)
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
    place: Place,
    notice: str | None,
) -> list[Trial]:
    """Train what is left and return all trials. Raises ``Interrupted`` with the command to continue after Ctrl-C."""
    from cgan.trainer import Interrupted
    from experiments.search import on_ray as search_ray

    def new(known: list[Trial], number: int) -> Trial:
        values = propose(space, seen(known, plan.experiment), plan.searcher, plan.seed, number)
        return begin(place.folder, number, values)

    def stop_early(trial: Trial, others: list[Trial]) -> str | None:
        mine = trial.bests(plan.experiment)
        if len(mine) >= plan.estimates:
            return None
        grace = plan.grace_epochs // plan.estimate_epochs
        bar = hopeless(mine, [other.bests(plan.experiment) for other in others], grace, plan.keep)
        epoch = len(mine) * plan.estimate_epochs
        return None if bar is None else f"below the bar: {mine[-1]:.4g} by epoch {epoch}, where the bar was {bar:.4g}"

    display = Display(plan, wanted, trials)

    def on_event(kind: str, trial: Trial, result: dict[str, Any]) -> None:
        display.show(kind, trial, result, board.trials.values())
        if kind == "over" or (kind == "estimate" and time.monotonic() - display.drawn > DRAW_EVERY):
            report(place.folder, plan, space, list(board.trials.values()), notice)
            display.drawn = time.monotonic()

    board = search_ray.Board(trials, new, wanted, stop_early, on_event)
    config = {"folder": str(place.folder), "root": str(place.root), "cache": str(place.cache)}
    cpus, gpus = float(command.cpus_per_trial), command.gpus_per_trial
    with display, search_ray.interrupts(board), search_ray.started(cpus, gpus) as room:
        parallel = command.parallel or int(room)
        display.say(f"{parallel} trials at once, {command.cpus_per_trial} threads each; folder {place.folder}")
        search_ray.run_trials(board, config, place.folder / "ray", cpus=cpus, gpus=gpus, parallel=parallel)
    found = [board.trials[number] for number in sorted(board.trials)]
    if board.interrupted and not all(trial.over for trial in found):
        report(place.folder, plan, space, found, notice)
        raise Interrupted(f"stopped and saved; to go on:\n  {resuming_command('experiments.search')}")
    return found


def report(folder: Path, plan: Plan, space: Space, trials: list[Trial], notice: str | None) -> None:
    """Table, plot and winner as they are now."""
    from experiments.search import summary as search_report

    search_report.write_tables(folder, plan, space, trials, notice)
    title = f"Search {folder.name} on {plan.dataset['name']}: {len(trials)} trials"
    search_report.draw(folder / search_report.PLOT, plan, space, trials, title)


class Display:
    """A bar of all trials' epochs, and a line for each estimate."""

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
        """Of a trial that is over all: there is nothing more to wait for."""
        return self.plan.epochs if trial.over else (trial.history[-1]["epoch"] if trial.history else 0)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        """A line above the bar."""
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def show(self, kind: str, trial: Trial, result: dict[str, Any], trials: Any) -> None:
        """What became of a trial."""
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
