"""Write Tables 1 and 2 and the details as Markdown, CSV and LaTeX: ``python -m experiments.tables``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import UsageError
from experiments.runs import cli
from experiments.runs.files import write_text

if TYPE_CHECKING:
    from experiments.report.records import Runs

EMBEDDED = " The data is embedded: no number here stands beside the paper's."


@dataclass(frozen=True)
class Command:
    """Write the paper's Table 1 and Table 2 from the results of all runs, as Markdown, CSV and LaTeX."""

    runs: tuple[Path, ...] = (Path("runs"),)
    """Folders to search, with all below them, for results; several may be given."""
    out: Path = Path("results")
    """Folder to write table1.md, table1.csv, table1.tex and so on into."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    command = cli.parse(Command, "experiments.tables", argv)
    if command.out.exists() and not command.out.is_dir():
        raise UsageError(f"--out {command.out}: a file is in the way, give a folder")
    runs = load_runs(command.runs)
    from experiments.report import digits
    from experiments.runs.photo_table import printable

    contents = all_files(runs)
    for name, content in contents.items():
        write_text(command.out / name, content)
    for embedded, title in ((False, ""), (True, "\nOn embedded data:\n")):
        shown = digits.text(digits.table1(runs, embedded=embedded), digits.TABLE)
        if len(shown):
            table = shown.to_markdown(index=False, tablefmt="simple", disable_numparse=True)
            print(title + re.sub("[−—–]", "-", printable(table)))
    print(f"\nwritten into {command.out}: {', '.join(contents)}")
    for note in runs.notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def load_runs(folders: Sequence[Path]) -> Runs:
    """Return all runs below ``folders``; raises ``UsageError`` without one, or for a missing one but the default."""
    if not folders:
        raise UsageError("--runs: name at least one folder that holds runs")
    for folder in folders:
        if not folder.is_dir() and folder not in Command.runs:
            raise UsageError(f"--runs {folder}: there is no such folder, give one that holds runs")
    from experiments.report.records import load

    return load(folders)


def all_files(runs: Runs) -> dict[str, str]:
    """Return name and content of every file of the tables; what is wrong with photos is added to the notes."""
    import pandas as pd

    from experiments.report import digits, forms, photos

    out: dict[str, str] = {}
    for embedded, suffix, also in ((True, "-embedded", EMBEDDED), (False, "", "")):
        out |= photos.files(f"table2{suffix}", runs, embedded, photos.CAPTION + also)
        rows = digits.table1(runs, embedded=embedded)
        blocks = digits.by_section(rows)
        out |= forms.files(f"table1{suffix}", "Table 1: digits", digits.LEGEND + also, blocks, rows, runs.notes)
    changed = digits.details(runs)  # ``rows`` are those on real data.
    parts = [part for part in (digits.samples(runs, rows), changed) if len(part)]
    values, caption = pd.concat(parts, ignore_index=True) if parts else changed, " ".join(digits.CAPTIONS.values())
    blocks = digits.detail_blocks(runs, rows, changed)
    return dict(sorted({**out, **forms.files("details", "Details", caption, blocks, values, runs.notes)}.items()))


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
