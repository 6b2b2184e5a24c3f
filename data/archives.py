"""Check a published zip and unpack it: nothing outside its folder, no more bytes than announced, whole or not at all.

Downloads nothing; knows no dataset.
"""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data import DataError
from data.download import exclusive

#: Bytes by which a zip, or what is in it, may differ from the published size.
_SLACK = 1 << 24

#: What reading a damaged or foreign zip raises; RuntimeError is an encrypted one.
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, RuntimeError, ValueError, OSError),
)


class Archive(NamedTuple):
    """One published zip: its name, the folder that it is unpacked to, its size in bytes, and its MD5 if known."""

    name: str
    target: str
    size: int
    md5: str | None

    @property
    def max_bytes(self) -> int:
        """Return the size from which a zip is not the published one, packed or unpacked."""
        return 2 * self.size + _SLACK


def find_fault(path: Path, archive: Archive) -> str | None:
    """Return what is wrong with a zip, in words that follow its name; None if nothing is.

    Where no MD5 is known, every file in it must have the checksum (CRC-32) that the zip itself states.
    """
    import pooch

    if archive.md5:
        found = pooch.file_hash(str(path), alg="md5")
        return None if found == archive.md5 else f"has the MD5 {found} instead of {archive.md5}"
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > archive.max_bytes:
                return f"unpacks to more than {archive.max_bytes:,} bytes, so it is not the published file"
            torn = packed.testzip()
    except _ZIP_ERRORS as error:
        if _is_of_the_disk(error):
            raise
        return f"is not a whole zip file ({error})"
    return f"is damaged at {torn}" if torn else None


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip to the folder ``target``, which appears when all of it is there, and not before.

    A zip with a folder of the target's name gives what is in that folder; one without it, all its files.
    Raises ``DataError`` before anything is written when an entry is a link or would fall outside, and when the zip
    is damaged.
    """
    from tqdm import tqdm

    gathered = target.with_name(f".{target.name}.unpacking")
    with exclusive(target):
        if target.is_dir():
            return
        shutil.rmtree(gathered, ignore_errors=True)
        try:
            with zipfile.ZipFile(archive) as packed:
                entries = packed.infolist()
                if foreign := next((entry for entry in entries if not _stays_inside(entry)), None):
                    raise DataError(
                        f"{archive} holds {foreign.filename!a}, a link or a name that leads out of its folder, so it "
                        "is not the published file, and nothing was unpacked: delete it and run again to download it "
                        "again"
                    )
                for entry in tqdm(entries, desc=f"unpacking {archive.name}", unit="file", disable=None, leave=False):
                    packed.extract(entry, gathered)  # Reading to the end compares the checksum.
        except _ZIP_ERRORS as error:
            if _is_of_the_disk(error):
                raise
            raise DataError(
                f"{archive} cannot be unpacked ({error}): delete it and run again to download it again"
            ) from error
        if not gathered.is_dir():
            raise DataError(f"{archive} holds no file: delete it and run again to download it again")
        # The folder must not get its name on the disk before its files have their bytes there.
        if hasattr(os, "sync"):
            os.sync()
        inside = gathered / target.name
        os.replace(inside if inside.is_dir() else gathered, target)
        shutil.rmtree(gathered, ignore_errors=True)


def _is_of_the_disk(error: Exception) -> bool:
    """Return whether the disk, not the zip, is at fault: bzip2 and offsets that lead nowhere raise OSError as well."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _stays_inside(entry: zipfile.ZipInfo) -> bool:
    """Return whether an entry is a plain file or folder below the folder that it is unpacked to, on every system."""
    place, kind = PurePosixPath(entry.filename), stat.S_IFMT(entry.external_attr >> 16)
    outside = place.is_absolute() or ".." in place.parts or "\\" in entry.filename or ":" in entry.filename
    return bool(place.parts) and not outside and kind in (0, stat.S_IFREG, stat.S_IFDIR)
