"""Layers: initial weights against SciPy, dropout against the binomial, the rest against NumPy in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cgan.layers import Affine, HiddenLayer, dropout, dropout_multiplier, initialise, maxout
from cgan.specs import Init, Layer


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- initial weights


@pytest.mark.parametrize(
    ("init", "bound"),
    [
        (Init("uniform", 0.05), 0.05),
        (Init("fan_in"), math.sqrt(6 / 300)),
        (Init("fan_in", 0.5), math.sqrt(6 / 300) / 2),
        (Init("torch"), 1 / math.sqrt(300)),
        (Init("torch", 2.0), 2 / math.sqrt(300)),
    ],
    ids=str,
)
def test_uniform_weights_fill_their_range(init: Init, bound: float) -> None:
    weight = torch.full((200, 300), math.nan)
    initialise(weight, init, stream())
    assert weight.abs().max() <= bound
    assert stats.kstest(weight.double().numpy().ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01


def test_normal_weights_are_normal() -> None:
    weight = torch.full((200, 300), math.nan)
    initialise(weight, Init("normal", 0.02), stream())
    assert stats.kstest(weight.double().numpy().ravel(), stats.norm(0, 0.02).cdf).pvalue > 0.01


def test_torch_is_pytorchs_own_choice() -> None:
    torch.manual_seed(0)
    own = torch.nn.Linear(300, 200).weight.detach().numpy().ravel()
    affine = Affine(300, 200, Init("torch"), stream())
    assert stats.ks_2samp(own, affine.weight.detach().numpy().ravel()).pvalue > 0.01


@pytest.mark.parametrize("kind", ["uniform", "normal", "fan_in", "torch"])
def test_weights_are_decided_by_the_stream_alone(kind: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (Affine(30, 20, Init(kind, 0.5), stream(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert not first.bias.any()
    assert torch.equal(before, torch.get_rng_state())


def test_batch_normalisation_starts_where_the_tutorial_has_it() -> None:
    """Scales from N(1, 0.02) beside weights from N(0, 0.02); 1 beside any other initialisation."""
    scales = HiddenLayer(2, Layer("relu", 3000, batch_norm=True), Init("normal", 0.02), stream()).norm.weight.detach()
    assert stats.kstest(scales.double().numpy(), stats.norm(1, 0.02).cdf).pvalue > 0.01
    plain = HiddenLayer(2, Layer("relu", 5, batch_norm=True), Init("uniform", 0.02), stream()).norm
    assert (plain.weight == 1).all() and not plain.bias.any()


# ---- dropout

#: Multiples of 1/256 are cut from 8 bits an entry, all others from 16; the last three lie within rounding of 0 and 1.
SHARES = [0.5, 0.25, 0.75, 1 / 256, 255 / 256, 0.2, 0.1, 0.4, 0.999, 1e-4, 1e-9, 1 - 1e-9, 1 - 2**-17]


@pytest.mark.parametrize("p", SHARES)
def test_dropout_keeps_its_share_and_the_expectation(p: float) -> None:
    shape = (401, 503)  # No multiple of the entries in a 64-bit word.
    multiplier = dropout_multiplier(shape, p, stream())
    assert multiplier.shape == shape and multiplier.dtype == torch.float32
    levels = 256 if (p * 256).is_integer() else 65536
    dropped = min(round(p * levels), levels - 1) / levels
    assert abs(dropped - p) <= 1 / 65536
    n, kept = multiplier.numel(), int(multiplier.count_nonzero())
    low, high = stats.binom(n, 1 - dropped).ppf([1e-6, 1 - 1e-6])
    assert low <= kept <= high
    # What is kept is scaled by one over the share that is really kept, so that the mean stays.
    scale = np.float32(1 / (1 - dropped))
    assert set(multiplier.unique().tolist()) <= {0.0, float(scale)}
    assert scale * (1 - dropped) == pytest.approx(1, rel=1e-7)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_dropout_treats_entries_alike_and_apart(p: float) -> None:
    """Each place in a word drops as often, and no entry tells of its neighbours."""
    n = 320_000
    kept = (dropout_multiplier((n,), p, stream()) > 0).double().numpy()
    for place in range(8):
        share = kept[place::8].mean()
        assert abs(share - (1 - p)) < 5 * math.sqrt(p * (1 - p) / (n / 8))
    for lag in (1, 2, 3, 4, 7, 8):
        assert abs(np.corrcoef(kept[:-lag], kept[lag:])[0, 1]) < 5 / math.sqrt(n)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_dropout_is_decided_by_its_stream(p: float) -> None:
    before = torch.get_rng_state()
    x = torch.rand(30, 7)[:, 1:]  # Not contiguous.
    rng = stream(4)
    first, second = dropout(x, p, rng), dropout(x, p, rng)
    assert torch.equal(first, dropout(x, p, stream(4)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, dropout(x, p, stream(5)))
    multiplier = dropout_multiplier((30, 6), p, stream(4))
    assert torch.equal(first, x * multiplier)
    torch.set_rng_state(before)
    dropout(x, p, rng)
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_is_off_without_a_stream_and_draws_nothing_at_zero() -> None:
    x, rng = torch.rand(3, 4), stream()
    state = rng.get_state()
    assert dropout(x, 0.5, None) is x and dropout(x, 0.0, rng) is x
    assert torch.equal(rng.get_state(), state)


def test_dropout_drops_the_gradient_too() -> None:
    x = torch.rand(20, 10, requires_grad=True)
    dropout(x, 0.5, stream()).sum().backward()
    assert torch.equal(x.grad, dropout_multiplier((20, 10), 0.5, stream()))


# ---- activations


@given(st.integers(1, 6), st.integers(2, 5), st.integers(1, 7), st.integers(0, 2**32))
def test_maxout_is_numpys(n: int, pieces: int, units: int, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-3, 4, (n, pieces * units)).astype(float)  # Ties are common.
    expected = np.max([x[:, i * units : (i + 1) * units] for i in range(pieces)], 0)
    assert np.array_equal(maxout(torch.from_numpy(x), pieces).numpy(), expected)


def test_maxout_sends_the_gradient_to_the_largest_piece_and_shares_it_among_equals() -> None:
    x = torch.tensor([[1.0, 5.0, 3.0, 5.0, 2.0, 5.0]], requires_grad=True)  # Pieces (1, 5), (3, 5), (2, 5).
    (maxout(x, 3) * torch.tensor([1.0, 6.0])).sum().backward()
    assert x.grad.tolist() == [[0, 2, 1, 2, 0, 2]]


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("relu:6", lambda a: np.maximum(a, 0)),
        ("leaky_relu:6", lambda a: np.where(a > 0, a, 0.2 * a)),
        ("linear:6", lambda a: a),
        ("maxout:3x2", lambda a: np.maximum(a[:, :3], a[:, 3:])),
    ],
)
def test_a_layer_is_its_affine_map_and_its_activation(text: str, function) -> None:  # type: ignore[no-untyped-def]
    layer = HiddenLayer(4, Layer.parse(text), Init("normal", 1.0), stream()).double()
    torch.nn.init.normal_(layer.affine.bias, generator=stream(9))
    x = np.random.default_rng(0).normal(size=(5, 4))
    a = x @ layer.affine.weight.detach().numpy().T + layer.affine.bias.detach().numpy()
    assert (a > 0).any() and (a < 0).any()
    found = layer(torch.from_numpy(x), None)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.detach().numpy(), function(a), rtol=1e-12)


# ---- products


@pytest.mark.parametrize("absorbed", [False, True])
def test_products_are_rounded_while_training_alone(absorbed: bool) -> None:
    affine, x = Affine(64, 32, Init("fan_in"), stream()), torch.randn(16, 64, generator=stream(1))
    exact = x.double() @ affine.weight.double().T
    full = affine(x)
    affine.product_dtype = torch.bfloat16
    factors: list[tuple[torch.Tensor, torch.Tensor]] = []
    if absorbed:
        affine.absorb = lambda g, x: factors.append((g, x))
    x.requires_grad_()
    rounded = affine(x)
    rounded.sum().backward()
    assert rounded.dtype == x.grad.dtype == torch.float32
    error = (rounded.double() - exact).norm() / exact.norm()
    assert 1e-4 < error < 1e-2
    assert (full.double() - exact).norm() / exact.norm() < 1e-6
    torch.testing.assert_close(x.grad, affine.weight.detach().sum(0).expand(16, -1), rtol=0.05, atol=0.05)
    if absorbed:
        ((g, seen),) = factors
        assert affine.weight.grad is None and affine.bias.grad is None
        assert torch.equal(g, torch.ones(16, 32)) and torch.equal(seen, x.detach().bfloat16())
    affine.eval()
    assert torch.equal(affine(x), full)
    affine(x).sum().backward()  # In evaluation mode gradients are ordinary ones.
    torch.testing.assert_close(affine.weight.grad[0], x.detach().sum(0) * (1 if absorbed else 2), rtol=0.05, atol=0.05)
