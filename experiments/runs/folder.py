"""The run folder ``runs/<experiment>/<name>/``: its files, who holds it, and what ties its files to its weights."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from experiments import UsageError
from experiments.runs.files import NO_RUN, convert_record, locked, read_record, write_json, write_text
from experiments.runs.records import (
    LARGEST,
    DivergedResult,
    Environment,
    FlickrResult,
    MnistResult,
    RunConfig,
    Session,
    Weights,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

CONFIG, RESULT, METRICS = "config.json", "result.json", "metrics.csv"
CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"

SEARCH = "search.json"  # Written into the folder of a search, whose trials are no runs.
LOCK = ".lock"  # Held while a command works in the folder.

#: Settings added since the first committed results, with the value that runs without them had.
ADDED: dict[str, Any] = {
    "estimate.dropout": False,
    "sampling.dropout": False,
    "sampling.dropout_rate": None,
    "discriminator.pack": 1,
    "decoding.dropout": False,
    "decoding.dropout_rate": None,
    "stopping.keep": "best",
    "pairs.measured_on": "test",
    "estimate.measured_on": "test",
}

Experiment = Literal["mnist", "flickr-tags"]
Result = MnistResult | FlickrResult | DivergedResult


class RunFolder:
    """A run's folder on the disk. Readers raise ``UsageError`` naming file and field; nothing is cached."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / CONFIG
        self.result_path = path / RESULT
        self.metrics_path = path / METRICS
        self.best_path = path / BEST
        self.checkpoint_path = path / CHECKPOINT

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """Return the folder at ``path``, else its run on the digits; raises ``UsageError`` with those there."""
        if path.is_dir():
            return cls(path)
        digits = path.with_name(f"{path.name}-digits")
        if path.name and digits.is_dir():
            print(f"{path}: no such run; taking {digits}, on the embedded digits")
            return cls(digits)
        beside = sorted(other.parent.name for other in path.parent.glob(f"[!.]*/{CONFIG}"))
        there = f"; runs beside it: {', '.join(beside[:8])}" if beside else ""
        raise UsageError(f"{path}: no such folder; {NO_RUN}{there}")

    def read_config(self, experiment: Experiment | None = None) -> RunConfig:
        """Return ``config.json``; raises ``UsageError`` if it is missing, damaged, or not of ``experiment``."""
        config = read_record(self.config_path, RunConfig)
        if experiment is not None and config.experiment != experiment:
            raise UsageError(
                f"{self.config_path}: a run of {config.experiment}, not of {experiment}; give one of those"
            )
        return config

    def write_config(self, config: RunConfig) -> None:
        write_json(self.config_path, config)

    def read_result(self) -> Result:
        """Return ``result.json``; raises ``UsageError`` if missing, damaged, or of other weights than the best."""
        path = self.result_path
        record = read_record(path, dict[str, Any])
        forms: Any = {"flickr-tags": FlickrResult, "mnist": MnistResult}
        form = DivergedResult if record.get("status") == "diverged" else forms.get(str(record.get("experiment")))
        if form is None:
            raise UsageError(f"{path}: field experiment is not mnist or flickr-tags; restore the file")
        result: Result = convert_record(record, form, str(path))
        made_from = getattr(result, "weights", None)
        if made_from is not None and self.best_path.exists():
            there = self.best_weights()
            if there != made_from:
                raise UsageError(
                    f"{path}: measured on the weights of update {made_from.update:,}, but {self.best_path.name} holds "
                    f"others (update {there.update:,}); delete it and --resume the run to measure again"
                )
        return result

    def write_result(self, result: Result) -> None:
        write_json(self.result_path, result)

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``rows``, one an estimate, as ``metrics.csv``; an older session may have had fewer columns."""
        import pandas as pd

        write_text(self.metrics_path, pd.DataFrame(list(rows)).to_csv(index=False, lineterminator="\n"))

    def read_metrics(self) -> pd.DataFrame:
        """Return the numbers of ``metrics.csv`` by rising update; empty where there is no usable file."""
        import pandas as pd

        try:
            table = pd.read_csv(self.metrics_path, encoding="utf-8").apply(pd.to_numeric, errors="coerce")
            table = table.astype(float).dropna(subset="update")
        except (OSError, KeyError, ValueError, TypeError, OverflowError):
            return pd.DataFrame()
        table = table.where(table.abs() < LARGEST)
        return table.sort_values("update").drop_duplicates("update", keep="last").reset_index(drop=True)

    def best_weights(self) -> Weights:
        """Return update and checksum of ``best.safetensors`` from its header alone; raises ``UsageError``."""
        from safetensors import SafetensorError, safe_open

        path = self.best_path
        try:
            with safe_open(path, framework="np") as file:
                head = file.metadata() or {}
            record = {"update": msgspec.json.decode(head["record"])["t"], "sha256": head["sha256"]}
            return convert_record(record, Weights, f"{path}: its record")
        except (SafetensorError, LookupError, TypeError, OSError, msgspec.DecodeError, RecursionError):
            raise UsageError(f"{path}: not the weights of a run; restore the file or train again") from None

    def load_best(self, config: RunConfig) -> tuple[dict[str, Tensor], int]:
        """Return tensors and update of ``best.safetensors``; raises an error naming the file if of another run."""
        from cgan.loop import load_best

        if not self.best_path.exists():
            raise UsageError(f"{self.best_path}: no such file yet; --resume the run until its first estimate")
        tensors, record = load_best(self.best_path)
        # Files of older revisions hold no identity.
        if record.identity != identity(config) and (record.identity is not None or config.numerics > 0):
            raise UsageError(f"{self.best_path}: the weights of another run than config.json beside it; restore them")
        return tensors, record.t

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder, made if need be, against other processes; clear what killed ones left half-written.

        Raises ``UsageError`` if another process holds it. A folder in which nothing was written is removed again.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        refusal = f"{self.path}: another process is at work there; wait for it to end, or take another --name"
        with locked(self.path / LOCK, refusal):
            try:
                for leftover in self.path.glob(".*.tmp"):
                    leftover.unlink(missing_ok=True)
                yield
            finally:
                with contextlib.suppress(OSError):
                    if {file.name for file in self.path.iterdir()} <= {LOCK}:
                        (self.path / LOCK).unlink(missing_ok=True)
                        for folder in made:
                            folder.rmdir()

    def set_result_aside(self, update: int) -> Path:
        """Move result, figures and tables of the weights at ``update`` to a folder that no table reads; return it."""
        aside = self.path / f"of-update-{update}"
        aside.mkdir(exist_ok=True)
        for path in [path for pattern in (RESULT, "*.png", "table2.*") for path in self.path.glob(pattern)]:
            os.replace(path, aside / (f"result-of-update-{update}.json" if path.name == RESULT else path.name))
        return aside


def is_of_the_run(name: str) -> bool:
    """Return whether a setting makes a run another one: not places of files, nor when it stops, but what is kept.

    What those files hold counts, as part of the data set's checksum.
    """
    places = ("features.weights", "words.vectors")
    return name not in places and (name == "stopping.keep" or not name.startswith("stopping."))


def identity(config: RunConfig) -> dict[str, Any]:
    """Return what two runs share if they are the same: all that changes numbers beyond rounding (threads do not).

    Settings ``ADDED`` later are left out while they have the value of runs without them.
    """
    settings: dict[str, Any] = {}
    for section, values in config.settings.items():
        for name, value in values.items() if isinstance(values, Mapping) else ():
            full = f"{section}.{name}"
            if is_of_the_run(full) and (full, value) not in ADDED.items():
                settings.setdefault(section, {})[name] = value
    return {
        "settings": settings,
        "dataset": config.dataset.checksum,
        "images": config.dataset.images,
        "seed": config.seed,
        "precision": config.precision,
        "device": device_kind(config.device),
        "fast": config.fast,
        "numerics": config.numerics,
    }


def device_kind(device: str) -> str:
    """Return cpu, cuda or mps of a device in words, such as ``cuda:1 (NVIDIA H100)``."""
    return device.split(" ")[0].split(":")[0]


def new_session(device: str, threads: int, replicas: int = 1) -> Session:
    """Return the record of this start of the command."""
    return Session(
        command=typed_command(),
        git_revision=git_revision(),
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        device=device,
        threads=threads,
        replicas=replicas,
    )


def environment() -> Environment:
    """Return what this process runs on and with, for ``result.json``."""
    return Environment(
        command=typed_command(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu_cores=os.cpu_count(),
        packages={name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")},
        git_revision=git_revision(),
    )


def typed_command() -> str:
    """Return this process's command line; bytes that are no text are escaped."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name
    return " ".join(["python -m", module, *sys.argv[1:]]).encode(errors="backslashreplace").decode()[:10_000]


def git_revision() -> str | None:
    """Return the checkout's commit, with ``+changes`` if tracked files differ from it; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head, changed = (
            subprocess.run([*git, *words.split()], capture_output=True, text=True, check=True).stdout.strip()
            for words in ("rev-parse HEAD", "status --porcelain --untracked-files=no")
        )
        return head + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
