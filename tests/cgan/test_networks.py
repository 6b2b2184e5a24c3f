"""Networks: the paper's by hand-counted parameters, every kind of condition, output ranges, noise and samples."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import datasets

from cgan.devices import seeded
from cgan.networks import Discriminator, Generator, interpolate_noise, output_logit, sample_noise
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Init
from tests.cgan.nets import CLASSES, layers, refused, specs, stream

LABEL: dict[str, Any] = {"condition": "one_hot", "condition_dim": 10}
FEATURE: dict[str, Any] = {"condition": "real", "condition_dim": 4096}
MNIST_G: dict[str, Any] = {"input_branch": "relu:200", "condition_branch": "relu:1000", "joint": "relu:1200"}
MNIST_D = {"input_branch": "maxout:240x5", "condition_branch": "maxout:50x5", "joint": "maxout:240x4"}
FLICKR_G: dict[str, Any] = {"input_branch": "relu:500", "condition_branch": "relu:2000", "output_dim": 200}
FLICKR_D = {"input_branch": "relu:500", "condition_branch": "relu:1200", "joint": "maxout:1000x3"}


@pytest.mark.parametrize(
    ("network", "spec", "expected"),
    [
        (Generator, GeneratorSpec(100, **LABEL, **MNIST_G), 101 * 200 + 11 * 1000 + 1201 * 1200 + 1201 * 784),
        (Discriminator, DiscriminatorSpec(784, **LABEL, **MNIST_D), 5 * (785 * 240 + 11 * 50) + 4 * 291 * 240 + 241),
        (Generator, GeneratorSpec(100, **FEATURE, **FLICKR_G), 101 * 500 + 4097 * 2000 + 2501 * 200),
        (
            Discriminator,
            DiscriminatorSpec(200, **FEATURE, **FLICKR_D),
            201 * 500 + 4097 * 1200 + 3 * 1701 * 1000 + 1001,
        ),
    ],
)
def test_parameter_counts_are_those_counted_by_hand(network: Any, spec: Any, expected: int) -> None:
    assert sum(parameter.numel() for parameter in network(spec, 1).parameters()) == expected


def test_a_missing_condition_is_refused_and_an_unwanted_one_ignored() -> None:
    with refused("one_hot", "pass one per row"):
        Discriminator(specs()[1], stream())(torch.rand(2, 5))
    g, z = Generator(specs(condition="none")[0], stream()), torch.rand(2, 3)
    assert torch.equal(g(z), g(z, torch.tensor([1, 2])))


def test_marginal_biases_show_the_mean_image() -> None:
    mean = torch.from_numpy(datasets.load_digits().data / 16).float().mean(0)
    assert mean.min() == 0  # A corner that is always empty: its logit is clipped.
    silent = {"output_dim": 64, "output_bias": "marginals", "output_init": Init("uniform", 1e-12)}
    for output, shown in (("sigmoid", mean), ("tanh", mean * 2 - 1), ("linear", mean)):
        g = Generator(specs(generator={**silent, "output": output})[0], stream(), shown)
        torch.testing.assert_close(
            g.sample(torch.arange(20) % 4, 20, stream(1)), shown.expand(20, -1), rtol=0, atol=1e-6
        )
    ends, clip = torch.tensor([0.0, 1e-9, 0.25, 1.0]), math.log(1e-7 / (1 - 1e-7))
    bias = output_logit(ends, "sigmoid")
    assert bias.tolist() == pytest.approx([clip, clip, math.log(1 / 3), -clip], rel=1e-6)
    assert output_logit(ends * 2 - 1, "tanh").tolist() == pytest.approx([b / 2 for b in bias.tolist()], rel=1e-6)
    with refused("output_bias", "data_mean"):
        Generator(specs(generator={"output_bias": "marginals"})[0], stream())


def test_each_part_has_its_own_initialisation() -> None:
    parts = ("input", "condition", "joint", "output")
    inits = {f"{part}_init": Init("uniform", i / 10) for i, part in enumerate(parts, start=1)}
    wide: dict[str, Any] = dict.fromkeys(("input_branch", "condition_branch", "joint"), layers("relu:100", "relu:100"))
    pair = specs(generator=wide | inits, discriminator=wide | inits)
    for network in (Generator(pair[0], stream()), Discriminator(pair[1], stream())):
        for name, value in network.named_parameters():
            if name.endswith("weight"):
                bound = inits[f"{name.split('.')[0].removesuffix('_branch')}_init"].scale
                assert 0.9 * bound < value.abs().max() <= bound, name
            else:
                assert not value.any(), name
    embedded = specs(condition="embedding", generator={"condition_dim": 200, "embedding_dim": 50})[0]
    table = Generator(embedded, stream()).condition_encoder.weight.detach().double().numpy().ravel()
    assert stats.kstest(table, stats.norm.cdf).pvalue > 0.01


def test_weights_are_decided_by_the_generator_alone() -> None:
    before = torch.get_rng_state()
    spec = specs(condition="embedding", generator={"joint": layers("relu:6,batch_norm"), "joint_init": Init("normal")})
    first, again, other = (Generator(spec[0], seed).state_dict() for seed in (seeded(1, "G"), 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if "bias" not in name and "running" not in name and "tracked" not in name]
    assert len(drawn) == 6 and not any(torch.equal(first[name], other[name]) for name in drawn)
    assert torch.equal(before, torch.get_rng_state())


def test_interpolated_noise_runs_from_end_to_end() -> None:
    start, end = torch.randn(2, 50, generator=stream(), dtype=torch.float64)
    line = interpolate_noise(start, end, 5)
    torch.testing.assert_close(line, torch.stack([start + (end - start) * i / 4 for i in range(5)]))
    arc = interpolate_noise(start / start.norm(), end / end.norm(), 7, spherical=True)
    torch.testing.assert_close(arc.norm(dim=1), torch.ones(7, dtype=torch.float64))
    angles = torch.acos((arc[:-1] * arc[1:]).sum(1))
    torch.testing.assert_close(angles, angles[:1].expand(6))
    torch.testing.assert_close(interpolate_noise(start, -start, 3, spherical=True)[1], torch.zeros_like(start))


@pytest.mark.parametrize("condition", ["none", "one_hot", "real"])
def test_samples_are_drawn_in_evaluation_mode_whatever_the_block(condition: str) -> None:
    spec = specs(condition=condition, dropout=0.5, generator={"joint": layers("relu:6,batch_norm,dropout=0.5")})[0]
    g = Generator(spec, stream())
    y = {"none": None, "real": torch.randn(25, 3, generator=stream(2))}.get(condition, torch.arange(25) % 4)
    g(sample_noise("normal", (25, 3), stream(3)), y)  # Moves the running statistics away from their start.
    before = copy.deepcopy(g.state_dict())
    whole = g.sample(y, 25, stream(7))
    assert g.training and not whole.requires_grad
    torch.testing.assert_close(whole, g.sample(y, 25, stream(7), block=4), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(before[name], value) for name, value in g.state_dict().items())
    g.eval()
    torch.testing.assert_close(whole, g(sample_noise(spec.noise, (25, 3), stream(7)), y), rtol=1e-5, atol=1e-6)


def test_samples_with_dropout_spread_as_the_binomial_law_says() -> None:
    p, spec = 0.25, specs(condition="none", generator={"joint": layers("relu:6,dropout=0.25"), "output": "linear"})[0]
    g = Generator(spec, stream())
    with torch.no_grad():
        for parameter in g.input_branch.parameters():
            parameter.zero_()  # The noise is cut off: only the masks are random.
        g.joint[0].linear.bias.uniform_(0.5, 1.5, generator=stream(1))
    still, drawn = g.sample(None, 2, stream(2)), g.sample(None, 40_000, stream(2), dropout=True)
    torch.testing.assert_close(still[0], still[1])
    parts = (g.output.weight * g.joint[0].linear.bias.relu()).detach().double()
    np.testing.assert_allclose(drawn.mean(0), still[0], atol=0.02)
    np.testing.assert_allclose(drawn.var(0), p / (1 - p) * parts.square().sum(1), rtol=0.04)
    assert torch.equal(drawn, g.sample(None, 40_000, stream(2), dropout=True))
    assert g.training and g.dropout_layers()[0].training and g.dropout_layers()[0].generator is None


def test_a_rate_of_dropout_while_sampling_is_that_of_a_network_with_it() -> None:
    half, most = (Generator(specs(dropout=p)[0], stream()) for p in (0.5, 0.75))
    y = torch.arange(40) % CLASSES
    assert torch.equal(half.sample(y, dropout=0.75), most.sample(y, dropout=True))
    assert torch.equal(half.sample(y, dropout=True), most.sample(y, dropout=0.5))
    assert {layer.p for layer in half.dropout_layers()} == {0.5}
    for rate in (1.0, -0.5, float("nan")):
        with refused("dropout"):
            half.sample(y, dropout=rate)


def test_sampling_takes_conditions_of_any_form_and_leaves_the_mode_as_it_was() -> None:
    g, y = Generator(specs(dropout=0.5)[0], 1), torch.arange(40) % CLASSES
    drawn = g.sample(y, rng=1)
    assert torch.equal(drawn, g.sample(y.numpy(), 40, seeded(1, "samples"))) and g.training
    assert torch.equal(drawn, g.eval().sample(y.tolist(), rng=1)) and not g.training
    with pytest.raises(RuntimeError):
        g.train().sample([CLASSES])  # No such class.
    assert g.training and g.input_branch[0].dropout.training
    for conditions, n in ((None, None), (y, 39)):
        with refused("condition"):
            g.sample(conditions, n)


def test_the_text_of_a_network_shows_the_sizes_of_its_layers() -> None:
    g = Generator(GeneratorSpec(100, **LABEL, **{**MNIST_G, "joint": "relu:1200,dropout=0.5"}), 1)
    assert repr(g).splitlines() == [
        f"Generator, {101 * 200 + 11 * 1000 + 1201 * 1200 + 1201 * 784:,} weights",
        "  input_branch: 100 -> relu:200",
        "  condition_branch (one_hot): 10 -> relu:1000",
        "  joint: 1200 -> relu:1200,dropout=0.5",
        "  output: 1200 -> 784 -> sigmoid",
    ]
    d = repr(Discriminator(DiscriminatorSpec(784, "embedding", 10, 5, input_branch="maxout:240x5", pack=3), 1))
    assert "input_branch: 2352 -> maxout:240x5\n  condition_branch (embedding): 10 -> 5\n  joint: 245\n" in d
