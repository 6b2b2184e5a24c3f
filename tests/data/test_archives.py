"""MIRFLICKR's download and its zips: hostile and damaged ones, a real server, a real kill."""

from __future__ import annotations

import hashlib
import io
import random
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import data.download
from data import DataError
from data.archives import Archive, find_fault, unpack
from data.download import UnavailableError
from data.mirflickr import ANNOTATIONS, download_mirflickr, load_photos
from tests.data.server import closed_port, serve


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture(autouse=True)
def mirror(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Shorter pauses between connections, and no mirror unless a test names one."""
    monkeypatch.setattr(data.download, "PAUSE_SECONDS", 0.02)
    monkeypatch.setenv("CGAN_MIRFLICKR_MIRROR", closed_port())
    return lambda url: monkeypatch.setenv("CGAN_MIRFLICKR_MIRROR", url)


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in entries.items():
            packed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
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


def test_mirflickr_is_downloaded_and_unpacked_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mirror: Callable[[str], None]
) -> None:
    """The annotations may lie at the top of their zip, as elsewhere, or in their folder with others beside it."""
    labels = {f"{ANNOTATIONS}/{name}": content for name, content in LABELS.items()} | {"__MACOSX/._sky.txt": b"x"}
    with serve(SITE | {SMALL[0].name: zipped(labels)}) as site:
        mirror(f"{closed_port()}x {site.url}deep/")
        download_mirflickr(tmp_path, SMALL)
        assert [request.path for request in site.requests] == [f"/deep/{archive.name}" for archive in SMALL]
        assert capsys.readouterr().err.startswith("MIRFLICKR-25000: 802kB to download and about 1.00MB to unpack, into")
        assert is_whole(tmp_path)
        download_mirflickr(tmp_path, SMALL)
        assert len(site.requests) == 2 and capsys.readouterr() == ("", "")


def test_a_killed_unpacking_is_repeated_and_never_taken_for_whole(tmp_path: Path) -> None:
    entries = {f"mirflickr/im{number}.jpg": NOISE.bytes(4_000) for number in range(1, 1_501)}
    archive = write(tmp_path / "mirflickr25k" / "mirflickr25k.zip", zipped(entries))
    target, gathered = archive.parent / "mirflickr", archive.parent / ".mirflickr.unpacking"
    code = "import sys, pathlib; from data.archives import unpack; unpack(*map(pathlib.Path, sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(archive), str(target)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (gathered / "mirflickr" / "im20.jpg").exists():
        assert process.poll() is None and time.monotonic() < deadline, "it did not get that far, or ended before"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    unpack(archive, target)
    assert not gathered.exists()
    assert {f"mirflickr/{path.name}": path.read_bytes() for path in target.iterdir()} == entries


def test_an_interrupted_unpacking_is_repeated_from_zips_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in SITE.items():
        write(tmp_path / "mirflickr25k" / name, content)
    extract = zipfile.ZipFile.extract

    def killed(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path) -> None:
        extract(packed, entry, place)
        if entry.filename.endswith("im2.jpg"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(zipfile.ZipFile, "extract", killed)
        download_mirflickr(tmp_path, SMALL)
    assert not (tmp_path / "mirflickr25k" / "mirflickr").exists()
    write(tmp_path / "mirflickr25k" / ".mirflickr.unpacking" / "mirflickr" / "im4.jpg", b"of an earlier one")
    download_mirflickr(tmp_path, SMALL)
    assert is_whole(tmp_path)


@pytest.mark.parametrize("name", SITE)
def test_a_damaged_zip_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    for other, content in SITE.items():
        write(tmp_path / "mirflickr25k" / other, content)
    damaged = bytearray(SITE[name])
    damaged[len(damaged) // 4] ^= 1
    path = write(tmp_path / "mirflickr25k" / name, bytes(damaged))
    with pytest.raises(DataError, match=r"(has the MD5|is damaged at|is not a whole zip file) .*delete it and run"):
        download_mirflickr(tmp_path, SMALL)
    assert path.read_bytes() == damaged and not (path.parent / "mirflickr").exists()


def test_a_file_without_a_name_is_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "changed.zip", zipped({"xyz": b"1"}).replace(b"xyz", b"\0yz"))
    assert "without a name" in str(find_fault(path, SMALL[0]))


def test_a_changed_zip_has_a_fault_or_unpacks(tmp_path: Path) -> None:
    """Damage raises errors of every kind, also of those packings that a flipped bit announces."""
    rng, whole, faults = random.Random(0), zipped(LABELS | {"long.txt": bytes(5_000)}), 0
    for number in range(100):
        changed = bytearray(whole)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        path = write(tmp_path / "changed.zip", bytes(changed))
        if find_fault(path, SMALL[0]) is None:
            unpack(path, tmp_path / str(number))
        else:
            faults += 1
    assert faults > 20


def test_other_bytes_from_a_mirror_are_refused_and_not_kept(tmp_path: Path, mirror: Callable[[str], None]) -> None:
    pages = dict.fromkeys(SITE, b"<html>please log in</html>")
    # Annotations, whose checksum is not known, come over https alone.
    with serve(pages) as site, pytest.raises(UnavailableError, match=r"not an https.* is not a whole zip file"):
        mirror(f"http://192.0.2.1/ {site.url}")
        download_mirflickr(tmp_path, SMALL)
    pages[SMALL[0].name] = LABELS_ZIP
    with serve(pages) as site, pytest.raises(UnavailableError, match=f"has the MD5 .* instead of {SMALL[1].md5}"):
        mirror(site.url)
        download_mirflickr(tmp_path, SMALL)
    assert {path.name for path in (tmp_path / "mirflickr25k").iterdir()} == {ANNOTATIONS, SMALL[0].name}


def test_a_zip_that_unpacks_to_far_too_much_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "mirflickr25k" / SMALL[0].name, zipped({"sky.txt": b"1\n" * (1 << 24)}))
    with pytest.raises(DataError, match=r"unpacks to more than .* bytes, so it is not the published file"):
        download_mirflickr(tmp_path, SMALL)
    assert not (tmp_path / "mirflickr25k" / ANNOTATIONS).exists()


def test_nothing_is_written_outside_the_folder(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    names = ("../evil.txt", f"{ANNOTATIONS}/../../evil.txt", f"{tmp_path}/evil.txt", "..\\evil.txt", "C:/evil.txt")
    with zipfile.ZipFile(buffer, "w") as packed:
        for name in names:
            packed.writestr(name, "x")
        link = zipfile.ZipInfo("out")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, str(tmp_path))
        packed.writestr("out/evil.txt", "x")
    archive = write(tmp_path / "deep" / "file.zip", buffer.getvalue())
    with pytest.raises(OSError, match="out"):  # What passes for a link is a file, in which nothing can lie.
        unpack(archive, archive.parent / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert {path.name for path in archive.parent.iterdir()} == {"file.zip", ".target.unpacking"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
