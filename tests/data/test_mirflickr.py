"""``data.mirflickr`` on a miniature with every irregularity, on real photos, and over a real server with real kills."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import data.download
import data.mirflickr
from data import DataError
from data.download import UnavailableError
from data.mirflickr import (
    ANNOTATIONS,
    NOT_UTF8,
    Archive,
    TaggedPhotos,
    download_mirflickr,
    label_words,
    load_mirflickr,
    load_photos,
    may_write,
    parse_tags,
    unpack,
)
from tests.data.server import closed_port, serve

ROOT = Path(os.environ.get("CGAN_DATA", "data/raw")).absolute()
MINI = ROOT / "flickr-mini"

needs_mini = pytest.mark.skipif(
    not (MINI / "mirflickr").is_dir(), reason="needs flickr-mini in the folder that CGAN_DATA names"
)


def write(path: Path, content: bytes | str = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_layout(folder: Path, images: Sequence[int] = (1, 2, 10)) -> Path:
    """A sound, small set: image N has N bytes and the tags "dog" and "nN"; all are sky, the first is so salient."""
    for number in images:
        write(folder / f"mirflickr/im{number}.jpg", b"x" * number)
        write(folder / f"mirflickr/meta/tags/tags{number}.txt", f"dog\nn{number}\n")
    write(folder / ANNOTATIONS / "sky.txt", "".join(f"{number}\n" for number in images))
    write(folder / ANNOTATIONS / "sky_r1.txt", f"{images[0]}\n")
    write(folder / ANNOTATIONS / "README.txt", "Not a label: 99999\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "photos")


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default data root, in an empty folder, so that no test writes into the checkout."""
    monkeypatch.setattr(data.mirflickr, "default_root", lambda: tmp_path / "default")
    return tmp_path / "default"


def test_reads_a_sound_folder(folder: Path) -> None:
    photos = load_mirflickr(folder)
    assert (photos.name, photos.embedded, photos.folder, photos.notice) == ("photos", False, folder, None)
    assert photos.numbers.dtype == np.int64 and photos.numbers.tolist() == [1, 2, 10]
    assert photos.paths == tuple(folder / "mirflickr" / f"im{number}.jpg" for number in (1, 2, 10))
    assert photos.tags == (("dog", "n1"), ("dog", "n2"), ("dog", "n10"))
    assert photos.annotations == (("sky",),) * 3
    assert photos.relevant == (("sky",), (), ())
    assert photos.dropped == {}
    assert load_mirflickr(str(folder), "mine").name == "mine"


def test_every_irregularity_is_mended_or_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    for number in (1, 2, 3, 4, 5, 9, 10, 100):
        write(folder / f"mirflickr/im{number}.jpg", b"jpg")
    for name in ("Thumbs.db", "im01.jpg", "im6.JPG", "im7.png", "imx.jpg", "im-8.jpg", "im9999999999.jpg"):
        write(folder / "mirflickr" / name)
    (folder / "mirflickr/im11.jpg").mkdir()
    write(folder / "mirflickr/doc/credits.txt")
    tags = {
        1: b"\xef\xbb\xbfSky\r\nblue sky\r\n\r\n  \r\nsky\r\ncloud\r\n",
        2: b"caf\xc3\xa9\ncaf\xe9\ncafe\xcc\x81\nok\x00no\n\xff\xfe\nlast",
        3: b"",
        4: b"\n \n\t\n\xe3\x80\x80\n",
        5: b"a" * 100 + b"\n" + b"b" * 101 + b"\n" + b"C" * 5000 + b"\nshort\rold mac\r",
        10: "<script>alert(1)</script>\n日本\n \u00a0dog\u200b \nİzmir\nGEO:lat=1.5\n".encode(),
    }
    for number, content in tags.items():
        write(folder / f"mirflickr/meta/tags/tags{number}.txt", content)
    write(folder / "mirflickr/meta/tags/tags.txt", "no number")
    write(folder / "mirflickr/meta/tags/tags01.txt", "leading zero")
    write(folder / "mirflickr/meta/tags_raw/tags999.txt", "not read")
    labels = {
        "people.txt": b"\xef\xbb\xbf1\r\n2\r\n\r\n10\r\n10\r\n",
        "plant_life.txt": b" 5 \n\n002\n",
        "plant_life_r1.txt": b"5",
        "Night Sky.txt": b"10\n",
        "empty.txt": b"",
        "blank_r1.txt": b"\n \n",
        "readme.TXT": b"not a number",
        "._people.txt": b"\x00\x05",
        "notes.doc": b"x",
    }
    for name, content in labels.items():
        write(folder / ANNOTATIONS / name, content)

    photos = load_mirflickr(folder)
    assert photos.numbers.tolist() == [1, 2, 3, 4, 5, 9, 10, 100]
    assert [path.name for path in photos.paths][-3:] == ["im9.jpg", "im10.jpg", "im100.jpg"]
    assert photos.tags == (
        ("sky", "bluesky", "cloud"),
        ("café", "last"),
        (),
        (),
        ("a" * 100, "short", "oldmac"),
        (),
        ("<script>alert(1)</script>", "日本", "dog", "i̇zmir", "geo:lat=1.5"),
        (),
    )
    people, plants = ("people",), ("plant_life",)
    assert photos.annotations == (people, people + plants, (), (), plants, (), ("night_sky", "people"), ())
    assert photos.relevant == ((), (), (), (), plants, (), (), ())
    assert photos.dropped == {
        "other files among the images": 7,
        "other files among the tags": 2,
        "other files among the annotations": 2,
        "images without tags file": 2,
        "images with an empty tags file": 2,
        "tags files with a byte order mark": 1,
        "tags that are not UTF-8": 2,
        "tags with control characters": 1,
        "tags longer than 100 characters": 2,
        # sky (once), café
        "tags repeated for one image": 2,
        # Sky, blue sky, café in pieces, old mac, dog, İzmir, GEO
        "tags corrected (capitals, white space, accents in pieces)": 7,
        "annotation lines repeated": 1,
        "annotation files without an image": 2,
    }


def test_without_annotations_the_notice_says_so(folder: Path) -> None:
    shutil.rmtree(folder / ANNOTATIONS)
    photos = load_mirflickr(folder)
    assert photos.annotations == photos.relevant == ((), (), ())
    assert photos.dropped == {"annotations folder missing": 1}
    assert photos.notice == f"there is no {folder / ANNOTATIONS}: only user tags count"


def remove_tags(folder: Path) -> str:
    shutil.rmtree(folder / "mirflickr/meta")
    return "there is no folder .*meta/tags"


def misspell_tags(folder: Path) -> str:
    for path in (folder / "mirflickr/meta/tags").iterdir():
        path.rename(path.with_name(path.name.replace("tags", "tag")))
    return "holds no tags1.txt"


def utf16_tags(folder: Path) -> str:
    for path in (folder / "mirflickr/meta/tags").iterdir():
        path.write_bytes("собака\n".encode("utf-16-be"))
    return "none of the 3 files in .* holds a tag in UTF-8 .*tags1.txt looks like UTF-16"


@pytest.mark.parametrize("spoil", [remove_tags, misspell_tags, utf16_tags])
def test_photos_without_any_user_tag_are_refused(folder: Path, spoil: Callable[[Path], str]) -> None:
    """Also where there are annotations (issue 13, fault 2)."""
    says = spoil(folder)
    with pytest.raises(DataError, match=f"no photo of .* has a user tag, because .*{says}.*tagsN.txt, one a line"):
        load_photos(folder)


def test_a_file_far_too_long_for_tags_is_refused(folder: Path) -> None:
    with open(folder / "mirflickr/meta/tags/tags1.txt", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"tags1\.txt is longer than 16,777,216 bytes"):
        load_mirflickr(folder)


def empty_images(folder: Path) -> str:
    for image in folder.glob("mirflickr/*.jpg"):
        image.unlink()
    return f"{folder / 'mirflickr'} holds no image named im1.jpg"


def no_images(folder: Path) -> str:
    shutil.rmtree(folder / "mirflickr")
    return f"{folder} has no folder mirflickr"


def tags_without_image(folder: Path) -> str:
    for number in (77, 8):
        write(folder / f"mirflickr/meta/tags/tags{number}.txt", "dog")
    return f"{folder / 'mirflickr/meta/tags/tags8.txt'} (and 1 more like it) belongs to no image"


def image_99999(folder: Path) -> str:
    path = write(folder / ANNOTATIONS / "sea.txt", "1\n\n99999\n")
    return f"{path}, line 3, names image 99,999, but {folder / 'mirflickr'} has no im99999.jpg"


def no_annotation(folder: Path) -> str:
    for path in (folder / ANNOTATIONS).glob("sky*"):
        path.unlink()
    return f"{folder / ANNOTATIONS} holds no annotation"


def no_number(line: bytes, shown: str) -> Callable[[Path], str]:
    def spoil(folder: Path) -> str:
        path = write(folder / ANNOTATIONS / "sea_r1.txt", b"2\r\n" + line + b"\r\n")
        return f"{path}, line 2: '{shown}' is not the number of an image"

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        no_images,
        empty_images,
        tags_without_image,
        image_99999,
        no_annotation,
        no_number(b"im2.jpg", "im2.jpg"),
        no_number(b"-2", "-2"),
        no_number(b"1 2", "1 2"),
        no_number(b"2.0", "2.0"),
        no_number("２".encode(), r"\uff12"),
        no_number(b"\xff\x00", r"\ufffd\x00"),
        no_number(b"9" * 5000, "9" * 40),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_any_tag_is_read(folder: Path, spoil: Callable[[Path], str]) -> None:
    start = spoil(folder)
    # Reading this one would fail: it is a folder.
    (folder / "mirflickr/meta/tags/tags2.txt").unlink(missing_ok=True)
    (folder / "mirflickr/meta/tags/tags2.txt").mkdir(parents=True) if (folder / "mirflickr").is_dir() else None
    with pytest.raises(DataError) as caught:
        load_mirflickr(folder)
    message = str(caught.value)
    assert message.startswith(start)
    assert "\n" not in message and ": " in message.removeprefix(start)


def grow(folder: Path) -> None:
    write(folder / "mirflickr/im10.jpg", b"x" * 11)


def rename(folder: Path) -> None:
    for name in ("im{}.jpg", "meta/tags/tags{}.txt"):
        (folder / "mirflickr" / name.format(10)).rename(folder / "mirflickr" / name.format(11))
    write(folder / ANNOTATIONS / "sky.txt", "1\n2\n11\n")


def swap_tags(folder: Path) -> None:
    write(folder / "mirflickr/meta/tags/tags1.txt", "n1\ndog\n")


def annotate(folder: Path) -> None:
    write(folder / ANNOTATIONS / "sea.txt", "1\n")


def emphasise(folder: Path) -> None:
    write(folder / ANNOTATIONS / "sky_r1.txt", "1\n2\n")


@pytest.mark.parametrize("change", [grow, rename, swap_tags, annotate, emphasise])
def test_the_checksum_changes_with_what_counts(folder: Path, change: Callable[[Path], None]) -> None:
    before = load_mirflickr(folder).checksum
    change(folder)
    assert load_mirflickr(folder).checksum != before


def test_the_checksum_stays_with_what_does_not_count(folder: Path, tmp_path: Path) -> None:
    before = load_mirflickr(folder).checksum
    write(folder / "mirflickr/Thumbs.db")
    write(folder / "mirflickr/meta/tags/tags1.txt", "DOG\r\nn1\r\nn1")
    os.utime(folder / "mirflickr/im1.jpg", (0, 0))
    assert load_mirflickr(shutil.copytree(folder, tmp_path / "copy"), "other").checksum == before
    assert len(before) == 64


def test_a_label_gives_single_words() -> None:
    assert label_words("sky") == ("sky",)
    assert label_words("plant_life") == ("plant",)
    assert label_words("night_sky_") == ("night", "sky")


@needs_mini
def test_flickr_mini_against_a_plain_count() -> None:
    photos = load_photos("flickr-mini", ROOT)
    assert (photos.name, photos.embedded, photos.folder) == ("flickr-mini", False, MINI)
    assert photos.notice is not None and "derived from captions" in photos.notice
    assert photos.dropped == {}
    names = subprocess.run(["ls", MINI / "mirflickr"], capture_output=True, text=True, check=True).stdout.split()
    assert {path.name for path in photos.paths} == {name for name in names if name.endswith(".jpg")}
    assert photos.numbers.tolist() == list(range(1, 801))
    for number, path, tags in zip(photos.numbers, photos.paths, photos.tags, strict=True):
        assert path.name == f"im{number}.jpg"
        assert list(tags) == (MINI / f"mirflickr/meta/tags/tags{number}.txt").read_text().split()
    pairs = {
        (label, number) for number, labels in zip(photos.numbers, photos.annotations, strict=True) for label in labels
    }
    lines = {(path.stem, int(line)) for path in (MINI / ANNOTATIONS).glob("*.txt") for line in path.read_text().split()}
    assert pairs == lines and len(pairs) > 1000


@needs_mini
@pytest.mark.parametrize("asked", ["auto", "path"])
@pytest.mark.parametrize("renamed", [True, False])
def test_tags_from_captions_are_told_of_however_they_were_named(tmp_path: Path, asked: str, renamed: bool) -> None:
    """The root may be the set itself, under any name: its tags are no more Flickr's own for that."""
    root = MINI
    if renamed:
        root = tmp_path / "my photos"
        root.mkdir()
        for name in ("mirflickr", ANNOTATIONS, "sources.csv"):
            (root / name).symlink_to(MINI / name)
    photos = load_photos("auto", root) if asked == "auto" else load_photos(root)
    assert photos.name == "flickr-mini"
    assert photos.notice is not None and "derived from captions" in photos.notice


@pytest.mark.parametrize("place", ["", "mirflickr25k", "mirflickr"])
@pytest.mark.parametrize("dataset", ["auto", "mirflickr"])
def test_mirflickr_goes_first_wherever_it_lies(tmp_path: Path, place: str, dataset: str) -> None:
    write_layout(tmp_path / "flickr-mini")
    folder = write_layout(tmp_path / place)
    photos = load_photos(dataset, tmp_path)
    assert (photos.name, photos.folder, photos.embedded) == ("mirflickr", folder, False)
    assert photos.notice is not None
    assert photos.notice.startswith(f"{folder} holds 3 images instead of MIRFLICKR's 25,000")


def test_a_damaged_set_is_an_error_under_auto_as_well(tmp_path: Path) -> None:
    write_layout(tmp_path / "flickr-mini")
    (tmp_path / "mirflickr25k/mirflickr").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image"):
        load_photos("auto", tmp_path)
    shutil.rmtree(tmp_path / "mirflickr25k")
    assert load_photos("auto", tmp_path).name == "flickr-mini"
    image_99999(tmp_path / "flickr-mini")
    with pytest.raises(DataError, match="names image 99,999"):
        load_photos("auto", tmp_path)


def test_unknown_and_missing_sets_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="choose auto, mirflickr, flickr-mini, scenes, or the folder"):
        load_photos("cifar", tmp_path)
    with pytest.raises(DataError, match=f"no flickr-mini under {tmp_path}: put its folder there"):
        load_photos("flickr-mini", tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load_photos("auto", tmp_path / "typo")


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real renderer, asked for fewer."""
    scenes = pytest.importorskip("data.scenes", reason="needs the renderer of scenes")
    monkeypatch.setattr(scenes, "write_scenes", functools.partial(scenes.write_scenes, images=6))


def is_scenes(photos: TaggedPhotos, folder: Path) -> bool:
    assert photos.notice is not None and "no number from them stands beside the paper's" in photos.notice
    assert sum(len(tags) for tags in photos.tags) > 0 and any(photos.annotations)
    return (photos.name, photos.embedded, photos.folder, len(photos.paths)) == ("scenes (embedded)", True, folder, 6)


def test_auto_with_nothing_takes_the_scenes_and_says_why(few_scenes: None, away: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    photos = load_photos("auto", root)
    assert is_scenes(photos, root / "scenes")
    assert photos.notice is not None
    assert photos.notice.startswith(
        f"neither MIRFLICKR-25000 nor flickr-mini lies under {root}, and these are rendered"
    )
    by_name = load_photos("scenes", root)
    assert is_scenes(by_name, root / "scenes") and by_name.checksum == photos.checksum
    # Named as a folder, or as a data root, they are the same scenes.
    assert is_scenes(load_photos(root / "scenes"), root / "scenes")
    assert is_scenes(load_photos("auto", root / "scenes", scenes=root / "scenes"), root / "scenes")
    assert not away.exists()


def test_a_data_root_that_may_not_be_written_stays_as_it_is(few_scenes: None, away: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o555)
    try:
        assert not may_write(root / "scenes") and may_write(tmp_path / "new" / "scenes")
        assert is_scenes(load_photos("auto", root), away / "scenes")
        assert is_scenes(load_photos("scenes", root, scenes=tmp_path / "named"), tmp_path / "named")
        assert list(root.iterdir()) == []
    finally:
        root.chmod(0o755)


def zipped(entries: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip in memory, the same bytes in every process: its entries bear no time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as packed:
        for name, content in entries.items():
            packed.writestr(zipfile.ZipInfo(name), content, kind)
    return buffer.getvalue()


NUMBERS = (1, 2, 3, 10)
NOISE = np.random.default_rng(0)
PHOTOS = {f"mirflickr/im{number}.jpg": NOISE.bytes(200_000) for number in NUMBERS}
TAGS = {f"mirflickr/meta/tags/tags{number}.txt": b"dog\r\nbeach\r\n" for number in NUMBERS}
LABELS = {"README.txt": b"read me", "sky.txt": b"1\n10\n\n", "sky_r1.txt": b"1\n"}
IMAGES_ZIP = zipped({"mirflickr/": b"", "mirflickr/doc/credits.txt": b"thanks"} | PHOTOS | TAGS)
LABELS_ZIP = zipped(LABELS)
SITE = {"mirflickr25k.zip": IMAGES_ZIP, "mirflickr25k_annotations_v080.zip": LABELS_ZIP}
#: The published files in small.
SMALL = (
    Archive("mirflickr25k_annotations_v080.zip", ANNOTATIONS, len(LABELS_ZIP), None),
    Archive("mirflickr25k.zip", "mirflickr", len(IMAGES_ZIP), hashlib.md5(IMAGES_ZIP).hexdigest()),
)


def is_whole(root: Path) -> bool:
    """Whether the download left the layout and the zips, all bytes right, and nothing else."""
    folder = root / "mirflickr25k"
    photos = load_photos("mirflickr", root)
    assert photos.folder == folder and photos.numbers.tolist() == list(NUMBERS)
    assert photos.tags == (("dog", "beach"),) * 4
    assert photos.annotations == (("sky",), (), (), ("sky",))
    assert [path.read_bytes() for path in photos.paths] == list(PHOTOS.values())
    return {path.name for path in folder.iterdir()} == {"mirflickr", ANNOTATIONS, *SITE}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.download, "PAUSE_SECONDS", 0.02)


@pytest.mark.parametrize("top", ["", f"{ANNOTATIONS}/"])
def test_downloads_says_the_size_first_and_unpacks(
    tmp_path: Path, top: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The annotations may lie at the top of their zip, or in their folder with something else beside it."""
    labels = {top + name: content for name, content in LABELS.items()}
    if top:
        labels["__MACOSX/._sky.txt"] = b"x"
    with serve(SITE | {SMALL[0].name: zipped(labels)}) as site:
        monkeypatch.setenv("CGAN_MIRFLICKR_MIRROR", f"{closed_port()}x {site.url}deep/")
        download_mirflickr(tmp_path, archives=SMALL)
        assert [request.path for request in site.requests] == [f"/deep/{archive.name}" for archive in SMALL]
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("MIRFLICKR-25000: 802kB to download and about 1.00MB to unpack, into ")
        assert is_whole(tmp_path)
        download_mirflickr(tmp_path, archives=SMALL)
        assert len(site.requests) == 2 and capsys.readouterr() == ("", ""), "what is there is not fetched again"


def child(root: Path, url: str) -> subprocess.Popen[bytes]:
    """A process of its own that downloads and unpacks."""
    code = (
        "import sys; from tests.data.test_mirflickr import SMALL; from data.mirflickr import download_mirflickr; "
        "download_mirflickr(sys.argv[1], sys.argv[2], SMALL)"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(root), url], stderr=subprocess.PIPE)


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline, "it did not get that far, or ended before"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert process.stderr is not None
    process.stderr.close()


def test_a_killed_download_goes_on_where_it_was(tmp_path: Path) -> None:
    part = tmp_path / "mirflickr25k" / "mirflickr25k.zip.part"
    with serve(SITE, delay=0.02) as site:
        kill_when(child(tmp_path, site.url), lambda: part.exists() and part.stat().st_size >= 200_000)
        kept = part.stat().st_size
        assert not (part.parent / "mirflickr").exists()
        site.delay = 0
        site.breaks = [100_000]
        download_mirflickr(tmp_path, site.url, SMALL)
        assert site.requests[2].range == f"bytes={kept}-" and site.requests[3].status == 206
    assert is_whole(tmp_path)


def test_unpacking_that_is_killed_is_never_taken_for_whole_and_goes_on(tmp_path: Path) -> None:
    entries = {f"mirflickr/im{number}.jpg": NOISE.bytes(4_000) for number in range(1, 4_001)}
    archive = write(tmp_path / "mirflickr25k" / "mirflickr25k.zip", zipped(entries, zipfile.ZIP_STORED))
    target, gathered = archive.parent / "mirflickr", archive.parent / ".mirflickr.unpacking"
    code = "import sys, pathlib; from data.mirflickr import unpack; unpack(*map(pathlib.Path, sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(archive), str(target)], stderr=subprocess.PIPE)
    kill_when(process, (gathered / "im100.jpg").exists)
    assert not target.exists()
    write_layout(tmp_path / "flickr-mini")
    assert load_photos("auto", tmp_path).name == "flickr-mini"

    written = {path.name: path.stat().st_mtime_ns for path in gathered.iterdir()}
    assert 100 <= len(written) < len(entries)
    # As a power cut would leave them: a file of the right size with other bytes, and a short one.
    write(gathered / "im7.jpg", bytes(4_000))
    write(gathered / "im8.jpg", b"x")
    unpack(archive, target)
    assert not gathered.exists()
    assert {f"mirflickr/{path.name}": path.read_bytes() for path in target.iterdir()} == entries
    kept = [name for name, time_ns in written.items() if (target / name).stat().st_mtime_ns == time_ns]
    assert len(kept) >= len(written) - 3, "whole files are not written again"


def test_zips_put_there_by_hand_need_no_connection(tmp_path: Path) -> None:
    for name, content in SITE.items():
        write(tmp_path / "mirflickr25k" / name, content)
    download_mirflickr(tmp_path, closed_port(), SMALL)
    assert is_whole(tmp_path)


@pytest.mark.parametrize("name", SITE)
def test_a_damaged_zip_is_told_of_and_stays(tmp_path: Path, name: str) -> None:
    for other, content in SITE.items():
        write(tmp_path / "mirflickr25k" / other, content)
    damaged = bytearray(SITE[name])
    damaged[len(damaged) // 4] ^= 1
    path = write(tmp_path / "mirflickr25k" / name, bytes(damaged))
    with pytest.raises(DataError, match=r"(has the MD5|is damaged at|is not a whole zip file) .*delete it and run"):
        download_mirflickr(tmp_path, closed_port(), SMALL)
    assert path.read_bytes() == damaged and not (path.parent / "mirflickr").exists()


def test_other_bytes_from_a_mirror_are_refused_and_not_kept(tmp_path: Path) -> None:
    pages = dict.fromkeys(SITE, b"<html>please log in</html>")
    with serve(pages) as site, pytest.raises(UnavailableError, match="is not a whole zip file"):
        download_mirflickr(tmp_path, site.url, SMALL)
    pages[SMALL[0].name] = LABELS_ZIP
    with serve(pages) as site, pytest.raises(UnavailableError, match=f"has the MD5 .* instead of {SMALL[1].md5}"):
        download_mirflickr(tmp_path, site.url, SMALL)
    assert {path.name for path in (tmp_path / "mirflickr25k").iterdir()} == {ANNOTATIONS, SMALL[0].name}


def test_a_zip_that_unpacks_to_far_too_much_is_refused(tmp_path: Path) -> None:
    bomb = zipped({"sky.txt": b"1\n" * (1 << 24)})
    write(tmp_path / "mirflickr25k" / SMALL[0].name, bomb)
    with pytest.raises(DataError, match=r"unpacks to more than .* bytes, so it is not the published file"):
        download_mirflickr(tmp_path, closed_port(), SMALL)
    assert not (tmp_path / "mirflickr25k" / ANNOTATIONS).exists()


def test_annotations_come_over_https_alone(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="not an https address, and no checksum"):
        download_mirflickr(tmp_path, "http://192.0.2.1/", SMALL)


def test_without_a_connection_mirflickr_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.disk_usage(tmp_path).free < 8e9:
        pytest.skip("needs 8 GB of free disk, or the disk is what is told of")
    monkeypatch.setenv("CGAN_MIRFLICKR_MIRROR", closed_port())
    with pytest.raises(UnavailableError) as caught:
        load_photos("mirflickr", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"MIRFLICKR-25000 is not under {tmp_path}: ") and "\n" not in message
    assert "Connection refused" in message and "put the zip into" in message


def test_a_disk_without_room_is_told_of_before_the_first_byte(tmp_path: Path) -> None:
    with serve(SITE) as site, pytest.raises(UnavailableError, match="too full"):
        download_mirflickr(tmp_path, site.url, (*SMALL[:1], SMALL[1]._replace(size=10**16)))
    assert site.requests == []


def link(name: str, to: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("sky.txt", "1\n")
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(entry, to)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        zipped({"sky.txt": b"1\n", "../evil.txt": b"x"}),
        zipped({f"{ANNOTATIONS}/sky.txt": b"1\n", f"{ANNOTATIONS}/../../evil.txt": b"x"}),
        zipped({"/tmp/evil.txt": b"x"}),
        zipped({"..\\evil.txt": b"x"}),
        zipped({"C:/evil.txt": b"x"}),
        link("out", "/"),
    ],
)
def test_an_entry_that_leads_out_is_refused_before_anything_is_written(tmp_path: Path, content: bytes) -> None:
    archive = write(tmp_path / "deep" / "file.zip", content)
    with pytest.raises(DataError, match=r"leads out of its folder.* nothing was unpacked: delete it"):
        unpack(archive, archive.parent / ANNOTATIONS)
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "file.zip"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tags_files_of_other_encodings_are_read(encoding: str) -> None:
    dropped: Counter[str] = Counter()
    assert parse_tags("Sky\nblå himmel\n".encode(encoding), dropped) == ("sky", "blåhimmel")
    assert not dropped[NOT_UTF8]
