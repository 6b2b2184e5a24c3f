"""A table of texts as Markdown, LaTeX, CSV or for a terminal, every cell escaped. Knows nothing of what it holds."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.runs.photo_table import escape_markdown, printable

#: Stands for the rows of a table without any.
EMPTY = "There are no runs."


@dataclass(frozen=True)
class Table:
    """A table as text, before it takes a form."""

    columns: tuple[str, ...]
    blocks: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    """Heading and rows, each as long as ``columns``."""
    wide: tuple[int, ...] = ()
    """Columns of running text, which LaTeX must break into lines."""


def document(title: str, parts: Iterable[str], notes: Sequence[str]) -> str:
    """A Markdown file: a title, ``parts`` that are Markdown already, the notes."""
    listed = ["## Notes", "\n".join(f"- {escape_markdown(note)}" for note in notes)] if notes else []
    return "\n\n".join([f"# {escape_markdown(title)}", *parts, *listed]) + "\n"


def markdown(table: Table) -> str:
    """A heading and a Markdown table a block."""
    parts = []
    for heading, rows in table.blocks:
        lines = [table.columns, tuple("---" for _ in table.columns)]
        lines += [tuple(escape_markdown(cell) for cell in row) for row in rows]
        parts.append(f"## {escape_markdown(heading)}\n\n" + "\n".join(f"| {' | '.join(x)} |" for x in lines))
    return "\n\n".join(parts) or EMPTY


def plain(table: Table) -> str:
    """The table for a terminal, aligned by spaces, in characters that every terminal has."""
    lines = [table.columns, *(row for _, rows in table.blocks for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]

    def aligned(cells: Iterable[str]) -> str:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        return re.sub("[−—–]", "-", printable(line))

    out = [aligned(table.columns)]
    for heading, rows in table.blocks:
        out += ["", f"{heading}:", *map(aligned, rows)]
    return "\n".join(out)


def as_csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """One header row, then raw values: numbers at full precision, nothing where there is none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: printable(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def latex_file(tables: Iterable[str], notes: Sequence[str]) -> str:
    r"""A file to ``\input``; it needs no package. Notes are comments in it."""
    lines = [
        "% Written by python -m experiments.tables, to be \\input. Tables with many columns need a landscape page, and",
        "% tags in other scripts than the Latin one XeLaTeX or LuaLaTeX.",
    ]
    lines += [f"% note: {' '.join(printable(note).split())}" for note in notes]
    return "\n".join([*lines, "", "\n\n".join(tables)]) + "\n"


def latex(table: Table, caption: str, label: str) -> str:
    r"""A ``table`` environment with a block under each heading."""
    n = len(table.columns)
    spec = "".join(r"p{0.2\linewidth}" if i in table.wide else "l" for i in range(n))
    lines = [
        r"\begin{table}",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape_latex(caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\hline",
        " & ".join(map(escape_latex, table.columns)) + r" \\",
    ]
    for heading, rows in table.blocks:
        lines.append(r"\hline")
        if heading:
            lines.append(rf"\multicolumn{{{n}}}{{l}}{{{escape_latex(heading)}}} \\")
        for row in rows:
            cells = [escape_latex(cell) for cell in row]
            # Narrow columns of justified text are all gaps; the group keeps the command from the row's end.
            cells = [rf"{{\raggedright {cell}\par}}" if i in table.wide else cell for i, cell in enumerate(cells)]
            lines.append(" & ".join(cells) + r" \\")
    if not table.blocks:
        lines += [r"\hline", rf"\multicolumn{{{n}}}{{l}}{{{EMPTY}}} \\"]
    return "\n".join([*lines, r"\hline", r"\end{tabular}", r"\end{table}"])


#: What LaTeX would read as anything but itself. Brackets and asterisks count after a line's end.
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "—": "---",
    "–": "--",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    """``text`` so that LaTeX sets it as it is, on one line of the source."""
    line = "".join(_LATEX.get(sign, sign) for sign in re.sub("-(?=-)", "-\0", " ".join(printable(text).split())))
    # Two hyphens would be set as a dash; the empty group between them may only come once braces are escaped.
    return line.replace("\0", "{}")
