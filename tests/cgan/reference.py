"""The game by hand, in NumPy float64: forward, backward and update of a conditional MLP, every random draw replayed.

Shares no arithmetic with ``cgan``: of the package it uses the specs, and ``seeded``, which says where a stream starts.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from cgan.devices import seeded
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Layer, NetworkSpec
from cgan.trainer import Trainer


def sigmoid(a: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -a))


def softplus(a: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, a)


class Draws:
    """Replays a ``torch.Generator``'s stream from the state it has now, without touching it."""

    def __init__(self, rng: torch.Generator) -> None:
        self.rng = torch.Generator().set_state(rng.get_state())

    def noise(self, kind: str, shape: tuple[int, int]) -> np.ndarray:
        if kind == "normal":
            return torch.empty(shape).normal_(0, 1, generator=self.rng).double().numpy()
        low, high = {"uniform": (0, 1), "centred_uniform": (-math.sqrt(3), math.sqrt(3))}[kind]
        return torch.empty(shape).uniform_(low, high, generator=self.rng).double().numpy()

    def integers(self, low: int, high: int, n: int) -> np.ndarray:
        return torch.randint(low, high, (n,), generator=self.rng).numpy()

    def mask(self, shape: tuple[int, ...], p: float) -> np.ndarray:
        """0 or 1 / (1 - p), cut from 64-bit words: a byte an entry if p is a multiple of 1/256, else two."""
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

    def forward(self, x: np.ndarray, y: np.ndarray | None, draws: Draws) -> tuple[np.ndarray, list]:
        """(n, inputs) to (n, outputs) before the output's non-linearity, and what ``backward`` needs."""
        h, tape = self._dropped(x, self.spec.input_dropout, draws)
        tapes = {"input": tape, "input_branch": []}
        for i, layer in enumerate(self.spec.input_branch):
            h, tape = self._layer(h, f"input_branch.{i}", layer, draws)
            tapes["input_branch"].append(tape)
        width = h.shape[1]
        if self.spec.condition != "none":
            if self.spec.condition == "one_hot":
                c = np.eye(self.spec.condition_dim)[y]
            elif self.spec.condition == "embedding":
                c = self.weights["embedding"][y]
            else:
                c = y
            c, tapes["condition"] = self._dropped(c, self.spec.condition_dropout, draws)
            tapes["condition_branch"] = []
            for i, layer in enumerate(self.spec.condition_branch):
                c, tape = self._layer(c, f"condition_branch.{i}", layer, draws)
                tapes["condition_branch"].append(tape)
            h = np.concatenate([h, c], 1)
        tapes["joint"] = []
        for i, layer in enumerate(self.spec.joint):
            h, tape = self._layer(h, f"joint.{i}", layer, draws)
            tapes["joint"].append(tape)
        a = h @ self.weights["output.weight"].T + self.weights["output.bias"]
        return a, [h, width, y, tapes]

    def backward(self, g: np.ndarray, tape: list) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The gradients by parameter name and that of the input, from that of the output."""
        h, width, y, tapes = tape
        gradients = {"output.weight": g.T @ h, "output.bias": g.sum(0)}
        g = g @ self.weights["output.weight"]
        g = self._stack_backward(g, "joint", tapes["joint"], gradients)
        if self.spec.condition != "none":
            c = self._stack_backward(g[:, width:], "condition_branch", tapes["condition_branch"], gradients)
            if self.spec.condition == "embedding":
                gradients["embedding"] = np.zeros_like(self.weights["embedding"])
                np.add.at(gradients["embedding"], y, c * tapes["condition"])
        g = self._stack_backward(g[:, :width], "input_branch", tapes["input_branch"], gradients)
        return gradients, g * tapes["input"]

    def _stack_backward(self, g: np.ndarray, branch: str, tapes: list, gradients: dict) -> np.ndarray:
        for i in reversed(range(len(tapes))):
            g = self._layer_backward(g, f"{branch}.{i}", tapes[i], gradients)
        return g

    def _dropped(self, x: np.ndarray, p: float, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        mask = draws.mask(x.shape, p) if p else np.ones_like(x)
        return x * mask, mask

    def _layer(self, x: np.ndarray, name: str, layer: Layer, draws: Draws) -> tuple[np.ndarray, list]:
        w = self.weights
        a = x @ w[f"{name}.affine.weight"].T + w[f"{name}.affine.bias"]
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
            low = {"relu": 0.0, "leaky_relu": 0.2, "linear": 1.0}[layer.activation]
            slope = np.where(a > 0, 1.0, low)
            h = a * slope
        h, mask = self._dropped(h, layer.dropout, draws)
        return h, [x, layer, normal, deviation, slope, mask]

    def _layer_backward(self, g: np.ndarray, name: str, tape: list, gradients: dict) -> np.ndarray:
        x, layer, normal, deviation, slope, mask = tape
        g = np.tile(g * mask, layer.pieces) * slope
        if layer.batch_norm:
            gradients[f"{name}.norm.weight"], gradients[f"{name}.norm.bias"] = (g * normal).sum(0), g.sum(0)
            g = g * self.weights[f"{name}.norm.weight"]
            g = (g - g.mean(0) - normal * (g * normal).mean(0)) / deviation
        gradients[f"{name}.affine.weight"], gradients[f"{name}.affine.bias"] = g.T @ x, g.sum(0)
        return g @ self.weights[f"{name}.affine.weight"]


class Game:
    """A trainer's game from the state it has now, played by hand."""

    def __init__(self, trainer: Trainer) -> None:
        self.s, self.t, self.seed = trainer.settings, trainer.t, trainer.seed
        self.x = trainer.examples.x.double().numpy()
        self.y = None if trainer.examples.y is None else trainer.examples.y.numpy()
        self.players = {"G": Mlp(trainer.G.spec, trainer.G), "D": Mlp(trainer.D.spec, trainer.D)}
        self.draws = Draws(trainer.rng)
        self.velocities: dict[str, dict[str, np.ndarray]] = {"G": {}, "D": {}}
        self.adams: dict[str, torch.optim.Adam] = {}
        self.losses: list[tuple[float, float]] = []

    def step(self) -> None:
        per_epoch = len(self.x) // self.s.batch_size
        epoch, place = divmod(self.t, per_epoch)
        order = torch.randperm(len(self.x), generator=seeded(self.seed, "order", epoch)).numpy()
        rows = order[place * self.s.batch_size : (place + 1) * self.s.batch_size]
        y_fake = y = None if self.y is None else self.y[rows]
        if y is not None and self.s.fake_conditions == "fresh":
            y_fake = self.y[self.draws.integers(0, len(self.x), len(rows))]
        z = self.draws.noise(self.G.noise, (len(rows), self.G.input_dim))
        play = self._simultaneous if self.s.update == "simultaneous" else self._alternating
        self.losses.append(play(self.x[rows], y, z, y_fake))
        self.t += 1

    @property
    def G(self) -> GeneratorSpec:
        return self.players["G"].spec

    @property
    def D(self) -> DiscriminatorSpec:
        return self.players["D"].spec

    def _simultaneous(self, x, y, z, y_fake) -> tuple[float, float]:
        fake, g_tape = self.players["G"].forward(z, y_fake, self.draws)
        fake, slope = self._output(fake)
        logits, d_tape, d_loss, g = self._judge(x, y, fake, y_fake)
        d_gradients, _ = self.players["D"].backward(g, d_tape)
        n = len(x)
        g_loss, derivative = self._generator_loss(logits[n : 2 * n])
        g = np.zeros_like(g)
        g[n : 2 * n] = derivative
        _, to_x = self.players["D"].backward(g, d_tape)
        g_gradients, _ = self.players["G"].backward(to_x[n : 2 * n] * slope, g_tape)
        self._update("D", d_gradients)
        self._update("G", g_gradients)
        return d_loss, g_loss

    def _alternating(self, x, y, z, y_fake) -> tuple[float, float]:
        fake, g_tape = self.players["G"].forward(z, y_fake, self.draws)
        fake, slope = self._output(fake)
        logits, d_tape = self.players["D"].forward(fake, y_fake, self.draws)
        g_loss, derivative = self._generator_loss(logits)
        _, to_x = self.players["D"].backward(derivative, d_tape)
        g_gradients, _ = self.players["G"].backward(to_x * slope, g_tape)
        self._update("G", g_gradients)
        _, d_tape, d_loss, g = self._judge(x, y, fake, y_fake)
        d_gradients, _ = self.players["D"].backward(g, d_tape)
        self._update("D", d_gradients)
        return d_loss, g_loss

    def _output(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """G's output and its slope in ``a``."""
        if self.G.output == "sigmoid":
            return sigmoid(a), sigmoid(a) * sigmoid(-a)
        return (np.tanh(a), 1 - np.tanh(a) ** 2) if self.G.output == "tanh" else (a, np.ones_like(a))

    def _judge(self, x, y, fake, y_fake):
        """D's logits of real, fake and mismatched rows, the tape, D's loss and its derivative."""
        data, conditions = [x, fake], [y, y_fake]
        if self.s.discriminator_loss == "matching_aware":
            data.append(x)
            if self.D.condition == "real":
                conditions.append(np.roll(y, 1, 0))
            else:
                classes = self.D.condition_dim
                conditions.append((y + self.draws.integers(1, classes, len(y))) % classes)
        stacked = None if y is None else np.concatenate(conditions)
        logits, tape = self.players["D"].forward(np.concatenate(data), stacked, self.draws)
        n, kinds = len(x), len(data) - 1
        real, false = logits[:n], logits[n:]
        loss = (softplus(-real).mean() + softplus(false).mean()) / 2
        derivative = np.concatenate([-sigmoid(-real), sigmoid(false) / kinds]) / (2 * n)
        return logits, tape, loss, derivative

    def _generator_loss(self, fake: np.ndarray) -> tuple[float, np.ndarray]:
        if self.s.generator_loss == "minimax":
            return -softplus(fake).mean(), -sigmoid(fake) / len(fake)
        return softplus(-fake).mean(), -sigmoid(-fake) / len(fake)

    def _update(self, player: str, gradients: dict[str, np.ndarray]) -> None:
        s, weights = self.s, self.players[player].weights
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
