"""What every training command shares: its command line, its record, the loop with a bar, estimates and an ending.

Knows nothing of what is trained or measured.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import tyro

from cgan import CganError
from cgan.specs import Init, Layer
from experiments import UsageError
from experiments.runs import folder as runs

if TYPE_CHECKING:
    import torch
    from torch.utils.tensorboard import SummaryWriter

    from cgan.settings import StoppingSettings
    from cgan.trainer import Diverged, Estimate, Progress, Trainer

Parsed = TypeVar("Parsed")

#: Settings that say where a file lies: what is in it counts, and is part of the data set's checksum.
LOCATIONS = (("features", "weights"), ("words", "vectors"))


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every training command can be told about a run, whatever is trained."""

    seed: int = 1
    """Seed of everything random: initial weights, batches, noise, dropout."""
    resume: bool = False
    """Go on where the run of this name stands, or start it; a finished run prints its result."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products while training; auto takes bfloat16 where it is quicker. All else is float32."""
    threads: int | None = None
    """Processor threads; PyTorch's own choice if not given. Part of what makes a run repeatable to the bit."""
    preset_file: tyro.conf.Suppress[str | None] = None
    """The file that the preset was read from, if it is not one of this package's."""


def parse(
    command: Callable[..., Parsed], presets: Mapping[str, Callable[[], Any]], argv: Sequence[str] | None, prog: str
) -> Parsed:
    """The ``command(config, preset=name)`` that the arguments spell; presets are described by their docstrings.

    In a preset's place a file of one may be given (``read_preset``). Ends the program with status 2 on a mistake, 0
    after ``--help``.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    entries = {name: ((make.__doc__ or "").strip(), command(make(), preset=name)) for name, make in presets.items()}
    if argv and argv[0].endswith(".json"):
        name, config, about = read_preset(argv[0], presets)
        entries[name] = (about, command(config, preset=name, preset_file=argv[0]))
        argv = [name, *argv[1:]]
    registry = tyro.constructors.ConstructorRegistry()
    for kind, metavar in ((Layer, "LAYER"), (Init, "INIT")):
        registry.primitive_rule(_text_rule(kind, metavar))
    with registry:
        return tyro.extras.overridable_config_cli(entries, args=argv, prog=prog)


def write_preset(path: Path, name: str, config: Any, about: str, **more: Any) -> None:
    """Write a preset as a file that ``read_preset`` takes; ``about`` says in a sentence what it is."""
    runs.write_json(path, {"name": name, "about": about, **more, "settings": config.as_dict()})


def read_preset(text: str, presets: Mapping[str, Callable[[], Any]]) -> tuple[str, Any, str]:
    """Name, settings and description in a preset's file (JSON), its settings of the kind that ``presets`` are of.

    Raises ``UsageError`` naming the file when it is missing or no such file, or has the name of one of ``presets``.
    """
    absent = "give a preset's file, such as a search's best.json, or a preset's name"
    record = runs.read_json(Path(text), absent, "write the preset anew, or let the search do it (--resume)")
    make = next(iter(presets.values()))
    name, settings, about = record.get("name"), record.get("settings"), record.get("about", "")
    if not (isinstance(name, str) and name == Path(name).name and name and not name.startswith("-")):
        raise UsageError(f'{text}: no file of a preset: "name" must be a plain name')
    if not isinstance(settings, dict) or not isinstance(about, str):
        raise UsageError(f'{text}: no file of a preset: "settings" must hold its fields, and "about" a text')
    if name in presets:
        raise UsageError(f"{text}: its name {name} is a preset's of this package; give it another")
    try:
        return name, type(make()).from_dict(settings), about
    except (CganError, UsageError) as error:
        raise UsageError(f"{text}: {error}") from None


def named(command: Any) -> dict[str, str]:
    """The preset's name as ``config.json`` has it, and its file if it came from one."""
    return {"preset": command.preset, **({"preset_file": command.preset_file} if command.preset_file else {})}


def _text_rule(kind: Any, metavar: str) -> Callable[[Any], Any]:
    """How tyro reads and shows a type that has ``parse`` and ``str``."""

    def rule(info: Any) -> Any:
        if info.type is not kind:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda texts: kind.parse(texts[0]),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value)],
        )

    return rule


def check_name(name: str | None) -> None:
    """Raise ``UsageError`` if a run's name is no plain name."""
    if name is not None and Path(name).name != name:
        raise UsageError(f"--name {name}: give a plain name, without folders")


def earlier(folder: Path, resume: bool) -> dict[str, Any]:
    """``config.json`` of the run in ``folder``, {} without one; ``UsageError`` if there is one but no ``resume``."""
    path = folder / runs.CONFIG
    if not path.exists():
        return {}
    before = runs.read_json(path)
    try:
        identity(before)
        whole = isinstance(before.get("sessions", []), list) and isinstance(before.get("threads"), int | None)
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise UsageError(f"{path}: not the whole record of a run; restore it, or start a run of another --name")
    if not resume:
        finished = (folder / runs.RESULT).exists()
        state = (
            "a finished run; --resume shows its result" if finished else "an unfinished run; --resume goes on with it"
        )
        raise UsageError(f"{folder}: {state}, --name starts another")
    return before


def placed(
    device: str, precision: str, threads: int | None, before: Mapping[str, Any], replicas: int = 1
) -> dict[str, Any]:
    """Device, precision and threads as ``config.json`` has them, the processor prepared, and the list of sessions.

    What is left open is taken from ``before``, an earlier session's record.
    """
    import torch

    from cgan.devices import prepare_cpu, resolve_device, resolve_precision

    found = resolve_device(device)
    prepare_cpu(threads if threads is not None else before.get("threads"))
    chosen = before.get("precision") if precision == "auto" else precision
    environment = runs.environment()
    session = {
        "command": environment["command"],
        "git_revision": environment["git_revision"],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": device_name(found),
        "threads": torch.get_num_threads(),
        # Those trained at once share the seconds.
        **({"replicas": replicas} if replicas > 1 else {}),
    }
    return {
        "device": device_name(found),
        "precision": chosen or resolve_precision("auto", found),
        "threads": torch.get_num_threads(),
        "sessions": [*before.get("sessions", []), session],
    }


def device_name(device: torch.device) -> str:
    """The device in words for a record, such as ``cpu`` or ``cuda (NVIDIA H200)``."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``config.json`` a resumed run must share: everything but places and the length of training."""
    settings = {
        section: {name: value for name, value in values.items() if (section, name) not in LOCATIONS}
        if isinstance(values, Mapping)
        else values
        for section, values in record["settings"].items()
        if section != "stopping"
    }
    kept = {name: record[name] for name in ("seed", "precision")}
    dataset = record["dataset"]
    return {"settings": settings, "dataset": dataset["checksum"], "images": dataset.get("images"), **kept}


@dataclass(frozen=True)
class Place:
    """Where a run lies, and what its ``config.json`` says."""

    folder: Path
    record: dict[str, Any]


def finished(
    place: Place, stopping: StoppingSettings, summary: Callable[[dict[str, Any]], str]
) -> tuple[dict[str, Any], str] | None:
    """The result of a run that is over, and its ``summary``; None if there is more to do under ``stopping``."""
    path = place.folder / runs.RESULT
    if not path.exists():
        return None
    result = runs.read_json(path)
    try:
        longer = stopping.max_updates > result["updates"]
        if result.get("stopped_by") == "max_updates" and longer:
            return None
        return result, summary(result)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(f"{path}: not a whole result; restore it, or delete it and --resume to measure anew") from None


def play(
    places: Sequence[Place],
    trainers: Sequence[Trainer],
    stopping: StoppingSettings,
    estimate: Callable[[Trainer], Estimate],
    *,
    module: str,
    resume: bool,
    after: Callable[[Trainer, Place], list[str]] = lambda trainer, place: [],
) -> dict[Path, str]:
    """Train to the stopping points, or on from the last checkpoints, with a bar, lines, metrics and TensorBoard.

    Several trainers are replicas, trained at once. ``after`` is called at every estimate (to draw a figure, say) and
    returns lines to print below it. ``module`` is the command's name, for the line that says how to go on. Returns the
    folders of games that diverged, and why; such a game leaves a ``result.json`` that says so.
    """
    ends = _play(places, trainers, stopping, estimate, module, resume, after)
    lost = {}
    for place, trainer, end in zip(places, trainers, ends, strict=True):
        if end is not None:
            lost[place.folder] = str(end)
            failure = {"status": "diverged", "reason": str(end), "updates": trainer.t}
            runs.write_json(place.folder / runs.RESULT, {**place.record, **failure, "environment": runs.environment()})
    return lost


def _play(
    places: Sequence[Place],
    trainers: Sequence[Trainer],
    stopping: StoppingSettings,
    estimate: Callable[[Trainer], Estimate],
    module: str,
    resume: bool,
    after: Callable[[Trainer, Place], list[str]],
) -> list[Diverged | None]:
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    from cgan.fast.seeds import fit_replicas
    from cgan.trainer import Diverged, Interrupted, Run

    writers = [SummaryWriter(place.folder) for place in places]
    bar: Any = None

    def on_update(t: int) -> None:
        nonlocal bar
        if bar is None:
            total = stopping.max_updates
            bar = tqdm(total=total, initial=t - 1, unit="update", dynamic_ncols=True, smoothing=0.05, disable=None)
        bar.update(max(0, t - bar.n))

    def reporting(place: Place, writer: SummaryWriter) -> Callable[[Trainer, Estimate, Progress], None]:
        def on_estimate(trainer: Trainer, measured: Estimate, progress: Progress) -> None:
            latest = progress.history[-1]
            clock = time.strftime("%H:%M:%S", time.gmtime(progress.seconds))
            bar.write(
                f"{clock}  {f'seed {trainer.seed}  ' if len(places) > 1 else ''}"
                f"update {trainer.t:>7,} (epoch {trainer.epoch:.0f})  {measured.line}  "
                f"loss D {latest['d_loss']:.3f} G {latest['g_loss']:.3f}"
                + ("  best" if progress.best_t == trainer.t else ""),
                file=sys.stdout,
            )
            for line in after(trainer, place):
                bar.write(f"          {line}", file=sys.stdout)
            sys.stdout.flush()
            rows = [{**row, "dataset": place.record["dataset"]["name"]} for row in progress.history]
            runs.write_metrics(place.folder / runs.METRICS, rows)
            for name, value in latest.items():
                writer.add_scalar(name, value, trainer.t)
            writer.flush()

        return on_estimate

    try:
        playing = [
            Run(
                trainer,
                stopping,
                estimate,
                place.folder,
                identity=identity(place.record),
                resume=resume,
                on_estimate=reporting(place, writer),
            )
            for trainer, place, writer in zip(trainers, places, writers, strict=True)
        ]
        if len(places) > 1:
            return fit_replicas(playing, lambda batch: on_update(batch[0].trainer.t))
        playing[0].play(lambda trainer: on_update(trainer.t))
        return [None]
    except Interrupted:
        t = max(trainer.t for trainer in trainers)
        raise Interrupted(f"stopped at update {t:,} and saved; to go on:\n  {again(module)}") from None
    except Diverged as error:
        return [error]
    finally:
        if bar is not None:
            bar.close()
        for writer in writers:
            writer.close()


def again(module: str) -> str:
    """The command line that goes on with this run."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return f"python -m {module} {shlex.join([*arguments, '--resume'])}"
