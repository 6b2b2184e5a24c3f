"""A search for settings on validation data, on one machine or a cluster: ``python -m experiments.search mnist PRESET``.

Wires a space (``space``), the trials (``trials``), Ray Tune (``on_ray``) and tables (``summary``). Test data is never
used; the best settings are written as a preset's file for the training commands.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import tyro

from experiments import UsageError
from experiments.flickr_tags.presets import FLICKR_PRESETS, FlickrConfig
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig, on_digits
from experiments.runs.cli import check_choice, check_least, check_name, parse, printed_command, read_preset, run
from experiments.runs.files import write_json
from experiments.runs.folder import RunFolder, new_session
from experiments.runs.records import DatasetRecord
from experiments.runs.training import resuming_command
from experiments.search.trials import SEARCH, Places, Plan, Searcher, read_plan, winner

if TYPE_CHECKING:
    from experiments.search.on_ray import Search

PRESETS: dict[str, Any] = {"mnist": MNIST_PRESETS, "flickr-tags": FLICKR_PRESETS}

#: Options that are not given. Those of photos are in proportion to its preset's length.
DEFAULTS: dict[str, dict[str, Any]] = {
    "mnist": {"trials": 30, "epochs": 60, "grace_epochs": 25, "estimate_epochs": 5, "dataset": "auto"},
    "flickr-tags": {"trials": 30, "epochs": 36, "grace_epochs": 12, "estimate_epochs": 3, "dataset": "auto"},
}
#: Those of a smoke test, where they differ, and its settings.
FAST: dict[str, dict[str, Any]] = {
    "mnist": {"trials": 6, "epochs": 30, "dataset": "digits", "space": "small"},
    "flickr-tags": {"trials": 4, "epochs": 4, "grace_epochs": 2, "estimate_epochs": 1, "dataset": "scenes"}
    | {"images": 60, "space": "optimiser"},
}
FAST_SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": {"estimate.samples_per_class": 20, "estimate.images": 100},
    "flickr-tags": {"words.epochs": 5, "words.min_count": 20, "decoding.min_count": 20, "estimate_images": 10},
}


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
        check_least(self, trials=1, epochs=1, grace_epochs=1, estimate_epochs=1, cpus_per_trial=1, parallel=1)
        check_least(self, gpus_per_trial=0, images=10)
        if not 0 < self.keep <= 1:
            raise UsageError(f"--keep {self.keep}: give a share of the trials, above 0 and at most 1")
        if self.images is not None and self.experiment == "mnist":
            raise UsageError(f"--images {self.images}: it is for flickr-tags")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    given = parse(Command, "experiments.search", argv)
    if missing := [name for name in ("ray", "optuna") if importlib.util.find_spec(name) is None]:
        raise UsageError(f"a search needs {' and '.join(missing)}: pip install -e '.[cluster]'")
    from data.roots import data_root
    from experiments.search.on_ray import Search
    from experiments.search.space import find_space, parse_space, with_values

    defaults = DEFAULTS[given.experiment] | (FAST[given.experiment] if given.fast else {})
    command: Any = replace(given, **{name: value for name, value in defaults.items() if getattr(given, name) is None})
    presets, preset = PRESETS[command.experiment], command.preset
    if preset.endswith(".json"):
        preset, config, _ = read_preset(preset, presets)
    else:
        check_choice(preset, tuple(presets), f"preset of {command.experiment}")
        config = presets[preset]()
    if command.fast:
        config = with_values(config, FAST_SETTINGS[command.experiment])
    record, where = find_space(command.experiment, command.space)
    space = parse_space(record, config, where)
    epochs, grace, every = command.epochs, command.grace_epochs, command.estimate_epochs
    if epochs % every or grace % every or grace > epochs:
        raise UsageError(
            f"--epochs {epochs}, --grace-epochs {grace} and --estimate-epochs {every}: the first two must be multiples "
            "of the third, and the second at most the first"
        )
    name = command.name or f"{command.experiment}-{preset}{'-fast' if command.fast else ''}"
    folder = (command.runs / "search" / name).absolute()
    places = Places(folder, data_root(command.data_root).absolute(), (command.runs / "cache").absolute())
    if (folder / SEARCH).exists() and not command.resume:
        raise UsageError(f"{folder}: a search is there already; --resume continues it, --name starts another")
    with RunFolder(folder).hold():
        plan, notice = open_plan(command, preset, config, record, places)
        return carry_out(command, Search(plan, space, places, command.trials, notice))


def open_plan(
    command: Any, preset: str, config: MnistConfig | FlickrConfig, space: dict[str, Any], places: Places
) -> tuple[Plan, str | None]:
    """Prepare what all trials share; return the plan, new or resumed, and a notice about the data.

    Raises ``CganError`` if the search in the folder was started with other settings.
    """
    import torch

    from cgan.devices import resolve_device, resolve_precision
    from cgan.loop import same_identity
    from experiments.mnist.evaluate import digit_classifier
    from experiments.search.on_ray import load_data

    before = read_plan(places.folder) if (places.folder / SEARCH).exists() else None
    # Trials may have GPUs where the command itself has none: what it prepares, it then prepares on the processor.
    device = "cuda" if command.gpus_per_trial else "cpu"
    here = device if torch.cuda.is_available() else "cpu"
    precision = command.precision
    if precision == "auto" and before:
        precision = before.precision
    elif precision == "auto":
        precision = resolve_precision("auto", resolve_device(here)) if here == device else "float32"

    data, source, _ = load_data(command.dataset, command.images, config, places, here)
    asked = source.name.removesuffix(" (embedded)")
    if asked not in ("mnist", "digits", "mirflickr", "flickr-mini", "scenes"):
        asked = str(source.folder.absolute())
    if isinstance(config, MnistConfig):
        digit_classifier(data, places.folder)
        if source.embedded and preset in MNIST_PRESETS:
            config = on_digits(config)  # A file's settings hold as they are.
    of_data = {name: getattr(source, name) for name in ("name", "embedded", "checksum")}
    as_given = ("experiment", "searcher", "seed", "epochs", "grace_epochs", "estimate_epochs", "keep")
    plan = Plan(
        **{name: getattr(command, name) for name in as_given},
        preset=preset,
        settings=config.as_dict(),
        space=space,
        dataset=DatasetRecord(**of_data, images=command.images),
        asked=asked,
        device=device,
        precision=precision,
        threads=command.cpus_per_trial,
        sessions=before.sessions if before else [],
    )
    if before:
        same = replace(plan, asked=before.asked, device=before.device, threads=before.threads)
        same_identity(msgspec.to_builtins(before), msgspec.to_builtins(same), places.folder / SEARCH)
    return plan, source.notice


def carry_out(command: Any, search: Search) -> int:
    """Train what is left, write and print what was found, and return the exit status.

    Raises ``Interrupted`` with the command to continue after Ctrl-C, SIGTERM or SIGHUP.
    """
    from cgan.loop import Interrupted
    from experiments.search.on_ray import run_trials
    from experiments.search.summary import BEST, MARKDOWN, PLOT

    plan, folder, over = search.plan, search.places.folder, sum(trial.over for trial in search.trials.values())
    print(
        f"search {folder.name}: {plan.experiment} {plan.preset} on {plan.dataset.name}, {search.wanted} trials of up "
        f"to {plan.epochs} epochs, {plan.searcher}" + (f"; {over} have ended" if search.trials else "")
    )
    if search.notice:
        print(f"NOTE: {search.notice.rstrip('.')}.")
    if search.left:
        session = new_session(plan.device, plan.threads)
        write_json(folder / SEARCH, replace(plan, sessions=[*plan.sessions, session]))
        run_trials(search, command.cpus_per_trial, command.gpus_per_trial, command.parallel)
    search.write()
    if search.received and search.left:
        raise Interrupted(f"stopped and saved; to continue:\n  {resuming_command('experiments.search')}")
    best = winner(search.trials.values())
    if best is None:
        raise UsageError(f"no trial has a score: {folder / MARKDOWN} says why")
    module = f"experiments.{plan.experiment.replace('-', '_')}"
    print(
        f"best: trial {best.record.number}, {plan.score_text(best.bests[-1])}; all trials: "
        f"{folder / MARKDOWN}, {PLOT}\nto train it: {printed_command(module, folder / BEST)}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
