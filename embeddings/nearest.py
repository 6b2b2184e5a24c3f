"""Exact nearest rows by cosine for a whole matrix of queries: cheap products choose, exact ones decide.

Works on rows of length one; knows nothing of words and files.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

#: How the products that choose candidates are computed: 8-bit integers, or 32-bit floating point.
Arithmetic = Literal["int8", "float32"]

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
    """Rows made ready for ``search``: in float32, and once more as codes for the candidate products.

    The codes are of the rows minus their mean: that changes no order of a query's products, but makes the codes finer.
    """

    #: (groups * GROUP, d) float32, the last row repeated to fill the last group.
    rows: torch.Tensor
    count: int
    mean: torch.Tensor
    #: Per block: (GROUP * its groups, d); the j-th rows of all groups stand side by side, for a fast maximum.
    codes: list[torch.Tensor]
    #: What one step of a code is worth.
    step: float
    #: Largest length of a row minus the mean, and of its rounding to a code.
    spread: float
    rounding: float


def prepare(units: np.ndarray, device: str = "cpu", arithmetic: Arithmetic | None = None) -> Index:
    """Return an ``Index`` of ``units``, (n, d) float32, finite, each of length one.

    ``arithmetic`` None takes 8-bit integers on a processor with instructions for them, else float32; the results are
    the same.
    """
    import torch

    if arithmetic is None:
        arithmetic = "int8" if torch.device(device).type == "cpu" and int8_is_fast() else "float32"
    count = len(units)
    rows = torch.empty(math.ceil(count / GROUP) * GROUP, units.shape[1], device=device)
    rows[:count] = torch.from_numpy(np.ascontiguousarray(units, dtype=np.float32))
    # Repeating a row within its own group changes no maximum.
    rows[count:] = rows[count - 1]
    mean = rows[:count].mean(0)
    blocks = rows.split(ROWS)
    spread = max(float((block - mean).norm(dim=1).max()) for block in blocks)
    step, rounding = 1.0, 0.0
    if arithmetic == "int8":
        step = max(float((block - mean).abs().max()) for block in blocks) / 127 or 1.0
    codes = []
    for block in blocks:
        code = block - mean
        if arithmetic == "int8":
            whole = (code / step).round()
            rounding = max(rounding, float((code - whole * step).norm(dim=1).max()))
            code = whole.to(torch.int8)
        codes.append(code.view(-1, GROUP, code.shape[1]).transpose(0, 1).reshape(code.shape).contiguous())
    return Index(rows, count, mean, codes, step, spread, rounding)


def search(index: Index, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` rows nearest to each query by cosine: numbers (m, k) int64 and cosines (m, k) float32.

    ``queries`` is (m, d) float32, each of length one; 1 <= k <= number of rows. Cosines are sums in float64, rounded;
    equal ones stand in the order of the rows. Beside index and results at most 256 MiB are held, whatever m is.

    Why no neighbour is lost. Let s be a query's exact products, a the cheap ones, and E a bound of |a - s| (see
    ``_group_maxima``). Rows stand in groups, each known by its largest a. The k-th best s of any k groups, t, is no
    better than that of all rows; a true neighbour therefore has s >= t, hence a >= t - E, and so has the largest a of
    its group. The products of all such groups are computed in float32, and those of them that may still be among the
    k best once more in float64.
    """
    import torch

    found, cosines = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
    grouped = math.ceil(len(index.rows) / GROUP**2) >= 2 * k
    size = max(1, min(QUERIES, (MAXIMA * GROUP if grouped else DENSE) // len(index.rows)))
    with torch.inference_mode():
        for start in range(0, len(queries), size):
            block = slice(start, start + size)
            chosen = torch.from_numpy(np.ascontiguousarray(queries[block], dtype=np.float32)).to(index.rows.device)
            nearest = _refine(index, chosen, *_group_maxima(index, chosen), k) if grouped else _dense(index, chosen, k)
            found[block], cosines[block] = nearest
    return found, cosines


@functools.lru_cache(maxsize=1)
def int8_is_fast() -> bool:
    """Return whether this processor multiplies 8-bit integers natively (VNNI or AMX) and torch does so correctly."""
    import torch

    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    native = any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
    if not native or not hasattr(torch, "_int_mm"):
        return False
    # The operator is not part of torch's promised interface: it is used only if it does what it should.
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-127, 128, (64, 200), generator=generator, dtype=torch.int8) for _ in range(2))
    a[0], b[0] = 127, -127
    try:
        return bool((torch._int_mm(a, b.T).long() == a.long() @ b.long().T).all())
    except (RuntimeError, TypeError):
        return False


def product_error(d: int, device: torch.device) -> float:
    """Return a bound of the error of a float32 product of two rows of length ``d``, per product of their lengths.

    n operations err by at most about n units of 2^-24; twice that is allowed for, and 8 bits where torch may round the
    factors first (TF32 on a GPU, bfloat16 if its matmul precision was lowered).
    """
    import torch

    try:
        lowered = device.type != "cpu" or torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # Newer torch refuses to say when only parts of it were lowered.
        lowered = True
    return (d + 16) * 2.0**-23 + (2.0**-7 if lowered else 0.0)


def _group_maxima(index: Index, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the largest cheap product of each group, in steps: (m, groups) float32; (m,) step; (m,) error bound."""
    import torch

    groups = len(index.rows) // GROUP
    integer = index.codes[0].dtype == torch.int8
    if integer:
        step = queries.abs().amax(1, keepdim=True) / 127
        whole = (queries / step).round()
        rounding = (queries - whole * step).norm(dim=1)
        coded, step = whole.to(torch.int8), step[:, 0] * index.step
    else:
        coded, step, rounding = queries, torch.ones_like(queries[:, 0]), torch.zeros_like(queries[:, 0])
    # |q.w - q'.w'| <= |q - q'| |w| + |q'| |w - w'| with the codes q', w' of q, w; the products of integers are exact.
    bound = rounding * index.spread + (1 + rounding) * index.rounding
    bound += (1 + index.spread) * product_error(queries.shape[1], queries.device)
    # Filled up to whole sections with what no group can be.
    maxima = queries.new_full((len(queries), math.ceil(groups / GROUP) * GROUP), -math.inf)
    buffer = torch.empty(0, dtype=torch.int32 if integer else torch.float32, device=queries.device)
    first = 0
    for code in index.codes:
        buffer.resize_(len(queries), len(code))
        if integer:
            torch._int_mm(coded, code.T, out=buffer)
        else:
            torch.mm(coded, code.T, out=buffer)
        size = len(code) // GROUP
        maxima[:, first : first + size] = buffer.view(len(queries), GROUP, size).amax(1)
        first += size
    return maxima, step, bound


def _refine(
    index: Index, queries: torch.Tensor, maxima: torch.Tensor, step: torch.Tensor, bound: torch.Tensor, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of each query, from its groups' largest cheap products."""
    import torch

    # Group g stands in section g % sections: the maxima of all are never gone through but for this maximum.
    cubes = maxima.view(len(queries), GROUP, -1)
    sections = cubes.amax(1)
    # The best groups of the k best sections are k different groups, likely with most of the nearest rows.
    best = sections.topk(k).indices
    within = cubes.gather(2, best.unsqueeze(1).expand(-1, GROUP, -1)).argmax(1)
    error = product_error(queries.shape[1], queries.device)
    query = torch.arange(len(queries), device=queries.device).repeat_interleave(k)
    _, cosines = _exact(index, queries, query, (within * sections.shape[1] + best).flatten())
    least = cosines.topk(k).values[:, -1]

    needed = (least - error - queries @ index.mean - bound) / step
    query, section = (sections >= needed[:, None]).nonzero(as_tuple=True)
    pair, member = (cubes[query, :, section] >= needed[query, None]).nonzero(as_tuple=True)
    query, group = query[pair], member * sections.shape[1] + section[pair]
    if len(queries) > 1 and len(queries) * int(query.bincount(minlength=len(queries)).max()) > HELD:
        middle = len(queries) // 2
        halves = [
            _refine(index, queries[half], maxima[half], step[half], bound[half], k)
            for half in (slice(None, middle), slice(middle, None))
        ]
        return np.concatenate([found for found, _ in halves]), np.concatenate([cosine for _, cosine in halves])
    rows, cosines = _exact(index, queries, query, group)
    least = cosines.topk(k).values[:, -1]
    query, column = (cosines >= (least - 2 * error)[:, None]).nonzero(as_tuple=True)
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


def _dense(index: Index, queries: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of each query, from its products with all rows."""
    products = queries @ index.rows[: index.count].T
    error = product_error(queries.shape[1], queries.device)
    least = products.topk(k).values[:, -1]
    query, row = (products >= (least - 2 * error)[:, None]).nonzero(as_tuple=True)
    return _decide(index, queries, query, row, k)


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
