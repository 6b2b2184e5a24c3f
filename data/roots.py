"""Find the folder of all datasets. Creates nothing and looks into no data set."""

from __future__ import annotations

import os
from pathlib import Path

from data import DataError

#: The environment variable that names the data root.
VARIABLE = "CGAN_DATA"


def data_root(argument: str | Path | None = None) -> Path:
    """Return the folder in which every dataset has its own: ``argument``, else ``$CGAN_DATA``, else ``data/raw``.

    Raises ``DataError`` when a root that was named is no folder: a mistyped one would otherwise be filled by downloads,
    or be taken for a folder without data. Only the default one may be missing; the first download creates it.
    """
    named = argument or os.environ.get(VARIABLE) or default_root()
    root, source = Path(named).expanduser(), "the data root" if argument else f"the data root of ${VARIABLE}"
    if root == default_root():  # What this function returned may be given to it again.
        return root
    if not root.is_dir():
        wrong = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{source}, {root}, {wrong}: correct its name, or create it (mkdir -p) to fill it")
    return root


def describe_root(root: Path) -> str:
    """Return ``root`` for a message, with a reminder of ``CGAN_DATA`` where nobody named a root."""
    unset = root == default_root() and not os.environ.get(VARIABLE)
    return f"{root} (the default, because the environment's {VARIABLE} is not set)" if unset else str(root)


def default_root() -> Path:
    """Return ``data/raw`` of the checkout this module runs from; of the current folder where there is none."""
    checkout = Path(__file__).resolve().parent.parent
    return (checkout if (checkout / "setup.cfg").is_file() else Path.cwd()) / "data" / "raw"
