"""One update of G and D, written as in the paper's algorithm. ``cgan.fast`` does the same more quickly.

Each function takes a batch (``cgan.batches``), computes both losses, moves G and D by their optimisers, and returns
(discriminator loss, generator loss) as detached scalars.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cgan.batches import Batch
from cgan.losses import discriminator_loss, generator_loss
from cgan.packing import pack_rows, repeat_conditions
from cgan.settings import GeneratorLoss

Losses = tuple[Tensor, Tensor]


def simultaneous_update(
    G: nn.Module,
    D: nn.Module,
    g_optimiser: torch.optim.Optimizer,
    d_optimiser: torch.optim.Optimizer,
    batch: Batch,
    loss: GeneratorLoss = "non_saturating",
) -> Losses:
    """Take both gradients from the same forward pass through G and D, then move both (GAN paper's recipe)."""
    fake = generate(G, batch)
    real_logit, fake_logit, wrong_logit = discriminate(D, batch, fake)
    d_loss = discriminator_loss(real_logit, fake_logit, wrong_logit)
    g_loss = generator_loss(fake_logit, loss)

    d_gradients = torch.autograd.grad(d_loss, list(D.parameters()), retain_graph=True)
    g_gradients = torch.autograd.grad(g_loss, list(G.parameters()))
    move(D, d_optimiser, d_gradients)
    move(G, g_optimiser, g_gradients)
    return d_loss.detach(), g_loss.detach()


def alternating_update(
    G: nn.Module,
    D: nn.Module,
    g_optimiser: torch.optim.Optimizer,
    d_optimiser: torch.optim.Optimizer,
    batch: Batch,
    loss: GeneratorLoss = "non_saturating",
) -> Losses:
    """Move G first; then move D on the real rows and the same generated ones (the tutorial's order)."""
    fake = generate(G, batch)
    g_loss = generator_loss(D(fake, batch.y_fake), loss)
    move(G, g_optimiser, torch.autograd.grad(g_loss, list(G.parameters())))

    d_loss = discriminator_loss(*discriminate(D, batch, fake.detach()))
    move(D, d_optimiser, torch.autograd.grad(d_loss, list(D.parameters())))
    return d_loss.detach(), g_loss.detach()


def generate(G: nn.Module, batch: Batch) -> Tensor:
    """Return the generated rows (n, d), or packs of them (n, pack * d), as D takes them."""
    pack = len(batch.z) // len(batch.x)
    return pack_rows(G(batch.z, repeat_conditions(batch.y_fake, pack)), pack)


def discriminate(D: nn.Module, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return D's logits (n,) of the real, the generated and, if matching-aware, the mismatched rows, from one pass."""
    x, conditions = [batch.x, fake], [batch.y, batch.y_fake]
    if batch.y_wrong is not None:
        x, conditions = [*x, batch.x], [*conditions, batch.y_wrong]
    y = [each for each in conditions if each is not None]  # Without conditions in the training set all are None.
    logits = D(torch.cat(x), torch.cat(y) if y else None).split(len(batch.x))
    return logits[0], logits[1], logits[2] if batch.y_wrong is not None else None


def move(network: nn.Module, optimiser: torch.optim.Optimizer, gradients: tuple[Tensor, ...]) -> None:
    """Let ``optimiser`` make one step of ``network`` with ``gradients``, in the order of its parameters."""
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()
    optimiser.zero_grad()
