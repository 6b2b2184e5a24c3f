"""The project's one way to download a file: resumable, checked, complete or not there at all.

Knows nothing of any data set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from data import DataError


class UnavailableError(DataError):
    """Data that is not on disk and could not be brought there; ``reason`` says why in a few words."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def fetch(
    urls: str | Sequence[str],
    destination: Path,
    checksum: str | None = None,
    verify: Callable[[Path], object] | None = None,
    progress: bool = True,
) -> Path:
    """Download the first of ``urls`` that works to ``destination``."""
    raise UnavailableError(f"{destination} cannot be downloaded yet: put it there", reason="no downloads yet")
