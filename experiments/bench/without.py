"""What each of the things that make an update fast is worth: the same update with one of them taken away.

Takes them away by putting the usual way in its place for the time of a call; times nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import Module

from cgan import layers, update
from cgan.layers import Affine
from cgan.losses import discriminator_loss, generator_loss
from cgan.trainer import Trainer
from experiments.bench import plain as bench_plain
from experiments.bench.measure import Candidate, Check, Job
from experiments.bench.products import products_of
from experiments.bench.sizes import Sizes
from experiments.bench.update import (
    TOLERANCE,
    WARM_UP,
    Place,
    distance,
    examples_of,
    facts,
    gradients,
    limits,
    plain_batches,
    repeat,
    trainer,
    weights,
    without_dropout,
)
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig


def without(place: Place, preset: str, sizes: Sizes) -> Job:
    """One update of a preset, and the same with one of its savings taken away; call by call, also on a GPU."""
    config = MNIST_PRESETS[preset]()
    count, examples = sizes.updates, examples_of(config, place)
    whole = trainer(config, examples, place, 0, use_graph=False)
    found = [Candidate("all of it", "ours", lambda: repeat(whole.step, count))]
    repeat(whole.step, WARM_UP)
    for name, taken in SAVINGS.items():
        one = trainer(config, examples, place, 0, use_graph=False)

        def call(one: Trainer = one, taken: Saving = taken, times: int = count) -> None:
            with taken(one):
                repeat(one.step, times)

        call(times=WARM_UP)
        found.append(Candidate(name, "alternative", call))
    batches = bench_plain.endless(plain_batches(whole, place))

    def loading() -> None:
        for _ in range(count):
            next(batches)
            whole.step()

    products = products_of(trainer(config, examples, place, 0, use_graph=False).step)
    found.append(Candidate("a DataLoader with per-sample transforms", "alternative", loading))
    return Job(
        path="without",
        what=f"{count} updates of {preset} on {place.dataset.name}, and with one saving taken away",
        amount=count,
        unit="updates",
        agreement=agree(config, place),
        candidates=[*found, *limits(products, weights(whole), place, count)],
        facts=facts(config, examples, place),
    )


def agree(config: MnistConfig, place: Place) -> list[Check]:
    """How far the first gradients lie from ours without each saving, nothing dropped; and both kinds of mask."""
    config = without_dropout(config)
    place = replace(place, precision="float32")
    examples = examples_of(config, place, config.training.batch_size)
    ours = trainer(config, examples, place, 0, use_graph=False)
    ours.step()
    checks = []
    for name, taken in SAVINGS.items():
        if taken is bernoulli_masks:
            continue
        one = trainer(config, examples, place, 0, use_graph=False)
        with taken(one):
            one.step()
        worst = max(distance(gradients(one, player), gradients(ours, player)) for player in ("D", "G"))
        checks.append(Check(f"relative difference of the gradient with {name}", worst, TOLERANCE["float32"]))
    shape, p = (1000, 1000), 0.5
    words = layers.fill_words(torch.empty(layers.mask_words(shape, p), dtype=torch.int64), torch.Generator())
    kept = [drawn(words, shape, p).mul(1 - p) for drawn in (layers.cut_multiplier, entry_by_entry)]
    off = max(float((mask.mean() - (1 - p)).abs()) for mask in kept)
    checks.append(Check("share kept by a million entries of either kind of mask, off 1 - p", off, 5e-3))
    return checks


@contextmanager
def second_pass(one: Trainer) -> Iterator[None]:
    """G learns from a pass through D of its own, whose gradient of D's weights is computed as well, and is in vain."""

    def run(step: update.Step, rate: Any, momentum: Any) -> None:
        G, D, settings, draws = step.G, step.D, step.settings, step.draws
        for optimiser in step.optimisers.values():
            optimiser.set_rates(rate, momentum)
        x, y = step.examples.data(draws.rows), step.examples.conditions(draws.rows)
        fake = G(draws.noise, y, layers.Masks(draws.g_words))
        real, fake_logit, _ = update.judge(D, settings, x, y, fake.detach(), y, None, layers.Masks(draws.d_words))
        d_loss = discriminator_loss(real, fake_logit, None)
        d_loss.backward()
        step.optimisers["D"].set_rates(1e-30, 1.0)  # At a rate of 0 the product would be left out.
        g_loss = generator_loss(D([fake], y, layers.Masks(draws.d_words), [0]), settings.generator_loss)
        g_loss.backward()
        for optimiser in step.optimisers.values():
            optimiser.apply()
        step.loss_sums += torch.stack([d_loss, g_loss], -1).detach()

    with patch.object(update.Step, "run", run):
        yield


@contextmanager
def written_gradients(one: Trainer) -> Iterator[None]:
    """Gradients of weights are written to memory, and the optimiser reads them afterwards."""
    written: dict[int, Tensor] = {}

    def writing(layer: Affine) -> Callable[[Tensor, Tensor], None]:
        def write(gradient: Tensor, x: Tensor) -> None:
            written[id(layer.weight)] = (gradient.to(x.dtype).mT @ x).to(gradient.dtype)
            written[id(layer.bias)] = gradient.sum(-2)

        return write

    def applying(net: Module, optimiser: Any) -> Callable[[], None]:
        def apply() -> None:
            gradients = [written[id(parameter)] for parameter in net.parameters()]
            optimiser.step(gradients, optimiser._rate, optimiser._momentum)

        return apply

    with ExitStack() as stack:
        for net, optimiser in ((one.G, one.optimisers["G"]), (one.D, one.optimisers["D"])):
            for layer in net.modules():
                if isinstance(layer, Affine):
                    stack.enter_context(patch.object(layer, "absorb", writing(layer)))
            stack.enter_context(patch.object(optimiser, "apply", applying(net, optimiser)))
        yield


def entry_by_entry(words: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    """A mask as ``cgan.layers.cut_multiplier`` cuts it, drawn from PyTorch's own stream instead of ``words``."""
    return torch.empty(shape, device=words.device).bernoulli_(1 - p).div_(1 - p)


@contextmanager
def bernoulli_masks(one: Trainer) -> Iterator[None]:
    """Dropout masks by one draw an entry, as PyTorch's own dropout has them."""
    undrawn = patch.object(update, "fill_words", lambda words, rng: words)
    with patch.object(layers, "cut_multiplier", entry_by_entry), undrawn:
        yield


@contextmanager
def plain_maxout(one: Trainer) -> Iterator[None]:
    """Maxout by PyTorch's own ``max``, dropout after it."""

    def largest(x: Tensor, pieces: int, multiplier: Tensor | None = None) -> Tensor:
        h = x.unflatten(-1, (pieces, -1)).max(-2).values
        return h if multiplier is None else h * multiplier

    with patch.object(layers, "maxout", largest):
        yield


@contextmanager
def gradient_of_data(one: Trainer) -> Iterator[None]:
    """The gradient with respect to the real images is computed, and thrown away."""
    judge = update.judge

    def judged(D: Any, settings: Any, x: Tensor, *others: Any) -> Any:
        return judge(D, settings, x.requires_grad_(), *others)

    with patch.object(update, "judge", judged):
        yield


Saving = Callable[[Trainer], AbstractContextManager[None]]

#: The usual ways, put in the place of ours one at a time.
SAVINGS: dict[str, Saving] = {
    "a second pass through D for G": second_pass,
    "weight gradients written, then applied": written_gradients,
    "dropout masks drawn entry by entry": bernoulli_masks,
    "maxout by PyTorch's max": plain_maxout,
    "a gradient for the real images": gradient_of_data,
}
