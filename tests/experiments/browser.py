"""Headless Chromium driven by the DevTools protocol through a pipe, which needs no driver and no library."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CGAN_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)

#: Seconds that an answer may take, even on a busy machine.
PATIENCE = 240


class Page:
    """An open page. ``console`` gathers what it wrote on the console, and what it asked of other addresses."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.rest, self.last, self.session = b"", 0, None
        self.console: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a method of the protocol."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self.rest:
                assert select.select([self.answers], [], [], max(0, deadline - time.monotonic()))[0], method
                found = os.read(self.answers, 1 << 20)
                assert found, "Chromium has ended"
                self.rest += found
            text, _, self.rest = self.rest.partition(b"\0")
            found = json.loads(text)
            if found.get("id") == self.last:
                assert "error" not in found, (method, found)
                return found["result"]
            if found.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                self.console.append(json.dumps(found["params"]))

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (script, found)
        return found["result"].get("value")

    def wait(self, script: str) -> Any:
        """Return the value of an expression once it is true."""
        deadline = time.monotonic() + PATIENCE
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, (script, self.console, self.run("document.body.innerText"))
            time.sleep(0.1)
        return found

    def open(self, address: str, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """Open an address on a screen of so many pixels."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.run("window.left = true")
        self.call("Page.navigate", url=address)
        self.wait("!window.left && document.readyState === 'complete'")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key, such as Tab, 9."""
        for kind in ("keyDown", "keyUp"):
            shown = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **shown)

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in an input of the page."""
        node = self.call("DOM.querySelector", nodeId=self.call("DOM.getDocument")["root"]["nodeId"], selector=selector)
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])


@contextmanager
def new_page(profile: Path) -> Iterator[Page]:
    """Open a browser with an empty page; its profile and its log go to the folder ``profile``."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium, or name it in CGAN_CHROMIUM")
    command = [CHROMIUM, "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    command += [f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
    # Chromium reads file 3 and writes file 4.
    pipes = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for _ in "12" for end in os.pipe()]
    there_reads, commands, answers, there_writes = pipes

    def connect() -> None:
        os.dup2(there_reads, 3)
        os.dup2(there_writes, 4)

    with open(profile / "log", "w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, preexec_fn=connect, pass_fds=(3, 4)
        )
        os.close(there_reads)
        os.close(there_writes)
        try:
            page = Page(commands, answers)
            targets = page.call("Target.getTargets")["targetInfos"]
            target = next(each["targetId"] for each in targets if each["type"] == "page")
            page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for part in ("Page", "Runtime", "Log", "DOM", "Accessibility"):
                page.call(f"{part}.enable")
            yield page
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE)
            os.close(commands)
            os.close(answers)
