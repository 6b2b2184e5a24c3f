"""Turn photos into the vectors of a frozen network: find, open, compute in batches, and keep what was computed.

Trains nothing, and knows nothing of tags.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import re
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from embeddings import EmbeddingError
from embeddings.images.cache import FeatureCache
from embeddings.images.networks import FrozenNetwork

#: Endings of names that are taken for images within folders. Not all installations of Pillow read all of them: those
#: that cannot be read are then named rather than passed over.
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
SUFFIXES = (*_JPEG, ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif", ".heic", ".jp2")

#: Seconds between two writings of new features to the cache.
SAVE_EVERY = 60.0

#: Images of one forward pass. On a processor few, so that what one layer writes is still in its caches for the next:
#: MobileNet takes 21 ms of one core for an image at 8, 22 at 16, 29 at 32.
BATCH = {"cpu": 8, "cuda": 64}

#: Images that make another loader process worth its start.
IMAGES_PER_WORKER = 64


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
    """Describe the forward passes that an extraction still has to make, for whoever makes them.

    Pass i takes the images from ``i * batch_size`` on, ``batch_size`` of them. Who makes them the same way, on the
    same kind of processor and in as many threads of torch, finds the same vectors to the bit.
    """

    network: FrozenNetwork
    paths: Sequence[Path]
    batch_size: int
    device: str
    precision: str
    """"float32", or "bfloat16" for the products on a GPU."""
    workers: int | None = None
    """Processes that open images, where they are chosen by number."""

    def __len__(self) -> int:
        return -(-len(self.paths) // self.batch_size)

    def photos(self) -> Photos:
        """Return the images, to be opened."""
        preprocessing = self.network.preprocessing
        return Photos(self.paths, preprocessing.transform(), preprocessing.scaled())

    def make(self, which: Sequence[int], openers: Executor) -> list[Found]:
        """Make the passes ``which``, while ``openers``, threads of this process, open their images."""
        photos, everything = self.photos(), range(len(self.paths))
        numbers = [everything[i * self.batch_size : (i + 1) * self.batch_size] for i in which]
        with _without_warnings():  # Around all threads: what it sets holds for the process.
            opened = openers.map(photos.open, itertools.chain(*numbers))
            return [self.forward(*stack(list(itertools.islice(opened, len(those))))) for those in numbers]

    def forward(self, numbers: list[int], pixels: Tensor | None, failures: dict[int, str]) -> Found:
        """Make one pass, of what ``stack`` gave; an image whose vector is not finite fails."""
        vectors = np.empty((0, self.network.dim), dtype=np.float32)
        if pixels is not None:
            kind = torch.device(self.device).type
            # Entered anew for each batch: around a yield these would hold for the caller, too.
            with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16"):
                batch = self.network.preprocessing.normalise(pixels.to(self.device))
                batch = batch.contiguous(memory_format=torch.channels_last)
                vectors = self.network.module(batch).float().cpu().numpy()
            finite = np.isfinite(vectors).all(1)
            failures = failures | {numbers[i]: "its features are not finite" for i in np.flatnonzero(~finite)}
            numbers, vectors = [numbers[i] for i in np.flatnonzero(finite)], vectors[finite]
        return numbers, vectors, failures


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Return the image files that ``paths`` name, each once: files as they are, folders with all below them.

    Within a folder those with a known ending, in natural order (im2 before im10); hidden ones are left out.
    Raises ``EmbeddingError`` for a path that is not there, and for a folder without images.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise EmbeddingError(f"{path}: no such file or folder; give photos or folders of them")
        if not path.is_dir():
            found[path] = None
            continue
        within = [
            Path(folder, name)
            for folder, folders, names in os.walk(path, onerror=_raise)
            for name in names
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
        if not within:
            raise EmbeddingError(f"{path}: no images in this folder; give one with files such as .jpg or .png")
        found.update(dict.fromkeys(sorted(within, key=_natural)))
    return list(found)


def open_image(path: str | Path, scaled: int | None = None) -> Image.Image:
    """Return the photo at ``path`` as it is meant to be seen: RGB, upright (EXIF), on white where it is transparent.

    The first picture of an animation; grey of 16 or 32 bits scaled to 8. ``scaled``: the pixels its shorter side will
    be scaled to. A JPEG of more than twice that is decoded at a half, a quarter or an eighth of its size, much faster.
    Raises ``EmbeddingError``, one sentence without the path, for whatever cannot be read, or has more than
    twice Pillow's ``Image.MAX_IMAGE_PIXELS`` (179 megapixels), before it is decoded. Pillow's
    warnings of damaged metadata are the caller's to silence: ``warnings.catch_warnings`` is not for threads.
    """
    try:
        if os.path.getsize(path) == 0:
            raise EmbeddingError("the file is empty")
        with Image.open(path) as image:
            if scaled is not None:
                image.draft(None, (2 * scaled, 2 * scaled))
            image.load()
            return _rgb(_upright(image))
    except EmbeddingError:
        raise
    except Image.DecompressionBombError:
        raise EmbeddingError(f"too large: more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
    except UnidentifiedImageError:
        raise EmbeddingError("not an image, or of a kind that cannot be read here") from None
    except Exception as error:
        # What decoders raise on damaged files is of every kind: OSError, ValueError, SyntaxError, struct.error, ...
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise EmbeddingError(f"cannot be read: {' '.join(reason.split())}") from None


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, and of sizes below Pillow's limit
        yield


def extract(
    network: FrozenNetwork,
    paths: Sequence[str | Path],
    cache: str | Path | None = None,
    workers: int | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    compute: Callable[[Passes], Iterator[Found]] | None = None,
) -> ImageFeatures:
    """Return the vectors of the images at ``paths``; those that cannot be read are skipped by name.

    ``cache`` is a folder. What it holds of this network (its weights, preprocessing and precision) for images of the
    same contents, whatever their names, is not computed again; what is computed is added to it about once a minute
    and at the end, however that comes. ``workers`` processes read and scale images (None: as many as there are cores,
    but none for a few images; 0: this process does). ``batch_size`` images go through the network at a time (None:
    as many as suit the device). Neither changes the vectors by more than rounding. On a CUDA device that computes in
    bfloat16 the network does; the vectors are float32 all the same. Leaves ``network.module`` on the ``device``.
    ``compute`` makes the passes in place of this process, and gives their images in order.
    Raises ``EmbeddingError`` for no paths, settings out of range, and a loader process that died.
    """
    from tqdm import tqdm

    if not paths:
        raise EmbeddingError("there are no images to take features of: give at least one")
    if (workers is not None and workers < 0) or (batch_size is not None and batch_size < 1):
        raise EmbeddingError(f"workers is {workers} and batch_size {batch_size}: 0 or more and 1 or more are needed")
    files = [Path(path) for path in paths]
    skipped: dict[str, str] = {}
    # One row for each different contents, in the order of the paths.
    rows: dict[bytes, int] = {}
    path_of_row: list[Path] = []
    wanted: list[tuple[int, int]] = []
    for i, path in enumerate(tqdm(files, "reading images", unit="image", delay=2, disable=None if progress else True)):
        try:
            digest = _digest(path)
        except OSError as error:
            skipped[str(path)] = error.strerror or str(error)
            continue
        if digest not in rows:
            rows[digest] = len(rows)
            path_of_row.append(path)
        wanted.append((i, rows[digest]))
    matrix = np.empty((len(rows), network.dim), dtype=np.float32)
    precision = _precision(device)
    record = {**network.describe(), "precision": precision}
    del record["weights"]  # The name of their file: the checksum stands for what is in it.
    store = FeatureCache(Path(cache), record, network.dim) if cache else None
    done = store.read(rows, matrix) if store else np.zeros(len(rows), dtype=bool)

    missing: np.ndarray = np.flatnonzero(~done)
    reasons: dict[int, str] = {}
    if len(missing):
        images = list(rows)
        unsaved: list[int] = []
        size = batch_size or BATCH.get(torch.device(device).type, BATCH["cpu"])
        passes = Passes(network, [path_of_row[row] for row in missing.tolist()], size, device, precision, workers)
        bar = tqdm(
            total=len(missing),
            desc=f"features ({network.name})",
            unit="image",
            delay=2,
            disable=None if progress else True,
        )
        saved = time.monotonic()
        if store:
            store.folder.mkdir(parents=True, exist_ok=True)  # Fails now if nothing can be written there.
        try:
            with bar, contextlib.closing((compute or _compute)(passes)) as found:  # type: ignore[type-var]
                for numbers, vectors, failures in found:
                    bar.update(len(numbers) + len(failures))
                    reasons.update({int(missing[number]): reason for number, reason in failures.items()})
                    good = missing[numbers]
                    matrix[good], done[good] = vectors, True
                    unsaved.extend(good.tolist())
                    if store and time.monotonic() - saved >= SAVE_EVERY:
                        store.add([images[row] for row in unsaved], matrix[unsaved])
                        unsaved, saved = [], time.monotonic()
        finally:
            if store and unsaved:
                store.add([images[row] for row in unsaved], matrix[unsaved])

    for i, row in wanted:
        if not done[row]:
            skipped[str(files[i])] = reasons[row]
    kept = np.array([pair for pair in wanted if done[pair[1]]], dtype=np.int64).reshape(-1, 2)
    everything = np.array_equal(kept[:, 1], np.arange(len(matrix)))
    return ImageFeatures(matrix if everything else matrix[kept[:, 1]], kept[:, 0], skipped)


def _digest(path: Path) -> bytes:
    """Return the SHA-256 of a regular file's bytes."""
    import pooch

    if not stat.S_ISREG(path.stat().st_mode):  # A pipe would never end.
        raise OSError("not a file")
    return bytes.fromhex(pooch.file_hash(str(path), alg="sha256"))


class Photos(Dataset):
    """Give photo i as (i, pixels), or (i, why not). Goes to the loader processes, hence holds no network."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Image.Image], Tensor], scaled: int) -> None:
        self.paths, self.transform, self.scaled = paths, transform, scaled

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[int, Tensor | str]:
        with _without_warnings():
            return self.open(i)

    def open(self, i: int) -> tuple[int, Tensor | str]:
        """Return photo i; for threads, within ``_without_warnings``."""
        try:
            image = open_image(self.paths[i], self.scaled)
            longer, shorter = max(image.size), min(image.size)
            limit = Image.MAX_IMAGE_PIXELS
            if limit and self.scaled**2 * longer / shorter > limit:
                return i, f"too long and narrow: more than {limit:,} pixels once scaled"
            return i, self.transform(image)
        except EmbeddingError as error:
            return i, str(error)
        except (ValueError, MemoryError) as error:
            return i, f"cannot be scaled: {' '.join(str(error).split()) or type(error).__name__}"


def stack(items: Sequence[tuple[int, Tensor | str]]) -> tuple[list[int], Tensor | None, dict[int, str]]:
    """Return the numbers of the good images, their pixels (n, 3, h, w) uint8, and the others' reasons."""
    good = [(i, pixels) for i, pixels in items if isinstance(pixels, Tensor)]
    failures = {i: reason for i, reason in items if isinstance(reason, str)}
    # Bytes, not floats, go from process to process: containers often have only 64 MiB to share.
    return [i for i, _ in good], torch.stack([pixels for _, pixels in good]) if good else None, failures


def _compute(passes: Passes) -> Iterator[Found]:
    """Make pass by pass in this process, while others open the images."""
    processes = _choose_workers(len(passes.paths)) if passes.workers is None else passes.workers
    loader = DataLoader(
        passes.photos(),
        batch_size=passes.batch_size,
        num_workers=processes,
        collate_fn=stack,
        # Its own, from which it draws the seeds of its processes: what is cached must not change what is random.
        generator=torch.Generator(),
        # A new interpreter would import torch for seconds; a fork begins at once, and these do no more than Pillow's
        # work and a stack of bytes, in one thread. Other systems' own way is the safe one there.
        multiprocessing_context="fork" if processes and sys.platform == "linux" else None,
    )
    passes.network.module.to(passes.device)
    try:
        for opened in loader:
            yield passes.forward(*opened)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise EmbeddingError(
            f"a process that reads images died ({' '.join(str(error).split())}): run again with workers 0"
        ) from None


def _choose_workers(images: int) -> int:
    """Return one for each core, as long as each has enough to do; 0 within a process that may start none."""
    if multiprocessing.current_process().daemon:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, images // IMAGES_PER_WORKER)


def _precision(device: str) -> str:
    """Return bfloat16 on GPUs that compute in it. On a processor, even one with instructions for it, it gained nothing.

    (MobileNet, one core with AVX512-BF16, batches of 8: 22.2 ms an image, and 22.1 in float32.)
    """
    where = torch.device(device)
    if where.type == "cuda" and torch.cuda.is_available() and torch.cuda.get_device_capability(where)[0] >= 8:
        return "bfloat16"
    return "float32"


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Damaged EXIF data, which end in errors of many kinds, are no reason to lose the photo.
        return image


def _rgb(image: Image.Image) -> Image.Image:
    """Return a decoded image of any mode as 8-bit RGB."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise EmbeddingError("cannot be read: it holds numbers that are not finite")
        # 16-bit images come as I;16 or as I, and some 8-bit ones as I; others are scaled to their own range.
        low, high = float(values.min()), float(values.max())
        if image.mode != "F" and low >= 0 and high <= 65535:
            low, high = 0.0, 255.0 if image.mode == "I" and high <= 255 else 65535.0
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
