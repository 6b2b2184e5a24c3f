"""What the Flickr experiment stands on, against slow plain transcriptions of what it should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.mirflickr import TaggedPhotos
from data.scenes import render_scene
from embeddings.vocabulary import Vocabulary
from experiments import UsageError
from experiments.flickr_tags import dataset as flickr_data
from experiments.flickr_tags.presets import FLICKR_PRESETS, FeatureSettings, FlickrConfig, PairSettings

WORDS = ["dog", "sea", "sky", "plant", "tree", "car"]


def made_photos(tags: list[tuple[str, ...]], **changes: Any) -> TaggedPhotos:
    nothing: tuple[tuple[str, ...], ...] = ((),) * len(tags)
    made = TaggedPhotos(
        name="made",
        embedded=False,
        folder=Path("nowhere"),
        numbers=np.arange(1, len(tags) + 1),
        paths=tuple(Path(f"nowhere/im{i + 1}.jpg") for i in range(len(tags))),
        tags=tuple(tags),
        annotations=nothing,
        relevant=nothing,
        checksum="0",
    )
    return replace(made, **changes)


def made_vocabulary() -> Vocabulary:
    return Vocabulary.from_arrays(WORDS, np.random.default_rng(0).standard_normal((len(WORDS), 8)), None)


def test_tags_are_the_users_then_the_words_of_the_labels() -> None:
    labels, relevant = (("sky", "plant_life", "tree"), ("sea",)), (("tree",), ())
    made = made_photos([("ünder", "tree"), ()], annotations=labels, relevant=relevant)
    expected = {
        "potential": (("ünder", "tree", "sky", "plant"), ("sea",)),
        "relevant": (("ünder", "tree"), ()),
        "none": (("ünder", "tree"), ()),
    }
    assert {which: flickr_data.tags_of(made, which) for which in expected} == expected


@pytest.mark.parametrize(
    ("counts", "most", "share", "train", "valid"),
    [
        ([2, 0, 3, 1, 1, 1, 1, 1], 1_000, 0.5, 4, 2),  # A share of the images; then halves.
        ([2, 0, 3, 1, 1, 1, 1, 1], 5, 0.9, 3, 2),  # As many as hold five pairs.
        ([2, 0, 3, 1, 1, 1, 1, 1], 6, 0.9, 4, 2),
    ],
)
def test_the_first_images_train(counts: list[int], most: int, share: float, train: int, valid: int) -> None:
    found = flickr_data.split(counts, PairSettings(train=most, train_share=share))
    parts = [part.tolist() for part in (found.train, found.valid, found.test)]
    assert parts == [[*range(train)], [*range(train, train + valid)], [*range(train + valid, len(counts))]]
    with pytest.raises(UsageError, match="cannot be split"):
        flickr_data.split([3, 0, 0, 0], PairSettings(train=most, train_share=share))


def test_pairs_are_the_first_in_the_images_order() -> None:
    tags = [["sea", "nikon", "dog"], [], ["dog"], ["sky"]]
    for most in (1, 3, 30):
        pairs = flickr_data.make_pairs(tags, np.arange(3), made_vocabulary(), most)
        assert list(zip(pairs.images.tolist(), pairs.words.tolist(), strict=True)) == [(0, 1), (0, 0), (2, 0)][:most]
        assert pairs.images.dtype == pairs.words.dtype == np.int64


@pytest.mark.parametrize("kind", ["none", "standard", "unit", "centred_unit"])
def test_scales_are_what_float64_gives(kind: Any) -> None:
    rng = np.random.default_rng(1)
    raw = (rng.gamma(0.5, 3.0, (50, 7)) + 1e-3).astype(np.float32)
    raw[:, 3] = 4.0  # A number that never changes has no deviation to divide by.
    train = raw[:30]
    found = flickr_data.Scale.fit(train, FeatureSettings(scaling=kind, length=3.5))(raw)
    exact, exact_train = raw.astype(np.float64), train.astype(np.float64)
    if kind == "standard":
        deviation = exact_train.std(0)
        exact = (exact - exact_train.mean(0)) / np.where(deviation > 0, deviation, 1)
    elif kind == "centred_unit":
        exact = exact - exact_train.mean(0)
    if kind in ("unit", "centred_unit"):
        exact = exact / np.sqrt((exact**2).sum(1, keepdims=True))
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, 3.5 * exact, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_features_without_a_direction_are_refused(bad: float) -> None:
    features = np.ones((3, 4), dtype=np.float32)
    features[1] = bad
    with pytest.raises(UsageError, match="not finite or all zero"):
        flickr_data.Scale("unit", 1.0)(features)


def test_words_lose_what_all_share() -> None:
    vocabulary = made_vocabulary()
    units = vocabulary.vectors.astype(np.float64)
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    found = flickr_data.centred(vocabulary)
    np.testing.assert_allclose(found.vectors, units - units.mean(0), atol=1e-6)
    assert found.words == vocabulary.words
    # Where all words point the same way, nothing would be left of any.
    same = Vocabulary.from_arrays(["a", "b"], np.ones((2, 4), dtype=np.float32), None)
    np.testing.assert_allclose(flickr_data.centred(same).vectors, 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "there", "embedded", "expected"),
    [
        # auto: weights under the data root, else alexnet; for scenes those of a package, so that nothing is downloaded.
        ({}, [], False, ("alexnet", None, None, False)),
        ({}, ["vgg16", "alexnet"], False, ("alexnet", "alexnet", None, False)),
        ({}, [], True, ("tf_efficientnet_lite0", "package", None, False)),
        ({"random_weights": True}, ["alexnet"], False, ("mobilenetv1_100", None, 2, True)),
        ({"weights": "x/vgg16.safetensors"}, ["alexnet"], True, ("vgg16", "x/vgg16.safetensors", None, False)),
        # A name stays, and takes the weights of its own name.
        ({"network": "vgg16"}, ["alexnet", "vgg16"], True, ("vgg16", "vgg16", None, False)),
        ({"network": "vgg16", "weights": "y.safetensors"}, ["vgg16"], False, ("vgg16", "y.safetensors", None, False)),
        ({"network": "mobilenetv1_100", "grid": 1}, [], False, ("mobilenetv1_100", None, 1, False)),
    ],
)  # fmt: skip
def test_every_combination_of_network_and_weights_resolves(
    given: dict[str, Any], there: list[str], embedded: bool, expected: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    for name in there:
        (tmp_path / "weights" / f"{name}.safetensors").touch()
    photos = made_photos([("dog",)], embedded=embedded)
    found = flickr_data.resolve_features(FeatureSettings(**given), photos, tmp_path)
    name, weights, grid, random = expected
    if weights in there:
        weights = str(tmp_path / "weights" / f"{weights}.safetensors")
    assert (found.network, found.weights, found.grid, found.random_weights) == (name, weights, grid, random)
    # What is resolved stays.
    assert flickr_data.resolve_features(found, photos, tmp_path) == found


def test_photos_without_features_are_named_and_the_others_keep_their_places(tmp_path: Path) -> None:
    paths = []
    for number in range(1, 5):
        paths.append(tmp_path / f"im{number}.jpg")
        render_scene(1, number).image.save(paths[-1])
    paths[1].write_bytes(b"no image")
    paths.append(tmp_path / "gone.jpg")
    network = flickr_data.load_frozen(FeatureSettings(network="test_vit", random_weights=True))
    vectors, rows, skipped = flickr_data.features_of(network, paths)
    assert rows.tolist() == [0, 2, 3] and vectors.shape == (3, network.dim)
    assert set(skipped) == {str(paths[1]), str(paths[4])}
    # A network that sees nothing at all.
    for parameter in network.module.parameters():
        parameter.zero_()
    vectors, rows, skipped = flickr_data.features_of(network, paths)
    assert len(vectors) == len(rows) == 0 and skipped[str(paths[0])] == "its features are all zero"


def test_a_small_corpus_is_passed_over_more_often() -> None:
    """So that 500 million tokens are seen, in 5 passes at least and 50 at most."""
    tokens = (0, 10_000_000, 30_000_000, 99_999_999, 100_000_000, 10**10)
    assert [flickr_data.epochs_for(count) for count in tokens] == [50, 50, 17, 6, 5, 5]


def changed(config: FlickrConfig, **changes: Any) -> FlickrConfig:
    """The same with ``generator={...}`` and the like."""
    return replace(config, **{name: replace(getattr(config, name), **fields) for name, fields in changes.items()})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"discriminator": {"input_dim": 50}}, "output_dim is 200 and discriminator.input_dim 50"),
        ({"generator": {"condition": "one_hot"}}, "generator.condition is one_hot"),
        ({"generator": {"condition": "none", "condition_dim": 0, "condition_branch": ()}}, "--discriminator.condition"),
    ],
)
def test_networks_that_do_not_fit_together_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        flickr_data.check_networks(changed(FLICKR_PRESETS["paper"](), **fields), 4096, "network")


def test_the_networks_of_every_preset_take_what_the_frozen_one_gives(tmp_path: Path) -> None:
    frozen = {"network": "test_vit", "random_weights": True}  # 64 numbers.
    photos = made_photos([("dog",)])
    for make in FLICKR_PRESETS.values():
        config = make()
        assert FlickrConfig.from_dict(config.as_dict()) == config
        config = changed(config, features=frozen, words={"vectors": "words.bin"})
        found, network = flickr_data.resolve(config, photos, tmp_path)
        assert found.generator.condition_dim == found.discriminator.condition_dim == network.dim == 64
    with pytest.raises(UsageError, match=r"gives 64 numbers an image, but generator\.condition_dim is 4,096"):
        flickr_data.resolve(config, photos, tmp_path, {"generator.condition_dim"})
