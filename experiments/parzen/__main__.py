"""Score samples by the paper's Parzen procedure (section 4.1): ``python -m experiments.parzen --samples FILE``.

Takes anybody's samples, a run's, or one of the two controls that show what the figure can and cannot tell (Theis et
al., 2016). Trains nothing; writes only the files it is asked for.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from experiments import UsageError
from experiments.parzen.sample_files import as_images, read_images
from experiments.runs import folder as runs
from experiments.runs.cli import run

if TYPE_CHECKING:
    import torch

    from cgan.metrics.parzen import ParzenResult

PROGRAM = "python -m experiments.parzen"

#: The word for real images to score, and those for the samples of a control.
MNIST = "mnist"
REAL, KMEANS = "mnist-train", "mnist-kmeans"

#: Samples that the paper draws, and classes among which a run's are divided (section 4.1).
COUNT, CLASSES = 10_000, 10

#: The images are gone through once for each width.
MOST_SIGMAS = 1_000

#: Rounds of k-means. With 10,000 centroids on MNIST, four more move the score by less than 0.1 nats.
ROUNDS = 4


@dataclass(frozen=True)
class Settings:
    """Score samples by a Gaussian Parzen window (section 4.1 of the paper).

    The score is the mean log-likelihood of the test images in nats, at the sigma under which the validation images
    are likeliest. In an array the first axis counts images and the others are flattened. Of several arrays in a
    file, the one named "samples", else "images", is taken. Bytes are divided by 255, and a note says so.
    """

    samples: Annotated[str, tyro.conf.arg(metavar="FILE|RUN|WORD")]
    """What to score: a .npy, .npz or .safetensors file; a run's folder, which samples are then drawn from; or a
    control, mnist-train (real training images) or mnist-kmeans (centroids of the 50,000 training images, about a
    minute on two cores)."""

    valid: Annotated[str, tyro.conf.arg(metavar="FILE|mnist")] = MNIST
    """Images that choose sigma: a file, or mnist (the last 10,000 training images)."""

    test: Annotated[str, tyro.conf.arg(metavar="FILE|mnist")] = MNIST
    """Images whose log-likelihood is the score: a file, or mnist (the 10,000 test images)."""

    sigmas: Annotated[str, tyro.conf.arg(metavar="START:STOP:COUNT")] = "0.1:1:10"
    """Widths of the Gaussians to choose from, in units of the pixels; log-spaced, both ends included."""

    json: Annotated[Path | None, tyro.conf.arg(metavar="OUT.json")] = None
    """Write the result there."""

    plot: Annotated[Path | None, tyro.conf.arg(metavar="OUT.png")] = None
    """Draw the validation log-likelihood against sigma there."""

    count: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Samples to draw from a run (a multiple of 10) or to make for a control; 10,000 if not given. A file is scored
    whole."""

    seed: int = 0
    """Seed of what is drawn or made."""

    data_root: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Where MNIST lies, or is downloaded to if it is missing; else the environment's CGAN_DATA, else data/raw."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a CUDA GPU where there is one."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Processor threads for the scoring; PyTorch's own choice if not given."""

    memory_mib: int = 256
    """Bound on the working memory of the scoring, in MiB."""


def main(argv: Sequence[str] | None = None) -> int:
    """Score what the command line names; print the result, and write it where asked."""
    started = time.perf_counter()
    argv = list(sys.argv[1:] if argv is None else argv)
    settings = tyro.cli(Settings, prog=PROGRAM, args=argv)
    check(settings)

    import torch

    from cgan.devices import resolve_device
    from cgan.metrics import parzen

    sigmas = parse_sigmas(settings.sigmas)
    # Not MPS of its own accord: without float64 the sums carry fewer digits there.
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = resolve_device(automatic if settings.device == "auto" else settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    samples, valid, test, notes = read_all(settings)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    scoring = time.perf_counter()
    result = parzen.evaluate(
        torch.from_numpy(samples).to(device),
        torch.from_numpy(valid),
        torch.from_numpy(test),
        sigmas,
        memory_mib=settings.memory_mib,
        progress=sys.stderr.isatty(),
    )
    ended = time.perf_counter()
    print(table(result, settings))
    if settings.plot:
        from experiments.runs.figures import parzen_curve

        parzen_curve(result.sigmas, result.valid_means, result.sigma, settings.plot)
    if settings.json:
        record = {
            **dataclasses.asdict(result),
            "samples": settings.samples,
            "valid": settings.valid,
            "test": settings.test,
            "notes": notes,
            "seed": settings.seed,
            "command": shlex.join([*PROGRAM.split(), *argv]),
            "machine": machine(device),
            "threads": torch.get_num_threads(),
            "seconds": round(ended - started, 1),
            "seconds_scoring": round(ended - scoring, 1),
        }
        runs.write_json(settings.json, record)
    return 0


def check(settings: Settings) -> None:
    """Refuse what can be refused before anything is read."""
    for flag, path, suffix in (("--json", settings.json, ".json"), ("--plot", settings.plot, ".png")):
        if path is None:
            continue
        if path.suffix != suffix or path.is_dir():
            raise UsageError(f"{flag} {path}: give a file name that ends in {suffix}")
        if not path.parent.is_dir():
            raise UsageError(f"{flag} {path}: there is no folder {path.parent}, create it first")
        runs.check_output(path, flag)
    if settings.samples == MNIST:
        raise UsageError(f"--samples {MNIST}: give {REAL}, {KMEANS}, a file of samples or a run's folder")
    for flag, name in (("--valid", settings.valid), ("--test", settings.test)):
        if name in (REAL, KMEANS):
            raise UsageError(f"{flag} {name}: give {MNIST} or a file of images")
    if settings.count is not None:
        if settings.samples not in (REAL, KMEANS) and not Path(settings.samples).is_dir():
            raise UsageError("--count is for a run's folder or a control: a file is scored whole, leave it out")
        if settings.count < 1:
            raise UsageError(f"--count {settings.count}: at least one sample is needed")
    if settings.seed < 0:
        raise UsageError(f"--seed {settings.seed}: give 0 or a positive number")
    if settings.threads is not None and settings.threads < 1:
        raise UsageError(f"--threads {settings.threads}: at least one is needed")


def parse_sigmas(text: str) -> tuple[float, ...]:
    """The widths that START:STOP:COUNT names."""
    from cgan.metrics.parzen import sigma_grid

    try:
        start, stop, count = text.split(":")
        ends, number = (float(start), float(stop)), int(count)
    except ValueError:
        raise UsageError(f"--sigmas {text}: give START:STOP:COUNT, such as 0.1:1:10") from None
    if number > MOST_SIGMAS:
        raise UsageError(f"--sigmas {text}: {number:,} widths take too long; give at most {MOST_SIGMAS:,}")
    return sigma_grid(*ends, number)


def machine(device: torch.device) -> str:
    """In words, what computed."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()}-core CPU" if device.type == "cpu" else device.type.upper()


def read_all(settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Samples, validation and test images, each float32 (n, d), and notes on them for the reader."""
    names = {"samples": settings.samples, "valid": settings.valid, "test": settings.test}
    arrays: dict[str, np.ndarray] = {}
    notes: list[str] = []
    # Files first: a mistyped name should be told before MNIST is fetched, images are drawn or k-means runs.
    for role, name in names.items():
        if name not in (MNIST, REAL, KMEANS) and not Path(name).is_dir():
            arrays[role], found = read_images(Path(name))
            notes += found
    if not {MNIST, REAL, KMEANS}.isdisjoint(names.values()):
        from data.mnist import load_digit_images

        mnist = load_digit_images("mnist", settings.data_root)
        arrays |= {role: getattr(mnist, role).images for role, name in names.items() if name == MNIST}
        if settings.samples in (REAL, KMEANS):
            require_equal_lengths({"samples": mnist.train.images, **arrays}, settings)
            train, count = mnist.train.images, settings.count or COUNT
            arrays["samples"], found = control(settings.samples, train, count, settings.seed)
            notes += found
    for role, name in names.items():
        if role not in arrays:
            arrays[role], found = drawn(Path(name), settings.count or COUNT, settings.seed)
            notes += found
    require_equal_lengths(arrays, settings)
    return arrays["samples"], arrays["valid"], arrays["test"], notes


def require_equal_lengths(arrays: Mapping[str, np.ndarray], settings: Settings) -> None:
    """Refuse images with unequal numbers of values; ``arrays`` are (n, d) by role."""
    if len({array.shape[1] for array in arrays.values()}) > 1:
        held = ", ".join(f"--{role} {getattr(settings, role)} has {array.shape[1]}" for role, array in arrays.items())
        raise UsageError(f"{held} values an image: they must agree, so give images of one size")


def control(name: str, train: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """The samples (count, d) of a control made from the training images ``train`` (n, d), and a note on how.

    ``mnist-train``: that many random training images. ``mnist-kmeans``: these, after some rounds of k-means
    (Lloyd's algorithm) over all training images. Theis et al. report 313 nats for theirs. These, nearly converged,
    score 336; mini-batch k-means scored 310 after one pass over the images and 325 after four.
    """
    if count > len(train):
        raise UsageError(f"--count {count}: there are {len(train)} training images, give at most that many")
    centres = train[np.random.default_rng(seed).choice(len(train), count, replace=False)]
    if name == REAL:
        return centres, [f"{count:,} random images of the {len(train):,} training images"]

    from sklearn.cluster import KMeans
    from tqdm import trange

    # One round a call, for the sake of the bar; each call assigns the images twice, before its round and after.
    for _ in trange(ROUNDS, desc="k-means", unit="round", disable=None, leave=False):
        centres = KMeans(count, init=centres, n_init=1, max_iter=1).fit(train).cluster_centers_
    return centres, [
        f"{count:,} centroids of the {len(train):,} training images, by {ROUNDS} rounds of k-means from random images"
    ]


def drawn(run_folder: Path, count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """``count`` samples (count, d) of a run's generator, equally many of each class, and notes on them."""
    if count % CLASSES:
        raise UsageError(f"--count {count}: a run draws equally many of {CLASSES} classes, give a multiple of 10")
    from experiments.mnist.sampling import samples_of_run

    return as_images(samples_of_run(run_folder, count // CLASSES, seed), str(run_folder))


def table(result: ParzenResult, settings: Settings) -> str:
    """The result as a person reads it."""
    sigmas = result.sigmas
    rows = (
        ("validation", settings.valid, result.n_valid, result.valid_mean, result.valid_se),
        ("test", settings.test, result.n_test, result.test_mean, result.test_se),
    )
    width = max(len("from"), *(len(row[1]) for row in rows))
    lines = [
        f"{result.n_samples:,} samples of {result.dim} values from {settings.samples}",
        f"sigma {result.sigma:.4g}, the best of {len(sigmas)} from {sigmas[0]:.4g} to {sigmas[-1]:.4g} "
        "on the validation images",
        "",
        f"{'images':<10}  {'from':<{width}}  {'count':>7}  log-likelihood (nats)  standard error",
        *(f"{kind:<10}  {name:<{width}}  {n:>7,}  {mean:>21.2f}  {se:>14.2f}" for kind, name, n, mean, se in rows),
    ]
    if result.at_edge:
        end, word = (sigmas[0], "below") if result.sigma == sigmas[0] else (sigmas[-1], "above")
        lines += [
            "",
            f"The best sigma is the grid's edge: widen --sigmas {word} {end:.4g}, a better one may lie there.",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run(main))
