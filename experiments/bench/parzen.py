"""Benchmark the Parzen window of digits."""

from __future__ import annotations

import numpy as np
import torch

from cgan.metrics.parzen import default_sigmas, log_likelihoods
from experiments.bench.measure import Candidate, Context, Job

#: Exponentials made at a time, few enough to stay in a processor's caches, and rows of the distance product.
TILE, ROWS = {"cpu": 1 << 18, "cuda": 1 << 24}, 1024


def parzen(context: Context) -> Job:
    """Benchmark the Parzen window of images under as many samples, at ten sigmas, beside scikit-learn's density."""
    from sklearn.neighbors import KernelDensity

    dataset, sigmas, n = context.digits, default_sigmas(), context.size(10_000, 400)
    # Where there are fewer images, they are repeated.
    samples, images = (split.images[np.arange(n) % len(split)] for split in (dataset.train, dataset.test))
    x, centres = torch.from_numpy(images).to(context.device), torch.from_numpy(samples).to(context.device)
    some = context.size(30, 40)
    # With its default leaf size scikit-learn's tree loses most kernels in 784 dimensions (its issues 7492 and 27186);
    # a single leaf leaves nothing to lose, and is quicker.
    densities = [KernelDensity(bandwidth=sigma, leaf_size=n + 1).fit(samples) for sigma in sigmas]
    exponents = -torch.rand(TILE[context.device.type], device=context.device)
    powers, distances = torch.empty_like(exponents), torch.empty(ROWS, n, device=context.device)

    def kernel_density() -> np.ndarray:
        return np.stack([density.score_samples(images[:some]) for density in densities])

    def least() -> None:
        for block in x.split(ROWS):
            torch.mm(block, centres.T, out=distances[: len(block)])
        left = len(sigmas) * n * n
        while left > 0:
            torch.exp(exponents[:left], out=powers[:left])
            left -= len(exponents)

    candidates = [
        Candidate("ours", "float32 products, all sigmas at once", lambda: log_likelihoods(x, centres, sigmas)),
        Candidate("alternative", "KernelDensity in one leaf, a sigma at a time", kernel_density, some / n),
        Candidate("limit", "one distance product, one exponential a pair and sigma", least),
    ]
    what = f"{n:,} images of {dataset.name} under {n:,} samples, {len(sigmas)} sigmas"
    return Job(what, n * len(sigmas), "log-likelihoods", candidates)
