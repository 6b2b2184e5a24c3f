"""Benchmark the Parzen window beside scikit-learn's density and a loop that broadcasts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cgan.metrics.parzen import default_sigmas, log_likelihoods
from experiments.bench.context import Context
from experiments.bench.measure import Candidate, Check, Job

#: How far log-likelihoods may lie from scikit-learn's, which computes in float64; nats.
TOLERANCE = 1e-2
#: Exponentials made at a time, few enough to stay in a processor's caches.
TILE = {"cpu": 1 << 18, "cuda": 1 << 24}
#: Rows of the distance product made at a time.
ROWS = 1024


def parzen(context: Context) -> Job:
    """Benchmark ``sizes.samples`` images under as many samples, at ten sigmas."""
    from sklearn.neighbors import KernelDensity

    sizes, dataset, sigmas, n = context.sizes, context.digits, default_sigmas(), context.sizes.samples
    samples, images = (rows(split.images, n) for split in (dataset.train, dataset.test))
    x, centres = torch.from_numpy(images).to(context.device), torch.from_numpy(samples).to(context.device)
    some, few = min(sizes.kde_images, n), min(sizes.broadcast_images, n)
    # With the default leaf size scikit-learn's tree loses most kernels in 784 dimensions (its issues 7492 and 27186);
    # a single leaf leaves nothing to lose, and is quicker.
    default = [KernelDensity(bandwidth=sigma).fit(samples) for sigma in sigmas]
    one_leaf = [KernelDensity(bandwidth=sigma, leaf_size=n + 1).fit(samples) for sigma in sigmas]

    def kernel_density(fitted: list[KernelDensity]) -> np.ndarray:
        return np.stack([density.score_samples(images[:some]) for density in fitted])

    def broadcast_some() -> np.ndarray:
        return broadcast(x[:few], centres, sigmas).numpy()

    ours = log_likelihoods(x[:some], centres, sigmas).numpy()
    looped = log_likelihoods(x[:few], centres, sigmas).numpy() - broadcast_some()
    shortage = "" if len(dataset.train) >= n and len(dataset.test) >= n else ", repeated,"
    note = f"{some} images, fitted before"
    return Job(
        path="parzen",
        what=f"{n:,} images of {dataset.name}{shortage} under {n:,} samples, {len(sigmas)} sigmas",
        amount=n * len(sigmas),
        unit="log-likelihoods",
        agreement=[
            Check("largest difference from KernelDensity in nats", largest(ours - kernel_density(one_leaf)), TOLERANCE),
            Check("largest difference from the broadcast loop in nats", largest(looped), TOLERANCE),
        ],
        ours=Candidate("float32 products, all sigmas at once", lambda: log_likelihoods(x, centres, sigmas)),
        alternatives=[
            Candidate("KernelDensity in one leaf, a sigma at a time", lambda: kernel_density(one_leaf), some / n, note),
            Candidate(
                "KernelDensity with its default leaf size (not the same results)",
                lambda: kernel_density(default),
                some / n,
                note,
            ),
            Candidate("broadcast loop, a sigma at a time", broadcast_some, few / n, f"{few} images"),
        ],
        limits=[
            Candidate(
                "the distance product and one exponential a pair and sigma",
                product_and_exponentials(x, centres, len(sigmas)),
            )
        ],
        aim="at least 80 times KernelDensity (processor)",
        facts={"kernel_density_default_leaf_error_nats": largest(ours - kernel_density(default))},
    )


def rows(images: np.ndarray, n: int) -> np.ndarray:
    """Return the first ``n`` images (n, d) float32; few images are repeated."""
    return images[np.arange(n) % len(images)]


def broadcast(images: Tensor, samples: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """Return the log-density of each image at each sigma (sigmas, images) the direct way, by broadcasting."""
    n, d = samples.shape
    found = torch.empty(len(sigmas), len(images), dtype=torch.float64)
    for i, sigma in enumerate(sigmas):
        for j, image in enumerate(images):
            squares = ((image - samples) / sigma).square().sum(1).double()
            found[i, j] = torch.logsumexp(-squares / 2, 0) - math.log(n) - d / 2 * math.log(2 * math.pi * sigma**2)
    return found


def product_and_exponentials(images: Tensor, samples: Tensor, sigmas: int) -> Callable[[], None]:
    """Return a function that computes one product of images and samples, then one exponential a pair and sigma."""
    size = TILE[images.device.type]
    exponents = -torch.rand(size, device=images.device)
    out, buffer = torch.empty_like(exponents), torch.empty(ROWS * len(samples), device=images.device)

    def compute() -> None:
        for block in images.split(ROWS):
            torch.mm(block, samples.T, out=buffer[: len(block) * len(samples)].view(len(block), -1))
        left = sigmas * len(images) * len(samples)
        while left > 0:
            torch.exp(exponents[:left], out=out[:left])
            left -= size

    return compute


def largest(difference: np.ndarray) -> float:
    """Return the largest absolute value; NaN if there is one."""
    return float(np.abs(difference).max())
