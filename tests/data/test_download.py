"""``data.download`` against a real HTTP server, with real processes and real kills."""

from __future__ import annotations

import hashlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import data.download
from data import DataError
from data.download import CHUNK, UnavailableError, fetch
from tests.data.server import closed_port, serve

CONTENT = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter pauses between connections; everything else is as shipped."""
    monkeypatch.setattr(data.download, "PAUSE_SECONDS", 0.02)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "folder" / "file.bin"


def only(target: Path) -> bool:
    """Whether the download left its file and nothing else."""
    return [path.name for path in target.parent.iterdir()] == [target.name]


def child(url: str, target: Path) -> subprocess.Popen[str]:
    """A process of its own that downloads."""
    code = (
        "import sys, pathlib; from data.download import fetch; "
        "fetch(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3])"
    )
    command = [sys.executable, "-c", code, f"{url}file.bin", str(target), SHA256]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_bytes(process: subprocess.Popen[str], target: Path, count: int) -> None:
    part = target.with_name("file.bin.part")
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size >= count):
        assert process.poll() is None and time.monotonic() < deadline, "the download did not get that far"
        time.sleep(0.005)


@pytest.mark.parametrize("checksum", [None, SHA256, MD5])
def test_gives_the_bytes_and_leaves_nothing_else(target: Path, checksum: str | None) -> None:
    with serve({"file.bin": CONTENT}) as site:
        assert fetch(f"{site.url}file.bin", target, checksum) == target
        assert target.read_bytes() == CONTENT
        assert only(target)
        fetch(f"{site.url}file.bin", target, checksum)
        assert len(site.requests) == 1, "what is there is not fetched again"


def test_tells_the_size_first_and_is_silent_when_asked(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve({"file.bin": CONTENT}) as site:
        fetch(f"{site.url}file.bin", target)
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith(f"downloading file.bin (1.00MB) from {site.url}file.bin\n")
        target.unlink()
        fetch(f"{site.url}file.bin", target, progress=False)
        assert capsys.readouterr() == ("", "")


def test_a_broken_connection_is_continued(target: Path) -> None:
    with serve({"file.bin": CONTENT}, breaks=[300_000, 0, 400_000]) as site:
        fetch(f"{site.url}file.bin", target, SHA256)
        assert target.read_bytes() == CONTENT
        assert [request.status for request in site.requests] == [200, 206, 206, 206]
        # A chunk that was under way when a connection broke may come twice.
        assert site.sent <= len(CONTENT) + 2 * CHUNK


def test_a_connection_that_falls_silent_is_continued(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.download, "READ_SECONDS", 0.2)
    with serve({"file.bin": CONTENT}, silences=[0, 0.6], breaks=[500_000]) as site:
        fetch(f"{site.url}file.bin", target, SHA256)
        assert target.read_bytes() == CONTENT
        assert len(site.requests) == 3


def test_a_server_without_ranges_is_begun_anew(target: Path) -> None:
    with serve({"file.bin": CONTENT}, ranges=False, breaks=[300_000]) as site:
        fetch(f"{site.url}file.bin", target)
        assert target.read_bytes() == CONTENT
        assert [request.status for request in site.requests] == [200, 200]
        assert site.requests[1].range, "it was asked for the rest"


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_begun_anew(target: Path, heeds_if_range: bool) -> None:
    with serve({"file.bin": OTHER}, heeds_if_range=heeds_if_range, breaks=[300_000] + [0] * 3) as site:
        with pytest.raises(UnavailableError, match="broke after"):
            fetch(f"{site.url}file.bin", target)
        site.files["file.bin"], site.etag = CONTENT, '"2"'
        before = len(site.requests)
        fetch(f"{site.url}file.bin", target)
        assert target.read_bytes() == CONTENT
        assert only(target)
        # One answer is enough where the server compares the versions itself.
        assert [request.status for request in site.requests[before:]] == ([200] if heeds_if_range else [206, 200])


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_version_or_a_checksum_nothing_is_continued(target: Path, etag: str | None) -> None:
    with serve({"file.bin": CONTENT}, etag=etag, breaks=[300_000]) as site:
        fetch(f"{site.url}file.bin", target)
        assert target.read_bytes() == CONTENT
        assert [request.range for request in site.requests] == [None, None]


def test_a_wrong_beginning_is_found_by_the_checksum_and_fetched_anew(target: Path) -> None:
    """No version to compare: the beginning is of another file, and only the checksum tells."""
    with serve({"file.bin": OTHER}, etag=None, breaks=[300_000] + [0] * 3) as site:
        with pytest.raises(UnavailableError):
            fetch(f"{site.url}file.bin", target, SHA256)
        site.files["file.bin"] = CONTENT
        fetch(f"{site.url}file.bin", target, SHA256)
        assert target.read_bytes() == CONTENT
        assert [request.status for request in site.requests[-2:]] == [206, 200]


def test_another_mirror_continues_what_the_first_began(target: Path) -> None:
    with (
        serve({"file.bin": CONTENT}, etag='"first"', breaks=[300_000] + [0] * 3) as first,
        serve({"file.bin": CONTENT}, etag='"second"') as second,
    ):
        fetch([f"{first.url}file.bin", f"{second.url}file.bin"], target, SHA256)
        assert target.read_bytes() == CONTENT
        assert second.sent <= len(CONTENT) - 300_000 + CHUNK


def test_wrong_bytes_leave_nothing_and_the_next_mirror_is_tried(target: Path) -> None:
    with serve({"file.bin": OTHER}) as wrong, serve({"file.bin": CONTENT}) as right:
        with pytest.raises(UnavailableError, match=r"sha256:.* instead of sha256:") as caught:
            fetch(f"{wrong.url}file.bin", target, SHA256)
        assert wrong.url in str(caught.value)
        assert list(target.parent.iterdir()) == []
        fetch([f"{wrong.url}file.bin", f"{right.url}file.bin"], target, SHA256)
        assert target.read_bytes() == CONTENT


def test_verify_decides_before_the_file_gets_its_name(target: Path) -> None:
    seen = []

    def verify(path: Path) -> str | None:
        seen.append(target.exists())
        return None if path.read_bytes() == CONTENT else "is a login page"

    with serve({"page": b"<html>", "file.bin": CONTENT}) as site:
        with pytest.raises(UnavailableError, match="the file it sent is a login page"):
            fetch(f"{site.url}page", target, verify=verify)
        assert not target.exists()
        fetch(f"{site.url}file.bin", target, verify=verify)
    assert target.read_bytes() == CONTENT
    assert not any(seen)


def test_content_encoding_is_left_alone(target: Path) -> None:
    """Some servers send a .gz file as the encoding of what is in it; its bytes are wanted all the same."""
    import gzip

    packed = gzip.compress(CONTENT)
    with serve({"file.bin": packed}, headers={"Content-Encoding": "gzip"}, breaks=[300_000]) as site:
        fetch(f"{site.url}file.bin", target)
    assert target.read_bytes() == packed


def test_a_destination_with_another_checksum_is_an_error_and_stays(target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(OTHER)
    with pytest.raises(DataError, match=r"file\.bin is damaged .* delete it"):
        fetch(closed_port(), target, SHA256)
    assert target.read_bytes() == OTHER


def test_the_error_lists_what_was_tried(target: Path) -> None:
    refused = closed_port()
    with serve({}) as site:
        urls = [f"{site.url}file.bin", f"{refused}file.bin", "ftp://host/file.bin", "http://a:b/file.bin"]
        with pytest.raises(UnavailableError) as caught:
            fetch(urls, target)
    message = str(caught.value)
    assert f"{site.url}file.bin (HTTP 404 Not Found)" in message
    assert f"{refused}file.bin (no connection: Connection refused)" in message
    assert "ftp://host/file.bin (not an http or https address)" in message
    assert "http://a:b/file.bin (not an http or https address)" in message
    assert "\n" not in message


def test_a_server_that_takes_no_connection_is_given_up(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.download, "CONNECT_SECONDS", 0.3)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        # Connections nobody accepts fill the queue, and the next one gets no answer at all.
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(deaf.getsockname())
        with pytest.raises(UnavailableError, match=r"no connection: (no answer in|timed out)"):
            fetch(f"http://127.0.0.1:{deaf.getsockname()[1]}/file.bin", target)
        for connection in waiting:
            connection.close()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UnavailableError, match=r"cannot be written .*file: (File exists|Not a directory)"):
        fetch(closed_port(), tmp_path / "file" / "file.bin")


def test_a_file_too_large_for_the_disk_is_refused_before_its_first_byte(target: Path) -> None:
    with serve({"file.bin": CONTENT}, headers={"Content-Length": str(10**17)}) as site:
        with pytest.raises(UnavailableError, match="too full"):
            fetch(f"{site.url}file.bin", target)
        assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("stated", [True, False])
def test_a_file_larger_than_allowed_is_refused(target: Path, stated: bool) -> None:
    """Also where the server states no size, or a number that is none."""
    with serve({"file.bin": CONTENT}, headers={} if stated else {"Content-Length": "unknown"}) as site:
        with pytest.raises(UnavailableError, match=r"larger than 500,000 bytes"):
            fetch(f"{site.url}file.bin", target, max_bytes=500_000)
        assert list(target.parent.iterdir()) == []
        fetch(f"{site.url}file.bin", target, max_bytes=len(CONTENT))
    assert target.read_bytes() == CONTENT


def test_plain_http_is_refused_where_https_is_asked_for(target: Path) -> None:
    with pytest.raises(UnavailableError, match="not an https address"):
        fetch("http://192.0.2.1/file.bin", target, https_only=True)
    with serve({"file.bin": CONTENT}) as site:
        fetch(f"{site.url}file.bin", target, https_only=True)
    assert target.read_bytes() == CONTENT, "nobody stands between this machine and itself"


@pytest.mark.parametrize("record", ["[" * 100_000, '{"url": [1]}', '{"url": "', '{"size": "x"}', "null"])
def test_a_damaged_record_of_a_partial_file_is_ignored(target: Path, record: str) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("file.bin.part").write_bytes(OTHER[:1000])
    target.with_name("file.bin.part.json").write_text(record)
    with serve({"file.bin": CONTENT}) as site:
        fetch(f"{site.url}file.bin", target, SHA256)
    assert target.read_bytes() == CONTENT and only(target)


def test_a_malformed_checksum_is_an_error(target: Path) -> None:
    with pytest.raises(DataError, match='must be "md5:" or "sha256:"'):
        fetch(closed_port(), target, "d41d8cd9")


def test_a_killed_download_is_continued_by_the_next_process(target: Path) -> None:
    with serve({"file.bin": CONTENT}, delay=0.02) as site:
        killed = child(site.url, target)
        wait_for_bytes(killed, target, 300_000)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        assert not target.exists()
        kept = target.with_name("file.bin.part").stat().st_size
        site.delay = 0
        again = child(site.url, target)
        said = again.communicate()[1]
        assert again.returncode == 0, said
        assert "continuing at" in said
        assert target.read_bytes() == CONTENT
        assert site.requests[-1].range == f"bytes={kept}-"
        assert site.requests[-1].sent == len(CONTENT) - kept
        assert only(target)


def test_processes_at_once_download_once(target: Path) -> None:
    with serve({"file.bin": CONTENT}, delay=0.02) as site:
        processes = [child(site.url, target) for _ in range(3)]
        said = [process.communicate()[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], said
        assert target.read_bytes() == CONTENT
        assert site.sent == len(CONTENT)
        assert only(target)


def test_a_waiting_process_takes_over_from_a_killed_one(target: Path) -> None:
    with serve({"file.bin": CONTENT}, delay=0.02) as site:
        first = child(site.url, target)
        wait_for_bytes(first, target, 100_000)
        second = child(site.url, target)
        assert second.stderr is not None
        assert second.stderr.readline() == "waiting for another process that is downloading file.bin\n"
        first.kill()
        first.wait()
        site.delay = 0
        said = second.communicate()[1]
        assert second.returncode == 0, said
        assert target.read_bytes() == CONTENT
        assert site.requests[-1].status == 206
        assert only(target)
