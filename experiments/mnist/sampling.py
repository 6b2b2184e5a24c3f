"""Trained runs of the MNIST experiment as generators again: load one, draw from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import UsageError
from experiments.mnist.presets import MnistConfig
from experiments.runs import folder as runs

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from cgan.networks import Discriminator, Generator


@dataclass(frozen=True)
class LoadedRun:
    """A run's networks at its stopping point, with what is known about it."""

    folder: Path
    config: MnistConfig
    record: dict[str, Any]
    """The whole of ``config.json``: preset, data set, seed, settings."""
    generator: Generator
    discriminator: Discriminator
    update: int
    """Update at which the weights were kept."""

    @property
    def classes(self) -> int | None:
        """How many labels the generator takes; None if it takes none."""
        spec = self.config.generator
        return None if spec.condition == "none" else spec.condition_dim


def load_run(folder: Path, device: torch.device | str = "cpu") -> LoadedRun:
    """The run in ``folder`` with its best weights. Raises ``UsageError`` or ``CganError`` naming the file at fault."""
    import torch

    from cgan import checkpoint as checkpoints
    from cgan.devices import seeded
    from cgan.networks import Discriminator, Generator

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the folder of a run, such as runs/mnist/paper-seed1")
    needed = {"dataset": ("name", "embedded")}
    record, config = runs.read_config(folder, "experiments.mnist", needed, MnistConfig.from_dict)
    path = folder / runs.BEST
    tensors, kept = checkpoints.load(path)
    # Any mean will do: the stored weights replace the start.
    generator = Generator(config.generator, seeded(0, "G"), torch.full((config.generator.output_dim,), 0.5))
    discriminator = Discriminator(config.discriminator, seeded(0, "D"))
    for module, prefix in ((generator, "G."), (discriminator, "D.")):
        checkpoints.load_into(module, checkpoints.part(tensors, prefix), path)
        module.eval().to(device)
    return LoadedRun(folder, config, record, generator, discriminator, kept["t"])


def to_pixels(data: Tensor, output: str) -> Tensor:
    """A generator's output as pixels in [0, 1]: tanh outputs come in [-1, 1]."""
    return (data + 1) / 2 if output == "tanh" else data


def from_pixels(images: Tensor, output: str) -> Tensor:
    """Pixels in [0, 1] in the range of a generator's output: the inverse of ``to_pixels``."""
    return images * 2 - 1 if output == "tanh" else images


def draw(generator: Generator, labels: Tensor | None, n: int, rng: torch.Generator, dropout: bool = False) -> Tensor:
    """``n`` images (n, pixels) float32 in [0, 1] for labels (n,), on the generator's device.

    ``dropout`` leaves G's dropout on, with masks from ``rng``; the noise stays the same.
    """
    return to_pixels(generator.sample(labels, n, rng, dropout=dropout), generator.spec.output)


def samples_of_run(folder: Path, per_class: int, seed: int) -> np.ndarray:
    """``per_class`` images of each class in order of class, or ten times as many from an unconditional run.

    Returns (n, pixels) float32 in [0, 1]. Raises ``UsageError`` or ``CganError`` as ``load_run`` does.
    """
    import torch

    from cgan.devices import seeded

    run = load_run(folder)
    n = per_class * (run.classes or 10)
    labels = None if run.classes is None else torch.arange(run.classes).repeat_interleave(per_class)
    return draw(run.generator, labels, n, seeded(seed, "samples")).numpy()
