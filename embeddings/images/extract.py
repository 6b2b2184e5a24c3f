"""Turn photos into the vectors of a frozen network: find, open, compute in batches, and keep what was computed.

Trains nothing, and knows nothing of tags.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from pooch import file_hash
from torch import Tensor

from embeddings import EmbeddingError
from embeddings.images.cache import FeatureCache
from embeddings.images.networks import FrozenNetwork

#: Endings of names that are taken for images within folders. Not all installations of Pillow read all of them: those
#: that cannot be read are then named rather than passed over.
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
SUFFIXES = (*_JPEG, ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif", ".heic", ".jp2")

#: Seconds between two writings of new features to the cache.
SAVE_EVERY = 60.0
#: Images of one forward pass; on a processor few, so that what one layer writes is still in its caches for the next.
BATCH = {"cpu": 8, "cuda": 64}
#: Passes whose images are being opened while one is made.
PASSES_AHEAD = 2


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """The vectors of those images that could be read."""

    vectors: np.ndarray
    """(m, dim) float32."""
    rows: np.ndarray
    """(m,) int64, rising: which of the paths each vector belongs to."""
    skipped: dict[str, str]
    """Path of each image that could not be read, and why."""


#: Of a few images: the numbers of the good ones, their vectors (n, dim) float32, and why the others have none.
Found = tuple[list[int], np.ndarray, dict[int, str]]


@dataclass(frozen=True, eq=False)
class Passes:
    """The forward passes that an extraction still has to make; pass i is of ``batch_size`` images.

    On the same kind of processor and in as many threads of torch, they give the same vectors to the bit.
    """

    network: FrozenNetwork
    paths: Sequence[Path]
    batch_size: int
    device: str
    precision: str
    """"float32", or "bfloat16" for the products on a GPU."""

    def __len__(self) -> int:
        return -(-len(self.paths) // self.batch_size)

    def run(self, which: Sequence[int], openers: Executor) -> Iterator[Found]:
        """Make the passes ``which`` one by one, while ``openers``, threads of this process, open the next images."""
        transform, scaled = self.network.preprocessing.transform(), self.network.preprocessing.scaled()

        def open_pass(i: int) -> list[tuple[int, Future[Tensor | str]]]:
            numbers = range(i * self.batch_size, min((i + 1) * self.batch_size, len(self.paths)))
            return [(number, openers.submit(_pixels, self.paths[number], transform, scaled)) for number in numbers]

        coming = map(open_pass, which)  # Opening begins when a pass is taken from it.
        opening = deque(itertools.islice(coming, PASSES_AHEAD))
        while opening:
            images = opening.popleft()
            opening.extend(itertools.islice(coming, 1))
            yield self._forward({number: pixels.result() for number, pixels in images})

    def _forward(self, opened: dict[int, Tensor | str]) -> Found:
        """Make one pass of the images that could be opened."""
        failures = {number: reason for number, reason in opened.items() if isinstance(reason, str)}
        good = {number: pixels for number, pixels in opened.items() if isinstance(pixels, Tensor)}
        if not good:
            return [], np.empty((0, self.network.dim), dtype=np.float32), failures
        kind = torch.device(self.device).type
        # Entered anew for each batch: around a yield these would hold for the caller, too.
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16"):
            batch = torch.stack(list(good.values())).to(self.device)
            batch = self.network.preprocessing.normalise(batch).contiguous(memory_format=torch.channels_last)
            vectors = self.network.module(batch).float().cpu().numpy()
        numbers, finite = np.array(list(good)), np.isfinite(vectors).all(1)
        failures |= dict.fromkeys(numbers[~finite].tolist(), "its features are not finite")
        return numbers[finite].tolist(), vectors[finite], failures


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Return the image files that ``paths`` name, each once: files as they are, folders with all below them.

    Within a folder those with a known ending, in natural order (im2 before im10); hidden ones are left out.
    Raises ``EmbeddingError`` for a path that is not there, and for a folder without images.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise EmbeddingError(f"{path}: no such file or folder; give photos or folders of them")
        within = [path]
        if path.is_dir():
            files = (Path(folder, name) for folder, _, names in os.walk(path, onerror=_raise) for name in names)
            within = [file for file in files if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
        if not within:
            raise EmbeddingError(f"{path}: no images in this folder; give one with files such as .jpg or .png")
        found.update(dict.fromkeys(sorted(within, key=_natural)))
    return list(found)


def open_image(path: str | Path, scaled: int | None = None) -> Image.Image:
    """Return the photo at ``path`` as it is meant to be seen: RGB, upright (EXIF), on white where it is transparent.

    The first picture of an animation; grey of 16 or 32 bits scaled to 8. ``scaled``: the pixels its shorter side will
    be scaled to; a JPEG of more than twice that is decoded at a half, a quarter or an eighth of its size, much faster.
    Raises ``EmbeddingError``, without the path, for what cannot be read, and for over 179 megapixels.
    """
    try:
        with Image.open(path) as image:
            if scaled is not None:
                image.draft(None, (2 * scaled, 2 * scaled))
            image.load()
            # Damaged EXIF data, which end in errors of many kinds, are no reason to lose the photo.
            with contextlib.suppress(Exception):
                return _rgb(ImageOps.exif_transpose(image))
            return _rgb(image)
    except Image.DecompressionBombError:
        raise EmbeddingError(f"too large: more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
    except UnidentifiedImageError:
        raise EmbeddingError("not an image, or of a kind that cannot be read here") from None
    except Exception as error:
        # What decoders raise on damaged files is of every kind: OSError, ValueError, SyntaxError, struct.error, ...
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise EmbeddingError(f"cannot be read: {' '.join(reason.split())}") from None


def extract(
    network: FrozenNetwork,
    paths: Sequence[str | Path],
    cache: str | Path | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    compute: Callable[[Passes], Iterator[Found]] | None = None,
) -> ImageFeatures:
    """Return the vectors of the images at ``paths``; those that cannot be read are skipped by name.

    What the folder ``cache`` holds of this network for images of the same contents, whatever their names, is not
    computed again; what is computed is added to it about once a minute and at the end, however that comes.
    ``batch_size`` images go through the network at a time (None: as many as suit the ``device``), which changes the
    vectors by no more than rounding. Leaves ``network.module`` on the ``device``. ``compute`` makes the passes in place
    of this process, and gives their images in order.
    """
    from tqdm import tqdm

    hidden = None if progress else True
    skipped: dict[str, str] = {}
    keys: dict[int, bytes] = {}  # Of each path that can be read.
    for row, path in enumerate(tqdm(paths, "reading images", unit="image", delay=2, disable=hidden)):
        try:
            keys[row] = _digest(Path(path))
        except OSError as error:
            skipped[str(path)] = error.strerror or str(error)
    precision = _precision(device)
    record = {**network.describe(), "precision": precision}
    del record["weights"]  # The name of their file: the checksum stands for what is in it.
    store = FeatureCache(Path(cache), record, network.dim) if cache else None
    vectors = store.read(set(keys.values())) if store else {}

    missing = {key: Path(paths[row]) for row, key in keys.items() if key not in vectors}
    images = list(missing)
    reasons: dict[bytes, str] = {}
    unsaved: dict[bytes, np.ndarray] = {}
    size = batch_size or BATCH.get(torch.device(device).type, BATCH["cpu"])
    passes = Passes(network, list(missing.values()), size, device, precision)

    def keep() -> None:
        if store and unsaved:
            store.add(list(unsaved), np.stack(list(unsaved.values())))
        vectors.update(unsaved)
        unsaved.clear()

    bar = tqdm(total=len(missing), desc=f"features ({network.name})", unit="image", delay=2, disable=hidden)
    saved = time.monotonic()
    try:
        with bar, warnings.catch_warnings(), contextlib.closing((compute or _compute)(passes)) as found:  # type: ignore[type-var]
            warnings.simplefilter("ignore")  # Of damaged metadata, and of sizes below Pillow's limit.
            for numbers, computed, failures in found if missing else ():
                bar.update(len(numbers) + len(failures))
                reasons |= {images[number]: reason for number, reason in failures.items()}
                unsaved |= zip((images[number] for number in numbers), computed, strict=True)
                if time.monotonic() - saved >= SAVE_EVERY:
                    keep()
                    saved = time.monotonic()
    finally:
        keep()

    rows = [row for row, key in keys.items() if key in vectors]
    skipped |= {str(paths[row]): reasons[key] for row, key in keys.items() if key not in vectors}
    matrix = np.stack([vectors[keys[row]] for row in rows]) if rows else np.empty((0, network.dim), dtype=np.float32)
    return ImageFeatures(matrix, np.array(rows, dtype=np.int64), skipped)


def _compute(passes: Passes) -> Iterator[Found]:
    passes.network.module.to(passes.device)
    with ThreadPoolExecutor(os.cpu_count()) as openers:
        yield from passes.run(range(len(passes)), openers)


def _digest(path: Path) -> bytes:
    """Return the SHA-256 of a regular file's bytes."""
    if not stat.S_ISREG(path.stat().st_mode):  # A pipe would never end.
        raise OSError("not a file")
    return bytes.fromhex(file_hash(str(path)))


def _pixels(path: Path, transform: Callable[[Image.Image], Tensor], scaled: int) -> Tensor | str:
    """Return a photo's pixels (3, h, w) uint8, its shorter side being ``scaled`` on the way, or why there are none."""
    try:
        image = open_image(path, scaled)
        limit = Image.MAX_IMAGE_PIXELS
        if limit and scaled**2 * max(image.size) / min(image.size) > limit:
            return f"too long and narrow: more than {limit:,} pixels once scaled"
        return transform(image)
    except EmbeddingError as error:
        return str(error)
    except (ValueError, MemoryError) as error:
        return f"cannot be scaled: {' '.join(str(error).split()) or type(error).__name__}"


def _precision(device: str) -> str:
    """Return bfloat16 on GPUs that compute in it; on a processor, even one that can, it gains nothing."""
    where = torch.device(device)
    if where.type == "cuda" and torch.cuda.is_available() and torch.cuda.get_device_capability(where)[0] >= 8:
        return "bfloat16"
    return "float32"


def _rgb(image: Image.Image) -> Image.Image:
    """Return a decoded image of any mode as 8-bit RGB; numbers of no usual range are scaled to their own."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise EmbeddingError("cannot be read: it holds numbers that are not finite")
        low, high = float(values.min()), float(values.max())
        if image.mode != "F" and 0 <= low <= high <= 65_535:  # 16 bits come as I as well, and some images of 8.
            low, high = 0.0, 255.0 if image.mode == "I" and high <= 255 else 65_535.0
        image = Image.fromarray(((values - low) * (255 / ((high - low) or 1.0))).round().astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _raise(error: OSError) -> None:
    raise error


def _natural(path: Path) -> list[list[tuple[int, str]]]:
    """Return a sort key that takes digits by the number they make, within each part of the path."""
    return [
        [(int(digits or 0), text.lower()) for text, digits in re.findall(r"(\D*)(\d*)", part)] for part in path.parts
    ]
