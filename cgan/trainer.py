"""Training: what one update changes (``Trainer``), and the loop around it (``TrainingRun``).

The loop makes estimates, keeps the weights at the best one, writes checkpoints, notices divergence and stops on
signals. What an estimate measures is the caller's function.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cgan import CganError, checkpoint, optim
from cgan.batches import TrainingSet, draw_batch
from cgan.devices import Precision, seeded
from cgan.networks import Discriminator, Generator
from cgan.settings import StoppingSettings, TrainingSettings
from cgan.update import alternating_update, simultaneous_update

if TYPE_CHECKING:
    from cgan.fast.update import Buffers, FastUpdate

#: Form of the checkpoints written here; another one is refused.
CHECKPOINT_FORMAT = 2


class Diverged(CganError):
    """Training ended in NaN, or with one network's loss stuck at its extreme."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP arrived; the state is saved."""


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
        use_graph: bool | None = None,
    ) -> None:
        """Prepare training of networks that lie on the training set's device; ``settings`` None takes the paper's.

        ``precision`` is the type of the matrix products; weights and losses stay float32. ``fast`` takes the update of
        ``cgan.fast`` instead of ``cgan.update``: the same, up to rounding and the dropout masks' random numbers.
        ``use_graph`` None captures the fast update as a CUDA graph where that is possible. Raises ``CganError`` where
        networks, data and settings do not fit.
        """
        settings = settings or TrainingSettings()
        self.G, self.D, self.training_set, self.settings = generator, discriminator, training_set, settings
        self.seed, self.precision, self.fast = seed, precision, fast
        self.device = training_set.x.device
        self.updates_per_epoch = training_set.count // settings.batch_size
        _check(generator, discriminator, training_set, settings)
        self.t = 0
        self.rng = seeded(seed, "training", device=self.device)
        self.average = averaged(generator, settings.averaging) if settings.averaging else None
        self.optimisers = {"G": self._optimiser(generator), "D": self._optimiser(discriminator)}
        self.fast_update_supported = fast and self._is_supported()
        can_capture = self.fast_update_supported and self.device.type == "cuda"
        if use_graph and not can_capture:
            raise CganError(
                "use_graph needs CUDA and the fast simultaneous update by SGD, without batch normalisation or label "
                "embeddings: leave it out"
            )
        self.use_graph = can_capture if use_graph is None else use_graph
        #: Sums of D's and G's loss since they were last reset, and the number of updates in them.
        self.loss_sums = torch.zeros(2, device=self.device)
        self.loss_count = 0
        self._fast_update: FastUpdate | None = None
        self._order: tuple[int, Tensor] | None = None
        generator.use_generator(self.rng)
        discriminator.use_generator(self.rng)

    def _is_supported(self) -> bool:
        """Return whether the fast update can make this training's updates."""
        from cgan.fast.update import is_supported  # Where it is used: the plain update needs nothing of ``cgan.fast``.

        return is_supported(self.G, self.D, self.settings)

    @property
    def sampler(self) -> Generator:
        """The generator to sample from: with averaged weights if ``settings.averaging``, else G itself."""
        return self.G if self.average is None else cast(Generator, self.average.module)

    @property
    def epoch(self) -> float:
        """Passes over the training set so far."""
        return self.t / self.updates_per_epoch

    @property
    def product_dtype(self) -> torch.dtype | None:
        """Type of the matrix products; None leaves them in the weights' own type."""
        return torch.bfloat16 if self.precision == "bfloat16" else None

    def rates(self) -> tuple[float, float]:
        """Return learning rate and momentum of the next update."""
        s = self.settings
        return (
            optim.learning_rate(self.t, s.learning_rate, s.decay, s.min_learning_rate),
            optim.momentum(self.t, s.momentum_start, s.momentum_end, s.momentum_ramp),
        )

    def train(self, updates: int, *, progress: bool = False) -> None:
        """Make ``updates`` updates, with a bar if ``progress``; estimates, a stopping point and files are ``fit``'s.

        The bar shows the mean losses of D and G over the last updates. Raises ``Diverged`` where training has failed.
        """
        from tqdm import tqdm

        checks = Progress()
        with tqdm(total=updates, unit="update", disable=not progress) as bar:
            for left in reversed(range(updates)):
                self.step()
                bar.update()
                if self.t % CHECK_EVERY == 0 or not left:
                    _check_losses(self, checks)
                    bar.set_postfix(zip("DG", self.losses(), strict=True))
                    self.reset_losses()

    def step(self) -> None:
        """Make one update of D and of G. On CUDA it returns before the kernels finish."""
        if self.fast_update_supported:
            if self._fast_update is None:
                from cgan.fast.update import FastUpdate

                self._fast_update = FastUpdate(
                    self.G,
                    self.D,
                    cast(optim.MomentumSGD, self.optimisers["G"]),
                    cast(optim.MomentumSGD, self.optimisers["D"]),
                    self.training_set,
                    self.settings,
                    self.loss_sums,
                    product_dtype=self.product_dtype,
                    use_graph=self.use_graph,
                )
            self.fill(self._fast_update, self._fast_update.buffers)
            self._fast_update(*self.rates())
        else:
            self._plain_update()
        self.count_update()

    def fill(self, update: FastUpdate, buffers: Buffers) -> None:
        """Put this trainer's next batch and random numbers into ``buffers`` of ``update``."""
        update.fill(buffers, self.next_examples(), self.rng)

    def count_update(self) -> None:
        """Count an update that was made, and take the new weights into the average."""
        self.loss_count += 1
        self.t += 1
        if self.average is not None:
            self.average.update_parameters(self.G)

    def use_storage(self, loss_sums: Tensor) -> None:
        """Continue with parameters and velocities that were moved to other storage, and with these ``loss_sums``."""
        self.loss_sums, self._fast_update = loss_sums, None

    def _plain_update(self) -> None:
        update = alternating_update if self.settings.update == "alternating" else simultaneous_update
        for optimiser in self.optimisers.values():
            optim.set_rates(optimiser, *self.rates())
        for network in (self.G, self.D):
            network.train()
        G: Any
        D: Any
        if self.fast:
            from cgan.fast.network import FastNetwork

            G, D = (FastNetwork(n, product_dtype=self.product_dtype, generator=self.rng) for n in (self.G, self.D))
        elif self.precision == "bfloat16":
            G, D = Bfloat16Products(self.G), Bfloat16Products(self.D)
        else:
            G, D = self.G, self.D
        batch = draw_batch(self.training_set, self.next_examples(), self.settings, self.G.spec, self.D.spec, self.rng)
        losses = update(G, D, self.optimisers["G"], self.optimisers["D"], batch, self.settings.generator_loss)
        self.loss_sums += torch.stack(losses)

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

    def _optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        s = self.settings
        if s.optimiser == "adam":
            return torch.optim.Adam(
                network.parameters(), lr=s.learning_rate, betas=(s.adam_beta1, s.adam_beta2), fused=True
            )
        return optim.MomentumSGD(network.parameters(), lr=s.learning_rate, momentum=s.momentum_start)

    def losses(self) -> tuple[float, float]:
        """Return the mean loss of D and of G since ``reset_losses``; NaN before any update."""
        if not self.loss_count:
            return math.nan, math.nan
        d_loss, g_loss = (self.loss_sums / self.loss_count).tolist()
        return d_loss, g_loss

    def reset_losses(self) -> None:
        """Start new sums of the losses."""
        self.loss_sums.zero_()
        self.loss_count = 0

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Return everything that the next update depends on, as tensors and a JSON-ready record."""
        tensors = {"rng": self.rng.get_state(), "loss_sums": self.loss_sums}
        for name, network in (("G", self.G), ("D", self.D)):
            tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
            for i, parameter in enumerate(network.parameters()):
                held = self.optimisers[name].state[parameter]
                tensors |= {f"{name}.optimiser.{i}.{key}": value for key, value in held.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.module.state_dict().items()}
        return tensors, {"t": self.t, "loss_count": self.loss_count}

    def load_state(self, tensors: dict[str, Tensor], t: int, loss_count: int, path: Path) -> None:
        """Continue from what ``state`` returned; ``path`` names the file in errors."""
        for name, network in (("G", self.G), ("D", self.D)):
            own = checkpoint.subset(tensors, f"{name}.")
            weights = {name: value for name, value in own.items() if not name.startswith("optimiser.")}
            checkpoint.load_into(network, weights, path)
            for i, parameter in enumerate(network.parameters()):
                self._load_optimiser(name, parameter, checkpoint.subset(own, f"optimiser.{i}."), path)
        if self.average is not None:
            checkpoint.load_into(self.average.module, checkpoint.subset(tensors, "average."), path)
            self.average.n_averaged.fill_(t)
        try:
            self.rng.set_state(tensors["rng"])
            self.loss_sums.copy_(tensors["loss_sums"])
        except (RuntimeError, KeyError, TypeError):
            raise CganError(
                f"{path}: saved on another kind of device than {self.device}, whose random numbers cannot be continued "
                "here: resume with the device in the run's config.json"
            ) from None
        self.t, self.loss_count = t, loss_count

    def _load_optimiser(self, name: str, parameter: nn.Parameter, saved: dict[str, Tensor], path: Path) -> None:
        state = self.optimisers[name].state[parameter]
        shapes = {name: tuple(value.shape) for name, value in saved.items()}
        wanted = {"velocity": tuple(parameter.shape)}
        if self.settings.optimiser == "adam":
            wanted = {"step": (), "exp_avg": tuple(parameter.shape), "exp_avg_sq": tuple(parameter.shape)}
        if shapes != wanted and not (self.settings.optimiser == "adam" and not saved):
            raise CganError(f"{path}: the optimiser's state does not fit {name}: start a run of another name")
        for name, value in saved.items():
            if name in state:
                state[name].copy_(value)
            else:
                state[name] = value.to(parameter.device)


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

    Early on the past weighs less, (1 + t) / (10 + t) at update t, so that the start is soon forgotten. The two
    networks circle around a solution; the average lies nearer to it. Training itself does not use it.
    """

    def update(averages: Any, weights: Any, updates: Any) -> None:
        t = int(updates) + 1
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + t) / (10 + t)))

    average = AveragedModel(generator, multi_avg_fn=torch.no_grad()(update))
    average.requires_grad_(False).eval()
    return average


def _check(generator: Generator, discriminator: Discriminator, data: TrainingSet, settings: TrainingSettings) -> None:
    """Raise ``CganError`` unless networks, data and settings fit: whatever PyTorch would refuse at the first update."""
    g, d, n = generator.spec, discriminator.spec, settings.batch_size
    if data.count < n:
        raise CganError(
            f"batch_size is {n}, but there are only {data.count} training examples: use smaller batches or more data"
        )
    if n == 1 and any(layer.batch_norm for layer in (*g.layers, *d.layers)):
        raise CganError("batch_size is 1, but batch normalisation needs two rows or more: use larger batches")
    width, y = data.x.shape[1], data.y
    for network in (generator, discriminator):
        weight = network.output.weight
        if (weight.dtype, weight.device) != (data.x.dtype, data.x.device):
            raise CganError(
                f"the {type(network).__name__} is {weight.dtype} on {weight.device}, but the data are {data.x.dtype} "
                f"on {data.x.device}: move one of them with .to(...)"
            )
    for name, size in (("generator.output_dim", g.output_dim), ("discriminator.input_dim", d.input_dim)):
        if size != width:
            raise CganError(f"{name} is {size}, but each datum has {width} numbers: set it to {width}")
    for name, spec in (("generator", g), ("discriminator", d)):
        if spec.condition == "none":
            continue
        if y is None:
            raise CganError(f"{name}.condition is {spec.condition}, but the data have no conditions: set it to none")
        if spec.condition == "real":
            if y.ndim != 2 or y.shape[1] != spec.condition_dim:
                raise CganError(
                    f"{name}.condition_dim is {spec.condition_dim}, but the conditions have the shape "
                    f"{tuple(y.shape)}: set it to their second number"
                )
        elif y.ndim != 1 or y.is_floating_point() or not 0 <= int(y.min()) <= int(y.max()) < spec.condition_dim:
            raise CganError(
                f"{name}.condition is {spec.condition} with condition_dim {spec.condition_dim}, so labels must be "
                f"integers from 0 to {spec.condition_dim - 1}, and the data's conditions are not: set condition and "
                "condition_dim to what they are"
            )
    if settings.discriminator_loss == "matching_aware":
        wrong = {"none": 0, "real": n - 1}.get(d.condition, d.condition_dim - 1)
        if wrong < 1:
            raise CganError(
                "discriminator_loss is matching_aware, which needs a wrong condition for each row: condition the "
                "discriminator on two or more classes, or on vectors in batches of two or more"
            )


@dataclass(frozen=True)
class Estimate:
    """What one estimate measured."""

    score: float
    """Higher is better; decides the stopping point."""
    columns: dict[str, float]
    """Figures for ``metrics.csv``."""
    line: str
    """The same in words for the terminal."""


@dataclass
class Progress:
    """What the loop knows beside the trainer's own state."""

    best_score: float = -math.inf
    best_t: int = 0
    without_best: int = 0
    """Estimates in a row without a new best that count for patience."""
    seconds: float = 0.0
    """Wall time spent in the loop, over all resumptions."""
    stuck_checks: int = 0
    history: list[dict[str, int | float]] = field(default_factory=list)
    """One row per estimate: update, epoch, seconds, rates, losses and the estimate's own columns."""


@dataclass(frozen=True)
class TrainerRecord:
    """The trainer's counters in a checkpoint."""

    t: int
    loss_count: int


@dataclass(frozen=True)
class CheckpointRecord:
    """The JSON record of ``checkpoint.safetensors``."""

    trainer: TrainerRecord
    progress: dict[str, Any]
    identity: dict[str, Any]
    format: int = 1


@dataclass(frozen=True)
class BestRecord:
    """The JSON record of ``best.safetensors``: the update and score of its weights, and whose they are."""

    t: int
    score: float
    identity: dict[str, Any] | None = None


#: Updates between two looks at the losses for divergence.
CHECK_EVERY = 500
#: A mean loss below this leaves the other network (almost) nothing to learn from ...
STUCK_LOSS = 1e-4
#: ... and after this many such looks in a row training has failed.
STUCK_CHECKS = 10


class TrainingRun:
    """One training in a folder: its end, estimates, stopping point and checkpoints.

    Writes ``checkpoint.safetensors`` (to resume) and ``best.safetensors`` (G as sampled from and D at the best
    estimate) into ``folder``. ``identity`` (JSON-ready) goes with both; resuming refuses a checkpoint of another one.
    """

    def __init__(
        self,
        trainer: Trainer,
        settings: StoppingSettings,
        estimate: Callable[[Trainer], Estimate],
        folder: Path,
        *,
        identity: dict[str, Any],
        resume: bool = False,
        on_estimate: Callable[[Trainer, Estimate, Progress], None] | None = None,
        checkpoint_seconds: float = 60.0,
    ) -> None:
        self.trainer, self.settings, self.estimate, self.folder = trainer, settings, estimate, folder
        self.identity, self.on_estimate, self.checkpoint_seconds = identity, on_estimate, checkpoint_seconds
        self.progress = Progress()
        self.path = folder / "checkpoint.safetensors"
        if resume and self.path.exists():
            tensors, record = load_checkpoint(self.path)
            same_identity(record.identity, identity, self.path)
            trainer.load_state(tensors, record.trainer.t, record.trainer.loss_count, self.path)
            self.progress = checkpoint.convert(record.progress, Progress, self.path)
        self._started = time.monotonic() - self.progress.seconds
        self._saved = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether the stopping point is reached."""
        return self.trainer.t >= self.settings.max_updates or self.progress.without_best >= self.settings.patience

    def train(self, on_update: Callable[[Trainer], None] | None = None) -> None:
        """Train to the stopping point. Raises ``Diverged``, or ``Interrupted`` after saving on a signal."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with collected_signals() as received:
            while not self.finished:
                self.trainer.step()
                if on_update is not None:
                    on_update(self.trainer)
                self.after_update()
                if received:
                    self.checkpoint()
                    raise Interrupted

    def after_update(self) -> None:
        """Do what is due after an update: check the losses, estimate, save. Raises ``Diverged``."""
        t = self.trainer.t
        if t % CHECK_EVERY == 0:
            _check_losses(self.trainer, self.progress)
        if self.settings.due(t):
            self._make_estimate()
            self.checkpoint()
        elif time.monotonic() - self._saved > self.checkpoint_seconds:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Save everything that resuming needs."""
        self.progress.seconds = time.monotonic() - self._started
        tensors, counters = self.trainer.state()
        record = {"trainer": counters, "progress": vars(self.progress), "identity": self.identity}
        checkpoint.save(self.path, tensors, {**record, "format": CHECKPOINT_FORMAT})
        self._saved = time.monotonic()

    def _make_estimate(self) -> None:
        trainer, progress = self.trainer, self.progress
        d_loss, g_loss = _finite_losses(trainer)
        measured = self.estimate(trainer)
        if not math.isfinite(measured.score):
            raise Diverged(
                f"the estimate at update {trainer.t} is {measured.score}, so training diverged: lower learning_rate"
            )
        rate, momentum = trainer.rates()
        progress.seconds = time.monotonic() - self._started
        row: dict[str, float] = {
            "update": trainer.t,
            "epoch": trainer.epoch,
            "seconds": round(progress.seconds, 3),
            "learning_rate": rate,
        }
        if trainer.settings.optimiser == "sgd":
            row["momentum"] = momentum
        progress.history.append({**row, "d_loss": d_loss, "g_loss": g_loss, **measured.columns})
        trainer.reset_losses()
        if measured.score > progress.best_score or self.settings.keep == "last":
            progress.best_score, progress.best_t, progress.without_best = measured.score, trainer.t, 0
            self._save_best(measured.score)
        elif trainer.t > self.settings.min_updates:
            progress.without_best += 1
        if self.on_estimate is not None:
            self.on_estimate(trainer, measured, progress)

    def _save_best(self, score: float) -> None:
        networks = {"G": self.trainer.sampler, "D": self.trainer.D}
        weights = {f"{p}.{name}": value for p, net in networks.items() for name, value in net.state_dict().items()}
        record = BestRecord(self.trainer.t, score, self.identity)
        checkpoint.save(self.folder / "best.safetensors", weights, asdict(record))


def fit(
    trainer: Trainer,
    settings: StoppingSettings,
    estimate: Callable[[Trainer], Estimate],
    folder: Path,
    *,
    on_update: Callable[[Trainer], None] | None = None,
    **options: Any,
) -> Progress:
    """Train to the stopping point in ``folder`` and return what the loop knows; ``options`` are ``TrainingRun``'s."""
    run = TrainingRun(trainer, settings, estimate, folder, **options)
    run.train(on_update)
    return run.progress


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], CheckpointRecord]:
    """Return tensors and record of a ``checkpoint.safetensors``; raises ``CganError`` if it cannot be resumed."""
    tensors, record = checkpoint.load(path)
    if record.get("format", 1) != CHECKPOINT_FORMAT:
        raise CganError(
            f"{path}: written by another version of this project, so it cannot be resumed: start a run of another name"
        )
    return tensors, checkpoint.convert(record, CheckpointRecord, path)


def load_best(path: Path) -> tuple[dict[str, Tensor], BestRecord]:
    """Return tensors (``G.*``, ``D.*``) and record of a ``best.safetensors``."""
    tensors, record = checkpoint.load(path)
    return tensors, checkpoint.convert(record, BestRecord, path)


def _finite_losses(trainer: Trainer) -> tuple[float, float]:
    """Return the mean losses since the last estimate; raises ``Diverged`` if they are not finite."""
    d_loss, g_loss = trainer.losses()
    if not (math.isfinite(d_loss) and math.isfinite(g_loss)):
        raise Diverged(
            f"the losses became {d_loss} (D) and {g_loss} (G) by update {trainer.t}, so training diverged: lower "
            f"learning_rate (now {trainer.rates()[0]:.3g}) or the scale of the initial weights"
        )
    return d_loss, g_loss


def _check_losses(trainer: Trainer, progress: Progress) -> None:
    """Raise ``Diverged`` if the mean losses show that one network has stopped learning for good."""
    d_loss, g_loss = _finite_losses(trainer)
    # For a D that takes a fake for real with probability 1 - STUCK_LOSS: -log D, or log(1 - D) if minimax.
    fooled = STUCK_LOSS if trainer.settings.generator_loss == "non_saturating" else math.log(STUCK_LOSS)
    winner = "D" if d_loss < STUCK_LOSS else "G" if g_loss < fooled else None
    progress.stuck_checks = progress.stuck_checks + 1 if winner else 0
    if progress.stuck_checks >= STUCK_CHECKS:
        raise Diverged(
            f"{winner} has won: the losses stayed at {d_loss:.1e} (D) and {g_loss:.3g} (G) for "
            f"{STUCK_CHECKS * CHECK_EVERY} updates; weaken it (dropout, smaller initial weights) or lower learning_rate"
        )


def same_identity(found: dict[str, Any], expected: dict[str, Any], path: Path, within: str = "") -> None:
    """Raise ``CganError`` naming the first setting in which the run at ``path`` differs from what is asked for.

    Records within records are compared entry by entry; ``within`` is the name so far, such as ``settings.``.
    """
    for name in sorted({*found, *expected}):
        saved, wanted = found.get(name), expected.get(name)
        if isinstance(saved, dict) and isinstance(wanted, dict):
            same_identity(saved, wanted, path, f"{within}{name}.")
        elif saved != wanted:
            raise CganError(
                f"{path}: cannot resume with another {within}{name} (saved {saved!r}, now {wanted!r}): use the same "
                "settings, or start a run of another name"
            )


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list, so that an update is completed; a second one ends the process."""
    received: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        # Not the handler from before: a shell starts background jobs with SIGINT ignored, and a second one must end.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        try:
            if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT:  # nohup ignores SIGHUP.
                before[number] = signal.signal(number, note)
        except ValueError:  # Not the main thread: signals stay with whoever has them.
            break
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
