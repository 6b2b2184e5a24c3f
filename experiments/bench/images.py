"""The benchmark's path of image features: ours beside a loop over photos, and the network's bare forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from embeddings.images.extract import extract
from embeddings.images.networks import FrozenNetwork
from experiments.bench.measure import Candidate, Check, Job
from experiments.bench.sizes import Sizes

#: How far a photo's vector may lie from the loop's, as 1 - cosine: ours decodes large JPEGs at a part of their size.
TOLERANCE = 1e-2

#: Batches tried for the bare forward pass.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def features(network: FrozenNetwork, paths: Sequence[Path], name: str, device: torch.device, sizes: Sizes) -> Job:
    """Benchmark the features of all ``paths``; the loop does some of them."""
    some = paths[: sizes.loop_photos]

    def ours(photos: Sequence[Path] = paths) -> np.ndarray:
        return extract(network, photos, device=str(device), progress=False).vectors

    def loop() -> np.ndarray:
        return one_by_one(network, some, device)

    found, looped = ours(some), loop()
    cosines = (found * looped).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(looped, axis=1)
    batch, forward, done = bare_forward(network, len(some if device.type == "cpu" else paths), device)
    return Job(
        path="features",
        what=f"features of {len(paths)} photos of {name}, {network.name} ({network.weights})",
        amount=len(paths),
        unit="photos",
        agreement=[
            Check("largest 1 - cosine of a photo's vector and the loop's", float((1 - cosines).max()), TOLERANCE)
        ],
        candidates=[
            Candidate("batches, read by processes", "ours", ours),
            Candidate(
                "Image.open, transform, batch of 1", "alternative", loop, len(some) / len(paths), f"{len(some)} photos"
            ),
            Candidate(f"bare forward pass, batches of {batch}", "limit", forward, done / len(paths)),
        ],
    )


@torch.no_grad()
def one_by_one(network: FrozenNetwork, paths: Sequence[Path], device: torch.device) -> np.ndarray:
    """Compute features the direct way: open a photo, transform it, pass it through the network alone."""
    module, found = network.module.to(device), []
    for path in paths:
        pixels = network.preprocess(Image.open(path).convert("RGB"))
        found.append(module(pixels.unsqueeze(0).to(device)).cpu().numpy())
    return np.concatenate(found)


def bare_forward(network: FrozenNetwork, photos: int, device: torch.device) -> tuple[int, Callable[[], None], int]:
    """Return the fastest batch size of the network alone, its pass over that many photos, and their number."""
    module, shape = network.module.to(device), network.preprocessing.input_size
    pixels = torch.rand(photos, *shape, device=device).contiguous(memory_format=torch.channels_last)
    # As features are computed: GPUs that have bfloat16 use it.
    lowered = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8

    def passing(batch: int) -> Callable[[], None]:
        @torch.inference_mode()
        def forward() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=lowered):
                for part in pixels[: photos // batch * batch].split(batch):
                    module(part)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return forward

    def seconds_each(batch: int) -> float:
        forward, count = passing(batch), photos // batch * batch
        with torch.inference_mode():
            module(pixels[:batch])
        start = time.perf_counter()
        forward()
        return (time.perf_counter() - start) / count

    best = min((batch for batch in BATCHES if batch <= photos), key=seconds_each)
    return best, passing(best), photos // best * best
