"""Where and how to compute: device, matrix-product precision, seeded random generators.

Decides nothing about a model. Weights, losses and evaluation stay float32 whatever the precision of the products.
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
    """Settings of this process that training on a processor wants: call once, before the first computation.

    ``threads`` None keeps PyTorch's choice. Denormal numbers become zero: the velocities of units that died decay into
    them, and they made an update of a trained net take 43 ms instead of 33.
    """
    if threads is not None and threads < 1:
        raise CganError(f"threads is {threads}: at least one is needed")
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)


def resolve_device(name: str = "auto") -> torch.device:
    """``auto``: CUDA, else Apple's MPS, else the CPU; or the device named. Raises ``CganError`` if it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CganError(f"device {name!r} is unknown: use auto, cpu, cuda, cuda:N or mps") from None
    if not available.get(device.type, False):
        raise CganError(
            f"device {name!r} is not available here: use auto, or one of {[k for k, v in available.items() if v]}"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CganError(f"device {name!r} is not available here: there are {torch.cuda.device_count()} CUDA devices")
    return device


def resolve_precision(name: str, device: torch.device) -> Precision:
    """``auto``: bfloat16 products where they are quicker than float32 ones, else float32; or the one named.

    On a CPU the two are timed, since the flags do not tell: AMX makes bfloat16 about four times quicker, while AVX-512
    BF16 alone was measured at half the rate of float32.
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
    """Best wall time in seconds of an n x n x n matrix product of each type on the CPU, some 50 milliseconds in all.

    The types take turns, so that another program's work, which comes and goes, slows all of them alike.
    """
    operands = [torch.ones(n, n, dtype=dtype) for dtype in dtypes]
    results = [torch.empty_like(operand) for operand in operands]
    best = [math.inf] * len(dtypes)
    for _ in range(repeats):
        for i, (operand, out) in enumerate(zip(operands, results, strict=True)):
            start = time.perf_counter()
            torch.mm(operand, operand, out=out)
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def seeded(seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for each (seed, purpose, index): streams do not overlap, whatever is drawn from others."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
