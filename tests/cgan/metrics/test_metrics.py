"""The metrics of samples against scikit-learn, NumPy and closed forms, on real digits and staged collapses."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn import datasets, metrics

from cgan import CganError
from cgan.metrics.acceptance import acceptance_matrix, packs_of_labels
from cgan.metrics.arrays import plain
from cgan.metrics.classifier import Classifier, classifier_from_state, predict, train_classifier
from cgan.metrics.density_coverage import density_coverage, density_coverage_by_class
from cgan.metrics.diversity import IntraClassDiversity, intra_class_diversity, pixel_deviation
from cgan.metrics.faults import describe_faults
from cgan.metrics.label_fidelity import label_fidelity, train_on_generated
from cgan.metrics.neighbours import nearest_neighbours

CLASSES = 10


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's 1,797 real digits of 8 x 8 pixels, in [0, 1]."""
    images, labels = datasets.load_digits(return_X_y=True)
    return torch.from_numpy(images / 16).float(), torch.from_numpy(labels).long()


@pytest.fixture(scope="module")
def real(mnist: dict[str, torch.Tensor]) -> torch.Tensor:
    return pixel_deviation(mnist["images"], mnist["labels"], CLASSES)


@pytest.fixture(scope="module")
def classifier(mnist: dict[str, torch.Tensor]) -> Classifier:
    return train_classifier(mnist["images"][:5_000], mnist["labels"][:5_000], CLASSES, seed=0)


# ---- the classifier


def test_classifier_reads_mnist(mnist: dict[str, torch.Tensor], classifier: Classifier) -> None:
    read = predict(classifier, mnist["test_images"])
    assert metrics.accuracy_score(mnist["test_labels"], read) >= 0.92


def test_classifier_depends_on_its_seed_and_not_on_threads(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    threads, states = torch.get_num_threads(), []
    before = torch.get_rng_state()
    try:
        for count, seed in ((1, 5), (2, 5), (2, 6)):
            torch.set_num_threads(count)
            states.append(train_classifier(*digits, CLASSES, seed=seed, updates=30).state_dict())
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not torch.equal(states[1]["layers.0.weight"], states[2]["layers.0.weight"])


def test_foreign_states_and_what_does_not_fit_are_refused(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    for state in ({}, {"weight": torch.zeros(3, 2)}, {"layers.0.weight": torch.zeros(3, 2)}):
        with pytest.raises(CganError, match="not the state of a"):
            classifier_from_state(state)
    images, labels = digits
    for arguments, says in (
        ((images, labels[:-1], CLASSES), "labels has the shape"),
        ((images, labels, 9), "integers from 0 to 8"),
        ((images.reshape(-1, 8, 8), labels, CLASSES), "flatten"),
    ):
        with pytest.raises(CganError, match=says):
            train_classifier(*arguments, seed=0)
    with pytest.raises(CganError, match="k is 5, and there are"):
        density_coverage(torch.rand(9, 2), torch.rand(5, 2))


# ---- label fidelity


def test_label_fidelity_equals_sklearn() -> None:
    asked, read = torch.randint(5, (2, 60), generator=torch.Generator().manual_seed(0))
    asked[asked == 3] = 4  # A class that nobody asked for.
    fidelity = label_fidelity(read, asked, 5)
    confusion = metrics.confusion_matrix(asked, read, labels=np.arange(5))
    np.testing.assert_array_equal(fidelity.confusion, confusion)
    assert fidelity.share == pytest.approx(metrics.accuracy_score(asked, read))
    recall = metrics.recall_score(asked, read, labels=np.arange(5), average=None, zero_division=np.nan)
    np.testing.assert_allclose(fidelity.per_class, recall)
    record = json.loads(json.dumps(plain(fidelity), allow_nan=False))
    assert [value is None for value in record["per_class"]] == [False, False, False, True, False]


# ---- intra-class diversity


def test_diversity_is_the_ratio_of_mean_pixel_deviations(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = digits
    real, samples, asked = images[:1000], images[1000:] ** 2, labels[1000:]

    def deviation(rows: torch.Tensor) -> float:
        return np.std(rows.double().numpy(), axis=0, ddof=1).mean()

    found = intra_class_diversity(samples, asked, pixel_deviation(real, labels[:1000], CLASSES), CLASSES)
    expected = [deviation(samples[asked == c]) / deviation(real[labels[:1000] == c]) for c in range(CLASSES)]
    np.testing.assert_allclose(found.per_class, expected, rtol=1e-5)
    assert found.overall == pytest.approx(np.mean(expected), rel=1e-5) and found.finite
    unconditional = intra_class_diversity(samples, None, pixel_deviation(real, None, CLASSES), CLASSES)
    assert unconditional.per_class.tolist() == [unconditional.overall]
    assert unconditional.overall == pytest.approx(deviation(samples) / deviation(real), rel=1e-4)


def test_twins_count_repeated_images(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, _ = digits
    real = pixel_deviation(images, None, CLASSES)
    repeated = images[:4].repeat(25, 1)  # 4 * C(25, 2) of the C(100, 2) pairs are of one image
    assert float(intra_class_diversity(repeated, None, real, CLASSES).twins) == pytest.approx(4 * 300 / 4950)
    assert float(intra_class_diversity(images[:100], None, real, CLASSES).twins) == 0


def test_classes_with_too_few_images_have_no_diversity(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = digits
    real = pixel_deviation(images, labels, CLASSES)
    found = intra_class_diversity(images[:3], torch.tensor([2, 2, 5]), real, CLASSES)
    assert (~found.per_class.isnan()).nonzero().flatten().tolist() == [2]
    assert found.overall == float(found.per_class[2])
    record = json.loads(json.dumps(plain(found), allow_nan=False))
    assert record["per_class"][5] is None and record["twins"][5] is None


# ---- the verdict on real and on broken samples, all read by the classifier


def faults(classifier: Classifier, real: torch.Tensor, samples: torch.Tensor, asked: torch.Tensor | None) -> list[str]:
    read, diversity = predict(classifier, samples), intra_class_diversity(samples, asked, real, CLASSES)
    fidelity = None if asked is None else label_fidelity(read, asked, CLASSES)
    return describe_faults(fidelity, diversity, CLASSES, read)


def test_real_images_are_healthy_and_each_kind_of_collapse_is_named(
    mnist: dict[str, torch.Tensor], classifier: Classifier, real: torch.Tensor
) -> None:
    samples, asked = mnist["test_images"][:2_000], mnist["test_labels"][:2_000]
    images, labels, rng = mnist["images"], mnist["labels"], torch.Generator().manual_seed(0)
    assert faults(classifier, real, samples, asked) == faults(classifier, real, samples[:100], asked[:100]) == []
    three = torch.stack([images[labels == label][:3] for label in range(CLASSES)])
    means = torch.stack([images[labels == label].mean(0) for label in range(CLASSES)])[asked]
    ones, eights = samples[asked == 1], (asked == 8).nonzero().flatten()
    swapped, mixed, other = samples.clone(), samples.clone(), asked[torch.randperm(len(asked), generator=rng)]
    swapped[eights] = ones[: len(eights)]
    most = eights[torch.arange(len(eights)) % 3 > 0]  # Every third 8 is shown still.
    mixed[most] = ones[: len(most)]
    noise, broken = torch.rand(samples.shape, generator=rng), samples.clone()
    broken[0, 0] = float("nan")
    repeated = three[asked, torch.randint(3, (len(asked),), generator=rng)]
    for staged, labels_asked, fault in (
        (three[:, 0][asked], asked, "constant images: the samples of every label are nearly alike"),
        (repeated, asked, "few images: the samples of every label repeat about 3 images"),
        (means + 0.4 * (samples - means), asked, "little diversity: the samples of every label vary 0.3"),
        (noise, asked, "too much diversity: the samples of every label vary"),
        (noise, asked, "labels ignored: "),
        (samples, other, "labels ignored: "),
        (swapped, asked, "label 8 looks never trained: "),
        (mixed, asked, "asked for 8, mostly read as 1 (6"),
        (broken, asked, "the samples hold numbers that are not finite"),
    ):
        found = faults(classifier, real, staged, labels_asked)
        assert [each for each in found if each.startswith(fault)], (fault, found)
        assert len(found) == 1 or not fault.startswith(("constant", "few", "little")), found


def test_scattered_and_crowded_readings_are_named() -> None:
    healthy = IntraClassDiversity(1.0, torch.ones(3), torch.zeros(3), True)
    asked = torch.arange(3).repeat_interleave(10)
    read = asked.clone()
    read[:10] = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    scattered = describe_faults(label_fidelity(read, asked, 3), healthy, 3, read)
    assert scattered == ["asked for 0, read as 0 in only 40%, as 1 in 30%"]
    read = torch.full((30,), 2)
    assert describe_faults(label_fidelity(read, asked, 3), healthy, 3, read) == [
        "labels ignored: 33% are read as asked, chance is 33%, and 100% of all samples are read as 2"
    ]


def test_unconditional_samples_must_cover_the_classes(mnist: dict[str, torch.Tensor], classifier: Classifier) -> None:
    images, labels = mnist["test_images"], mnist["test_labels"]
    real = pixel_deviation(mnist["images"], None, CLASSES)
    assert faults(classifier, real, images[:1_000], None) == []
    (missing,) = faults(classifier, real, images[labels >= 2][:1_000], None)
    assert missing.startswith("the samples cover only 8 of the 10 classes: labels 0 and 1 missing")
    (crowded,) = faults(classifier, real, torch.cat([images[labels == 0], images[:800]]), None)
    assert crowded.startswith("the samples crowd into one class") and crowded.endswith("read as 0")
    alike = faults(classifier, real, images[:1].repeat(99, 1), None)
    assert any(fault.startswith("constant images: the samples are") for fault in alike)


# ---- what D accepts


def table_d(table: torch.Tensor):
    """A discriminator that looks its logit up: an image's first pixel is its class."""
    return lambda images, labels: table[images[:, 0].long(), labels][:, None]


def test_acceptance_is_the_tables_means() -> None:
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(4, 4, generator=generator)
    table.fill_diagonal_(3.0)
    real_labels = torch.randint(4, (700,), generator=generator)
    asked = torch.randint(4, (300,), generator=generator)
    shown = torch.zeros_like(asked)  # every sample looks like class 0, whatever was asked for
    found = acceptance_matrix(
        table_d(table), real_labels[:, None].float(), real_labels, shown[:, None].float(), asked, 4,
        generator=torch.Generator().manual_seed(9), batch=128,
    )  # fmt: skip
    d = 1 / (1 + np.exp(-table.double().numpy()))
    np.testing.assert_allclose(found.by_label_real, d)
    np.testing.assert_allclose(found.by_label_fake, np.tile(d[0], (4, 1)))
    assert float(found.mean[0, 0]) == pytest.approx(d[0, 0])
    assert float(found.mean[1, 0]) == pytest.approx(d[0][asked].mean())
    assert float(found.accepted[0, 0]) == 1
    assert float(found.accepted[1, 0]) == pytest.approx((d[0] > 0.5)[asked].mean())
    expected = np.mean([(d[label].sum() - d[label, label]) / 3 for label in real_labels])
    assert float(found.mean[0, 1]) == pytest.approx(expected, abs=4 * d.std() / 700**0.5)


def test_wrong_labels_are_wrong_uniform_and_from_the_generator() -> None:
    calls: list[torch.Tensor] = []

    def d(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(labels.clone())
        return torch.zeros(len(labels))

    own, images = torch.arange(3000) % 3, torch.zeros(3000, 2)
    for seed in (4, 4):
        generator = torch.Generator().manual_seed(seed)
        acceptance_matrix(d, images, own, images, own, 3, generator=generator, batch=3000)
    half = len(calls) // 2
    assert all(torch.equal(a, b) for a, b in zip(calls[:half], calls[half:], strict=True))
    steps = (calls[1] - own) % 3
    assert torch.equal(calls[0], own) and set(steps.tolist()) == {1, 2}
    assert stats.chisquare(torch.bincount(steps)[1:]).pvalue > 1e-3


def test_classes_without_images_have_an_empty_row() -> None:
    labels, images, rng = torch.tensor([0, 0, 2]), torch.zeros(3, 1), torch.Generator()
    found = acceptance_matrix(lambda x, y: torch.zeros(len(x)), images, labels, images, labels, 3, generator=rng)
    assert found.by_label_real.isnan().all(1).tolist() == [False, True, False]
    record = json.loads(json.dumps(plain(found), allow_nan=False))
    assert record["by_label_real"][1] == [None] * 3 and record["rows"] == ["real", "fake"]


# ---- neighbours, training on samples, interpolation


def test_nearest_neighbours_are_those_of_all_distances(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    queries, references = digits[0][:40], digits[0][20:700]
    indices, distances = nearest_neighbours(queries, references, 5)
    every = cdist(queries.double(), references.double())
    np.testing.assert_allclose(distances, np.sort(every, 1)[:, :5], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(every, indices.numpy(), 1), distances, atol=1e-5)


def test_training_on_real_images_beats_training_on_worse_ones(mnist: dict[str, torch.Tensor]) -> None:
    images, labels = mnist["images"][:1_500], mnist["labels"][:1_500]
    test = mnist["test_images"][:2_000], mnist["test_labels"][:2_000]
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    pairs = (images, labels), ((images + 2 * noise) / 3, labels), (images, (labels + 1) % 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        real, blurred, wrong = (train_on_generated(*pair, *test, seed=0, max_train=1_000) for pair in pairs)
    assert 0.8 < real < 0.95 and blurred < real and wrong < 0.1


def test_packs_hold_images_of_one_label() -> None:
    images, labels = torch.arange(14.0).reshape(7, 2), torch.tensor([1, 0, 1, 1, 0, 3, 1])
    packs, of = packs_of_labels(images, labels, 2)
    assert packs.tolist() == [[2, 3, 8, 9], [0, 1, 4, 5], [6, 7, 12, 13]] and of.tolist() == [0, 1, 1]
    assert packs_of_labels(images, labels, 1) == (images, labels)


# ---- precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_equal_their_formulas(k: int) -> None:
    """Naeem et al. 2020, eq. 2 to 5, written out in NumPy float64."""
    rng = np.random.default_rng(k)
    real, fake = rng.normal(size=(60, 3)), rng.normal(0.5, 0.7, (45, 3))

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(2))

    real_radius, fake_radius = (np.sort(distances(x, x), 1)[:, k] for x in (real, fake))
    between = distances(fake, real)
    found = density_coverage(torch.from_numpy(real), torch.from_numpy(fake), k, block=7)
    assert found.precision == pytest.approx((between <= real_radius).any(1).mean())
    assert found.recall == pytest.approx((between <= fake_radius[:, None]).any(0).mean())
    assert found.density == pytest.approx((between <= real_radius).sum() / (k * len(fake)))
    assert found.coverage == pytest.approx((between <= real_radius).any(0).mean())


def test_density_and_coverage_by_class_compare_within_each_class() -> None:
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(60, 3, generator=rng), torch.randn(50, 3, generator=rng)
    real_labels, fake_labels = torch.arange(60) % 3, torch.arange(50) % 2  # no samples of class 2
    found = density_coverage_by_class(real, real_labels, fake, fake_labels, 3)
    assert found["overall"] == vars(density_coverage(real, fake))
    expected = [vars(density_coverage(real[label::3], fake[label::2])) for label in (0, 1)]
    assert found["per_class"] == [*expected, None]
    assert density_coverage_by_class(real, real_labels, fake, None, 3)["per_class"] == [] and found["k"] == 5
