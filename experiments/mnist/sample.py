"""Draw images from a trained run: ``python -m experiments.sample RUN --labels 0-9 --per-label 10 --out grid.png``.

Writes the figure-2 grid (a row per label), and the images as an array where asked. Trains nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments import UsageError
from experiments.runs import folder as runs
from experiments.runs.cli import run

#: Images in a row, above which the figure and the memory for it get out of hand.
MOST = 10_000


@dataclass(frozen=True)
class Command:
    """Draw images from a trained run and lay them out as in figure 2 of the paper: a row per label."""

    run: tyro.conf.Positional[Path]
    """Folder of the run, such as runs/mnist/paper-seed1."""
    labels: Annotated[str, tyro.conf.arg(metavar="LABELS")] = "all"
    """Labels to ask for, a row each: 0-9, or 3,1,4, or both mixed; all is every one. Unconditional runs take none."""
    per_label: int = 10
    """Images in a row."""
    seed: int = 0
    """Seed of the noise."""
    dropout: bool = False
    """Leave G's dropout on, as while training: more variety, lower likelihood. The paper does not say which it did."""
    out: Path = Path("grid.png")
    """PNG to write."""
    npy: Path | None = None
    """Also write the images there: float32 (rows * per_label, pixels) in [0, 1]; experiments.parzen can score it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    command = tyro.cli(Command, args=argv, prog="python -m experiments.sample")
    if not 1 <= command.per_label <= MOST:
        raise UsageError(f"--per-label is {command.per_label}: it must be at least 1, and at most {MOST:,}")
    for option, path in (("--out", command.out), ("--npy", command.npy)):
        if path is None:
            continue
        if not path.resolve().parent.is_dir():
            raise UsageError(f"{path}: its folder does not exist; create it or choose another place")
        runs.check_output(path, option)
    if command.out.suffix != ".png":
        raise UsageError(f"--out {command.out}: a PNG is written, so end its name in .png")
    if command.npy and command.npy.resolve() == command.out.resolve():
        raise UsageError(f"--npy {command.npy}: there the picture goes; give it another name, such as samples.npy")
    import numpy as np
    import torch

    from cgan.devices import seeded
    from experiments.mnist.sampling import draw, load_run
    from experiments.runs import figures

    loaded = load_run(command.run)
    labels = parse_labels(command.labels, loaded.classes)
    rows = len(labels) if labels else 10
    asked = torch.tensor(labels).repeat_interleave(command.per_label) if labels else None
    if command.dropout and not loaded.generator.has_dropout:
        raise UsageError(f"{command.run}: this run's generator has no dropout: leave --dropout out")
    rng = seeded(command.seed, "samples")
    images = draw(loaded.generator, asked, rows * command.per_label, rng, command.dropout).numpy()
    dataset = loaded.record["dataset"]
    side = round(images.shape[1] ** 0.5)
    figures.image_grid(
        images,
        command.out,
        (side, side),
        columns=command.per_label,
        row_labels=labels or None,
        title=f"trained on {dataset['name']}" if dataset["embedded"] else None,
    )
    how = ", dropout on" if command.dropout else ""
    print(f"{command.out}: {len(images)} images, trained on {dataset['name']}, update {loaded.update:,}{how}")
    if command.npy:
        temporary = command.npy.with_name(f".{command.npy.name}.{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            np.save(file, images)
        os.replace(temporary, command.npy)
        print(f"{command.npy}: the same images, float32 {images.shape}")
    return 0


def parse_labels(text: str, classes: int | None) -> list[int]:
    """The labels that ``text`` lists (``0-9``, ``3,1,4``, ``all``), in its order; empty for an unconditional net.

    Raises ``UsageError`` if the text is malformed, a label is not in 0..classes-1, or the net takes no labels.
    """
    if classes is None:
        if text != "all":
            raise UsageError("this run's generator takes no labels: leave --labels out")
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
