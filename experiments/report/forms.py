"""Give a table of the report the form of a Markdown, CSV or LaTeX file. Knows nothing of what the table holds."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from experiments.runs.photo_table import escape_markdown, printable

if TYPE_CHECKING:
    import pandas as pd

#: Columns of running text, which LaTeX must break into lines.
WIDE = ("Model", "Run", "State", "Method")

#: What LaTeX would read as anything but itself.
_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"±": r"$\pm$", "−": "$-$", "—": "---", "–": "--"},
    }
)


def files(
    stem: str,
    title: str,
    caption: str,
    blocks: Sequence[tuple[str, pd.DataFrame]],
    values: pd.DataFrame,
    notes: Sequence[str],
    body: Sequence[str] = (),
) -> dict[str, str]:
    """Return the contents of ``stem``.md, ``stem``.csv and ``stem``.tex.

    ``blocks`` are headings, each with a table of texts; ``values`` are the numbers, for the CSV file. ``body`` is the
    Markdown between caption and notes, if that is not just the blocks.
    """
    parts = [f"# {title}", escape_markdown(caption), *(body or [markdown(*block) for block in blocks])]
    parts += ["There are no runs."] if len(parts) == 2 else []
    parts += ["## Notes", "\n".join(f"- {escape_markdown(note)}" for note in notes)] if notes else []
    head = [r"% Written by python -m experiments.tables, to be \input; needs the package booktabs."]
    head += [f"% note: {' '.join(printable(note).split())}" for note in notes]
    tex = [_latex(*block, caption, f"tab:{stem}-{number}") for number, block in enumerate(blocks, start=1)]
    return {
        f"{stem}.md": printable("\n\n".join(parts)) + "\n",
        f"{stem}.csv": as_csv(values),
        f"{stem}.tex": "\n".join([*head, "", *tex]),
    }


def markdown(heading: str, table: pd.DataFrame) -> str:
    """Return a heading, if there is one, and a table, every cell shown as it is."""
    text = table.map(escape_markdown).to_markdown(index=False, disable_numparse=True) if len(table) else ""
    return "\n\n".join(filter(None, [f"## {escape_markdown(heading)}" if heading else "", text]))


def _latex(heading: str, table: pd.DataFrame, caption: str, label: str) -> str:
    def escape(text: str) -> str:
        return " ".join(printable(text).split()).translate(_LATEX)

    spec = "".join(r"p{0.16\linewidth}" if name in WIDE else "l" for name in table.columns) or "l"
    caption = escape(f"{heading}. {caption}" if heading else caption)
    escaped = table.map(escape).rename(columns=escape)
    text = escaped.to_latex(index=False, escape=False, caption=caption, label=label, column_format=spec)
    small = "\\centering\\scriptsize\\setlength{\\tabcolsep}{3pt}\n\\begin{tabular}"
    return text.replace(r"\begin{tabular}", small, 1)


def as_csv(table: pd.DataFrame) -> str:
    """Return numbers at full precision; a text that a spreadsheet would take for a formula gets an apostrophe."""

    def safe(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return ("'" if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else "") + printable(value)

    return table.map(safe).to_csv(index=False, lineterminator="\n")


def number(value: Any) -> bool:
    """Return whether there is a number: not None, NaN or pandas' NA."""
    return isinstance(value, Real) and bool(value == value)


def form(value: Any, digits: str) -> str:
    """Return a number with a true minus sign; nothing where there is none."""
    return f"{value:{digits}}".replace("-", "−") if number(value) else ""
