"""Device, precision of matrix products, and random generators derived from a seed.

Weights, losses and evaluation stay float32 whatever the precision of the products.
"""

from __future__ import annotations

import hashlib
import math
import time
from typing import Literal

import torch

from cgan import CganError

Precision = Literal["float32", "bfloat16"]


def prepare_cpu(threads: int | None = None) -> None:
    """Set threads (None: PyTorch's choice) and denormal handling of this process, before the first computation.

    Denormal numbers are flushed to zero: velocities of units that are always zero decay into them, and then an update
    of a trained network takes 43 ms instead of 33.
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


def product_seconds(dtypes: tuple[torch.dtype, ...], n: int = 512, repeats: int = 20) -> list[float]:
    """Return the best wall time in seconds of an n x n x n matrix product of each type on the CPU.

    The types take turns, so that other programs slow all of them alike; takes about 50 milliseconds.
    """
    operands = [torch.ones(n, n, dtype=dtype) for dtype in dtypes]
    best = [math.inf] * len(dtypes)
    for _ in range(repeats):
        for i, operand in enumerate(operands):
            start = time.perf_counter()
            torch.mm(operand, operand)
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def seeded(seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator for (seed, purpose, index), independent of those of other seeds and purposes."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
