"""The training images nearest to samples: does a net recite its training set?"""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_neighbours(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return indices (m, k) and Euclidean distances (m, k) of the k nearest of ``references``, nearest first.

    ``queries`` (m, d) and ``references`` (n, d) lie on the CPU.
    """
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(references.numpy())
    distances, indices = search.kneighbors(queries.numpy())
    return torch.from_numpy(indices), torch.from_numpy(distances)
