"""Several seeds at once: each ends where it ends alone, with its own stopping point, files and resumption."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cgan import checkpoint
from cgan.fast.seeds import SeedsTrainer, fit_seeds
from cgan.loop import Diverged, Estimate, Interrupted, TrainingRun
from cgan.settings import StoppingSettings
from cgan.trainer import Trainer
from tests.cgan import nets
from tests.cgan.nets import CASES, FAST, SGD, assert_one_sentence, assert_same_state, layers, refused, specs
from tests.cgan.process import estimate, scripted

SEEDS = (3, 4, 5)
STOPPING = StoppingSettings(max_updates=24, first_estimate=3, estimate_every=6, patience=2, min_updates=0)


def trainers(
    name: str, dtype: torch.dtype = torch.float32, seeds: Sequence[int] = SEEDS, **changes: object
) -> list[Trainer]:
    pair, settings = CASES[name]
    data = nets.training_set(pair[0].condition, dtype)
    settings = replace(settings, **changes)
    return [nets.trainer(pair, settings, dtype=dtype, seed=seed, data=data) for seed in seeds]


@pytest.mark.parametrize("name", FAST)
def test_each_seed_equals_its_training_alone(name: str) -> None:
    gentle = {"learning_rate": 0.05, "min_learning_rate": 0.02, "averaging": 0.5}
    alone, together = trainers(name, torch.float64, **gentle), trainers(name, torch.float64, **gentle)
    at_once = SeedsTrainer(together)
    for _ in range(5):  # Over two epochs: each seed has its own order of the examples.
        at_once.step()
        for trainer in alone:
            trainer.step()
    for one, other in zip(together, alone, strict=True):
        assert_same_state(one, other, 1e-9, 1e-11)
    assert not torch.allclose(together[0].G.output.weight, together[1].G.output.weight, rtol=0.1)


def test_bfloat16_products_equal_those_of_a_training_alone() -> None:
    data = nets.training_set()
    together = [nets.trainer(specs(), seed=seed, data=data, precision="bfloat16") for seed in SEEDS]
    other = nets.trainer(specs(), seed=SEEDS[1], data=data, precision="bfloat16")
    start = other.G.output.weight.detach().clone()
    SeedsTrainer(together).step()
    other.step()
    moved, expected = together[1].G.output.weight - start, other.G.output.weight - start
    assert expected.norm() > 0 and (moved - expected).norm() < 0.03 * expected.norm()


def test_nan_in_one_seed_stays_there() -> None:
    together, untouched = trainers("paper"), trainers("paper")
    with torch.no_grad():
        together[1].D.output.bias.fill_(math.nan)
    at_once, other = SeedsTrainer(together), SeedsTrainer(untouched)
    for _ in range(3):
        at_once.step()
        other.step()
    assert together[1].loss_sums.isnan().all()
    for i in (0, 2):
        assert_same_state(together[i], untouched[i])


@pytest.mark.parametrize(
    ("second", "parts"),
    [
        ({"settings": replace(SGD, learning_rate=0.4)}, ("same specs, settings",)),
        ({"pair": specs(generator={"joint": layers("relu:7")})}, ("same specs, settings",)),
        ({"data": nets.training_set()}, ("training set",)),
        ({"settings": replace(SGD, optimiser="adam")}, ("optimiser=sgd", "one by one")),
        ({"fast": False}, ("fast update", "one by one")),
    ],
)
def test_what_cannot_be_trained_at_once_is_refused(second: dict, parts: tuple[str, ...]) -> None:
    first = {"pair": specs(), "settings": SGD, "data": nets.training_set()}
    with refused(*parts):
        SeedsTrainer([nets.trainer(**first), nets.trainer(**{**first, **second})])


# ---- whole runs


def runs_in(
    folder: Path,
    estimates: Sequence[Callable[[Trainer], Estimate]],
    seeds: Sequence[int] = SEEDS,
    resume: bool = False,
) -> list[TrainingRun]:
    runs = []
    for trainer, measure in zip(trainers("fresh conditions", torch.float64, seeds), estimates, strict=True):
        own = folder / str(trainer.seed)
        own.mkdir(exist_ok=True, parents=True)
        identity = {"seed": trainer.seed}
        runs.append(TrainingRun(trainer, STOPPING, measure, own, identity=identity, resume=resume))
    return runs


def test_each_run_has_its_own_end_and_a_diverged_one_leaves_the_rest_alone(tmp_path: Path) -> None:
    runs = runs_in(tmp_path, [scripted(5, 4, 3), scripted(1, math.nan), scripted(1, 2, 3, 4, 5)])
    sizes: list[int] = []
    ends = fit_seeds(runs, lambda batch: sizes.append(len(batch)))
    assert ends[0] is ends[2] is None and isinstance(ends[1], Diverged)
    assert_one_sentence(ends[1], "update 6", "nan")
    assert [run.trainer.t for run in runs] == [12, 6, 24]
    assert [run.progress.best_t for run in runs] == [3, 3, 24]
    assert sizes == [3] * 6 + [2] * 6 + [1] * 12
    assert checkpoint.load(tmp_path / "4" / "checkpoint.safetensors")[1]["trainer"]["t"] == 3


def test_after_a_signal_seeds_continue_together_or_alone(tmp_path: Path) -> None:
    def interrupt(batch: Sequence[TrainingRun]) -> None:
        if batch[0].trainer.t == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        fit_seeds(runs_in(tmp_path, [estimate] * 3), interrupt)
    saved = [checkpoint.load(tmp_path / str(seed) / "checkpoint.safetensors")[1] for seed in SEEDS]
    assert [record["trainer"]["t"] for record in saved] == [5, 5, 5]
    (run,) = runs_in(tmp_path, [estimate], SEEDS[1:2], resume=True)
    for _ in range(4):  # One seed continues by itself for a while.
        run.trainer.step()
        run.after_update()
    run.checkpoint()
    sizes: list[int] = []
    runs = runs_in(tmp_path, [estimate] * 3, resume=True)
    assert [run.trainer.t for run in runs] == [5, 9, 5]
    fit_seeds(runs, lambda batch: sizes.append(len(batch)))
    assert sizes[:5] == [2, 2, 2, 2, 3]
    for run, other in zip(runs, runs_in(tmp_path / "alone", [estimate] * 3), strict=True):
        other.train()
        assert_same_state(run.trainer, other.trainer, 1e-8, 1e-10)
        ours, theirs = run.progress, other.progress
        assert (ours.best_t, len(ours.history)) == (theirs.best_t, len(theirs.history)) and len(ours.history) > 1
        for row, twin in zip(ours.history, theirs.history, strict=True):
            assert {**row, "seconds": 0} == pytest.approx({**twin, "seconds": 0})
        (best, record), (expected, _) = (checkpoint.load(each.folder / "best.safetensors") for each in (run, other))
        assert (record["identity"], record["t"]) == ({"seed": run.trainer.seed}, ours.best_t)
        for name, value in best.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-10)
