"""What D accepts: real and generated images with their own and with wrong labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cgan.metrics.arrays import as_images, as_labels, by_class


@dataclass(frozen=True, eq=False)
class AcceptanceMatrix:
    """D's answers: rows real and generated images, columns own and wrong label."""

    mean: Tensor
    """(2, 2) float64: mean of D in [0, 1]."""
    accepted: Tensor
    """(2, 2) float64: share of images with D > 0.5."""
    by_label_real: Tensor
    """(classes, classes) float64: mean D of real images of class i under label j; NaN rows for absent classes."""
    by_label_fake: Tensor
    """The same of generated images; i is the label they were asked for."""
    rows: tuple[str, ...] = ("real", "fake")
    columns: tuple[str, ...] = ("own label", "wrong label")


def packs_of_labels(images: Tensor, labels: Tensor, pack: int) -> tuple[Tensor, Tensor]:
    """Return images (n, d) of one label side by side, ``pack`` at a time, (m, pack * d), and each pack's label (m,).

    Successive images of a label make a pack; what does not fill one is left out. For a D that judges packs.
    """
    if pack == 1:
        return images, labels
    by_label = labels.argsort(stable=True).split(labels.bincount().tolist())
    chosen = torch.cat([members[: len(members) // pack * pack] for members in by_label])
    return images[chosen].unflatten(0, (-1, pack)).flatten(1), labels[chosen[::pack]]


@torch.no_grad()
def acceptance_matrix(
    accept_logits: Callable[[Tensor, Tensor], Tensor],
    real_images: Tensor,
    real_labels: Tensor,
    fake_images: Tensor,
    fake_labels: Tensor,
    classes: int,
    *,
    generator: torch.Generator,
    per_class: int = 100,
    batch: int = 1_000,
) -> AcceptanceMatrix:
    """Measure what D accepts: {real, generated} images x {own label, a wrong one}.

    ``accept_logits`` is D before its sigmoid, dropout off: images (n, d) and labels (n,) to logits (n,) or (n, 1).
    Images are (n, d) in D's range, with integer labels; a generated image's own label is the one it was asked for. A
    wrong label is drawn uniformly among the other classes, once per image, from ``generator`` (CPU). ``per_class``
    images of each class serve the ``by_label`` matrices. Raises ``CganError`` if shapes or labels do not fit.
    """
    mean, accepted = torch.empty(2, 2, 2, dtype=torch.float64)
    by_label = torch.full((2, classes, classes), math.nan, dtype=torch.float64)

    def acceptance(images: Tensor, labels: Tensor) -> Tensor:
        blocks = zip(images.split(batch), labels.split(batch), strict=True)
        return torch.cat([accept_logits(x, y).reshape(len(x)) for x, y in blocks]).cpu().double().sigmoid()

    sides = (("real", real_images, real_labels), ("fake", fake_images, fake_labels))
    for row, (name, images, labels) in enumerate(sides):
        images = as_images(images, f"{name}_images")
        labels = as_labels(labels, len(images), classes, f"{name}_labels")
        offset = torch.randint(1, classes, (len(labels),), generator=generator).to(labels.device)
        for column, shown in enumerate((labels, (labels + offset) % classes)):
            d = acceptance(images, shown)
            mean[row, column], accepted[row, column] = d.mean(), (d > 0.5).double().mean()
        for own, members in enumerate(by_class(images, labels, classes, f"{name}_labels")):
            members = members[:per_class]
            for label in range(classes if len(members) else 0):
                by_label[row, own, label] = acceptance(members, labels.new_full((len(members),), label)).mean()
    return AcceptanceMatrix(mean, accepted, by_label[0], by_label[1])
