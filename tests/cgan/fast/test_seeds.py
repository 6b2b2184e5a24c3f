"""Replicas: each ends where it ends alone, with its own stopping point, files and resumption."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cgan import CganError
from cgan import checkpoint as checkpoints
from cgan.devices import seeded
from cgan.fast.seeds import ReplicaTrainer, fit_replicas
from cgan.settings import StoppingSettings, TrainingSettings
from cgan.trainer import Diverged, Estimate, Interrupted, Progress, Run, Trainer, fit
from tests.cgan import nets
from tests.cgan.nets import assert_one_sentence, layers, specs

SEEDS = (3, 4, 5)
SGD = TrainingSettings(batch_size=6, learning_rate=0.5, decay=1.5, min_learning_rate=0.2, momentum_ramp=3)
MATCHING = replace(SGD, discriminator_loss="matching_aware")
DROPPED = specs(
    dropout=0.5,
    generator={"input_dropout": 0.5, "condition_dropout": 0.25},
    discriminator={"input_dropout": 0.2},
)
GAMES = {
    "paper": (DROPPED, replace(SGD, fake_conditions="fresh")),
    "paper, matching-aware": (DROPPED, MATCHING),
    "gan": (
        specs(
            condition="none",
            generator={"input_branch": (), "output_bias": "marginals"},
            discriminator={"input_branch": (), "input_dropout": 0.2, "joint": layers("maxout:4x3,dropout=0.5")},
        ),
        SGD,
    ),
    "vectors, matching-aware minimax": (
        specs(condition="real", dropout=0.5, generator={"output": "linear"}),
        replace(MATCHING, generator_loss="minimax", learning_rate=0.05, min_learning_rate=0.02),
    ),
}


def trainers(game: str, dtype: torch.dtype = torch.float32, seeds: Sequence[int] = SEEDS) -> list[Trainer]:
    pair, settings = GAMES[game]
    data = nets.examples(pair[0].condition, dtype)
    return [nets.trainer(pair, settings, dtype=dtype, seed=seed, data=data) for seed in seeds]


def assert_alike(tensors: dict[str, Tensor], others: dict[str, Tensor], relative: float, absolute: float) -> None:
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        if name == "rng":
            assert torch.equal(value, others[name])
        else:
            rounding = {"rtol": 1e-5, "atol": 1e-6} if name == "loss_sums" else {"rtol": relative, "atol": absolute}
            torch.testing.assert_close(value, others[name], **rounding, msg=name)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(("dtype", "relative", "absolute"), [(torch.float64, 1e-9, 1e-11), (torch.float32, 1e-4, 3e-6)])
def test_each_replica_is_what_it_is_alone(game: str, dtype: torch.dtype, relative: float, absolute: float) -> None:
    alone, together = trainers(game, dtype), trainers(game, dtype)
    batch = ReplicaTrainer(together)
    for _ in range(5):  # Over two epochs: each has its own order of the examples.
        batch.step()
        for trainer in alone:
            trainer.step()
    for one, other in zip(together, alone, strict=True):
        (tensors, record), (expected, same) = one.state(), other.state()
        assert record == same == {"t": 5, "loss_count": 5}
        assert_alike(tensors, expected, relative, absolute)
    weights = [trainer.G.output.weight for trainer in together]
    assert not torch.allclose(weights[0], weights[1], rtol=0.1)


def test_a_replica_goes_on_alone_and_in_other_company() -> None:
    alone, together = trainers("paper", torch.float64), trainers("paper", torch.float64)
    for trainer in alone:
        for _ in range(6):
            trainer.step()
    together[2].step()  # One that has played before.
    ReplicaTrainer(together[:2]).step()
    ReplicaTrainer(together).step()
    left = ReplicaTrainer(together[1:])
    left.step()
    left.step()
    for trainer, more in zip(together, (4, 2, 2), strict=True):
        for _ in range(more):
            trainer.step()
    for one, other in zip(together, alone, strict=True):
        assert one.state()[1] == other.state()[1]
        assert_alike(one.state()[0], other.state()[0], 1e-9, 1e-11)


def test_bfloat16_products_are_those_of_a_run_alone() -> None:
    pair, data = specs(), nets.examples()
    alone, together = (
        [nets.trainer(pair, SGD, seed=seed, data=data, precision="bfloat16") for seed in SEEDS] for _ in range(2)
    )
    ReplicaTrainer(together).step()
    for one, other in zip(together, alone, strict=True):
        start = other.G.output.weight.detach().clone()
        other.step()
        step, expected = one.G.output.weight - start, other.G.output.weight - start
        assert expected.norm() > 0 and (step - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"settings": replace(SGD, learning_rate=0.4)}, ("same specs, settings",)),
        ({"pair": specs(generator={"joint": layers("relu:7")})}, ("same specs, settings",)),
        ({"data": nets.examples()}, ("examples",)),
        ({"settings": replace(SGD, optimiser="adam")}, ("optimiser=sgd", "one by one")),
        ({"pair": specs(discriminator={"joint": layers("relu:4,batch_norm")})}, ("batch normalisation", "one by one")),
    ],
)
def test_what_cannot_be_trained_at_once_is_refused(second: dict, words: tuple[str, ...]) -> None:
    first = {"pair": specs(), "settings": SGD, "data": nets.examples()}
    with pytest.raises(CganError) as caught:
        ReplicaTrainer([nets.trainer(**first), nets.trainer(**{**first, **second})])
    assert_one_sentence(caught.value, *words)


# ---- whole runs

STOPPING = StoppingSettings(max_updates=24, first_estimate=3, estimate_every=6, patience=2, min_updates=0)


def measured(trainer: Trainer) -> Estimate:
    """How near the mean sample is to the mean datum, from a stream of its own."""
    samples = trainer.G.sample(torch.arange(40) % nets.CLASSES, 40, seeded(0, "estimate"))
    distance = (samples.mean(0) - trainer.examples.x.mean(0)).norm().item()
    return Estimate(-distance, {"distance": distance}, "")


def scripted(*scores: float) -> Callable[[Trainer], Estimate]:
    left = iter(scores)
    return lambda _: Estimate(next(left), {}, "")


def runs_of(
    folder: Path,
    estimates: Sequence[Callable[[Trainer], Estimate]],
    seeds: Sequence[int] = SEEDS,
    stopping: StoppingSettings = STOPPING,
    resume: bool = False,
) -> list[Run]:
    made = []
    for seed, trainer, estimate in zip(seeds, trainers("paper", torch.float64, seeds), estimates, strict=True):
        place = folder / str(seed)
        place.mkdir(exist_ok=True, parents=True)
        made.append(Run(trainer, stopping, estimate, place, identity={"seed": seed}, resume=resume))
    return made


def alone(folder: Path, stopping: StoppingSettings = STOPPING) -> dict[int, Progress]:
    """The same runs, one by one."""
    progress = {}
    for seed, trainer in zip(SEEDS, trainers("paper", torch.float64), strict=True):
        (folder / str(seed)).mkdir(parents=True)
        progress[seed] = fit(trainer, stopping, measured, folder / str(seed), identity={"seed": seed})
    return progress


def assert_same_runs(folder: Path, other: Path) -> None:
    """The same files but for rounding."""
    for seed in SEEDS:
        for name in ("checkpoint.safetensors", "best.safetensors"):
            (tensors, record), (expected, same) = (checkpoints.load(top / str(seed) / name) for top in (folder, other))
            assert_alike(tensors, expected, 1e-8, 1e-10)
            for kept in (record, same):
                for row in kept.get("progress", {}).get("history", ()):
                    assert row.pop("seconds") >= 0
            if name.startswith("best"):
                assert record == {"t": same["t"], "score": pytest.approx(same["score"])}
                continue
            assert record["trainer"] == same["trainer"] and record["identity"] == same["identity"] == {"seed": seed}
            ours, theirs = record["progress"]["history"], same["progress"]["history"]
            assert len(ours) == len(theirs) > 1
            assert all(row == pytest.approx(twin) for row, twin in zip(ours, theirs, strict=True))
            assert record["progress"]["best_t"] == same["progress"]["best_t"]


def test_whole_runs_leave_the_files_of_runs_alone(tmp_path: Path) -> None:
    progress = alone(tmp_path / "alone")
    runs = runs_of(tmp_path / "together", [measured] * 3)
    seen: list[list[int]] = []
    assert fit_replicas(runs, lambda batch: seen.append([run.trainer.t for run in batch])) == [None] * 3
    assert_same_runs(tmp_path / "together", tmp_path / "alone")
    assert [run.progress.best_t for run in runs] == [progress[seed].best_t for seed in SEEDS]
    assert len({run.progress.best_score for run in runs}) == 3
    assert seen[0] == [1, 1, 1] and len(seen) == max(run.trainer.t for run in runs)


def test_each_has_its_own_stopping_point_and_a_lost_game_leaves_the_others_alone(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, [scripted(5, 4, 3), scripted(1, math.nan), scripted(1, 2, 3, 4, 5)])
    sizes: list[int] = []
    ends = fit_replicas(runs, lambda batch: sizes.append(len(batch)))
    assert ends[0] is ends[2] is None
    assert isinstance(ends[1], Diverged)
    assert_one_sentence(ends[1], "update 6", "nan")
    assert [run.trainer.t for run in runs] == [12, 6, 24]
    assert [run.progress.best_t for run in runs] == [3, 3, 24]
    assert sizes == [3] * 6 + [2] * 6 + [1] * 12
    # Where the second one lost, its last good checkpoint stands.
    assert checkpoints.load(tmp_path / "4" / "checkpoint.safetensors")[1]["trainer"]["t"] == 3


def test_nan_in_one_replica_stays_there(tmp_path: Path) -> None:
    together, untouched = trainers("paper"), trainers("paper")
    with torch.no_grad():
        together[1].D.output.bias.fill_(math.nan)
    batch, other = ReplicaTrainer(together), ReplicaTrainer(untouched)
    for _ in range(3):
        batch.step()
        other.step()
    assert math.isnan(together[1].losses()[0])
    for index in (0, 2):
        assert_alike(together[index].state()[0], untouched[index].state()[0], 0, 0)


def test_an_interrupt_saves_all_and_they_go_on_together_alone_or_one_behind_another(tmp_path: Path) -> None:
    alone(tmp_path / "alone")

    def interrupt(batch: Sequence[Run]) -> None:
        if batch[0].trainer.t == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        fit_replicas(runs_of(tmp_path / "x", [measured] * 3), interrupt)
    saved = [checkpoints.load(tmp_path / "x" / str(seed) / "checkpoint.safetensors")[1] for seed in SEEDS]
    assert [record["trainer"]["t"] for record in saved] == [5, 5, 5]
    # One goes on by itself for a while, as a run that never heard of replicas.
    (run,) = runs_of(tmp_path / "x", [measured], SEEDS[1:2], resume=True)
    for _ in range(4):
        run.trainer.step()
        run.after_update()
    run.checkpoint()
    sizes: list[int] = []
    runs = runs_of(tmp_path / "x", [measured] * 3, resume=True)
    assert [run.trainer.t for run in runs] == [5, 9, 5]
    fit_replicas(runs, lambda batch: sizes.append(len(batch)))
    assert sizes[:5] == [2, 2, 2, 2, 3]
    assert_same_runs(tmp_path / "x", tmp_path / "alone")


def test_finished_runs_are_not_gone_on_with(tmp_path: Path) -> None:
    fit_replicas(runs_of(tmp_path, [scripted(5, 4, 3), scripted(1, 2, 3, 4, 5), scripted(1, 2, 3, 4, 5)]))
    sizes: list[int] = []
    longer = replace(STOPPING, max_updates=27)
    runs = runs_of(tmp_path, [scripted(), scripted(6), scripted(6)], stopping=longer, resume=True)
    fit_replicas(runs, lambda batch: sizes.append(len(batch)))
    assert sizes == [2, 2, 2] and [run.trainer.t for run in runs] == [12, 27, 27]
