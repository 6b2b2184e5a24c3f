"""Score samples by the paper's Parzen procedure (section 4.1): ``python -m experiments.parzen --samples FILE``."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from experiments import UsageError
from experiments.generators import load_generator
from experiments.runs.cli import check_least, parse, run
from experiments.runs.files import check_output, write_json
from experiments.runs.folder import environment

if TYPE_CHECKING:
    import numpy as np

    from cgan.metrics.parzen import ParzenResult
    from data.labelled import ImageDataset

DATA_SETS = ("auto", "mnist", "digits")  # Values of ``--valid`` and ``--test``.
REAL, KMEANS = "mnist-train", "mnist-kmeans"  # Controls: training images, and centroids of them.
#: Samples that the paper draws, and classes they are divided among (section 4.1).
COUNT, CLASSES = 10_000, 10
MAX_SIGMAS = 1_000
#: Rounds of k-means. With 10,000 centroids on MNIST, four more change the score by less than 0.1 nats.
ROUNDS = 4
#: Samples and images whose ranges differ by more than this factor are not scored: one of them is in other units.
MAX_RATIO = 10.0


@dataclass(frozen=True)
class Settings:
    """Score samples by a Gaussian Parzen window (section 4.1 of the paper).

    The score is the mean log-likelihood of the test images in nats, at the sigma under which the validation images
    are likeliest. In an array the first axis counts images and the others are flattened. Of several arrays in a
    file, the one named "samples", else "images", is taken. Bytes are divided by 255, and a note says so.
    """

    samples: Annotated[str, tyro.conf.arg(metavar="FILE|NAME|RUN|CONTROL")]
    """What to score: a .npy, .npz or .safetensors file; a generator of this package by name, or a run's folder, from
    which samples are drawn; or a control, mnist-train (random training images) or mnist-kmeans (centroids of the 50,000
    training images, about a minute on two cores)."""
    valid: Annotated[str, tyro.conf.arg(metavar="FILE|auto|mnist|digits")] = "auto"
    """Images that choose sigma: a file, or the validation images of a data set; auto is the one that the run was
    trained on, and MNIST (the last 10,000 training images) for files and controls."""
    test: Annotated[str, tyro.conf.arg(metavar="FILE|auto|mnist|digits")] = "auto"
    """Images whose log-likelihood is the score: a file, or the test images of a data set, as of --valid."""
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
    """Seed of what is drawn."""
    data_root: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Where MNIST lies, or is downloaded to if it is missing; else the environment's CGAN_DATA, else data/raw."""
    density_coverage: bool = False
    """Also give precision, recall, density and coverage (five nearest neighbours among the test images), on pixels and,
    where --test is a data set, on the features of a classifier trained on its training images."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a CUDA GPU where there is one."""
    threads: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Processor threads for the scoring; PyTorch's own choice if not given."""
    memory_mib: int = 256
    """Bound on the working memory of the scoring, in MiB."""

    def __post_init__(self) -> None:
        check_output(self.json, "--json", ".json")
        check_output(self.plot, "--plot", ".png")
        for flag, name in (("--valid", self.valid), ("--test", self.test)):
            if name in (REAL, KMEANS):
                raise UsageError(f"{flag} {name}: give mnist, digits or a file of images")
        if self.samples in DATA_SETS:
            raise UsageError(
                f"--samples {self.samples}: give {REAL}, {KMEANS}, a file of samples, a generator's name or a run"
            )
        if self.count is not None and Path(self.samples).is_file():
            raise UsageError("--count is for a generator or a control: a file is scored whole, leave it out")
        check_least(self, count=1, seed=0, threads=1)


@dataclass
class Inputs:
    """Images of every role (samples, valid, test), (n, d) float32, and notes on them for the reader."""

    names: dict[str, str]  # What each role's images are from: the file, run, control or data set.
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    test_set: ImageDataset | None = None  # The data set that the test images are of.

    def add(self, role: str, images: np.ndarray, notes: Sequence[str] = ()) -> None:
        """Add the images of ``role``; raises ``UsageError`` if they differ from others in size, or greatly in range."""
        self.arrays[role] = images
        self.notes += notes
        called = {f"--{name} {self.names[name]}": array for name, array in self.arrays.items()}
        if len({array.shape[1] for array in called.values()}) > 1:
            held = ", ".join(f"{name} has {array.shape[1]}" for name, array in called.items())
            raise UsageError(f"{held} values an image: they must agree, so give images of one size")
        highest = {name: float(abs(array).max()) for name, array in called.items()}
        large, small = max(highest, key=highest.__getitem__), min(highest, key=highest.__getitem__)
        if 0 < MAX_RATIO * highest[small] < highest[large]:
            advice = "divide the first by 255" if 200 < highest[large] <= 255 else "bring both to [0, 1]"
            raise UsageError(
                f"{large} has values up to {highest[large]:.4g} but {small} up to {highest[small]:.4g}: {advice}"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Score what the command line names; print the result, and write it where asked."""
    started = time.perf_counter()
    argv = list(sys.argv[1:] if argv is None else argv)
    settings = parse(Settings, "experiments.parzen", argv)
    import torch

    from cgan.devices import resolve_device
    from cgan.metrics import parzen

    sigmas = parse_sigmas(settings.sigmas)
    # auto never takes MPS: without float64 the sums have fewer digits there.
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = resolve_device(automatic if settings.device == "auto" else settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    inputs = read_inputs(settings)
    for note in inputs.notes:
        print(f"note: {note}", file=sys.stderr)
    scoring = time.perf_counter()
    samples, valid, test = (torch.from_numpy(inputs.arrays[role]) for role in ("samples", "valid", "test"))
    result = parzen.evaluate(
        samples.to(device), valid, test, sigmas, memory_mib=settings.memory_mib, progress=sys.stderr.isatty()
    )
    ended = time.perf_counter()
    print(format_table(result, inputs))
    neighbours = compare_neighbours(inputs) if settings.density_coverage else None
    for name, scores in (neighbours or {}).items():
        print(f"{name:<10}  " + "  ".join(f"{key} {value:.3f}" for key, value in scores["overall"].items()))
    if settings.plot:
        from experiments.runs.figures import parzen_curve

        parzen_curve(result.sigmas, result.valid_means, result.sigma, settings.plot)
    if settings.json:
        record = {
            **asdict(result),
            **inputs.names,
            "notes": inputs.notes,
            "density_coverage": neighbours,
            "seed": settings.seed,
            "command": shlex.join(["python", "-m", "experiments.parzen", *argv]),
            "device": str(device),
            "environment": environment(),
            "threads": torch.get_num_threads(),
            "seconds": round(ended - started, 1),
            "seconds_scoring": round(ended - scoring, 1),
        }
        write_json(settings.json, record)
    return 0


def parse_sigmas(text: str) -> tuple[float, ...]:
    """Return the widths that START:STOP:COUNT names."""
    from cgan.metrics.parzen import sigma_grid

    try:
        start, stop, count = text.split(":")
        ends, number = (float(start), float(stop)), int(count)
    except ValueError:
        raise UsageError(f"--sigmas {text}: give START:STOP:COUNT, such as 0.1:1:10") from None
    if number > MAX_SIGMAS:
        raise UsageError(f"--sigmas {text}: {number:,} widths take too long; give at most {MAX_SIGMAS:,}")
    return sigma_grid(*ends, number)


def read_inputs(settings: Settings) -> Inputs:
    """Read or draw samples, validation and test images; files come first, so that a wrong name costs no time."""
    from data.mnist import load_digit_images
    from experiments.parzen.sample_files import as_images, read_images

    samples, roles = settings.samples, {"valid": settings.valid, "test": settings.test}
    inputs, net, count = Inputs({"samples": samples, **roles}), None, settings.count or COUNT
    if samples not in (REAL, KMEANS):
        if Path(samples).suffix or Path(samples).is_file():
            inputs.add("samples", *read_images(Path(samples)))
        else:
            net = load_generator(samples, "mnist")
            if count % CLASSES:
                raise UsageError(f"--count {count}: a run draws equally many of {CLASSES} classes, give a multiple")
    for role, name in roles.items():
        if name not in DATA_SETS:
            inputs.add(role, *read_images(Path(name)))

    @cache
    def data_set(name: str) -> ImageDataset:
        if name == "auto":
            return data_set("digits" if net and net.config.dataset.embedded else "mnist")
        return load_digit_images(name, settings.data_root)  # type: ignore[arg-type]

    for role, name in roles.items():
        if name in DATA_SETS:
            found = data_set(name)
            inputs.names[role], inputs.test_set = found.name, found if role == "test" else None
            inputs.add(role, getattr(found, role).images)
    if samples in (REAL, KMEANS):
        inputs.add("samples", *control(samples, data_set("mnist").train.images, count, settings.seed))
    elif net is not None:
        from experiments.mnist.sampling import samples_of

        drawn = samples_of(net.generator, net.classes, count // CLASSES, settings.seed, net.sampling.drawing_dropout)
        inputs.add("samples", *as_images(drawn, samples))
    return inputs


def control(name: str, train: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Return the samples (count, d) of a control made from the training images (n, d), and a note on how.

    The centroids are those of some rounds of k-means (Lloyd's algorithm) from the random images. Theis et al. report
    313 nats for theirs; these, nearly converged, score 336.
    """
    import numpy as np

    if count > len(train):
        raise UsageError(f"--count {count}: there are {len(train)} training images, give at most that many")
    centres = train[np.random.default_rng(seed).choice(len(train), count, replace=False)]
    if name == REAL:
        return centres, [f"{count:,} random images of the {len(train):,} training images"]

    from sklearn.cluster import KMeans
    from tqdm import trange

    # One round a call, to show a bar; each call assigns the images twice, before its round and after.
    for _ in trange(ROUNDS, desc="k-means", unit="round", disable=None, leave=False):
        centres = KMeans(count, init=centres, n_init=1, max_iter=1).fit(train).cluster_centers_
    return centres, [
        f"{count:,} centroids of the {len(train):,} training images, by {ROUNDS} rounds of k-means from random images"
    ]


def compare_neighbours(inputs: Inputs) -> dict[str, dict[str, Any]]:
    """Return density and coverage on pixels and, where the test images are a data set's, on a classifier's features."""
    import torch

    from cgan.metrics.classifier import features, train_classifier
    from cgan.metrics.density_coverage import NEIGHBOURS, density_coverage

    samples, test = (torch.from_numpy(inputs.arrays[role]) for role in ("samples", "test"))
    spaces = {"pixels": (test, samples)}
    if inputs.test_set is not None:
        train, classes = inputs.test_set.train, inputs.test_set.classes
        images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
        classifier = train_classifier(images, labels, classes, seed=0, progress=True)
        spaces["features"] = features(classifier, test), features(classifier, samples)
    return {
        name: {"k": NEIGHBOURS, "overall": asdict(density_coverage(*space)), "per_class": []}
        for name, space in spaces.items()
    }


def format_table(result: ParzenResult, inputs: Inputs) -> str:
    """Return the result as a text table, with advice where sigma is an end of the grid."""
    sigmas, names = result.sigmas, inputs.names
    width = max(map(len, ("from", names["valid"], names["test"])))
    text = (
        f"{result.n_samples:,} samples of {result.dim} values from {names['samples']}\n"
        f"sigma {result.sigma:.4g}, the best of {len(sigmas)} from {sigmas[0]:.4g} to {sigmas[-1]:.4g} "
        "on the validation images\n\n"
        f"{'images':<10}  {'from':<{width}}  {'count':>7}  log-likelihood (nats)  standard error"
    )
    for kind, name, n, mean, se in (
        ("validation", names["valid"], result.n_valid, result.valid_mean, result.valid_se),
        ("test", names["test"], result.n_test, result.test_mean, result.test_se),
    ):
        text += f"\n{kind:<10}  {name:<{width}}  {n:>7,}  {mean:>21.2f}  {se:>14.2f}"
    spans = [float(array.max() - array.min()) for array in inputs.arrays.values()]
    if result.at_edge and max(spans) <= 1.5 * min(spans):  # Else the samples' range is what is wrong.
        end, word = (sigmas[0], "below") if result.sigma == sigmas[0] else (sigmas[-1], "above")
        text += f"\n\nThe best sigma is the grid's edge: widen --sigmas {word} {end:.4g}, a better one may lie there."
    return text


if __name__ == "__main__":
    raise SystemExit(run(main))
