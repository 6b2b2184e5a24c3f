"""The classifier that reads which class an image shows: a small ReLU net trained on real images."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgan import CganError
from cgan.metrics.arrays import as_images, as_labels

#: Adam's, after the warm-up.
LEARNING_RATE = 3e-3


class Classifier(nn.Module):
    """Linear layers of the given ``sizes`` (pixels first, classes last) with ReLU between, on standardised images.

    A new one is all zeros; ``train_classifier`` and ``classifier_from_state`` fill it. ``state_dict()`` is a flat
    dictionary of float32 tensors.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.utils.skip_init(nn.Linear, *pair) for pair in pairwise(sizes))
        self.register_buffer("mean", torch.zeros(sizes[0]))
        self.register_buffer("scale", torch.ones(()))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def features(self, images: Tensor) -> Tensor:
        """Return the last hidden layer (n, units) of images (n, d)."""
        hidden = (images - self.mean) / self.scale
        for layer in self.layers[:-1]:
            hidden = layer(hidden).relu()
        return hidden

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, d)."""
        return self.layers[-1](self.features(images))


def classifier_from_state(state: dict[str, Tensor]) -> Classifier:
    """Return the classifier whose ``state_dict()`` this is; raises ``CganError`` if it is none."""
    try:
        weights = [state[f"layers.{i}.weight"] for i in range(sum(name.endswith(".weight") for name in state))]
        classifier = Classifier((weights[0].shape[1], *(weight.shape[0] for weight in weights)))
        classifier.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError):
        raise CganError(
            "these tensors are not the state of a classifier: delete the file, and it is trained again"
        ) from None
    return classifier.eval()


def train_classifier(
    images: Tensor, labels: Tensor, classes: int, *, seed: int, updates: int | None = None, progress: bool = False
) -> Classifier:
    """Train a classifier of images (n, d) in [0, 1] with integer labels (n,), on the CPU.

    Adam, with a warm-up over the first tenth of the ``updates`` (None: six passes over the images, at least 300) and a
    linear decay to zero; on one thread, so that a seed gives the same weights on any machine. ``progress`` shows a bar.
    Raises ``CganError`` if shapes or labels do not fit.
    """
    from tqdm import trange

    images = as_images(images, "images").cpu()
    labels = as_labels(labels, len(images), classes, "labels").cpu()
    batch = min(250, len(images))
    updates = updates or max(300, 6 * len(images) // batch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(seed)
        classifier = Classifier((images.shape[1], 512, 256, classes))
        with torch.no_grad():
            for weight in (parameter for parameter in classifier.parameters() if parameter.ndim == 2):
                # He et al. (2015): variance 2 / inputs keeps the scale of the signal through ReLU layers.
                weight.copy_(torch.randn(weight.shape, generator=generator) * math.sqrt(2 / weight.shape[1]))
            classifier.mean.copy_(images.mean(0))
            classifier.scale.copy_((images - classifier.mean).std().clamp_min(1e-6))
        optimizer = torch.optim.Adam(classifier.parameters(), fused=True)
        order = torch.empty(0, dtype=torch.int64)
        for update in trange(updates, desc="classifier", unit="update", disable=None if progress else True):
            if len(order) < batch:
                order = torch.randperm(len(images), generator=generator)
            chosen, order = order[:batch], order[batch:]
            warm_up = min((update + 1) / (0.1 * updates), 1.0)
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * warm_up * (1 - update / updates)
            optimizer.zero_grad()
            functional.cross_entropy(classifier(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        return classifier.eval()
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def predict(classifier: Classifier, images: Tensor, batch: int = 5_000) -> Tensor:
    """Return the label (n,) int64 that the classifier reads in each of images (n, d) in [0, 1] on the CPU."""
    return torch.cat([classifier(block).argmax(1) for block in as_images(images, "images").split(batch)])


@torch.no_grad()
def features(classifier: Classifier, images: Tensor, batch: int = 5_000) -> Tensor:
    """Return the classifier's last hidden layer (n, units) for images (n, d) in [0, 1] on the CPU."""
    return torch.cat([classifier.features(block) for block in as_images(images, "images").split(batch)])
