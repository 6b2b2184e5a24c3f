"""Limits of an update: its matrix products replayed alone, or a GPU's rates of arithmetic and of memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.bench.measure import Candidate

#: The two factors of a matrix product, (n, k) and (k, m), or a stack of them for several seeds.
Product = tuple[Tensor, Tensor]
#: The operations that are matrix products, and where the factors stand among their arguments.
PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "baddbmm_": 1}
#: Side of a square product that reaches a GPU's rate of arithmetic.
SIDE = 8192
#: Bytes copied to find a GPU's memory bandwidth: more than its caches hold.
COPIED = 1 << 30
#: Bytes moved per weight by an update: weight and velocity, read and written.
BYTES_OF_WEIGHT = 16


class _Watch(TorchDispatchMode):
    """Keeps the factors of all matrix products that are made while it is on, those of backward passes among them."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = PRODUCTS.get(func.overloadpacket.__name__)
        if first is not None:
            self.products.append((args[first].detach(), args[first + 1].detach()))
        return func(*args, **(kwargs or {}))


def products_of(call: Callable[[], object]) -> list[Product]:
    """Return the matrix products that ``call`` makes, in order. On CUDA it must not replay a graph."""
    with _Watch() as watch:
        call()
    return watch.products


def operations(products: Sequence[Product]) -> int:
    """Return the multiplications and additions of all products."""
    return sum(2 * math.prod(left.shape) * right.shape[-1] for left, right in products)


def replayed(products: Sequence[Product]) -> Callable[[], None]:
    """Return a function that makes the products again, into memory allocated once."""
    prepared = [(*factors, torch.matmul(*factors)) for factors in products]

    def multiply() -> None:
        for left, right, out in prepared:
            (torch.mm if left.ndim == 2 else torch.bmm)(left, right, out=out)

    return multiply


def limits(products: Sequence[Product], weights: int, updates: int, share: float = 1.0) -> list[Candidate]:
    """Return the limits of ``updates`` updates of so many weights: on a CPU the products of an update alone.

    On a GPU, whose launches of single products take longer than these, its rates of arithmetic and of memory. ``share``
    is how much of the path's work the updates are.
    """
    device, dtype = products[0][0].device, products[0][0].dtype
    if device.type == "cpu":
        multiply = replayed(products)

        def alone() -> None:
            for _ in range(updates):
                multiply()

        return [Candidate("its products alone", alone, share)]
    factor = torch.randn(SIDE, SIDE, device=device).to(dtype)
    source = torch.ones(COPIED // 4, device=device)
    out, target = torch.empty_like(factor), torch.empty_like(source)
    arithmetic = 2 * SIDE**3 / (updates * operations(products))
    memory = 2 * COPIED / (updates * BYTES_OF_WEIGHT * weights)
    return [
        Candidate(
            "its arithmetic at the rate of large products",
            lambda: torch.mm(factor, factor, out=out),
            share * arithmetic,
        ),
        Candidate("its weights and velocities moved", lambda: target.copy_(source), share * memory),
    ]
