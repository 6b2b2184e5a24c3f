"""The losses of G and D: pure functions of D's logits.

With a = logit and D = sigmoid(a): log D = -softplus(-a) and log(1 - D) = -softplus(a), finite for every finite a.
All logarithms are natural. Equation numbers are the paper's; "GAN" is Goodfellow et al. (2014). Logits are (n,), or
(seeds, n): then there is one loss per seed.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from cgan.settings import GeneratorLoss


def discriminator_loss(real: Tensor, fake: Tensor, mismatched: Tensor | None = None) -> Tensor:
    """Return -V / 2, the mean of the real and the fake binary cross-entropy.

    V(D, G) = E[log D(x|y)] + E[log(1 - D(G(z|y)))] is equation 2.

    With ``mismatched`` (logits of real data under a wrong condition) the loss is matching-aware: these pairs count as
    a second kind of fake, each kind with half the weight. A D that answers 1/2 everywhere has loss log 2 either way.
    """
    rejected = softplus(fake).mean(-1)
    if mismatched is not None:
        rejected = (rejected + softplus(mismatched).mean(-1)) / 2
    return (softplus(-real).mean(-1) + rejected) / 2


def generator_loss(fake: Tensor, kind: GeneratorLoss = "non_saturating") -> Tensor:
    """Return E[log(1 - D(G(z|y)))] if ``minimax`` (eq. 2), -E[log D(G(z|y))] if ``non_saturating`` (GAN, section 3)."""
    return softplus(-fake).mean(-1) if kind == "non_saturating" else -softplus(fake).mean(-1)
