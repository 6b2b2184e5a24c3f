"""The captured update on CUDA against the eager one; skipped without CUDA."""

from __future__ import annotations

import pytest
import torch

from cgan.batches import TrainingSet
from cgan.fast.graph import WARM_UP
from cgan.fast.seeds import SeedsTrainer
from cgan.trainer import Trainer
from tests.cgan import nets
from tests.cgan.nets import CASES, FAST, assert_same_state

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here")


def on_cuda(name: str, use_graph: bool) -> list[Trainer]:
    pair, settings = CASES[name]
    held = nets.training_set(pair[0].condition)
    data = TrainingSet(held.x.cuda(), None if held.y is None else held.y.cuda())
    trainers = []
    for seed in (3, 4, 5):
        start = nets.trainer(pair, settings, seed=seed)
        trainers.append(Trainer(start.G.cuda(), start.D.cuda(), data, settings, seed=seed))
        trainers[-1].use_graph &= use_graph
    return trainers


@pytest.mark.parametrize("name", FAST)
def test_a_captured_update_equals_the_eager_one(name: str) -> None:
    captured, eager, together = on_cuda(name, True), on_cuda(name, False), on_cuda(name, True)
    at_once = SeedsTrainer(together)
    for _ in range(WARM_UP + 4):
        for trainer in (*captured, *eager):
            trainer.step()
        at_once.step()
    for one, other, seed in zip(captured, eager, together, strict=True):
        assert_same_state(one, other, 1e-4, 1e-5)
        assert_same_state(seed, other, 1e-3, 1e-5)


def test_an_update_never_waits_for_the_device() -> None:
    trainer = on_cuda("paper, matching-aware", True)[0]
    for _ in range(WARM_UP + 1):
        trainer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):  # Over two epochs, each with an order from the CPU.
            trainer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
