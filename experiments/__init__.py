"""What a person runs: the paper's experiments, built from ``cgan``, ``embeddings`` and ``data``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


class UsageError(Exception):
    """A command cannot do what was asked; the message says what is wrong, where, and how to fix it.

    Not a ``ValueError``: command-line parsers catch those and replace the message by their own.
    """


def _check_packages() -> None:
    """End ``python -m experiments...`` where a folder of the same name hides a package that belongs to this one.

    ``python -m`` looks for modules in the current folder first. Elsewhere, raise ``ImportError``.
    """
    ours = Path(__file__).resolve().parents[1]
    for name in ("cgan", "data", "embeddings"):
        spec = importlib.util.find_spec(name)
        found = (spec.origin or str(spec.submodule_search_locations)) if spec else "nowhere"
        if not Path(found).resolve().is_relative_to(ours / name):
            error = (
                f"Python finds the package {name} at {found}, not at {ours / name}: run this command from another "
                "folder, or install this project (pip install .) and use its console commands, such as cgan-mnist"
            )
            if sys.argv[:1] == ["-m"]:  # So Python calls a module that it is still looking for.
                print(f"error: {error}", file=sys.stderr)
                raise SystemExit(2)
            raise ImportError(error)


_check_packages()
