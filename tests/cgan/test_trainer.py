"""The engine: every update against NumPy float64, the loop's stopping, divergence, signals, kills and resumption."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cgan import CganError
from cgan import checkpoint as checkpoints
from cgan import trainer as training
from cgan.settings import StoppingSettings, TrainingSettings
from cgan.specs import Init
from cgan.trainer import Diverged, Estimate, Examples, Progress, Trainer, fit
from cgan.update import Draws, judge
from tests.cgan import nets, play
from tests.cgan.nets import assert_one_sentence, layers, specs
from tests.cgan.reference import Game

#: Rate and momentum differ at every one of the first updates, and both reach their ends within four.
SGD = TrainingSettings(
    batch_size=6,
    learning_rate=0.5,
    decay=1.5,
    min_learning_rate=0.2,
    momentum_start=0.5,
    momentum_end=0.9,
    momentum_ramp=3,
)
ADAM = replace(SGD, optimiser="adam", learning_rate=0.02, min_learning_rate=0.01)
EMBEDDED = specs(
    condition="embedding",
    generator={"output": "tanh", "noise": "normal", "joint": layers("leaky_relu:6", "leaky_relu:5,batch_norm")},
    discriminator={"joint": layers("leaky_relu:5", "linear:4,dropout=0.25")},
)
NORMALISED = specs(discriminator={"joint": layers("maxout:5x2,batch_norm", "relu:4")})

#: Every branch of the update: name, specs, settings.
GAMES = {
    "paper": (specs(), SGD),
    "paper, minimax": (specs(), replace(SGD, generator_loss="minimax")),
    "paper, matching-aware": (specs(), replace(SGD, discriminator_loss="matching_aware")),
    "paper, matching-aware minimax": (
        specs(),
        replace(SGD, discriminator_loss="matching_aware", generator_loss="minimax"),
    ),
    "paper, dropout": (
        specs(
            dropout=0.5,
            generator={"input_dropout": 0.5, "condition_dropout": 0.25},
            discriminator={"input_dropout": 0.2},
        ),
        replace(SGD, discriminator_loss="matching_aware"),
    ),
    "no condition": (specs(condition="none"), SGD),
    "fresh conditions": (specs(), replace(SGD, fake_conditions="fresh")),
    "real-valued condition": (
        specs(condition="real", generator={"output": "linear", "noise": "uniform"}),
        replace(SGD, discriminator_loss="matching_aware"),
    ),
    "empty branches": (
        specs(generator={"condition_branch": (), "joint": ()}, discriminator={"input_branch": ()}),
        SGD,
    ),
    "alternating": (specs(dropout=0.5), replace(SGD, update="alternating", discriminator_loss="matching_aware")),
    "label embedding": (EMBEDDED, SGD),
    "batch-normalised D": (NORMALISED, SGD),
    "batch-normalised D, minimax": (NORMALISED, replace(SGD, generator_loss="minimax")),
    "Adam": (specs(), ADAM),
    "tutorial": (EMBEDDED, replace(ADAM, update="alternating", fake_conditions="fresh")),
}


@pytest.mark.parametrize(
    ("name", "dtype", "relative", "absolute"),
    [(name, torch.float64, 1e-9, 1e-9) for name in GAMES]
    # Adam divides the gradient of a bias before batch normalisation, zero but for rounding, by its own size.
    + [(name, torch.float32, 1e-4, 3e-6) for name in GAMES if name != "tutorial"],
)
def test_three_updates_are_those_of_plain_numpy(
    name: str, dtype: torch.dtype, relative: float, absolute: float
) -> None:
    pair, settings = GAMES[name]
    played = nets.trainer(pair, settings, dtype=dtype)
    game = Game(played)
    for _ in range(3):  # Two updates are an epoch of 13 examples: the third is drawn from another permutation.
        played.step()
        game.step()
    for player, module in (("G", played.G), ("D", played.D)):
        for entry, value in module.state_dict().items():
            expected = torch.as_tensor(game.players[player].weights[entry])
            torch.testing.assert_close(value.double(), expected, rtol=relative, atol=absolute, msg=f"{player} {entry}")
        assert not any(parameter.grad is not None for parameter in module.parameters())
    d_loss, g_loss = played.losses()
    assert d_loss == pytest.approx(sum(d for d, _ in game.losses) / 3, rel=1e-5)
    assert g_loss == pytest.approx(sum(g for _, g in game.losses) / 3, rel=1e-5)


def test_each_game_takes_the_path_meant_for_it() -> None:
    absorbed = {name for name, game in GAMES.items() if nets.trainer(*game).D.output.absorb is not None}
    assert absorbed == {name for name in GAMES if name.startswith(("paper", "no ", "fresh", "real", "empty"))}


@pytest.mark.parametrize("name", ["paper", "paper, minimax", "paper, dropout", "no condition", "real-valued condition"])
def test_both_paths_of_the_engine_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    absorbing = nets.trainer(*GAMES[name], dtype=torch.float64)
    monkeypatch.setattr(training, "_only_affine", lambda *modules: False)
    general = nets.trainer(*GAMES[name], dtype=torch.float64)
    assert absorbing.G.output.absorb is not None and general.G.output.absorb is None
    for _ in range(4):
        absorbing.step()
        general.step()
    assert_same_state(absorbing, general, exact=False)


@pytest.mark.parametrize("update", ["simultaneous", "alternating"])
@pytest.mark.parametrize(
    ("activation", "tolerance"),
    [
        ("linear:40", 0.03),  # Rounding alone: bfloat16 holds two to three decimal digits.
        ("maxout:40x2", 0.1),  # And now and then another piece is the largest, which moves a small weight's gradient.
    ],
)
def test_bfloat16_products_stay_near_float32(activation: str, tolerance: float, update: str) -> None:
    """One update: each weight's step within 3% (10% with maxout) of float32's in norm; weights stay float32."""
    branches = {part: layers(activation) for part in ("input_branch", "condition_branch", "joint")}
    pair = specs(generator=branches, discriminator=branches)
    settings = replace(SGD, batch_size=64, update=update)
    y = torch.arange(128) % nets.CLASSES
    noise = torch.rand(128, nets.DATA_DIM, generator=torch.Generator().manual_seed(5))
    data = Examples((noise + torch.eye(nets.CLASSES, nets.DATA_DIM)[y]) / 2, y)
    full = nets.trainer(pair, settings, data=data)
    half = nets.trainer(pair, settings, data=data, precision="bfloat16")
    start = {name: value.clone() for name, value in states(full).items()}
    full.step()
    half.step()
    for name, value in states(half).items():
        assert value.dtype == torch.float32
        step, expected = value - start[name], states(full)[name] - start[name]
        assert 0 < (step - expected).norm() < tolerance * expected.norm(), name
    assert half.losses() == pytest.approx(full.losses(), rel=5e-3)
    # Evaluation: the same weights give the same samples to the bit, whatever the products while training.
    full.G.load_state_dict(half.G.state_dict())
    y, seed = torch.arange(nets.CLASSES), torch.Generator().manual_seed
    assert torch.equal(half.G.sample(y, 4, seed(0)), full.G.sample(y, 4, seed(0)))


def test_a_run_is_decided_by_its_seed_and_leaves_the_global_stream_alone() -> None:
    pair, settings = GAMES["paper, dropout"]
    runs = []
    for disturbance, seed in ((0, 3), (1, 3), (0, 4)):
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        played = nets.trainer(pair, replace(settings, fake_conditions="fresh"), seed=seed)
        played.step()
        played.step()
        assert torch.equal(before, torch.get_rng_state())
        runs.append(played)
    assert_same_state(runs[0], runs[1])
    assert not torch.equal(runs[0].G.output.weight, runs[2].G.output.weight)


def test_an_epoch_shows_every_example_once_and_another_epoch_in_another_order() -> None:
    seen: list[Tensor] = []

    class Recorded(Examples):
        def data(self, rows: Tensor) -> Tensor:
            seen.append(rows.clone())
            return super().data(rows)

    data = Recorded(torch.rand(12, nets.DATA_DIM), torch.arange(12) % nets.CLASSES)
    played = nets.trainer(specs(), SGD, data=data)
    for _ in range(4):
        played.step()
    first, second = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(12))
    assert first.tolist() != second.tolist()
    assert played.epoch == 2.0


def test_indices_stand_for_pairs_without_copying_them() -> None:
    rng = torch.Generator().manual_seed(1)
    x, y = torch.rand(7, nets.DATA_DIM, generator=rng), torch.randn(3, 3, generator=rng)
    x_index, y_index = torch.randint(7, (40,), generator=rng), torch.randint(3, (40,), generator=rng)
    indexed, pairs = Examples(x, y, x_index, y_index), Examples(x[x_index], y[y_index])
    assert indexed.count == pairs.count == 40
    held = [value for value in vars(indexed).values() if isinstance(value, Tensor)]
    assert {t.data_ptr() for t in held} == {t.data_ptr() for t in (x, y, x_index, y_index)}
    rows = torch.tensor([39, 0, 5, 5])
    assert torch.equal(indexed.data(rows), pairs.data(rows))
    assert torch.equal(indexed.conditions(rows), pairs.conditions(rows))
    one_sided = Examples(x, y[torch.arange(7) % 3])
    assert torch.equal(one_sided.data(torch.tensor([2])), x[2:3])
    a, b = (nets.trainer(specs(condition="real"), SGD, data=data) for data in (indexed, pairs))
    for _ in range(3):
        a.step()
        b.step()
    assert_same_state(a, b)
    assert Examples(x, None).conditions(rows[2:]) is None


@pytest.mark.parametrize(
    ("pair", "data", "settings", "words"),
    [
        (specs(), {}, replace(SGD, batch_size=14), ("batch_size is 14", "13")),
        (specs(generator={"output_dim": 4}), {}, SGD, ("generator's output_dim is 4", "5")),
        (specs(discriminator={"input_dim": 4}), {}, SGD, ("discriminator's input_dim is 4", "5")),
        (specs(), {"y": None}, SGD, ("generator's condition is one_hot",)),
        (specs(), {"y": torch.arange(13) % 5}, SGD, ("labels from 0 to 3",)),
        (specs(), {"y": torch.arange(13) % 4 - 1}, SGD, ("labels from 0 to 3",)),
        (specs(), {"y": torch.rand(13, 4)}, SGD, ("labels from 0 to 3",)),
        (specs(condition="real"), {"y": torch.rand(13, 2)}, SGD, ("3 numbers", "(13, 2)")),
        (specs(condition="none"), {}, replace(SGD, discriminator_loss="matching_aware"), ("matching_aware",)),
        (
            specs(condition="real"),
            {},
            replace(SGD, discriminator_loss="matching_aware", batch_size=1),
            ("matching_aware",),
        ),
        (
            specs(generator={"condition_dim": 1}, discriminator={"condition_dim": 1}),
            {"y": torch.zeros(13, dtype=torch.long)},
            replace(SGD, discriminator_loss="matching_aware"),
            ("two or more classes",),
        ),
    ],
)
def test_nets_that_do_not_fit_the_examples_are_refused(pair, data, settings, words) -> None:  # type: ignore[no-untyped-def]
    given = nets.examples(pair[0].condition)
    given.y = data.get("y", given.y)
    with pytest.raises(CganError) as caught:
        nets.trainer(pair, settings, data=given)
    assert_one_sentence(caught.value, *words)


def test_data_and_conditions_must_be_as_many() -> None:
    with pytest.raises(CganError) as caught:
        Examples(torch.rand(3, 2), torch.arange(4))
    assert_one_sentence(caught.value, "3 data", "4 conditions")


def test_wrong_conditions_are_never_a_rows_own() -> None:
    """Each of the other classes is drawn, about as often; vectors come from another row."""
    settings = replace(SGD, discriminator_loss="matching_aware", batch_size=3000)
    seen: list[Tensor] = []

    def D(data: list[Tensor], y: Tensor, chance: object, shifts: list[int]) -> Tensor:
        seen.append(torch.cat([y.roll(shift, 0) for shift in shifts])[-3000:])
        return torch.zeros(9000)

    x = torch.zeros(3000, nets.DATA_DIM)
    played = nets.trainer(specs(), settings, data=Examples(x, torch.full((3000,), 2)))
    draws = Draws.empty(played.G, played.D, played.examples, settings)
    played.draw(draws)
    D.spec = played.D.spec
    judge(D, settings, x, played.examples.y, x, played.examples.y, draws.wrong, None)
    counts = seen[0].bincount(minlength=nets.CLASSES)
    assert counts[2] == 0
    assert all(abs(counts[c] - 1000) < 5 * math.sqrt(3000 * 2 / 9) for c in (0, 1, 3))
    vectors = torch.arange(6000.0).view(3000, 2)
    for y_fake in (vectors, vectors.clone()):  # Shared with the fakes, or not.
        judge(D, settings, x, vectors, x, y_fake, None, None)
        assert not (seen[-1] == vectors).any() and torch.equal(seen[-1].sort(0).values, vectors)


# ---- the loop


def states(played: Trainer) -> dict[str, Tensor]:
    return {
        f"{player}.{name}": value
        for player, module in (("G", played.G), ("D", played.D))
        for name, value in module.state_dict().items()
    }


def assert_same_state(a: Trainer, b: Trainer, exact: bool = True) -> None:
    """Weights, buffers, velocities, moments, random state and loss sums."""
    tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-12, "atol": 1e-14}
    (ours, record), (theirs, other) = a.state(), b.state()
    assert ours.keys() == theirs.keys() and record == other
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], **({} if name == "loss_sums" else tolerance), msg=name)


def scripted(*scores: float) -> Callable[[Trainer], Estimate]:
    """Estimates with these scores, one after another."""
    left = iter(scores)
    return lambda _: Estimate(next(left), {"extra": 1.0}, "a line")


STOPPING = StoppingSettings(max_updates=100, first_estimate=3, estimate_every=10, patience=2, min_updates=0)


def test_the_best_weights_are_those_of_the_best_estimate(tmp_path: Path) -> None:
    played = nets.trainer(specs(dropout=0.5), SGD)
    kept: dict[int, dict[str, Tensor]] = {}
    scores = iter([1.0, 5.0, 4.0, 7.0, 7.0, 6.0])

    def estimate(trainer: Trainer) -> Estimate:
        kept[trainer.t] = {name: value.clone() for name, value in states(trainer).items()}
        return Estimate(next(scores), {"extra": trainer.t / 2}, "")

    noted: list[tuple[int, int]] = []
    progress = fit(
        played,
        STOPPING,
        estimate,
        tmp_path,
        identity={},
        on_estimate=lambda trainer, _, so_far: noted.append((trainer.t, so_far.best_t)),
    )
    assert list(kept) == [3, 10, 20, 30, 40, 50]  # An equal score is no new best: two in a row end it.
    assert noted == [(3, 3), (10, 10), (20, 10), (30, 30), (40, 30), (50, 30)]
    assert (progress.best_t, progress.best_score, progress.without_best, played.t) == (30, 7.0, 2, 50)
    tensors, record = checkpoints.load(tmp_path / "best.safetensors")
    assert record == {"t": 30, "score": 7.0}
    assert tensors.keys() == kept[30].keys()
    assert all(torch.equal(value, kept[30][name]) for name, value in tensors.items())
    assert [row["update"] for row in progress.history] == list(kept)
    row = progress.history[1]
    assert row["epoch"] == 5.0 and row["extra"] == 5.0
    assert row["learning_rate"] == SGD.min_learning_rate and row["momentum"] == 0.9
    assert 0 < row["d_loss"] < 2 and 0 < row["g_loss"] < 4 and row["seconds"] >= 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "checkpoint.safetensors"]


def test_losses_are_the_means_since_the_last_estimate(tmp_path: Path) -> None:
    played, other = nets.trainer(specs(), SGD), nets.trainer(specs(), SGD)
    progress = fit(played, replace(STOPPING, max_updates=10), scripted(1, 2), tmp_path, identity={})
    each = []
    for _ in range(10):
        other.step()
        each.append(other.losses())
        other.reset_losses()
    for row, part in zip(progress.history, (each[:3], each[3:]), strict=True):
        assert row["d_loss"] == pytest.approx(sum(d for d, _ in part) / len(part), rel=1e-5)
        assert row["g_loss"] == pytest.approx(sum(g for _, g in part) / len(part), rel=1e-5)
    assert all(math.isnan(loss) for loss in other.losses())


@pytest.mark.parametrize(
    ("settings", "estimates", "end"),
    [
        (STOPPING, [3, 10, 20], 20),
        (replace(STOPPING, patience=1), [3, 10], 10),
        (replace(STOPPING, min_updates=15), [3, 10, 20, 30], 30),
        (replace(STOPPING, min_updates=1000, max_updates=25), [3, 10, 20, 25], 25),
        (replace(STOPPING, first_estimate=10, patience=1), [10, 20], 20),
        (replace(STOPPING, max_updates=2), [2], 2),
    ],
)
def test_estimates_come_when_they_are_due_and_patience_ends_it(
    settings: StoppingSettings, estimates: list[int], end: int, tmp_path: Path
) -> None:
    played = nets.trainer(specs(), SGD)
    progress = fit(played, settings, scripted(*range(0, -20, -1)), tmp_path, identity={})
    assert [row["update"] for row in progress.history] == estimates
    assert played.t == end and progress.best_t == estimates[0]


def test_every_update_is_announced(tmp_path: Path) -> None:
    seen: list[int] = []
    fit(
        nets.trainer(specs(), SGD),
        replace(STOPPING, max_updates=5),
        scripted(1, 2),
        tmp_path,
        identity={},
        on_update=lambda trainer: seen.append(trainer.t),
    )
    assert seen == [1, 2, 3, 4, 5]


def test_nan_stops_the_game_with_one_sentence(tmp_path: Path) -> None:
    # Linear outputs and a rate far beyond reason: the losses overflow within a few updates.
    wild = nets.trainer(specs(generator={"output": "linear"}), replace(SGD, learning_rate=1e12, min_learning_rate=1e12))
    with pytest.raises(Diverged) as caught:
        fit(wild, replace(STOPPING, first_estimate=50, estimate_every=50), scripted(), tmp_path, identity={})
    assert_one_sentence(caught.value, "update 50", "diverged", "learning_rate")
    assert not list(tmp_path.iterdir())

    with pytest.raises(Diverged) as caught:
        fit(nets.trainer(specs(), SGD), STOPPING, scripted(math.nan), tmp_path, identity={})
    assert_one_sentence(caught.value, "update 3", "nan", "diverged")
    assert not list(tmp_path.iterdir())


def test_nan_in_the_data_stops_the_game_at_once(tmp_path: Path) -> None:
    """Of the first update D's loss alone is NaN: G's has not seen the data yet."""
    data = nets.examples()
    data.x[:, 2] = math.nan
    with pytest.raises(Diverged) as caught:
        fit(
            nets.trainer(specs(), SGD, data=data),
            replace(STOPPING, first_estimate=1),
            scripted(),
            tmp_path,
            identity={},
        )
    assert_one_sentence(caught.value, "nan (D)", "update 1")


def test_nan_is_seen_between_estimates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECK_EVERY", 4)
    played = nets.trainer(specs(), SGD)

    def poison(trainer: Trainer) -> None:
        if trainer.t == 5:
            with torch.no_grad():
                trainer.D.output.bias.fill_(math.nan)

    with pytest.raises(Diverged) as caught:
        fit(played, replace(STOPPING, first_estimate=50), scripted(), tmp_path, identity={}, on_update=poison)
    assert played.t == 8
    assert_one_sentence(caught.value, "nan", "update 8")


@pytest.mark.parametrize(
    ("fake", "generator_loss", "winner"),
    [(fake, loss, winner) for loss in ("non_saturating", "minimax") for fake, winner in ((-1, "D"), (1, "G"), (0, ""))],
)
def test_a_game_that_is_lost_stops_with_one_sentence(
    fake: int, generator_loss: str, winner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D answers 40 times its only input: 20 for real data of 1/2, 20 or -20 for fakes of +-1/2 that G always shows."""
    monkeypatch.setattr(training, "CHECK_EVERY", 3)
    pair = specs(
        condition="none",
        generator={"output_dim": 1, "input_branch": (), "joint": (), "output": "linear"},
        discriminator={"input_dim": 1, "input_branch": (), "joint": ()},
    )
    settings = replace(SGD, learning_rate=1e-9, min_learning_rate=1e-9, generator_loss=generator_loss)
    played = nets.trainer(pair, settings, data=Examples(torch.full((12, 1), 0.5), None))
    with torch.no_grad():
        played.G.output.weight.zero_()
        played.G.output.bias.fill_(fake / 2)
        played.D.output.weight.fill_(40.0)
    stopping = replace(STOPPING, estimate_every=12, patience=50)
    rising = scripted(*range(50))
    if not winner:  # Fakes of 0, logit 0: D has not won, and the game goes on to its end.
        assert fit(played, stopping, rising, tmp_path, identity={}).stuck_checks == 0
        return
    with pytest.raises(Diverged) as caught:
        fit(played, stopping, rising, tmp_path, identity={})
    assert played.t == 3 * training.STUCK_CHECKS
    assert_one_sentence(caught.value, f"{winner} has won", "30 updates")


def test_one_look_at_a_living_game_starts_the_count_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    played, progress = nets.trainer(specs(), SGD), Progress(stuck_checks=training.STUCK_CHECKS - 1)
    played.loss_count, played.loss_sums[:] = 1, torch.tensor([0.5, 0.7])
    training._check(played, progress)
    assert progress.stuck_checks == 0


# ---- resumption


def fitted(folder: Path, identity: dict, resume: bool = False, pair=None) -> Progress:  # type: ignore[no-untyped-def]
    return fit(
        nets.trainer(pair or specs(), SGD),
        replace(STOPPING, max_updates=4),
        scripted(1, 2),
        folder,
        identity=identity,
        resume=resume,
    )


def test_resume_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    assert fitted(tmp_path, {"seed": 1}, resume=True).best_t == 4


def test_a_finished_run_is_not_gone_on_with(tmp_path: Path) -> None:
    finished = fitted(tmp_path, {"seed": 1})
    again = fit(
        nets.trainer(specs(), SGD),
        replace(STOPPING, max_updates=4),
        scripted(),
        tmp_path,
        identity={"seed": 1},
        resume=True,
    )
    assert again == finished


def test_another_identity_is_refused_by_the_name_of_what_differs(tmp_path: Path) -> None:
    fitted(tmp_path, {"seed": 1, "settings": {"training": {"decay": 1.5, "rate": 0.1}}})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for identity, words in (
        ({"seed": 2, "settings": {"training": {"decay": 1.5, "rate": 0.1}}}, ("another seed", "there 1", "for 2")),
        (
            {"seed": 1, "settings": {"training": {"decay": 2.5, "rate": 0.1}}},
            ("another settings.training.decay", "2.5"),
        ),
        ({"seed": 1}, ("another settings",)),
        ({"seed": 1, "settings": {"training": {"decay": 1.5, "rate": 0.1}}, "new": 3}, ("another new", "3")),
    ):
        with pytest.raises(CganError) as caught:
            fitted(tmp_path, identity, resume=True)
        assert_one_sentence(caught.value, "checkpoint.safetensors", *words)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_net_under_the_same_identity_is_refused(tmp_path: Path) -> None:
    fitted(tmp_path, {})
    with pytest.raises(CganError) as caught:
        fitted(tmp_path, {}, resume=True, pair=specs(generator={"joint": layers("relu:7")}))
    assert_one_sentence(caught.value, "checkpoint.safetensors", "another spec", "joint.0.affine.weight", "(6, 7)")


def test_weights_alone_are_no_checkpoint(tmp_path: Path) -> None:
    fitted(tmp_path, {})
    os.replace(tmp_path / "best.safetensors", tmp_path / "checkpoint.safetensors")
    with pytest.raises(CganError) as caught:
        fitted(tmp_path, {}, resume=True)
    assert_one_sentence(caught.value, "checkpoint.safetensors", "no state of training")


def test_a_checkpoint_of_another_device_is_refused(tmp_path: Path) -> None:
    fitted(tmp_path, {})
    tensors, record = checkpoints.load(tmp_path / "checkpoint.safetensors")
    # A CUDA generator's state is 16 bytes: seed and offset.
    checkpoints.save(
        tmp_path / "checkpoint.safetensors", {**tensors, "rng": torch.zeros(16, dtype=torch.uint8)}, record
    )
    with pytest.raises(CganError) as caught:
        fitted(tmp_path, {}, resume=True)
    assert_one_sentence(caught.value, "another kind of device", "cpu")


@pytest.mark.parametrize("name", GAMES)
def test_a_restored_trainer_plays_on_to_the_bit(name: str, tmp_path: Path) -> None:
    played, other = nets.trainer(*GAMES[name]), nets.trainer(*GAMES[name])
    for _ in range(3):
        played.step()
    tensors, record = played.state()
    checkpoints.save(tmp_path / "c", tensors, record)
    other.step()
    other.load_state(*checkpoints.load(tmp_path / "c"), tmp_path / "c")
    assert_same_state(played, other)
    for _ in range(3):
        played.step()
        other.step()
    assert_same_state(played, other)


def test_a_second_trainer_of_the_same_nets_starts_from_their_weights_alone() -> None:
    played = nets.trainer(specs(), SGD)
    played.step()
    again = Trainer(played.G, played.D, played.examples, replace(SGD, update="alternating"), seed=3)
    game = Game(again)
    again.step()
    game.step()
    torch.testing.assert_close(
        again.G.output.weight.double(), torch.from_numpy(game.players["G"].weights["output.weight"])
    )


# ---- real processes, real signals


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """Processes that start at once, since they are forked from one that has imported PyTorch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cgan.trainer"])
    return context


@pytest.fixture(scope="module")
def uninterrupted(
    processes: multiprocessing.context.ForkServerContext, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The folder of each game of ``play`` played from start to end in one go."""
    folders = {game: tmp_path_factory.mktemp(game) for game in play.GAMES}
    for game, folder in folders.items():
        process = started(processes, folder, game)
        process.join(120)
        assert process.exitcode == 0
    return folders


def started(context: multiprocessing.context.ForkServerContext, *arguments: object) -> BaseProcess:
    process = context.Process(target=play.play, args=arguments, daemon=True)
    process.start()
    return process


def wait_for(path: Path, process: BaseProcess) -> None:
    """Until ``path`` exists; fails if ``process`` ends before."""
    end = time.monotonic() + 120
    while not path.exists():
        assert process.is_alive() and time.monotonic() < end
        time.sleep(0.005)


def assert_same_run(folder: Path, other: Path) -> None:
    """Bit for bit the same final state, best weights, history and losses; nothing else left behind."""
    for name in ("checkpoint.safetensors", "best.safetensors"):
        (ours, record), (theirs, expected) = (checkpoints.load(place / name) for place in (folder, other))
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert ours[key].dtype == theirs[key].dtype and torch.equal(ours[key], theirs[key]), key
        for kept in (record, expected):
            if "progress" in kept:
                kept["progress"].pop("seconds")
                for row in kept["progress"]["history"]:
                    row.pop("seconds")
        assert record == expected
    left = {path.name for path in folder.iterdir()} - {"looping"}
    assert left == {"checkpoint.safetensors", "best.safetensors"}


def wait_for_saves(path: Path, saves: int, process: BaseProcess) -> None:
    """Until ``path`` has been replaced so many times, or ``process`` has ended."""
    seen = set()
    while len(seen) <= saves and process.is_alive():
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.001)


@pytest.mark.parametrize("game", play.GAMES)
def test_killed_at_random_moments_a_run_ends_as_if_it_never_was(
    game: str, processes: multiprocessing.context.ForkServerContext, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    # Saving after every update, a process spends most of its time in the middle of it.
    chance, kills = random.Random(), 0
    for _ in range(6):
        process = started(processes, tmp_path, game)
        wait_for_saves(tmp_path / "checkpoint.safetensors", chance.randrange(8), process)
        time.sleep(chance.uniform(0, 0.005))
        process.kill()
        process.join(60)
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 1
    process = started(processes, tmp_path, game)
    process.join(120)
    assert process.exitcode == 0
    assert_same_run(tmp_path, uninterrupted[game])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_the_run_goes_on_from_there(
    number: signal.Signals,
    processes: multiprocessing.context.ForkServerContext,
    uninterrupted: dict[str, Path],
    tmp_path: Path,
) -> None:
    game = "paper"
    process = started(processes, tmp_path, game, math.inf, 0.02)
    wait_for(tmp_path / "looping", process)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == play.INTERRUPTED
    _, record = checkpoints.load(tmp_path / "checkpoint.safetensors")
    assert 10 <= record["trainer"]["t"] < play.UPDATES
    process = started(processes, tmp_path, game)
    process.join(120)
    assert process.exitcode == 0
    assert_same_run(tmp_path, uninterrupted[game])


@pytest.mark.parametrize("game", ["hanging", "hanging in the background"])
def test_a_second_interrupt_ends_an_estimate_that_hangs(
    game: str, processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    process = started(processes, tmp_path, game)
    wait_for(tmp_path / "estimating", process)
    os.kill(process.pid, signal.SIGINT)
    process.join(0.3)
    assert process.is_alive()
    for _ in range(100):  # Two signals that a starved process has not yet seen are one.
        if process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
            process.join(0.3)
    assert process.exitcode == play.ENDED


def test_signals_are_handed_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    fitted(tmp_path, {})
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_checkpoint_is_json_and_tensors_alone(tmp_path: Path) -> None:
    """Nothing in it needs pickle, and the best score of a run without an estimate survives too."""
    played = nets.trainer(specs(), SGD)
    progress = Progress()
    tensors, record = played.state()
    checkpoints.save(tmp_path / "c", tensors, {"trainer": record, "progress": vars(progress)})
    _, kept = checkpoints.load(tmp_path / "c")
    assert Progress(**kept["progress"]) == progress and kept["progress"]["best_score"] == -math.inf
    assert json.loads(json.dumps(record)) == record


def test_initialisations_differ_between_players() -> None:
    played = nets.trainer(specs(generator={"joint_init": Init("normal", 0.5)}), SGD)
    assert not torch.equal(played.G.joint[0].affine.weight[:5, :5], played.D.joint[0].affine.weight[:5, :5])
