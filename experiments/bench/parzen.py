"""Benchmark the Parzen window beside scikit-learn's density."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cgan.metrics.parzen import default_sigmas, log_likelihoods
from experiments.bench.measure import Candidate, Check, Context, Job

#: How far log-likelihoods may lie from scikit-learn's, which computes in float64; nats.
TOLERANCE = 1e-2
#: Exponentials made at a time, few enough to stay in a processor's caches.
TILE = {"cpu": 1 << 18, "cuda": 1 << 24}
#: Rows of the distance product made at a time.
ROWS = 1024


def parzen(context: Context) -> Job:
    """Benchmark ``sizes.samples`` images under as many samples, at ten sigmas."""
    from sklearn.neighbors import KernelDensity

    dataset, sigmas, n = context.digits, default_sigmas(), context.sizes.samples
    # Where there are fewer images, they are repeated.
    samples, images = (split.images[np.arange(n) % len(split)] for split in (dataset.train, dataset.test))
    x, centres = torch.from_numpy(images).to(context.device), torch.from_numpy(samples).to(context.device)
    some = min(context.sizes.kde_images, n)
    # With its default leaf size scikit-learn's tree loses most kernels in 784 dimensions (its issues 7492 and 27186);
    # a single leaf leaves nothing to lose, and is quicker.
    densities = [KernelDensity(bandwidth=sigma, leaf_size=n + 1).fit(samples) for sigma in sigmas]

    def kernel_density() -> np.ndarray:
        return np.stack([density.score_samples(images[:some]) for density in densities])

    off = float(np.abs(log_likelihoods(x[:some], centres, sigmas).numpy() - kernel_density()).max())
    return Job(
        path="parzen",
        what=f"{n:,} images of {dataset.name} under {n:,} samples, {len(sigmas)} sigmas",
        amount=n * len(sigmas),
        unit="log-likelihoods",
        agreement=[Check("largest difference from KernelDensity in nats", off, TOLERANCE)],
        ours=Candidate("float32 products, all sigmas at once", lambda: log_likelihoods(x, centres, sigmas)),
        alternatives=[Candidate("KernelDensity in one leaf, a sigma at a time", kernel_density, some / n)],
        limits=[Candidate("one distance product, one exponential a pair and sigma", least(x, centres, len(sigmas)))],
    )


def least(images: Tensor, samples: Tensor, sigmas: int) -> Callable[[], None]:
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
