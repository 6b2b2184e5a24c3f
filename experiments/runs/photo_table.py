"""The paper's Table 2 of one run, as JSON, Markdown and HTML; every text in it is treated as hostile."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.runs.files import write_json, write_text
from experiments.runs.records import Weights

JSON, MARKDOWN, HTML = "table2.json", "table2.md", "table2.html"

THUMBNAIL = 200  # Longer side in pixels.
RIGHT = "✓"  # What marks a right tag: a sign, so that it shows without colour too.


@dataclass(frozen=True)
class PhotoRow:
    """One photo of Table 2."""

    number: int  # The photo's number in its data set.
    path: str  # Its image file; one that cannot be read is shown as a placeholder.
    user_tags: list[str]
    annotations: list[str]
    generated: list[tuple[str, float]]  # Best first, each with the share of samples that had it near.
    right: list[str] = field(default_factory=list)  # The generated tags that are true.


@dataclass(frozen=True)
class Table2:
    """The photos of Table 2 and what is said about them: the form of ``table2.json``."""

    title: str
    photos: list[PhotoRow]
    notice: str | None = None  # What a reader must know first, such as that the data is embedded.
    caption: str | None = None  # How the tags came about.
    weights: Weights | None = None  # The weights that generated them; None in files of older revisions.


@dataclass(frozen=True)
class Thumbnail:
    """A photo made small."""

    uri: str  # The JPEG as a ``data:`` address.
    width: int
    height: int


def write_table2(folder: Path, table: Table2) -> None:
    """Write ``table2.json``, ``table2.md`` and ``table2.html``, which needs no other file, into ``folder``."""
    write_json(folder / JSON, table)
    parts = [f"# {escape_markdown(table.title)}"]
    parts += [f"> {escape_markdown(table.notice)}"] if table.notice else []
    parts += [escape_markdown(table.caption)] if table.caption else []
    write_text(folder / MARKDOWN, "\n\n".join([*parts, photos_markdown(table.photos)]) + "\n")
    photos = [photo_values(row) for row in table.photos]
    about = {"title": table.title, "notice": table.notice, "caption": table.caption, "right_sign": RIGHT}
    write_text(folder / HTML, render("table2.html", **about, photos=photos))


def photos_markdown(rows: Sequence[PhotoRow]) -> str:
    """Return the photos as a Markdown table; right tags carry a sign, explained below it."""
    lines = ["| photo | user tags | annotations | generated tags (share of samples) |", "| --- | --- | --- | --- |"]
    for row in rows:
        signs = [f"{RIGHT} " * (tag in row.right) for tag, _ in row.generated]
        generated = [f"{sign}{tag} ({percent(share)})" for sign, (tag, share) in zip(signs, row.generated, strict=True)]
        cells = [f"{row.number} ({Path(row.path).name})"], row.user_tags, row.annotations, generated
        lines.append(f"| {' | '.join(', '.join(map(escape_markdown, cell)) or '—' for cell in cells)} |")
    return "\n".join([*lines, "", f"{RIGHT} the tag is among the photo's true ones."])


def photo_values(row: PhotoRow) -> dict[str, Any]:
    """Return what the macro ``photo_table`` of ``templates/photos.html`` takes of a photo."""
    words = row.annotations or row.user_tags
    return {
        "number": row.number,
        "file": Path(row.path).name,
        "thumbnail": thumbnail(row.path),
        "alt": f"Photo {row.number}" + (f": {', '.join(words[:8])}" if words else ""),
        "user_tags": row.user_tags,
        "annotations": row.annotations,
        "generated": [(tag, percent(share), tag in row.right) for tag, share in row.generated],
    }


def render(template: str, **values: Any) -> str:
    """Return a template of ``experiments/templates`` filled with ``values``, every one escaped, as UTF-8-ready text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("experiments", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return printable(environment.get_template(template).render(values))


def thumbnail(path: str | Path, pixels: int = THUMBNAIL) -> Thumbnail | None:
    """Return the photo small, upright and without metadata, ``pixels`` at its longer side; None if unreadable."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as photo:
            # Lets the JPEG decoder skip detail; twice the size leaves enough for a clean resize.
            photo.draft("RGB", (2 * pixels, 2 * pixels))
            small = ImageOps.exif_transpose(photo)
            if "A" in small.getbands() or "transparency" in small.info:
                layer = small.convert("RGBA")
                small = Image.new("RGBA", layer.size, "white")
                small.alpha_composite(layer)
            small = small.convert("RGB")
            small.thumbnail((pixels, pixels))
        packed = io.BytesIO()
        small.save(packed, "JPEG", quality=80, optimize=True)
    # Damaged files raise nearly anything (OSError, ValueError, SyntaxError, struct.error, decompression bombs), and
    # one photo must not cost the table.
    except Exception:
        return None
    text = base64.b64encode(packed.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{text}", small.width, small.height)


def percent(share: float) -> str:
    """Return a share in whole per cent; a small one does not read as none at all."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def escape_markdown(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, in a table's cell too: without markup, links or formulas."""
    line = " ".join(printable(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An at sign, the colon before // and the dot after www would make GitHub guess links.
    return re.sub(r"([\\`*_{}\[\]#|~$!@^]|:(?=//)|(?<=www)\.)", r"\\\1", line, flags=re.IGNORECASE)


def printable(text: str) -> str:
    """Return ``text`` with what no UTF-8 file or page may hold (lone surrogates, most control characters) as U+FFFD."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "�", text)
