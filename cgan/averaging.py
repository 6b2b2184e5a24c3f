"""The running mean of a network's weights: what is sampled from, while the game itself goes on with the weights.

Players of a game circle around a solution rather than settle on it; the mean of where they were lies closer to it
(Yazici et al., 2019, for GANs). Changes nothing in the game.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


def average_decay(t: int, decay: float) -> float:
    """Weight of the mean so far at update ``t`` (from 1): ``decay``, but at most (1 + t) / (10 + t), so that the start
    is soon forgotten: the mean spans about the last tenth of the updates until that is 1 / (1 - ``decay``) of them."""
    return min(decay, (1 + t) / (10 + t))


class Average:
    """A copy of ``network`` whose weights are the exponential moving average of its weights."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self._source = decay, network
        #: In evaluation mode, without gradients; shares nothing with the source.
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    def update(self, t: int) -> None:
        """Take the source's weights after update ``t`` into the mean; batch normalisation's statistics are copied."""
        mean, source = ([p.detach() for p in net.parameters()] for net in (self.network, self._source))
        with torch.no_grad():
            torch._foreach_lerp_(mean, source, 1 - average_decay(t, self.decay))
            for kept, now in zip(self.network.buffers(), self._source.buffers(), strict=True):
                kept.copy_(now)
