"""Training of G and D: ``Trainer`` draws batches and makes updates, and holds all that they change.

Estimates, a stopping point and checkpoints are in ``cgan.loop``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cgan import CganError, checkpoint, optim
from cgan.batches import TrainingSet, draw_batch
from cgan.devices import Precision, seeded
from cgan.networks import Discriminator, Generator
from cgan.settings import TrainingSettings
from cgan.update import alternating_update, simultaneous_update

if TYPE_CHECKING:
    from cgan.fast.update import FastUpdate

#: Updates between two looks at the losses for divergence.
CHECK_EVERY = 500


class Diverged(CganError):
    """Training ended in NaN, or with one network's loss stuck at its extreme."""


class Trainer:
    """G, D, their optimisers and the random stream: everything that one update changes and a checkpoint holds."""

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        training_set: TrainingSet,
        settings: TrainingSettings | None = None,
        *,
        seed: int = 1,
        precision: Precision = "float32",
        fast: bool = True,
    ) -> None:
        """Prepare training of networks that lie on the training set's device; ``settings`` None takes the paper's.

        ``precision`` is the type of the matrix products; weights and losses stay float32. ``fast`` takes the update of
        ``cgan.fast`` instead of ``cgan.update``: the same, up to rounding and the dropout masks' random numbers.
        Raises ``CganError`` unless networks, data and settings fit.
        """
        settings = settings or TrainingSettings()
        _check(generator, discriminator, training_set, settings)
        self.G, self.D, self.training_set, self.settings = generator, discriminator, training_set, settings
        self.seed, self.precision, self.fast = seed, precision, fast
        #: Type of the matrix products; None leaves them in the weights' own type.
        self.product_dtype = torch.bfloat16 if precision == "bfloat16" else None
        self.device = training_set.x.device
        self.updates_per_epoch = training_set.count // settings.batch_size
        #: Updates made so far.
        self.t = 0
        self.rng = seeded(seed, "training", device=self.device)
        self.average = averaged(generator, settings.averaging) if settings.averaging else None
        self.optimisers = {"G": _optimiser(generator, settings), "D": _optimiser(discriminator, settings)}
        #: Sums of D's and G's loss since they were last reset, and the number of updates in them.
        self.loss_sums = torch.zeros(2, device=self.device)
        self.loss_count = 0
        self.fast_update_supported = False
        if fast:
            from cgan.fast.update import is_supported  # Here, since the plain update needs nothing of ``cgan.fast``.

            self.fast_update_supported = is_supported((generator.spec, discriminator.spec), settings)
        self.use_graph = self.fast_update_supported and self.device.type == "cuda"
        self.fast_update: FastUpdate | None = None
        self._order: tuple[int, Tensor] | None = None
        generator.use_generator(self.rng)
        discriminator.use_generator(self.rng)

    @property
    def sampler(self) -> Generator:
        """The generator to sample from: with averaged weights if ``settings.averaging``, else G itself."""
        return self.G if self.average is None else cast(Generator, self.average.module)

    @property
    def epoch(self) -> float:
        """Passes over the training set so far."""
        return self.t / self.updates_per_epoch

    def train(self, updates: int, *, progress: bool = False) -> None:
        """Make ``updates`` updates, with a bar of the mean losses if ``progress``; ``fit`` estimates, stops and saves.

        Raises ``Diverged`` if the losses are not finite.
        """
        from tqdm import tqdm

        with tqdm(total=updates, unit="update", disable=not progress) as bar:
            for left in reversed(range(updates)):
                self.step()
                bar.update()
                if self.t % CHECK_EVERY == 0 or not left:
                    bar.set_postfix(zip("DG", self.losses(), strict=True))
                    self.reset_losses()

    def step(self) -> None:
        """Make one update of D and of G. On CUDA it returns before the kernels finish."""
        if self.fast_update_supported:
            if self.fast_update is None:
                from cgan.fast.update import FastUpdate

                self.fast_update = FastUpdate(self)
            self.fast_update.update(self.fast_update.draw(self.next_examples(), self.rng), *self.rates())
        else:
            self._plain_update()
        self.count_update()

    def _plain_update(self) -> None:
        nets: list[Any] = [self.G, self.D]
        for network, optimiser in zip(nets, self.optimisers.values(), strict=True):
            network.train()
            optim.set_rates(optimiser, *self.rates())
        if self.fast:
            from cgan.fast.network import FastNetwork

            nets = [FastNetwork(net, product_dtype=self.product_dtype, generator=self.rng) for net in nets]
        elif self.precision == "bfloat16":
            nets = [Bfloat16Products(net) for net in nets]
        batch = draw_batch(self.training_set, self.next_examples(), self.settings, self.G.spec, self.D.spec, self.rng)
        update = alternating_update if self.settings.update == "alternating" else simultaneous_update
        (G, D), (g_optimiser, d_optimiser) = nets, self.optimisers.values()
        self.loss_sums += torch.stack(update(G, D, g_optimiser, d_optimiser, batch, self.settings.generator_loss))

    def next_examples(self) -> Tensor:
        """Return the numbers of update t's examples: a slice of the epoch's permutation, fixed by (seed, epoch)."""
        epoch, position = divmod(self.t, self.updates_per_epoch)
        if self._order is None or self._order[0] != epoch:
            permutation = torch.randperm(self.training_set.count, generator=seeded(self.seed, "order", epoch))
            if self.device.type == "cuda":  # From pinned memory the copy does not wait for the device.
                permutation = permutation.pin_memory()
            self._order = epoch, permutation.to(self.device, non_blocking=True)
        size = self.settings.batch_size
        return self._order[1][position * size : (position + 1) * size]

    def rates(self) -> tuple[float, float]:
        """Return learning rate and momentum of the next update."""
        s = self.settings
        return (
            optim.learning_rate(self.t, s.learning_rate, s.decay, s.min_learning_rate),
            optim.momentum(self.t, s.momentum_start, s.momentum_end, s.momentum_ramp),
        )

    def count_update(self) -> None:
        """Count an update that was made, and take the new weights into the average."""
        self.loss_count += 1
        self.t += 1
        if self.average is not None:
            self.average.update_parameters(self.G)

    def losses(self) -> tuple[float, float]:
        """Return the mean loss of D and of G since ``reset_losses``; raises ``Diverged`` if they are not finite."""
        d_loss, g_loss = (self.loss_sums / self.loss_count).tolist()
        if not (math.isfinite(d_loss) and math.isfinite(g_loss)):
            raise Diverged(
                f"the losses became {d_loss} (D) and {g_loss} (G) by update {self.t}, so training diverged: lower "
                f"learning_rate (now {self.rates()[0]:.3g}) or the scale of the initial weights"
            )
        return d_loss, g_loss

    def reset_losses(self) -> None:
        """Start new sums of the losses."""
        self.loss_sums.zero_()
        self.loss_count = 0

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Return everything that the next update depends on, as tensors and a JSON-ready record."""
        return {"rng": self.rng.get_state(), **self._tensors()}, {"t": self.t, "loss_count": self.loss_count}

    def load_state(self, tensors: dict[str, Tensor], t: int, loss_count: int, path: Path) -> None:
        """Continue from what ``state`` returned; ``path`` names the file in errors."""
        saved = dict(tensors)
        try:
            self.rng.set_state(saved.pop("rng"))
        except (RuntimeError, KeyError, TypeError):
            raise CganError(
                f"{path}: saved on another kind of device than {self.device}, whose random numbers cannot be continued "
                "here: resume with the device in the run's config.json"
            ) from None
        checkpoint.load_into(self._tensors(), saved, path)
        if self.average is not None:
            self.average.n_averaged.fill_(t)
        self.t, self.loss_count = t, loss_count

    def _tensors(self) -> dict[str, Tensor]:
        """Return the tensors that updates change in place, by their names in a checkpoint."""
        tensors = {"loss_sums": self.loss_sums}
        for name, network in (("G", self.G), ("D", self.D)):
            tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
            for i, parameter in enumerate(network.parameters()):
                held = self.optimisers[name].state[parameter]
                tensors |= {f"{name}.optimiser.{i}.{key}": value for key, value in held.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.module.state_dict().items()}
        return tensors


class Bfloat16Products:
    """A network whose matrix products are computed in bfloat16; its outputs are float32 again."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.parameters = network.parameters

    def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x, y).float()


def averaged(generator: Generator, decay: float) -> AveragedModel:
    """Return a running average of G's weights, of weight ``decay`` for the past (Yazici et al. 2019).

    Early on the past weighs less, (1 + t) / (10 + t) at update t, so that the start is soon forgotten.
    """

    @torch.no_grad()
    def update(averages: Any, weights: Any, updates: Any) -> None:
        t = int(updates) + 1
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + t) / (10 + t)))

    average = AveragedModel(generator, multi_avg_fn=update)
    average.requires_grad_(False).eval()
    return average


def _optimiser(network: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    if settings.optimiser == "sgd":
        return optim.MomentumSGD(network.parameters())
    betas = settings.adam_beta1, settings.adam_beta2
    adam = torch.optim.Adam(network.parameters(), betas=betas, fused=True)
    for parameter in network.parameters():  # As Adam does at its first step; from here on checkpoints can hold it.
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        adam.state[parameter] = {"step": torch.zeros((), device=parameter.device), **moments}
    return adam


def _check(G: Generator, D: Discriminator, data: TrainingSet, settings: TrainingSettings) -> None:
    """Raise ``CganError`` unless networks, data and settings fit: whatever PyTorch would refuse at the first update."""
    n, y, width = settings.batch_size, data.y, data.x.shape[1]
    if data.count < n:
        raise CganError(
            f"batch_size is {n}, but there are only {data.count} training examples: use smaller batches or more data"
        )
    if n == 1 and any(layer.batch_norm for layer in (*G.spec.layers, *D.spec.layers)):
        raise CganError("batch_size is 1, but batch normalisation needs two rows or more: use larger batches")
    for network, name, field in ((G, "generator", "output_dim"), (D, "discriminator", "input_dim")):
        spec, weight = network.spec, network.output.weight
        if (weight.dtype, weight.device) != (data.x.dtype, data.x.device):
            raise CganError(
                f"the {name} is {weight.dtype} on {weight.device}, but the data are {data.x.dtype} on "
                f"{data.x.device}: move one of them with .to(...)"
            )
        if (size := getattr(spec, field)) != width:
            raise CganError(f"{name}.{field} is {size}, but each datum has {width} numbers: set it to {width}")
        if spec.condition == "none":
            continue
        if y is None:
            raise CganError(f"{name}.condition is {spec.condition}, but the data have no conditions: set it to none")
        if spec.condition == "real":
            wanted, fits = f"vectors of {spec.condition_dim} numbers", y.shape[1:] == (spec.condition_dim,)
        else:
            wanted = f"integers from 0 to {spec.condition_dim - 1}"
            integers = y.ndim == 1 and not y.is_floating_point()
            fits = integers and 0 <= int(y.min()) <= int(y.max()) < spec.condition_dim
        if not fits:
            raise CganError(
                f"{name}.condition is {spec.condition} with condition_dim {spec.condition_dim}, so conditions must be "
                f"{wanted}, but the data's, of shape {tuple(y.shape)}, are not: set condition and condition_dim to fit"
            )
    if settings.discriminator_loss == "matching_aware":
        wrong = {"none": 0, "real": n - 1}.get(D.spec.condition, D.spec.condition_dim - 1)
        if wrong < 1:
            raise CganError(
                "discriminator_loss is matching_aware, which needs a wrong condition for each row: condition the "
                "discriminator on two or more classes, or on vectors in batches of two or more"
            )
