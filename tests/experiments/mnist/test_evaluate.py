"""What estimates measure, against the same measures taken by hand on the nets themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cgan.metrics.classifier import Classifier
from cgan.specs import parse_layers
from cgan.trainer import Trainer
from data.digits import load_digits_28
from data.labelled import ImageDataset
from experiments.mnist.__main__ import build
from experiments.mnist.evaluate import Estimator
from experiments.mnist.presets import EstimateSettings, MnistConfig, conditional_best, on_digits


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return load_digits_28()


def small(config: MnistConfig) -> MnistConfig:
    generator = replace(config.generator, joint=parse_layers("relu:40,dropout=0.5"))
    return replace(config, generator=generator, estimate=EstimateSettings(samples_per_class=20, images=100))


def trained(config: MnistConfig, dataset: ImageDataset, updates: int = 30) -> Trainer:
    (trainer,) = build(config, [1], dataset, torch.device("cpu"), "float32")
    for _ in range(updates):
        trainer.step()
    return trainer


def test_acceptance_over_training_is_what_d_says_without_dropout(dataset: ImageDataset) -> None:
    config = small(on_digits(conditional_best()))
    trainer = trained(config, dataset)
    estimator = Estimator(config, dataset, Classifier((784, 8, 10)), torch.device("cpu"))
    columns = estimator(trainer).columns
    assert trainer.D.training, "left as it was found"
    images, labels = torch.from_numpy(dataset.valid.images[:100]), torch.from_numpy(dataset.valid.labels[:100])
    trainer.D.eval()
    with torch.no_grad():
        real = trainer.D(images, labels) > 0
        fake = trainer.D(estimator.samples[::10], estimator.labels[::10]) > 0
        every_wrong = torch.stack([trainer.D(images, (labels + offset) % 10) > 0 for offset in range(1, 10)]).double()
    assert columns["accept_real"] == pytest.approx(real.double().mean().item())
    assert columns["accept_fake"] == pytest.approx(fake.double().mean().item())
    # One wrong label an image is drawn: within four standard errors of the share over all nine.
    share = every_wrong.mean().item()
    assert columns["accept_real_wrong"] == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 100) + 1e-9)


def test_estimates_leave_dropout_on_only_on_request(dataset: ImageDataset) -> None:
    config = small(on_digits(conditional_best()))
    trainer, samples = trained(config, dataset), {}
    for dropout in (False, True):
        asked = replace(config, estimate=replace(config.estimate, dropout=dropout))
        estimator = Estimator(asked, dataset, Classifier((784, 8, 10)), torch.device("cpu"))
        estimator(trainer)
        samples[dropout] = estimator.samples
        estimator(trainer)
        assert torch.equal(estimator.samples, samples[dropout]), "the same noise and masks at every estimate"
    z_variance = {dropout: x.view(10, 20, -1).var(1).mean().item() for dropout, x in samples.items()}
    assert z_variance[True] > 1.2 * z_variance[False]
