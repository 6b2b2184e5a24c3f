"""The update with its rates on the device, as a CUDA graph needs it, against the update with plain numbers."""

from __future__ import annotations

import pytest
import torch

from cgan import CganError
from cgan.fast.seeds import ReplicaTrainer
from cgan.trainer import Examples, Trainer
from cgan.update import WARM_UP, Draws, Step
from tests.cgan import nets
from tests.cgan.fast.test_seeds import GAMES, MATCHING, SEEDS, SGD, assert_alike
from tests.cgan.nets import assert_one_sentence, specs

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("game", ["paper", "vectors, matching-aware minimax"])
def test_rates_may_lie_on_the_device(game: str, precision: str) -> None:
    played, other = (nets.trainer(*GAMES[game], precision=precision) for _ in range(2))
    draws = Draws.empty(played.G, played.D, played.examples, played.settings)
    places = [buffer.data_ptr() for buffer in vars(draws).values() if buffer is not None]
    step = Step(
        played.G,
        played.D,
        played.optimisers,
        played.examples,
        played.settings,
        draws,
        played.loss_sums,
        use_graph=False,
    )
    for _ in range(4 if precision == "float32" else 1):
        played.draw(draws)
        step.run(*torch.tensor(played.rates()))
        played.advance()
        other.step()
    # The gradient is rounded to bfloat16 after it is multiplied by the rate, or before.
    relative, absolute = (1e-4, 3e-6) if precision == "float32" else (0.05, 1e-3)
    assert_alike(played.state()[0], other.state()[0], relative, absolute)
    assert [buffer.data_ptr() for buffer in vars(draws).values() if buffer is not None] == places


def test_a_graph_is_refused_where_there_can_be_none() -> None:
    with pytest.raises(CganError) as caught:
        nets.trainer(specs(), SGD, use_graph=True)
    assert_one_sentence(caught.value, "use_graph", "CUDA")
    assert not nets.trainer(specs(), SGD).use_graph


def on_device(game: str, use_graph: bool) -> list[Trainer]:
    pair, settings = GAMES[game]
    held = nets.examples(pair[0].condition)
    data = Examples(held.x.cuda(), None if held.y is None else held.y.cuda())
    made = []
    for seed in SEEDS:
        start = nets.trainer(pair, settings, seed=seed)
        made.append(Trainer(start.G.cuda(), start.D.cuda(), data, settings, seed=seed, use_graph=use_graph))
    return made


@on_cuda
@pytest.mark.parametrize("game", GAMES)
def test_a_captured_update_is_the_eager_one(game: str) -> None:
    captured, eager, together = on_device(game, True), on_device(game, False), on_device(game, True)
    batch = ReplicaTrainer(together)
    for _ in range(WARM_UP + 4):
        for trainer in (*captured, *eager):
            trainer.step()
        batch.step()
    for one, other, replica in zip(captured, eager, together, strict=True):
        assert_alike(one.state()[0], other.state()[0], 1e-4, 1e-5)
        assert_alike(replica.state()[0], other.state()[0], 1e-3, 1e-5)


@on_cuda
def test_nothing_waits_for_the_device() -> None:
    trainers = on_device("paper, matching-aware", True)
    assert trainers[0].settings == MATCHING
    for trainer in trainers:
        for _ in range(WARM_UP + 1):
            trainer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):  # Over two epochs, each with an order from the CPU.
            trainers[0].step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
