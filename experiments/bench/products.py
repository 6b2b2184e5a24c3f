"""Limits of an update: its own matrix products replayed alone, and a device's rates of arithmetic and of memory.

Records the products that PyTorch makes during a call, whatever is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: Side of the square products that give a device's rate; larger ones are no faster.
SIDE = {"cpu": 1024, "cuda": 8192}

#: Bytes copied to find a device's memory bandwidth: more than its caches hold.
COPIED = 1 << 30


class Operand(NamedTuple):
    """Shape and type of a factor, and whether it lies in memory transposed."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    transposed: bool


class Product(NamedTuple):
    """A matrix product (n, k) x (k, m), or one a replica."""

    left: Operand
    right: Operand

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * math.prod(self.left.shape) * self.right.shape[-1]


#: The operations that are matrix products, and where the factors stand among their arguments.
PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "baddbmm_": 1}


class _Watch(TorchDispatchMode):
    """Notes the matrix products that are made while it is on, those of backward passes among them."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = PRODUCTS.get(func.overloadpacket.__name__)
        if first is not None:
            self.products.append(Product(_described(args[first]), _described(args[first + 1])))
        return func(*args, **(kwargs or {}))


def _described(factor: Tensor) -> Operand:
    return Operand(tuple(factor.shape), factor.dtype, not factor.is_contiguous() and factor.mT.is_contiguous())


def products_of(call: Callable[[], object]) -> list[Product]:
    """Return the matrix products that ``call`` makes, in order. On CUDA it must not replay a graph."""
    with _Watch() as watch:
        call()
    return watch.products


def replayed(products: Sequence[Product], device: torch.device) -> Callable[[], None]:
    """Return a function that makes the same products of other numbers, into memory allocated once."""
    prepared = []
    for left, right in products:
        factors = _random(left, device), _random(right, device)
        prepared.append((*factors, torch.empty((*left.shape[:-1], right.shape[-1]), dtype=left.dtype, device=device)))

    def multiply() -> None:
        for left, right, out in prepared:
            (torch.mm if left.ndim == 2 else torch.bmm)(left, right, out=out)

    return multiply


def _random(operand: Operand, device: torch.device) -> Tensor:
    *lead, rows, columns = operand.shape
    if operand.transposed:
        return torch.randn(*lead, columns, rows, device=device).to(operand.dtype).mT
    return torch.randn(*lead, rows, columns, device=device).to(operand.dtype)


def square_product(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], object], int]:
    """Return a large product and its operations: together they give the device's rate of arithmetic."""
    side = SIDE.get(device.type, SIDE["cpu"])
    factor = torch.randn(side, side, device=device).to(dtype)
    out = torch.empty_like(factor)
    return lambda: torch.mm(factor, factor, out=out), 2 * side**3


def copying(device: torch.device) -> tuple[Callable[[], object], int]:
    """Return a large copy within the device's memory, and the bytes it reads and writes."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * COPIED
