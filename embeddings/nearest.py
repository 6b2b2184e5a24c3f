"""Exact nearest rows by cosine for a whole matrix of queries: float32 products choose, float64 ones decide.

Works on rows of length one; knows nothing of words and files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

#: Rows of one group, and groups of one section: only the largest product of each is kept.
GROUP = 16
#: Queries and rows of one block of products, whose 32 MiB stay near the processor: a whole matrix of
#: 10,000 x 247,465 products (10 GB) would cost more to write than to compute.
QUERIES, ROWS = 1024, 8192
#: Held at a time: products where all of a query's are needed, largest products of groups, candidate groups whose exact
#: products are computed.
DENSE, MAXIMA, HELD = 4 << 20, 16 << 20, 1 << 17
#: Candidate groups gathered at a time.
GATHERED = 2048


@dataclass(frozen=True)
class Index:
    """Rows made ready for ``search``, held twice."""

    #: (groups * GROUP, d) float32, the last row repeated to fill the last group.
    rows: torch.Tensor
    count: int
    #: Per block: (GROUP * its groups, d); the j-th rows of all groups stand side by side, for a fast maximum.
    blocks: list[torch.Tensor]


def prepare(units: np.ndarray, device: str = "cpu") -> Index:
    """Return an ``Index`` of ``units``, (n, d) float32, finite, each of length one."""
    import torch

    count = len(units)
    rows = torch.empty(math.ceil(count / GROUP) * GROUP, units.shape[1], device=device)
    rows[:count] = torch.from_numpy(np.ascontiguousarray(units, dtype=np.float32))
    # Repeating a row within its own group changes no maximum.
    rows[count:] = rows[count - 1]
    blocks = [block.view(-1, GROUP, block.shape[1]).transpose(0, 1).reshape(block.shape) for block in rows.split(ROWS)]
    return Index(rows, count, blocks)


def search(index: Index, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` rows nearest to each query by cosine, the nearest first.

    ``queries`` is (m, d) float32, each of length one; 1 <= k <= number of rows.
    Returns (m, k) int64 row numbers and (m, k) float32 cosines: sums in float64, rounded. Equal ones stand in the
    order of the rows. Beside the index and the results at most 256 MiB are held, whatever m is.

    Why no neighbour is lost. Let s be a query's exact products, a those in float32, and E a bound of |a - s| (see
    ``product_error``). Rows stand in groups, each known by its largest a. The k-th best a of any k groups, t, is at
    most E better than the k-th best s of all rows; a true neighbour therefore has s >= t - E, hence a >= t - 2E, and
    so has the largest a of its group. Of all such groups, the products that may still be among the k best are computed
    once more in float64.
    """
    import torch

    found = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    sections = math.ceil(len(index.rows) / GROUP**2)
    grouped = sections >= 2 * k
    held = MAXIMA * GROUP if grouped else DENSE
    size = max(1, min(QUERIES, held // len(index.rows)))
    with torch.inference_mode():
        for start in range(0, len(queries), size):
            block = slice(start, start + size)
            chosen = torch.from_numpy(np.ascontiguousarray(queries[block], dtype=np.float32))
            chosen = chosen.to(index.rows.device)
            if grouped:
                result = _refine(index, chosen, _group_maxima(index, chosen), k)
            else:
                products = chosen @ index.rows[: index.count].T
                query, row = _near(products, k, chosen).nonzero(as_tuple=True)
                result = _decide(index, chosen, query, row, k)
            found[block], cosines[block] = result
    return found, cosines


def product_error(d: int, device: torch.device) -> float:
    """Return a bound of the error of a float32 product of two rows of length ``d``, per product of their lengths.

    n additions and multiplications err by at most about n units of 2^-24; twice that is allowed for. Where torch
    may round the factors first (TF32 on a GPU, bfloat16 if its matmul precision was lowered), to 8 bits.
    """
    import torch

    try:
        lowered = device.type != "cpu" or torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # Newer torch refuses to say when only parts of it were lowered.
        lowered = True
    return (d + 16) * 2.0**-23 + (2.0**-7 if lowered else 0.0)


def _near(products: torch.Tensor, k: int, queries: torch.Tensor) -> torch.Tensor:
    """Return where ``products`` (m, n) may, up to rounding, be among the k largest of their row."""
    error = product_error(queries.shape[1], queries.device)
    return products >= products.topk(k).values[:, -1:] - 2 * error


def _group_maxima(index: Index, queries: torch.Tensor) -> torch.Tensor:
    """Return the largest product of each group, (m, groups) float32, filled up to whole sections."""
    import torch

    groups = math.ceil(len(index.rows) // GROUP / GROUP) * GROUP
    maxima = queries.new_full((len(queries), groups), -math.inf)
    buffer, first = queries.new_empty(0), 0
    for block in index.blocks:
        torch.mm(queries, block.T, out=buffer.resize_(len(queries), len(block)))
        size = len(block) // GROUP
        maxima[:, first : first + size] = buffer.view(len(queries), GROUP, size).amax(1)
        first += size
    return maxima


def _refine(index: Index, queries: torch.Tensor, maxima: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of each query, from its groups' largest products."""
    import torch

    # Group g stands in section g % sections: the maxima of all are never gone through but for this maximum.
    cubes = maxima.view(len(queries), GROUP, -1)
    sections = cubes.amax(1)
    # The best groups of the k best sections are k different groups, likely with most of the nearest rows.
    best = sections.topk(k).indices
    within = cubes.gather(2, best.unsqueeze(1).expand(-1, GROUP, -1)).argmax(1)
    query = torch.arange(len(queries), device=queries.device).repeat_interleave(k)
    _, products = _exact(index, queries, query, (within * sections.shape[1] + best).flatten())
    needed = products.topk(k).values[:, -1] - 2 * product_error(queries.shape[1], queries.device)

    query, section = (sections >= needed[:, None]).nonzero(as_tuple=True)
    pair, member = (cubes[query, :, section] >= needed[query, None]).nonzero(as_tuple=True)
    query, group = query[pair], member * sections.shape[1] + section[pair]
    if len(queries) > 1 and len(queries) * int(query.bincount(minlength=len(queries)).max()) > HELD:
        cut = len(queries) // 2
        halves = [_refine(index, queries[part], maxima[part], k) for part in (slice(None, cut), slice(cut, None))]
        return np.concatenate([found for found, _ in halves]), np.concatenate([cosine for _, cosine in halves])
    rows, products = _exact(index, queries, query, group)
    query, column = _near(products, k, queries).nonzero(as_tuple=True)
    return _decide(index, queries, query, rows[query, column], k)


def _exact(
    index: Index, queries: torch.Tensor, query: torch.Tensor, group: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row numbers and float32 products of the groups' rows, (m, most); missing ones have product -inf.

    ``query``, rising, and ``group`` name the pairs to compute.
    """
    import torch

    counts = query.bincount(minlength=len(queries))
    place = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
    most = int(counts.max())
    products = queries.new_full((len(queries), most, GROUP), -math.inf)
    groups = torch.zeros(len(queries), most, dtype=torch.int64, device=query.device)
    groups[query, place] = group
    grouped = index.rows.view(-1, GROUP, queries.shape[1])
    for start in range(0, len(query), GATHERED):
        part = slice(start, start + GATHERED)
        # The query on the left: torch multiplies it by many small matrices twice as fast as those by it.
        taken = grouped.index_select(0, group[part]).transpose(1, 2)
        products[query[part], place[part]] = torch.bmm(queries[query[part]].unsqueeze(1), taken).squeeze(1)
    rows = (groups.unsqueeze(2) * GROUP + torch.arange(GROUP, device=query.device)).flatten(1)
    return rows, products.flatten(1).masked_fill_(rows >= index.count, -math.inf)


def _decide(
    index: Index, queries: torch.Tensor, query: torch.Tensor, row: torch.Tensor, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best candidates (``query``, ``row``) by their products in float64, rounded to float32."""
    import torch

    cosines = torch.empty(len(query), dtype=torch.float32, device=query.device)
    for start in range(0, len(query), GATHERED * GROUP):
        part = slice(start, start + GATHERED * GROUP)
        left, right = queries[query[part]].double(), index.rows[row[part]].double()
        cosines[part] = (left * right).sum(1).float()
    of, at, cosine = query.cpu().numpy(), row.cpu().numpy(), cosines.cpu().numpy()
    order = np.lexsort((at, -cosine, of))
    starts = np.searchsorted(of[order], np.arange(len(queries)))
    picked = order[starts[:, None] + np.arange(k)]
    return at[picked], cosine[picked]
