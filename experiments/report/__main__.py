"""Write one page that shows all runs: ``python -m experiments.report [--runs runs/] [--out results/report.html]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.report.tables import load_runs
from experiments.runs import cli
from experiments.runs.files import check_output, write_text


@dataclass(frozen=True)
class Command:
    """Write one self-contained page about all runs: digits, claims, tables, photos, details, provenance."""

    runs: tuple[Path, ...] = (Path("runs"),)
    """Folders to search, with all below them, for results; several may be given."""
    out: Path = Path("results/report.html")
    """The page to write."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    command = cli.parse(Command, "experiments.report", argv)
    check_output(command.out, "--out", ".html")
    runs = load_runs(command.runs)
    from experiments.report.page import build

    page = build(runs, command.runs)
    write_text(command.out, page)
    count = f"{len(runs.table)} run{'s' * (len(runs.table) != 1)}"
    print(f"{command.out}: {count}, {len(page.encode()) / 1e6:.1f} MB, to be opened in any browser")
    for note in runs.notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
