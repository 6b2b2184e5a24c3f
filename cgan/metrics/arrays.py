"""Checks and conversions that the metrics share."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from cgan import CganError


def as_images(images: Tensor, name: str) -> Tensor:
    """Return ``images`` (n, d) as float32; raises ``CganError`` naming ``name`` on another shape."""
    if images.ndim != 2 or len(images) == 0:
        raise CganError(f"{name} has the shape {tuple(images.shape)}, but (n, d) with n > 0 is needed: flatten them")
    return images.detach().float()


def as_labels(labels: Tensor, count: int, classes: int, name: str) -> Tensor:
    """Return ``labels`` (count,) as int64; raises ``CganError`` naming ``name`` unless all are in [0, classes)."""
    if labels.shape != (count,) or count == 0:
        raise CganError(f"{name} has the shape {tuple(labels.shape)}: give one label for each of {count} images")
    if labels.is_floating_point() or labels.min() < 0 or labels.max() >= classes:
        raise CganError(f"{name} must be integers from 0 to {classes - 1}")
    return labels.detach().long()


def by_class(images: Tensor, labels: Tensor | None, classes: int, name: str) -> list[Tensor]:
    """Return the images of each class in their order; without labels one group of all."""
    if labels is None:
        return [images]
    labels = as_labels(labels, len(images), classes, name).to(images.device)
    return [images[labels == label] for label in range(classes)]


def plain(value: Any) -> Any:
    """Return a measure as JSON-ready values: a dataclass by field, a tensor as nested lists; None for NaN, infinity."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
