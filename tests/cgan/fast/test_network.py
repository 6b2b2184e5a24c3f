"""A network computed by the fused layers equals the plain one: values, gradients, shared conditions, seeds at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cgan.fast.masks import bit_mask, fill_bits_
from cgan.fast.network import FastNetwork
from cgan.networks import ConditionalMLP, Discriminator, Generator
from tests.cgan.nets import EMBEDDED, layers, specs, stream


def with_bit_masks(network: ConditionalMLP, seed: int) -> ConditionalMLP:
    """Let the plain network draw the masks that a fast one draws from a stream of this seed."""
    for layer in network.dropout_layers():
        layer.mask_function = bit_mask
    network.use_generator(stream(seed))
    return network


#: The shapes of both pipelines (section 4.1 and 4.2, smaller), the tutorial's, and odd places for dropout.
PAIRS = {
    "labels": specs(dropout=0.5, discriminator={"input_dropout": 0.2}),
    "vectors": specs(
        condition="real", generator={"output": "linear", "joint": ()}, discriminator={"input_dropout": 0.5}
    ),
    "embedding": EMBEDDED,
    "condition dropout": specs(dropout=0.3, discriminator={"condition_dropout": 0.5}),
    "no branches": specs(generator={"condition_branch": (), "joint": ()}, discriminator={"condition_branch": ()}),
    "unconditional": specs(condition="none", dropout=0.5),
    "mixed": specs(generator={"joint": layers("relu:6", "leaky_relu:5,dropout=0.25", "linear:4", "relu:3,batch_norm")}),
}


def condition(kind: str, n: int) -> torch.Tensor | None:
    return {"none": None, "real": torch.randn(n, 3, generator=stream(2)).double()}.get(kind, torch.arange(n) % 4)


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients_equal_the_plain_network(name: str) -> None:
    """To 1e-12 in float64."""
    for spec, kind, width in zip(PAIRS[name], (Generator, Discriminator), (3, 5), strict=True):
        network = with_bit_masks(kind(spec, stream()).double(), 4)
        fast = FastNetwork(network, generator=stream(4))
        x = torch.randn(8, width, generator=stream(3), dtype=torch.float64, requires_grad=True)
        y = condition(spec.condition, 8)
        results = []
        for compute in (network, fast):
            out = compute(x, y)
            wanted = [x, *network.parameters()]
            results.append([out, *torch.autograd.grad((out * torch.arange(out.numel()).view(out.shape)).sum(), wanted)])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_shared_conditions_are_those_of_the_rows_they_stand_for(name: str) -> None:
    """Three blocks under conditions moved by 0, 0 and 1 rows, as in the matching-aware update."""
    spec = PAIRS[name][1]
    network = with_bit_masks(Discriminator(spec, stream()).double(), 4)
    y = condition(spec.condition, 6)
    x = torch.rand(18, 5, generator=stream(3), dtype=torch.float64)
    conditions = None if y is None else torch.cat([y, y, y.roll(1, 0)])
    expected = network(x, conditions)
    found = FastNetwork(network, generator=stream(4))(x, y, condition_shifts=(0, 0, 1))
    torch.testing.assert_close(found, expected)
    weights = torch.arange(18.0)
    parameters = list(network.parameters())
    ours = torch.autograd.grad((found * weights).sum(), parameters)
    torch.testing.assert_close(ours, torch.autograd.grad((expected * weights).sum(), parameters))


def test_words_of_masks_are_counted_exactly() -> None:
    spec = specs(condition="real", dropout=0.3, generator={"input_dropout": 0.5, "condition_dropout": 0.25})[0]
    fast = FastNetwork(Generator(spec, stream()), generator=stream(1))
    z, y = torch.rand(7, 3), torch.rand(7, 3)
    fast(z, y)
    words = torch.empty(fast.mask_bit_words(7), dtype=torch.int64)
    other = stream(1)
    fill_bits_(words, other)
    assert len(words) > 0 and torch.equal(other.get_state(), fast.generator.get_state())


def test_several_seeds_are_each_computed_by_their_own_weights() -> None:
    """A network whose parameters have a leading axis for seeds; masks have it, too."""
    spec: Any = specs(condition="real", generator={"output": "linear"})[0]
    alone = [Generator(spec, stream(seed)).double() for seed in range(3)]
    shared = Generator(spec, stream()).double()
    for name, parameter in shared.named_parameters():
        parameter.data = torch.stack([net.get_parameter(name).detach() for net in alone])
    z, y = torch.randn(2, 3, 6, 3, generator=stream(9), dtype=torch.float64)
    found = FastNetwork(shared)(z, y)
    for i, net in enumerate(alone):
        torch.testing.assert_close(found[i], net(z[i], y[i]))
