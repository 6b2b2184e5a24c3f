"""Layers: initial weights against SciPy, dropout masks against the binomial law, activations against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cgan.fast import layers as fast_layers
from cgan.fast.masks import bit_mask
from cgan.layers import Dropout, HiddenLayer, Maxout, bernoulli_mask, initialise_, linear
from cgan.specs import Init, Layer
from tests.cgan.nets import stream

CPU = torch.device("cpu")


def test_initial_weights_have_their_distribution() -> None:
    for init, law in (
        (Init("uniform", 0.05), stats.uniform(-0.05, 0.1)),
        (Init("fan_in", 0.5), stats.uniform(-math.sqrt(6 / 300) / 2, math.sqrt(6 / 300))),
        (Init("torch", 2.0), stats.uniform(-2 / math.sqrt(300), 4 / math.sqrt(300))),
        (Init("normal", 0.02), stats.norm(0, 0.02)),
    ):
        weight = initialise_(torch.full((200, 300), math.nan), init, stream()).double().numpy().ravel()
        assert stats.kstest(weight, law.cdf).pvalue > 0.01, init
    torch.manual_seed(0)
    pytorch = torch.nn.Linear(300, 200).weight.detach().numpy().ravel()
    ours = linear(300, 200, Init("torch"), stream()).weight.detach().numpy().ravel()
    assert stats.ks_2samp(pytorch, ours).pvalue > 0.01


def test_batch_normalisation_starts_as_in_the_tutorial() -> None:
    """Scales from N(1, 0.02) beside weights from N(0, 0.02); 1 beside any other initialisation."""
    scales = HiddenLayer(2, Layer("relu", 3000, batch_norm=True), Init("normal", 0.02), stream()).norm.weight.detach()
    assert stats.kstest(scales.double().numpy(), stats.norm(1, 0.02).cdf).pvalue > 0.01
    plain = HiddenLayer(2, Layer("relu", 5, batch_norm=True), Init("uniform", 0.02), stream()).norm
    assert (plain.weight == 1).all() and not plain.bias.any()


# Multiples of 1/256 are cut from 8 bits an entry, all others from 16; the last three lie within rounding of 0 and 1.
@pytest.mark.parametrize("p", [0.5, 1 / 256, 255 / 256, 0.2, 1e-4, 1e-9, 1 - 1e-9, 1 - 2**-17])
def test_bit_masks_keep_their_share_and_the_expectation(p: float) -> None:
    shape = (401, 503)  # No multiple of the entries in a 64-bit word.
    mask = bit_mask(shape, p, stream(), CPU)
    assert mask.shape == shape and mask.dtype == torch.float32
    levels = 256 if (p * 256).is_integer() else 65536
    dropped = min(round(p * levels), levels - 1) / levels
    assert abs(dropped - p) <= 1 / 65536
    low, high = stats.binom(mask.numel(), 1 - dropped).ppf([1e-6, 1 - 1e-6])
    assert low <= int(mask.count_nonzero()) <= high
    assert set(mask.unique().tolist()) <= {0.0, float(np.float32(1 / (1 - dropped)))}


@pytest.mark.parametrize("mask_function", [bernoulli_mask, bit_mask])
@pytest.mark.parametrize("p", [0.5, 0.2])
def test_mask_entries_are_independent(p: float, mask_function) -> None:  # type: ignore[no-untyped-def]
    """Each position in a word drops as often, neighbours are uncorrelated, and the mean is 1."""
    n = 320_000
    mask = mask_function((n,), p, stream(), CPU)
    kept = (mask > 0).double().numpy()
    for position in range(8):
        assert abs(kept[position::8].mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / (n / 8))
    for lag in (1, 2, 3, 4, 7, 8):
        assert abs(np.corrcoef(kept[:-lag], kept[lag:])[0, 1]) < 5 / math.sqrt(n)
    assert abs(float(mask.double().mean()) - 1) < 5 * math.sqrt(p / (1 - p) / n)


def test_dropout_follows_mode_and_generator() -> None:
    layer, x = Dropout(0.5), torch.rand(30, 6)
    before = torch.get_rng_state()
    layer.generator = stream(4)
    first, second = layer(x), layer(x)
    assert torch.equal(first, x * bernoulli_mask(x.shape, 0.5, stream(4), CPU)) and not torch.equal(first, second)
    assert layer.eval()(x) is x and Dropout(0.0)(x) is x
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("maxout", [Maxout(3), lambda x: fast_layers.maxout(x, 3)], ids=["plain", "fused"])
def test_maxout_shares_the_gradient_among_equal_pieces(maxout) -> None:  # type: ignore[no-untyped-def]
    x = torch.tensor([[1.0, 5.0, 3.0, 5.0, 2.0, 5.0]], requires_grad=True)  # Pieces (1, 5), (3, 5), (2, 5).
    (maxout(x) * torch.tensor([1.0, 6.0])).sum().backward()
    assert x.grad.tolist() == [[0, 2, 1, 2, 0, 2]]
