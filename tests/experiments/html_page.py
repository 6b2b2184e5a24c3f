"""An HTML file as its elements and texts, to be asked in tests."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

#: Elements without an end tag.
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, and their text with the ids of the sections it stands in."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, list[str]]] = []
        self.tags: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self.open, "elements that are never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)
        if tag == "bdi":
            self.tags.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        within = [tag for tag, _ in self.open]
        if not {"style", "title"} & set(within):
            self.texts.append((data, [a.get("aria-labelledby", "") for tag, a in self.open if tag == "section"]))
        if "bdi" in within:
            self.tags[-1] += data

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]

    def text(self, section: str | None = None) -> str:
        return " ".join(" ".join(t for t, sections in self.texts if section is None or section in sections).split())
