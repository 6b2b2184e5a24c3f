"""Networks: the paper's by hand-counted parameters, conditions of every kind, output ranges, starting weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import datasets

from cgan import CganError
from cgan.layers import Masks, fill_words
from cgan.networks import Discriminator, Generator, draw_noise, inverse_output
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Init
from tests.cgan.nets import assert_one_sentence, layers, specs
from tests.cgan.reference import Draws, Mlp, sigmoid


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


LABEL: dict[str, Any] = {"condition": "one_hot", "condition_dim": 10}
FEATURE: dict[str, Any] = {"condition": "real", "condition_dim": 4096}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (  # Section 4.1, G.
            GeneratorSpec(
                100,
                **LABEL,
                input_branch=layers("relu:200"),
                condition_branch=layers("relu:1000"),
                joint=layers("relu:1200"),
            ),
            (100 * 200 + 200) + (10 * 1000 + 1000) + (1200 * 1200 + 1200) + (1200 * 784 + 784),
        ),
        (  # Section 4.1, D.
            DiscriminatorSpec(
                784,
                **LABEL,
                input_branch=layers("maxout:240x5"),
                condition_branch=layers("maxout:50x5"),
                joint=layers("maxout:240x4"),
            ),
            5 * (784 * 240 + 240) + 5 * (10 * 50 + 50) + 4 * (290 * 240 + 240) + (240 + 1),
        ),
        (  # Section 4.2, G.
            GeneratorSpec(
                100,
                **FEATURE,
                input_branch=layers("relu:500"),
                condition_branch=layers("relu:2000"),
                output_dim=200,
                output="linear",
            ),
            (100 * 500 + 500) + (4096 * 2000 + 2000) + (2500 * 200 + 200),
        ),
        (  # Section 4.2, D.
            DiscriminatorSpec(
                200,
                **FEATURE,
                input_branch=layers("relu:500"),
                condition_branch=layers("relu:1200"),
                joint=layers("maxout:1000x3"),
            ),
            (200 * 500 + 500) + (4096 * 1200 + 1200) + 3 * (1700 * 1000 + 1000) + (1000 + 1),
        ),
        (  # The unconditional net of Table 1.
            GeneratorSpec(100, joint=layers("relu:1200", "relu:1200")),
            (100 * 1200 + 1200) + (1200 * 1200 + 1200) + (1200 * 784 + 784),
        ),
        (
            DiscriminatorSpec(784, joint=layers("maxout:240x5", "maxout:240x5")),
            5 * (784 * 240 + 240) + 5 * (240 * 240 + 240) + (240 + 1),
        ),
        (  # The tutorial's G: an embedding, and two numbers for each normalised unit.
            GeneratorSpec(
                100,
                condition="embedding",
                condition_dim=10,
                embedding_dim=10,
                joint=layers("leaky_relu:128", "leaky_relu:256,batch_norm"),
                output="tanh",
            ),
            10 * 10 + (110 * 128 + 128) + (128 * 256 + 256 + 2 * 256) + (256 * 784 + 784),
        ),
        (GeneratorSpec(3, output_dim=2), 3 * 2 + 2),
        (DiscriminatorSpec(3, condition="real", condition_dim=2), 5 + 1),
    ],
)
def test_parameters_are_as_many_as_counted_by_hand(spec: GeneratorSpec | DiscriminatorSpec, expected: int) -> None:
    rng = stream()
    module = Generator(spec, rng) if isinstance(spec, GeneratorSpec) else Discriminator(spec, rng)
    assert count(module) == expected


@pytest.mark.parametrize("condition", ["none", "one_hot", "embedding", "real"])
@pytest.mark.parametrize("output", ["sigmoid", "tanh", "linear"])
@pytest.mark.parametrize("branches", [True, False])
def test_a_forward_pass_is_numpys(condition: str, output: str, branches: bool) -> None:
    bare: dict[str, Any] = {} if branches else {"input_branch": (), "condition_branch": (), "joint": ()}
    pair = specs(condition=condition, dropout=0.5, generator={"output": output, **bare}, discriminator=bare)
    g, d = Generator(pair[0], stream()).double(), Discriminator(pair[1], stream(1)).double()
    y = {"none": None, "real": torch.randn(6, 3, generator=stream(2)).double()}.get(condition, torch.arange(6) % 4)
    z = draw_noise(pair[0].noise, (6, 3), stream(3))
    rng = stream(4)
    draws = Draws(rng)
    a, _ = Mlp(pair[0], g).forward(z.double().numpy(), None if y is None else y.numpy(), draws)
    fake = {"sigmoid": sigmoid, "tanh": np.tanh, "linear": lambda a: a}[output](a)
    found = g(z, y, rng)
    np.testing.assert_allclose(found.detach().numpy(), fake, rtol=1e-12)
    logits, _ = Mlp(pair[1], d).forward(fake, None if y is None else y.numpy(), draws)
    found = d(found.detach(), y, rng)
    assert found.shape == (6,)
    np.testing.assert_allclose(found.detach().numpy(), logits[:, 0], rtol=1e-12)


def test_one_hot_labels_are_the_vectors_they_stand_for() -> None:
    one_hot, real = (specs(discriminator={"condition": kind})[1] for kind in ("one_hot", "real"))
    x, y = torch.rand(4, 5), torch.tensor([2, 0, 3, 2])
    by_label, by_vector = Discriminator(one_hot, stream()), Discriminator(real, stream())
    assert torch.equal(by_label(x, y), by_vector(x, torch.eye(4)[y]))


@pytest.mark.parametrize("kind", ["one_hot", "embedding", "real"])
def test_a_condition_that_is_missing_is_named(kind: str) -> None:
    with pytest.raises(CganError) as caught:
        Discriminator(specs(condition=kind)[1], stream())(torch.rand(2, 5), None)
    assert_one_sentence(caught.value, kind)


def test_a_net_without_a_condition_ignores_one() -> None:
    g = Generator(specs(condition="none")[0], stream())
    z = torch.rand(2, 3)
    assert torch.equal(g(z, None), g(z, torch.tensor([1, 2])))


@pytest.mark.parametrize("condition", ["none", "one_hot", "embedding", "real"])
@pytest.mark.parametrize("changes", [{}, {"condition_dropout": 0.5}, {"condition_branch": ()}], ids=str)
def test_blocks_under_shifted_conditions_are_the_rows_they_stand_for(condition: str, changes: dict[str, Any]) -> None:
    """Values and gradients; a block that takes none changes nothing."""
    if condition == "none" and changes:
        pytest.skip("no condition to drop or to give a branch")
    shared = specs(condition=condition, dropout=0.5, discriminator={"input_dropout": 0.2, **changes})[1]
    d = Discriminator(shared, stream()).double()
    y = {"none": None, "real": torch.randn(6, 3, generator=stream(2)).double()}.get(condition, torch.arange(6) % 4)
    blocks = torch.rand(3, 6, 5, generator=stream(3), dtype=torch.float64)
    fake = blocks[1].clone().requires_grad_()
    found = d([blocks[0], fake, blocks[2]], y, stream(4), [0, 0, 1])
    rows = blocks.flatten(0, 1).requires_grad_()
    expected = d(rows, None if y is None else torch.cat([y, y, y.roll(1, 0)]), stream(4))
    torch.testing.assert_close(found, expected)
    parameters = list(d.parameters())
    weights = torch.arange(18.0)
    *ours, to_fake = torch.autograd.grad((found * weights).sum(), [*parameters, fake])
    *theirs, to_rows = torch.autograd.grad((expected * weights).sum(), [*parameters, rows])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(to_fake, to_rows[6:12])


def test_masks_cut_from_words_drawn_before_are_those_of_the_stream() -> None:
    spec = specs(condition="real", dropout=0.3, generator={"input_dropout": 0.5, "condition_dropout": 0.25})[0]
    g, z, y = Generator(spec, stream()), torch.rand(7, 3), torch.rand(7, 3)
    words = fill_words(torch.empty(g.dropout_words(7), dtype=torch.int64), stream(1))
    masks = Masks(words)
    assert torch.equal(g(z, y, masks), g(z, y, stream(1)))
    assert masks.place == len(words) > 0


def test_outputs_lie_in_their_range() -> None:
    loud = {"output_init": Init("normal", 50.0)}
    z, y = torch.randn(500, 3, generator=stream()), torch.arange(500) % 4
    for output, low, high in (("sigmoid", 0, 1), ("tanh", -1, 1)):
        x = Generator(specs(generator={"output": output, **loud})[0], stream())(z, y)
        assert x.min() >= low and x.max() <= high and x.max() - x.min() > 0.9 * (high - low)
    assert Generator(specs(generator={"output": "linear", **loud})[0], stream())(z, y).abs().max() > 10


# ---- starting weights


def test_marginals_show_the_mean_image() -> None:
    images = torch.from_numpy(datasets.load_digits().data / 16).float()
    mean = images.mean(0)
    assert mean.min() == 0  # A corner that is always empty: its logit is cut.
    silent = {"output_dim": 64, "output_bias": "marginals", "output_init": Init("uniform", 1e-12)}
    for output, shown in (("sigmoid", mean), ("tanh", mean * 2 - 1), ("linear", mean)):
        g = Generator(specs(generator={**silent, "output": output})[0], stream(), shown)
        x = g.sample(torch.arange(20) % 4, 20, stream(1))
        torch.testing.assert_close(x, shown.expand(20, -1), rtol=0, atol=1e-6)
        assert g.output.bias.isfinite().all()


def test_marginals_that_lie_at_the_ends_are_cut() -> None:
    ends = torch.tensor([0.0, 1e-9, 0.25, 1.0])
    bias = inverse_output(ends, "sigmoid")
    assert bias.dtype == torch.float32
    cut = math.log(1e-7 / (1 - 1e-7))
    assert bias.tolist() == pytest.approx([cut, cut, math.log(1 / 3), -cut], rel=1e-6)
    assert inverse_output(ends * 2 - 1, "tanh").tolist() == pytest.approx([b / 2 for b in bias.tolist()], rel=1e-6)
    assert inverse_output(ends, "linear") is ends


def test_marginals_need_a_mean() -> None:
    with pytest.raises(CganError) as caught:
        Generator(specs(generator={"output_bias": "marginals"})[0], stream())
    assert_one_sentence(caught.value, "output_bias", "mean of the training data")


def test_biases_start_at_zero_otherwise() -> None:
    for module in (Generator(specs()[0], stream(), torch.rand(5)), Discriminator(specs()[1], stream())):
        assert not any(value.any() for name, value in module.named_parameters() if name.endswith("bias"))


def test_each_part_has_the_initialisation_of_its_name() -> None:
    inits = {
        "input_init": Init("uniform", 0.1),
        "condition_init": Init("uniform", 0.2),
        "joint_init": Init("uniform", 0.3),
        "output_init": Init("uniform", 0.4),
    }
    wide: dict[str, Any] = {
        "input_branch": layers("relu:100", "relu:100"),
        "condition_branch": layers("relu:100", "relu:100"),
        "joint": layers("relu:100", "relu:100"),
        **inits,
    }
    for module in (
        Generator(specs(generator=wide)[0], stream()),
        Discriminator(specs(discriminator=wide)[1], stream()),
    ):
        for name, weight in module.named_parameters():
            if name.endswith("weight"):
                bound = inits[f"{name.split('.')[0].removesuffix('_branch')}_init"].scale
                assert 0.9 * bound < weight.abs().max() <= bound, name


def test_label_embeddings_start_standard_normal() -> None:
    spec = specs(condition="embedding", generator={"condition_dim": 200, "embedding_dim": 50})[0]
    start = Generator(spec, stream()).embedding.detach().double().numpy().ravel()
    assert stats.kstest(start, stats.norm.cdf).pvalue > 0.01


def test_weights_are_decided_by_the_seed() -> None:
    before = torch.get_rng_state()
    spec = specs(condition="embedding", generator={"joint": layers("relu:6,batch_norm"), "joint_init": Init("normal")})
    first, again, other = (Generator(spec[0], stream(seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if "bias" not in name and "running" not in name and "tracked" not in name]
    assert len(drawn) == 6
    assert not any(torch.equal(first[name], other[name]) for name in drawn)
    assert torch.equal(before, torch.get_rng_state())


# ---- noise and samples


@pytest.mark.parametrize(
    ("kind", "distribution"),
    [
        ("uniform", stats.uniform(0, 1)),
        ("centred_uniform", stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))),
        ("normal", stats.norm(0, 1)),
    ],
)
def test_noise_has_its_distribution(kind: Any, distribution: Any) -> None:
    before = torch.get_rng_state()
    z = draw_noise(kind, (300, 100), stream())
    assert z.shape == (300, 100) and z.dtype == torch.float32
    assert stats.kstest(z.double().numpy().ravel(), distribution.cdf).pvalue > 0.01
    assert torch.equal(z, draw_noise(kind, (300, 100), stream()))
    assert not torch.equal(z, draw_noise(kind, (300, 100), stream(1)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("condition", ["none", "one_hot", "real"])
def test_samples_are_drawn_in_evaluation_mode_whatever_the_block(condition: str) -> None:
    spec = specs(condition=condition, dropout=0.5, generator={"joint": layers("relu:6,batch_norm,dropout=0.5")})[0]
    g = Generator(spec, stream())
    y = {"none": None, "real": torch.randn(25, 3, generator=stream(2))}.get(condition, torch.arange(25) % 4)
    g(draw_noise("normal", (25, 3), stream(3)), y)  # Moves the running statistics away from their start.
    before = {name: value.clone() for name, value in g.state_dict().items()}
    whole = g.sample(y, 25, stream(7))
    assert g.training and not whole.requires_grad
    torch.testing.assert_close(whole, g.sample(y, 25, stream(7), block=4), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(before[name], value) for name, value in g.state_dict().items())
    z = draw_noise(spec.noise, (25, 3), stream(7))
    g.eval()
    torch.testing.assert_close(whole, g(z, y), rtol=1e-5, atol=1e-6)
    g.sample(y, 25, stream(7))
    assert not g.training


def test_samples_with_dropout_left_on_spread_as_the_binomial_law_says() -> None:
    p, spec = 0.25, specs(condition="none", generator={"joint": layers("relu:6,dropout=0.25"), "output": "linear"})[0]
    g = Generator(spec, stream())
    with torch.no_grad():
        for parameter in g.input_branch.parameters():
            parameter.zero_()  # The noise is cut off: all that is left to chance is which units are dropped.
        g.joint[0].affine.bias.uniform_(0.5, 1.5, generator=stream(1))
    still, drawn = g.sample(None, 2, stream(2)), g.sample(None, 40_000, stream(2), dropout=True)
    assert torch.equal(still[0], still[1])
    parts = (g.output.weight * g.joint[0].affine.bias.relu()).detach().double()
    np.testing.assert_allclose(drawn.mean(0), still[0], atol=0.02)
    np.testing.assert_allclose(drawn.var(0), p / (1 - p) * parts.square().sum(1), rtol=0.04)
    assert torch.equal(drawn, g.sample(None, 40_000, stream(2), dropout=True))


def test_a_normalised_net_judges_a_sample_alone_as_in_company() -> None:
    d = Discriminator(specs(discriminator={"joint": layers("relu:6,batch_norm")})[1], stream())
    x, y = torch.rand(8, 5, generator=stream(1)), torch.arange(8) % 4
    d(x, y)
    in_training = d(x, y)[:1]
    d.eval()
    torch.testing.assert_close(d(x[:1], y[:1]), d(x, y)[:1])
    assert not torch.allclose(d(x, y)[:1], in_training, rtol=1e-3)
