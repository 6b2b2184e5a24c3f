"""The running mean of G's weights against a float64 recursion, and that it leaves the game alone."""

import numpy as np
import pytest
import torch

from cgan import CganError
from cgan.averaging import Average, average_decay
from cgan.devices import seeded
from cgan.networks import Discriminator, Generator
from cgan.settings import TrainingSettings
from cgan.specs import DiscriminatorSpec, GeneratorSpec, Layer
from cgan.trainer import Examples, Trainer

DECAY = 0.9


def trainer(**settings):
    generator = GeneratorSpec(input_dim=3, joint=(Layer.parse("relu:8"),), output_dim=4)
    discriminator = DiscriminatorSpec(input_dim=4, joint=(Layer.parse("maxout:5x2,dropout=0.5"),))
    x = torch.rand(60, 4, generator=seeded(0, "x"))
    return Trainer(
        Generator(generator, seeded(1, "G")),
        Discriminator(discriminator, seeded(1, "D")),
        Examples(x, None),
        TrainingSettings(batch_size=10, **settings),
        seed=1,
    )


def weights(module):
    return {name: value.double().numpy().copy() for name, value in module.state_dict().items()}


def test_is_the_recursion_of_the_weights_with_a_forgotten_start():
    game = trainer(averaging=DECAY)
    mean = weights(game.G)
    for t in range(1, 120):
        game.step()
        decay = min(DECAY, (1 + t) / (10 + t))
        mean = {name: decay * mean[name] + (1 - decay) * now for name, now in weights(game.G).items()}
    for name, found in weights(game.sampler).items():
        np.testing.assert_allclose(found, mean[name], rtol=1e-4, atol=1e-6)
        assert not np.allclose(found, weights(game.G)[name], rtol=1e-4, atol=1e-6)


def test_leaves_the_game_alone():
    with_mean, without = trainer(averaging=DECAY), trainer()
    for _ in range(20):
        with_mean.step()
        without.step()
    for a, b in zip(with_mean.G.parameters(), without.G.parameters(), strict=True):
        assert torch.equal(a, b)
    assert without.sampler is without.G


def test_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path):
    whole, first, second = (trainer(averaging=DECAY) for _ in range(3))
    for _ in range(30):
        whole.step()
    for _ in range(17):
        first.step()
    tensors, record = first.state()
    second.load_state({name: value.clone() for name, value in tensors.items()}, record, tmp_path)
    for _ in range(13):
        second.step()
    for a, b in zip(whole.sampler.parameters(), second.sampler.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_without_the_mean_is_refused_by_name(tmp_path):
    tensors, record = trainer().state()
    with pytest.raises(CganError, match="missing"):
        trainer(averaging=DECAY).load_state(tensors, record, tmp_path / "checkpoint.safetensors")


def test_shares_no_memory_and_takes_no_gradient():
    game = trainer(averaging=DECAY)
    before = weights(game.sampler)
    with torch.no_grad():
        for parameter in game.G.parameters():
            parameter.add_(1)
    for name, value in weights(game.sampler).items():
        np.testing.assert_array_equal(value, before[name])
    assert not any(parameter.requires_grad for parameter in game.sampler.parameters())


def test_statistics_of_batch_normalisation_are_copied():
    generator = Generator(
        GeneratorSpec(input_dim=3, joint=(Layer.parse("relu:8,batch_norm"),), output_dim=4), seeded(1, "G")
    )
    average = Average(generator, DECAY)
    generator(torch.rand(10, 3, generator=seeded(0, "z")), None)
    average.update(1)
    assert torch.equal(average.network.joint[0].norm.running_mean, generator.joint[0].norm.running_mean)


@pytest.mark.parametrize("t", [1, 5, 100, 10_000])
def test_the_decay_grows_to_its_end(t):
    assert average_decay(t, 0.99) == min(0.99, (1 + t) / (10 + t))


def test_a_decay_of_one_is_refused():
    with pytest.raises(CganError, match="averaging"):
        TrainingSettings(averaging=1.0)
