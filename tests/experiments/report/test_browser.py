"""The report in headless Chromium: pictures load, nothing overflows, nothing runs, photos enlarge, dark is dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.report import __main__ as report
from tests.experiments import browser
from tests.experiments.report.builders import REFERENCE
from tests.experiments.report.test_page import hostile_runs

#: Opens every part that folds, waits for every picture, then says what is wrong.
LOOK = """(async () => {
  document.querySelectorAll("details").forEach(part => part.open = true);
  const images = [...document.images];
  await Promise.all(images.map(image => image.decode().catch(() => {})));
  const free = element => !element.closest(".large[popover], .unseen, .skip, thead");
  const wide = [...document.querySelectorAll("body *")].filter(
    element => free(element) && element.getBoundingClientRect().right > innerWidth + 1);
  const button = document.querySelector("button.zoom");
  button.focus();
  button.click();
  const large = document.querySelector(":popover-open");
  const open = large.querySelector("img").getBoundingClientRect().width;
  const focused = document.activeElement.textContent;
  large.querySelector("button").click();
  const style = getComputedStyle(document.body);
  return {
    scroll: document.documentElement.scrollWidth - innerWidth,
    images: images.length,
    broken: images.filter(image => !(image.complete && image.naturalWidth > 0)).map(image => image.alt),
    wide: wide.slice(0, 5).map(element => element.outerHTML.slice(0, 200)),
    small: button.querySelector("img").getBoundingClientRect().width,
    open, focused, closed: !document.querySelector(":popover-open"),
    colours: [style.backgroundColor, style.color],
  };
})()"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, mnist_run: Path) -> str:
    """The report on digits of a real run, the reference results, and scenes whose every text is hostile."""
    folder = tmp_path_factory.mktemp("browser")
    hostile_runs(folder / "runs")
    runs = [folder / "runs", mnist_run.parent.parent, REFERENCE]
    assert report.main(["--runs", *map(str, runs), "--out", str(folder / "report.html")]) == 0
    return f"file://{folder}/report.html"


@pytest.mark.parametrize(("width", "dark"), [(390, True), (768, False), (1440, False)])
def test_the_page_in_a_browser(page: browser.Page, address: str, width: int, dark: bool) -> None:
    page.open(address, width, dark=dark)
    found = page.run(LOOK)
    assert found["images"] >= 30 and found["broken"] == []
    assert found["scroll"] <= 0 and found["wide"] == []
    assert found["open"] > found["small"] and found["focused"] == "Close" and found["closed"]
    paper, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in found["colours"])
    assert (paper < 0.2 < 0.8 < ink) if dark else (ink < 0.2 < 0.9 < paper)
    # Neither a message of the page's own, nor of a hostile tag, nor of one that was kept from running.
    assert page.console == []
