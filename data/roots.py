"""Find the folder of all datasets: the argument, else the environment's ``CGAN_DATA``, else ``data/raw``.

Creates nothing and looks into no data set.
"""

from __future__ import annotations

import os
from pathlib import Path

from data import DataError

#: The environment variable that names the data root.
VARIABLE = "CGAN_DATA"


def data_root(argument: str | Path | None = None) -> Path:
    """Return the folder in which every dataset has its own: ``argument``, else ``$CGAN_DATA``, else ``data/raw``.

    A root that was named must exist: a mistyped one would otherwise be filled by downloads, or be taken for a
    folder without data. Only the default one may be missing; the first download creates it. An empty name
    counts as none.
    Raises ``DataError`` when the named root does not exist or is not a folder.
    """
    if argument is not None and str(argument):
        root, source = Path(argument).expanduser(), "the data root"
    elif os.environ.get(VARIABLE):
        root, source = (
            Path(os.environ[VARIABLE]).expanduser(),
            f"the data root of the environment's {VARIABLE}",
        )
    else:
        return default_root()
    # What this function returned may be given to it again.
    if root == default_root() and not root.exists():
        return root
    if not root.exists():
        raise DataError(f"{source}, {root}, does not exist: correct its name, or create it (mkdir -p) to fill it")
    if not root.is_dir():
        raise DataError(f"{source}, {root}, is not a folder: name the folder that holds the data sets")
    return root


def describe_root(root: Path) -> str:
    """Return ``root`` for a message, with a reminder of ``CGAN_DATA`` where nobody named a root."""
    reminder = f" (the default, because the environment's {VARIABLE} is not set)"
    return f"{root}{reminder if root == default_root() and not os.environ.get(VARIABLE) else ''}"


def default_root() -> Path:
    """Return ``data/raw`` of the checkout this module runs from; of the current folder where there is none."""
    checkout = Path(__file__).resolve().parent.parent
    return (checkout if (checkout / "setup.cfg").is_file() else Path.cwd()) / "data" / "raw"
