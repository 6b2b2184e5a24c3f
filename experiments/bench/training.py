"""Benchmark training: one update of ``paper``, an epoch of ``tutorial``, several seeds at once.

Each is compared with the plain loop of ``bench.plain`` on the same networks, and with its matrix products alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from cgan.fast.seeds import SeedsTrainer
from cgan.trainer import Trainer
from experiments.bench import plain
from experiments.bench.measure import Candidate, Context, Job
from experiments.mnist.__main__ import build
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig

#: Updates before timing: libraries initialise, and on CUDA the graph is captured.
WARM_UP = 5
#: The operations that are matrix products, and where the factors stand among their arguments.
PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "baddbmm_": 1}
#: The two factors of a matrix product, (n, k) and (k, m), or a stack of them for several seeds.
Product = tuple[Tensor, Tensor]


def update(context: Context) -> Job:
    """Benchmark updates of preset ``paper``."""
    count = updates_of(context)
    return beside_plain(context, MNIST_PRESETS["paper"](), f"{count} updates of paper", count, count)


def tutorial(context: Context) -> Job:
    """Benchmark an epoch of the tutorial variant, of which some updates are timed."""
    config = MNIST_PRESETS["tutorial"]()
    epoch = len(context.digits.train) // config.training.batch_size
    what = f"one epoch of tutorial, {epoch} updates"
    return beside_plain(context, config, what, min(epoch, updates_of(context)), epoch)


def replicas(context: Context) -> Job:
    """Benchmark several seeds at once beside one after the other."""
    config, seeds, count = MNIST_PRESETS["paper"](), context.size(10, 2), max(1, updates_of(context) // 2)
    together, alone = trainers(context, config, seeds), trainers(context, config, seeds)
    at_once, one_by_one = repeated(SeedsTrainer(together).step, count), [repeated(one.step, count) for one in alone]
    what = f"{count} updates of paper for each of {seeds} seeds, {context.precision} products"
    candidates = [
        Candidate("ours", f"{seeds} seeds at once", at_once),
        Candidate("alternative", "the seeds one after the other", lambda: [train() for train in one_by_one]),
        products_alone(SeedsTrainer(trainers(context, config, seeds, graph=False)).step, count),
    ]
    return Job(what, count * seeds, "updates", candidates)


def updates_of(context: Context) -> int:
    """Return how many updates are timed in one go."""
    return context.size(500 if context.device.type == "cuda" else 50, 2)


def beside_plain(context: Context, config: MnistConfig, what: str, count: int, amount: int) -> Job:
    """Benchmark ``count`` of ``amount`` updates beside those of the plain update and of the plain loop."""
    (ours,), (eager,) = trainers(context, config), trainers(context, config, graph=False)
    (no_fast,) = build(config, [0], context.digits, context.device, context.precision, fast=False)
    digits = plain.Digits(context.digits, centred=config.generator.output == "tanh")
    loader = DataLoader(digits, batch_size=config.training.batch_size, shuffle=True, drop_last=True)
    loop, share = plain.train(*plain.networks(eager), loader, eager.settings, context.device), count / amount
    candidates = [
        Candidate("ours", "the fast update", repeated(ours.step, count), share),
        Candidate("alternative", "plain PyTorch loop, float32", repeated(lambda: next(loop), count), share),
        Candidate("alternative", "the plain update (--no-fast)", repeated(no_fast.step, count), share),
        products_alone(eager.step, count, share),
    ]
    return Job(f"{what} on {context.digits.name}, {context.precision} products", amount, "updates", candidates)


def trainers(context: Context, config: MnistConfig, seeds: int = 1, graph: bool = True) -> list[Trainer]:
    """Return trainers of the first ``seeds`` seeds at their start; ``graph`` captures updates on CUDA."""
    made = build(config, range(seeds), context.digits, context.device, context.precision)
    for trainer in made:
        trainer.use_graph &= graph
    return made


def repeated(step: Callable[[], object], count: int) -> Callable[[], None]:
    """Return a function that makes ``count`` updates, after a few now."""

    def make(times: int = count) -> None:
        for _ in range(times):
            step()

    make(WARM_UP)
    return make


def products_alone(step: Callable[[], object], count: int, share: float = 1.0) -> Candidate:
    """Return the limit: the matrix products of ``count`` updates, made again without anything else."""
    return Candidate("limit", "its products alone", repeated(replayed(products_of(step)), count), share)


def products_of(call: Callable[[], object]) -> list[Product]:
    """Return the matrix products that ``call`` makes, backward passes included. On CUDA it must not replay a graph."""
    products: list[Product] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            first = PRODUCTS.get(func.overloadpacket.__name__)
            if first is not None:
                products.append((args[first].detach(), args[first + 1].detach()))
            return func(*args, **(kwargs or {}))

    with Recorder():
        call()
    return products


def replayed(products: list[Product]) -> Callable[[], None]:
    """Return a function that makes the products again, into memory allocated once; on CUDA as one graph."""
    prepared = [(*factors, torch.matmul(*factors)) for factors in products]

    def multiply() -> None:
        for left, right, out in prepared:
            torch.matmul(left, right, out=out)

    if not products[0][0].is_cuda:
        return multiply
    multiply()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        multiply()
    return graph.replay
