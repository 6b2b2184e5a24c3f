"""Table 2 of a run: hostile tags do no harm in any form, photos of every kind are shown or named."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.runs import photo_table as table2
from experiments.runs.files import read_record
from experiments.runs.photo_table import PhotoRow, Table2, write_table2
from tests.experiments.html_page import Page

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "`code`",
    '"><img src=x onerror=alert(1)>',
    "</style><b>",
    "[link](javascript:alert(1))",
    "**bold**_x_",
    "{{ 7 * 7 }}",
    "&lt;i&gt;",
    "$x$",
    "www.example.org",
    "שלום",
]


def photo(path: Path, size: tuple[int, int] = (60, 40), mode: str = "RGB", **options: object) -> Path:
    Image.new(mode, size).save(path, **options)
    return path


def row(path: Path, **changes: object) -> PhotoRow:
    generated = [("dog", 0.9), ("cat", 0.5), ("animals", 0.002)]
    made = PhotoRow(7, str(path), ["dog", "beach"], ["animals"], generated, ["dog", "animals"])
    return replace(made, **changes)


def embedded(attributes: dict[str, str]) -> Image.Image:
    kind, data = attributes["src"].split(",", 1)
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_hostile_tags_are_text_in_the_page(tmp_path: Path) -> None:
    generated = [(tag, 0.5) for tag in HOSTILE]
    rows = [row(photo(tmp_path / "im7.jpg"), user_tags=HOSTILE, annotations=HOSTILE, generated=generated)]
    write_table2(tmp_path, Table2(HOSTILE[0], rows, HOSTILE[3], HOSTILE[4]))
    found = Page(tmp_path / table2.HTML)
    names = {name for name, _ in found.elements}
    assert not names & {"script", "b", "i", "a", "iframe", "object"}
    assert len(found.all("img")) == 1 and not any("onerror" in attributes for _, attributes in found.elements)
    assert [tag for tag in found.tags if tag != "im7.jpg"] == HOSTILE * 3
    assert HOSTILE[3] in found.text() and HOSTILE[4] in found.text() and found.text().count(HOSTILE[0]) == 4
    assert found.all("img")[0]["alt"].startswith(f"Photo 7: {HOSTILE[0]}, a|b")


def test_hostile_tags_keep_the_markdown_table_whole(tmp_path: Path) -> None:
    rows = [row(tmp_path / "a|b.jpg", user_tags=[tag], annotations=["x\n| y"], generated=[]) for tag in HOSTILE]
    write_table2(tmp_path, Table2("<b>", rows, "*", "[x](y)"))
    text = (tmp_path / table2.MARKDOWN).read_text(encoding="utf-8")
    assert text.startswith("# &lt;b&gt;\n\n> \\*\n\n\\[x\\](y)\n\n| photo |")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for line, tag in zip(lines[2:], HOSTILE, strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert len(cells) == 4 and cells[2:] == ["x \\| y", "—"]
        assert not re.search(r"[<>]|(?<!\\)[`*_\[$]|&(?!lt;|gt;|amp;)", cells[1])
        shown = re.sub(r"\\(\W|_)", r"\1", cells[1])
        assert shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == tag


def test_the_page_is_self_contained_and_right_tags_are_marked_in_words_and_by_a_sign(tmp_path: Path) -> None:
    table = Table2("Tags", [row(photo(tmp_path / "im7.jpg"))], "embedded data", "made so")
    write_table2(tmp_path, table)
    assert read_record(tmp_path / table2.JSON, Table2) == table
    found = Page(tmp_path / table2.HTML)
    addresses = [value for _, a in found.elements for key, value in a.items() if key in ("src", "href", "srcset")]
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert not any(word in found.source for word in ("url(", "@import", "http:", "https:"))
    shown = found.text()
    assert "embedded data" in shown and "made so" in shown
    assert "✓ right: dog 90%" in shown and "✓ right: animals <1%" in shown
    assert "cat 50%" in shown and "right: cat" not in shown
    markdown = (tmp_path / table2.MARKDOWN).read_text(encoding="utf-8")
    assert "✓ dog (90%), cat (50%), ✓ animals (&lt;1%)" in markdown


def test_a_photo_is_turned_upright_made_small_and_freed_of_metadata(tmp_path: Path) -> None:
    """Stored lying, red half to the left; EXIF orientation 6 turns it clockwise, so red comes on top."""
    pixels = np.zeros((400, 800, 3), np.uint8)
    pixels[:, :400, 0], pixels[:, 400:, 2] = 255, 255
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    Image.fromarray(pixels).save(tmp_path / "im7.jpg", exif=exif)
    write_table2(tmp_path, Table2("t", [row(tmp_path / "im7.jpg")]))
    shown = Page(tmp_path / table2.HTML).all("img")[0]
    assert (shown["width"], shown["height"]) == ("100", "200")
    small = embedded(shown)
    assert small.size == (100, 200) and small.format == "JPEG" and not small.getexif()
    top, bottom = (np.asarray(small)[rows].mean((0, 1)) for rows in (slice(0, 90), slice(110, 200)))
    np.testing.assert_allclose([top, bottom], [[255, 0, 0], [0, 0, 255]], atol=8)


def test_every_kind_of_picture_is_shown(tmp_path: Path) -> None:
    for mode in ("1", "L", "P", "LA", "RGBA", "CMYK", "I;16"):
        thumbnail = table2.thumbnail(photo(tmp_path / ("im7.jpg" if mode == "CMYK" else "im7.png"), mode=mode))
        assert thumbnail is not None and (thumbnail.width, thumbnail.height) == (60, 40), mode
        shown = embedded({"src": thumbnail.uri})
        # Transparent is white on paper, not black.
        expected = 255 if mode in ("LA", "RGBA", "CMYK") else 0
        assert shown.mode == "RGB" and abs(float(np.asarray(shown).mean()) - expected) < 3, mode


def test_an_unreadable_photo_is_a_placeholder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = photo(tmp_path / "whole.jpg", (300, 300)).read_bytes()
    contents = {"torn.jpg": whole[: len(whole) // 2], "text.jpg": b"<script>", "empty.jpg": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    photo(tmp_path / "bomb.png", (500, 500))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    names = [*contents, "folder.jpg", "gone.jpg", "bomb.png", "whole.jpg"]
    write_table2(tmp_path, Table2("t", [row(tmp_path / name) for name in names]))
    found = Page(tmp_path / table2.HTML)
    assert found.text().count("missing or cannot be read") == len(names) - 1 and len(found.all("img")) == 1
    assert str(tmp_path) not in found.text()
