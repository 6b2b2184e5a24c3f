"""The training images nearest to samples: does a net recite its training set?"""

from __future__ import annotations

import torch
from torch import Tensor

from cgan import CganError
from cgan.metrics.arrays import as_images


@torch.no_grad()
def nearest_neighbours(queries: Tensor, references: Tensor, k: int, *, block: int = 256) -> tuple[Tensor, Tensor]:
    """Return indices (m, k) int64 and Euclidean distances (m, k) float32 of the k nearest references, nearest first.

    ``queries`` (m, d), ``references`` (n, d). Candidates come from |q|^2 - 2 q.r + |r|^2 on centred float32 data,
    ``block`` queries at a time; their distances are recomputed from the differences, so that a query that is itself a
    reference is at distance 0 exactly. Raises ``CganError`` if shapes do not fit or k is not in [1, n].
    """
    queries, references = as_images(queries, "queries"), as_images(references, "references")
    if queries.shape[1] != references.shape[1]:
        raise CganError(f"queries have {queries.shape[1]} numbers each and references {references.shape[1]}")
    if not 1 <= k <= len(references):
        raise CganError(f"k is {k}, and there are {len(references)} references: choose k in between")
    centre = references.mean(0)
    centred = references - centre
    squares = centred.square().sum(1)
    # A few more than k, so that rounding in the expansion cannot push a true neighbour out.
    candidates = min(len(references), k + 8)
    indices, distances = [], []
    for part in queries.split(block):
        near = (squares - 2 * (part - centre) @ centred.T).topk(candidates, dim=1, largest=False).indices
        exact = (part[:, None] - references[near]).square().sum(2).sqrt()
        nearest, order = exact.topk(k, dim=1, largest=False)
        indices.append(near.gather(1, order))
        distances.append(nearest)
    return torch.cat(indices), torch.cat(distances)
