"""The engine: one update of the game, and the loop around it with estimates, stopping point, checkpoints and resume.

Serves every experiment alike; what an estimate measures is the caller's function.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgan import CganError, schedules
from cgan import checkpoint as checkpoints
from cgan.averaging import Average
from cgan.batches import Examples
from cgan.devices import Precision, seeded
from cgan.layers import Affine
from cgan.losses import discriminator_loss, generator_loss, gradient_ratio
from cgan.networks import Discriminator, Generator, draw_noise
from cgan.optim import Adam, MomentumSGD
from cgan.settings import StoppingSettings, TrainingSettings
from cgan.specs import DiscriminatorSpec, GeneratorSpec
from cgan.update import Draws, Step, judge, play


class Diverged(CganError):
    """The game ended in NaN, or with one player's loss stuck at its extreme."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM arrived; the state is saved."""


class Trainer:
    """G, D, their optimisers and every random stream: what one update changes, and what a checkpoint holds."""

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        examples: Examples,
        settings: TrainingSettings,
        *,
        seed: int,
        precision: Precision = "float32",
        use_graph: bool | None = None,
    ) -> None:
        """``use_graph`` None captures the update as a CUDA graph wherever it can be: on CUDA, if ``absorbing``."""
        self.G, self.D, self.examples, self.settings = generator, discriminator, examples, settings
        self.seed, self.precision = seed, precision
        self.device = examples.x.device
        self.updates_per_epoch = examples.count // settings.batch_size
        if self.updates_per_epoch == 0:
            raise CganError(
                f"batch_size is {settings.batch_size}, but there are only {examples.count} training examples: take "
                "smaller batches or more data"
            )
        _check_shapes(generator.spec, discriminator.spec, examples)
        if settings.discriminator_loss == "matching_aware":
            _check_mismatch(discriminator.spec, settings.batch_size)
        self.t = 0
        self.rng = seeded(seed, "training", device=self.device)
        #: The mean of G's weights, if samples are to be drawn with it.
        self.average = Average(generator, settings.averaging) if settings.averaging else None
        self.optimisers = {"G": self._optimiser(self.G), "D": self._optimiser(self.D)}
        for layer in [*self.G.modules(), *self.D.modules()]:
            if isinstance(layer, Affine):
                layer.absorb = None
                # None leaves the products to the weights' own type: float32, unless the caller converted the nets.
                layer.product_dtype = torch.bfloat16 if precision == "bfloat16" else None
        self.absorbing = (
            settings.optimiser == "sgd" and settings.update == "simultaneous" and _only_affine(self.G, self.D)
        )
        if use_graph and not (self.absorbing and self.device.type == "cuda"):
            raise CganError(
                "use_graph needs a CUDA device, and simultaneous updates by sgd of nets without batch normalisation or "
                "label embeddings: leave it out"
            )
        self.use_graph = self.absorbing and self.device.type == "cuda" if use_graph is None else use_graph
        if self.absorbing:
            self.optimisers["G"].absorb_gradients(self.G)
            self.optimisers["D"].absorb_gradients(self.D)
        #: Sums of the discriminator and the generator loss since they were last read, and the number of updates.
        self.loss_sums = torch.zeros(2, device=self.device)
        self.loss_count = 0
        self.draws: Draws | None = None
        self._step: Step | None = None
        self._order: tuple[int, Tensor] | None = None

    @property
    def sampler(self) -> Generator:
        """G as samples are drawn from it: with averaged weights if ``averaging`` is set, else as it is."""
        return self.G if self.average is None else self.average.network  # type: ignore[return-value]

    @property
    def epoch(self) -> float:
        """Passes over the training set so far."""
        return self.t / self.updates_per_epoch

    def rates(self) -> tuple[float, float]:
        """Learning rate and momentum of the next update."""
        s = self.settings
        return (
            schedules.learning_rate(self.t, s.learning_rate, s.decay, s.min_learning_rate),
            schedules.momentum(self.t, s.momentum_start, s.momentum_end, s.momentum_ramp),
        )

    def step(self) -> None:
        """One update of D and of G. Nothing here waits for the device."""
        if self.settings.update == "alternating":
            self._alternating()
        else:
            if self.draws is None:
                self.draws = Draws.empty(self.G, self.D, self.examples, self.settings)
            self.draw(self.draws)
            if self.absorbing:
                self._absorbed(self.draws)
            else:
                self._simultaneous(self.draws)
        self.advance()

    def draw(self, draws: Draws) -> None:
        """Fill ``draws`` with what chance decides of the next update."""
        draws.fill(self._rows(), self.G, self.D, self.examples, self.rng)

    def advance(self) -> None:
        """Count an update."""
        self.loss_count += 1
        self.t += 1
        if self.average is not None:
            self.average.update(self.t)

    def adopt_loss_sums(self, sums: Tensor) -> None:
        """Keep the sums of the losses in ``sums`` (2,), which holds what they are now: a view of those of replicas."""
        self.loss_sums, self._step = sums, None

    def _absorbed(self, draws: Draws) -> None:
        if self._step is None:
            self._step = Step(
                self.G, self.D, self.optimisers, self.examples, self.settings, draws, self.loss_sums, self.use_graph
            )
        self._step(*self.rates())

    def _simultaneous(self, draws: Draws) -> None:
        passes = play(self.G, self.D, self.examples, self.settings, draws)
        kind, d_parameters = self.settings.generator_loss, list(self.D.parameters())
        # A row's logit depends on that row alone unless D normalises over the batch; then one backward pass through D
        # serves both players.
        if any(layer.batch_norm for layer in self.D.spec.layers):
            d_gradients = list(torch.autograd.grad(passes.d_loss, d_parameters, retain_graph=True))
            (g_fake,) = torch.autograd.grad(passes.g_loss, passes.leaf)
        else:
            *d_gradients, d_fake = torch.autograd.grad(passes.d_loss, [*d_parameters, passes.leaf])
            matching = self.settings.discriminator_loss == "matching_aware"
            g_fake = d_fake * gradient_ratio(passes.fake_logit, kind, matching)[:, None]
        g_gradients = list(torch.autograd.grad(passes.fake, list(self.G.parameters()), g_fake))
        self.optimisers["D"].step(d_gradients, *self.rates())
        self.optimisers["G"].step(g_gradients, *self.rates())
        self._add_losses(passes.d_loss, passes.g_loss)

    def _alternating(self) -> None:
        settings, examples, rng, rows = self.settings, self.examples, self.rng, self._rows()
        x, y, n = examples.data(rows), examples.conditions(rows), len(rows)
        y_fake = y
        if y is not None and settings.fake_conditions == "fresh":
            drawn = torch.randint(examples.count, (n,), generator=rng, device=self.device)
            y_fake = examples.conditions(drawn)
        fake = self.G(draw_noise(self.G.spec.noise, (n, self.G.spec.input_dim), rng), y_fake, rng)
        g_loss = generator_loss(self.D(fake, y_fake, rng), settings.generator_loss)
        g_gradients = list(torch.autograd.grad(g_loss, list(self.G.parameters())))
        self.optimisers["G"].step(g_gradients, *self.rates())
        wrong = None
        if settings.discriminator_loss == "matching_aware" and self.D.spec.condition != "real":
            wrong = torch.randint(1, self.D.spec.condition_dim, (n,), generator=rng, device=self.device)
        d_loss = discriminator_loss(*judge(self.D, settings, x, y, fake.detach(), y_fake, wrong, rng))
        d_gradients = list(torch.autograd.grad(d_loss, list(self.D.parameters())))
        self.optimisers["D"].step(d_gradients, *self.rates())
        self._add_losses(d_loss, g_loss)

    def _add_losses(self, d_loss: Tensor, g_loss: Tensor) -> None:
        self.loss_sums += torch.stack([d_loss, g_loss]).detach()

    def _rows(self) -> Tensor:
        """The examples of update t: a slice of this epoch's permutation, which (seed, epoch) alone decides."""
        epoch, position = divmod(self.t, self.updates_per_epoch)
        if self._order is None or self._order[0] != epoch:
            permutation = torch.randperm(self.examples.count, generator=seeded(self.seed, "order", epoch))
            if self.device.type == "cuda":  # From pinned memory the copy does not wait for the device.
                permutation = permutation.pin_memory()
            self._order = epoch, permutation.to(self.device, non_blocking=True)
        size = self.settings.batch_size
        return self._order[1][position * size : (position + 1) * size]

    def _optimiser(self, module: torch.nn.Module) -> Any:
        if self.settings.optimiser == "adam":
            return Adam(module, (self.settings.adam_beta1, self.settings.adam_beta2))
        return MomentumSGD(module)

    def losses(self) -> tuple[float, float]:
        """Mean discriminator and generator loss since ``reset_losses``; NaN before any update."""
        return tuple((self.loss_sums / max(self.loss_count, 1)).tolist()) if self.loss_count else (math.nan, math.nan)

    def reset_losses(self) -> None:
        self.loss_sums.zero_()
        self.loss_count = 0

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next update depends on, as tensors and a JSON-ready record."""
        tensors = {"rng": self.rng.get_state(), "loss_sums": self.loss_sums}
        for player, module in (("G", self.G), ("D", self.D)):
            tensors |= {f"{player}.{name}": value for name, value in module.state_dict().items()}
            tensors |= {f"{player}.optimiser.{name}": v for name, v in self.optimisers[player].state().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.network.state_dict().items()}
        return tensors, {"t": self.t, "loss_count": self.loss_count}

    def load_state(self, tensors: dict[str, Tensor], record: dict[str, Any], where: Path) -> None:
        """Continue from what ``state`` gave; ``where`` names the file in errors."""
        for player, module in (("G", self.G), ("D", self.D)):
            own = checkpoints.part(tensors, f"{player}.")
            weights = {name: value for name, value in own.items() if not name.startswith("optimiser.")}
            checkpoints.load_into(module, weights, where)
            self.optimisers[player].load_state(checkpoints.part(own, "optimiser."))
        if self.average is not None:
            checkpoints.load_into(self.average.network, checkpoints.part(tensors, "average."), where)
        try:
            self.rng.set_state(tensors["rng"])
        except RuntimeError:
            raise CganError(
                f"{where}: saved on another kind of device than {self.device}, whose random numbers cannot go on from "
                "there; resume with the device in the run's config.json"
            ) from None
        self.loss_sums.copy_(tensors["loss_sums"])
        self.t, self.loss_count = record["t"], record["loss_count"]


def _check_shapes(generator: GeneratorSpec, discriminator: DiscriminatorSpec, examples: Examples) -> None:
    """Raise ``CganError`` unless the examples' data and conditions are such as both networks take."""
    width, y = examples.x.shape[1], examples.y
    for name, found in (
        ("the generator's output_dim", generator.output_dim),
        ("the discriminator's input_dim", discriminator.input_dim),
    ):
        if found != width:
            raise CganError(f"{name} is {found}, but the data have {width} numbers each: the two must agree")
    for player, spec in (("generator", generator), ("discriminator", discriminator)):
        if spec.condition == "none":
            continue
        if y is None:
            raise CganError(f"the {player}'s condition is {spec.condition}, but the examples have none to give")
        if spec.condition == "real":
            if y.ndim != 2 or y.shape[1] != spec.condition_dim:
                raise CganError(
                    f"the {player} takes conditions of {spec.condition_dim} numbers each, but those of the examples "
                    f"are of shape {tuple(y.shape)}: set condition_dim to the second number"
                )
        elif y.ndim != 1 or y.is_floating_point() or not 0 <= y.min() <= y.max() < spec.condition_dim:
            raise CganError(
                f"the {player} takes labels from 0 to {spec.condition_dim - 1}, but the conditions of the examples are "
                "others: set condition and condition_dim to what they are"
            )


def _check_mismatch(discriminator: DiscriminatorSpec, batch_size: int) -> None:
    """Raise ``CganError`` unless a row can be given a condition that is not its own."""
    others = {"none": 0, "real": batch_size - 1}.get(discriminator.condition, discriminator.condition_dim - 1)
    if others < 1:
        raise CganError(
            "discriminator_loss is matching_aware, which needs a wrong condition for each datum: give the "
            "discriminator a condition, of two or more classes if a label, in batches of two or more if a vector"
        )


def _only_affine(*modules: torch.nn.Module) -> bool:
    """Whether every parameter belongs to an ``Affine`` layer (no batch normalisation, no label embedding)."""
    affine = [layer for module in modules for layer in module.modules() if isinstance(layer, Affine)]
    held = {id(parameter) for layer in affine for parameter in layer.parameters()}
    return all(id(parameter) in held for module in modules for parameter in module.parameters())


@dataclass(frozen=True)
class Estimate:
    """What one estimate measured: ``score`` (the higher the better; decides the stopping point), columns, a line."""

    score: float
    columns: dict[str, float]
    line: str


@dataclass
class Progress:
    """What the loop knows beside the trainer's own state: stopping point, clock, every estimate so far."""

    best_score: float = -math.inf
    best_t: int = 0
    without_best: int = 0
    seconds: float = 0.0
    """Wall time spent in the loop, over all resumptions."""
    stuck_checks: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


#: Updates between two looks at the losses for divergence.
CHECK_EVERY = 500
#: A mean loss below this leaves the other player (almost) nothing to learn from ...
STUCK_LOSS = 1e-4
#: ... and after this many looks in a row the game is over.
STUCK_CHECKS = 10


class Run:
    """One training run in a folder: when it ends, its estimates, its stopping point and its checkpoints.

    Leaves ``checkpoint.safetensors`` and ``best.safetensors`` in ``folder``. ``identity`` (JSON-ready) is stored with
    the checkpoint, and ``resume`` refuses a checkpoint of another identity.
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
            tensors, record = checkpoints.load(self.path)
            if "identity" not in record:
                raise CganError(
                    f"{self.path}: holds weights but no state of training to go on from; delete it to start anew"
                )
            same_identity(record["identity"], identity, self.path)
            trainer.load_state(tensors, record["trainer"], self.path)
            self.progress = Progress(**record["progress"])
        self._started = time.monotonic() - self.progress.seconds
        self._saved = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether the stopping point is reached."""
        return self.trainer.t >= self.settings.max_updates or self.progress.without_best >= self.settings.patience

    def play(self, on_update: Callable[[Trainer], None] | None = None) -> None:
        """Train to the stopping point. Raises ``Diverged``, or ``Interrupted`` after saving on SIGINT or SIGTERM."""
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
        """Whatever is due after an update: a look at the losses, an estimate, a checkpoint. May raise ``Diverged``."""
        t = self.trainer.t
        if t % CHECK_EVERY == 0:
            _check(self.trainer, self.progress)
        if self.settings.due(t):
            self._record_estimate()
            self.checkpoint()
        elif time.monotonic() - self._saved > self.checkpoint_seconds:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Save everything that going on takes."""
        self.progress.seconds = time.monotonic() - self._started
        tensors, record = self.trainer.state()
        whole = {"trainer": record, "progress": vars(self.progress), "identity": self.identity}
        checkpoints.save(self.path, tensors, whole)
        self._saved = time.monotonic()

    def _record_estimate(self) -> None:
        trainer, progress = self.trainer, self.progress
        d_loss, g_loss = _finite_losses(trainer)
        measured = self.estimate(trainer)
        if not math.isfinite(measured.score):
            raise Diverged(
                f"the estimate at update {trainer.t} is {measured.score}: the game diverged; lower learning_rate"
            )
        rate, momentum = trainer.rates()
        progress.seconds = time.monotonic() - self._started
        progress.history.append(
            {
                "update": trainer.t,
                "epoch": trainer.epoch,
                "seconds": round(progress.seconds, 3),
                "learning_rate": rate,
                **({"momentum": momentum} if trainer.settings.optimiser == "sgd" else {}),
                "d_loss": d_loss,
                "g_loss": g_loss,
                **measured.columns,
            }
        )
        trainer.reset_losses()
        if measured.score > progress.best_score:
            progress.best_score, progress.best_t, progress.without_best = measured.score, trainer.t, 0
            weights = {
                f"{player}.{name}": value
                for player, module in (("G", trainer.sampler), ("D", trainer.D))
                for name, value in module.state_dict().items()
            }
            checkpoints.save(self.folder / "best.safetensors", weights, {"t": trainer.t, "score": measured.score})
        elif trainer.t > self.settings.min_updates:
            progress.without_best += 1
        if self.on_estimate is not None:
            self.on_estimate(trainer, measured, progress)


def fit(
    trainer: Trainer,
    settings: StoppingSettings,
    estimate: Callable[[Trainer], Estimate],
    folder: Path,
    *,
    identity: dict[str, Any],
    resume: bool = False,
    on_update: Callable[[Trainer], None] | None = None,
    on_estimate: Callable[[Trainer, Estimate, Progress], None] | None = None,
    checkpoint_seconds: float = 60.0,
) -> Progress:
    """Train until the stopping point, as a ``Run`` in ``folder``.

    A checkpoint is written at every estimate and every ``checkpoint_seconds`` seconds. Raises ``Diverged`` when the
    game is lost and ``Interrupted`` after saving on SIGINT or SIGTERM.
    """
    run = Run(
        trainer,
        settings,
        estimate,
        folder,
        identity=identity,
        resume=resume,
        on_estimate=on_estimate,
        checkpoint_seconds=checkpoint_seconds,
    )
    run.play(on_update)
    return run.progress


def _finite_losses(trainer: Trainer) -> tuple[float, float]:
    """The mean losses since the last estimate; raises ``Diverged`` if they are not finite."""
    d_loss, g_loss = trainer.losses()
    if not (math.isfinite(d_loss) and math.isfinite(g_loss)):
        raise Diverged(
            f"the losses became {d_loss} (D) and {g_loss} (G) by update {trainer.t}: the game diverged; lower "
            f"learning_rate (now {trainer.rates()[0]:.3g}) or the scale of the initial weights"
        )
    return d_loss, g_loss


def _check(trainer: Trainer, progress: Progress) -> None:
    """Raise ``Diverged`` if the mean losses since the last estimate say that the game is lost."""
    d_loss, g_loss = _finite_losses(trainer)
    # Of a D that takes a fake for real up to a chance of STUCK_LOSS: the minimax loss is log(1 - D), the other -log D.
    fooled = STUCK_LOSS if trainer.settings.generator_loss == "non_saturating" else math.log(STUCK_LOSS)
    winner = "D" if d_loss < STUCK_LOSS else "G" if g_loss < fooled else None
    progress.stuck_checks = progress.stuck_checks + 1 if winner else 0
    if progress.stuck_checks >= STUCK_CHECKS:
        raise Diverged(
            f"{winner} has won outright: losses stuck at {d_loss:.1e} (D) and {g_loss:.3g} (G) for "
            f"{STUCK_CHECKS * CHECK_EVERY} updates; weaken it (dropout, smaller initial weights) or lower learning_rate"
        )


def same_identity(found: dict[str, Any], expected: dict[str, Any], path: Path, within: str = "") -> None:
    """Raise ``CganError`` naming the first setting in which the run at ``path`` differs from what is asked for.

    Records within records are compared entry by entry; ``within`` is where this one lies, such as ``settings.``.
    """
    for name in sorted({*found, *expected}):
        there, asked = found.get(name), expected.get(name)
        if isinstance(there, dict) and isinstance(asked, dict):
            same_identity(there, asked, path, f"{within}{name}.")
        elif there != asked:
            raise CganError(
                f"{path}: cannot resume with another {within}{name} (there {there!r}, asked for {asked!r}); resume "
                "with the same settings, or start a run of another name"
            )


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying in the middle of an update; a second one does end it."""
    received: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        # Not the handler of before: a shell starts background jobs with SIGINT ignored, and a second one must end them.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            before[number] = signal.signal(number, note)
        except ValueError:  # Not the main thread: signals stay with whoever has them.
            break
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
