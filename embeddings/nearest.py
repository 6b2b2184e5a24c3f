"""Exact nearest rows by cosine for a whole matrix of queries: float32 products choose, float64 ones decide.

Works on rows of length one; knows nothing of words and files.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

#: Queries and rows of one block of products: its 32 MiB stay near the processor, where the whole matrix of 10,000 x
#: 247,465 products (10 GB) would cost more to write than to compute.
QUERIES = 1024
ROWS = 8192
#: Rows of a group, of which only the largest product is compared at first.
GROUP = 16
#: Candidates of a block held at a time; a block with more, as where most rows tie, is halved.
HELD = 1 << 21
#: Candidates whose float64 products are computed at a time.
DECIDED = 1 << 15


def search(units: torch.Tensor, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` rows of ``units`` nearest to each query by cosine, the nearest first.

    ``units`` (n, d) and ``queries`` (m, d) are float32, finite, of length one; 1 <= k <= n.
    Returns (m, k) int64 row numbers and (m, k) float32 cosines: sums in float64, rounded. Equal ones stand in the
    order of the rows. Beside ``units`` and the results at most 256 MiB are held, whatever m is.
    """
    import torch

    found = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(queries), QUERIES):
            block = slice(start, start + QUERIES)
            chosen = torch.from_numpy(np.ascontiguousarray(queries[block], dtype=np.float32)).to(units.device)
            found[block], cosines[block] = _nearest(units, chosen, k)
    return found, cosines


def _nearest(units: torch.Tensor, queries: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest rows of each of a block of queries, and their cosines.

    No neighbour is lost: the k-th largest maximum of any groups, t, is at most the k-th largest product. A true
    neighbour's product is therefore at least t minus twice the rounding error, and all such rows are candidates.
    """
    import torch
    from torch.nn import functional

    margin = 2 * product_error(queries.shape[1], queries.device)
    best = queries.new_full((len(queries), k), -math.inf)  # Largest maxima of groups so far.
    candidates: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    held = 0
    for first, rows in zip(range(0, len(units), ROWS), units.split(ROWS), strict=True):
        products = queries @ rows.T
        if len(rows) % GROUP:
            products = functional.pad(products, (0, -len(rows) % GROUP), value=-math.inf)
        groups = products.view(len(queries), GROUP, -1)  # Group g holds every row g + i * (number of groups).
        maxima = groups.amax(1)
        best = torch.cat([best, maxima], 1).topk(k).values
        # Without k groups there is no bound yet: every row is a candidate, but none that fills up a group.
        needed = (best[:, -1:] - margin).clamp(min=-2)
        promising = maxima >= needed
        held += GROUP * int(promising.sum())
        if held > HELD and len(queries) > 1:
            halves = [_nearest(units, half, k) for half in queries.tensor_split(2)]
            return np.concatenate([found for found, _ in halves]), np.concatenate([near for _, near in halves])
        query, group = promising.nonzero(as_tuple=True)
        products = groups[query, :, group]
        pair, member = (products >= needed[query]).nonzero(as_tuple=True)
        candidates.append((query[pair], first + member * maxima.shape[1] + group[pair], products[pair, member]))
    query, row, product = (torch.cat(parts) for parts in zip(*candidates, strict=True))
    kept = product >= best[query, -1] - margin
    return _decide(units, queries, query[kept], row[kept], k)


def _decide(
    units: torch.Tensor, queries: torch.Tensor, query: torch.Tensor, row: torch.Tensor, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of the candidates (``query``, ``row``) by their products in float64, rounded to float32."""
    import torch

    parts = zip(query.split(DECIDED), row.split(DECIDED), strict=True)
    products = torch.cat([(queries[q].double() * units[r].double()).sum(1).float() for q, r in parts])
    of, at, cosine = query.cpu().numpy(), row.cpu().numpy(), products.cpu().numpy()
    order = np.lexsort((at, -cosine, of))
    starts = np.searchsorted(of[order], np.arange(len(queries)))
    picked = order[starts[:, None] + np.arange(k)]
    return at[picked], cosine[picked]


def product_error(d: int, device: torch.device) -> float:
    """Return a bound of the error of a float32 product of two rows of length one with ``d`` numbers.

    d additions and multiplications err by at most about d units of 2^-24; twice that is allowed for. Where torch
    may round the factors first (TF32 on a GPU, bfloat16 if its matmul precision was lowered), to 8 bits.
    """
    import torch

    try:
        lowered = device.type != "cpu" or torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # Newer torch refuses to say when only parts of it were lowered.
        lowered = True
    return (d + 16) * 2.0**-23 + (2.0**-7 if lowered else 0.0)
