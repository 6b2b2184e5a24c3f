"""The training loop as tutorials write it: plain float32 modules, DataLoader, one pass after another.

What ``cgan`` is compared with; shares nothing with it but the specs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cgan.settings import TrainingSettings
from cgan.specs import GeneratorSpec, Layer, NetworkSpec
from data.labelled import ImageDataset


class Maxout(nn.Module):
    """(n, inputs) to (n, units): the largest of ``pieces`` affine maps per unit."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units, self.pieces = units, pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).view(-1, self.units, self.pieces).max(dim=2).values


def stack(inputs: int, layers: Sequence[Layer]) -> nn.Sequential:
    """Return the hidden layers one after the other."""
    modules: list[nn.Module] = []
    for layer in layers:
        maxout = layer.activation == "maxout"
        modules.append(Maxout(inputs, layer.units, layer.pieces) if maxout else nn.Linear(inputs, layer.units))
        if layer.batch_norm:
            modules.append(nn.BatchNorm1d(layer.units))
        if layer.activation in ("relu", "leaky_relu"):
            modules.append(nn.ReLU() if layer.activation == "relu" else nn.LeakyReLU(0.2))
        if layer.dropout:
            modules.append(nn.Dropout(layer.dropout))
        inputs = layer.units
    return nn.Sequential(*modules)


class Net(nn.Module):
    """G or D of a spec whose condition is none, one_hot or embedding; parameters ordered as in cgan."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.condition_dim
        if spec.condition == "embedding":
            width = spec.embedding_dim
            self.embedding = nn.Embedding(spec.condition_dim, width)
        self.input_dropout = nn.Dropout(spec.input_dropout)
        self.input_branch = stack(spec.input_dim, spec.input_branch)
        self.condition_branch = stack(width, spec.condition_branch)
        joint = spec.input_branch[-1].units if spec.input_branch else spec.input_dim
        if spec.condition != "none":
            joint += spec.condition_branch[-1].units if spec.condition_branch else width
        self.joint = stack(joint, spec.joint)
        outputs, kind = (spec.output_dim, spec.output) if isinstance(spec, GeneratorSpec) else (1, "linear")
        self.output = nn.Linear(spec.joint[-1].units if spec.joint else joint, outputs)
        self.activation = {"sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "linear": nn.Identity()}[kind]

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Map noise (n, input_dim) and labels (n,) to data, or data and labels to logits (n, 1)."""
        h = self.input_branch(self.input_dropout(x))
        if self.spec.condition != "none":
            one_hot = self.spec.condition == "one_hot"
            y = functional.one_hot(labels, self.spec.condition_dim).float() if one_hot else self.embedding(labels)
            h = torch.cat([h, self.condition_branch(y)], dim=1)
        return self.activation(self.output(self.joint(h)))


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


def noise(spec: GeneratorSpec, n: int, device: torch.device) -> Tensor:
    """Return z (n, input_dim)."""
    if spec.noise == "normal":
        return torch.randn(n, spec.input_dim, device=device)
    z = torch.rand(n, spec.input_dim, device=device)
    return z if spec.noise == "uniform" else (2 * z - 1) * 3**0.5


bce = nn.BCEWithLogitsLoss()


def discriminator_loss(D: Net, real: Tensor, labels: Tensor, fake: Tensor, fake_labels: Tensor) -> Tensor:
    """Return the loss from one pass over the real and another over the generated images."""
    real_logits, fake_logits = D(real, labels), D(fake.detach(), fake_labels)
    return (bce(real_logits, torch.ones_like(real_logits)) + bce(fake_logits, torch.zeros_like(fake_logits))) / 2


def generator_loss(D: Net, fake: Tensor, fake_labels: Tensor) -> Tensor:
    """Return the loss from a pass over the generated images of its own."""
    logits = D(fake, fake_labels)
    return bce(logits, torch.ones_like(logits))


def train(G: Net, D: Net, loader: DataLoader, settings: TrainingSettings, device: torch.device) -> Iterator[None]:
    """Train without end: each ``next`` is one update of both networks."""
    optimisers = {net: optimiser(net, settings) for net in (G, D)}
    schedulers = [ExponentialLR(each, gamma=1 / settings.decay) for each in optimisers.values()]

    def minimise(loss: Tensor, net: Net) -> float:
        optimisers[net].zero_grad()
        loss.backward()
        optimisers[net].step()
        return loss.item()

    for images, labels in endless(loader):
        real, labels = images.flatten(1).to(device), labels.to(device)
        fake_labels = labels
        if settings.fake_conditions == "fresh":
            fake_labels = torch.randint(0, G.spec.condition_dim, (len(real),), device=device)
        fake = G(noise(cast(GeneratorSpec, G.spec), len(real), device), fake_labels)
        if settings.update == "alternating":
            minimise(generator_loss(D, fake, fake_labels), G)
        minimise(discriminator_loss(D, real, labels, fake, fake_labels), D)
        if settings.update == "simultaneous":
            minimise(generator_loss(D, fake, fake_labels), G)
        for scheduler in schedulers:
            scheduler.step()
        yield


def optimiser(net: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return PyTorch's own, as its documentation shows it."""
    if settings.optimiser == "adam":
        betas = settings.adam_beta1, settings.adam_beta2
        return torch.optim.Adam(net.parameters(), lr=settings.learning_rate, betas=betas)
    return torch.optim.SGD(net.parameters(), lr=settings.learning_rate, momentum=settings.momentum_start)


def endless(loader: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the loader's batches, epoch after epoch."""
    return itertools.chain.from_iterable(itertools.repeat(loader))


def reordered(tensors: Iterable[Tensor], net: Net, to_plain: bool) -> list[Tensor]:
    """Return tensors shaped like the parameters of ``net`` in its order, given in cgan's; or the other way round.

    Here a maxout unit's pieces lie side by side, in cgan all first pieces come first.
    """
    maxout = {id(p): module for module in net.modules() if isinstance(module, Maxout) for p in module.parameters()}
    ordered = []
    for tensor, parameter in zip(tensors, net.parameters(), strict=True):
        if module := maxout.get(id(parameter)):
            sizes = (module.pieces, module.units) if to_plain else (module.units, module.pieces)
            tensor = tensor.unflatten(0, sizes).transpose(0, 1).flatten(0, 1)
        ordered.append(tensor)
    return ordered


@torch.no_grad()
def copy_weights(ours: nn.Module, net: Net) -> None:
    """Give ``net`` the weights of cgan's network of the same spec."""
    for parameter, weight in zip(net.parameters(), reordered(ours.parameters(), net, to_plain=True), strict=True):
        parameter.copy_(weight)
