"""One photo, many words: measures against counting by hand, references that are known by construction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgan.networks import Generator
from embeddings.vocabulary import Vocabulary
from experiments.flickr_tags import baselines, one_to_many, word_cloud
from experiments.flickr_tags.dataset import Pairs
from experiments.flickr_tags.presets import flickr_paper
from experiments.runs.records import SOURCES
from tests.experiments.flickr_tags.test_evaluate import made_data

WORDS = [["dog", "dog", "sea", "sky"], ["cat", "cat", "cat", "cat"], ["sky", "sea", "dog", "cat"]]
TRUTH = [["dog", "sky", "beach"], [], ["snow"]]


def test_measures_are_what_counting_gives() -> None:
    found = one_to_many.measure(WORDS, np.zeros(3), TRUTH)
    assert found.coverage.value == pytest.approx((2 / 3 + 0) / 2)
    assert found.correctness.value == pytest.approx((3 / 4 + 0) / 2)
    # Photo 0: dog 1/2 right, sea 1/4 wrong, sky 1/4 right; photo 2: four words of 1/4, all wrong.
    bins = [(b.low, b.high, b.pairs, b.drawn, b.right) for b in found.calibration]
    assert bins == [(0.2, 0.3, 6, 0.25, pytest.approx(1 / 6)), (0.3, 0.5, 1, 0.5, 1.0)]


def test_a_photos_own_tags_differ_by_their_vectors() -> None:
    vocabulary = Vocabulary.from_arrays(["a", "b", "c"], np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32))
    found = one_to_many.real_diversity([["a", "b"], ["a", "b", "c", "unknown"], ["c"]], vocabulary)
    np.testing.assert_allclose(found, [1, (1 + 1 + 2) / 3, np.nan])


def test_similar_photos_give_their_tags_as_often_as_they_have_them() -> None:
    train = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    tags = [["dog", "grass"], ["dog"], ["sea"], ["sea", "boat", "sky"]]
    rng = np.random.default_rng(0)
    drawn = one_to_many.similar_tags(train, tags, np.array([[1, 0.05], [0.05, 1]]), 2, 3_000, rng)
    assert [len(words) for words in drawn] == [3_000, 3_000]
    assert set(drawn[0]) == {"dog", "grass"} and set(drawn[1]) == {"sea", "boat", "sky"}
    assert drawn[0].count("dog") / 3_000 == pytest.approx(2 / 3, abs=0.04)
    assert drawn[1].count("sea") / 3_000 == pytest.approx(1 / 2, abs=0.04)


def test_noise_around_the_linear_map_has_the_residuals_covariance() -> None:
    rng = np.random.default_rng(1)
    fitted, mixing = rng.standard_normal((50, 3)), np.array([[1, 0, 0], [0.5, 0.2, 0], [0, 0, 0.1]])
    pairs = Pairs(np.repeat(np.arange(50), 60), np.arange(3_000))
    words = fitted[pairs.images] + rng.standard_normal((3_000, 3)) @ mixing.T
    drawn = one_to_many.ridge_with_noise(fitted[:5], fitted, pairs, words, 20_000, rng)
    assert drawn.shape == (5, 20_000, 3)
    np.testing.assert_allclose(drawn.mean(1), fitted[:5], atol=0.05)
    np.testing.assert_allclose(np.cov(drawn[2], rowvar=False), mixing @ mixing.T, atol=0.08)


def test_every_source_is_measured_on_the_test_photos() -> None:
    data = made_data(60)
    vocabulary, test, samples = data.vocabulary, data.splits.test, 40
    x = data.features
    having, means = baselines.mean_tag_vectors(data.tags, vocabulary)
    regressor = baselines.train_mlp(x[having], means, x[having], means, hidden=16, epochs=3)
    rng = np.random.default_rng(2)
    # A source that draws a photo's own tags and nothing else, each as often.
    perfect = np.stack([vocabulary.vectors[[vocabulary.index(tag) for tag in data.tags[i]]] for i in test.tolist()])
    perfect = np.tile(perfect, (1, samples // perfect.shape[1] + 1, 1))[:, :samples]
    noise = rng.standard_normal(perfect.shape).astype(np.float32)
    found = one_to_many.compare(data, vocabulary, {"cgan": perfect, "cgan_dropout": noise}, 5, 1.0, regressor, seed=1)
    assert list(found) == list(SOURCES)
    assert found["cgan"].coverage.value == found["cgan"].correctness.value == 1
    # Of two different samples one in seven or so are the same tag: 40 samples of 6 tags.
    different = 1 - (4 * 7 * 6 + 2 * 6 * 5) / (40 * 39)
    assert found["cgan"].diversity.value == pytest.approx(different * found["real"].diversity.value, abs=0.02)
    assert found["cgan_dropout"].correctness.value < 0.4
    one, again = (regressor.sample(x[test], 30, seed=3) for _ in range(2))
    assert np.array_equal(one, again) and one.std(1).min() > 0
    assert np.array_equal(regressor.vectors(x[test]), regressor.vectors(x[test])), "dropout is off again"


def test_what_noise_adds_is_the_same_for_every_photo() -> None:
    """Section 4.2's G is A relu(W z + a) + B relu(V y + b) + c with dropout off, so G(z, y) - G(z', y) knows no y."""
    spec = replace(flickr_paper().generator, condition_dim=30)
    generator, rng = Generator(spec, torch.Generator().manual_seed(1)).double().eval(), torch.Generator().manual_seed(2)
    z, y = torch.randn(2, spec.input_dim, generator=rng).double(), torch.randn(5, 30, generator=rng).double()
    with torch.no_grad():
        added = generator(z[:1].expand(5, -1), y) - generator(z[1:].expand(5, -1), y)
    torch.testing.assert_close(added, added[:1].expand(5, -1))
    assert added.abs().mean() > 0.01


def test_words_drawn_often_are_large_and_true_ones_are_coloured(tmp_path: Path) -> None:
    def drawn(words: list[str], tags: list[str]) -> tuple[list[int], bool]:
        """Heights of the lines of text, and whether any is blue."""
        missing = tmp_path / "missing.jpg"
        word_cloud.draw([(missing, tags, words)], tmp_path / "words.png", "title")
        with Image.open(tmp_path / "words.png") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        ends = np.flatnonzero(np.diff((pixels < 200).any((1, 2)), prepend=False, append=False))
        return (ends[1::2] - ends[::2]).tolist(), bool((pixels[..., 2] - pixels[..., 0] > 100).any())

    always, coloured = drawn(["dog"] * 100, [])
    assert not coloured and len(always) == 3  # Title, headings, the word.
    seldom, _ = drawn([f"dog{i}" for i in range(100)], [])
    assert always[2] > 2 * seldom[2]
    assert drawn(["dog"] * 100, ["dog"])[1]
    assert drawn(["$x^2", "$", "a" * 300], [])[0]  # Hostile words are printed as they are.


def test_the_tags_of_a_photo_stay_within_its_row(tmp_path: Path) -> None:
    tags = [f"{letter}0" for letter in "abcdefghijklmno"]
    word_cloud.draw([(tmp_path / "missing.jpg", tags, [])] * 2, tmp_path / "words.png", "title")
    with Image.open(tmp_path / "words.png") as image:
        inked = (np.asarray(image.convert("L")) < 200).any(1)
    lines = np.flatnonzero(np.diff(inked, prepend=False, append=False))[::2]
    # Title, headings, and the tags of both photos: lines over one another would be fewer.
    assert len(lines) == 2 + 2 * word_cloud.TAGS
