"""How fast every path is, beside what one would use instead and beside its limit: ``python -m experiments.bench``.

Wires the paths of the other modules into one table and one JSON. Asserts no time.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import tyro

from experiments import UsageError
from experiments.bench.measure import Candidate, Context, Job, measure, table
from experiments.runs.cli import check_least, parse, run
from experiments.runs.files import check_output, write_json, write_text
from experiments.runs.folder import environment

if TYPE_CHECKING:
    import torch

#: The paths, in the order in which they are measured.
PathName = Literal["update", "tutorial", "replicas", "parzen", "nearest", "decoding", "corpus", "start-up"]


@dataclass(frozen=True, kw_only=True)
class Command:
    """Time every path beside what one would use instead and beside its limit: a table of ratios, a JSON of times.

    Candidates are timed in turn, and medians taken; those that would take too long are measured on a share of the work
    and their times scaled up, and the figures say so. All paths together take some ten minutes on two quiet cores.
    """

    paths: tyro.conf.Positional[tuple[PathName, ...]] = ()
    """What to measure; everything if nothing is named."""
    repeats: int = 3
    """How often each candidate is timed; the median counts."""
    quick: bool = False
    """Small sizes, under a minute: to see that all works. The figures mean nothing."""
    device: str = "auto"
    """Where our code and PyTorch compute: auto (CUDA, else the processor), cpu, cuda or cuda:N. Alternatives in
    scikit-learn, gensim, faiss and NumPy stay on the processor."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of our matrix products in training; auto takes bfloat16 where it is quicker."""
    threads: int | None = None
    """Processor threads of every candidate; all cores if not given. The corpus is cleaned on one."""
    data_root: Path | None = None
    """Folder of the data sets; else $CGAN_DATA, else data/raw. Nothing is downloaded: for what is not there, embedded
    data stand in, and the figures say so."""
    out: Path = Path("results/bench.json")
    """File of the figures; the table goes beside it, ending in .md."""

    def __post_init__(self) -> None:
        check_least(self, repeats=1, threads=1)
        check_output(self.out, "--out", ".json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    command = parse(Command, "experiments.bench", argv, description=Command.__doc__)
    threads = command.threads or (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    # Before torch or BLAS is loaded: faiss, gensim and scikit-learn take their threads from here.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    import torch

    from cgan.devices import prepare_cpu, resolve_device, resolve_precision
    from data.roots import data_root
    from experiments.bench import parzen, training, words

    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = resolve_device(automatic if command.device == "auto" else command.device)
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {command.device}: only these are supported; give cpu or cuda")
    prepare_cpu(threads)
    precision = resolve_precision(command.precision, device)
    jobs = {
        "update": training.update,
        "tutorial": training.tutorial,
        "replicas": training.replicas,
        "parzen": parzen.parzen,
        "nearest": words.nearest,
        "decoding": words.decoding,
        "corpus": words.corpus,
        "start-up": start_up,
    }
    rows: list[dict[str, Any]] = []
    settings = {"repeats": command.repeats, "quick": command.quick, "precision": precision}
    record: dict[str, Any] = {"machine": machine(device, threads), "settings": settings, "rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        root = data_root(command.data_root)
        context = Context(command.quick, device, precision, threads, root, Path(folder))
        for path in command.paths or get_args(PathName):
            print(f"{path} ...", file=sys.stderr, flush=True)
            rows.append(measure(path, jobs[path](context), command.repeats))
            record["machine"]["load_after"] = os.getloadavg()
            # After every path, so that a stopped run leaves what it measured.
            write_json(command.out, record)
            write_text(command.out.with_suffix(".md"), page(record))
    print(f"{page(record)}\nthe figures are in {command.out}, the table in {command.out.with_suffix('.md')}")
    return 0


def start_up(context: Context) -> Job:
    """Benchmark ``python -m experiments.mnist --help``, as a process of its own."""

    def python(*arguments: str) -> None:
        root = Path(__file__).resolve().parents[2]
        subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, check=True)

    candidates = [
        Candidate("ours", "heavy imports where used", lambda: python("-m", "experiments.mnist", "--help")),
        Candidate("alternative", "importing PyTorch alone", lambda: python("-c", "import torch")),
        Candidate("limit", "importing the command line's library", lambda: python("-c", "import tyro")),
    ]
    return Job("python -m experiments.mnist --help", 1, "starts", candidates)


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Return what is measured on: processor, GPU, versions, load."""
    import torch

    about = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)", about.read_text() if about.exists() else "", re.MULTILINE)
    measured_on = asdict(environment())
    for each in metadata.distributions():
        if each.name in ("gensim", "faiss-cpu"):
            measured_on["packages"][each.name] = each.version
    return {
        **measured_on,
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "threads": threads,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "load_before": os.getloadavg(),
    }


def page(record: dict[str, Any]) -> str:
    """Return the table with what it was measured on, in Markdown."""
    host, settings = record["machine"], record["settings"]
    quick = "**Small sizes (--quick): the figures mean nothing.**\n\n" if settings["quick"] else ""
    return (
        f"# Speed\n\n{quick}{host['processor']}, {host['threads']} of {host['cpu_cores']} cores, "
        f"{host['gpu'] or 'no GPU'}; torch {host['packages']['torch']}, {settings['precision']} products; medians of "
        f"{settings['repeats']}; load before {host['load_before'][0]:.1f}, after {host['load_after'][0]:.1f}\n\n"
        f"{table(record['rows'])}\n"
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
