"""The limit of an update: its matrix products, replayed alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: The two factors of a matrix product, (n, k) and (k, m), or a stack of them for several seeds.
Product = tuple[Tensor, Tensor]
#: The operations that are matrix products, and where the factors stand among their arguments.
PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "baddbmm_": 1}


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


def replayed(products: Sequence[Product]) -> Callable[[], None]:
    """Return a function that makes the products again, into memory allocated once; on CUDA as one graph."""
    prepared = [(*factors, torch.matmul(*factors)) for factors in products]

    def multiply() -> None:
        for left, right, out in prepared:
            (torch.mm if left.ndim == 2 else torch.bmm)(left, right, out=out)

    if not products[0][0].is_cuda:
        return multiply
    multiply()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        multiply()
    return graph.replay
