"""Training by hand in NumPy float64: forward pass, backward pass and update of a conditional MLP.

Shares no arithmetic with ``cgan``: of the package it uses the specs, and ``seeded``, which says where a stream of
random numbers starts. Every random number of a trainer is replayed.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from cgan.devices import seeded
from cgan.specs import Layer, NetworkSpec
from cgan.trainer import Trainer


def sigmoid(a: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -a))


def softplus(a: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, a)


class Replay:
    """Replays the random numbers of a ``torch.Generator`` from its present state, without touching it."""

    def __init__(self, rng: torch.Generator, bits: bool) -> None:
        """``bits``: masks are cut from random bits (the fast update); else one uniform number an entry (the plain)."""
        self.rng, self.bits = torch.Generator().set_state(rng.get_state()), bits

    def noise(self, kind: str, shape: tuple[int, int]) -> np.ndarray:
        if kind == "normal":
            return torch.empty(shape).normal_(0, 1, generator=self.rng).double().numpy()
        low, high = {"uniform": (0, 1), "centred_uniform": (-math.sqrt(3), math.sqrt(3))}[kind]
        return torch.empty(shape).uniform_(low, high, generator=self.rng).double().numpy()

    def integers(self, low: int, high: int, n: int) -> np.ndarray:
        return torch.randint(low, high, (n,), generator=self.rng).numpy()

    def mask(self, shape: tuple[int, ...], p: float) -> np.ndarray:
        if not p:
            return np.ones(shape)
        if not self.bits:
            return (torch.rand(shape, generator=self.rng).numpy() >= np.float32(p)) * float(np.float32(1 / (1 - p)))
        bits = 8 if (p * 256) % 1 == 0 else 16
        count = math.prod(shape)
        words = torch.empty(math.ceil(count * bits / 64), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self.rng)
        entries = words.numpy().view(f"i{bits // 8}")[:count].reshape(shape).astype(int) + 2 ** (bits - 1)
        dropped = round(p * 2**bits)
        return (entries >= dropped) * float(np.float32(2**bits / (2**bits - dropped)))


class Mlp:
    """A network's spec and weights, as a function whose gradients are written out."""

    def __init__(self, spec: NetworkSpec, module: torch.nn.Module) -> None:
        self.spec = spec
        self.weights = {name: value.double().numpy().copy() for name, value in module.state_dict().items()}

    def forward(self, x: np.ndarray, y: np.ndarray | None, replay: Replay) -> tuple[np.ndarray, list]:
        """(n, inputs) to (n, outputs) before the output's non-linearity, and what ``backward`` needs."""
        spec = self.spec
        mask = replay.mask(x.shape, spec.input_dropout)
        h, tapes = self._forward(x * mask, "input_branch", spec.input_branch, replay)
        width, condition_mask, condition_tapes = h.shape[1], None, []
        if spec.condition != "none":
            c = {"one_hot": lambda: np.eye(spec.condition_dim)[y], "real": lambda: y}.get(
                spec.condition, lambda: self.weights["condition_encoder.weight"][y]
            )()
            condition_mask = replay.mask(c.shape, spec.condition_dropout)
            c, condition_tapes = self._forward(c * condition_mask, "condition_branch", spec.condition_branch, replay)
            h = np.concatenate([h, c], 1)
        h, joint_tapes = self._forward(h, "joint", spec.joint, replay)
        a = h @ self.weights["output.weight"].T + self.weights["output.bias"]
        return a, [h, width, y, mask, tapes, condition_mask, condition_tapes, joint_tapes]

    def backward(self, g: np.ndarray, tape: list) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The gradients by parameter name and that of the input, from that of the output."""
        h, width, y, mask, tapes, condition_mask, condition_tapes, joint_tapes = tape
        gradients = {"output.weight": g.T @ h, "output.bias": g.sum(0)}
        g = self._backward(g @ self.weights["output.weight"], "joint", joint_tapes, gradients)
        if self.spec.condition != "none":
            c = self._backward(g[:, width:], "condition_branch", condition_tapes, gradients)
            if self.spec.condition == "embedding":
                table = np.zeros_like(self.weights["condition_encoder.weight"])
                np.add.at(table, y, c * condition_mask)
                gradients["condition_encoder.weight"] = table
        return gradients, self._backward(g[:, :width], "input_branch", tapes, gradients) * mask

    def _forward(self, h: np.ndarray, branch: str, layers: tuple[Layer, ...], replay: Replay) -> tuple:
        tapes = []
        for i, layer in enumerate(layers):
            h, tape = self._layer(h, f"{branch}.{i}", layer, replay)
            tapes.append(tape)
        return h, tapes

    def _layer(self, x: np.ndarray, name: str, layer: Layer, replay: Replay) -> tuple[np.ndarray, list]:
        w = self.weights
        a = x @ w[f"{name}.linear.weight"].T + w[f"{name}.linear.bias"]
        normal = deviation = None
        if layer.batch_norm:
            mean, variance, n = a.mean(0), a.var(0), len(a)
            deviation = np.sqrt(variance + 1e-5)
            normal = (a - mean) / deviation
            a = normal * w[f"{name}.norm.weight"] + w[f"{name}.norm.bias"]
            for statistic, value in (("mean", mean), ("var", variance * n / (n - 1))):
                w[f"{name}.norm.running_{statistic}"] += 0.1 * (value - w[f"{name}.norm.running_{statistic}"])
            w[f"{name}.norm.num_batches_tracked"] = w[f"{name}.norm.num_batches_tracked"] + 1
        if layer.activation == "maxout":
            pieces = a.reshape(len(a), layer.pieces, layer.units)
            h = pieces.max(1)
            largest = pieces == h[:, None]  # Equal pieces share the gradient evenly.
            slope = (largest / largest.sum(1, keepdims=True)).reshape(a.shape)
        else:
            slope = np.where(a > 0, 1.0, {"relu": 0.0, "leaky_relu": 0.2, "linear": 1.0}[layer.activation])
            h = a * slope
        mask = replay.mask(h.shape, layer.dropout)
        return h * mask, [x, layer, normal, deviation, slope, mask]

    def _backward(self, g: np.ndarray, branch: str, tapes: list, gradients: dict) -> np.ndarray:
        for i in reversed(range(len(tapes))):
            name, (x, layer, normal, deviation, slope, mask) = f"{branch}.{i}", tapes[i]
            g = np.tile(g * mask, layer.pieces) * slope
            if layer.batch_norm:
                gradients[f"{name}.norm.weight"], gradients[f"{name}.norm.bias"] = (g * normal).sum(0), g.sum(0)
                g = g * self.weights[f"{name}.norm.weight"]
                g = (g - g.mean(0) - normal * (g * normal).mean(0)) / deviation
            gradients[f"{name}.linear.weight"], gradients[f"{name}.linear.bias"] = g.T @ x, g.sum(0)
            g = g @ self.weights[f"{name}.linear.weight"]
        return g


class Training:
    """A trainer's training from its present state on, by hand."""

    def __init__(self, trainer: Trainer) -> None:
        self.s, self.t, self.seed = trainer.settings, trainer.t, trainer.seed
        self.x = trainer.training_set.x.double().numpy()
        self.y = None if trainer.training_set.y is None else trainer.training_set.y.numpy()
        self.nets = {"G": Mlp(trainer.G.spec, trainer.G), "D": Mlp(trainer.D.spec, trainer.D)}
        self.replay = Replay(trainer.rng, bits=trainer.fast)
        self.velocities: dict[str, dict[str, np.ndarray]] = {"G": {}, "D": {}}
        self.adams: dict[str, torch.optim.Adam] = {}
        self.losses: list[tuple[float, float]] = []

    def step(self) -> None:
        s, n = self.s, self.s.batch_size
        epoch, position = divmod(self.t, len(self.x) // n)
        rows = torch.randperm(len(self.x), generator=seeded(self.seed, "order", epoch)).numpy()
        rows = rows[position * n : (position + 1) * n]
        x, pack = self.x[rows], self.nets["D"].spec.pack
        if pack > 1:
            x = np.stack([self._pack(row, draws) for row, draws in zip(rows, self._draws(n, pack), strict=True)])
        y_fake = y = None if self.y is None else self.y[rows]
        if y is not None and s.fake_conditions == "fresh":
            y_fake = self.y[self.replay.integers(0, len(self.x), n)]
        g = self.nets["G"].spec
        z = self.replay.noise(g.noise, (n * pack, g.input_dim))
        y_wrong = self._wrong(y) if s.discriminator_loss == "matching_aware" else None
        update = self._simultaneous if s.update == "simultaneous" else self._alternating
        self.losses.append(update(x, y, z, y_fake, y_wrong))
        self.t += 1

    def _draws(self, n: int, pack: int) -> np.ndarray:
        return self.replay.integers(0, 2**40, n * (pack - 1)).reshape(n, pack - 1)

    def _pack(self, row: int, draws: np.ndarray) -> np.ndarray:
        """The row's data beside those of others of its condition: none twice while there are others."""
        same = np.ones(len(self.x), bool) if self.y is None else self.y == self.y[row]
        if same.ndim == 2:  # Vectors without an index: none is shared.
            same = np.arange(len(self.x)) == row
        alike = np.flatnonzero(same)
        at = int(np.flatnonzero(alike == row)[0])
        ring = [int(alike[(at + i) % len(alike)]) for i in range(len(alike))]  # From the row itself on.
        left, members = ring[1:], [row]
        for draw in draws.tolist():
            members.append(left.pop(draw % len(left)) if left else ring[draw % len(ring)])
        return self.x[members].ravel()

    def _wrong(self, y: np.ndarray) -> np.ndarray:
        spec = self.nets["D"].spec
        if spec.condition == "real":
            return np.roll(y, 1, 0)
        return (y + self.replay.integers(1, spec.condition_dim, len(y))) % spec.condition_dim

    def _simultaneous(self, x, y, z, y_fake, y_wrong) -> tuple[float, float]:
        fake, slope, g_tape = self._generate(z, y_fake)
        logits, d_tape, d_loss, g = self._discriminate(x, y, fake, y_fake, y_wrong)
        n = len(x)
        g_loss, derivative = self._generator_loss(logits[n : 2 * n])
        to_logits = np.zeros_like(g)
        to_logits[n : 2 * n] = derivative
        _, to_x = self.nets["D"].backward(to_logits, d_tape)
        g_gradients, _ = self.nets["G"].backward(self._rows(to_x[n : 2 * n] * slope), g_tape)
        self._update("D", self.nets["D"].backward(g, d_tape)[0])
        self._update("G", g_gradients)
        return d_loss, g_loss

    def _alternating(self, x, y, z, y_fake, y_wrong) -> tuple[float, float]:
        fake, slope, g_tape = self._generate(z, y_fake)
        logits, d_tape = self.nets["D"].forward(fake, y_fake, self.replay)
        g_loss, derivative = self._generator_loss(logits)
        _, to_x = self.nets["D"].backward(derivative, d_tape)
        self._update("G", self.nets["G"].backward(self._rows(to_x * slope), g_tape)[0])
        _, d_tape, d_loss, g = self._discriminate(x, y, fake, y_fake, y_wrong)
        self._update("D", self.nets["D"].backward(g, d_tape)[0])
        return d_loss, g_loss

    def _rows(self, packs: np.ndarray) -> np.ndarray:
        return packs.reshape(len(packs) * self.nets["D"].spec.pack, -1)

    def _generate(self, z, y_fake) -> tuple[np.ndarray, np.ndarray, list]:
        pack = self.nets["D"].spec.pack
        a, tape = self.nets["G"].forward(z, None if y_fake is None else np.repeat(y_fake, pack, 0), self.replay)
        a = a.reshape(-1, pack * a.shape[1])
        output = self.nets["G"].spec.output
        if output == "sigmoid":
            return sigmoid(a), sigmoid(a) * sigmoid(-a), tape
        return (np.tanh(a), 1 - np.tanh(a) ** 2, tape) if output == "tanh" else (a, np.ones_like(a), tape)

    def _discriminate(self, x, y, fake, y_fake, y_wrong):
        """D's logits of real, generated and mismatched rows, the tape, D's loss and its derivative."""
        data, conditions = [x, fake], [y, y_fake]
        if self.s.discriminator_loss == "matching_aware":
            data, conditions = [*data, x], [*conditions, y_wrong]
        stacked = None if y is None else np.concatenate(conditions)
        logits, tape = self.nets["D"].forward(np.concatenate(data), stacked, self.replay)
        n, kinds = len(x), len(data) - 1
        real, rejected = logits[:n], logits[n:]
        loss = (softplus(-real).mean() + softplus(rejected).mean()) / 2
        return logits, tape, loss, np.concatenate([-sigmoid(-real), sigmoid(rejected) / kinds]) / (2 * n)

    def _generator_loss(self, fake: np.ndarray) -> tuple[float, np.ndarray]:
        if self.s.generator_loss == "minimax":
            return -softplus(fake).mean(), -sigmoid(fake) / len(fake)
        return softplus(-fake).mean(), -sigmoid(-fake) / len(fake)

    def _update(self, player: str, gradients: dict[str, np.ndarray]) -> None:
        s, weights = self.s, self.nets[player].weights
        rate = max(s.learning_rate / s.decay**self.t, s.min_learning_rate)
        if s.optimiser == "adam":
            if player not in self.adams:
                parameters = [torch.nn.Parameter(torch.from_numpy(weights[name])) for name in sorted(gradients)]
                betas = (s.adam_beta1, s.adam_beta2)
                self.adams[player] = torch.optim.Adam(parameters, lr=rate, betas=betas, foreach=False, fused=False)
            group = self.adams[player].param_groups[0]
            group["lr"] = rate
            for name, parameter in zip(sorted(gradients), group["params"], strict=True):
                parameter.grad = torch.from_numpy(gradients[name])
            self.adams[player].step()  # In place: the parameters are the arrays of ``weights``.
            return
        share = min(self.t / s.momentum_ramp, 1.0) if s.momentum_ramp else 1.0
        momentum = s.momentum_start + (s.momentum_end - s.momentum_start) * share
        for name, gradient in gradients.items():
            velocity = momentum * self.velocities[player].get(name, 0.0) - rate * gradient
            self.velocities[player][name] = velocity
            weights[name] += velocity
