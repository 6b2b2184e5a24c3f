"""The plain and the fast update against training by hand in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cgan.batches import TrainingSet
from tests.cgan import nets
from tests.cgan.nets import CASES, CLASSES, DATA_DIM, FAST, SGD, assert_same_state, layers, specs
from tests.cgan.reference import Training


@pytest.mark.parametrize(
    ("name", "fast", "dtype"),
    [(name, fast, torch.float64) for name in CASES for fast in (False, True)]
    # Adam divides the gradient of a bias before batch normalisation, zero but for rounding, by its own size.
    + [(name, True, torch.float32) for name in CASES if name != "tutorial"],
)
def test_three_updates_equal_those_by_hand(name: str, fast: bool, dtype: torch.dtype) -> None:
    close = {"rtol": 1e-9, "atol": 1e-8} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 3e-6}
    trainer = nets.trainer(*CASES[name], dtype=dtype, fast=fast)
    assert trainer.fast_update_supported == (fast and name in FAST)
    by_hand, of_pytorch = Training(trainer), torch.get_rng_state()
    for _ in range(3):  # Two updates are an epoch of 13 examples: the third comes from another permutation.
        trainer.step()
        by_hand.step()
    assert torch.equal(torch.get_rng_state(), of_pytorch)
    for player, network in (("G", trainer.G), ("D", trainer.D)):
        for entry, value in network.state_dict().items():
            expected = by_hand.nets[player].weights[entry]
            torch.testing.assert_close(value.double(), expected, **close, msg=f"{player} {entry}")
        assert not any(parameter.grad is not None for parameter in network.parameters())
    d_loss, g_loss = trainer.losses()
    assert d_loss == pytest.approx(sum(d for d, _ in by_hand.losses) / 3, rel=1e-5)
    assert g_loss == pytest.approx(sum(g for _, g in by_hand.losses) / 3, rel=1e-5)


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
@pytest.mark.parametrize("update", ["simultaneous", "alternating"])
def test_bfloat16_products_stay_near_float32(update: str, fast: bool) -> None:
    """One update moves each weight as in float32 to 3% in norm, which is rounding; weights stay float32."""
    branches = {part: layers("linear:40") for part in ("input_branch", "condition_branch", "joint")}
    pair, settings = specs(generator=branches, discriminator=branches), replace(SGD, batch_size=64, update=update)
    y = torch.arange(128) % CLASSES
    noise = torch.rand(128, DATA_DIM, generator=torch.Generator().manual_seed(5))
    data = TrainingSet((noise + torch.eye(CLASSES, DATA_DIM)[y]) / 2, y)
    full = nets.trainer(pair, settings, data=data, fast=fast)
    half = nets.trainer(pair, settings, data=data, fast=fast, precision="bfloat16")
    start = {name: value.clone() for name, value in full.state()[0].items()}
    full.step()
    half.step()
    for name, value in half.state()[0].items():
        if name.split(".")[1:2] != ["optimiser"] and name.startswith(("G.", "D.")):
            moved, expected = value - start[name], full.state()[0][name] - start[name]
            assert value.dtype == torch.float32
            assert 0 < (moved - expected).norm() < 0.03 * expected.norm(), name
    assert half.losses() == pytest.approx(full.losses(), rel=5e-3)
    # Evaluation is in float32: the same weights give the same samples to the bit.
    full.G.load_state_dict(half.G.state_dict())
    labels, rng = torch.arange(CLASSES), torch.Generator().manual_seed
    assert torch.equal(half.G.sample(labels, 4, rng(0)), full.G.sample(labels, 4, rng(0)))


def test_indexed_examples_equal_stored_pairs() -> None:
    rng = torch.Generator().manual_seed(1)
    x, y = torch.rand(7, DATA_DIM, generator=rng), torch.randn(3, 3, generator=rng)
    x_index, y_index = torch.randint(7, (40,), generator=rng), torch.randint(3, (40,), generator=rng)
    indexed, pairs = TrainingSet(x, y, x_index, y_index), TrainingSet(x[x_index], y[y_index])
    assert indexed.count == pairs.count == 40 and indexed.x is x and indexed.y is y
    a, b = (nets.trainer(specs(condition="real"), data=data) for data in (indexed, pairs))
    for _ in range(3):
        a.step()
        b.step()
    assert_same_state(a, b)
