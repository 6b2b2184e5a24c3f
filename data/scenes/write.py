"""Write rendered scenes to a folder in MIRFLICKR-25000's layout, with YFCC100M rows beside them."""

from __future__ import annotations

import bz2
import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from data import DataError
from data.scenes.render import draw, imagine
from data.scenes.words import ROWS, caption_rows, clean, tags_of

#: Changes whenever the same seed would give other files.
VERSION = 3
MANIFEST = "scenes.json"

#: MIRFLICKR's labels that these scenes have: the concepts that each covers, and the share of the picture from which
#: it is also relevant (suffix _r1; None: MIRFLICKR has no relevant form of it).
LABELS: dict[str, tuple[tuple[str, ...], float | None]] = {
    "car": (("car",), 0.04),
    "flower": (("flower",), 0.04),
    "night": (("night",), 0.3),
    "plant_life": (("forest", "flower"), None),
    "sea": (("sea",), 0.4),
    "sky": (("sky", "sunset", "night"), None),
    "structures": (("house", "street"), None),
    "sunset": (("sunset",), None),
    "transport": (("boat", "car"), None),
    "tree": (("forest",), 0.35),
    "water": (("sea", "beach"), None),
}

_README = (
    "Rendered scenes, not photographs. Each file lists the images in which its label can be seen; a file whose name "
    "ends in _r1, those in which it is prominent.\n"
)


class Rendered(NamedTuple):
    """A picture (RGB, 160 x 120), its tags as typed, and its annotation labels."""

    image: Image.Image
    tags: list[str]
    labels: list[str]


def render_scene(seed: int, number: int) -> Rendered:
    """Return scene ``number`` (from 1) of ``seed``.

    A pure function of the two, with the same versions of Python, NumPy and Pillow.
    """
    rng = random.Random(f"scene {seed} {number}")
    scene = imagine(rng)
    image, shares = draw(scene, rng)
    labels = []
    for label, (concepts, relevant) in LABELS.items():
        share = sum(shares.get(concept, 0.0) for concept in concepts)
        labels += [label] if share else []
        labels += [f"{label}_r1"] if relevant is not None and share >= relevant else []
    return Rendered(image, tags_of(scene, random.Random(f"tags {seed} {number}")), labels)


def write_scenes(folder: str | Path, images: int = 600, seed: int = 1, progress: bool = False) -> Path:
    """Write ``images`` scenes of ``seed`` below ``folder`` unless they are there, and return the folder.

    Files: ``mirflickr/imN.jpg``, ``mirflickr/meta/tags/tagsN.txt`` (cleaned, may be empty), ``.../tags_raw/tagsN.txt``
    (as typed), ``mirflickr25k_annotations_v080/LABEL.txt`` and ``LABEL_r1.txt``, ``yfcc100m/yfcc100m_dataset-0.bz2``
    and ``scenes.json``. They are written beside the folder and moved in place whole; scenes of another seed, count or
    version are replaced. ``progress`` shows a bar. Raises ``DataError``, and changes nothing, when ``folder`` holds
    anything that is not of rendered scenes.
    """
    folder = Path(folder)
    manifest = {"seed": seed, "images": images, "version": VERSION}
    if _is_complete(folder, manifest):
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # A second process waits, and finds them finished.
        if _is_complete(folder, manifest):
            return folder
        if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(
                f"{folder} holds files that are not of rendered scenes: name an empty or a new folder for the scenes"
            )
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _write(partial, images, seed, progress)
        (partial / MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        return partial.rename(folder)


def _is_complete(folder: Path, manifest: dict[str, Any]) -> bool:
    try:
        same = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) == manifest
    except (OSError, ValueError, RecursionError):
        return False
    return same and len(list((folder / "mirflickr").glob("im*.jpg"))) == manifest["images"]


def _write(folder: Path, images: int, seed: int, progress: bool) -> None:
    from tqdm import tqdm

    photos, annotations = folder / "mirflickr", folder / "mirflickr25k_annotations_v080"
    clean_tags, raw_tags, rows = photos / "meta" / "tags", photos / "meta" / "tags_raw", folder / "yfcc100m"
    for place in (clean_tags, raw_tags, annotations, rows):
        place.mkdir(parents=True)
    relevant = [f"{label}_r1" for label, (_, share) in LABELS.items() if share is not None]
    members: dict[str, list[int]] = {label: [] for label in [*LABELS, *relevant]}
    hidden = None if progress else True
    for number in tqdm(range(1, images + 1), desc="rendering scenes", unit="image", disable=hidden):
        image, tags, labels = render_scene(seed, number)
        image.save(photos / f"im{number}.jpg", "JPEG", quality=90)
        _write_lines(clean_tags / f"tags{number}.txt", map(clean, tags))
        _write_lines(raw_tags / f"tags{number}.txt", tags)
        for label in labels:
            members[label].append(number)
    for label, numbers in members.items():
        _write_lines(annotations / f"{label}.txt", map(str, numbers))
    (annotations / "README.txt").write_text(_README, encoding="utf-8")
    captions = tqdm(caption_rows(seed), desc="writing captions", unit="row", total=ROWS, disable=hidden)
    text = "".join(f"{row}\n" for row in captions)
    (rows / "yfcc100m_dataset-0.bz2").write_bytes(bz2.compress(text.encode("utf-8")))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))
