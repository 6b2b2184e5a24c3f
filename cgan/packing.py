"""Packs: several data of one condition that D judges side by side (PacGAN, Lin et al. 2018).

D then sees whether the samples of a condition differ as real data do. Packs of one are the paper's D.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: The random integers that choose companions are below this: so far above any group's size that all are as likely.
CHOICES = 2**40


class Groups:
    """Examples sorted by condition.

    Those of example i's condition are ``order[start[i] : start[i] + size[i]]``, i itself the ``place[i]``-th from 0.
    """

    def __init__(self, key: Tensor) -> None:
        """Group the examples with equal integers ``key`` (examples,)."""
        _, group, counts = key.unique(return_inverse=True, return_counts=True)
        self.order = key.argsort(stable=True)
        self.start, self.size = (counts.cumsum(0) - counts)[group], counts[group]
        rank = torch.empty_like(self.order)
        rank[self.order] = torch.arange(len(key), device=key.device)
        self.place = rank - self.start

    def companions(self, examples: Tensor, choices: Tensor) -> Tensor:
        """Return k other examples (n, k) int64 of the condition of each of ``examples`` (n,).

        ``choices`` (n, k) are random integers from 0 to ``CHOICES``. All companions of an example differ where its
        condition has more than k examples; where it has fewer, they are drawn again.
        """
        size, offsets = self.size[examples], choices[:, :0]
        for k, choice in enumerate(choices.unbind(1)):
            # One of the places 1 to size - 1 after the example's own that no companion has yet, each as likely.
            offset = choice % (size - 1 - k).clamp(min=1) + 1
            for taken in offsets.sort(1).values.unbind(1):
                offset = offset + (offset >= taken)
            offset = torch.where(size > k + 1, offset, choice % size)
            offsets = torch.cat([offsets, offset[:, None]], 1)
        places = (self.place[examples][:, None] + offsets) % size[:, None]
        return self.order[self.start[examples][:, None] + places]


def repeat_conditions(y: Tensor | None, pack: int) -> Tensor | None:
    """Return each condition ``pack`` times in a row: labels (..., n) as (..., n * pack), vectors (..., n, k), None."""
    if y is None or pack == 1:
        return y
    return y.repeat_interleave(pack, -2 if y.is_floating_point() else -1)


def pack_rows(rows: Tensor, pack: int) -> Tensor:
    """Return rows (..., n * pack, d) as (..., n, pack * d): ``pack`` successive rows side by side."""
    return rows if pack == 1 else rows.unflatten(-2, (-1, pack)).flatten(-2)
