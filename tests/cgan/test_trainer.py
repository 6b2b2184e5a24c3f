"""The loop: estimates, stopping point, averaged weights, divergence, resuming, signals and real kills."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cgan import checkpoint, loop
from cgan.batches import TrainingSet
from cgan.loop import Diverged, Estimate, Progress, fit, load_best, load_checkpoint
from cgan.settings import StoppingSettings
from cgan.trainer import Trainer
from tests.cgan import nets, process
from tests.cgan.nets import ADAM, CASES, MATCHING, SGD, assert_one_sentence, assert_same_state, layers, refused, specs
from tests.cgan.process import scripted

#: Every kind of state that a checkpoint holds.
RESTORED = ("paper, matching-aware", "vectors, packs of 2", "batch-normalised D, minimax", "tutorial")
STOPPING = StoppingSettings(max_updates=100, first_estimate=3, estimate_every=10, patience=2, min_updates=0)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"{player}.{name}": value.clone()
        for player, network in (("G", trainer.G), ("D", trainer.D))
        for name, value in network.state_dict().items()
    }


# ---- what does not fit is refused before anything starts


@pytest.mark.parametrize(
    ("pair", "y", "settings", "parts"),
    [
        (specs(), ..., replace(SGD, batch_size=14), ("batch_size is 14", "13")),
        (specs(generator={"output_dim": 4}), ..., SGD, ("generator.output_dim is 4", "5")),
        (specs(discriminator={"input_dim": 4}), ..., SGD, ("discriminator.input_dim is 4", "5")),
        (specs(), None, SGD, ("generator.condition is one_hot", "none")),
        (specs(), torch.arange(13) % 5, SGD, ("integers from 0 to 3",)),
        (specs(), torch.arange(13) % 4 - 1, SGD, ("integers from 0 to 3",)),
        (specs(), torch.rand(13, 4), SGD, ("integers from 0 to 3",)),
        (specs(condition="real"), torch.rand(13, 2), SGD, ("condition_dim 3", "(13, 2)")),
        (specs(condition="none"), ..., MATCHING, ("matching_aware",)),
        (specs(condition="real"), ..., replace(MATCHING, batch_size=1), ("matching_aware",)),
        (
            specs(generator={"condition_dim": 1}, discriminator={"condition_dim": 1}),
            torch.zeros(13, dtype=torch.long),
            MATCHING,
            ("two or more classes",),
        ),
        (nets.EMBEDDED, ..., replace(ADAM, batch_size=1), ("batch_size is 1", "batch normalisation")),
    ],
)
def test_networks_data_and_settings_must_fit(pair, y, settings, parts) -> None:  # type: ignore[no-untyped-def]
    data = nets.training_set(pair[0].condition)
    data.y = data.y if y is ... else y
    with refused(*parts):
        nets.trainer(pair, settings, data=data)


def test_data_of_another_form_are_refused_and_arrays_held_as_networks_take_them() -> None:
    with refused("3 data", "4 conditions"):
        TrainingSet(torch.rand(3, 2), torch.arange(4))
    with refused("(3, 2, 2)", "reshape"):
        TrainingSet(torch.rand(3, 2, 2))
    with refused("generator is torch.float64", "data are torch.float32"):
        trainer = nets.trainer(specs())
        Trainer(trainer.G.double(), trainer.D, trainer.training_set, SGD)
    for y, held in ((np.arange(3, dtype=np.uint8), torch.int64), (np.zeros((3, 1)), torch.float32)):
        data = TrainingSet([[0, 1], [1, 0], [2, 2]], y)
        assert (data.x.dtype, data.y.dtype, data.y.tolist()) == (torch.float32, held, y.tolist())
    given = torch.rand(3, 2, dtype=torch.float64)
    assert TrainingSet(given).x is given  # Neither copied nor rounded.


# ---- training without a loop of one's own


def test_train_makes_the_same_updates_as_steps_and_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    trained, stepped = nets.trainer(specs(dropout=0.5)), nets.trainer(specs(dropout=0.5))
    trained.train(4)
    assert not capsys.readouterr().err
    trained.train(3, progress=True)
    for _ in range(7):
        stepped.step()
    expected = weights(stepped)
    assert all(torch.equal(expected[name], value) for name, value in weights(trained).items())
    assert "3/3" in (bar := capsys.readouterr().err) and "D=" in bar and "G=" in bar
    trained.G.output.weight.data.fill_(math.nan)
    with pytest.raises(Diverged):
        trained.train(1)


# ---- averaged weights


def test_averaged_weights_follow_their_recursion_and_leave_training_alone() -> None:
    decay, slow = 0.6, replace(SGD, learning_rate=0.05, min_learning_rate=0.05, momentum_end=0.5)
    averaged, plain = nets.trainer(specs(), replace(slow, averaging=decay)), nets.trainer(specs(), slow)
    mean = {name: value.double().numpy() for name, value in averaged.G.state_dict().items()}
    for t in range(1, 30):
        averaged.step()
        plain.step()
        share = min(decay, (1 + t) / (10 + t)) if t > 1 else 0.0  # The first average is of nothing before.
        for name, value in averaged.G.state_dict().items():
            mean[name] = share * mean[name] + (1 - share) * value.double().numpy()
        for name, value in averaged.sampler.state_dict().items():
            np.testing.assert_allclose(value, mean[name], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(averaged.sampler.output.weight, averaged.G.output.weight, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in averaged.sampler.parameters())
    assert plain.sampler is plain.G
    assert all(torch.equal(a, b) for a, b in zip(averaged.G.parameters(), plain.G.parameters(), strict=True))


# ---- estimates and the stopping point


def test_the_best_weights_are_those_of_the_best_estimate(tmp_path: Path) -> None:
    trainer = nets.trainer(specs(dropout=0.5))
    kept: dict[int, dict[str, Tensor]] = {}
    scores = iter([1.0, 5.0, 4.0, 7.0, 7.0, 6.0])

    def estimate(trainer: Trainer) -> Estimate:
        kept[trainer.t] = weights(trainer)
        return Estimate(next(scores), {"extra": trainer.t / 2}, "")

    seen: list[tuple[int, int]] = []
    note = lambda trainer, _, so_far: seen.append((trainer.t, so_far.best_t))  # noqa: E731
    progress = fit(trainer, STOPPING, estimate, tmp_path, identity={"seed": 3}, on_estimate=note)
    assert seen == [(3, 3), (10, 10), (20, 10), (30, 30), (40, 30), (50, 30)]  # An equal score is no new best.
    assert (progress.best_t, progress.best_score, progress.without_best, trainer.t) == (30, 7.0, 2, 50)
    tensors, record = load_best(tmp_path / "best.safetensors")
    assert (record.t, record.score, record.identity) == (30, 7.0, {"seed": 3})
    assert tensors.keys() == kept[30].keys()
    assert all(torch.equal(value, kept[30][name]) for name, value in tensors.items())
    row = progress.history[1]
    assert row["update"] == 10 and row["epoch"] == row["extra"] == 5.0
    assert row["learning_rate"] == SGD.min_learning_rate and row["momentum"] == 0.9
    other, losses = nets.trainer(specs(dropout=0.5)), []
    for _ in range(10):
        other.step()
        losses.append(other.losses())
        other.reset_losses()
    assert [row["d_loss"], row["g_loss"]] == pytest.approx(np.mean(losses[3:], 0), rel=1e-5)  # Since the last estimate.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "checkpoint.safetensors"]


@pytest.mark.parametrize(
    ("settings", "estimates", "best"),
    [
        (STOPPING, [3, 10, 20], 3),
        (replace(STOPPING, min_updates=15), [3, 10, 20, 30], 3),
        (replace(STOPPING, min_updates=1000, max_updates=25), [3, 10, 20, 25], 3),
        (replace(STOPPING, first_estimate=10, patience=1), [10, 20], 10),
        (replace(STOPPING, max_updates=45, keep="last"), [3, 10, 20, 30, 40, 45], 45),
    ],
)
def test_estimates_come_when_due_and_patience_ends_training(
    settings: StoppingSettings, estimates: list[int], best: int, tmp_path: Path
) -> None:
    trainer = nets.trainer(specs())
    progress = fit(trainer, settings, scripted(*range(0, -20, -1)), tmp_path, identity={})
    assert [row["update"] for row in progress.history] == estimates
    assert trainer.t == estimates[-1] and progress.best_t == best
    assert load_best(tmp_path / "best.safetensors")[1].t == best


# ---- divergence


def test_nan_ends_training_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an estimate, of the losses at an estimate, and of the losses between estimates."""
    monkeypatch.setattr(loop, "CHECK_EVERY", 4)
    nan_data = nets.training_set()
    nan_data.x[:, 2] = math.nan
    for trainer, first, estimate, parts in (
        (nets.trainer(specs()), 3, scripted(math.nan), ("update 3", "nan")),
        (nets.trainer(specs(), data=nan_data), 1, scripted(), ("nan (D)", "update 1", "learning_rate")),
        (nets.trainer(specs(), data=nan_data), 50, scripted(), ("nan (D)", "update 4")),
    ):
        with pytest.raises(Diverged) as caught:
            fit(trainer, replace(STOPPING, first_estimate=first), estimate, tmp_path, identity={})
        assert_one_sentence(caught.value, "diverged", *parts)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fake", "winner", "loss"),
    [
        (-1, "D", "minimax"),
        (1, "G", "minimax"),
        (1, "G", "non_saturating"),
        (0, "", "minimax"),
        (0, "", "non_saturating"),
    ],
)
def test_a_player_that_has_won_ends_training(
    fake: int, winner: str, loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D answers 40 times its only input: 20 for real data of 1/2, and 20, 0 or -20 for G's constant output."""
    monkeypatch.setattr(loop, "CHECK_EVERY", 3)
    pair = specs(
        condition="none",
        generator={"output_dim": 1, "input_branch": (), "joint": (), "output": "linear"},
        discriminator={"input_dim": 1, "input_branch": (), "joint": ()},
    )
    settings = replace(SGD, learning_rate=1e-9, min_learning_rate=1e-9, generator_loss=loss)
    trainer = nets.trainer(pair, settings, data=TrainingSet(torch.full((12, 1), 0.5), None))
    with torch.no_grad():
        trainer.G.output.weight.zero_()
        trainer.G.output.bias.fill_(fake / 2)
        trainer.D.output.weight.fill_(40.0)
    stopping, rising = replace(STOPPING, estimate_every=12, patience=50), scripted(*range(50))
    if not winner:
        assert fit(trainer, stopping, rising, tmp_path, identity={}).stuck_checks == 0
        return
    with pytest.raises(Diverged) as caught:
        fit(trainer, stopping, rising, tmp_path, identity={})
    assert trainer.t == 3 * loop.STUCK_CHECKS
    assert_one_sentence(caught.value, f"{winner} has won", "30 updates")


# ---- resuming


def fitted(folder: Path, identity: dict, resume: bool = False, pair=None) -> Progress:  # type: ignore[no-untyped-def]
    stopping = replace(STOPPING, max_updates=4)
    return fit(nets.trainer(pair or specs()), stopping, scripted(1, 2), folder, identity=identity, resume=resume)


def test_a_finished_training_is_not_continued_and_a_new_one_starts(tmp_path: Path) -> None:
    finished = fitted(tmp_path, {"seed": 1}, resume=True)
    assert finished.best_t == 4 and fitted(tmp_path, {"seed": 1}, resume=True) == finished


def test_another_identity_is_refused_by_the_name_of_what_differs(tmp_path: Path) -> None:
    identity = {"seed": 1, "settings": {"training": {"decay": 1.5, "rate": 0.1}}}
    fitted(tmp_path, identity)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for other, parts in (
        ({**identity, "seed": 2}, ("another seed", "saved 1", "now 2")),
        ({"seed": 1, "settings": {"training": {"decay": 2.5, "rate": 0.1}}}, ("settings.training.decay", "2.5")),
        ({"seed": 1}, ("another settings",)),
        ({**identity, "new": 3}, ("another new", "3")),
    ):
        with refused("checkpoint.safetensors", *parts):
            fitted(tmp_path, other, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_checkpoints_that_cannot_be_resumed_are_refused(tmp_path: Path) -> None:
    fitted(tmp_path, {})
    path = tmp_path / "checkpoint.safetensors"
    tensors, record = checkpoint.load(path)
    with refused(path.name, "another spec", "joint.0.linear.weight", "(6, 7)"):
        fitted(tmp_path, {}, resume=True, pair=specs(generator={"joint": layers("relu:7")}))

    old = {name: value for name, value in record.items() if name != "format"}
    lacking = {name: value for name, value in tensors.items() if name != "G.optimiser.0.velocity"}
    for changed, changed_record, parts in (
        (tensors, old, ("another version",)),
        (lacking, record, ("G.optimiser.0.velocity", "missing")),
        ({**tensors, "rng": torch.zeros(16, dtype=torch.uint8)}, record, ("another kind of device", "cpu")),
        (tensors, {**record, "progress": {**record["progress"], "best_t": "x"}}, ("best_t", "int")),
        (tensors, {**record, "trainer": {"t": 3}}, ("loss_count",)),
    ):
        checkpoint.save(path, changed, changed_record)
        with refused(path.name, *parts):
            fitted(tmp_path, {}, resume=True)


@pytest.mark.parametrize("name", [*RESTORED, "averaged"])
def test_a_restored_trainer_continues_to_the_bit(name: str, tmp_path: Path) -> None:
    pair, settings = CASES.get(name, (specs(), replace(SGD, averaging=0.9)))
    one, other = nets.trainer(pair, settings), nets.trainer(pair, settings)
    for _ in range(3):
        one.step()
    tensors, record = one.state()
    checkpoint.save(tmp_path / "c", tensors, record)
    other.step()
    other.load_state(checkpoint.load(tmp_path / "c")[0], record["t"], record["loss_count"], tmp_path / "c")
    for _ in range(3):
        one.step()
        other.step()
    assert_same_state(one, other)


# ---- real processes, real signals


def started(context: ForkServerContext, *arguments: object) -> BaseProcess:
    started = context.Process(target=process.run, args=arguments, daemon=True)
    started.start()
    return started


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the training from start to end at one go."""
    folder = tmp_path_factory.mktemp("whole")
    process.train(folder)
    return folder


def wait(folder: Path, running: BaseProcess) -> None:
    """Wait until the process has made its ten updates, or has begun an estimate that does not end."""
    end = time.monotonic() + 120
    while not (folder / "waiting").exists():
        assert running.is_alive() and time.monotonic() < end
        time.sleep(0.005)


def assert_same_run(folder: Path, other: Path) -> None:
    """Check that two folders hold the same final state, best weights and history, to the bit, and nothing else."""
    for name in ("checkpoint.safetensors", "best.safetensors"):
        (ours, record), (theirs, expected) = (checkpoint.load(top / name) for top in (folder, other))
        assert checkpoint.tensors_sha256(ours) == checkpoint.tensors_sha256(theirs)
        for held in (record, expected):
            progress = held.get("progress", {})
            for row in (progress, *progress.get("history", ())):
                row.pop("seconds", None)
        assert record == expected
    left = {path.name for path in folder.iterdir()} - {"waiting"}
    assert left == {"checkpoint.safetensors", "best.safetensors"}


def test_a_run_killed_at_random_moments_ends_as_if_never_killed(
    processes: ForkServerContext, uninterrupted: Path, tmp_path: Path
) -> None:
    # Saving after every update, a process spends most of its time in the middle of it.
    chance, kills, path = random.Random(), 0, tmp_path / "checkpoint.safetensors"
    for _ in range(3):
        running = started(processes, tmp_path)
        seen, wanted = set(), chance.randrange(8)
        while len(seen) <= wanted and running.is_alive():
            if path.exists():
                seen.add(path.stat().st_mtime_ns)
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.005))
        running.kill()
        running.join(60)
        kills += running.exitcode == -signal.SIGKILL
    assert kills >= 1
    running = started(processes, tmp_path)
    running.join(120)
    assert running.exitcode == 0
    assert_same_run(tmp_path, uninterrupted)


def test_signals_save_and_the_run_continues_from_there(
    processes: ForkServerContext, uninterrupted: Path, tmp_path: Path
) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        (tmp_path / "waiting").unlink(missing_ok=True)
        running = started(processes, tmp_path, False, math.inf, 0.02)
        wait(tmp_path, running)
        os.kill(running.pid, number)
        running.join(60)
        assert running.exitcode == process.INTERRUPTED
        _, record = load_checkpoint(tmp_path / "checkpoint.safetensors")
        assert 10 <= record.trainer.t < process.UPDATES
    process.train(tmp_path)
    assert_same_run(tmp_path, uninterrupted)


def test_a_second_signal_ends_an_estimate_that_hangs(processes: ForkServerContext, tmp_path: Path) -> None:
    running = started(processes, tmp_path, True)
    wait(tmp_path, running)
    os.kill(running.pid, signal.SIGINT)
    running.join(0.3)
    assert running.is_alive()
    while running.is_alive():  # Two signals that a busy process has not yet seen count as one.
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGINT)
        running.join(0.3)
    assert running.exitcode == process.ENDED
