"""The report in headless Chromium: pictures load, nothing overflows, nothing runs, photos enlarge, dark is dark.

A page around the report measures it in frames as wide as a phone, a tablet and a desktop screen.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.experiments import commands
from tests.experiments.report.builders import REFERENCE
from tests.experiments.report.test_page import hostile_runs

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CGAN_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium, or name it in CGAN_CHROMIUM"
)

WIDTHS = (390, 768, 1440)

#: Opens every part that folds, waits for every picture, then says what is wrong, and sends it back.
AROUND = """<!doctype html><meta charset="utf-8"><body><script>
async function look(width) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  const loaded = new Promise(resolve => frame.onload = resolve);
  frame.src = "report.html";
  document.body.append(frame);
  await loaded;
  const page = frame.contentDocument, view = frame.contentWindow;
  page.querySelectorAll("details").forEach(part => part.open = true);
  const images = [...page.images];
  await Promise.all(images.map(image => image.decode().catch(() => {})));
  const free = element => !element.closest(".large[popover], .unseen, .skip, thead");
  const wide = [...page.querySelectorAll("body *")].filter(
    element => free(element) && element.getBoundingClientRect().right > view.innerWidth + 1);
  const button = page.querySelector("button.zoom");
  button.focus();
  button.click();
  const large = page.querySelector(":popover-open");
  const open = large && large.querySelector("img").getBoundingClientRect().width;
  const focused = large && page.activeElement.textContent;
  large && large.querySelector("button").click();
  return {
    inner: view.innerWidth,
    scroll: page.documentElement.scrollWidth,
    images: images.length,
    broken: images.filter(image => !(image.complete && image.naturalWidth > 0)).map(image => image.alt),
    wide: wide.slice(0, 5).map(element => element.outerHTML.slice(0, 200)),
    small: button.querySelector("img").getBoundingClientRect().width,
    open, focused, closed: !page.querySelector(":popover-open"),
    background: view.getComputedStyle(page.body).backgroundColor,
    ink: view.getComputedStyle(page.body).color,
    scripts: page.scripts.length,
  };
}
(async () => {
  let found;
  try { found = await Promise.all([WIDTHS].map(look)); } catch (error) { found = {error: String(error)}; }
  await fetch("found", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""

LOUD = """<!doctype html><script>console.log("heard"); fetch("found", {method: "POST", body: "[]"})</script>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and collects what the page around the report sends back."""

    found: queue.Queue[Any] = queue.Queue()

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, mnist_run: Path) -> Iterator[str]:
    """Serve the report on digits of a real run, the reference results, and scenes whose every text is hostile."""
    folder = tmp_path_factory.mktemp("browser")
    hostile_runs(folder / "runs")
    runs = [folder / "runs", mnist_run.parent.parent, REFERENCE]
    done = commands.run("report", "--runs", *runs, "--out", folder / "report.html")
    assert done.returncode == 0, done.stderr
    (folder / "around.html").write_text(AROUND.replace("WIDTHS", ", ".join(map(str, WIDTHS))), encoding="utf-8")
    (folder / "loud.html").write_text(LOUD, encoding="utf-8")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def browse(address: str, profile: Path, *flags: str) -> tuple[Any, list[str]]:
    """Return what the page at ``address`` sent back, and what was written on the console until then."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    command += [f"--user-data-dir={profile}", "--enable-logging=stderr", *flags, "--window-size=1500,1000", address]
    log = profile / "log"
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        try:
            found = Handler.found.get(timeout=240)
            time.sleep(2)  # The console comes by another way, and may come later.
        except queue.Empty:
            raise AssertionError(log.read_text(errors="replace")) from None
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
    return found, [line for line in log.read_text(errors="replace").splitlines() if "CONSOLE" in line]


def look(address: str, profile: Path, *flags: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what the page around the report found, a record a width, and the console."""
    found, console = browse(f"{address}/around.html", profile, *flags)
    assert isinstance(found, list), found
    return found, console


def brightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / (3 * 255)


def test_the_page_in_a_browser(address: str, tmp_path: Path) -> None:
    found, console = look(address, tmp_path)
    assert [record["inner"] for record in found] == list(WIDTHS)
    for record in found:
        assert record["images"] >= 30 and record["broken"] == []
        assert record["scroll"] <= record["inner"] and record["wide"] == []
        assert record["open"] > record["small"] and record["focused"] == "Close" and record["closed"]
        assert record["scripts"] == 0
        assert brightness(record["background"]) > 0.9 and brightness(record["ink"]) < 0.2
    # Neither a message of the page's own, nor of a hostile tag, nor of one that was kept from running.
    assert console == []


def test_dark_mode(address: str, tmp_path: Path) -> None:
    found, console = look(address, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert all(brightness(record["background"]) < 0.2 < 0.8 < brightness(record["ink"]) for record in found)
    assert console == []


def test_messages_on_the_console_are_seen(address: str, tmp_path: Path) -> None:
    _, console = browse(f"{address}/loud.html", tmp_path)
    assert len(console) == 1 and "heard" in console[0]
