"""Read tagged photos in MIRFLICKR-25000's layout, choose between the sets that have it, and download MIRFLICKR.

Reads names, sizes, tags and annotations. Opens no image and knows no word vectors.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from data import DataError
from data.archives import Archive, find_fault, unpack
from data.download import ensure_room, fetch, say
from data.roots import data_root, default_root, describe_root

#: The two folders of the layout, and where in the first the user tags lie.
IMAGES = "mirflickr"
ANNOTATIONS = "mirflickr25k_annotations_v080"
TAGS = Path(IMAGES) / "meta" / "tags"

#: What flickr-mini holds besides: the Flickr8k file, named ID_SECRET.jpg, of each photo.
SOURCES = "sources.csv"
#: What a folder of rendered scenes holds besides, written last: which scenes they are.
SCENES_MANIFEST = "scenes.json"

#: Images in the whole of MIRFLICKR-25000.
PUBLISHED_IMAGES = 25_000
#: What ends the name of a file of relevant labels: pictures in which the concept is salient, not just visible.
RELEVANT_SUFFIX = "_r1"
#: Longer tags are junk: pasted sentences, addresses, keys mashed together.
LONGEST_TAG = 100

#: The environment variable that names other mirrors (base addresses, separated by spaces), and the published one.
MIRROR_VARIABLE = "CGAN_MIRFLICKR_MIRROR"
MIRRORS = ("https://press.liacs.nl/mirflickr/mirflickr25k.v3b",)

#: The folder under the data root that a download fills.
DOWNLOAD_FOLDER = "mirflickr25k"

# Names of the sets that are not MIRFLICKR's, and what is said of them.
EMBEDDED = "scenes (embedded)"
CAPTIONED = "flickr-mini"
NOTICES = {
    EMBEDDED: "these are rendered scenes with invented tags, not photos: no number from them stands beside the paper's",
    CAPTIONED: "the tags of flickr-mini were derived from captions of the photos, and are not Flickr's own: no number "
    "from them stands beside the paper's",
}

#: The published files; the images last, because their folder is what makes a set count as found. The MD5 of the images
#: is the one that public projects quote, not compared with a download here. Of the annotations none is known: they are
#: downloaded over https only, their size is bounded, and the checksums within the zip are compared.
ARCHIVES = (
    Archive("mirflickr25k_annotations_v080.zip", ANNOTATIONS, 207_220, None),
    Archive("mirflickr25k.zip", IMAGES, 3_069_184_257, "a23d0a8564ee84cda5622a6c2f947785"),
)


@dataclass(frozen=True, eq=False)
class TaggedPhotos:
    """Photos in the order of their numbers, with what people said of them; n of each.

    ``numbers`` int64 (n,), rising: N of ``imN.jpg``. ``paths``: the image files, not opened yet.
    ``tags``: user tags, in lower case without white space, in their order, none twice for one image; may be ().
    ``annotations``: the potential labels of each image, in alphabetical order, as the files are named
    (``plant_life``; see ``label_words``). ``relevant``: likewise the labels that are salient in it (``_r1``).
    ``checksum``: SHA-256 over numbers and sizes of the images (not pixels, so that it is known in a second), tags and
    annotations. ``embedded``: the rendered scenes. ``notice``: what must be said beside every number from these photos,
    or None. ``dropped``: how often something was left out or corrected, by name, where that occurred.
    """

    name: str
    embedded: bool
    folder: Path
    numbers: np.ndarray
    paths: tuple[Path, ...]
    tags: tuple[tuple[str, ...], ...]
    annotations: tuple[tuple[str, ...], ...]
    relevant: tuple[tuple[str, ...], ...]
    checksum: str
    notice: str | None = None
    dropped: dict[str, int] = field(default_factory=dict)


def load_photos(dataset: str | Path = "auto", root: str | Path | None = None) -> TaggedPhotos:
    """Return the photos to train on, by name; ``root`` as for ``data_root``.

    "mirflickr": MIRFLICKR-25000 under the root, else downloaded to ``<root>/mirflickr25k``. "flickr-mini": that folder
    under the root. "scenes": the rendered scenes, written on first use to ``<root>/scenes``, or to ``data/raw/scenes``
    if the root may not be written. "auto": the first of these three that is there without a download. Anything else is
    the path of a folder in MIRFLICKR's layout.
    Raises ``DataError`` when a set is missing, or is there but damaged, which is no reason to use another one.
    """
    if dataset not in ("auto", "mirflickr", CAPTIONED, "scenes"):
        if not Path(dataset).expanduser().is_dir():
            raise DataError(
                f'"{dataset}" is neither a folder nor a set of photos known by name: choose auto, mirflickr, '
                f"{CAPTIONED}, scenes, or the folder that holds {IMAGES}/ and {ANNOTATIONS}/"
            )
        return load_mirflickr(dataset)
    base = data_root(root)
    if dataset == "mirflickr" or (dataset == "auto" and find_mirflickr(base)):
        return load_mirflickr(find_mirflickr(base) or download_mirflickr(base), "mirflickr")
    if dataset in ("auto", CAPTIONED) and (folder := find_captioned(base)):
        return load_mirflickr(folder, CAPTIONED)
    if dataset == CAPTIONED:
        raise DataError(
            f"there is no {CAPTIONED} under {describe_root(base)}: put its folder there, name another data root, "
            "or choose another set of photos"
        )
    from data.scenes import write_scenes

    folder = base / "scenes"
    # A root without a single write bit is left alone even by the superuser, who could write there.
    writable = not base.exists() or (os.access(base, os.W_OK | os.X_OK) and base.stat().st_mode & 0o222)
    if not (folder / SCENES_MANIFEST).is_file() and not writable:
        folder = default_root() / "scenes"
    photos = load_mirflickr(write_scenes(folder, progress=True), EMBEDDED)
    if dataset == "scenes":
        return photos
    missing = f"neither MIRFLICKR-25000 nor {CAPTIONED} lies under {describe_root(base)}"
    return dataclasses.replace(photos, notice=f"{missing}, and {photos.notice}")


def find_mirflickr(root: Path) -> Path | None:
    """Return the first folder under ``root`` that holds ``mirflickr/`` and is no other set in its layout, or None."""
    for folder in (root / DOWNLOAD_FOLDER, root / IMAGES, root):
        if (folder / IMAGES).is_dir() and origin(folder) is None:
            return folder
    return None


def find_captioned(root: Path) -> Path | None:
    """Return the folder of flickr-mini under ``root``, or ``root`` if it is that itself, or None."""
    if (root / CAPTIONED).is_dir():
        return root / CAPTIONED
    return root if (root / IMAGES).is_dir() and origin(root) == CAPTIONED else None


def origin(folder: Path) -> str | None:
    """Return which set other than MIRFLICKR a folder holds under whatever name, by its files; None if unknown."""
    if (folder / SCENES_MANIFEST).is_file():
        return EMBEDDED
    sources = folder / SOURCES
    if folder.resolve().name == CAPTIONED or (sources.is_file() and b"flickr8k" in sources.read_bytes()[:1000]):
        return CAPTIONED
    return None


def flickr_ids(folder: Path) -> frozenset[str]:
    """Return Flickr's ids of the photos in a ``folder`` whose ``sources.csv`` tells them; of other sets, none."""
    sources = folder / SOURCES
    if not sources.is_file():
        return frozenset()
    try:
        with sources.open(encoding="utf-8-sig", newline="") as file:
            names = filter(None, [row.get("flickr8k_file") for row in csv.DictReader(file)])
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{sources} is not a table of photos ({error}): restore it, or delete it") from None
    return frozenset(name.partition("_")[0] for name in names)


def label_words(label: str) -> tuple[str, ...]:
    """Return the single words that an annotation's label gives as extra tags: its parts between "_".

    Of MIRFLICKR's labels only ``plant_life`` has two; "life" alone says nothing about a photo.
    """
    return ("plant",) if label == "plant_life" else tuple(filter(None, label.split("_")))


def load_mirflickr(folder: str | Path, name: str | None = None) -> TaggedPhotos:
    """Return the photos of a ``folder`` that holds ``mirflickr/`` and ``mirflickr25k_annotations_v080/``.

    ``mirflickr/imN.jpg`` are the images (any numbers), ``mirflickr/meta/tags/tagsN.txt`` their tags, one a line. Each
    ``*.txt`` of the annotations is a label and names images by their numbers, one a line; without that folder there are
    none, and the notice says so. ``name``: else the set's that ``origin`` finds, or the folder's.

    Raises ``DataError`` when there is no image, when tags or an annotation belong to an image that is not there, when
    an annotation is not a number, and when no image has a tag.
    """
    folder, dropped = Path(folder).expanduser(), Counter[str]()
    images = _numbered_files(folder / IMAGES, "im", ".jpg")
    if not images:
        raise DataError(
            f"{folder / IMAGES} holds no image named im1.jpg, im2.jpg and so on: put the images there, or name the "
            f"folder above {IMAGES}/, in which {ANNOTATIONS}/ lies as well"
        )
    sizes = {number: path.stat().st_size for number, path in sorted(images.items())}
    labels, tags = _read_annotations(folder, sizes), _read_tags(folder, sizes, dropped)
    annotations = tuple(tuple(label for label in of if not label.endswith(RELEVANT_SUFFIX)) for of in labels)
    relevant = tuple(
        tuple(sorted(label.removesuffix(RELEVANT_SUFFIX) for label in of if label.endswith(RELEVANT_SUFFIX)))
        for of in labels
    )
    digest = hashlib.sha256()
    for (number, size), *words in zip(sizes.items(), tags, annotations, relevant, strict=True):
        digest.update(json.dumps([number, size, *words]).encode() + b"\n")
    kind = origin(folder)
    name = name or kind or folder.resolve().name
    said = [NOTICES[kind]] if kind else []
    if name == "mirflickr" and not kind and len(sizes) != PUBLISHED_IMAGES:
        said.append(
            f"{folder} holds {len(sizes):,} images instead of MIRFLICKR's {PUBLISHED_IMAGES:,}: no number from them "
            "stands beside the paper's"
        )
    if not (folder / ANNOTATIONS).is_dir():
        said.append(f"there is no {folder / ANNOTATIONS}: only user tags count")
    return TaggedPhotos(
        name=name,
        embedded=kind == EMBEDDED,
        folder=folder,
        numbers=np.array(list(sizes), dtype=np.int64),
        paths=tuple(images[number] for number in sizes),
        tags=tags,
        annotations=annotations,
        relevant=relevant,
        checksum=digest.hexdigest(),
        notice="; ".join(said) or None,
        dropped={what: count for what, count in dropped.items() if count},
    )


def _numbered_files(folder: Path, start: str, end: str) -> dict[int, Path]:
    """Return the files named START, a number without leading zeros, END, by number."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.is_dir()]
    found = (re.fullmatch(rf"{start}(0|[1-9][0-9]{{0,8}}){re.escape(end)}", name) for name in names)
    return {int(match[1]): folder / match[0] for match in found if match}


def _read_tags(folder: Path, sizes: Mapping[int, int], dropped: Counter[str]) -> tuple[tuple[str, ...], ...]:
    """Return the tags of each image, with a progress bar once it takes over two seconds."""
    from tqdm import tqdm

    files = _numbered_files(folder / TAGS, "tags", ".txt")
    if strays := sorted(files.keys() - sizes.keys()):
        raise DataError(
            f"{files[strays[0]]} (of {len(strays):,}) belongs to no image: restore im{strays[0]}.jpg, or delete the "
            "tags of images that are gone"
        )
    bar = tqdm(sizes, desc="tags", unit="file", delay=2, disable=None, leave=False)
    tags = tuple(_parse_tags(files[number].read_bytes(), dropped) if number in files else () for number in bar)
    if not any(tags):
        raise DataError(
            f"no photo of {folder} has a user tag: give photo N of {folder / IMAGES}/imN.jpg its tags in "
            f"{folder / TAGS}/tagsN.txt, one a line, in UTF-8"
        )
    return tags


def _parse_tags(content: bytes, dropped: Counter[str]) -> tuple[str, ...]:
    """Return the usable tags of one tags file, each once, in their order; line ends of every system count."""
    tags: dict[str, None] = {}
    for line in content.removeprefix(codecs.BOM_UTF8).splitlines():
        try:
            # As MIRFLICKR has them: lower case (NFC), without white space, the invisible kind too.
            plain = "".join(line.decode("utf-8").lower().split()).replace("\ufeff", "").replace("\u200b", "")
        except UnicodeDecodeError:
            dropped["tags that are not UTF-8"] += 1
            continue
        tag = unicodedata.normalize("NFC", plain)
        if any(unicodedata.category(character) == "Cc" for character in tag):
            dropped["tags with control characters"] += 1
        elif len(tag) > LONGEST_TAG:
            dropped[f"tags longer than {LONGEST_TAG} characters"] += 1
        elif tag:
            dropped["tags repeated for one image"] += tag in tags
            tags[tag] = None
    return tuple(tags)


def _read_annotations(folder: Path, sizes: Mapping[int, int]) -> tuple[tuple[str, ...], ...]:
    """Return the labels of each image in alphabetical order; those of the relevant kind end in ``RELEVANT_SUFFIX``."""
    annotations, labels = folder / ANNOTATIONS, dict[str, set[int]]()
    if not annotations.is_dir():
        return ((),) * len(sizes)
    for path in sorted(annotations.iterdir()):
        listed = path.suffix.lower() == ".txt" and path.is_file() and not path.name.startswith(".")
        if not listed or path.stem.lower() == "readme":
            continue
        found = labels.setdefault("_".join(path.stem.lower().split()), set())
        for line, text in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
            if not (content := text.strip()):
                continue
            if not re.fullmatch(rb"[0-9]{1,18}", content) or int(content) not in sizes:
                shown = ascii(content[:40].decode("utf-8", "replace"))
                raise DataError(
                    f"{path}, line {line}: {shown} is not the number of one of the {len(sizes):,} images: correct or "
                    "delete the line, or restore the image"
                )
            found.add(int(content))
    if not labels:
        raise DataError(
            f"{annotations} holds no annotation (sky.txt and the like): put the files there, or delete the folder to "
            "do without"
        )
    return tuple(tuple(sorted(label for label, images in labels.items() if number in images)) for number in sizes)


def download_mirflickr(root: str | Path, archives: Sequence[Archive] = ARCHIVES) -> Path:
    """Download MIRFLICKR-25000 to ``<root>/mirflickr25k`` and return that folder; what is there is not fetched again.

    From the base addresses in ``$CGAN_MIRFLICKR_MIRROR``, else from the collection's home; zips that lie in the folder
    are used as they are, and stay. Raises ``UnavailableError`` when no mirror has the files or the disk has no room for
    them, and ``DataError`` when a zip is not the published one.
    """
    from tqdm import tqdm

    folder = Path(root) / DOWNLOAD_FOLDER
    missing = [archive for archive in archives if not (folder / archive.target).is_dir()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        to_fetch = sum(archive.size for archive in missing if not (folder / archive.name).exists())
        # Photos hardly shrink in a zip, but every small file beside them takes a whole block.
        to_unpack = sum(archive.size + archive.size // 4 for archive in missing)
        packed, unpacked = (tqdm.format_sizeof(size, "B") for size in (to_fetch, to_unpack))
        say(f"MIRFLICKR-25000: {packed} to download and about {unpacked} to unpack, into {folder}")
        ensure_room(folder, to_fetch + to_unpack - sum(part.stat().st_size for part in folder.glob("*.part")))
    mirrors = os.environ.get(MIRROR_VARIABLE, "").split() or MIRRORS
    for archive in missing:
        path = folder / archive.name
        if path.exists():
            if wrong := find_fault(path, archive):
                raise DataError(f"{path} {wrong}: delete it and run again to download it again")
        else:
            fetch(
                [f"{mirror.rstrip('/')}/{archive.name}" for mirror in mirrors],
                path,
                verify=partial(find_fault, archive=archive),
                max_bytes=archive.max_bytes,
                https_only=archive.md5 is None,
                advice=f", or put the zip into {folder}, or choose another set of photos",
            )
        unpack(path, folder / archive.target)
        say(f"unpacked {folder / archive.target}: {path} is no longer needed")
    return folder
