"""``data.mirflickr`` on a miniature with every irregularity, and on real photos."""

from __future__ import annotations

import csv
import functools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import data.mirflickr
from data import DataError
from data.mirflickr import ANNOTATIONS, flickr_ids, load_mirflickr, load_photos
from data.scenes import write_scenes

ROOT = Path(os.environ.get("CGAN_DATA", "data/raw")).absolute()
MINI = ROOT / "flickr-mini"


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


def test_irregularities_are_corrected_or_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    for number in (1, 2, 3, 4, 5, 9, 10, 100):
        write(folder / f"mirflickr/im{number}.jpg", b"jpg")
    for name in ("Thumbs.db", "im01.jpg", "im7.png", "im9999999999.jpg", "im11.jpg/credits.txt"):
        write(folder / "mirflickr" / name)
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
    write(folder / "mirflickr/meta/tags/tags01.txt", "leading zero")
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
        "tags that are not UTF-8": 2,
        "tags with control characters": 1,
        "tags longer than 100 characters": 2,
        # sky (once), café
        "tags repeated for one image": 2,
    }


@pytest.mark.parametrize(
    ("name", "content"), [(None, b""), ("tag1.txt", b"dog"), ("tags1.txt", "собака\n".encode("utf-16-be"))]
)
def test_photos_without_any_user_tag_are_refused(folder: Path, name: str | None, content: bytes) -> None:
    """Also where there are annotations."""
    shutil.rmtree(folder / "mirflickr/meta")
    if name:
        write(folder / "mirflickr/meta/tags" / name, content)
    with pytest.raises(DataError, match=r"no photo of .* has a user tag.*tagsN.txt, one a line, in UTF-8"):
        load_photos(folder)


def test_tags_and_annotations_without_their_images_are_refused(folder: Path) -> None:
    for number in (77, 8):
        write(folder / f"mirflickr/meta/tags/tags{number}.txt", "dog")
    with pytest.raises(DataError, match=r"tags8\.txt .of 2. belongs to no image"):
        load_mirflickr(folder)
    for number in (77, 8):
        (folder / f"mirflickr/meta/tags/tags{number}.txt").unlink()
    for line, shown in (
        (b"99999", "99999"),
        (b"im2.jpg", "im2.jpg"),
        ("２".encode(), r"\uff12"),
        (b"9" * 5000, "9" * 40),
    ):
        path = write(folder / ANNOTATIONS / "sea_r1.txt", b"2\r\n\r\n" + line + b"\r\n")
        with pytest.raises(DataError) as caught:
            load_mirflickr(folder)
        assert str(caught.value).startswith(f"{path}, line 3: '{shown}' is not the number of one of the 3 images")
    for path in (folder / ANNOTATIONS).glob("s*"):
        path.unlink()
    with pytest.raises(DataError, match="holds no annotation"):
        load_mirflickr(folder)
    shutil.rmtree(folder / ANNOTATIONS)
    photos = load_mirflickr(folder)
    assert photos.annotations == photos.relevant == ((), (), ())
    assert photos.notice == f"there is no {folder / ANNOTATIONS}: only user tags count"


def test_the_checksum_changes_with_what_counts_alone(folder: Path, tmp_path: Path) -> None:
    seen = [load_mirflickr(folder).checksum]
    assert len(seen[0]) == 64
    write(folder / "mirflickr/Thumbs.db")
    write(folder / "mirflickr/meta/tags/tags1.txt", "DOG\r\nn1\r\nn1")
    os.utime(folder / "mirflickr/im1.jpg", (0, 0))
    assert load_mirflickr(shutil.copytree(folder, tmp_path / "copy"), "other").checksum == seen[0]
    for name, content in (
        ("mirflickr/im10.jpg", "x" * 11),
        ("mirflickr/im11.jpg", "x"),
        ("mirflickr/meta/tags/tags1.txt", "n1\ndog\n"),
        (f"{ANNOTATIONS}/sea.txt", "1\n"),
        (f"{ANNOTATIONS}/sky_r1.txt", "1\n2\n"),
    ):
        write(folder / name, content)
        seen.append(load_mirflickr(folder).checksum)
    assert len(set(seen)) == 6


@pytest.mark.skipif(not (MINI / "mirflickr").is_dir(), reason="needs flickr-mini in the folder that CGAN_DATA names")
def test_flickr_mini_against_a_plain_count() -> None:
    photos = load_photos("flickr-mini", ROOT)
    assert (photos.name, photos.embedded, photos.folder, photos.dropped) == ("flickr-mini", False, MINI, {})
    assert photos.checksum == "6183201e4b15544f9345295cd6231ebed108b7c9b83fb25928263537b08b8591"
    assert photos.numbers.tolist() == list(range(1, 801))
    pairs = {(label, n) for n, labels in zip(photos.numbers, photos.annotations, strict=True) for label in labels}
    lines = {(path.stem, int(line)) for path in (MINI / ANNOTATIONS).glob("*.txt") for line in path.read_text().split()}
    assert pairs == lines and len(pairs) > 1000


def test_the_ids_of_photos_are_those_of_their_sources(folder: Path) -> None:
    assert flickr_ids(folder) == frozenset()
    write(folder / "sources.csv", "im,flickr8k_file\n1,1000268201_693b08cb0e.jpg\n2\n3,17273391_55cfc7d3d4.jpg\n")
    assert flickr_ids(folder) == {"1000268201", "17273391"}
    write(folder / "sources.csv", "\ufeffflickr8k_file\n17273391_55cfc7d3d4.jpg\n")
    assert flickr_ids(folder) == {"17273391"}
    limit = csv.field_size_limit(1 << 17)  # The default, which other modules may have raised.
    try:
        for broken in (b"im,other\n1,\xff.jpg\n", b"im,other\n1," + b"9" * 200_000):
            write(folder / "sources.csv", broken)
            with pytest.raises(DataError, match=r"sources.csv is not a table"):
                flickr_ids(folder)
    finally:
        csv.field_size_limit(limit)


def test_tags_from_captions_carry_their_notice_under_any_name(folder: Path) -> None:
    """The root may be the set itself, under any name: its tags are no more Flickr's own for that."""
    write(folder / "sources.csv", "number,source\n1,flickr8k/1.jpg\n")
    for photos in (load_photos("auto", folder), load_photos(folder)):
        assert photos.name == "flickr-mini"
        assert photos.notice is not None and "derived from captions" in photos.notice


@pytest.mark.parametrize("place", ["", "mirflickr25k", "mirflickr"])
def test_mirflickr_goes_first_wherever_it_lies(tmp_path: Path, place: str) -> None:
    write_layout(tmp_path / "flickr-mini")
    folder = write_layout(tmp_path / place)
    for dataset in ("auto", "mirflickr"):
        photos = load_photos(dataset, tmp_path)
        assert (photos.name, photos.folder, photos.embedded) == ("mirflickr", folder, False)
        assert str(photos.notice).startswith(f"{folder} holds 3 images instead of MIRFLICKR's 25,000")


def test_a_damaged_set_is_an_error_under_auto_as_well(tmp_path: Path) -> None:
    write_layout(tmp_path / "flickr-mini")
    (tmp_path / "mirflickr25k/mirflickr").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image"):
        load_photos("auto", tmp_path)
    shutil.rmtree(tmp_path / "mirflickr25k")
    assert load_photos("auto", tmp_path).name == "flickr-mini"
    write(tmp_path / "flickr-mini" / ANNOTATIONS / "sea.txt", "99999\n")
    with pytest.raises(DataError, match="not the number of one of the 3 images"):
        load_photos("auto", tmp_path)


def test_unknown_and_missing_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="choose auto, mirflickr, flickr-mini, scenes, or the folder"):
        load_photos("cifar", tmp_path)
    with pytest.raises(DataError, match=f"no flickr-mini under {tmp_path}: put its folder there"):
        load_photos("flickr-mini", tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load_photos("auto", tmp_path / "typo")


def test_the_scenes_serve_where_there_is_nothing_and_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.scenes.write_scenes", functools.partial(write_scenes, images=6))
    monkeypatch.setattr("data.scenes.words.ROWS", 20)
    monkeypatch.setattr(data.mirflickr, "default_root", lambda: tmp_path / "default")
    root = tmp_path / "root"
    root.mkdir(0o555)  # A data root that may not be written stays as it is.
    photos = load_photos("auto", root)
    assert (photos.name, photos.embedded, photos.folder) == ("scenes (embedded)", True, tmp_path / "default" / "scenes")
    assert len(photos.paths) == 6 and any(photos.tags) and any(photos.annotations) and not any(root.iterdir())
    notice = str(photos.notice)
    assert notice.startswith(f"neither MIRFLICKR-25000 nor flickr-mini lies under {root}, and these are rendered")
    assert "no number from them stands beside the paper's" in notice
    root.chmod(0o755)
    assert load_photos("scenes", root).folder == root / "scenes"
    # Named as a folder, they are the same scenes.
    again = load_photos(root / "scenes")
    assert (again.name, again.checksum) == (photos.name, photos.checksum)
