"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of two sets of features.

All four count samples within balls around points that reach to their k-th nearest neighbour in the same set.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from cgan import CganError
from cgan.metrics.arrays import as_images, by_class


@dataclass(frozen=True)
class DensityCoverage:
    """Fidelity and diversity of samples; real data against other real data have about 1 in each."""

    precision: float
    """Share of samples that lie in the ball of some real point, in [0, 1]."""
    recall: float
    """Share of real points that lie in the ball of some sample, in [0, 1]."""
    density: float
    """Real balls that a sample lies in, on average, divided by k; may exceed 1."""
    coverage: float
    """Share of real points whose ball holds a sample, in [0, 1]."""


#: Neighbours that set the size of a ball; Naeem et al. advise 5.
NEIGHBOURS = 5


@torch.no_grad()
def density_coverage(real: Tensor, fake: Tensor, k: int = NEIGHBOURS, block: int = 1_000) -> DensityCoverage:
    """Compare features ``fake`` (m, d) of samples with features ``real`` (n, d), by Euclidean distance.

    Memory is ``block`` x max(n, m) float32 numbers. Raises ``CganError`` if a set has k points or fewer.
    """
    real, fake = as_images(real, "real"), as_images(fake, "fake")
    if not 1 <= k < min(len(real), len(fake)):
        raise CganError(
            f"k is {k}, and there are {len(real)} real and {len(fake)} fake points: give more than k of each"
        )
    real_radius, fake_radius = (
        torch.cat([torch.cdist(part, points).kthvalue(k + 1, dim=1).values for part in points.split(block)])
        for points in (real, fake)
    )  # To the k-th nearest other point: the nearest is the point itself.
    in_real = []
    covered, recalled = torch.zeros(2, len(real), dtype=torch.bool, device=real.device)
    for part, radius in zip(fake.split(block), fake_radius.split(block), strict=True):
        distance = torch.cdist(part, real)
        within = distance <= real_radius
        in_real.append(within.sum(1).float())
        covered |= within.any(0)
        recalled |= (distance <= radius[:, None]).any(0)
    balls = torch.cat(in_real)
    return DensityCoverage(*(float(found.double().mean()) for found in (balls > 0, recalled, balls / k, covered)))


def density_coverage_by_class(
    real: Tensor, real_labels: Tensor, fake: Tensor, fake_labels: Tensor | None, classes: int, k: int = NEIGHBOURS
) -> dict[str, Any]:
    """Return ``density_coverage`` of all points as ``overall``, and within each class as the list ``per_class``.

    Labels are (n,) and (m,) integers; ``per_class`` holds None for a class with k points or fewer on either side, and
    is empty if ``fake_labels`` is None. The values are plain dictionaries for JSON.
    """
    parts: list[dict[str, float] | None] = []
    if fake_labels is not None:
        sides = by_class(real, real_labels, classes, "real_labels"), by_class(fake, fake_labels, classes, "fake_labels")
        for these, those in zip(*sides, strict=True):
            enough = min(len(these), len(those)) > k
            parts.append(asdict(density_coverage(these, those, k)) if enough else None)
    return {"k": k, "overall": asdict(density_coverage(real, fake, k)), "per_class": parts}
