"""Training by hand in float64: forward passes, losses and updates of a conditional MLP, gradients by autograd.

Shares no arithmetic with ``cgan``: of the package it uses the specs, and ``seeded``, which says where a stream of
random numbers starts. Every random number of a trainer is replayed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cgan.devices import seeded
from cgan.specs import NetworkSpec
from cgan.trainer import Trainer


def softplus(a: Tensor) -> Tensor:
    return torch.logaddexp(torch.zeros_like(a), a)


class Replay:
    """Replays the random numbers of a ``torch.Generator`` from its present state, without touching it."""

    def __init__(self, rng: torch.Generator, bits: bool) -> None:
        """``bits``: masks are cut from random bits (the fast update); else one uniform number an entry (the plain)."""
        self.rng, self.bits = torch.Generator().set_state(rng.get_state()), bits

    def noise(self, kind: str, shape: tuple[int, int]) -> Tensor:
        if kind == "normal":
            return torch.empty(shape).normal_(0, 1, generator=self.rng).double()
        low, high = {"uniform": (0, 1), "centred_uniform": (-math.sqrt(3), math.sqrt(3))}[kind]
        return torch.empty(shape).uniform_(low, high, generator=self.rng).double()

    def integers(self, low: int, high: int, n: int) -> Tensor:
        return torch.randint(low, high, (n,), generator=self.rng)

    def mask(self, shape: torch.Size, p: float) -> Tensor:
        if not p:
            return torch.ones(shape, dtype=torch.float64)
        if not self.bits:
            return (torch.rand(shape, generator=self.rng) >= torch.tensor(p)) * torch.tensor(1 / (1 - p)).double()
        bits, kind = (8, torch.int8) if (p * 256) % 1 == 0 else (16, torch.int16)
        words = torch.empty(math.ceil(shape.numel() * bits / 64), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self.rng)
        entries = words.view(kind)[: shape.numel()].reshape(shape).int() + 2 ** (bits - 1)
        dropped = round(p * 2**bits)
        return (entries >= dropped) * torch.tensor(2**bits / (2**bits - dropped)).double()


class Mlp:
    """A network's spec, parameters and buffers, as a function."""

    def __init__(self, spec: NetworkSpec, module: torch.nn.Module) -> None:
        self.spec = spec
        self.weights = {name: value.double().clone() for name, value in module.state_dict().items()}
        self.parameters = {name: self.weights[name].requires_grad_() for name, _ in module.named_parameters()}

    def __call__(self, x: Tensor, y: Tensor | None, replay: Replay) -> Tensor:
        """(n, inputs) to (n, outputs) before the output's non-linearity."""
        spec, w = self.spec, self.weights
        h = self._branch("input_branch", x * replay.mask(x.shape, spec.input_dropout), replay)
        if spec.condition != "none":
            if spec.condition == "one_hot":
                c = torch.eye(spec.condition_dim, dtype=torch.float64)[y]
            else:
                c = y if spec.condition == "real" else w["condition_encoder.weight"][y]
            c = self._branch("condition_branch", c * replay.mask(c.shape, spec.condition_dropout), replay)
            h = torch.cat([h, c], 1)
        return self._branch("joint", h, replay) @ w["output.weight"].T + w["output.bias"]

    def _branch(self, branch: str, h: Tensor, replay: Replay) -> Tensor:
        w = self.weights
        for i, layer in enumerate(getattr(self.spec, branch)):
            linear, norm = f"{branch}.{i}.linear", f"{branch}.{i}.norm"
            a = h @ w[f"{linear}.weight"].T + w[f"{linear}.bias"]
            if layer.batch_norm:
                mean, variance = a.mean(0), a.var(0, correction=0)
                with torch.no_grad():
                    for name, value in (("mean", mean), ("var", a.var(0))):
                        w[f"{norm}.running_{name}"] += 0.1 * (value - w[f"{norm}.running_{name}"])
                    w[f"{norm}.num_batches_tracked"] += 1
                a = (a - mean) / (variance + 1e-5).sqrt() * w[f"{norm}.weight"] + w[f"{norm}.bias"]
            if layer.activation == "maxout":
                a = a.reshape(len(a), layer.pieces, layer.units).amax(1)
            else:
                a = torch.where(a > 0, a, {"relu": 0.0, "leaky_relu": 0.2, "linear": 1.0}[layer.activation] * a)
            h = a * replay.mask(a.shape, layer.dropout)
        return h


class Training:
    """A trainer's training from its present state on, by hand."""

    def __init__(self, trainer: Trainer) -> None:
        self.s, self.t, self.seed = trainer.settings, trainer.t, trainer.seed
        self.x, self.y = trainer.training_set.x.double(), trainer.training_set.y
        self.nets = {"G": Mlp(trainer.G.spec, trainer.G), "D": Mlp(trainer.D.spec, trainer.D)}
        self.pack = trainer.D.spec.pack
        self.replay = Replay(trainer.rng, bits=trainer.fast)
        self.velocities: dict[str, dict[str, Tensor]] = {"G": {}, "D": {}}
        betas = (self.s.adam_beta1, self.s.adam_beta2)
        self.adams = {
            name: torch.optim.Adam(net.parameters.values(), betas=betas, foreach=False, fused=False)
            for name, net in self.nets.items()
        }
        self.losses: list[tuple[float, float]] = []

    def step(self) -> None:
        s, n, y_fake, y_wrong = self.s, self.s.batch_size, None, None
        epoch, position = divmod(self.t, len(self.x) // n)
        rows = torch.randperm(len(self.x), generator=seeded(self.seed, "order", epoch))
        rows = rows[position * n : (position + 1) * n]
        x, y = self._packs(rows), None if self.y is None else self.y[rows]
        if y is not None:
            y_fake = self.y[self.replay.integers(0, len(self.x), n)] if s.fake_conditions == "fresh" else y
        g, d = self.nets["G"].spec, self.nets["D"].spec
        z = self.replay.noise(g.noise, (n * self.pack, g.input_dim))
        if s.discriminator_loss == "matching_aware":
            real = d.condition == "real"
            y_wrong = y.roll(1, 0) if real else (y + self.replay.integers(1, d.condition_dim, n)) % d.condition_dim
        a = self.nets["G"](z, None if y_fake is None else y_fake.repeat_interleave(self.pack, 0), self.replay)
        fake = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "linear": torch.clone}[g.output](a).reshape(n, -1)
        if s.update == "alternating":
            g_loss = self._generator_loss(self.nets["D"](fake, y_fake, self.replay))
            self._move("G", g_loss)
            d_loss, _ = self._discriminate(x, y, fake.detach(), y_fake, y_wrong)
            self._move("D", d_loss)
        else:
            d_loss, logits = self._discriminate(x, y, fake, y_fake, y_wrong)
            g_loss = self._generator_loss(logits)
            d_gradients = self._gradients("D", d_loss)
            self._move("G", g_loss)
            self._move("D", d_loss, d_gradients)
        self.losses.append((d_loss.item(), g_loss.item()))
        self.t += 1

    def _packs(self, rows: Tensor) -> Tensor:
        """Return each row's data beside those of others of its condition: none twice while there are others."""
        if self.pack == 1:
            return self.x[rows]
        packs, draws = [], self.replay.integers(0, 2**40, len(rows) * (self.pack - 1)).view(len(rows), -1)
        for row, own in zip(rows.tolist(), draws.tolist(), strict=True):
            alike = list(range(len(self.x)))
            if self.y is not None:  # Vectors without an index: none is shared.
                alike = [row] if self.y.ndim == 2 else (self.y == self.y[row]).nonzero().flatten().tolist()
            at = alike.index(row)
            ring = alike[at:] + alike[:at]
            left, members = ring[1:], [row]
            for draw in own:
                members.append(left.pop(draw % len(left)) if left else ring[draw % len(ring)])
            packs.append(self.x[members].flatten())
        return torch.stack(packs)

    def _discriminate(self, x, y, fake, y_fake, y_wrong) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        """Return D's loss, and its logits of the generated rows."""
        data, conditions = [x, fake], [y, y_fake]
        if y_wrong is not None:
            data, conditions = [*data, x], [*conditions, y_wrong]
        stacked = None if y is None else torch.cat(conditions)
        logits, n = self.nets["D"](torch.cat(data), stacked, self.replay), len(x)
        return (softplus(-logits[:n]).mean() + softplus(logits[n:]).mean()) / 2, logits[n : 2 * n]

    def _generator_loss(self, fake: Tensor) -> Tensor:
        return -softplus(fake).mean() if self.s.generator_loss == "minimax" else softplus(-fake).mean()

    def _gradients(self, player: str, loss: Tensor) -> dict[str, Tensor]:
        parameters = self.nets[player].parameters
        found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
        return dict(zip(parameters, found, strict=True))

    @torch.no_grad()
    def _move(self, player: str, loss: Tensor, gradients: dict[str, Tensor] | None = None) -> None:
        s, parameters, velocities = self.s, self.nets[player].parameters, self.velocities[player]
        gradients = gradients or self._gradients(player, loss)
        rate = max(s.learning_rate / s.decay**self.t, s.min_learning_rate)
        share = min(self.t / s.momentum_ramp, 1.0) if s.momentum_ramp else 1.0
        momentum = s.momentum_start + (s.momentum_end - s.momentum_start) * share
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
            if s.optimiser == "sgd":
                velocities[name] = momentum * velocities.get(name, 0.0) - rate * gradients[name]
                parameter += velocities[name]
        if s.optimiser == "adam":
            self.adams[player].param_groups[0]["lr"] = rate
            self.adams[player].step()
