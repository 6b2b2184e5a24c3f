"""How fast every path is, beside what one would use instead and beside its limit: ``python -m experiments.bench``.

Wires data, nets and the paths of ``experiments.bench_*`` into one table and one JSON. Asserts no time.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import tyro

from experiments import UsageError
from experiments.bench.measure import check_positive, disagreements, in_words, measure, table
from experiments.bench.sizes import QUICK, Sizes, of_accelerator, whole
from experiments.runs.cli import run
from experiments.runs.files import check_output, write_json, write_text
from experiments.runs.folder import environment

if TYPE_CHECKING:
    import torch

    from experiments.bench.measure import Job
    from experiments.bench.training import Place

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

#: The frozen network of the features, and the grid that its last feature map is pooled to.
NETWORK, GRID = "mobilenetv1_100", 2

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
        counts = ("repeats", "replicas", "threads", "updates", "rows", "words", "queries")
        check_positive({name: getattr(self, name) for name in counts})
        if self.quick and self.whole:
            raise UsageError("--quick and --whole contradict one another: give one of them")
        if self.out.suffix != ".json":
            raise UsageError(f"--out {self.out}: the figures are JSON; end the name in .json")
        check_output(self.out, "--out")
        if self.words is not None and self.words < 1_000:
            raise UsageError(f"--words {self.words}: at least 1,000 are needed for their neighbours to mean anything")

    def sizes(self, accelerated: bool = False) -> Sizes:
        """Return how much is measured; more updates on a GPU."""
        sizes = QUICK if self.quick else Sizes()
        if accelerated and not self.quick:
            sizes = of_accelerator(sizes)
        given = {"updates": self.updates, "timed_rows": self.rows, "words": self.words, "queries": self.queries}
        sizes = replace(sizes, **{name: value for name, value in given.items() if value is not None})
        sizes = replace(sizes, rows=max(sizes.rows, sizes.timed_rows))
        return whole(sizes) if self.whole else sizes

    def seeds(self) -> int:
        """Return the number of seeds trained at once."""
        return self.replicas or (2 if self.quick else 10)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the exit status, 1 if results that should agree do not."""
    command = tyro.cli(Command, args=argv, prog="python -m experiments.bench", description=Command.__doc__)
    threads = command.threads or cores()
    # Before torch or BLAS is loaded: faiss, gensim and scikit-learn take their threads from here.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    import torch

    from cgan.devices import prepare_cpu, resolve_device, resolve_precision

    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = resolve_device(automatic if command.device == "auto" else command.device)
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {command.device}: only these are supported; give cpu or cuda")
    prepare_cpu(threads)
    precision = resolve_precision(command.precision, device)
    record: dict[str, Any] = {
        "machine": machine(device, threads),
        "settings": {
            **{each.name: getattr(command, each.name) for each in fields(command)},
            **{"out": str(command.out), "data_root": None, "device": str(device), "precision": precision},
            **{"threads": threads, "replicas": command.seeds(), "sizes": asdict(command.sizes(device.type != "cpu"))},
        },
        "rows": [],
    }
    host = record["machine"]
    print(
        f"{host['processor']}, {threads} of {host['cores']} cores, {host['memory_gib']:.0f} GiB, "
        f"{host['gpu'] or 'no GPU'}, load {host['load_before']}; {precision} products\n"
    )

    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    command.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(command, device, precision, threads, Path(folder))
        for path in command.paths or PATHS:
            print(f"{path} ...", file=sys.stderr, flush=True)
            started = time.perf_counter()
            row = measure(work.job(path), command.repeats, synchronise, progress=True)
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


class Work:
    """Makes the job of a path: reads or renders the data it needs, once."""

    def __init__(self, command: Command, device: torch.device, precision: Any, threads: int, folder: Path) -> None:
        """``folder`` is for files of the moment."""
        self.command, self.device, self.precision, self.threads = command, device, precision, threads
        self.folder, self.sizes = folder, command.sizes(device.type != "cpu")
        self._place: Place | None = None

    def job(self, path: PathName) -> Job:
        """Prepare a path and compare its results; return it ready to be timed."""
        if path in ("update", "without", "tutorial", "replicas", "parzen"):
            return self._of_digits(path)
        if path in ("nearest", "decoding"):
            from experiments.bench import words as bench_words

            if path == "nearest":
                return bench_words.nearest(str(self.device), self.threads, self.sizes)
            return bench_words.decoding(str(self.device), self.sizes)
        if path in ("corpus", "skip-gram"):
            return self._of_rows(path)
        if path == "features":
            return self._of_photos()
        from experiments.bench.start import start_up

        return start_up()

    def _of_digits(self, path: PathName) -> Job:
        from experiments.bench import parzen as bench_parzen
        from experiments.bench import training

        place, sizes = self.place(), self.sizes
        if path == "update":
            return training.update(place, self.command.preset, sizes)
        if path == "without":
            return training.without(place, self.command.preset, sizes)
        if path == "tutorial":
            return training.tutorial(place, sizes)
        if path == "replicas":
            return training.replicas(place, self.command.preset, self.command.seeds(), sizes)
        return bench_parzen.parzen(place.dataset, self.device, sizes)

    def place(self) -> Place:
        """Return MNIST where it lies under the data root, else the embedded digits, with device and precision."""
        from data.mnist import load_digit_images
        from experiments.bench.training import Place

        if self._place is None:
            dataset = load_digit_images("auto", self.command.data_root, download=False)
            self._place = Place(dataset, self.device, self.precision)
        return self._place

    def _of_rows(self, path: PathName) -> Job:
        from data.roots import data_root
        from data.yfcc100m import default_shards
        from experiments.bench import words as bench_words
        from experiments.word_vectors.__main__ import embedded_rows

        shards = default_shards(data_root(self.command.data_root))
        name = shards[0].parent.name if shards else "rows of the embedded scenes"
        shards = shards or [embedded_rows(self.folder)]
        if path == "corpus":
            return bench_words.corpus(shards, name, self.folder, self.sizes)
        return bench_words.skip_gram(shards, name, self.folder, self.threads, self.sizes)

    def _of_photos(self) -> Job:
        from data.mirflickr import find_captioned, find_mirflickr, load_photos
        from data.roots import data_root
        from data.scenes import render_scene
        from embeddings.images.networks import load_network
        from experiments.bench.images import features

        root, count = data_root(self.command.data_root), self.sizes.photos
        if find_mirflickr(root) or find_captioned(root):
            photos = load_photos("auto", root)
            paths, name = list(photos.paths[:count]), photos.name
        else:
            paths, name = [self.folder / f"im{number}.jpg" for number in range(1, count + 1)], "rendered scenes"
            for number, path in enumerate(paths, 1):
                render_scene(1, number).image.save(path, quality=90)
        weights = root / "weights" / f"{NETWORK}.safetensors"
        found = weights.is_file()
        network = load_network(NETWORK, weights if found else None, GRID, random_weights=not found)
        return features(network, paths, name, self.device, self.sizes)


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Return what is measured on: processor, memory, GPU, rates of products, versions, load."""
    import torch

    from cgan.devices import product_seconds

    names = ("float32", "bfloat16")
    taken = product_seconds(tuple(getattr(torch, name) for name in names))
    measured_on = asdict(environment())
    versions = {name: version for name in PACKAGES if (version := installed(name))}
    return {
        "processor": processor(),
        "cores": cores(),
        "threads": threads,
        "memory_gib": memory() / 2**30,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processor_gflops": {name: 2 * 512**3 / each / 1e9 for name, each in zip(names, taken, strict=True)},
        **measured_on,
        "packages": {**measured_on["packages"], **versions},
        "load_before": load_average(),
        "load_after": None,
    }


def installed(name: str) -> str | None:
    """Return a package's version, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Return the bytes of main memory; 0 where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def processor() -> str:
    """Return the processor's name, as far as the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def load_average() -> list[float] | None:
    """Return the mean number of running processes over 1, 5 and 15 minutes; None where it is not reported."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def page(record: dict[str, Any]) -> str:
    """Return the table with what it was measured on, in Markdown."""
    host, settings = record["machine"], record["settings"]
    lines = ["# Speed", ""]
    if settings["quick"]:
        lines += ["**Small sizes (--quick): the figures mean nothing.**", ""]
    lines += [
        f"{host['processor']}, {host['threads']} of {host['cores']} cores, {host['memory_gib']:.0f} GiB, "
        f"{host['gpu'] or 'no GPU'}; torch {host['packages']['torch']}, {settings['precision']} products; medians of "
        f"{settings['repeats']}; load before {host['load_before']}, after {host['load_after']}.",
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
