"""The game: value function, discriminator losses, generator losses. Pure functions of logits.

Logits are (n,), or (replicas, n): then there is a loss for each.
With a = logit, D = sigmoid(a): log D = -softplus(-a) and log(1 - D) = -softplus(a), finite for every finite a. All
logarithms are natural. Equation numbers are those of Conditional Generative Adversarial Nets (2014); "GAN" is
Goodfellow et al. (2014).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cgan.settings import GeneratorLoss


def value(real: Tensor, fake: Tensor) -> Tensor:
    """V(D, G) = E[log D(x|y)] + E[log(1 - D(G(z|y)))] (eq. 2), from logits of real and of fake pairs; in (-inf, 0]."""
    return -(softplus(-real).mean(-1) + softplus(fake).mean(-1))


def discriminator_loss(real: Tensor, fake: Tensor, mismatched: Tensor | None = None) -> Tensor:
    """Half the sum of the real and the fake binary cross-entropy, that is -V / 2.

    With ``mismatched`` (logits of real data under a wrong condition) the loss is matching-aware: those count as a
    second kind of fake, each kind at half weight. A D that answers 1/2 everywhere has loss log 2 either way.
    """
    rejected = softplus(fake).mean(-1)
    if mismatched is not None:
        rejected = (rejected + softplus(mismatched).mean(-1)) / 2
    return (softplus(-real).mean(-1) + rejected) / 2


def generator_loss(fake: Tensor, kind: GeneratorLoss = "non_saturating") -> Tensor:
    """``minimax``: E[log(1 - D(G(z|y)))] (eq. 2); ``non_saturating``: -E[log D(G(z|y))] (GAN, section 3)."""
    return softplus(-fake).mean(-1) if kind == "non_saturating" else -softplus(fake).mean(-1)


def gradient_ratio(fake: Tensor, kind: GeneratorLoss, mismatched: bool = False) -> Tensor:
    """d(generator loss)/da over d(discriminator loss)/da for each fake logit a: what turns D's gradient into G's.

    A network without batch normalisation treats each row alone, so the gradient at row i is the derivative at its logit
    times d(a_i)/d(row i). The discriminator's backward pass has already computed d(loss)/d(row i); times this ratio it
    is the generator's, and a second pass through D is saved. In closed form: with w the fake rows' weight in the loss
    (1/2, or 1/4 when matching-aware), w * sigmoid(a) on one side and -sigmoid(-a) or -sigmoid(a) on the other, so the
    ratio is -exp(-a) / w or -1 / w. Logits are cut at -80, where it would leave float32's range. D's gradient leaves it
    before that: a fake that D rejects with a logit below about -65 (-78 where denormal numbers are kept) fades from the
    product, as it would under the minimax loss.
    """
    weight = 0.25 if mismatched else 0.5
    if kind == "minimax":
        return torch.full_like(fake, -1 / weight)
    return fake.detach().clamp(min=-80).neg().exp() / -weight
