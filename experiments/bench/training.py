"""The benchmark's paths of training: one update, its optimisations taken away, the tutorial, several seeds at once.

Each is compared with the plain loop of ``bench.plain`` on the same networks, and with its matrix products alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import cgan.fast.accumulate
import cgan.fast.masks
import cgan.fast.network
import cgan.fast.update
from cgan.batches import TrainingSet, draw_batch
from cgan.devices import Precision, seeded
from cgan.fast.accumulate import Rate
from cgan.fast.masks import MaskBuffer
from cgan.fast.seeds import SeedsTrainer
from cgan.fast.shared_pass import gradient_ratio
from cgan.fast.update import FastUpdate
from cgan.losses import discriminator_loss, generator_loss
from cgan.networks import Discriminator, Generator
from cgan.trainer import Trainer
from cgan.update import move
from data.labelled import ImageDataset
from experiments.bench import plain
from experiments.bench.measure import Candidate, Check, Job
from experiments.bench.products import copying, products_of, replayed, square_product
from experiments.bench.sizes import Sizes
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig
from experiments.mnist.sampling import from_pixels

#: How far gradients may lie from the plain loop's, relative to their length. bfloat16 keeps 8 bits of each factor;
#: through four normalised layers (tutorial) that moves G's first gradient by a tenth.
TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "bfloat16": 0.2}
#: The same for the way a seed's weights go, beside those of the seed trained alone.
SEEDS_TOLERANCE: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.1}
#: Updates before timing: libraries initialise, and on CUDA the graph is captured.
WARM_UP = 5
#: Bytes moved per weight by an update: weight and velocity, read and written.
BYTES_OF_WEIGHT = 16
#: Updates after which seeds at once are compared with the same seeds alone.
COMPARED = 3


@dataclass(frozen=True)
class Place:
    """On what the training paths run."""

    dataset: ImageDataset
    device: torch.device
    precision: Precision


def update(place: Place, preset: str, sizes: Sizes) -> Job:
    """Return the path of one update of a preset, ``sizes.updates`` at a time."""
    config = MNIST_PRESETS[preset]()
    count, data = sizes.updates, training_set(config, place)
    slow = trainer(config, data, place, 0, fast=False)
    repeat(slow.step, WARM_UP)
    found = candidates(config, data, place, count)
    found.insert(2, Candidate("cgan.update (--no-fast)", "alternative", lambda: repeat(slow.step, count)))
    return Job(
        path="update",
        what=f"{count} updates of {preset} on {place.dataset.name}, batch {config.training.batch_size}, "
        f"{place.precision} products",
        amount=count,
        unit="updates",
        agreement=[*gradients_agree(config, place), *gradients_agree(config, place, fast=False)],
        candidates=found,
        aim="at least 2 times faster (processor)",
        facts=facts(config, data, place),
    )


def tutorial(place: Place, sizes: Sizes) -> Job:
    """Return the path of an epoch of the tutorial variant, of which ``sizes.epoch_updates`` are timed."""
    config = MNIST_PRESETS["tutorial"]()
    epoch = len(place.dataset.train) // config.training.batch_size
    count, data = min(epoch, sizes.epoch_updates or epoch), training_set(config, place)
    return Job(
        path="tutorial",
        what=f"one epoch of tutorial on {place.dataset.name}, {epoch} updates, {place.precision} products",
        amount=epoch,
        unit="updates",
        agreement=gradients_agree(config, place),
        candidates=candidates(config, data, place, count, count / epoch),
        facts=facts(config, data, place),
    )


def replicas(place: Place, preset: str, seeds: int, sizes: Sizes) -> Job:
    """Return the path of ``seeds`` networks at once, beside one after the other."""
    config = MNIST_PRESETS[preset]()
    count, data = max(1, sizes.updates // 2), training_set(config, place)
    together = SeedsTrainer([trainer(config, data, place, seed) for seed in range(seeds)])
    alone = [trainer(config, data, place, seed) for seed in range(seeds)]
    single = trainer(config, data, place, 0)
    for step in (together.step, single.step, *(one.step for one in alone)):
        repeat(step, WARM_UP)
    watched = SeedsTrainer([trainer(config, data, place, seed, use_graph=False) for seed in range(seeds)])

    def one_after_the_other() -> None:
        for one in alone:
            repeat(one.step, count)

    return Job(
        path="replicas",
        what=f"{count} updates of {preset} for each of {seeds} seeds, {place.precision} products",
        amount=count * seeds,
        unit="updates",
        agreement=[seeds_agree(config, data, place, seeds)],
        candidates=[
            Candidate(f"{seeds} seeds at once", "ours", lambda: repeat(together.step, count)),
            Candidate("the seeds one after the other", "alternative", one_after_the_other),
            Candidate("one seed alone, times the seeds", "alternative", lambda: repeat(single.step, count), 1 / seeds),
            *limits(products_of(watched.step), weights(single) * seeds, place, count),
        ],
        aim="288,000 updates of 10 seeds in under 3 minutes on a GPU of H200's class: 16,000 updates a second",
        facts=facts(config, data, place),
    )


def candidates(config: MnistConfig, data: TrainingSet, place: Place, count: int, share: float = 1.0) -> list[Candidate]:
    """Return ours and the plain loop, ``count`` updates of each, and the limits."""
    ours, eager = trainer(config, data, place, 0), trainer(config, data, place, 0, use_graph=False)
    loop = plain.train(*plain_networks(eager), plain_batches(eager, place), eager.settings, place.device)
    products = products_of(eager.step)
    repeat(ours.step, WARM_UP)
    repeat(lambda: next(loop), WARM_UP)
    name = "a captured graph" if ours.use_graph else f"{place.precision} products"
    found = [
        Candidate(name, "ours", lambda: repeat(ours.step, count), share),
        Candidate(
            "plain PyTorch loop", "alternative", lambda: repeat(lambda: next(loop), count), share, "float32, eager"
        ),
    ]
    if ours.use_graph:
        repeat(eager.step, WARM_UP)
        found.append(Candidate("ours, call by call", "alternative", lambda: repeat(eager.step, count), share))
    if place.precision != "float32":
        full = trainer(config, data, replace(place, precision="float32"), 0)
        repeat(full.step, WARM_UP)
        found.append(Candidate("ours, float32 products", "alternative", lambda: repeat(full.step, count), share))
    return [*found, *limits(products, weights(ours), place, count, share)]


def limits(products: Sequence[Any], parameters: int, place: Place, updates: int, share: float = 1.0) -> list[Candidate]:
    """Return the limits of ``updates`` updates: their own products alone, or on a GPU arithmetic and bytes moved."""
    if place.device.type == "cpu":
        multiply = replayed(products, place.device)
        multiply()
        return [Candidate("its products alone", "limit", lambda: repeat(multiply, updates), share)]
    dtype = torch.bfloat16 if place.precision == "bfloat16" else torch.float32
    product, operations = square_product(dtype, place.device)
    copy, moved = copying(place.device)
    needed = updates * sum(each.operations for each in products), updates * BYTES_OF_WEIGHT * parameters
    product()
    copy()
    return [
        Candidate("its arithmetic at the rate of large products", "limit", product, share * operations / needed[0]),
        Candidate("its weights and velocities moved", "limit", copy, share * moved / needed[1]),
    ]


def facts(config: MnistConfig, data: TrainingSet, place: Place) -> dict[str, Any]:
    """Return what an update computes and holds."""
    one = trainer(config, data, place, 0, use_graph=False)
    operations = sum(product.operations for product in products_of(one.step))
    return {"gigaflop_an_update": operations / 1e9, "weights": weights(one)}


def weights(one: Trainer) -> int:
    """Return the numbers that G and D hold together."""
    return sum(parameter.numel() for parameter in [*one.G.parameters(), *one.D.parameters()])


def repeat(call: Callable[[], object], times: int) -> None:
    """Call so often."""
    for _ in range(times):
        call()


def training_set(config: MnistConfig, place: Place, count: int | None = None) -> TrainingSet:
    """Return the training images, or the first ``count``, in the range of G's output, on the device."""
    images = torch.from_numpy(place.dataset.train.images[:count])
    labels = torch.from_numpy(place.dataset.train.labels[:count]).to(place.device)
    x = from_pixels(images, config.generator.output).to(place.device)
    return TrainingSet(x, None if config.generator.condition == "none" else labels)


def trainer(
    config: MnistConfig, data: TrainingSet, place: Place, seed: int, kind: type[Trainer] = Trainer, **options: Any
) -> Trainer:
    """Return a trainer at its start, as ``experiments.mnist`` builds it."""
    return kind(
        Generator(config.generator, seeded(seed, "G"), data.x.mean(0).cpu()).to(place.device),
        Discriminator(config.discriminator, seeded(seed, "D")).to(place.device),
        data,
        config.training,
        seed=seed,
        precision=place.precision,
        **options,
    )


def plain_networks(ours: Trainer) -> tuple[plain.Generator, plain.Discriminator]:
    """Return plain modules with the weights of ours, on the same device."""
    G, D = plain.Generator(ours.G.spec).to(ours.device), plain.Discriminator(ours.D.spec).to(ours.device)
    plain.copy_weights(ours.G, G)
    plain.copy_weights(ours.D, D)
    return G, D


def plain_batches(ours: Trainer, place: Place) -> DataLoader:
    """Return the training images as tutorials load them, in batches of the size of ``ours``."""
    data = place.dataset
    images = np.rint(data.train.images * 255).astype(np.uint8).reshape(-1, *data.shape)
    digits = plain.Digits(images, data.train.labels, ours.G.spec.output == "tanh")
    return DataLoader(digits, batch_size=ours.settings.batch_size, shuffle=True, drop_last=True)


# ---- whether results agree


def gradients_agree(config: MnistConfig, place: Place, fast: bool = True) -> list[Check]:
    """Compare losses and gradients of one update without dropout with the plain networks'."""
    config, checks, update = without_dropout(config), [], "" if fast else " of cgan.update"
    for precision in dict.fromkeys(("float32", place.precision)):
        ours, reference = one_update(config, replace(place, precision=precision), fast)
        for name in ("D", "G"):
            what = f"relative difference of {name}'s gradient{update} ({precision} products) from the plain net's"
            checks.append(Check(what, distance(ours[name], reference[name]), TOLERANCE[precision]))
        off = float((ours["losses"] - reference["losses"]).abs().max())
        what = f"difference of the losses{update} ({precision} products) in nats"
        checks.append(Check(what, off, TOLERANCE[precision]))
    return checks


def one_update(config: MnistConfig, place: Place, fast: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return losses (2,), D's first, and gradients of one update: ours, and the plain networks' on the same batch."""
    data = training_set(config, place, config.training.batch_size)
    ours = trainer(config, data, place, 0, fast=fast, use_graph=False)
    G, D = plain_networks(ours)
    rng = torch.Generator(place.device)
    rng.set_state(ours.rng.get_state())
    batch = draw_batch(ours.training_set, ours.next_examples(), ours.settings, ours.G.spec, ours.D.spec, rng)
    ours.step()
    fake = G(batch.z, batch.y_fake)
    y, y_fake = cast(Tensor, batch.y), cast(Tensor, batch.y_fake)
    d_loss = plain.discriminator_loss(D, batch.x, y, fake, y_fake)
    g_loss = plain.generator_loss(D, fake, y_fake)
    reference = {
        "losses": torch.stack([d_loss, g_loss]).detach(),
        "D": torch.autograd.grad(d_loss, list(D.parameters())),
        "G": torch.autograd.grad(g_loss, list(G.parameters())),
    }
    mine = {
        "losses": ours.loss_sums,
        "D": plain.in_plain_order(gradients(ours, "D"), D),
        "G": plain.in_plain_order(gradients(ours, "G"), G),
    }
    return mine, reference


def gradients(ours: Trainer, name: str) -> list[Tensor]:
    """Return the gradients of a first update, from what it left in the optimiser."""
    settings, state = ours.settings, ours.optimisers[name].state
    parameters = (ours.G if name == "G" else ours.D).parameters()
    if settings.optimiser == "adam":
        return [state[parameter]["exp_avg"] / (1 - settings.adam_beta1) for parameter in parameters]
    return [state[parameter]["velocity"] / -settings.learning_rate for parameter in parameters]


def distance(found: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Return the length of the difference of two lists of tensors, relative to the reference's length."""
    difference = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(found, reference, strict=True))
    return float(np.sqrt(difference / sum(float(b.double().square().sum()) for b in reference)))


def without_dropout(config: MnistConfig) -> MnistConfig:
    """Return the same settings with nothing dropped."""

    def undropped(spec: Any) -> Any:
        branches = {
            name: tuple(replace(layer, dropout=0.0) for layer in getattr(spec, name))
            for name in ("input_branch", "condition_branch", "joint")
        }
        return replace(spec, input_dropout=0.0, condition_dropout=0.0, **branches)

    return replace(config, generator=undropped(config.generator), discriminator=undropped(config.discriminator))


def seeds_agree(config: MnistConfig, data: TrainingSet, place: Place, seeds: int) -> Check:
    """Compare the way of each seed's weights, trained at once, with that of the seed trained alone."""
    together = [trainer(config, data, place, seed) for seed in range(seeds)]
    starts = [held(one) for one in together]
    repeat(SeedsTrainer(together).step, COMPARED)
    worst = 0.0
    for seed, (one, start) in enumerate(zip(together, starts, strict=True)):
        alone = trainer(config, data, place, seed)
        repeat(alone.step, COMPARED)
        ways = [[end - begin for end, begin in zip(held(each), start, strict=True)] for each in (one, alone)]
        worst = max(worst, distance(*ways))
    what = f"relative difference of the weights' way over {COMPARED} updates, at once and alone, of the worst seed"
    return Check(what, worst, SEEDS_TOLERANCE[place.precision])


def held(one: Trainer) -> list[Tensor]:
    """Return copies of G's and D's weights."""
    return [parameter.detach().clone() for parameter in [*one.G.parameters(), *one.D.parameters()]]


# ---- the ablation of each optimisation


class SecondPass(FastUpdate):
    """G learns from a pass through D of its own, whose gradient for D's weights is computed in vain."""

    def _run(self, lr: Rate, momentum: Rate) -> None:
        fake, y_fake, d_loss, _, _ = self._forward(lr, momentum)
        d_loss.backward()
        self.accumulators[1].set_rates(1e-30, 1.0)  # At a rate of 0 the product would be left out.
        logit = self.D(fake, y_fake, masks=MaskBuffer(self.buffers.d_words).take)
        g_loss = generator_loss(logit, self.settings.generator_loss)
        g_loss.backward()
        self._finish(d_loss, g_loss)

    def _forward(self, lr: Rate, momentum: Rate) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
        """Return generated rows, their conditions, D's loss, the leaf that its backward pass ends at, its logits."""
        for accumulator in self.accumulators:
            accumulator.set_rates(lr, momentum)
        x = self.training_set.data(self.buffers.examples)
        y = self.training_set.conditions(self.buffers.examples)
        fake = self.G(self.buffers.noise, y, masks=MaskBuffer(self.buffers.g_words).take)
        leaf = fake.detach().requires_grad_()
        real_logit, fake_logit, _ = self._discriminate(x, y, leaf, y)
        return fake, y, discriminator_loss(real_logit, fake_logit), leaf, fake_logit

    def _finish(self, d_loss: Tensor, g_loss: Tensor) -> None:
        for accumulator in self.accumulators:
            accumulator.move()
        self.loss_sums += torch.stack([d_loss, g_loss]).detach()


class WrittenGradients(SecondPass):
    """Weight gradients are written to memory, and the optimiser reads them afterwards."""

    optimisers: tuple[Any, Any]

    def __init__(self, G: Any, D: Any, g_optimiser: Any, d_optimiser: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(G, D, g_optimiser, d_optimiser, *arguments, **options)
        self.optimisers = g_optimiser, d_optimiser
        self.G.accumulator = self.D.accumulator = None

    def _run(self, lr: Rate, momentum: Rate) -> None:
        fake, _, d_loss, leaf, fake_logit = self._forward(lr, momentum)
        loss = self.settings.generator_loss
        *d_gradients, to_fake = torch.autograd.grad(d_loss, [*self.D.parameters(), leaf])
        to_fake = to_fake * gradient_ratio(fake_logit, loss).unsqueeze(-1)
        g_gradients = torch.autograd.grad(fake, list(self.G.parameters()), to_fake)
        for network, optimiser, gradients in zip(
            (self.G.network, self.D.network), self.optimisers, (g_gradients, tuple(d_gradients)), strict=True
        ):
            for group in optimiser.param_groups:
                group["lr"], group["momentum"] = lr, momentum
            move(network, optimiser, gradients)
        self.loss_sums += torch.stack([d_loss, generator_loss(fake_logit, loss)]).detach()


class SecondPassTrainer(Trainer):
    """Trains by ``SecondPass``."""

    update_class = SecondPass


class WrittenGradientsTrainer(Trainer):
    """Trains by ``WrittenGradients``."""

    update_class = WrittenGradients


def bernoulli_mask(words: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """Return a mask as ``cgan.fast.masks.cut_mask`` does, drawn entry by entry from PyTorch's own stream."""
    return torch.empty(tuple(shape), device=words.device).bernoulli_(1 - p).div_(1 - p)


def plain_maxout(x: Tensor, pieces: int, mask: Tensor | None = None) -> Tensor:
    """Return maxout by PyTorch's own ``max``, dropout after it."""
    h = x.unflatten(-1, (pieces, -1)).max(-2).values
    return h if mask is None else h * mask


def plain_relu(x: Tensor, mask: Tensor) -> Tensor:
    """Return dropped ReLU by PyTorch's own functions."""
    return x.relu() * mask


def all_rows(x: Tensor, layer: Any, accumulator: Any, rows: slice, weight: Tensor) -> Tensor:
    """Return a linear layer that gives every row a gradient, the real images' too."""
    return cgan.fast.accumulate.accumulating_linear(x, layer, accumulator, slice(None), weight)


#: Each optimisation: the trainer class without it, or what replaces it (object, attribute, replacement).
ABLATIONS: dict[str, tuple[type[Trainer], list[tuple[Any, str, Any]]]] = {
    "a second pass through D for G": (SecondPassTrainer, []),
    "weight gradients written, then applied": (WrittenGradientsTrainer, []),
    "dropout masks drawn entry by entry": (
        Trainer,
        [
            (cgan.fast.masks, "cut_mask", bernoulli_mask),
            (cgan.fast.update, "fill_bits_", lambda words, generator: words),
        ],
    ),
    "maxout and ReLU by PyTorch's own functions": (
        Trainer,
        [(cgan.fast.network, "maxout", plain_maxout), (cgan.fast.network, "dropped_relu", plain_relu)],
    ),
    "a gradient for the real images": (Trainer, [(cgan.fast.network, "accumulating_linear", all_rows)]),
}


def without(place: Place, preset: str, sizes: Sizes) -> Job:
    """Return the path of one update with one of its optimisations taken away; call by call, also on a GPU."""
    config = MNIST_PRESETS[preset]()
    count, data = sizes.updates, training_set(config, place)
    whole = trainer(config, data, place, 0, use_graph=False)
    repeat(whole.step, WARM_UP)
    found = [Candidate("all of it", "ours", lambda: repeat(whole.step, count))]
    for name in ABLATIONS:
        step = ablated(name, config, data, place)
        step(WARM_UP)
        found.append(Candidate(name, "alternative", partial(step, count)))
    batches = plain.endless(plain_batches(whole, place))

    def loading() -> None:
        for _ in range(count):
            next(batches)
            whole.step()

    products = products_of(trainer(config, data, place, 0, use_graph=False).step)
    found.append(Candidate("a DataLoader with per-sample transforms", "alternative", loading))
    return Job(
        path="without",
        what=f"{count} updates of {preset} on {place.dataset.name}, and without one optimisation",
        amount=count,
        unit="updates",
        agreement=ablations_agree(config, place),
        candidates=[*found, *limits(products, weights(whole), place, count)],
        facts=facts(config, data, place),
    )


def ablated(name: str, config: MnistConfig, data: TrainingSet, place: Place) -> Callable[[int], None]:
    """Return a function that makes so many updates without the optimisation ``name``; ``.trainer`` is its trainer."""
    kind, patches = ABLATIONS[name]
    one = trainer(config, data, place, 0, kind, use_graph=False)

    def step(times: int) -> None:
        with ExitStack() as stack:
            for place_of, attribute, replacement in patches:
                stack.enter_context(patch.object(place_of, attribute, replacement))
            repeat(one.step, times)

    step.trainer = one  # type: ignore[attr-defined]
    return step


def ablations_agree(config: MnistConfig, place: Place) -> list[Check]:
    """Compare first gradients without each optimisation with ours, nothing dropped; and both kinds of mask."""
    config, place = without_dropout(config), replace(place, precision="float32")
    data = training_set(config, place, config.training.batch_size)
    ours = trainer(config, data, place, 0, use_graph=False)
    ours.step()
    checks = []
    for name in ABLATIONS:
        step = ablated(name, config, data, place)
        step(1)
        worst = max(distance(gradients(step.trainer, name), gradients(ours, name)) for name in ("D", "G"))  # type: ignore[attr-defined]
        checks.append(Check(f"relative difference of the gradient with {name}", worst, TOLERANCE["float32"]))
    shape, p = (1000, 1000), 0.5
    words = torch.empty(cgan.fast.masks.word_count(shape, p), dtype=torch.int64)
    words = cgan.fast.masks.fill_bits_(words, torch.Generator())
    off = max(
        float((mask(words, shape, p).mul(1 - p).mean() - (1 - p)).abs())
        for mask in (cgan.fast.masks.cut_mask, bernoulli_mask)
    )
    checks.append(Check("share kept by a million entries of either kind of mask, off 1 - p", off, 5e-3))
    return checks
