"""Check a published zip and unpack it: no more bytes than announced, whole or not at all. Downloads nothing."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

from data.download import exclusive

#: Bytes by which a zip, or what is in it, may differ from the published size.
_SLACK = 1 << 24


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
            if not all(entry.filename for entry in packed.infolist()):
                return "holds a file without a name, so it is not the published file"
            torn = packed.testzip()
    except Exception as error:  # A damaged zip raises errors of every kind; of the disk are OSErrors with a number.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        return f"is not a whole zip file ({error})"
    return f"is damaged at {torn}" if torn else None


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip without ``find_fault`` to the folder ``target``, which appears when all of it is there.

    A zip with a folder of the target's name gives what is in that folder; one without it, all its files. Nothing is
    written outside: ``zipfile`` takes ".." and absolute names for plain ones, and links for files.
    """
    from tqdm import tqdm

    gathered = target.with_name(f".{target.name}.unpacking")
    with exclusive(target):
        if target.is_dir():
            return
        shutil.rmtree(gathered, ignore_errors=True)
        gathered.mkdir()
        with zipfile.ZipFile(archive) as packed:
            bar = tqdm(packed.infolist(), desc=f"unpacking {archive.name}", unit="file", disable=None, leave=False)
            for entry in bar:
                packed.extract(entry, gathered)
        # The folder must not get its name on the disk before its files have their bytes there.
        if hasattr(os, "sync"):
            os.sync()
        inside = gathered / target.name
        os.replace(inside if inside.is_dir() else gathered, target)
        shutil.rmtree(gathered, ignore_errors=True)
