"""Are labels obeyed? How often a sample is read as asked for, and how well samples train a classifier."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from cgan.metrics.arrays import as_images, as_labels


@dataclass(frozen=True, eq=False)
class LabelFidelity:
    """How often a sample is read as the label it was asked for."""

    share: float
    """Of all samples, in [0, 1]; chance is 1 / classes."""
    per_class: Tensor
    """(classes,) float64: the same by the label asked for; NaN where none was."""
    confusion: Tensor
    """(classes, classes) int64 counts; row: asked for, column: read as."""


def label_fidelity(predicted: Tensor, asked: Tensor, classes: int) -> LabelFidelity:
    """Compare the labels read in samples (n,) with those asked for (n,); raises ``CganError`` if they do not fit."""
    predicted = as_labels(predicted, len(predicted), classes, "predicted").cpu()
    asked = as_labels(asked, len(predicted), classes, "asked").cpu()
    confusion = torch.bincount(asked * classes + predicted, minlength=classes**2).reshape(classes, classes)
    right, total = confusion.diagonal().double(), confusion.sum(1).double()
    return LabelFidelity(float(right.sum() / total.sum()), right / total, confusion)


def train_on_generated(
    samples: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor, *, seed: int, max_train: int = 10_000
) -> float:
    """Return the accuracy on real test images of a classifier trained on samples, in [0, 1].

    Logistic regression (scikit-learn) on standardised pixels of ``samples`` (n, d) in [0, 1] with the labels asked for
    (n,); ``seed`` picks ``max_train`` of them where there are more. The same call on real training images gives the
    figure to compare with.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    samples, test_images = as_images(samples, "samples"), as_images(test_images, "test_images")
    chosen = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))[:max_train]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(samples.cpu()[chosen].numpy(), labels.cpu()[chosen].numpy())
    return float(model.score(test_images.cpu().numpy(), test_labels.cpu().numpy()))
