"""Gaussian Parzen window log-likelihood of images under samples (paper, section 4.1; GAN paper, section 5).

Knows nothing of files or datasets: tensors in, log densities in nats out. What the figure can and cannot tell
is discussed by Theis et al. (2016), "A note on the evaluation of generative models", section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from cgan import CganError

#: Smaller exponents count as this one: exp(-80) moves no digit of a sum, and kernels that underflow take 80 times as
#: long to compute.
_SMALLEST_EXPONENT = -80.0
#: Queries and samples of one tile of distances. On a processor the tile and its kernels (2 MiB) must stay in
#: cache while every sigma passes over them; an accelerator wants enough work to fill it.
_CPU_TILE = (512, 512)
_ACCELERATOR_TILE = (2048, 8192)
#: Products are summed in slices of so many features: three times closer (measured on MNIST) in the same time.
_SLICE = 128


@dataclass(frozen=True)
class Score:
    """Mean log-likelihood of images at one ``sigma``: ``mean`` and standard error ``se``, in nats."""

    sigma: float
    mean: float
    se: float


@dataclass(frozen=True)
class ParzenResult:
    """One figure of Table 1: log-likelihoods in nats at the sigma that validation images chose, standard errors."""

    sigma: float
    """Width of each Gaussian, in the units of the pixels."""
    valid_mean: float
    valid_se: float
    test_mean: float
    test_se: float
    n_samples: int
    n_valid: int
    n_test: int
    dim: int
    """Values of one sample."""
    at_edge: bool
    """``sigma`` is the grid's first or last of several, so a better one may lie outside."""
    sigmas: tuple[float, ...]
    """The whole validation curve: widths, and the mean at each."""
    valid_means: tuple[float, ...]


def sigma_grid(start: float, stop: float, count: int) -> tuple[float, ...]:
    """Return ``count`` widths from ``start`` to ``stop``, both included, at equal ratios; one if both are the same.

    Raises ``CganError`` unless 0 < start <= stop and the count fits.
    """
    if not 0 < start <= stop < math.inf or count < 1 or (count == 1) != (start == stop):
        raise CganError(
            f"{count} sigmas from {start:g} to {stop:g}: give two or more from a first above 0 to a larger last, or one"
        )
    inner = (start * (stop / start) ** (i / (count - 1)) for i in range(1, count - 1))
    return (float(start), *inner, float(stop))[:count]


def default_sigmas() -> tuple[float, ...]:
    """Return the 10 log-spaced widths in [0.1, 1] among which the paper's procedure chooses."""
    return sigma_grid(0.1, 1.0, 10)


def mean_and_se(values: Tensor) -> tuple[float, float]:
    """Return mean and standard error of log-likelihoods ``values`` (n,), in nats.

    The standard deviation divides by n (ddof 0), as the authors' evaluation does.
    """
    values = values.double()
    return values.mean().item(), values.std(correction=0).item() / math.sqrt(len(values))


@torch.no_grad()
def log_likelihoods(
    queries: Tensor, samples: Tensor, sigmas: Sequence[float], *, memory_mib: int = 256, progress: bool = False
) -> Tensor:
    """Return each query's log density under isotropic Gaussians of width sigma on the samples, for every sigma.

    log p(x) = logsumexp_i(-|x - s_i|^2 / (2 sigma^2)) - log n - (d/2) log(2 pi sigma^2)

    ``queries`` (m, d) and ``samples`` (n, d) are finite floats; the work is done on the samples' device. Returns (S, m)
    float64 on the CPU, in nats, for S ``sigmas`` in the units of the data. ``memory_mib`` bounds the working memory,
    whatever m and n; ``progress`` shows a bar.

    All sigmas share one pass over the distances: float32 products, |s|^2/2 - x.s, of vectors centred on the samples'
    mean, which keeps digits. On MNIST at sigma 0.1 every result is within 3e-3 nats of a float64 computation; at sigma
    1 within 1e-4. Raises ``CganError`` on shapes that do not fit, nothing to score, values that are not finite or too
    large for float32, a sigma that is not positive, or ``memory_mib`` too small for rows of this length.
    """
    _check(queries, samples, sigmas)
    (m, d), n = queries.shape, len(samples)
    device = torch.device("cpu") if samples.device.type == "mps" else samples.device  # MPS has no float64.
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    sample_rows, query_rows, tile_columns = _plan(m, n, d, device.type, workers, memory_mib)

    weights = [1 / sigma**2 for sigma in sigmas]  # of half the squared distance
    columns = torch.tensor(weights, dtype=torch.float64, device=device)[:, None]
    # Of each query: half the squared distance to the nearest sample, and the kernels relative to its kernel.
    nearest = torch.full((m,), math.inf, dtype=torch.float64, device=device)
    sums = torch.zeros(len(weights), m, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add_kernels(s: Tensor, s_norms: Tensor, centre: Tensor, top: int) -> None:
        rows = slice(top, top + query_rows)
        q, q_norms = _centred(queries[rows].to(device), centre)
        lowest, part_sums = _sum_kernels(q, s, s_norms, weights, columns, tile_columns)
        distance = (lowest.double() + q_norms).clamp_(min=0)
        least = torch.minimum(nearest[rows], distance)
        sums[:, rows] *= torch.exp((least - nearest[rows]) * columns)
        sums[:, rows] += part_sums * torch.exp((least - distance) * columns)
        nearest[rows] = least

    blocks = math.ceil(n / sample_rows) * math.ceil(m / query_rows)
    bar = tqdm(total=blocks, desc="Parzen", unit="block", disable=None if progress else True, leave=False)
    with bar, _full_float32(device.type), _mapping(workers) as each:
        for first in range(0, n, sample_rows):
            part = samples[first : first + sample_rows].to(device)
            centre = part.to(torch.promote_types(part.dtype, torch.float32)).mean(0)
            s, s_norms = _centred(part, centre)
            for _ in each(partial(add_kernels, s, s_norms.float(), centre), range(0, m, query_rows)):
                bar.update()

    nearest, sums, columns = nearest.cpu(), sums.cpu(), columns.cpu()
    result = sums.log_() - nearest * columns - math.log(n) - d / 2 * torch.log(2 * math.pi / columns)
    if not result.isfinite().all():
        raise CganError(
            "queries or samples hold NaN or infinity, or their squared distances overflow float32: leave such rows "
            "out, or scale both down"
        )
    return result


def choose_sigma(
    valid: Tensor, samples: Tensor, sigmas: Sequence[float], *, memory_mib: int = 256, progress: bool = False
) -> tuple[int, tuple[Score, ...]]:
    """Return the index of the sigma of highest mean log-likelihood of ``valid`` (m, d), and each sigma's score."""
    values = log_likelihoods(valid, samples, sigmas, memory_mib=memory_mib, progress=progress)
    scores = tuple(Score(float(sigma), *mean_and_se(row)) for sigma, row in zip(sigmas, values, strict=True))
    return max(range(len(scores)), key=lambda i: scores[i].mean), scores


def evaluate(
    samples: Tensor,
    valid: Tensor,
    test: Tensor,
    sigmas: Sequence[float] | None = None,
    *,
    memory_mib: int = 256,
    progress: bool = False,
) -> ParzenResult:
    """Choose sigma of ``sigmas`` (None: ``default_sigmas()``) on ``valid`` (m, d), and score ``test`` (k, d) at it.

    ``samples`` is (n, d). Other arguments and errors are those of ``log_likelihoods``.
    """
    sigmas = default_sigmas() if sigmas is None else tuple(sigmas)
    _check(test, samples, sigmas)  # before the minutes that validation may take
    index, scores = choose_sigma(valid, samples, sigmas, memory_mib=memory_mib, progress=progress)
    best = scores[index]
    values = log_likelihoods(test, samples, [best.sigma], memory_mib=memory_mib, progress=progress)
    test_mean, test_se = mean_and_se(values[0])
    return ParzenResult(
        sigma=best.sigma,
        valid_mean=best.mean,
        valid_se=best.se,
        test_mean=test_mean,
        test_se=test_se,
        n_samples=len(samples),
        n_valid=len(valid),
        n_test=len(test),
        dim=samples.shape[1],
        at_edge=len(scores) > 1 and index in (0, len(scores) - 1),
        sigmas=tuple(score.sigma for score in scores),
        valid_means=tuple(score.mean for score in scores),
    )


def _sum_kernels(
    q: Tensor, s: Tensor, s_norms: Tensor, weights: list[float], columns: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Return each query's least |s|^2/2 - q.s over ``s`` (m,), and the kernels summed relative to it (S, m)."""
    lowest = torch.full((len(q),), math.inf, device=q.device)
    sums = torch.zeros(len(weights), len(q), dtype=columns.dtype, device=q.device)
    memory = torch.empty(2, len(q) * width, device=q.device)
    for left in range(0, len(s), width):
        block, norms = s[left : left + width], s_norms[left : left + width]
        tile, kernels = memory[:, : len(q) * len(block)].view(2, len(q), len(block))
        torch.addmm(norms, q[:, :_SLICE], block[:, :_SLICE].T, alpha=-1, out=tile)
        for start in range(_SLICE, q.shape[1], _SLICE):
            features = slice(start, start + _SLICE)
            tile.addmm_(q[:, features], block[:, features].T, alpha=-1)
        least = torch.minimum(lowest, tile.amin(1))
        tile -= least[:, None]
        sums *= torch.exp((least - lowest).to(sums.dtype) * columns)
        for total, weight in zip(sums, weights, strict=True):
            torch.mul(tile, -weight, out=kernels).clamp_(min=_SMALLEST_EXPONENT).exp_()
            total += kernels.sum(1)
        lowest = least
    return lowest, sums


def _centred(rows: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``rows - centre`` in float32 (k, d), and half its squared norms in float64 (k,)."""
    # Float64 rows are centred as they are, so that a large offset costs no digits.
    shifted = rows.to(torch.promote_types(rows.dtype, torch.float32), copy=True).sub_(centre).float()
    return shifted, shifted.double().square_().sum(1).div_(2)


def _plan(m: int, n: int, d: int, device_type: str, workers: int, memory_mib: int) -> tuple[int, int, int]:
    """Return how many samples are centred at a time, queries at a time, and samples in one tile of distances.

    Of ``memory_mib`` half goes to centred samples, a quarter each to queries and tiles.
    """
    budget, row = memory_mib * 2**20, 16 * d  # Bytes of a row that is centred: in float64 and float32, two blocks.
    tile_rows, tile_columns = _CPU_TILE if device_type == "cpu" else _ACCELERATOR_TILE
    sample_rows = min(n, budget // 2 // row)
    query_rows = min(math.ceil(m / workers), tile_rows, budget // 4 // workers // row)
    if sample_rows < 1 or query_rows < 1:
        raise CganError(
            f"memory_mib={memory_mib} cannot hold rows of {d} values: give at least {64 * workers * d // 2**20 + 1}"
        )
    tile_columns = min(sample_rows, tile_columns, budget // 4 // workers // (8 * query_rows))
    return sample_rows, query_rows, tile_columns


def _check(queries: Tensor, samples: Tensor, sigmas: Sequence[float]) -> None:
    for name, array in (("queries", queries), ("samples", samples)):
        if array.ndim != 2 or not array.is_floating_point() or not array.numel():
            raise CganError(
                f"{name} must be a floating-point array (count, values) with at least one of each, "
                f"not {array.dtype} of shape {tuple(array.shape)}"
            )
    if queries.shape[1] != samples.shape[1]:
        raise CganError(f"queries have {queries.shape[1]} values each and samples {samples.shape[1]}: they must agree")
    if not len(sigmas) or not all(1e-15 < sigma < 1e15 for sigma in sigmas):  # Beyond, 1 / sigma^2 leaves float32.
        raise CganError(f"the sigmas are {list(sigmas)}: give one Gaussian's width or more, each above 0 and finite")


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterator[None]]]:
    """Yield a ``map`` over so many threads, each with one of PyTorch's own and a block of queries.

    PyTorch's own way, all threads in each operation, waits at the end of some ten thousand of them: as quick on an idle
    machine, over ten times slower on a busy one.
    """
    if workers == 1:
        yield map
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(workers)


@contextmanager
def _full_float32(device_type: str) -> Iterator[None]:
    """Keep TF32, bfloat16 and autocast out of matrix products within."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
