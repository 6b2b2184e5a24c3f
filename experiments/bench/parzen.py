"""The benchmark's path of the Parzen window: ours beside scikit-learn's density and a loop that broadcasts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cgan.metrics.parzen import default_sigmas, log_likelihoods
from data.labelled import ImageDataset
from experiments.bench.measure import Candidate, Check, Job
from experiments.bench.sizes import Sizes

#: How far log-likelihoods may lie from scikit-learn's, which computes in float64; nats.
TOLERANCE = 1e-2

#: Exponentials made at a time, few enough to stay in a processor's caches.
TILE = {"cpu": 1 << 18, "cuda": 1 << 24}

#: Rows of the distance product made at a time.
ROWS = 1024


def parzen(dataset: ImageDataset, device: torch.device, sizes: Sizes) -> Job:
    """Benchmark ``sizes.samples`` images under as many samples, at ten sigmas."""
    from sklearn.neighbors import KernelDensity

    sigmas, n = default_sigmas(), sizes.samples
    samples, images = (rows(split, n, seed) for seed, split in enumerate((dataset.train.images, dataset.test.images)))
    on_device = torch.from_numpy(samples).to(device), torch.from_numpy(images).to(device)
    some, few = min(sizes.kde_images, n), min(sizes.broadcast_images, n)
    # As it comes, scikit-learn's tree loses most kernels in 784 dimensions (its issues 7492 and 27186); a single leaf
    # leaves nothing to lose, and is quicker.
    as_it_comes = [KernelDensity(bandwidth=sigma).fit(samples) for sigma in sigmas]
    one_leaf = [KernelDensity(bandwidth=sigma, leaf_size=n + 1).fit(samples) for sigma in sigmas]

    def kernel_density(fitted: list[KernelDensity] = one_leaf) -> np.ndarray:
        return np.stack([density.score_samples(images[:some]) for density in fitted])

    def ours(count: int = n) -> Tensor:
        return log_likelihoods(on_device[1][:count], on_device[0], sigmas)

    reference, scored = kernel_density(), ours(some).numpy()
    looped = broadcast(on_device[1][:few], on_device[0], sigmas).cpu().numpy()
    data = "" if len(dataset.train) >= n and len(dataset.test) >= n else " with small noise, repeated"
    return Job(
        path="parzen",
        what=f"{n:,} images of {dataset.name}{data} under {n:,} samples, {len(sigmas)} sigmas",
        amount=n * len(sigmas),
        unit="log-likelihoods",
        agreement=[
            Check("largest difference from KernelDensity in nats", largest(scored - reference), TOLERANCE),
            Check("largest difference from the broadcast loop in nats", largest(scored[:, :few] - looped), TOLERANCE),
        ],
        candidates=[
            Candidate("float32 products, all sigmas at once", "ours", ours),
            Candidate(
                "KernelDensity in one leaf, a sigma at a time",
                "alternative",
                kernel_density,
                some / n,
                f"{some} images, fitted before",
            ),
            Candidate(
                "KernelDensity as it comes (not the same results)",
                "alternative",
                lambda: kernel_density(as_it_comes),
                some / n,
                f"{some} images, fitted before",
            ),
            Candidate(
                "broadcast loop, a sigma at a time",
                "alternative",
                lambda: broadcast(on_device[1][:few], on_device[0], sigmas),
                few / n,
                f"{few} images",
            ),
            Candidate(
                "the distance product and one exponential a pair and sigma",
                "limit",
                product_and_exponentials(on_device[1], on_device[0], len(sigmas)),
            ),
        ],
        aim="at least 80 times KernelDensity (processor)",
        facts={"nats_lost_by_kernel_density_as_it_comes": largest(scored - kernel_density(as_it_comes))},
    )


def rows(images: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the first ``n`` images (n, d) float32; missing ones are copies with a little noise, all different."""
    if len(images) >= n:
        return np.ascontiguousarray(images[:n])
    rng = np.random.default_rng(seed)
    repeated = images[np.arange(n) % len(images)]
    noise: np.ndarray = rng.uniform(0, 0.05, repeated.shape).astype(np.float32)
    return np.clip(repeated + noise, 0, 1)


def broadcast(images: Tensor, samples: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """Compute the density the direct way: all differences from all samples, by broadcasting, for every sigma."""
    d, n = samples.shape[1], len(samples)
    found = torch.empty(len(sigmas), len(images), dtype=torch.float64)
    for i, sigma in enumerate(sigmas):
        for j, image in enumerate(images):
            squares = ((image - samples) / sigma).square().sum(1).double()
            density = torch.logsumexp(-squares / 2, 0) - math.log(n) - d / 2 * math.log(2 * math.pi * sigma**2)
            found[i, j] = density
    return found


def product_and_exponentials(images: Tensor, samples: Tensor, sigmas: int) -> Callable[[], None]:
    """Compute one product of images and samples, then one exponential for each pair and sigma, in cached memory."""
    device = images.device
    size = TILE.get(device.type, TILE["cpu"])
    exponents, out = -torch.rand(size, device=device), torch.empty(size, device=device)
    buffer = torch.empty(ROWS * len(samples), device=device)

    def compute() -> None:
        for block in images.split(ROWS):
            torch.mm(block, samples.T, out=buffer[: len(block) * len(samples)].view(len(block), -1))
        left = sigmas * len(images) * len(samples)
        while left > 0:
            torch.exp(exponents[:left], out=out[:left])
            left -= size

    compute()
    return compute


def largest(difference: np.ndarray) -> float:
    """Return the largest absolute value; NaN if there is one."""
    return float(np.abs(difference).max())
