"""The package's own names: what is exported, what importing it loads, and what a type checker reads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import cgan


def test_every_name_is_there_and_nothing_heavy_is_loaded_before_it_is_asked_for() -> None:
    code = "import sys, cgan; print([m for m in ('torch', 'numpy', 'msgspec') if m in sys.modules], dir(cgan))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] [") and all(f"'{name}'" in done.stdout for name in cgan.__all__)
    names: dict[str, object] = {}
    exec("from cgan import *", names)
    assert sorted(names.keys() - {"__builtins__"}) == sorted(cgan.__all__) and not hasattr(cgan, "Wgan")
    # What a type checker reads is a list of its own.
    tree = ast.walk(ast.parse(Path(cgan.__file__).read_text()))
    typed = {alias.name for node in tree if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed >= {*cgan.__all__} - {"CganError"} and Path(cgan.__file__).with_name("py.typed").exists()
