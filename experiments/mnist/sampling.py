"""Sample images from a trained generator of the MNIST experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from cgan.networks import Generator


def to_pixels(data: Tensor, output: str) -> Tensor:
    """Return a generator's output as pixels in [0, 1]; tanh outputs are in [-1, 1]."""
    return (data + 1) / 2 if output == "tanh" else data


def from_pixels(images: Tensor, output: str) -> Tensor:
    """Return pixels in [0, 1] in the range of a generator's output: the inverse of ``to_pixels``."""
    return images * 2 - 1 if output == "tanh" else images


def sample_images(
    generator: Generator, labels: Tensor | None, n: int, rng: torch.Generator, dropout: bool | float = False
) -> Tensor:
    """Return ``n`` images (n, pixels) float32 in [0, 1] for labels (n,); ``dropout`` as for ``Generator.sample``."""
    return to_pixels(generator.sample(labels, n, rng, dropout=dropout), generator.spec.output)


def samples_of(
    generator: Generator, classes: int | None, per_class: int, seed: int, dropout: bool | float = False
) -> np.ndarray:
    """Return ``per_class`` images (n, pixels) in [0, 1] of each class in order; without classes, ten times as many.

    ``dropout`` as for ``Generator.sample``.
    """
    import torch

    from cgan.devices import seeded

    n = per_class * (classes or 10)
    labels = None if classes is None else torch.arange(classes).repeat_interleave(per_class)
    return sample_images(generator, labels, n, seeded(seed, "samples"), dropout).numpy()
