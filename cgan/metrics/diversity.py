"""Intra-class diversity: do samples of one label differ from one another as real images do?

By pixel standard deviation, which is crude (``density_coverage`` is finer), and by pairs that are nearly one image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cgan.metrics.arrays import as_images, by_class

#: Two samples are twins when their root mean square pixel difference is below this share of the real deviation; two
#: different real images differ by about 1.4 times that deviation or more.
TWIN_DISTANCE = 0.1
#: Images of a class compared pairwise for twins: 19,900 pairs show a share of 1% and cost milliseconds.
TWIN_IMAGES = 200


@dataclass(frozen=True, eq=False)
class IntraClassDiversity:
    """How much samples of one label differ; real images have 1."""

    overall: float
    """Mean of ``per_class`` over the classes that have one; NaN when none has."""
    per_class: Tensor
    """(classes,) float64: mean pixel deviation of the samples over that of real images; (1,) without labels. NaN for a
    class of fewer than two samples or two real images."""
    twins: Tensor
    """Shaped alike, in [0, 1]: share of pairs of samples of one label that are nearly one image. A few images shown in
    turn have a healthy deviation, but with m of them one pair in m are twins."""
    finite: bool
    """Whether every pixel of every sample is a finite number."""


def pixel_deviation(images: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Return each pixel's standard deviation within a class, averaged over pixels: (classes,) float64.

    ``images`` (n, d) in [0, 1]; ``labels`` (n,), or None for all images as one class, giving (1,). A class of fewer
    than two images gets NaN.
    """
    images = as_images(images, "images")
    return torch.stack([_deviation(members) for members in by_class(images, labels, classes, "labels")])


def intra_class_diversity(
    samples: Tensor, labels: Tensor | None, real_deviation: Tensor, classes: int
) -> IntraClassDiversity:
    """Return the diversity of ``samples`` (n, d) in [0, 1] that were asked for as ``labels`` (n,).

    ``real_deviation`` is what ``pixel_deviation`` returned for real images, with labels or without as here (None: an
    unconditional net, all samples as one class).
    """
    samples = as_images(samples, "samples")
    groups = by_class(samples, labels, classes, "labels")
    per_class = torch.stack([_deviation(members) for members in groups]) / real_deviation.cpu()
    twins = torch.stack([_twins(members, float(real)) for members, real in zip(groups, real_deviation, strict=True)])
    overall = float(per_class[~per_class.isnan()].mean())
    return IntraClassDiversity(overall, per_class, twins, bool(samples.isfinite().all()))


def _deviation(images: Tensor) -> Tensor:
    if len(images) < 2:
        return torch.tensor(math.nan, dtype=torch.float64)
    return images.std(0).cpu().double().mean()


def _twins(images: Tensor, deviation: float) -> Tensor:
    """Return the share of pairs of images with a root mean square difference under TWIN_DISTANCE * deviation."""
    if len(images) < 2:
        return torch.tensor(math.nan, dtype=torch.float64)
    spread = images[:: -(-len(images) // TWIN_IMAGES)].cpu()  # Evenly, in case the samples come sorted.
    distances = torch.pdist(spread) / math.sqrt(images.shape[1])
    return (distances < TWIN_DISTANCE * deviation).double().mean()
