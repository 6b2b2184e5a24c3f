"""The plain and the fast update against training by hand in NumPy float64, and against each other."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cgan.batches import TrainingSet, draw_batch
from cgan.fast.masks import bit_mask
from tests.cgan import nets
from tests.cgan.nets import CASES, CLASSES, DATA_DIM, FAST, MATCHING, SGD, assert_same_state, layers, specs
from tests.cgan.reference import Training


@pytest.mark.parametrize(
    ("name", "fast", "dtype", "relative", "absolute"),
    [(name, fast, torch.float64, 1e-9, 1e-9) for name in CASES for fast in (False, True)]
    # Adam divides the gradient of a bias before batch normalisation, zero but for rounding, by its own size.
    + [(name, True, torch.float32, 1e-4, 3e-6) for name in CASES if name != "tutorial"],
)
def test_three_updates_equal_numpy(name: str, fast: bool, dtype: torch.dtype, relative: float, absolute: float) -> None:
    trainer = nets.trainer(*CASES[name], dtype=dtype, fast=fast)
    assert trainer.fast_update_supported == (fast and name in FAST)
    by_hand = Training(trainer)
    for _ in range(3):  # Two updates are an epoch of 13 examples: the third comes from another permutation.
        trainer.step()
        by_hand.step()
    for player, network in (("G", trainer.G), ("D", trainer.D)):
        for entry, value in network.state_dict().items():
            expected = torch.as_tensor(by_hand.nets[player].weights[entry])
            torch.testing.assert_close(value.double(), expected, rtol=relative, atol=absolute, msg=f"{player} {entry}")
        assert not any(parameter.grad is not None for parameter in network.parameters())
    d_loss, g_loss = trainer.losses()
    assert d_loss == pytest.approx(sum(d for d, _ in by_hand.losses) / 3, rel=1e-5)
    assert g_loss == pytest.approx(sum(g for _, g in by_hand.losses) / 3, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_fast_update_equals_the_plain_one_with_the_same_masks(name: str) -> None:
    """To 1e-12 in float64 after five updates, in every branch of the update."""
    fast, plain = (nets.trainer(*CASES[name], dtype=torch.float64, fast=fast) for fast in (True, False))
    for network in (plain.G, plain.D):
        for layer in network.dropout_layers():
            layer.mask_function = bit_mask
    for _ in range(5):
        fast.step()
        plain.step()
    assert_same_state(fast, plain, 1e-12, 1e-13)


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


def test_wrong_conditions_are_never_the_row_s_own() -> None:
    """Each other class is drawn, about as often; a vector comes from another row."""
    settings, n = replace(MATCHING, batch_size=3000), 3000
    data = TrainingSet(torch.zeros(n, DATA_DIM), torch.full((n,), 2))
    batch = draw_batch(data, torch.arange(n), settings, *specs(), torch.Generator().manual_seed(0))
    counts = batch.y_wrong.bincount(minlength=CLASSES)
    assert counts[2] == 0
    assert all(abs(counts[c] - n / 3) < 5 * math.sqrt(n * 2 / 9) for c in (0, 1, 3))
    vectors, rows = torch.arange(60.0).view(20, 3), torch.arange(20)
    data = TrainingSet(torch.zeros(20, DATA_DIM), vectors)
    wrong = draw_batch(data, rows, MATCHING, *specs(condition="real"), torch.Generator().manual_seed(0)).y_wrong
    assert not (wrong == vectors).any() and torch.equal(wrong.sort(0).values, vectors)


def test_every_epoch_shows_every_example_once_in_another_order() -> None:
    trainer = nets.trainer(specs(), data=TrainingSet(torch.rand(12, DATA_DIM), torch.arange(12) % CLASSES))
    seen: list[Tensor] = []
    for _ in range(4):
        seen.append(trainer.next_examples())
        trainer.step()
    first, second = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(12))
    assert first.tolist() != second.tolist()
    assert trainer.epoch == 2.0


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


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
def test_the_seed_decides_everything_and_global_random_state_nothing(fast: bool) -> None:
    trained = []
    for global_seed, seed in ((0, 3), (1, 3), (0, 4)):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        trainer = nets.trainer(*CASES["fresh conditions"], seed=seed, fast=fast)
        trainer.step()
        trainer.step()
        assert torch.equal(before, torch.get_rng_state())
        trained.append(trainer)
    assert_same_state(trained[0], trained[1])
    assert not torch.equal(trained[0].G.output.weight, trained[2].G.output.weight)
