"""Read tagged photos in MIRFLICKR-25000's layout, choose between the sets that have it, and download MIRFLICKR.

Reads names, sizes, tags and annotations. Opens no image and knows no word vectors.
"""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import json
import os
import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from data import DataError
from data.download import UnavailableError, beside, ensure_room, exclusive, fetch, named_mirrors, say
from data.roots import data_root, default_root, describe_root

#: The two folders of the layout, and where in the first the user tags lie.
IMAGES = "mirflickr"
ANNOTATIONS = "mirflickr25k_annotations_v080"
TAGS = Path(IMAGES) / "meta" / "tags"

#: What a folder of rendered scenes holds besides, written last: which scenes they are.
SCENES_MANIFEST = "scenes.json"

#: Images in the whole of MIRFLICKR-25000.
PUBLISHED_IMAGES = 25_000

#: What ends the name of a file of relevant labels: pictures in which the concept is salient, not just visible.
RELEVANT_SUFFIX = "_r1"

#: Longer tags are junk: pasted sentences, addresses, keys mashed together.
LONGEST_TAG = 100

#: The environment variable that names other mirrors: base addresses, separated by spaces.
MIRROR_VARIABLE = "CGAN_MIRFLICKR_MIRROR"

#: Where the collection is published.
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

# What was left out or corrected, as the keys of ``TaggedPhotos.dropped``.
NO_TAGS_FILE = "images without tags file"
NO_TAG = "images with an empty tags file"
NOT_UTF8 = "tags that are not UTF-8"
CONTROL = "tags with control characters"
TOO_LONG = f"tags longer than {LONGEST_TAG} characters"
REPEATED_TAG = "tags repeated for one image"
CORRECTED = "tags corrected (capitals, white space, accents in pieces)"
BYTE_ORDER_MARK = "tags files with a byte order mark"
OTHER_IMAGES = "other files among the images"
OTHER_TAGS = "other files among the tags"
OTHER_ANNOTATIONS = "other files among the annotations"
REPEATED_ANNOTATION = "annotation lines repeated"
EMPTY_LABEL = "annotation files without an image"
NO_ANNOTATIONS = "annotations folder missing"

_IMAGE_NAME = re.compile(r"im(0|[1-9][0-9]{0,8})\.jpg")
_TAGS_NAME = re.compile(r"tags(0|[1-9][0-9]{0,8})\.txt")
_NUMBER = re.compile(rb"[0-9]{1,18}")
_BOM = b"\xef\xbb\xbf"

#: Bytes hashed or unpacked at a time.
_BLOCK = 1 << 20
#: Bytes of the longest file of tags or annotations; MIRFLICKR's own are below 200 kB.
_LONGEST_TEXT = 1 << 24
#: Bytes by which a zip, or what is in it, may differ from the published size.
_SLACK = 1 << 24


class Archive(NamedTuple):
    """One published zip: its name, the folder that it is unpacked to, its size in bytes, and its MD5 if known."""

    name: str
    target: str
    size: int
    md5: str | None

    @property
    def most_bytes(self) -> int:
        """The size from which a zip is not the published one, packed or unpacked."""
        return 2 * self.size + _SLACK


#: The published files; the images last, because their folder is what makes a set count as found.
#:
#: Several independent public projects quote the MD5 of the images' zip from the collection's download page; it was not
#: compared with a download here. No MD5 of the annotations is known: they are downloaded over https only, their size
#: is bounded, and the checksums within the zip are compared.
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
    ``checksum``: SHA-256 in hexadecimal over names and sizes of the images, tags and annotations. Pixels do not
    count, so that it is known in a second: who swaps an image for another of the same size goes unnoticed.
    ``embedded``: the rendered scenes. ``notice``: what must be said beside every number from these photos, or None.
    ``dropped``: how often something was left out or corrected, by name, where that occurred.
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


def load_photos(
    dataset: str | Path = "auto", root: str | Path | None = None, scenes: str | Path | None = None
) -> TaggedPhotos:
    """Return the photos to train on, by name; ``root`` as for ``data_root``.

    "mirflickr": MIRFLICKR-25000 under the root (in ``mirflickr25k``, in ``mirflickr``, or there itself), else
    downloaded to ``<root>/mirflickr25k``. "flickr-mini": that folder under the root. "scenes": the embedded
    rendered scenes, written on first use to ``scenes``, else to ``<root>/scenes``, else, if the root may not be
    written, to ``data/raw/scenes``. "auto": the first of these three that is there without a download. Anything
    else is the path of a folder in MIRFLICKR's layout.
    Raises ``DataError`` when a set is missing, or is there but damaged, which is no reason to use another one.
    """
    if dataset == "scenes":
        return load_scenes(root, scenes)
    if dataset not in ("auto", "mirflickr", CAPTIONED):
        if not Path(dataset).expanduser().is_dir():
            raise DataError(
                f'"{dataset}" is neither a folder nor a set of photos known by name: choose auto, mirflickr, '
                f"{CAPTIONED}, scenes, or the folder that holds {IMAGES}/ and {ANNOTATIONS}/"
            )
        return load_mirflickr(dataset)
    base = data_root(root)
    if dataset != CAPTIONED and (folder := find_mirflickr(base)):
        return load_mirflickr(folder, "mirflickr")
    if dataset == "mirflickr":
        return load_mirflickr(download_mirflickr(base), "mirflickr")
    if folder := find_captioned(base):
        return load_mirflickr(folder, CAPTIONED)
    if dataset == CAPTIONED:
        raise DataError(
            f"there is no {CAPTIONED} under {describe_root(base)}: put its folder there, name another data root, "
            "or choose another set of photos"
        )
    photos = load_scenes(root, scenes)
    missing = f"neither MIRFLICKR-25000 nor {CAPTIONED} lies under {describe_root(base)}"
    return dataclasses.replace(photos, notice=f"{missing}, and {photos.notice}")


def load_scenes(root: str | Path | None = None, scenes: str | Path | None = None) -> TaggedPhotos:
    """Return the embedded scenes, rendered if they are not there yet; the arguments as for ``load_photos``."""
    from data.scenes import write_scenes

    if scenes is not None and str(scenes):
        folder = Path(scenes).expanduser()
    else:
        folder = data_root(root) / "scenes"
        if not (folder / SCENES_MANIFEST).is_file() and not may_write(folder):
            folder = default_root() / "scenes"
    return load_mirflickr(write_scenes(folder, progress=True), EMBEDDED)


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
    """Return which set other than MIRFLICKR a folder holds, recognised by its files; None if unknown.

    A renamed folder of scenes or captions is recognised too, so that its tags never count as Flickr's.
    """
    if (folder / SCENES_MANIFEST).is_file():
        return EMBEDDED
    sources = folder / "sources.csv"
    if folder.resolve().name == CAPTIONED:
        return CAPTIONED
    if sources.is_file():
        with open(sources, "rb") as file:
            if b"flickr8k" in file.readline(1000):
                return CAPTIONED
    return None


def may_write(folder: Path) -> bool:
    """Return whether ``folder`` can be created or written to, going by the nearest folder that exists.

    A folder without a single write bit is left alone even by the superuser, who could write there.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and bool(folder.stat().st_mode & 0o222)


def label_words(label: str) -> tuple[str, ...]:
    """Return the single words that an annotation's label gives as extra tags: its parts between "_".

    The paper's vocabulary is of single words, and of MIRFLICKR's labels only ``plant_life`` has two. It gives
    "plant": "life" alone says nothing about a photo.
    """
    if label == "plant_life":
        return ("plant",)
    return tuple(part for part in label.split("_") if part)


def load_mirflickr(folder: str | Path, name: str | None = None) -> TaggedPhotos:
    """Return the photos of a ``folder`` that holds ``mirflickr/`` and ``mirflickr25k_annotations_v080/``.

    ``mirflickr/imN.jpg`` are the images (any numbers, with gaps), ``mirflickr/meta/tags/tagsN.txt`` their tags, one
    a line; a missing or empty tags file is an image without tags. Each ``*.txt`` of the annotations is a label and
    names images by their numbers, one a line; without that folder there are no annotations, and the notice says so.
    ``name``: else the folder's own, or that of the set that ``origin`` finds in it.

    Raises ``DataError``, before the tags are read, when there is no image, when tags or an annotation belong to an
    image that is not there, or when an annotation is not a number; and when no image has a tag.
    """
    folder = Path(folder).expanduser()
    dropped: Counter[str] = Counter()
    sizes = find_images(folder, dropped)
    tags_files = find_tags(folder, sizes, dropped)
    labels = read_annotations(folder, sizes, dropped)
    numbers = list(sizes)
    paths = tuple(folder / IMAGES / f"im{number}.jpg" for number in numbers)
    tags = tuple(read_all_tags(numbers, tags_files, dropped))
    check_tags(folder, tags, tags_files)
    annotations = by_image(numbers, {label: found for (label, relevant), found in labels.items() if not relevant})
    salient = by_image(numbers, {label: found for (label, relevant), found in labels.items() if relevant})
    kind = origin(folder)
    name = name or kind or folder.resolve().name
    said = [NOTICES[kind]] if kind else []
    if name == "mirflickr" and not kind and len(numbers) != PUBLISHED_IMAGES:
        said.append(
            f"{folder} holds {len(numbers):,} images instead of MIRFLICKR's {PUBLISHED_IMAGES:,}: no number from them "
            "stands beside the paper's"
        )
    if dropped[NO_ANNOTATIONS]:
        said.append(f"there is no {folder / ANNOTATIONS}: only user tags count")
    return TaggedPhotos(
        name=name,
        embedded=kind == EMBEDDED,
        folder=folder,
        numbers=np.array(numbers, dtype=np.int64),
        paths=paths,
        tags=tags,
        annotations=annotations,
        relevant=salient,
        checksum=checksum(sizes, tags, annotations, salient),
        notice="; ".join(said) or None,
        dropped={what: count for what, count in dropped.items() if count},
    )


def find_images(folder: Path, dropped: Counter[str]) -> dict[int, int]:
    """Return the size in bytes of each image under ``folder``, by its number, in rising order."""
    images = folder / IMAGES
    if not images.is_dir():
        raise DataError(
            f"{folder} has no folder {IMAGES} with the images in it: name the folder above {IMAGES}/, in which "
            f"{ANNOTATIONS}/ lies as well"
        )
    sizes: dict[int, int] = {}
    with os.scandir(images) as entries:
        for entry in entries:
            if not entry.is_file():
                continue
            if found := _IMAGE_NAME.fullmatch(entry.name):
                sizes[int(found[1])] = entry.stat().st_size
            else:
                dropped[OTHER_IMAGES] += 1
    if not sizes:
        raise DataError(f"{images} holds no image named im1.jpg, im2.jpg and so on: put the images there")
    return dict(sorted(sizes.items()))


def find_tags(folder: Path, sizes: Mapping[int, int], dropped: Counter[str]) -> dict[int, Path]:
    """Return the tags file of each image that has one, by number."""
    tags = folder / TAGS
    files: dict[int, Path] = {}
    if tags.is_dir():
        with os.scandir(tags) as entries:
            for entry in entries:
                if found := _TAGS_NAME.fullmatch(entry.name):
                    files[int(found[1])] = tags / entry.name
                else:
                    dropped[OTHER_TAGS] += 1
    if strays := sorted(files.keys() - sizes.keys()):
        more = f" (and {len(strays) - 1:,} more like it)" if len(strays) > 1 else ""
        raise DataError(
            f"{files[strays[0]]}{more} belongs to no image, because {folder / IMAGES} has no im{strays[0]}.jpg: "
            "restore the images, or delete the tags of those that are gone"
        )
    dropped[NO_TAGS_FILE] += len(sizes) - len(files)
    return files


def read_all_tags(
    numbers: Sequence[int], files: Mapping[int, Path], dropped: Counter[str]
) -> Iterator[tuple[str, ...]]:
    """Yield the tags of each image, with a progress bar once it takes over two seconds."""
    from tqdm import tqdm

    for number in tqdm(numbers, desc="tags", unit="file", delay=2, disable=None, leave=False):
        if path := files.get(number):
            tags = parse_tags(read_text(path), dropped)
            dropped[NO_TAG] += not tags
            yield tags
        else:
            yield ()


def read_text(path: Path) -> bytes:
    """Return the bytes of a file of tags or annotations; raises ``DataError`` if it is far too long for one."""
    with open(path, "rb") as file:
        content = file.read(_LONGEST_TEXT + 1)
    if len(content) > _LONGEST_TEXT:
        raise DataError(f"{path} is longer than {_LONGEST_TEXT:,} bytes, so it is no list of lines: move it away")
    return content


def check_tags(folder: Path, tags: Sequence[Sequence[str]], files: Mapping[int, Path]) -> None:
    """Raise ``DataError`` if no image has a user tag, with what was found where they are read."""
    if any(tags):
        return
    place = folder / TAGS
    if not place.is_dir():
        found = f"there is no folder {place}"
    elif not files:
        found = f"{place} holds no tags1.txt, tags2.txt and so on"
    else:
        zeros = [path for path in files.values() if b"\0" in read_text(path)[:1000]]
        utf16 = f" ({zeros[0]} looks like UTF-16)" if zeros else ""
        found = f"none of the {len(files):,} files in {place} holds a tag in UTF-8{utf16}"
    raise DataError(
        f"no photo of {folder} has a user tag, because {found}: give photo N of {folder / IMAGES}/imN.jpg its tags in "
        f"{place}/tagsN.txt, one a line, in UTF-8"
    )


def parse_tags(content: bytes, dropped: Counter[str]) -> tuple[str, ...]:
    """Return the usable tags of one tags file, each once, in their order; line ends of every system count."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and len(content) % 2 == 0:
        content = content.decode("utf-16", "replace").encode()
        dropped[BYTE_ORDER_MARK] += 1
    if content.startswith(_BOM):
        content = content[len(_BOM) :]
        dropped[BYTE_ORDER_MARK] += 1
    tags: dict[str, None] = {}
    for line in content.splitlines():
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            dropped[NOT_UTF8] += 1
            continue
        tag = clean_tag(text)
        if not tag:
            continue
        if not tag.isprintable() and any(unicodedata.category(character) == "Cc" for character in tag):
            dropped[CONTROL] += 1
        elif len(tag) > LONGEST_TAG:
            dropped[TOO_LONG] += 1
        else:
            dropped[CORRECTED] += tag != text
            dropped[REPEATED_TAG] += tag in tags
            tags[tag] = None
    return tuple(tags)


def clean_tag(text: str) -> str:
    """Return a tag as MIRFLICKR has them: lower case (Unicode NFC), all white space removed, the invisible kind too."""
    return unicodedata.normalize("NFC", "".join(text.lower().split()).replace("\ufeff", "").replace("\u200b", ""))


def read_annotations(folder: Path, sizes: Mapping[int, int], dropped: Counter[str]) -> dict[tuple[str, bool], set[int]]:
    """Return the image numbers of every label, by (label, whether it is the relevant kind)."""
    annotations = folder / ANNOTATIONS
    if not annotations.is_dir():
        dropped[NO_ANNOTATIONS] += 1
        return {}
    labels: dict[tuple[str, bool], set[int]] = {}
    for path in sorted(annotations.iterdir()):
        if path.suffix.lower() != ".txt" or path.name.startswith(".") or not path.is_file():
            dropped[OTHER_ANNOTATIONS] += 1
        elif path.stem.lower() != "readme":
            label = "_".join(path.stem.lower().split())
            relevant = label.endswith(RELEVANT_SUFFIX)
            found = labels.setdefault((label.removesuffix(RELEVANT_SUFFIX), relevant), set())
            read_label(path, folder, sizes, found, dropped)
    if not labels:
        raise DataError(
            f"{annotations} holds no annotation (sky.txt and the like): put the files there, or delete the folder to "
            "do without"
        )
    return labels


def read_label(path: Path, folder: Path, sizes: Mapping[int, int], found: set[int], dropped: Counter[str]) -> None:
    """Add to ``found`` the image numbers that one annotation file lists."""
    before = len(found)
    for line, content in enumerate(read_text(path).removeprefix(_BOM).splitlines(), start=1):
        content = content.strip()
        if not content:
            continue
        if not _NUMBER.fullmatch(content):
            shown = ascii(content[:40].decode("utf-8", "replace"))
            raise DataError(f"{path}, line {line}: {shown} is not the number of an image: correct or delete the line")
        number = int(content)
        if number not in sizes:
            raise DataError(
                f"{path}, line {line}, names image {number:,}, but {folder / IMAGES} has no im{number}.jpg among its "
                f"{len(sizes):,} images: correct or delete the line, or restore the image"
            )
        dropped[REPEATED_ANNOTATION] += number in found
        found.add(number)
    dropped[EMPTY_LABEL] += len(found) == before


def by_image(numbers: Sequence[int], labels: Mapping[str, set[int]]) -> tuple[tuple[str, ...], ...]:
    """Return the labels of each image in alphabetical order, from the images of each label."""
    lists: dict[int, list[str]] = {number: [] for number in numbers}
    for label in sorted(labels):
        for number in labels[label]:
            lists[number].append(label)
    return tuple(tuple(lists[number]) for number in numbers)


def checksum(
    sizes: Mapping[int, int],
    tags: Sequence[Sequence[str]],
    annotations: Sequence[Sequence[str]],
    relevant: Sequence[Sequence[str]],
) -> str:
    """Return the SHA-256 over one line of JSON an image: number, bytes, tags and both kinds of labels."""
    digest = hashlib.sha256()
    for (number, size), *words in zip(sizes.items(), tags, annotations, relevant, strict=True):
        digest.update(json.dumps([number, size, *words]).encode() + b"\n")
    return digest.hexdigest()


def download_mirflickr(
    root: str | Path, mirrors: str | Sequence[str] | None = None, archives: Sequence[Archive] = ARCHIVES
) -> Path:
    """Download MIRFLICKR-25000 to ``<root>/mirflickr25k`` and return that folder; what is there is not fetched again.

    ``mirrors``: base addresses, else those in ``$CGAN_MIRFLICKR_MIRROR``, else the collection's home. A zip that
    lies in the folder already is used as it is. The zips are kept, because the user may have put them there.
    An interrupted download or unpacking is continued; ``mirflickr/`` appears when it is whole.
    Raises ``UnavailableError`` when no mirror has the files or the disk has no room for them, and ``DataError`` when
    a zip is not the published one.
    """
    folder = Path(root) / DOWNLOAD_FOLDER
    missing = [archive for archive in archives if not (folder / archive.target).is_dir()]
    if missing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = f"{error.filename}: {error.strerror}"
            raise UnavailableError(
                f"MIRFLICKR-25000 cannot be put under {root} ({why}): make it writable, or name another data root",
                reason=f"cannot write {why}",
            ) from error
        announce(folder, missing)
    for archive in missing:
        path = folder / archive.name
        if path.exists():
            if wrong := fault(path, archive):
                raise DataError(f"{path} {wrong}: delete it and run again to download it again")
        else:
            fetch_archive(path, archive, mirrors)
        unpack(path, folder / archive.target)
        say(f"unpacked {folder / archive.target}: {path} is no longer needed")
    return folder


def announce(folder: Path, archives: Sequence[Archive]) -> None:
    """Print how much there is to download and to unpack; raise ``UnavailableError`` if the disk cannot take it."""
    from tqdm import tqdm

    to_fetch = sum(archive.size for archive in archives if not (folder / archive.name).exists())
    # Photos hardly shrink in a zip, but every small file beside them takes a whole block.
    to_unpack = sum(
        archive.size + archive.size // 4 for archive in archives if not staging(folder / archive.target).exists()
    )
    say(
        f"MIRFLICKR-25000: {tqdm.format_sizeof(to_fetch, 'B')} to download and about "
        f"{tqdm.format_sizeof(to_unpack, 'B')} to unpack, into {folder}"
    )
    ensure_room(beside(folder / archives[-1].name, ".part"), to_fetch + to_unpack)


def fetch_archive(path: Path, archive: Archive, mirrors: str | Sequence[str] | None) -> None:
    """Download one zip to ``path``; ``UnavailableError`` when no mirror has it."""
    try:
        fetch(
            [f"{mirror.rstrip('/')}/{archive.name}" for mirror in mirflickr_mirrors(mirrors)],
            path,
            verify=lambda part: fault(part, archive),
            max_bytes=archive.most_bytes,
            https_only=archive.md5 is None,
        )
    except UnavailableError as error:
        raise UnavailableError(
            f"MIRFLICKR-25000 is not under {path.parent.parent}: {error}, or put the zip into {path.parent}, or "
            "choose another set of photos",
            reason=error.reason,
        ) from error


def mirflickr_mirrors(mirrors: str | Sequence[str] | None) -> list[str]:
    """Return the base addresses of MIRFLICKR: ``mirrors``, else ``$CGAN_MIRFLICKR_MIRROR``, else its home."""
    return named_mirrors(mirrors, MIRROR_VARIABLE) or list(MIRRORS)


def fault(path: Path, archive: Archive) -> str | None:
    """Return what is wrong with a zip, in words that follow its name; None if nothing is.

    Where no MD5 is known, every file in it must have the checksum (CRC-32) that the zip itself states.
    """
    if archive.md5:
        found = md5(path, archive.name)
        return None if found == archive.md5 else f"has the MD5 {found} instead of {archive.md5}"
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > archive.most_bytes:
                return f"unpacks to more than {archive.most_bytes:,} bytes, so it is not the published file"
            torn = packed.testzip()
    except _ZIP_ERRORS as error:
        return f"is not a whole zip file ({error})"
    return f"is damaged at {torn}" if torn else None


#: What reading a damaged or foreign zip raises; RuntimeError is an encrypted one.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def md5(path: Path, label: str) -> str:
    """Return the MD5 of a file in hexadecimal, with a progress bar once it takes over two seconds."""
    from tqdm import tqdm

    digest = hashlib.md5(usedforsecurity=False)
    total = path.stat().st_size
    with (
        open(path, "rb") as file,
        tqdm(
            desc=f"checking {label}", total=total, unit="B", unit_scale=True, delay=2, disable=None, leave=False
        ) as bar,
    ):
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip to the folder ``target``, which appears when all of it is there, and not before.

    The files are gathered in ``.<target>.unpacking`` beside it; after an interruption those that are whole stay. A
    zip with a folder of the target's name gives what is in that folder; one without it, all its files.
    Raises ``DataError`` before anything is written when an entry is a link or would fall outside, and when the zip
    is damaged.
    """
    gathered = staging(target)
    with exclusive(target, progress=True):
        if target.is_dir():
            return
        try:
            with zipfile.ZipFile(archive) as packed:
                gather(packed, plan(packed, archive, target.name), gathered, archive.name)
        except _ZIP_ERRORS as error:
            raise DataError(
                f"{archive} cannot be unpacked ({error}): delete it and run again to download it again"
            ) from error
        # The folder must not get its name on the disk before its files have their bytes there.
        if hasattr(os, "sync"):
            os.sync()
        os.replace(gathered, target)


def gather(packed: zipfile.ZipFile, members: Mapping[PurePosixPath, zipfile.ZipInfo], folder: Path, label: str) -> None:
    """Write the entries of a zip to their places below ``folder``, but for those that are there whole."""
    from tqdm import tqdm

    total = sum(entry.file_size for entry in members.values())
    with tqdm(desc=f"unpacking {label}", total=total, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        for place, entry in members.items():
            path = folder / place
            if not is_whole(path, entry):
                path.parent.mkdir(parents=True, exist_ok=True)
                # Reading to the end compares the checksum.
                with packed.open(entry) as source, open(path, "wb") as file:
                    shutil.copyfileobj(source, file, _BLOCK)
            bar.update(entry.file_size)


def staging(target: Path) -> Path:
    """Return the folder in which the files of ``target`` are gathered until all of them are there."""
    return target.with_name(f".{target.name}.unpacking")


def plan(packed: zipfile.ZipFile, archive: Path, top: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return where each file of a zip goes below the target's folder: the files in its folder ``top``, else all."""
    entries: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in packed.infolist():
        place = PurePosixPath(entry.filename)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        strange = kind not in (0, stat.S_IFREG, stat.S_IFDIR) or not place.parts
        if strange or place.is_absolute() or ".." in place.parts or "\\" in entry.filename or ":" in entry.filename:
            raise DataError(
                f"{archive} holds {entry.filename!a}, a link or a name that leads out of its folder, so it is not "
                "the published file, and nothing was unpacked: delete it and run again to download it again"
            )
        if not entry.is_dir():
            entries[place] = entry
    if not entries:
        raise DataError(f"{archive} holds no file: delete it and run again to download it again")
    inside = {place.relative_to(top): entry for place, entry in entries.items() if place.parts[0] == top != str(place)}
    return inside or entries


def is_whole(path: Path, entry: zipfile.ZipInfo) -> bool:
    """Return whether ``path`` already holds the bytes of a zip's entry, by size and CRC-32."""
    if not path.is_file() or path.stat().st_size != entry.file_size:
        return False
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc == entry.CRC
