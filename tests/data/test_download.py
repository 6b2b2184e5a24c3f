"""``data.download`` against a real HTTP server, with real processes and real kills."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import data.download
from data.download import CHUNK, UnavailableError, fetch
from tests.data.server import closed_port, serve

CONTENT = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)


def verify(path: Path) -> str | None:
    return None if path.read_bytes() == CONTENT else "is another file"


download = partial(fetch, verify=verify, max_bytes=2_000_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses between connections; everything else is as shipped."""
    monkeypatch.setattr(data.download, "PAUSE_SECONDS", 0.02)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "folder" / "file.bin"


def is_whole(target: Path) -> bool:
    """Whether the download left its file and nothing else."""
    return [path.name for path in target.parent.iterdir()] == [target.name] and target.read_bytes() == CONTENT


def child(url: str, target: Path) -> subprocess.Popen[str]:
    """A process of its own that downloads."""
    code = (
        "import sys, pathlib; from data.download import fetch; "
        "verify = lambda path: None if path.stat().st_size == 1_000_000 else 'is cut'; "
        "fetch([sys.argv[1]], pathlib.Path(sys.argv[2]), verify, 2_000_000)"
    )
    command = [sys.executable, "-c", code, f"{url}file.bin", str(target)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_bytes(process: subprocess.Popen[str], target: Path, count: int) -> None:
    part = target.with_name("file.bin.part")
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= count):
        assert process.poll() is None and time.monotonic() < deadline, "the download did not get that far"
        time.sleep(0.005)


def test_a_file_is_downloaded_once(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve({"file.bin": CONTENT}) as site:
        for _ in range(2):
            assert download([f"{site.url}file.bin"], target, https_only=True) == target  # This machine's http is safe.
            assert is_whole(target) and len(site.requests) == 1
        assert capsys.readouterr().err.startswith(f"downloading file.bin (1.00MB) from {site.url}file.bin\n")
    with pytest.raises(UnavailableError, match="not an https address"):
        download(["http://192.0.2.1/file.bin"], target.with_name("other"), https_only=True)


def test_a_broken_connection_is_continued(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that falls silent, and from a server without ranges, where it begins again."""
    with serve({"file.bin": CONTENT}, breaks=[300_000, 0, 400_000]) as site:
        download([f"{site.url}file.bin"], target)
        assert is_whole(target)
        assert [request.status for request in site.requests] == [200, 206, 206, 206]
        # A chunk that was under way when a connection broke may come twice.
        assert site.sent <= len(CONTENT) + 2 * CHUNK
        site.silences, site.breaks = [0, 0.6], [500_000]
        monkeypatch.setattr(data.download, "READ_SECONDS", 0.2)
        download([f"{site.url}file.bin"], other := target.with_name("other.bin"))
        assert other.read_bytes() == CONTENT and len(site.requests) == 7
        site.ranges, site.breaks = False, [300_000]
        other.unlink()
        download([f"{site.url}file.bin"], other)
        assert other.read_bytes() == CONTENT and [each.status for each in site.requests[7:]] == [200, 200]


@pytest.mark.parametrize(("kept", "statuses"), [(300_000, [206, 200]), (1_000_000, [416, 200])])
def test_a_part_of_another_file_is_replaced(target: Path, kept: int, statuses: list[int]) -> None:
    part = target.with_name("file.bin.part")
    target.parent.mkdir(parents=True)
    part.write_bytes(OTHER[:kept])
    with serve({"file.bin": CONTENT}) as site:
        download([f"{site.url}file.bin"], target)
        assert is_whole(target)
        assert [request.status for request in site.requests] == statuses
        # One that is whole, and lacks only its name, is not fetched again.
        target.rename(part)
        download([f"{site.url}file.bin"], target)
        assert is_whole(target) and len(site.requests) == 2


def test_another_mirror_continues_what_the_first_began(target: Path) -> None:
    with serve({"file.bin": CONTENT}, breaks=[300_000] + [0] * 3) as first, serve({"file.bin": CONTENT}) as second:
        download([f"{first.url}file.bin", f"{second.url}file.bin"], target)
        assert is_whole(target) and second.sent <= len(CONTENT) - 300_000 + CHUNK


def test_a_wrong_file_is_discarded_and_the_next_mirror_tried(target: Path) -> None:
    with serve({"file.bin": OTHER}) as wrong, serve({"file.bin": CONTENT}) as right:
        with pytest.raises(UnavailableError, match=f"{wrong.url}file.bin .the file it sent is another file"):
            download([f"{wrong.url}file.bin"], target)
        assert list(target.parent.iterdir()) == []
        download([f"{wrong.url}file.bin", f"{right.url}file.bin"], target)
        assert is_whole(target)


def test_content_encoding_is_left_alone(target: Path) -> None:
    """Some servers send a .gz file as the encoding of what is in it; its bytes are wanted all the same."""
    packed = gzip.compress(CONTENT)
    with serve({"file.bin": packed}, headers={"Content-Encoding": "gzip"}, breaks=[300_000]) as site:
        fetch([f"{site.url}file.bin"], target, lambda path: None, 2_000_000)
    assert target.read_bytes() == packed


def test_the_error_lists_what_was_tried(target: Path) -> None:
    refused = closed_port()
    with serve({}) as site:
        urls = [f"{site.url}file.bin", f"{refused}file.bin", "ftp://host/file.bin", "http://a:b/file.bin"]
        with pytest.raises(UnavailableError) as caught:
            download(urls, target)
    message = str(caught.value)
    assert f"{site.url}file.bin (HTTP 404 Not Found)" in message
    assert f"{refused}file.bin (no connection: Connection refused)" in message
    assert "ftp://host/file.bin (" in message and "http://a:b/file.bin (" in message and "\n" not in message


def test_a_disk_that_cannot_take_the_file_is_an_error(tmp_path: Path, target: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UnavailableError, match=r"cannot be written .*file: (File exists|Not a directory)"):
        download([closed_port()], tmp_path / "file" / "file.bin")
    headers = {"Content-Length": str(10**16)}
    with serve({"file.bin": CONTENT}, headers=headers) as site, pytest.raises(UnavailableError, match="too full"):
        fetch([f"{site.url}file.bin"], target, verify, 10**17)
    assert not target.exists()


@pytest.mark.parametrize("stated", [True, False])
def test_a_file_over_the_limit_is_refused(target: Path, stated: bool) -> None:
    headers = {} if stated else {"Content-Length": "unknown"}
    with (
        serve({"file.bin": CONTENT}, headers=headers) as site,
        pytest.raises(UnavailableError, match=r"is larger than 500,000 bytes"),
    ):
        fetch([f"{site.url}file.bin"], target, verify, 500_000)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("change", [lambda first: None, lambda first: first.send_signal(signal.SIGKILL)])
def test_processes_at_once_download_once(target: Path, change: Callable[[subprocess.Popen[str]], None]) -> None:
    """One downloads; another waits, and continues what the first began if that is killed."""
    with serve({"file.bin": CONTENT}, delay=0.03) as site:
        first = child(site.url, target)
        wait_for_bytes(first, target, 100_000)
        site.delay = 1.0
        second = child(site.url, target)
        assert second.stderr is not None
        assert second.stderr.readline() == "waiting for another process that is making file.bin\n"
        change(first)
        site.delay = 0
        printed = [process.communicate()[1] for process in (first, second)]
        assert second.returncode == 0, printed
        assert is_whole(target)
        if first.returncode == -signal.SIGKILL:
            assert site.requests[-1].status == 206 and "continuing at" in printed[1]
        else:
            assert first.returncode == 0 and len(site.requests) == 1
