"""Benchmark training: one update, the ablation of each optimisation, the tutorial's epoch, several seeds at once.

Each is compared with the plain loop of ``bench.plain`` on the same networks, and with its matrix products alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

import cgan.fast.masks
import cgan.fast.network
import cgan.fast.update
from cgan.batches import draw_batch
from cgan.devices import Precision
from cgan.fast.accumulate import Accumulator, Rate, accumulating_linear
from cgan.fast.masks import MaskBuffer
from cgan.fast.seeds import SeedsTrainer
from cgan.fast.update import FastBatch, FastUpdate
from cgan.losses import discriminator_loss, generator_loss
from cgan.trainer import Trainer
from data.labelled import ImageDataset
from experiments.bench import plain
from experiments.bench.measure import Candidate, Check, Context, Job
from experiments.mnist.__main__ import build
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig

#: How far gradients may lie from the plain loop's, relative to their length. bfloat16 keeps 8 bits of each factor;
#: through four normalised layers (tutorial) that moves G's first gradient by a tenth.
TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "bfloat16": 0.2}
#: Updates before timing: libraries initialise, and on CUDA the graph is captured.
WARM_UP = 5


@dataclass(frozen=True)
class Setup:
    """A preset, the images it is trained on, and where and in which precision."""

    config: MnistConfig
    dataset: ImageDataset
    device: torch.device
    precision: Precision

    def trainers(self, seeds: int = 1, graph: bool = True) -> list[Trainer]:
        """Return trainers of the first ``seeds`` seeds at their start; ``graph`` captures updates on CUDA."""
        made = build(self.config, range(seeds), self.dataset, self.device, self.precision)
        for trainer in made:
            trainer.use_graph &= graph
        return made

    def undropped(self) -> Setup:
        """Return the same with nothing dropped, so that gradients can be compared."""

        def undropped(spec: Any) -> Any:
            names = ("input_branch", "condition_branch", "joint")
            branches = {name: tuple(replace(layer, dropout=0.0) for layer in getattr(spec, name)) for name in names}
            return replace(spec, input_dropout=0.0, condition_dropout=0.0, **branches)

        nets = {name: undropped(getattr(self.config, name)) for name in ("generator", "discriminator")}
        return replace(self, config=replace(self.config, **nets))


def setup_of(context: Context, preset: str) -> Setup:
    """Return the setup of a preset."""
    return Setup(MNIST_PRESETS[preset](), context.digits, context.device, context.precision)


def update(context: Context) -> Job:
    """Benchmark one update of preset ``paper``, ``sizes.updates`` at a time."""
    setup, count = setup_of(context, "paper"), context.sizes.updates
    return beside_plain("update", f"{count} updates of paper on {setup.dataset.name}", setup, count, count)


def tutorial(context: Context) -> Job:
    """Benchmark an epoch of the tutorial variant, of which ``sizes.updates`` are timed."""
    setup = setup_of(context, "tutorial")
    epoch = len(setup.dataset.train) // setup.config.training.batch_size
    what = f"one epoch of tutorial on {setup.dataset.name}, {epoch} updates"
    return beside_plain("tutorial", what, setup, min(epoch, context.sizes.updates), epoch)


def beside_plain(path: str, what: str, setup: Setup, count: int, amount: int) -> Job:
    """Benchmark ``count`` of ``amount`` updates beside those of the plain loop."""
    share, (ours,), (eager,) = count / amount, setup.trainers(), setup.trainers(graph=False)
    loop = plain.train(*plain.networks(eager), plain_batches(setup), eager.settings, setup.device)
    return Job(
        path=path,
        what=f"{what}, {setup.precision} products",
        amount=amount,
        unit="updates",
        agreement=gradients_agree(setup),
        ours=Candidate("the fast update", updates(ours.step, count), share),
        alternatives=[Candidate("plain PyTorch loop, float32", updates(lambda: next(loop), count), share)],
        limits=[products_alone(eager.step, count, share)],
    )


def replicas(context: Context) -> Job:
    """Benchmark several seeds at once beside one after the other."""
    setup, seeds, count = setup_of(context, "paper"), context.seeds, max(1, context.sizes.updates // 2)
    together, alone = setup.trainers(seeds), setup.trainers(seeds)
    at_once, one_by_one = updates(SeedsTrainer(together).step, count), [updates(one.step, count) for one in alone]
    off = max(distance(a.G.parameters(), b.G.parameters()) for a, b in zip(together, alone, strict=True))
    what = f"relative difference of G's weights after {WARM_UP} updates, at once and alone, of the worst seed"
    return Job(
        path="replicas",
        what=f"{count} updates of paper for each of {seeds} seeds, {setup.precision} products",
        amount=count * seeds,
        unit="updates",
        agreement=[Check(what, off, TOLERANCE[setup.precision])],
        ours=Candidate(f"{seeds} seeds at once", at_once),
        alternatives=[Candidate("the seeds one after the other", lambda: [train() for train in one_by_one])],
        limits=[products_alone(SeedsTrainer(setup.trainers(seeds, graph=False)).step, count)],
    )


def updates(step: Callable[[], object], count: int) -> Callable[[], None]:
    """Return a function that makes ``count`` updates, after a few now."""

    def make(times: int = count) -> None:
        for _ in range(times):
            step()

    make(WARM_UP)
    return make


# ---- the limit: matrix products alone

#: The two factors of a matrix product, (n, k) and (k, m), or a stack of them for several seeds.
Product = tuple[Tensor, Tensor]
#: The operations that are matrix products, and where the factors stand among their arguments.
PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "baddbmm_": 1}


class ProductRecorder(TorchDispatchMode):
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
    with ProductRecorder() as recorder:
        call()
    return recorder.products


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


def products_alone(step: Callable[[], object], count: int, share: float = 1.0) -> Candidate:
    """Return the matrix products of ``count`` updates, made again without anything else."""
    return Candidate("its products alone", updates(replayed(products_of(step)), count), share)


# ---- whether results agree


def plain_batches(setup: Setup) -> DataLoader:
    """Return the training images as tutorials load them."""
    digits = plain.Digits(setup.dataset, centred=setup.config.generator.output == "tanh")
    return DataLoader(digits, batch_size=setup.config.training.batch_size, shuffle=True, drop_last=True)


def gradients_agree(setup: Setup) -> list[Check]:
    """Compare losses and gradients of one update without dropout with the plain networks'."""
    (ours,) = setup.undropped().trainers(graph=False)
    G, D = plain.networks(ours)
    rng = torch.Generator(ours.device)
    rng.set_state(ours.rng.get_state())
    batch = draw_batch(ours.training_set, ours.next_examples(), ours.settings, ours.G.spec, ours.D.spec, rng)
    y, y_fake = cast(Tensor, batch.y), cast(Tensor, batch.y_fake)
    fake = G(batch.z, y_fake)
    losses = {"D": plain.discriminator_loss(D, batch.x, y, fake, y_fake), "G": plain.generator_loss(D, fake, y_fake)}
    ours.step()
    checks = []
    for name, net in (("D", D), ("G", G)):
        own = torch.autograd.grad(losses[name], list(net.parameters()), retain_graph=True)
        what = f"relative difference of {name}'s gradient from the plain net's"
        checks.append(Check(what, distance(gradients(ours, name), own), TOLERANCE[setup.precision]))
    off = float((ours.loss_sums - torch.stack([*losses.values()]).detach()).abs().max())
    return [*checks, Check("difference of the losses in nats", off, TOLERANCE[setup.precision])]


def gradients(ours: Trainer, name: str) -> list[Tensor]:
    """Return the gradients of a first update, from what it left in the optimiser."""
    settings, state = ours.settings, ours.optimisers[name].state
    own = (ours.G if name == "G" else ours.D).parameters()
    if settings.optimiser == "adam":
        return [state[parameter]["exp_avg"] / (1 - settings.adam_beta1) for parameter in own]
    return [state[parameter]["velocity"] / -settings.learning_rate for parameter in own]


def distance(found: Iterable[Tensor], reference: Iterable[Tensor]) -> float:
    """Return the length of the difference of two lists of tensors, relative to the reference's length."""
    a, b = (torch.cat([tensor.detach().double().flatten() for tensor in each]) for each in (found, reference))
    return float((a - b).norm() / b.norm())


# ---- the ablation of each optimisation


def second_pass(self: FastUpdate, batch: FastBatch, lr: Rate, momentum: Rate) -> None:
    """Update G by a pass through D of its own, whose gradient for D's weights is computed in vain."""
    for accumulator in self.accumulators:
        accumulator.set_rates(lr, momentum)
    fake = self.G(batch.z, batch.y, masks=MaskBuffer(batch.g_bits).take)
    real_logit, fake_logit, _ = self._discriminate(batch, fake.detach().requires_grad_())
    d_loss = discriminator_loss(real_logit, fake_logit)
    d_loss.backward()
    self.accumulators[1].set_rates(1e-30, 1.0)  # At a rate of 0 the product would be left out.
    logit = self.D(fake, batch.y, masks=MaskBuffer(batch.d_bits).take)
    g_loss = generator_loss(logit, self.settings.generator_loss)
    g_loss.backward()
    for accumulator in self.accumulators:
        accumulator.move()
    self.loss_sums += torch.stack([d_loss, g_loss]).detach()


def write_gradient(self: Accumulator, layer: Any, gradient: Tensor, x: Tensor) -> None:
    """Write a layer's gradients to memory instead of adding them to its velocities."""
    layer.weight.grad, layer.bias.grad = (gradient.to(x.dtype).mT @ x).to(gradient.dtype), gradient.sum(-2)


def apply_gradients(self: Accumulator) -> None:
    """Read the gradients that ``write_gradient`` left, and move velocities and weights."""
    lr, momentum = self._rates
    written = [parameter.grad for layer in self._of_layer for parameter in (layer.weight, layer.bias)]
    velocities = [velocity for pair in self._of_layer.values() for velocity in pair]
    torch._foreach_mul_(velocities, momentum)
    torch._foreach_add_(velocities, written, alpha=-lr)  # type: ignore[arg-type]
    torch._foreach_add_(self.parameters, self.velocities)


def bernoulli_mask(words: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    """Return a mask as ``cgan.fast.masks.cut_mask`` does, drawn entry by entry from PyTorch's own stream."""
    return torch.empty(tuple(shape), device=words.device).bernoulli_(1 - p).div_(1 - p)


def plain_maxout(x: Tensor, pieces: int, mask: Tensor | None = None) -> Tensor:
    """Return maxout by PyTorch's own ``max``, dropout after it."""
    h = x.unflatten(-1, (pieces, -1)).max(-2).values
    return h if mask is None else h * mask


def all_rows(x: Tensor, layer: Any, accumulator: Any, rows: slice, weight: Tensor) -> Tensor:
    """Return a linear layer that gives every row a gradient, the real images' too."""
    return accumulating_linear(x, layer, accumulator, slice(None), weight)


#: What replaces each optimisation: (object, attribute, replacement).
ABLATIONS: dict[str, list[tuple[Any, str, Any]]] = {
    "a second pass through D for G": [(FastUpdate, "_run", second_pass)],
    "weight gradients written, then applied": [
        (Accumulator, "add", write_gradient),
        (Accumulator, "move", apply_gradients),
    ],
    "dropout masks drawn entry by entry": [
        (cgan.fast.masks, "cut_mask", bernoulli_mask),
        (cgan.fast.update, "fill_bits_", lambda words, generator: words),
    ],
    "maxout and ReLU by PyTorch's own functions": [
        (cgan.fast.network, "maxout", plain_maxout),
        (cgan.fast.network, "dropped_relu", lambda x, mask: x.relu() * mask),
    ],
    "a gradient for the real images": [(cgan.fast.network, "accumulating_linear", all_rows)],
}


@contextmanager
def without_one(name: str) -> Iterator[None]:
    """Replace the optimisation ``name``; a trainer must make all its updates within."""
    with ExitStack() as stack:
        for target, attribute, replacement in ABLATIONS[name]:
            stack.enter_context(patch.object(target, attribute, replacement))
        yield


def without(context: Context) -> Job:
    """Benchmark one update with one of its optimisations taken away; call by call, also on a GPU.

    Compared are the first gradients of a trainer without dropout.
    """
    setup, count = setup_of(context, "paper"), context.sizes.updates
    undropped = replace(setup.undropped(), precision="float32")
    (whole,), (reference,) = setup.trainers(graph=False), undropped.trainers(graph=False)
    reference.step()
    batches = plain.endless(plain_batches(setup))

    def load_and_step() -> None:
        next(batches)
        whole.step()

    def make_without(name: str, make: Callable[[], None]) -> None:
        with without_one(name):
            make()

    checks, alternatives = [], []
    for name in ABLATIONS:
        with without_one(name):
            (trainer,) = undropped.trainers(graph=False)
            trainer.step()
            make = updates(setup.trainers(graph=False)[0].step, count)
        worst = max(distance(gradients(trainer, net), gradients(reference, net)) for net in ("D", "G"))
        checks.append(Check(f"relative difference of the gradient with {name}", worst, TOLERANCE["float32"]))
        alternatives.append(Candidate(name, partial(make_without, name, make)))
    alternatives.append(Candidate("a DataLoader with per-sample transforms", updates(load_and_step, count)))
    return Job(
        path="without",
        what=f"{count} updates of paper on {setup.dataset.name}, and without one optimisation",
        amount=count,
        unit="updates",
        agreement=checks,
        ours=Candidate("all of it", updates(whole.step, count)),
        alternatives=alternatives,
        limits=[products_alone(whole.step, count)],
    )
