"""The training loop as tutorials write it: plain float32 modules, DataLoader, one pass after another.

What ``cgan.fast`` is compared with. The modules are those of ``cgan.networks``, with PyTorch's own dropout.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cgan.layers import Dropout
from cgan.networks import Discriminator, Generator, sample_noise
from cgan.settings import TrainingSettings
from cgan.trainer import Trainer
from data.labelled import ImageDataset

bce = nn.BCEWithLogitsLoss()


def networks(ours: Trainer) -> tuple[Generator, Discriminator]:
    """Return copies of the networks of ``ours``, with ``nn.Dropout`` for dropout."""
    copies = copy.deepcopy(ours.G).train(), copy.deepcopy(ours.D).train()
    for module in [module for net in copies for module in net.modules()]:
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    return copies


class Digits(Dataset[tuple[Tensor, int]]):
    """Images (n, 28, 28) uint8 as torchvision's MNIST gives them: by Pillow, transformed, with labels."""

    def __init__(self, dataset: ImageDataset, centred: bool) -> None:
        """``centred`` scales pixels to [-1, 1] instead of [0, 1]."""
        self.images = np.rint(dataset.train.images * 255).astype(np.uint8).reshape(-1, *dataset.shape)
        self.labels = dataset.train.labels
        steps = [transforms.ToTensor(), *([transforms.Normalize([0.5], [0.5])] if centred else [])]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def discriminator_loss(D: Discriminator, real: Tensor, labels: Tensor, fake: Tensor, fake_labels: Tensor) -> Tensor:
    """Return the loss from one pass over the real and another over the generated images."""
    real_logits, fake_logits = D(real, labels), D(fake.detach(), fake_labels)
    return (bce(real_logits, torch.ones_like(real_logits)) + bce(fake_logits, torch.zeros_like(fake_logits))) / 2


def generator_loss(D: Discriminator, fake: Tensor, fake_labels: Tensor) -> Tensor:
    """Return the loss from a pass over the generated images of its own."""
    logits = D(fake, fake_labels)
    return bce(logits, torch.ones_like(logits))


def train(
    G: Generator, D: Discriminator, loader: DataLoader, settings: TrainingSettings, device: torch.device
) -> Iterator[None]:
    """Train without end: each ``next`` is one update of both networks."""

    def optimiser(net: nn.Module) -> torch.optim.Optimizer:
        if settings.optimiser == "adam":
            betas = settings.adam_beta1, settings.adam_beta2
            return torch.optim.Adam(net.parameters(), lr=settings.learning_rate, betas=betas)
        return torch.optim.SGD(net.parameters(), lr=settings.learning_rate, momentum=settings.momentum_start)

    def minimise(loss: Tensor, optimiser: torch.optim.Optimizer) -> float:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    of_g, of_d = optimiser(G), optimiser(D)
    schedulers = [ExponentialLR(each, gamma=1 / settings.decay) for each in (of_g, of_d)]
    rng = torch.Generator(device)
    while True:
        for images, labels in loader:
            real, labels = images.flatten(1).to(device), labels.to(device)
            fake_labels = labels
            if settings.fake_conditions == "fresh":
                fake_labels = torch.randint(0, G.spec.condition_dim, (len(real),), device=device)
            fake = G(sample_noise(G.spec.noise, (len(real), G.spec.input_dim), rng), fake_labels)
            if settings.update == "alternating":
                minimise(generator_loss(D, fake, fake_labels), of_g)
            minimise(discriminator_loss(D, real, labels, fake, fake_labels), of_d)
            if settings.update == "simultaneous":
                minimise(generator_loss(D, fake, fake_labels), of_g)
            for scheduler in schedulers:
                scheduler.step()
            yield
