"""The page to play with nets: its answers against other commands and references, its refusals, and in a browser."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from PIL import Image

from data.digits import load_digits_28
from data.scenes import render_scene
from experiments import generators
from experiments.demo import __main__ as demo
from experiments.demo import nets
from experiments.flickr_tags import tag
from experiments.mnist import sample
from tests.experiments import browser, commands
from tests.experiments.commands import assert_one_sentence
from tests.experiments.conftest import Call, FlickrRun

DIGITS, PHOTOS, MNIST = "mnist/paper-seed1-digits", "flickr-tags/scenes", "mnist/of-mnist"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, mnist_run: Path, flickr_run: FlickrRun) -> Path:
    """A run of each experiment, one that says it was trained on MNIST, a damaged one, and one without weights."""
    folder = tmp_path_factory.mktemp("demo") / "runs"
    for name, source in ((DIGITS, mnist_run), (PHOTOS, flickr_run.folder), (MNIST, mnist_run)):
        shutil.copytree(source, folder / name)
    config = json.loads((folder / MNIST / "config.json").read_text())
    config["dataset"] |= {"name": "mnist", "embedded": False}
    (folder / MNIST / "config.json").write_text(json.dumps(config))
    (folder / MNIST / "result.json").unlink()
    shutil.copytree(folder / MNIST, folder / "mnist" / "damaged")
    (folder / "mnist" / "damaged" / "config.json").write_text('{"experiment": "mnist"')
    shutil.copytree(folder / MNIST, folder / "mnist" / "early", ignore=shutil.ignore_patterns("best*"))
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "sea & <b>sand.png"
    render_scene(7, 1).image.save(path)
    return path


def start(*arguments: object, **changes: str) -> tuple[subprocess.Popen[str], str]:
    """Start the server on a free port; return its process and its address, such as 127.0.0.1:8411."""
    process = commands.start("demo", "--port", 0, *arguments, **changes)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"http://(127\.0\.0\.1:\d+)/ ", line)
    assert found, (line, process.communicate())
    return process, found[1]


def stop(process: subprocess.Popen[str]) -> None:
    """End the server as Ctrl-C does, which it takes quietly."""
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=commands.PATIENCE)
    assert (process.returncode, printed.strip(), errors) == (0, "", "")


@pytest.fixture(scope="module")
def address(runs: Path, flickr_run: FlickrRun) -> Iterator[str]:
    process, found = start("--runs", runs, "--data-root", flickr_run.root, "--no-open")
    yield found
    stop(process)


def request(address: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Return status and content of an answer; with a body the request is a POST."""
    connection = http.client.HTTPConnection(address, timeout=commands.PATIENCE)
    connection.request(
        "GET" if body is None else "POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()}
    )
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, json.loads(content) if "json" in answer.headers["Content-Type"] else content


def ask(address: str, path: str, body: bytes | None = None, **query: object) -> Any:
    status, found = request(address, f"/{path}?{urlencode(query)}", body)
    assert status == 200, found
    return found


def pixels(images: list[str]) -> np.ndarray:
    """Return images of the page as (n, pixels) in [0, 255]."""
    files = [io.BytesIO(base64.b64decode(image.removeprefix("data:image/png;base64,"))) for image in images]
    return np.stack([np.asarray(Image.open(file)).ravel() for file in files]).astype(np.float32)


def test_digits_are_those_of_the_sample_command(address: str, runs: Path, call: Call, tmp_path: Path) -> None:
    found = ask(address, "samples", net=DIGITS, label=3, seed=7)
    npy = tmp_path / "images.npy"
    arguments = ("--labels", 3, "--seed", 7, "--out", tmp_path / "grid.png", "--npy", npy)
    assert call(sample.main, runs / DIGITS, *arguments).returncode == 0
    assert np.array_equal(pixels(found["images"]), (np.load(npy) * 255).round())
    assert found["update"] == generators.load_generator(runs / DIGITS).weights.update
    other = ask(address, "samples", net=DIGITS, label=4, seed=7)["images"]
    assert not set(other) & set(found["images"])
    # A walk goes from one image to another in small steps.
    steps = pixels(ask(address, "walk", net=DIGITS, label=3, seed=1)["images"])
    moved = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    assert len(steps) == nets.STEPS and 0 < moved.max() < np.linalg.norm(steps[-1] - steps[0]) / 4


def test_a_closer_look_against_brute_force(address: str, runs: Path) -> None:
    loaded, digits = generators.load_generator(runs / DIGITS), load_digits_28()
    found = ask(address, "closer", net=DIGITS, label=5, seed=2, index=4)
    shown = pixels(ask(address, "samples", net=DIGITS, label=5, seed=2)["images"])[4] / 255
    distances = np.linalg.norm(digits.train.images.astype(np.float64) - shown, axis=1)
    near = distances.argsort()[: nets.NEAREST]
    assert found["near"]["labels"] == digits.train.labels[near].tolist()
    assert found["near"]["distances"] == pytest.approx(distances[near], abs=0.03)  # The page's pixels are bytes.
    assert np.allclose(pixels(found["near"]["images"]), digits.train.images[near] * 255, atol=0.5)
    with torch.no_grad():
        logits = loaded.discriminator(torch.from_numpy(shown).expand(10, -1), torch.arange(10)).numpy()
    assert found["judged"]["real"] == pytest.approx(1 / (1 + np.exp(-logits)), abs=0.01)


def test_what_is_not_at_hand_is_said(address: str, runs: Path) -> None:
    found = ask(address, "closer", net=MNIST, label=5, seed=2, index=0)
    assert found["near"] == {"missing": nets.NO_MNIST} and len(found["judged"]["real"]) == 10


def test_tags_are_those_of_the_tag_command(address: str, runs: Path, photo: Path, call: Call) -> None:
    found = ask(address, "tags", photo.read_bytes(), net=PHOTOS, seed=1)
    done = call(tag.main, runs / PHOTOS, photo, "--top", nets.TAGS, "--json", "-")
    (expected,) = json.loads(done.stdout).values()
    assert found["tags"] == [[word, pytest.approx(share, abs=1e-4)] for word, share in expected]
    assert found["samples"] == 100
    assert ask(address, "tags", photo.read_bytes(), net=PHOTOS, seed=2)["tags"] != found["tags"]


def test_the_page_lists_the_nets(address: str, tmp_path: Path) -> None:
    status, page = request(address, "/")
    assert status == 200
    # An unfinished run stands behind others, a published generator last; one without weights is none.
    kinds = {name: generators.load_generator(name).config.experiment for name in generators.names()}
    digits, photos = ([name for name, kind in kinds.items() if kind == each] for each in ("mnist", "flickr-tags"))
    assert re.findall(r'<option value="([^"]*)"', page) == [DIGITS, MNIST, *digits, PHOTOS, *photos]
    assert "damaged/config.json: not valid JSON" in page and "early" not in page
    assert "Trained on mnist, not finished." in page and "rendered scenes" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    process, empty = start("--runs", tmp_path, "--no-open")
    status, page = request(empty, "/")
    assert status == 200 and re.findall(r'<option value="([^"]*)"', page) == [*digits, *photos]
    assert (
        request(empty, f"/samples?net=paper&{NUMBERS}")[1]["update"]
        == generators.load_generator("paper").weights.update
    )
    assert request(empty, f"/closer?net=paper&{NUMBERS}&index=0")[1]["judged"] == {"missing": nets.NO_D}
    stop(process)


NUMBERS = "label=3&seed=1"


@pytest.mark.parametrize(
    ("status", "path", "words"),
    [
        (404, "/../../etc/passwd", "the only one is /"),
        (404, f"/tags?net={PHOTOS}&seed=1", "the only one is /"),
        (400, f"/samples?net=mnist/paper-seed1-digit&{NUMBERS}", f"did you mean {DIGITS}?"),
        (400, f"/samples?net=../runs/{DIGITS}&{NUMBERS}", "is unknown"),
        (400, f"/samples?{NUMBERS}", "net is missing"),
        (400, f"/samples?net={DIGITS}&label=10&seed=1", "0 to 9"),
        (400, f"/walk?net={DIGITS}&label=1&seed={10**9}", "seed is no whole number"),
        (400, f"/walk?net={DIGITS}&label=1&seed=%D9%A3", "seed is no whole number"),
    ],
)
def test_odd_requests_get_a_sentence(address: str, status: int, path: str, words: str) -> None:
    found, content = request(address, path)
    assert found == status and words in content["error"] and "\n" not in content["error"]


def test_photos_that_cannot_be_used_get_a_sentence(address: str, photo: Path) -> None:
    path = f"/tags?net={PHOTOS}&seed=1"
    for body, words in (
        (b"\xff\xd8 not much of a photo", "cannot be used: not an image"),
        (photo.read_bytes()[:2_000], "cannot be used: cannot be read"),
        (b"", "1 to 30,000,000"),
    ):
        status, content = request(address, path, body)
        assert status == 400 and words in content["error"]
    # Refused by the size that it tells, before it is sent.
    for size, words in (("30000001", "30,000,001 bytes"), ("-1", "Content-Length"), ("1e3", "Content-Length")):
        connection = http.client.HTTPConnection(address, timeout=commands.PATIENCE)
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", size)
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 400 and words in json.loads(answer.read())["error"]
        connection.close()


def test_only_this_page_on_this_computer_is_answered(address: str, photo: Path) -> None:
    host, port = address.split(":")
    for headers in ({"Host": "evil.example"}, {"Host": f"evil.example:{port}"}, {"Origin": "https://evil.example"}):
        for path, body in (("/", None), (f"/tags?net={PHOTOS}&seed=1", photo.read_bytes())):
            status, content = request(address, path, body, **headers)
            assert status == 403 and "itself alone" in content["error"]
    assert request(address, "/", Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", int(port)))
    # A browser that goes away in the middle is no matter; the server's errors are looked at when it ends.
    with socket.create_connection((host, int(port))) as gone:
        gone.sendall(f"GET /samples?net={DIGITS}&{NUMBERS} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    with socket.create_connection((host, int(port))) as gone:
        gone.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        assert b"400" in gone.recv(1000)


def test_mistakes_on_the_command_line(address: str, runs: Path, tmp_path: Path, call: Call) -> None:
    port = address.split(":")[1]
    for arguments, words in (
        (("--runs", runs, "--port", port), (f"port {port} is taken", "--port")),
        (("--port", 70_000), ("--port 70000", "65535")),
        (("--runs", tmp_path / "none"), ("--runs", "no such folder")),
        (("--runs", runs, "--weights", tmp_path / "none"), ("--weights", "no such file")),
        (("--runs", runs, "--data-root", tmp_path / "none"), ("none", "does not exist")),
    ):
        assert_one_sentence(call(demo.main, "--no-open", *arguments), *words)


# ---------------------------------------------------------------------------------------------------------------------
# In a browser

SETTLED = "document.querySelectorAll('#near img').length === 6 && !document.querySelector('.busy')"
LOOK = """(() => {
  const shown = [...document.querySelectorAll("main *, header *")].filter(element => element.checkVisibility());
  const box = element => element.getBoundingClientRect(), style = getComputedStyle(document.body);
  return {
    wide: shown.filter(each => box(each).right > innerWidth + 1).map(each => each.outerHTML.slice(0, 200)),
    scroll: document.documentElement.scrollWidth - innerWidth,
    broken: shown.filter(each => each.matches("img") && !each.naturalWidth).length,
    small: shown.filter(each => each.matches("button, select, input") && box(each).height < 24).length,
    colours: [style.backgroundColor, style.color],
  };
})()"""


@pytest.mark.parametrize(("width", "height", "dark"), [(390, 844, True), (1440, 900, False)])
def test_it_fits_and_shows_everything(
    page: browser.Page, address: str, photo: Path, width: int, height: int, dark: bool
) -> None:
    page.open(f"http://{address}/", width, height, dark)
    page.wait(SETTLED)
    page.choose_file("#photo", photo)
    page.wait("document.querySelectorAll('#list li').length > 0 && !document.querySelector('.busy')")
    found = page.run(LOOK)
    assert found["wide"] == [] and found["scroll"] <= 0 and (found["broken"], found["small"]) == (0, 0)
    paper, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in found["colours"])
    assert (paper < 0.2 < 0.8 < ink) if dark else (ink < 0.2 < 0.8 < paper)
    words = page.run(
        "[...document.querySelectorAll('#cloud span')].map(e => [e.textContent, e.getBoundingClientRect().height])"
    )
    listed = page.run("[...document.querySelectorAll('#list li')].map(e => e.textContent)")
    assert [line.rsplit(" ", 1)[0] for line in listed] == [word for word, _ in words]
    sizes = [size for _, size in words]
    assert sizes == sorted(sizes, reverse=True)
    # Nothing but text, whatever a file is called; nothing on the console, from elsewhere, or kept from running.
    assert photo.name in page.run("document.querySelector('#tagged').textContent")
    assert page.console == []


def test_with_the_keyboard(page: browser.Page, address: str, photo: Path, tmp_path: Path) -> None:
    page.open(f"http://{address}/")
    page.wait(SETTLED)
    first = page.run("document.querySelector('#samples img').src")
    focused = "(at => at.id || at.name + at.value || at.textContent)(document.activeElement)"
    seen = []
    for _ in range(15):
        page.press("Tab", 9)
        seen.append(page.run(focused))
        if seen[-1] == "label3":  # An arrow takes the next digit.
            page.press("ArrowRight", 39)
            page.wait(f"{SETTLED} && document.querySelector('#samples img').src !== {json.dumps(first)}")
            assert "a 4, draw 1" in page.run("document.querySelector('#drawn').textContent")
        if seen[-1] == "Draw again":
            page.press("Enter", 13, "\r")
            page.wait(f"document.querySelector('#drawn').textContent.includes('draw 2') && {SETTLED}")
        if seen[-1] == "2":  # Of the ten samples the second.
            page.press("Enter", 13, "\r")
            page.wait(f"document.querySelector('#closer-name').textContent.endsWith('sample 2') && {SETTLED}")
    assert seen == ["net", "label3", "Draw again", *map(str, range(1, 11)), "step", "other"]
    page.run("document.querySelector('#step').focus()")
    page.press("ArrowRight", 39)
    assert page.run("document.querySelector('#step').getAttribute('aria-valuetext')").startswith("3% of the way")
    # A bad photo is an alert on the page; a good one puts it right.
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 not much of a photo")
    page.choose_file("#photo", tmp_path / "bad.jpg")
    alert = "document.querySelector('#tags-part [role=alert]').textContent"
    assert "cannot be used: not an image" in page.wait(alert)
    page.choose_file("#photo", photo)
    page.wait(f"!{alert} && document.querySelectorAll('#list li').length > 0")
    live = "[...document.querySelectorAll('[role=status]')].map(each => each.textContent)"
    assert all(page.run(live))
