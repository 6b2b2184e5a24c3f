"""Sample images from a trained generator: ``python -m experiments.sample paper --labels 0-9 --out grid.png``."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments import UsageError
from experiments.runs.cli import parse, run
from experiments.runs.files import check_output, write_bytes

#: Images in a row; more would make a figure that no program opens.
MAX_PER_LABEL = 10_000


@dataclass(frozen=True)
class Command:
    """Sample images from a trained generator and lay them out as in figure 2 of the paper: a row per label."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME|RUN")] = "paper"
    """Name of a generator that comes with this package, or folder of a run, such as runs/mnist/paper-seed1."""
    labels: Annotated[str, tyro.conf.arg(metavar="LABELS")] = "all"
    """Labels to ask for, a row each: 0-9, or 3,1,4, or both mixed; all is every one. Unconditional ones take none."""
    per_label: int = 10
    """Images in a row."""
    seed: int = 0
    """Seed of the noise."""
    dropout: bool = False
    """Leave G's dropout on, as in training: more diversity, lower likelihood. The paper does not say which it did."""
    dropout_rate: float | None = None
    """Leave G's dropout on at this rate instead of that of training: the higher, the more the images differ. 0: off.
    Without either option: as the run's setting sampling.dropout says."""
    out: Path = Path("grid.png")
    """PNG to write."""
    npy: Path | None = None
    """Also write the images there: float32 (rows * per_label, pixels) in [0, 1]; experiments.parzen can score it."""

    def __post_init__(self) -> None:
        if not 1 <= self.per_label <= MAX_PER_LABEL:
            raise UsageError(f"--per-label is {self.per_label}: give 1 to {MAX_PER_LABEL:,}")
        if self.dropout_rate is not None and not 0 <= self.dropout_rate < 1:
            raise UsageError(f"--dropout-rate is {self.dropout_rate}: give one of 0 (off) to below 1, or leave it out")
        check_output(self.out, "--out", ".png")
        check_output(self.npy, "--npy")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    command = parse(Command, "experiments.sample", argv)
    import numpy as np
    import torch

    from cgan.devices import seeded
    from experiments.generators import load_generator
    from experiments.mnist.sampling import sample_images
    from experiments.runs import figures

    net = load_generator(command.run, "mnist")
    labels = parse_labels(command.labels, net.classes)
    rows = len(labels) if labels else 10
    asked = torch.tensor(labels).repeat_interleave(command.per_label) if labels else None
    dropout = command.dropout or net.sampling.drawing_dropout
    if command.dropout_rate is not None:
        dropout = command.dropout_rate or False
    if dropout and not net.generator.has_dropout:
        raise UsageError(f"{net.source}: this generator has no dropout: leave --dropout and --dropout-rate out")
    rng = seeded(command.seed, "samples")
    images = sample_images(net.generator, asked, rows * command.per_label, rng, dropout).numpy()
    dataset, side = net.config.dataset, round(images.shape[1] ** 0.5)
    figures.image_grid(
        images.reshape(rows, command.per_label, -1),
        command.out,
        (side, side),
        row_labels=labels or None,
        title=f"trained on {dataset.name}" if dataset.embedded else None,
    )
    figures.stamp([command.out], net.weights)
    rate = "" if isinstance(dropout, bool) else f" at a rate of {dropout:g}"
    print(
        f"{command.out}: {len(images)} images by {net.source}, trained on {dataset.name}, "
        f"update {net.weights.update:,}{f', dropout on{rate}' if dropout else ''}"
    )
    if command.npy:
        file = io.BytesIO()
        np.save(file, images)
        write_bytes(command.npy, file.getvalue())
        print(f"{command.npy}: the same images, float32 {images.shape}")
    return 0


def parse_labels(text: str, classes: int | None) -> list[int]:
    """Return the labels that ``text`` lists (``0-9``, ``3,1,4``, ``all``), in order; none for an unconditional net."""
    if classes is None:
        if text != "all":
            raise UsageError("this generator takes no labels: leave --labels out")
        return []
    if text == "all":
        return list(range(classes))
    labels: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        if match is None:
            raise UsageError(f"--labels {text!r}: write 0-9, or 3,1,4, or both mixed")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < classes:
            raise UsageError(f"--labels {text!r}: {part.strip()} is not within 0-{classes - 1}")
        labels += range(first, last + 1)
    return labels


if __name__ == "__main__":
    raise SystemExit(run(main))
