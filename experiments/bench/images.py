"""Benchmark image features beside a loop over photos and the network's bare forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data.mirflickr import find_captioned, find_mirflickr, load_photos
from data.scenes import render_scene
from embeddings.images.extract import extract
from embeddings.images.networks import load_network
from experiments.bench.measure import Candidate, Check, Context, Job

#: The frozen network of the features, and the grid that its last feature map is pooled to.
NETWORK, GRID = "mobilenetv1_100", 2
#: How far a photo's vector may lie from the loop's, as 1 - cosine: ours decodes large JPEGs at a part of their size.
TOLERANCE = 1e-2
#: Photos of a bare forward pass.
BATCH = 8


def features(context: Context) -> Job:
    """Benchmark the features of ``sizes.photos`` photos; the loop does some of them."""
    paths, name = photos(context)
    weights, device = context.root / "weights" / f"{NETWORK}.safetensors", context.device
    network = load_network(NETWORK, weights if weights.is_file() else None, GRID, random_weights=not weights.is_file())
    some = paths[: context.sizes.loop_photos]
    pixels = torch.rand(len(some), *network.preprocessing.input_size).contiguous(memory_format=torch.channels_last)

    def ours(chosen: list[Path] = paths) -> np.ndarray:
        return extract(network, chosen, device=str(device), progress=False).vectors

    @torch.no_grad()
    def loop() -> np.ndarray:
        module, found = network.module.to(device), []
        for path in some:
            photo = network.preprocess(Image.open(path).convert("RGB"))
            found.append(module(photo.unsqueeze(0).to(device)).cpu().numpy())
        return np.concatenate(found)

    @torch.inference_mode()
    def forward() -> None:
        for part in pixels.to(device).split(BATCH):
            network.module.to(device)(part)

    found, looped = ours(some), loop()
    cosines = (found * looped).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(looped, axis=1)
    share = len(some) / len(paths)
    return Job(
        path="features",
        what=f"features of {len(paths)} photos of {name}, {network.name} ({network.weights})",
        amount=len(paths),
        unit="photos",
        agreement=[Check("largest 1 - cosine of a photo's vector and the loop's", float(1 - cosines.min()), TOLERANCE)],
        ours=Candidate("batches, photos opened by threads", ours),
        alternatives=[Candidate("Image.open, transform, batch of 1", loop, share)],
        limits=[Candidate(f"bare forward pass, batches of {BATCH}", forward, share)],
    )


def photos(context: Context) -> tuple[list[Path], str]:
    """Return photos and the name of their set: one that lies under the data root, else rendered scenes."""
    count = context.sizes.photos
    if find_mirflickr(context.root) or find_captioned(context.root):
        found = load_photos("auto", context.root)
        return list(found.paths[:count]), found.name
    paths = [context.folder / f"im{number}.jpg" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        render_scene(1, number).image.save(path, quality=90)
    return paths, "rendered scenes"
