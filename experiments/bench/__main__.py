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
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import tyro

from experiments import UsageError
from experiments.bench.context import ALL, QUICK, Context, Sizes
from experiments.bench.measure import Candidate, Check, Job, disagreements, in_words, measure, table
from experiments.runs.cli import parse, run
from experiments.runs.files import check_output, write_json, write_text
from experiments.runs.folder import environment

if TYPE_CHECKING:
    import torch

PathName = Literal[
    "update",
    "without",
    "tutorial",
    "replicas",
    "parzen",
    "nearest",
    "decoding",
    "corpus",
    "skip-gram",
    "features",
    "start-up",
]

#: The paths, in the order in which they are measured.
PATHS: tuple[PathName, ...] = get_args(PathName)

#: Packages whose versions belong to the figures, beside those of every run.
PACKAGES = ("gensim", "timm", "pillow", "faiss-cpu")


@dataclass(frozen=True, kw_only=True)
class Command:
    """Time every path beside what one would use instead and beside its limit: a table, a JSON, ratios.

    Each path first checks that the results compared agree, then times the candidates in turn and takes medians.
    Candidates that would take too long are measured on a share of the work, and their times scaled up; the figures
    say so. Expected on two quiet cores, three repeats, in seconds: update 20, without 25, tutorial 30, replicas 50,
    parzen 80, nearest 100, decoding 50, corpus 50, skip-gram 40, features 40, start-up 10;
    all of them in some ten minutes.
    """

    paths: tyro.conf.Positional[tuple[PathName, ...]] = ()
    """What to measure; everything if nothing is named."""
    repeats: int = 3
    """How often each candidate is timed; the median counts."""
    quick: bool = False
    """Small sizes, under a minute: to see that all works. The figures mean nothing."""
    whole: bool = False
    """Measure every candidate on all of the work instead of a share: hours, most of them scikit-learn's and the
    broadcast loop's."""
    preset: Literal["paper", "paper-literal", "gan"] = "paper"
    """Nets of update, without and replicas."""
    replicas: int | None = None
    """Seeds trained at once; 10 if not given, 2 if --quick."""
    device: str = "auto"
    """Where update, without, tutorial, replicas, parzen, nearest, decoding and features compute: auto (CUDA, else the
    processor), cpu, cuda or cuda:N. Alternatives in scikit-learn, gensim, faiss and NumPy stay on the processor."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of our matrix products in training; auto takes bfloat16 where it is quicker."""
    threads: int | None = None
    """Processor threads of every candidate; all cores if not given. The corpus is cleaned on one."""
    updates: int | None = None
    """Updates timed at a time; 50 if not given, 500 on a GPU."""
    rows: int | None = None
    """Rows of metadata cleaned at a time, of the million that the figure is for; 200,000 if not given."""
    words: int | None = None
    """Words of the vocabulary; 247,465 (section 4.2) if not given."""
    queries: int | None = None
    """Vectors whose nearest words are looked for, a hundred of them an image; 10,000 if not given."""
    data_root: Path | None = None
    """Folder of the data sets; else $CGAN_DATA, else data/raw. Nothing is downloaded: for what is not there, embedded
    data stand in, and the figures say so."""
    out: Path = Path("results/bench.json")
    """File of the figures; the table goes beside it, ending in .md."""

    def __post_init__(self) -> None:
        for name in ("repeats", "replicas", "threads", "updates", "rows", "words", "queries"):
            least = 1_000 if name == "words" else 1  # Fewer words have no neighbours that mean anything.
            if (value := getattr(self, name)) is not None and value < least:
                raise UsageError(f"--{name} {value}: at least {least:,} {'is' if least == 1 else 'are'} needed")
        if self.quick and self.whole:
            raise UsageError("--quick and --whole contradict one another: give one of them")
        if self.out.suffix != ".json":
            raise UsageError(f"--out {self.out}: the figures are JSON; end the name in .json")
        check_output(self.out, "--out")

    def sizes(self, accelerated: bool = False) -> Sizes:
        """Return how much is measured; more updates on a GPU, where one takes a fraction of a millisecond."""
        sizes = QUICK if self.quick else Sizes(updates=500, epoch_updates=ALL) if accelerated else Sizes()
        given = {"updates": self.updates, "timed_rows": self.rows, "words": self.words, "queries": self.queries}
        sizes = replace(sizes, **{name: value for name, value in given.items() if value is not None})
        sizes = replace(sizes, rows=max(sizes.rows, sizes.timed_rows))
        return sizes.whole() if self.whole else sizes


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the exit status, 1 if results that should agree do not."""
    command = parse(Command, "experiments.bench", argv, description=Command.__doc__)
    threads = command.threads or cores()
    # Before torch or BLAS is loaded: faiss, gensim and scikit-learn take their threads from here.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    import torch

    from cgan.devices import prepare_cpu, resolve_device, resolve_precision
    from data.roots import data_root

    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = resolve_device(automatic if command.device == "auto" else command.device)
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {command.device}: only these are supported; give cpu or cuda")
    prepare_cpu(threads)
    synchronise = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    record: dict[str, Any] = {"machine": machine(device, threads), "settings": {}, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            sizes=command.sizes(device.type != "cpu"),
            device=device,
            precision=resolve_precision(command.precision, device),
            threads=threads,
            preset=command.preset,
            seeds=command.replicas or (2 if command.quick else 10),
            root=data_root(command.data_root),
            folder=Path(folder),
        )
        record["settings"] = {
            **{each.name: getattr(command, each.name) for each in fields(command)},
            **{"out": str(command.out), "data_root": None, "device": str(device), "precision": context.precision},
            **{"threads": threads, "replicas": context.seeds, "sizes": asdict(context.sizes)},
        }
        print(f"{headline(record)}\n")
        command.out.parent.mkdir(parents=True, exist_ok=True)
        jobs = prepared_by()
        for path in command.paths or PATHS:
            print(f"{path} ...", file=sys.stderr, flush=True)
            started = time.perf_counter()
            row = measure(jobs[path](context), command.repeats, synchronise, progress=True)
            # With all that was made ready and compared.
            record["rows"].append({**row, "seconds_in_all": time.perf_counter() - started})
            record["machine"]["load_after"] = load_average()
            # After every path, so that a stopped run leaves what it measured.
            write_json(command.out, record)
            write_text(command.out.with_suffix(".md"), page(record))
    print(table(record["rows"]))
    print(f"\nthe figures are in {command.out}, the table in {command.out.with_suffix('.md')}")
    if wrong := disagreements(record["rows"]):
        print(f"error: results disagree and were not timed: {'; '.join(wrong)}", file=sys.stderr)
        return 1
    return 0


def prepared_by() -> dict[PathName, Callable[[Context], Job]]:
    """Return the function that prepares each path and compares its results."""
    from experiments.bench import images, parzen, training, words

    return {
        "update": training.update,
        "without": training.without,
        "tutorial": training.tutorial,
        "replicas": training.replicas,
        "parzen": parzen.parzen,
        "nearest": words.nearest,
        "decoding": words.decoding,
        "corpus": words.corpus,
        "skip-gram": words.skip_gram,
        "features": images.features,
        "start-up": start_up,
    }


def start_up(context: Context) -> Job:
    """Benchmark ``python -m experiments.mnist --help``, as a process of its own."""
    from experiments.mnist.presets import MNIST_PRESETS

    def python(*arguments: str) -> str:
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout

    printed = python("-m", "experiments.mnist", "--help")
    missing = sum(name not in printed for name in MNIST_PRESETS)
    return Job(
        path="start-up",
        what="python -m experiments.mnist --help",
        amount=1,
        unit="starts",
        agreement=[Check("presets that the help does not name", missing, 0)],
        ours=Candidate("heavy imports where used", lambda: python("-m", "experiments.mnist", "--help")),
        alternatives=[Candidate("importing PyTorch alone", lambda: python("-c", "import torch"))],
        limits=[Candidate("importing the command line's library", lambda: python("-c", "import tyro"))],
        aim="under 2 s",
    )


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Return what is measured on: processor, memory, GPU, rates of products, versions, load."""
    import torch

    from cgan.devices import product_seconds

    taken = zip(("float32", "bfloat16"), product_seconds((torch.float32, torch.bfloat16)), strict=True)
    measured_on = asdict(environment())
    versions = {each.name: each.version for each in metadata.distributions() if each.name in PACKAGES}
    return {
        "processor": processor(),
        "cores": cores(),
        "threads": threads,
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processor_gflops": {name: 2 * 512**3 / each / 1e9 for name, each in taken},
        **measured_on,
        "packages": {**measured_on["packages"], **versions},
        "load_before": load_average(),
        "load_after": None,
    }


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name, as far as the system reports it."""
    about = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)", about.read_text() if about.exists() else "", re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def load_average() -> list[float]:
    """Return the mean number of running processes over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def headline(record: dict[str, Any]) -> str:
    """Return what was measured on, in a line."""
    host = record["machine"]
    return (
        f"{host['processor']}, {host['threads']} of {host['cores']} cores, {host['memory_gib']:.0f} GiB, "
        f"{host['gpu'] or 'no GPU'}; torch {host['packages']['torch']}, {record['settings']['precision']} products; "
        f"medians of {record['settings']['repeats']}; load before {host['load_before']}"
    )


def page(record: dict[str, Any]) -> str:
    """Return the table with what it was measured on, in Markdown."""
    lines = ["# Speed", ""]
    if record["settings"]["quick"]:
        lines += ["**Small sizes (--quick): the figures mean nothing.**", ""]
    lines += [
        f"{headline(record)}, after {record['machine']['load_after']}.",
        "",
        table(record["rows"]),
        "",
        *[f"- aim of {row['path']}: {row['aim']}" for row in record["rows"] if row["aim"]],
        "",
        "What was compared before anything was timed:",
        "",
        *[f"- {row['path']}: {in_words(check)}" for row in record["rows"] for check in row["agreement"]],
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run(main))
