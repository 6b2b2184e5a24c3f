"""Photos of every kind opened; features against forward passes written by hand; the cache after damage and kills."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save as packed_tensors
from safetensors.torch import save_file
from torchvision import models

from embeddings import EmbeddingError
from embeddings.images import extract as images
from embeddings.images.extract import ImageFeatures, extract, find_images, open_image
from embeddings.images.networks import FrozenNetwork, load_network, packaged_weights

#: Mean and standard deviation of each channel of ImageNet, as its networks are trained with.
IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def network() -> Iterator[FrozenNetwork]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # Tiny networks are slower in several threads, by far where the cores have other work.
    yield load_network("test_resnet", random_weights=True)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve different pictures, tall and wide, JPEG and PNG."""
    folder = tmp_path_factory.mktemp("photos")
    return [save(folder / f"im{n}.{'png' if n % 3 else 'jpg'}", (60 + 30 * n, 300 - 20 * n), n) for n in range(1, 13)]


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Soft random colours."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


def save(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    picture(size, seed).save(path)
    return path


def counting(network: FrozenNetwork, paths: list[Path], **settings) -> tuple[ImageFeatures, int]:
    """Features, and how many images went through the network for them."""
    seen: list[int] = []
    hook = network.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    try:
        features = extract(network, paths, progress=False, **settings)
    finally:
        hook.remove()
    return features, sum(seen)


def prepared(path: Path, size: int, crop_pct: float, how: Image.Resampling, mean: float, std: float) -> torch.Tensor:
    """(1, 3, size, size): scaled and cut in one step by Pillow's box, which no transform of torchvision uses."""
    image = Image.open(path).convert("RGB")
    short = int(size / crop_pct)
    scaled = [short if side == min(image.size) else int(short * side / min(image.size)) for side in image.size]
    corner = [round((side - size) / 2) for side in scaled]
    ratio = [side / to for side, to in zip(image.size, scaled, strict=True)]
    box = (corner[0] * ratio[0], corner[1] * ratio[1], (corner[0] + size) * ratio[0], (corner[1] + size) * ratio[1])
    pixels = np.asarray(image.resize((size, size), how, box), dtype=np.float64)
    return torch.from_numpy(((pixels / 255 - mean) / std).transpose(2, 0, 1)[None]).float()


# Features against forward passes written out by hand.


def test_fc7_of_alexnet(photos: list[Path]) -> None:
    network = load_network("alexnet", random_weights=True)
    assert (network.name, network.dim, network.weights) == ("torchvision/alexnet", 4096, "random")
    with torch.device("meta"):  # Without random weights of its own.
        model = models.alexnet().eval()  # Its last layer, which the features lack, is not used.
    model.load_state_dict(network.module.model.state_dict(), strict=False, assign=True)
    x = prepared(photos[0], 224, 0.875, Image.Resampling.BILINEAR, *IMAGENET)
    with torch.no_grad():
        reference = model.classifier[:6](model.avgpool(model.features(x)).flatten(1)).numpy()
    vectors = extract(network, photos[:1], progress=False).vectors
    # The two ways of scaling round some pixels to neighbouring values.
    assert np.abs(vectors - reference).max() < 0.01 * np.abs(reference).max()
    assert vectors.dtype == np.float32 and (reference == 0).any() and not (vectors < 0).any()


@pytest.mark.parametrize(
    ("name", "settings", "grid", "mean", "std"),
    [("test_resnet", {}, None, 0.5, 0.5), ("test_efficientnet", {"pad_type": "same"}, 3, *IMAGENET)],
)
def test_a_timm_network_from_a_file_in_half_precision(
    tmp_path: Path, photos: list[Path], name: str, settings: dict, grid: int | None, mean, std
) -> None:
    import timm

    torch.manual_seed(3)
    model = timm.create_model(name, num_classes=10, **settings).eval()
    half = {name: tensor.half() for name, tensor in model.state_dict().items() if "num_batches" not in name}
    file = tmp_path / "w.safetensors"
    save_file(half, file, settings)
    network = load_network(f"timm/{name}", file, grid)
    model.load_state_dict(half, strict=False)
    inputs = [prepared(path, 160, 0.95, Image.Resampling.BICUBIC, mean, std) for path in photos]
    with torch.no_grad():
        maps = torch.cat([model.forward_features(x) for x in inputs]).double().numpy()
    side = maps.shape[-1]
    cells = [slice(side * i // (grid or 1), -(-side * (i + 1) // (grid or 1))) for i in range(grid or 1)]
    reference = np.stack([maps[:, :, r, c].mean((2, 3)) for r in cells for c in cells], 2).reshape(len(photos), -1)
    features = extract(network, photos, progress=False)
    assert features.vectors.shape == (12, network.dim) == reference.shape
    assert np.abs(features.vectors - reference).max() < 0.01 * np.abs(reference).max()
    # One photo's input, as preprocess() gives it.
    assert network.preprocess(open_image(photos[0])).sub(inputs[0][0]).abs().max() <= 3.01 / 255 / np.min(std)
    assert json.loads(json.dumps(network.describe()))["preprocessing"]["input_size"] == [3, 160, 160]


def test_batches_change_no_vector(network: FrozenNetwork, photos: list[Path]) -> None:
    reference = extract(network, photos, batch_size=12, progress=False).vectors
    assert np.unique(reference, axis=0).shape == reference.shape
    for batch_size in (1, 5):
        found = extract(network, photos, batch_size=batch_size, progress=False)
        assert found.rows.tolist() == list(range(12))
        np.testing.assert_allclose(found.vectors, reference, rtol=0, atol=1e-5 * np.abs(reference).max())


def test_packaged_weights_know_dogs_when_they_see_them() -> None:
    root = Path(os.environ.get("CGAN_DATA", "nowhere")) / "flickr-mini"
    if not root.is_dir():
        pytest.skip("no flickr-mini under CGAN_DATA")
    network = load_network("tf_efficientnet_lite0", "package")
    dogs = (root / "mirflickr25k_annotations_v080" / "dog.txt").read_text().split()[:12]
    features = extract(network, [root / "mirflickr" / f"im{n}.jpg" for n in dogs], progress=False)
    published = torch.load(packaged_weights(), weights_only=True)
    classes = features.vectors @ published["_fc.weight"].numpy().T + published["_fc.bias"].numpy()
    # ImageNet's classes 151 to 268 are breeds of dogs.
    assert np.isin(classes.argmax(1), range(151, 269)).mean() >= 0.75
    with pytest.raises(EmbeddingError, match="choose that network"):
        load_network("resnet18", "package")


# Photos of every kind.


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


JPEG = encoded(picture((90, 70)), "JPEG")
PNG = encoded(picture((90, 70)), "PNG")
UNREADABLE = {
    "empty.jpg": (b"", "not an image"),
    "text.jpg": (b"<html>Photo not found</html>", "not an image"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "cut.png": (PNG[: len(PNG) // 2], "cannot be read"),
    "damaged.png": (PNG[:60] + bytes(200) + PNG[260:], "cannot be read"),
    "bomb.ppm": (b"P6 15000 12000 255\n", "too large: more than 178,956,970 pixels"),
    "nan.tif": (encoded(Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)), "TIFF"), "not finite"),
    "strip.png": (encoded(Image.new("RGB", (40_000, 2)), "PNG"), "long and narrow"),
}


def test_what_cannot_be_read_is_skipped_by_name(tmp_path: Path, network: FrozenNetwork, photos: list[Path]) -> None:
    for name, (contents, _) in UNREADABLE.items():
        (tmp_path / name).write_bytes(contents)
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {name: reason for name, (_, reason) in UNREADABLE.items()}
    reasons |= {"folder.jpg": "not a file", "pipe.jpg": "not a file", "gone.jpg": "No such file"}
    bad = [tmp_path / name for name in reasons]
    mixed = [path for pair in zip(bad, photos, strict=False) for path in pair] + photos[len(bad) :]
    features = extract(network, mixed, tmp_path / "cache", batch_size=4, progress=False)
    assert {Path(path).name for path in features.skipped} == set(reasons)
    for path, reason in features.skipped.items():
        assert reasons[Path(path).name] in reason and "\n" not in reason
    assert [mixed[row] for row in features.rows] == photos
    np.testing.assert_allclose(features.vectors, extract(network, photos, progress=False).vectors, atol=1e-5)
    assert extract(network, bad[:1], progress=False).vectors.shape == (0, network.dim)


@pytest.mark.parametrize(
    ("kind", "image", "options", "expected"),
    [
        ("PNG", Image.new("L", (20, 10), 77), {}, (77, 77, 77)),
        ("PNG", Image.new("RGBA", (20, 10), (200, 0, 100, 51)), {}, (244, 204, 224)),
        ("PNG", Image.new("RGB", (20, 10), (9, 8, 7)), {"transparency": (9, 8, 7)}, (255, 255, 255)),
        ("PNG", Image.new("RGB", (20, 10), (9, 8, 7)).quantize(4), {"transparency": 0}, (255, 255, 255)),
        ("PNG", Image.fromarray(np.full((10, 20), 0x80FF, dtype=np.uint16)), {}, (128, 128, 128)),
        ("TIFF", Image.fromarray(np.full((10, 20), 77, dtype=np.int32)), {}, (77, 77, 77)),
        ("TIFF", Image.fromarray(np.full((10, 20), 0x4040, dtype=np.int32)), {}, (64, 64, 64)),
        ("TIFF", Image.fromarray(np.tile(np.linspace(0, 1, 20, dtype=np.float32), (10, 1))), {}, (67, 67, 67)),
        ("TIFF", Image.new("CMYK", (20, 10), (255, 0, 0, 0)), {}, (0, 255, 255)),
        ("JPEG", Image.new("CMYK", (20, 10), (0, 255, 255, 0)), {"quality": 100}, (255, 0, 0)),
        ("GIF", Image.new("RGB", (20, 10), "red"), {"save_all": True, "append_images": [Image.new("RGB", (20, 10))]},
         (255, 0, 0)),
    ],
)  # fmt: skip
def test_every_mode_comes_out_as_rgb(tmp_path: Path, kind: str, image: Image.Image, options: dict, expected) -> None:
    path = tmp_path / f"image.{kind.lower()}"
    image.save(path, kind, **options)
    opened = open_image(path)
    assert (opened.mode, opened.size) == ("RGB", (20, 10))
    np.testing.assert_allclose(opened.getpixel((5, 5)), expected, atol=2)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_jpegs_are_turned_upright_and_large_ones_decoded_small_but_not_too_small(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned", "JPEG", exif=exif)
    opened = open_image(tmp_path / "turned")
    assert opened.size == (20, 40)
    np.testing.assert_allclose(opened.getpixel((14, 5)), (255, 0, 0), atol=8)
    damaged = encoded(picture((40, 30)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\xff\xff garbage")
    (tmp_path / "damaged").write_bytes(damaged)
    assert open_image(tmp_path / "damaged").size == (40, 30)
    path = save(tmp_path / "large.jpg", (1900, 1500))
    assert [open_image(path, side).size for side in (None, 800, 256)] == [(1900, 1500), (1900, 1500), (950, 750)]
    once, twice = (np.asarray(open_image(path, side).resize((300, 237)), dtype=float) for side in (None, 256))
    assert np.abs(once - twice).mean() < 1


def test_images_are_found_in_natural_order(tmp_path: Path, photos: list[Path]) -> None:
    for name in ("im10.jpg", "im2.JPG", "im1.png", "a/b/im3.webp", "notes.txt", ".hidden.jpg", "a/tags1.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path, tmp_path / "notes.txt", tmp_path / "im2.JPG"])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a/b/im3.webp", "im1.png", "im2.JPG", "im10.jpg", "notes.txt",
    ]  # fmt: skip
    (tmp_path / "none").mkdir()
    with pytest.raises(EmbeddingError, match=r"none: no images"):
        find_images([tmp_path / "none"])
    with pytest.raises(EmbeddingError, match=r"missing.jpg: no such file"):
        find_images([tmp_path / "missing.jpg"])


# What was computed is kept.


def test_images_are_known_by_their_contents(tmp_path: Path, network: FrozenNetwork, photos: list[Path]) -> None:
    cache = tmp_path / "cache"
    paths = [shutil.copy(path, tmp_path / path.name) for path in photos]
    paths[0].write_bytes(photos[0].read_bytes().ljust(200_000, b"\0"))
    first, forwards = counting(network, paths[:10], cache=cache)
    assert forwards == 10
    # Another name, another order, one twice, and one more.
    renamed = paths[4].rename(tmp_path / "other name.png")
    again, forwards = counting(network, [paths[10], renamed, paths[0], renamed, paths[0]], cache=cache)
    assert forwards == 1 and again.rows.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(again.vectors[1:], first.vectors[[4, 0, 4, 0]])
    # The same name with other contents of the same length.
    paths[0].write_bytes(photos[11].read_bytes().ljust(200_000, b"\0"))
    assert counting(network, paths[:1], cache=cache)[1] == 1
    # Other weights, and the same by another way of pooling, are other features.
    assert counting(dataclasses.replace(network, weights="a.safetensors"), paths[1:4], cache=cache)[1] == 0
    for change in ({"checksum": "0" * 64}, {"grid": 1}):
        assert counting(dataclasses.replace(network, **change), paths[1:4], cache=cache)[1] == 3
    assert not list(cache.rglob("*.tmp"))


def test_a_damaged_file_is_named_and_replaced(
    tmp_path: Path, network: FrozenNetwork, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = extract(network, photos, tmp_path, progress=False).vectors
    [part] = tmp_path.rglob("*.safetensors")
    whole = part.read_bytes()
    middle = whole.rindex(first[5].tobytes()) + 10
    foreign = packed_tensors({"images": np.zeros((2, 32), np.uint8)})
    for damaged in (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], foreign):
        part.unlink()
        if damaged == foreign:  # Whole, but not of this program.
            part = part.with_stem(hashlib.sha256(damaged).hexdigest())
        part.write_bytes(damaged)
        features, forwards = counting(network, photos, cache=tmp_path)
        assert forwards == 12
        np.testing.assert_allclose(features.vectors, first, atol=1e-5)
        assert capsys.readouterr().err.startswith(f"note: {part}: damaged")
        assert counting(network, photos, cache=tmp_path)[1] == 0
        [part] = tmp_path.rglob("*.safetensors")


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_what_was_computed_is_kept_as_it_comes_and_at_an_interrupt(
    seconds: float, tmp_path: Path, network: FrozenNetwork, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "SAVE_EVERY", seconds)
    on_disk = []

    def interrupted(passes: images.Passes) -> Iterator[images.Found]:
        for found in islice(images._compute(passes), 2):
            on_disk.append(len(list(tmp_path.rglob("*.safetensors"))))
            yield found
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(network, photos, tmp_path, batch_size=3, progress=False, compute=interrupted)
    assert on_disk == ([0, 1] if seconds == 0 else [0, 0])
    assert counting(network, photos, cache=tmp_path)[1] == 6


# What cannot be done is one sentence.


def test_features_that_are_not_finite_are_none(network: FrozenNetwork, photos: list[Path]) -> None:
    nothing = torch.nn.Threshold(float("inf"), float("inf"))
    broken = dataclasses.replace(network, module=torch.nn.Sequential(network.module, nothing))
    found = extract(broken, photos[:3], progress=False)
    assert not len(found.vectors) and set(found.skipped.values()) == {"its features are not finite"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("conv1.0.weight"), r"do not fit timm/test_resnet: conv1.0.weight is missing"),
        (lambda w: w.update({"extra.weight": torch.ones(2)}), r"the network has no extra.weight"),
        (lambda w: w.update({"bn1.bias": torch.ones(5)}), r"size mismatch for bn1.bias.*"),
        (lambda w: w["bn1.bias"].fill_(torch.nan), r"bn1.bias holds numbers that are not finite"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, network: FrozenNetwork, change, message: str) -> None:
    own = network.module.model.state_dict()
    state = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in own.items()}
    file = tmp_path / "w.safetensors"
    save_file(state, file)
    assert load_network("test_resnet", file).checksum == network.checksum
    change(state)
    save_file(state, file, {"architecture": "timm other"})
    with pytest.raises(EmbeddingError, match=message + r" \(the file says it is of timm other\)"):
        load_network("test_resnet", file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet5O"}, r"no network is named 'resnet5O'.* \(near it: .*resnet50"),
        ({"name": "torchvision/resnet50"}, "no network is named"),
        ({"name": "hf-hub:someone/thing"}, "no network is named"),
        ({"name": "test_resnet.no_such_tag"}, "no_such_tag"),
        ({"name": "test_vit", "grid": 2, "random_weights": True}, "no feature map to pool"),
        ({"name": "test_resnet", "grid": 0, "random_weights": True}, "grid of timm/test_resnet is 0"),
        ({"name": "test_resnet", "weights": "x.safetensors", "random_weights": True}, "not both"),
        ({"name": "test_resnet", "weights": "nowhere.safetensors"}, "nowhere.safetensors: no such weights file"),
        ({"name": "test_resnet", "weights": __file__}, "not a readable safetensors file"),
    ],
)
def test_networks_that_cannot_be_had(arguments: dict, message: str) -> None:
    with pytest.raises(EmbeddingError, match=message) as caught:
        load_network(**arguments)
    assert "\n" not in str(caught.value)


def test_without_a_connection_the_error_names_the_option_for_a_file(tmp_path: Path, monkeypatch) -> None:
    from huggingface_hub import constants

    # No earlier downloads, and a host that does not exist.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in (("CACHE", str(tmp_path)), ("OFFLINE", False)):
        monkeypatch.setattr(constants, f"HF_HUB_{name}", value)
    monkeypatch.setattr(constants, "ENDPOINT", "https://host.invalid")
    with pytest.raises(EmbeddingError, match=r"weights of timm/mobilenetv1_100 could not.*--features\.weights"):
        load_network("mobilenetv1_100")


def test_random_weights_are_the_same_each_time_and_leave_no_trace(network: FrozenNetwork, photos: list[Path]) -> None:
    before = torch.get_rng_state()
    again = load_network("test_resnet", random_weights=True)
    extract(again, photos[:3], progress=False)
    assert torch.equal(torch.get_rng_state(), before) and not torch.is_inference_mode_enabled()
    assert again.describe() == network.describe()
    assert not again.module.training and not any(p.requires_grad for p in again.module.parameters())
