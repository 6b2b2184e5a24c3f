"""Read arrays of images or samples from .npy, .npz and .safetensors files, and check them. Nothing is unpickled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from experiments import UsageError

_TOLERANCE = 1e-3  # Values this far outside [0, 1] come from rounding.
MAX_UNPACKED = 2**29  # Bytes of an array unpacked from a .npz file; 10,000 MNIST images in float32 take 31 MB.


def read_images(path: Path) -> tuple[np.ndarray, list[str]]:
    """Return the images of a file as float32 (n, d), and notes on what was converted or looks odd.

    Axes after the first are flattened row by row, so (n, 28, 28) becomes (n, 784). Bytes are divided by 255. Of several
    arrays, the one named ``samples``, else ``images``, is taken. Raises ``UsageError`` if there are none of the sort.
    """
    readers = {".npy": _read_numpy, ".npz": _read_numpy, ".safetensors": _read_safetensors}
    if not path.is_file():
        raise UsageError(
            f"{path}: there is no such file; give a .npy, .npz or .safetensors file, a run, or mnist-train"
        )
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path}: not a file of arrays; give a .npy, .npz or .safetensors file")
    try:
        array = readers[path.suffix.lower()](path)
    except (UsageError, PermissionError):
        raise
    except Exception as error:  # The readers raise errors of a dozen kinds on damaged files.
        # NumPy takes any other file for a pickle, and says how to load it.
        reason = "it holds no array, or one of Python objects" if "pickle" in str(error) else error
        raise UsageError(
            f"{path}: not a whole {path.suffix} file of plain numbers ({reason}); write it again"
        ) from error
    return as_images(array, str(path))


def as_images(array: np.ndarray, source: str) -> tuple[np.ndarray, list[str]]:
    """Return ``array`` in the form of ``read_images``; ``source`` names it in notes and errors."""
    if array.ndim < 2 or not array.size:
        raise UsageError(f"{source}: an array of shape {array.shape} is not (images, values)")
    notes = []
    if array.dtype == np.uint8:
        if array.max() <= 1:
            raise UsageError(f"{source}: bytes count as 0 .. 255, but these are all 0 or 1; save them as float32")
        images = array.astype(np.float32, order="C")
        images /= np.float32(255)
        notes.append(f"{source} holds bytes; they were divided by 255")
    elif np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):  # values that overflow float32 are refused below
            images = array.astype(np.float32, order="C")
    else:
        raise UsageError(f"{source}: holds {array.dtype}; save floats in [0, 1], or uint8 in 0 .. 255")
    images = images.reshape(len(images), math.prod(array.shape[1:]))
    low, high = images.min(), images.max()
    if not (math.isfinite(low) and math.isfinite(high)):
        row = int(np.isfinite(images).all(axis=1).argmin())
        raise UsageError(f"{source}: NaN or infinity, first in image {row} of {len(images)}; leave such images out")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        if low >= 0 and 200 < high <= 255 + _TOLERANCE:
            fix = "divide by 255"
        elif -1 - _TOLERANCE <= low < -0.5 and high <= 1 + _TOLERANCE:
            fix = "tanh outputs become so by (x + 1) / 2"
        else:
            fix = "rescale them"
        notes.append(f"{source} holds values from {low:.4g} to {high:.4g}; only [0, 1] compares with the paper ({fix})")
    return images, notes


def _read_numpy(path: Path) -> np.ndarray:
    # Mapped: a damaged header that promises more than the file holds is refused before memory is allocated.
    content = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        name = _pick(path, content.files)
        # The zip directory states the size; zipfile unpacks no more than that.
        size = max(each.file_size for each in content.zip.infolist() if each.filename in (name, f"{name}.npy"))
        if size > MAX_UNPACKED:
            raise UsageError(
                f"{path}: the array {name} takes {size:,} bytes unpacked, and at most {MAX_UNPACKED:,} are read; save "
                "fewer images, or a .npy file"
            )
        return np.asarray(content[name])  # NumPy gives a member that is no array as bytes.


def _read_safetensors(path: Path) -> np.ndarray:
    import torch
    from safetensors import safe_open

    open(path, "rb").close()  # safetensors reports a file without permission as missing
    with safe_open(path, framework="pt") as content:
        tensor = content.get_tensor(_pick(path, content.keys()))
    # NumPy has no bfloat16 or 8-bit floats.
    known = (torch.float16, torch.float32, torch.float64)
    return tensor.float().numpy() if tensor.is_floating_point() and tensor.dtype not in known else tensor.numpy()


def _pick(path: Path, names: Iterable[str]) -> str:
    """Return the name ``samples``, else ``images``, else the only one."""
    names = list(names)
    for name in ("samples", "images", *names[: len(names) == 1]):
        if name in names:
            return name
    held = f"the arrays {', '.join(sorted(names))}" if names else "no array"
    raise UsageError(f'{path}: holds {held}; save the images under the name "samples"')
