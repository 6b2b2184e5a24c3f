"""Rendered scenes in MIRFLICKR-25000's layout, with invented tags, and YFCC100M rows about more of the same world.

For a fresh machine without a download: the whole Flickr experiment runs on them. They are drawn, not photographed,
and their words are made up: no number from them stands beside the paper's.
"""

from __future__ import annotations

import bz2
import io
import json
import math
import os
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from data import DataError
from data.mirflickr import ANNOTATIONS, IMAGES, RELEVANT_SUFFIX, TAGS
from data.mirflickr import SCENES_MANIFEST as MANIFEST
from data.scenes.scene_drawing import draw
from data.scenes.scene_plan import Scene, imagine
from data.scenes.scene_words import clean, owner_of, row_of, tags_of

#: Changes whenever the same seed would give other files.
VERSION = 2

#: YFCC100M rows: enough for skip-gram to learn which words go together.
ROWS = 8000

#: There from the first file to the last: what else lies in the folder is unfinished, and ours.
UNFINISHED = "scenes.unfinished"

#: Held by the process that writes.
LOCK = "scenes.lock"

TAGS_RAW = TAGS.with_name("tags_raw")
SHARD = Path("yfcc100m") / "yfcc100m_dataset-0.bz2"

#: MIRFLICKR's labels that this world has, and the concepts that each of them covers.
LABELS: dict[str, tuple[str, ...]] = {
    "animals": ("bird", "sheep"),
    "bird": ("bird",),
    "car": ("car",),
    "clouds": ("clouds",),
    "flower": ("flower",),
    "lake": ("lake",),
    "night": ("night",),
    "people": ("people",),
    "plant_life": ("tree", "forest", "palm", "flower", "meadow", "cactus", "leaves", "branch"),
    "river": ("river",),
    "sea": ("sea",),
    "sky": ("sky", "clouds", "stars"),
    "structures": ("house", "church", "lighthouse", "bridge", "city", "street"),
    "sunset": ("sunset",),
    "transport": ("boat", "car"),
    "tree": ("tree", "forest", "palm"),
    "water": ("sea", "lake", "river"),
}

#: The labels of which MIRFLICKR also says where they are prominent (suffix _r1), and the share of the picture for it.
PROMINENT = {
    "bird": 0.012, "car": 0.02, "clouds": 0.15, "flower": 0.08, "night": 0.5, "people": 0.008, "river": 0.12,
    "sea": 0.2, "tree": 0.1,
}  # fmt: skip

#: The share of the picture (about 20 of its pixels) below which a thing is not seen.
VISIBLE = 0.001

_README = (
    "Rendered scenes, not photographs. Each file lists the images in which its label can be seen; a file whose name "
    "ends in _r1, those in which it is prominent. Written from what the renderer drew.\n"
)

# Every name that write_scenes may have written; nothing else is ever deleted.
_OURS = re.compile(
    r"mirflickr/(im\d+\.jpg|meta/tags(_raw)?/tags\d+\.txt)|mirflickr25k_annotations_v080/(\w+\.txt|README\.txt)"
    r"|yfcc100m/yfcc100m_dataset-0\.bz2|scenes\.json(\.part)?|scenes\.(unfinished|lock)"
)


class Rendered(NamedTuple):
    """A picture, what is seen in it (concept to share of its pixels, 0 to 1), its tags as typed, and its scene."""

    image: Image.Image
    seen: dict[str, float]
    tags: tuple[str, ...]
    scene: Scene


def render_scene(seed: int, number: int) -> Rendered:
    """Scene ``number`` (from 1) of that seed; a pure function of the two.

    The image is RGB, about 160 x 120. The same on every run with the same versions of Python, NumPy and Pillow,
    however many scenes are rendered and whatever Python's hash seed.
    """
    dice = random.Random(f"scene {seed} {number}")
    scene = imagine(dice)
    image, seen = draw(scene, dice)
    seen = {thing: share for thing, share in seen.items() if share >= VISIBLE}
    # Words have dice of their own: a change of the drawing leaves them alone.
    dice = random.Random(f"words {seed} {number}")
    tags = tags_of(scene, seen, owner_of(scene, dice), dice)
    return Rendered(image, seen, tuple(tags), scene)


def labels_of(seen: Mapping[str, float]) -> list[str]:
    """MIRFLICKR's labels of a picture, potential ones and ``_r1``, from the share of it that shows each concept."""
    labels = []
    for label, things in LABELS.items():
        share = sum(seen.get(thing, 0.0) for thing in things)
        if share >= VISIBLE:
            labels.append(label)
        if share >= PROMINENT.get(label, math.inf):
            labels.append(f"{label}{RELEVANT_SUFFIX}")
    return labels


def caption_rows(seed: int) -> Iterator[str]:
    """YFCC100M rows (23 columns, no line end) about FURTHER photos of the same world, none of which is drawn.

    The language model is trained on other people's captions, never on those of the pictures it will have to tag.
    """
    for number in range(ROWS):
        dice = random.Random(f"caption {seed} {number}")
        scene = imagine(dice)
        yield row_of(number, scene, owner_of(scene, dice), dice)


def write_scenes(folder: str | Path, images: int = 600, seed: int = 1, progress: bool = False) -> Path:
    """Write ``images`` rendered scenes of ``seed`` and their rows below ``folder``, unless they are there; the folder.

    MIRFLICKR's layout: ``mirflickr/imN.jpg``, ``mirflickr/meta/tags/tagsN.txt`` (cleaned, may be empty),
    ``mirflickr/meta/tags_raw/tagsN.txt`` (as typed), ``mirflickr25k_annotations_v080/LABEL.txt`` and
    ``LABEL_r1.txt``; and ``yfcc100m/yfcc100m_dataset-0.bz2``. ``scenes.json`` is written last. What a stopped
    call left, or scenes of another seed, count or version, is replaced. ``progress`` shows bars on a terminal.

    Raises ``DataError``, and changes nothing, when the folder holds anything that this function did not write.
    """
    if images < 1:
        raise DataError(f"{images} scenes were asked for in {folder}: ask for at least one")
    folder = Path(folder)
    wanted = {"seed": seed, "images": images, "version": VERSION}
    if _complete(folder, wanted):
        return folder
    _own_files(folder)
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    # A second process waits here, and finds the scenes finished.
    with FileLock(folder / LOCK):
        if not _complete(folder, wanted):
            _clear(folder)
            _write(folder, images, seed, progress)
            part = folder / f"{MANIFEST}.part"
            part.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            os.replace(part, folder / MANIFEST)
            (folder / UNFINISHED).unlink()
    return folder


def _complete(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether the folder holds these scenes, every file of them."""
    if (folder / UNFINISHED).exists() or _manifest(folder) != wanted:
        return False
    numbers = range(1, wanted["images"] + 1)
    files: dict[str | Path, set[str]] = {
        IMAGES: {f"im{number}.jpg" for number in numbers},
        TAGS: {f"tags{number}.txt" for number in numbers},
        TAGS_RAW: {f"tags{number}.txt" for number in numbers},
        ANNOTATIONS: set(_label_files()),
        SHARD.parent: {SHARD.name},
    }
    return all(
        (folder / place).is_dir() and needed <= set(os.listdir(folder / place)) for place, needed in files.items()
    )


def _manifest(folder: Path) -> object:
    """What ``scenes.json`` says, or None."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _label_files() -> list[str]:
    return (
        [f"{label}.txt" for label in LABELS] + [f"{label}{RELEVANT_SUFFIX}.txt" for label in PROMINENT] + ["README.txt"]
    )


def _own_files(folder: Path) -> list[Path]:
    """What earlier calls wrote into the folder, finished or not; refuses a folder that holds anything else."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    strange = [path for path in files if not _OURS.fullmatch(path.relative_to(folder).as_posix())]
    # The real MIRFLICKR's files have the same names: only these two tell that the others are ours.
    if not strange and not (folder / UNFINISHED).exists() and not isinstance(_manifest(folder), dict):
        strange = [path for path in files if path.name not in (LOCK, MANIFEST)]
    if strange:
        raise DataError(
            f"{folder} holds {strange[0].relative_to(folder)}, which is not of rendered scenes: name an empty folder "
            "for the scenes, or move it away"
        )
    return files


def _clear(folder: Path) -> None:
    """Delete what earlier calls wrote; from here on the folder counts as unfinished."""
    files = _own_files(folder)
    (folder / UNFINISHED).touch()
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in files:
        if path.name not in (UNFINISHED, LOCK):
            path.unlink(missing_ok=True)


def _write(folder: Path, images: int, seed: int, progress: bool) -> None:
    """All files but the manifest."""
    from tqdm import tqdm

    for place in (TAGS, TAGS_RAW, ANNOTATIONS, SHARD.parent):
        (folder / place).mkdir(parents=True, exist_ok=True)
    members: dict[str, list[int]] = {name: [] for name in _label_files()}
    for number in tqdm(range(1, images + 1), desc="rendering scenes", unit="image", disable=None if progress else True):
        picture = render_scene(seed, number)
        jpeg = io.BytesIO()
        picture.image.save(jpeg, "JPEG", quality=90)
        (folder / IMAGES / f"im{number}.jpg").write_bytes(jpeg.getvalue())
        _write_lines(folder / TAGS / f"tags{number}.txt", map(clean, picture.tags))
        _write_lines(folder / TAGS_RAW / f"tags{number}.txt", picture.tags)
        for label in labels_of(picture.seen):
            members[f"{label}.txt"].append(number)
    for name, numbers in members.items():
        _write_lines(folder / ANNOTATIONS / name, map(str, numbers))
    (folder / ANNOTATIONS / "README.txt").write_text(_README, encoding="utf-8")
    rows = tqdm(caption_rows(seed), desc="writing captions", unit="row", total=ROWS, disable=None if progress else True)
    (folder / SHARD).write_bytes(bz2.compress("".join(f"{row}\n" for row in rows).encode("utf-8")))


def _write_lines(path: Path, lines: Iterator[str] | tuple[str, ...]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))
