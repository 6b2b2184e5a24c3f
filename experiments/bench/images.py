"""Benchmark what is computed of images: the Parzen window of digits, and a frozen network's features of photos."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from cgan.metrics.parzen import default_sigmas, log_likelihoods
from data.mirflickr import find_captioned, find_mirflickr, load_photos
from data.scenes import render_scene
from embeddings.images.extract import extract
from embeddings.images.networks import load_network
from experiments.bench.measure import Candidate, Context, Job

#: Exponentials made at a time, few enough to stay in a processor's caches, and rows of the distance product.
TILE, ROWS = {"cpu": 1 << 18, "cuda": 1 << 24}, 1024
#: The frozen network of the features, the grid that its last feature map is pooled to, and photos of a bare pass.
NETWORK, GRID, BATCH = "mobilenetv1_100", 2, 8


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


def features(context: Context) -> Job:
    """Benchmark the features of photos beside a loop over some of them and the network's bare forward pass."""
    count, device, name = context.size(256, 6), context.device, "rendered scenes"
    if find_mirflickr(context.root) or find_captioned(context.root):
        found = load_photos("auto", context.root)
        paths, name = list(found.paths[:count]), found.name
    else:
        paths = [context.folder / f"im{number}.jpg" for number in range(1, count + 1)]
        for number, path in enumerate(paths, 1):
            render_scene(1, number).image.save(path, quality=90)
    weights = context.root / "weights" / f"{NETWORK}.safetensors"
    network = load_network(NETWORK, weights if weights.is_file() else None, GRID, random_weights=not weights.is_file())
    some = paths[: context.size(48, 4)]
    pixels = torch.rand(len(some), *network.preprocessing.input_size).contiguous(memory_format=torch.channels_last)

    def ours() -> None:
        extract(network, paths, device=str(device), progress=False)

    @torch.no_grad()
    def loop() -> None:
        for path in some:
            photo = network.preprocess(Image.open(path).convert("RGB"))
            network.module.to(device)(photo.unsqueeze(0).to(device)).cpu().numpy()

    @torch.inference_mode()
    def forward() -> None:
        for part in pixels.to(device).split(BATCH):
            network.module.to(device)(part)

    share = len(some) / len(paths)
    candidates = [
        Candidate("ours", "batches, photos opened by threads", ours),
        Candidate("alternative", "Image.open, transform, batch of 1", loop, share),
        Candidate("limit", f"bare forward pass, batches of {BATCH}", forward, share),
    ]
    what = f"features of {len(paths)} photos of {name}, {network.name} ({network.weights})"
    return Job(what, len(paths), "photos", candidates)
