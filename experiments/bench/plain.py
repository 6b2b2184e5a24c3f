"""The game as tutorials write it: plain float32 PyTorch modules and loops. What ``cgan`` is compared with, no more."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cgan.settings import TrainingSettings
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Layer, NetworkSpec


class Maxout(nn.Module):
    """The largest of ``pieces`` affine maps, for each of ``units``."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units, self.pieces = units, pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) to (n, units)."""
        return self.linear(x).view(-1, self.units, self.pieces).max(dim=2).values


def stack(inputs: int, layers: Sequence[Layer]) -> nn.Sequential:
    """Hidden layers one after the other."""
    modules: list[nn.Module] = []
    for layer in layers:
        if layer.activation == "maxout":
            modules.append(Maxout(inputs, layer.units, layer.pieces))
        else:
            modules.append(nn.Linear(inputs, layer.units))
        if layer.batch_norm:
            modules.append(nn.BatchNorm1d(layer.units))
        if layer.activation == "relu":
            modules.append(nn.ReLU())
        elif layer.activation == "leaky_relu":
            modules.append(nn.LeakyReLU(0.2))
        if layer.dropout:
            modules.append(nn.Dropout(layer.dropout))
        inputs = layer.units
    return nn.Sequential(*modules)


class Net(nn.Module):
    """The conditional MLP of a spec whose condition is none, one_hot or embedding; parameters in the order of ours."""

    def __init__(self, spec: NetworkSpec, outputs: int) -> None:
        super().__init__()
        self.spec = spec
        width = spec.condition_dim
        if spec.condition == "embedding":
            width = spec.embedding_dim
            self.embedding = nn.Embedding(spec.condition_dim, width)
        self.input_dropout = nn.Dropout(spec.input_dropout)
        self.condition_dropout = nn.Dropout(spec.condition_dropout)
        self.input_branch = stack(spec.input_dim, spec.input_branch)
        self.condition_branch = stack(width, spec.condition_branch)
        meeting = spec.input_branch[-1].units if spec.input_branch else spec.input_dim
        if spec.condition != "none":
            meeting += spec.condition_branch[-1].units if spec.condition_branch else width
        self.joint = stack(meeting, spec.joint)
        self.output = nn.Linear(spec.joint[-1].units if spec.joint else meeting, outputs)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(n, input_dim) and labels (n,) to (n, outputs) before a non-linearity."""
        h = self.input_branch(self.input_dropout(x))
        if self.spec.condition == "one_hot":
            y = functional.one_hot(labels, self.spec.condition_dim).float()
        elif self.spec.condition == "embedding":
            y = self.embedding(labels)
        if self.spec.condition != "none":
            h = torch.cat([h, self.condition_branch(self.condition_dropout(y))], dim=1)
        out: Tensor = self.output(self.joint(h))
        return out


class Generator(Net):
    """G(z, y) in data space."""

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__(spec, spec.output_dim)
        self.squash = {"sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "linear": nn.Identity()}[spec.output]

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """(n, input_dim) noise and labels (n,) to (n, output_dim)."""
        data: Tensor = self.squash(super().forward(z, labels))
        return data


class Discriminator(Net):
    """D(x, y) as a logit (n, 1)."""

    def __init__(self, spec: DiscriminatorSpec) -> None:
        super().__init__(spec, 1)


class Digits(Dataset[tuple[Tensor, int]]):
    """What torchvision's MNIST gives: an image by Pillow, transformed, and its label."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, centred: bool) -> None:
        """``images`` (n, 28, 28) uint8; ``centred`` scales pixels to [-1, 1] instead of [0, 1]."""
        self.images, self.labels = images, labels
        steps: list[object] = [transforms.ToTensor()]
        if centred:
            steps.append(transforms.Normalize([0.5], [0.5]))
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def noise(spec: GeneratorSpec, n: int, device: torch.device) -> Tensor:
    """z (n, input_dim), as the spec has it."""
    if spec.noise == "normal":
        return torch.randn(n, spec.input_dim, device=device)
    z = torch.rand(n, spec.input_dim, device=device)
    return z if spec.noise == "uniform" else (2 * z - 1) * 3**0.5


bce = nn.BCEWithLogitsLoss()


def discriminator_loss(D: Discriminator, real: Tensor, labels: Tensor, fake: Tensor, fake_labels: Tensor) -> Tensor:
    """From a pass over the real and another over the fake images."""
    real_logits, fake_logits = D(real, labels), D(fake.detach(), fake_labels)
    real_loss = bce(real_logits, torch.ones_like(real_logits))
    fake_loss = bce(fake_logits, torch.zeros_like(fake_logits))
    loss: Tensor = (real_loss + fake_loss) / 2
    return loss


def generator_loss(D: Discriminator, fake: Tensor, fake_labels: Tensor) -> Tensor:
    """From a pass over the fake images of its own."""
    logits = D(fake, fake_labels)
    loss: Tensor = bce(logits, torch.ones_like(logits))
    return loss


def play(
    G: Generator, D: Discriminator, loader: DataLoader, settings: TrainingSettings, device: torch.device
) -> Iterator[tuple[float, float]]:
    """Train without end: each ``next`` is one update of both players, and gives D's and G's loss."""
    optimisers = [optimiser(net, settings) for net in (G, D)]
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(each, gamma=1 / settings.decay) for each in optimisers]
    g_optimiser, d_optimiser = optimisers
    G.train()
    D.train()
    for images, labels in endless(loader):
        real, labels = images.flatten(1).to(device), labels.to(device)
        fake_labels = labels
        if settings.fake_conditions == "fresh":
            fake_labels = torch.randint(0, G.spec.condition_dim, (len(real),), device=device)
        fake = G(noise(G.spec, len(real), device), fake_labels)  # type: ignore[arg-type]

        if settings.update == "alternating":
            g_optimiser.zero_grad()
            g_loss = generator_loss(D, fake, fake_labels)
            g_loss.backward()
            g_optimiser.step()
        d_optimiser.zero_grad()
        d_loss = discriminator_loss(D, real, labels, fake, fake_labels)
        d_loss.backward()
        d_optimiser.step()
        if settings.update != "alternating":
            g_optimiser.zero_grad()
            g_loss = generator_loss(D, fake, fake_labels)
            g_loss.backward()
            g_optimiser.step()
        for scheduler in schedulers:
            scheduler.step()
        yield d_loss.item(), g_loss.item()


def optimiser(net: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """PyTorch's own, as its documentation shows it."""
    if settings.optimiser == "adam":
        betas = settings.adam_beta1, settings.adam_beta2
        return torch.optim.Adam(net.parameters(), lr=settings.learning_rate, betas=betas)
    return torch.optim.SGD(net.parameters(), lr=settings.learning_rate, momentum=settings.momentum_start)


def endless(loader: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The loader's batches, epoch after epoch."""
    return itertools.chain.from_iterable(itertools.repeat(loader))


def in_plain_order(tensors: Iterable[Tensor], net: Net) -> list[Tensor]:
    """Tensors in the form of our parameters as those of ``net``: a unit's maxout pieces lie side by side here."""
    maxout = {id(p): module for module in net.modules() if isinstance(module, Maxout) for p in module.parameters()}
    ordered = []
    for tensor, parameter in zip(tensors, net.parameters(), strict=True):
        module = maxout.get(id(parameter))
        if module is not None:
            tensor = tensor.unflatten(0, (module.pieces, module.units)).transpose(0, 1).flatten(0, 1)
        ordered.append(tensor)
    return ordered


@torch.no_grad()
def copy_weights(ours: nn.Module, net: Net) -> None:
    """Give ``net`` the weights of our net of the same spec."""
    weights = in_plain_order([parameter.detach() for parameter in ours.parameters()], net)
    for parameter, weight in zip(net.parameters(), weights, strict=True):
        parameter.copy_(weight)
