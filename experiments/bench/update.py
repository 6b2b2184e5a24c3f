"""The benchmark's paths of training: one update, an epoch of the tutorial variant, several seeds at once.

Each is compared with a plain PyTorch loop (``experiments.bench_plain``) of the same nets, and with its own products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cgan.batches import Examples
from cgan.devices import Precision, seeded
from cgan.fast.seeds import ReplicaTrainer
from cgan.networks import Discriminator, Generator, draw_noise
from cgan.trainer import Trainer
from data.labelled import ImageDataset
from experiments.bench import plain as bench_plain
from experiments.bench.measure import Candidate, Check, Job
from experiments.bench.products import copying, products_of, replayed, square_product
from experiments.bench.sizes import Sizes
from experiments.mnist.presets import MNIST_PRESETS, MnistConfig
from experiments.mnist.sampling import from_pixels

#: How far gradients may lie from the plain loop's, as a part of their length. bfloat16 keeps 8 bits of each factor;
#: through four normalised layers (tutorial) that moves G's first gradient by a tenth.
TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "bfloat16": 0.2}

#: The same of the way that a replica's weights go, beside those of the net trained alone.
REPLICAS_TOLERANCE: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.1}

#: Updates before timing: libraries set themselves up, and on CUDA the graph is captured.
WARM_UP = 5

#: Bytes moved for each weight, by an update that nothing is kept in caches of: weight and velocity, read and written.
BYTES_OF_WEIGHT = 16

#: Updates after which replicas are compared with the same nets alone.
COMPARED = 3


@dataclass(frozen=True)
class Place:
    """On what the training paths run."""

    dataset: ImageDataset
    device: torch.device
    precision: Precision


def update(place: Place, preset: str, sizes: Sizes) -> Job:
    """One update of a preset, ``sizes.updates`` at a time."""
    config = MNIST_PRESETS[preset]()
    count, examples = sizes.updates, examples_of(config, place)
    return Job(
        path="update",
        what=f"{count} updates of {preset} on {place.dataset.name}, batch {config.training.batch_size}, "
        f"{place.precision} products",
        amount=count,
        unit="updates",
        agreement=gradients_agree(config, place),
        candidates=candidates(config, examples, place, count),
        aim="at least 4 times faster, within 2 times the products alone (processor)",
        facts=facts(config, examples, place),
    )


def tutorial(place: Place, sizes: Sizes) -> Job:
    """An epoch of the tutorial variant, or the first ``sizes.epoch_updates`` of it."""
    config = MNIST_PRESETS["tutorial"]()
    epoch = len(place.dataset.train) // config.training.batch_size
    count, examples = min(epoch, sizes.epoch_updates or epoch), examples_of(config, place)
    return Job(
        path="tutorial",
        what=f"one epoch of tutorial on {place.dataset.name}, {epoch} updates, {place.precision} products",
        amount=epoch,
        unit="updates",
        agreement=gradients_agree(config, place),
        candidates=candidates(config, examples, place, count, count / epoch),
        aim="at least 3 times faster (processor)",
        facts=facts(config, examples, place),
    )


def replicas(place: Place, preset: str, seeds: int, sizes: Sizes) -> Job:
    """``seeds`` nets at once, beside one after the other, and beside one alone."""
    config = MNIST_PRESETS[preset]()
    count = max(1, sizes.updates // 2)
    examples = examples_of(config, place)
    together = ReplicaTrainer([trainer(config, examples, place, seed) for seed in range(seeds)])
    alone = [trainer(config, examples, place, seed) for seed in range(seeds)]
    single = trainer(config, examples, place, 0)
    for step in (together.step, single.step, *(one.step for one in alone)):
        repeat(step, WARM_UP)
    watched = ReplicaTrainer([trainer(config, examples, place, seed, use_graph=False) for seed in range(seeds)])
    products = products_of(watched.step)

    def one_after_the_other() -> None:
        for one in alone:
            repeat(one.step, count)

    return Job(
        path="replicas",
        what=f"{count} updates of {preset} for each of {seeds} seeds, {place.precision} products",
        amount=count * seeds,
        unit="updates",
        agreement=[replicas_agree(config, examples, place, seeds)],
        candidates=[
            Candidate(f"{seeds} seeds at once", "ours", lambda: repeat(together.step, count)),
            Candidate("the seeds one after the other", "alternative", one_after_the_other),
            Candidate("one seed alone, times the seeds", "alternative", lambda: repeat(single.step, count), 1 / seeds),
            *limits(products, weights(single) * seeds, place, count),
        ],
        aim="288,000 updates of 10 seeds in under 3 minutes on a GPU of H200's class: 16,000 updates a second",
        facts=facts(config, examples, place),
    )


def candidates(
    config: MnistConfig, examples: Examples, place: Place, count: int, share: float = 1.0
) -> list[Candidate]:
    """Ours and the plain loop, ``count`` updates of each, and the limits."""
    ours = trainer(config, examples, place, 0)
    eager = trainer(config, examples, place, 0, use_graph=False)
    loop = plain_loop(eager, place)
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
        full = trainer(config, examples, replace(place, precision="float32"), 0)
        repeat(full.step, WARM_UP)
        found.append(Candidate("ours, float32 products", "alternative", lambda: repeat(full.step, count), share))
    return [*found, *limits(products, weights(ours), place, count, share)]


def limits(products: Sequence[Any], parameters: int, place: Place, updates: int, share: float = 1.0) -> list[Candidate]:
    """On a processor the update's own products alone; elsewhere the floors of arithmetic and of bytes.

    Of ``updates`` updates, which are ``share`` of the row's work.
    """
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


def facts(config: MnistConfig, examples: Examples, place: Place) -> dict[str, Any]:
    """What an update computes and holds."""
    one = trainer(config, examples, place, 0, use_graph=False)
    operations = sum(product.operations for product in products_of(one.step))
    return {"gigaflop_an_update": operations / 1e9, "weights": weights(one)}


def weights(one: Trainer) -> int:
    """Numbers that G and D hold together."""
    return sum(parameter.numel() for parameter in [*one.G.parameters(), *one.D.parameters()])


def repeat(call: Callable[[], object], times: int) -> None:
    """Call so often."""
    for _ in range(times):
        call()


def examples_of(config: MnistConfig, place: Place, count: int | None = None) -> Examples:
    """The training images, or the first ``count``, in the range of G's output, on the device."""
    images = torch.from_numpy(place.dataset.train.images[:count])
    labels = torch.from_numpy(place.dataset.train.labels[:count]).to(place.device)
    x = from_pixels(images, config.generator.output).to(place.device)
    return Examples(x, None if config.generator.condition == "none" else labels)


def trainer(config: MnistConfig, examples: Examples, place: Place, seed: int, use_graph: bool | None = None) -> Trainer:
    """A net at its start, as ``experiments.mnist`` builds it."""
    return Trainer(
        Generator(config.generator, seeded(seed, "G"), examples.x.mean(0).cpu()).to(place.device),
        Discriminator(config.discriminator, seeded(seed, "D")).to(place.device),
        examples,
        config.training,
        seed=seed,
        precision=place.precision,
        use_graph=use_graph,
    )


def plain_nets(ours: Trainer) -> tuple[bench_plain.Generator, bench_plain.Discriminator]:
    """Plain modules with the weights of ours, on the same device."""
    G, D = bench_plain.Generator(ours.G.spec), bench_plain.Discriminator(ours.D.spec)
    for mine, plain in ((ours.G, G), (ours.D, D)):
        plain.to(ours.device)
        bench_plain.copy_weights(mine, plain)
    return G, D


def plain_loop(ours: Trainer, place: Place) -> Iterator[tuple[float, float]]:
    """The plain loop of the game of ``ours``, from its weights: an update at each ``next``."""
    return bench_plain.play(*plain_nets(ours), plain_batches(ours, place), ours.settings, place.device)


def plain_batches(ours: Trainer, place: Place) -> DataLoader:
    """The training images as tutorials load them, in batches of the size of ``ours``."""
    data = place.dataset
    images = np.rint(data.train.images * 255).astype(np.uint8).reshape(-1, *data.shape)
    digits = bench_plain.Digits(images, data.train.labels, ours.G.spec.output == "tanh")
    return DataLoader(digits, batch_size=ours.settings.batch_size, shuffle=True, drop_last=True)


# ---------------------------------------------------------------------------------------------------------------------
# Whether the results agree


def gradients_agree(config: MnistConfig, place: Place) -> list[Check]:
    """Both losses and all gradients of one update without dropout, ours in either precision and the plain nets'."""
    config = without_dropout(config)
    checks = []
    for precision in dict.fromkeys(("float32", place.precision)):
        ours, plain = one_update(config, replace(place, precision=precision))
        for player in ("D", "G"):
            checks.append(
                Check(
                    f"relative difference of {player}'s gradient ({precision} products) from the plain net's",
                    distance(ours[player], plain[player]),
                    TOLERANCE[precision],
                )
            )
        checks.append(
            Check(
                f"difference of the losses ({precision} products) in nats",
                float((ours["losses"] - plain["losses"]).abs().max()),
                TOLERANCE[precision],
            )
        )
    return checks


def one_update(config: MnistConfig, place: Place) -> tuple[dict[str, Any], dict[str, Any]]:
    """Losses (2,), D's first, and gradients of one update of ours, and of the plain nets on the same batch and noise.

    The batch is the whole of a small training set, so that its order does not matter to a mean.
    """
    n = config.training.batch_size
    examples = examples_of(config, place, n)
    ours = trainer(config, examples, place, 0, use_graph=False)
    G, D = plain_nets(ours)
    chance = torch.Generator(place.device)
    chance.set_state(ours.rng.get_state())
    ours.step()
    labels = torch.from_numpy(place.dataset.train.labels[:n]).to(place.device)
    if ours.draws is None:  # The alternating game draws as it goes: the fakes' examples, then the noise.
        fake_labels = labels[torch.randint(n, (n,), generator=chance, device=place.device)]
        z = draw_noise(config.generator.noise, (n, config.generator.input_dim), chance)
        real, real_labels = examples.x, labels
    else:
        z, rows = ours.draws.noise, ours.draws.rows
        real, real_labels = examples.data(rows), labels[rows]
        fake_labels = real_labels if ours.draws.fake_rows is None else labels[ours.draws.fake_rows]
    fake = G(z, fake_labels)
    d_loss = bench_plain.discriminator_loss(D, real, real_labels, fake, fake_labels)
    d_gradients = torch.autograd.grad(d_loss, list(D.parameters()))
    g_loss = bench_plain.generator_loss(D, fake, fake_labels)
    g_gradients = torch.autograd.grad(g_loss, list(G.parameters()))
    losses = torch.stack([d_loss, g_loss]).detach()
    mine = {
        "losses": ours.loss_sums,
        "D": bench_plain.in_plain_order(gradients(ours, "D"), D),
        "G": bench_plain.in_plain_order(gradients(ours, "G"), G),
    }
    return mine, {"losses": losses, "D": d_gradients, "G": g_gradients}


def gradients(ours: Trainer, player: str) -> list[Tensor]:
    """The gradients of a first update, from what it left in the optimiser."""
    settings, optimiser = ours.settings, ours.optimisers[player]
    if settings.optimiser == "adam":
        moments = optimiser.state()
        return [moments[f"{i}.exp_avg"] / (1 - settings.adam_beta1) for i in range(len(optimiser.parameters))]
    return [velocity / -settings.learning_rate for velocity in optimiser.velocities]


def distance(found: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Length of the difference of two lists of tensors as a part of the reference's length."""
    difference = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(found, reference, strict=True))
    return float(np.sqrt(difference / sum(float(b.double().square().sum()) for b in reference)))


def without_dropout(config: MnistConfig) -> MnistConfig:
    """The same nets with nothing dropped."""

    def undropped(spec: Any) -> Any:
        branches = {
            name: tuple(replace(layer, dropout=0.0) for layer in getattr(spec, name))
            for name in ("input_branch", "condition_branch", "joint")
        }
        return replace(spec, input_dropout=0.0, condition_dropout=0.0, **branches)

    return replace(config, generator=undropped(config.generator), discriminator=undropped(config.discriminator))


def replicas_agree(config: MnistConfig, examples: Examples, place: Place, seeds: int) -> Check:
    """How far the replicas' weights end from those of the nets trained alone, by the way they went."""
    together = [trainer(config, examples, place, seed) for seed in range(seeds)]
    starts = [held(one) for one in together]
    repeat(ReplicaTrainer(together).step, COMPARED)
    worst = 0.0
    for seed, (one, start) in enumerate(zip(together, starts, strict=True)):
        alone = trainer(config, examples, place, seed)
        repeat(alone.step, COMPARED)
        ways = [[end - begin for end, begin in zip(held(each), start, strict=True)] for each in (one, alone)]
        worst = max(worst, distance(*ways))
    return Check(
        f"relative difference of the weights' way over {COMPARED} updates, at once and alone, the worst seed's",
        worst,
        REPLICAS_TOLERANCE[place.precision],
    )


def held(one: Trainer) -> list[Tensor]:
    """Copies of G's and D's weights."""
    return [parameter.detach().clone() for parameter in [*one.G.parameters(), *one.D.parameters()]]
