"""What every training command shares: its command line, its record, the loop with a bar, estimates and an ending.

Knows nothing of what is trained or measured.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from cgan.specs import Init, Layer
from experiments import UsageError, runs

if TYPE_CHECKING:
    import torch

    from cgan.training import Estimate, Progress, Trainer
    from cgan.training_settings import StoppingSettings

Parsed = TypeVar("Parsed")


def parse(presets: Mapping[str, tuple[str, Parsed]], argv: Sequence[str] | None, prog: str) -> Parsed:
    """The command that the arguments spell, from presets by name, each with its description.

    Ends the program with status 2 on a mistake, 0 after ``--help``.
    """
    registry = tyro.constructors.ConstructorRegistry()
    for kind, metavar in ((Layer, "LAYER"), (Init, "INIT")):
        registry.primitive_rule(_text_rule(kind, metavar))
    with registry:
        return tyro.extras.overridable_config_cli(dict(presets), args=argv, prog=prog)


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
    """``config.json`` of the run in ``folder``, {} if there is none; ``UsageError`` if there is one but no ``resume``."""
    before = runs.read_json(folder / runs.CONFIG) if (folder / runs.CONFIG).exists() else {}
    if before and not resume:
        finished = (folder / runs.RESULT).exists()
        state = (
            "a finished run; --resume shows its result" if finished else "an unfinished run; --resume goes on with it"
        )
        raise UsageError(f"{folder}: {state}, --name starts another")
    return before


def place(device: str, precision: str, threads: int | None, before: Mapping[str, Any]) -> dict[str, Any]:
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
    """What of ``config.json`` a resumed run must share: everything but the place and the length of training."""
    settings = {section: values for section, values in record["settings"].items() if section != "stopping"}
    kept = {name: record[name] for name in ("seed", "precision")}
    return {"settings": settings, "dataset": record["dataset"]["checksum"], **kept}


def play(
    trainer: Trainer,
    stopping: StoppingSettings,
    estimate: Callable[[Trainer], Estimate],
    folder: Path,
    record: dict[str, Any],
    *,
    module: str,
    resume: bool,
    after: Callable[[Trainer], list[str]],
) -> None:
    """Train to the stopping point, or on from the last checkpoint, with a bar, lines, ``metrics.csv`` and TensorBoard.

    ``after`` is called at every estimate (to draw a figure, say) and returns lines to print below it. ``module`` is the
    command's name, for the line that says how to go on. A game that diverged leaves a ``result.json`` that says so.
    """
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    from cgan.training import Diverged, Interrupted, fit

    writer = SummaryWriter(folder)
    bar: Any = None

    def on_update(trainer: Trainer) -> None:
        nonlocal bar
        if bar is None:
            total, done = stopping.max_updates, trainer.t - 1
            bar = tqdm(total=total, initial=done, unit="update", dynamic_ncols=True, smoothing=0.05)
        bar.update()

    def on_estimate(trainer: Trainer, measured: Estimate, progress: Progress) -> None:
        latest = progress.history[-1]
        clock = time.strftime("%H:%M:%S", time.gmtime(progress.seconds))
        bar.write(
            f"{clock}  update {trainer.t:>7,} (epoch {trainer.epoch:.0f})  {measured.line}  "
            f"loss D {latest['d_loss']:.3f} G {latest['g_loss']:.3f}"
            + ("  best" if progress.best_t == trainer.t else ""),
            file=sys.stdout,
        )
        for line in after(trainer):
            bar.write(f"          {line}", file=sys.stdout)
        sys.stdout.flush()
        name = record["dataset"]["name"]
        runs.write_metrics(folder / runs.METRICS, [{**row, "dataset": name} for row in progress.history])
        for name, value in latest.items():
            writer.add_scalar(name, value, trainer.t)
        writer.flush()

    try:
        fit(
            trainer,
            stopping,
            estimate,
            folder,
            identity=identity(record),
            resume=resume,
            on_update=on_update,
            on_estimate=on_estimate,
        )
    except Interrupted:
        raise Interrupted(f"stopped at update {trainer.t:,} and saved; to go on:\n  {again(module)}") from None
    except Diverged as error:
        ending = {"status": "diverged", "reason": str(error), "updates": trainer.t}
        runs.write_json(folder / runs.RESULT, {**record, **ending, "environment": runs.environment()})
        raise
    finally:
        if bar is not None:
            bar.close()
        writer.close()


def again(module: str) -> str:
    """The command line that goes on with this run."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return f"python -m {module} {shlex.join([*arguments, '--resume'])}"
