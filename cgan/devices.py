"""Device, precision of matrix products, and random generators derived from a seed.

Weights, losses and evaluation stay float32 whatever the precision of the products.
"""

from __future__ import annotations

import hashlib
from functools import partial
from timeit import timeit
from typing import Literal

import torch

from cgan import CganError

Precision = Literal["float32", "bfloat16"]


def prepare_cpu(threads: int | None = None) -> None:
    """Set threads (None: PyTorch's choice) of this process before its first computation; flush denormals to zero.

    Velocities of units that are always zero decay into denormals, with which an update takes 43 ms instead of 33.
    """
    if threads is not None:
        if not 1 <= threads <= 1_024:  # Too many end the process without a word.
            raise CganError(f"threads is {threads}: give 1 to 1,024")
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def resolve_device(name: str = "auto") -> torch.device:
    """Return the named device (``auto``: CUDA, else MPS, else the CPU); raises ``CganError`` if it is not there."""
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        return torch.device(next(kind for kind in count if count[kind]))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CganError(f"device {name!r} is unknown: use auto, cpu, cuda, cuda:N or mps") from None
    if (device.index or 0) >= count.get(device.type, 0):
        here = [kind for kind in count if count[kind]]
        raise CganError(f"device {name!r} is not available here: use auto, or one of {', '.join(here)}")
    return device


def resolve_precision(name: str, device: torch.device) -> Precision:
    """Return the named precision, for ``auto`` bfloat16 where its products are quicker than float32 ones.

    On a CPU the two are timed, since processor flags do not decide it: with AMX bfloat16 is about four times quicker,
    with AVX-512 BF16 alone it was measured at half the rate of float32.
    """
    if name in ("float32", "bfloat16"):
        return name  # type: ignore[return-value]
    if name != "auto":
        raise CganError(f"precision {name!r} is unknown: use auto, float32 or bfloat16")
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu":
        seconds = product_seconds((torch.float32, torch.bfloat16))
        return "bfloat16" if seconds[1] < 0.75 * seconds[0] else "float32"
    return "float32"


def product_seconds(dtypes: tuple[torch.dtype, ...]) -> list[float]:
    """Return the best wall time in seconds of a matrix product of each type on the CPU, of 20 or of those in 0.1 s.

    The types take turns, so that other programs slow all of them alike. A processor that has no bfloat16 takes a
    hundred times as long as for float32; after two turns that is plain.
    """
    products = [partial(torch.mm, *torch.ones(2, 512, 512, dtype=dtype)) for dtype in dtypes]
    rounds: list[list[float]] = []
    while len(rounds) < 2 or (len(rounds) < 20 and sum(map(sum, rounds)) < 0.1):
        rounds.append([timeit(product, number=1) for product in products])
    return [min(times) for times in zip(*rounds, strict=True)]


def seeded(seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator for (seed, purpose, index), independent of those of other seeds and purposes."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
