"""The report page from hand-made and reference runs: sound for every reader, hostile texts shown, damage survived."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import UsageError
from experiments.report import __main__ as report
from experiments.runs.photo_table import PhotoRow, Table2, write_table2
from tests.experiments.html_page import Page
from tests.experiments.report.builders import DIGITS, REFERENCE, SCENES, flickr_run, mnist_run, write
from tests.experiments.runs.test_photo_table import HOSTILE, photo


def make(*folders: Path, out: Path) -> Page:
    assert report.main(["--runs", *map(str, folders), "--out", str(out)]) == 0
    page = Page(out)
    assert_sound(page)
    return page


def assert_sound(page: Page) -> None:
    """Check what holds of every page: self-contained, no script, a text for every picture, an order for a reader."""
    assert not page.all("script", "iframe", "object", "embed", "form", "base")
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    addresses = [a[name] for _, a in page.elements for name in ("src", "href", "srcset", "action") if name in a]
    assert addresses and all(address.startswith(("#", "data:image/", "data:,")) for address in addresses)
    assert all(image["alt"].strip() for image in page.all("img"))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    named = [a[name] for _, a in page.elements for name in ("aria-labelledby", "popovertarget") if name in a]
    assert {*named, *(address[1:] for address in addresses if address.startswith("#"))} <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") and all("scope" in a for a in page.all("th"))
    assert {"main", "nav", "header"} <= set(tags) and page.all("html")[0]["lang"] == "en"
    assert page.all("a")[0]["href"] == "#content" and "default-src 'none'" in page.source


def test_the_reference_page_tells_the_story_in_pictures_first(tmp_path: Path) -> None:
    page = make(REFERENCE / "mnist", REFERENCE / "mnist-controls", out=tmp_path / "report.html")
    results = [
        json.loads(path.read_text()) for path in sorted(REFERENCE.glob("mnist/conditional-best-seed?/result.json"))
    ]
    assert f"{results[0]['parzen']['test_mean']:.1f} ± " in page.text("digits")
    assert {"higher", "equal", "open"} <= set(page.text("claims").split())
    # The claims of this paper, of its sources and of others are counted apart.
    counts = re.findall(r"(\d) as claimed, (\d) not, (\d) open", page.text("claims"))
    assert [sum(map(int, found)) for found in counts] == [5, 2, 2]
    accepted = np.mean([result["acceptance"]["accepted"][0][1] for result in results])
    assert f"{accepted:.1%}" in page.text("details") and f"{accepted:.1%}" in page.text("claims")
    assert results[0]["dataset"]["checksum"] in page.text("provenance")
    assert results[0]["environment"]["command"] in page.text("provenance")
    # Table 1 holds the paper's rows and the presets, every other run is among the details.
    assert " 7,500 updates" in page.text("details") and " 7,500 updates" not in page.text("table1")
    # Figure 2 comes first, as the run drew it, at its real size; the curves with three seeds before any claim.
    first = page.all("img")[0]
    file = (REFERENCE / "mnist" / "paper-seed1" / "samples.png").read_bytes()
    assert first["src"] == f"data:image/png;base64,{base64.b64encode(file).decode()}"
    assert (int(first["width"]), int(first["height"])) == Image.open(io.BytesIO(file)).size
    assert "a row a label from 0 to 9" in first["alt"]
    order = [a.get("id") or "chart" for tag, a in page.elements if tag == "h2" or "svg" in a.get("src", "")[:20]]
    assert order[:6] == ["digits", "curves", "chart", "chart", "claims", "table1"]
    chart = page.all("img")[2]
    assert "conditional-best (5 seeds) ends at" in chart["alt"]
    drawn = base64.b64decode(chart["src"].split(",")[1]).decode()
    assert "FillBetweenPolyCollection" in drawn  # The band.


def test_embedded_runs_never_stand_beside_the_papers_numbers(tmp_path: Path) -> None:
    mnist_run(tmp_path / "runs" / "digits", dataset=DIGITS, score=77.25)
    flickr_run(tmp_path / "runs" / "scenes", precision=0.625, dataset=SCENES)
    page = make(tmp_path / "runs", out=tmp_path / "report.html")
    assert "77.2" in page.text("embedded") and "0.625" in page.text("embedded")
    assert "Not the paper's data" in page.text("embedded")
    for section in ("digits", "claims", "table1", "measure", "table2", "details"):
        assert not any(text in page.text(section) for text in ("77.2", "0.625", "scenes (embedded)"))


def test_no_runs_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert report.main([]) == 0
    page = Page(tmp_path / "results" / "report.html")
    assert_sound(page)
    for section in ("digits", "claims", "table1", "table2", "embedded"):
        assert "not run" in page.text(section)
    assert "runs: no run was found there" in page.text("provenance")


def test_notes_name_what_is_broken_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    (mnist_run(runs / "good", score=131.0) / "samples.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    write(
        mnist_run(runs / "odd", seed=2) / "metrics.csv",
        "update,epoch,valid_log_likelihood\n1,x,\n\0,,\n1e300,1,1e300\n",
    )
    write(runs / "broken" / "result.json", '{"experiment": "mnist", ')
    page = make(runs, out=tmp_path / "report.html")
    found = capsys.readouterr().err
    for place in ("good/samples.png", "broken/result.json"):
        assert page.text("provenance").count(place) == found.count(place) == 1
    assert "160.5" in page.text("table1")


def hostile_runs(folder: Path) -> Path:
    """Make a multimodal run on embedded data whose tags, names and notices are all hostile; return its folder."""
    run = flickr_run(
        folder / "flickr-tags" / "hostile",
        preset="$x$ </style><script>console.log('preset ran')</script>",
        dataset=SCENES,
        notice=HOSTILE[3],
    )
    rng = np.random.default_rng(0)
    rows = []
    for number in range(3):
        path = run / f"im{number}.jpg"
        Image.fromarray(rng.integers(0, 255, (500, 400, 3), dtype=np.uint8)).save(path)
        tags = ["x" * 120, "<script>console.log('tag ran')</script>", '"><img src=x onerror=console.log(1)>', *HOSTILE]
        rows.append(PhotoRow(number, str(path), tags, HOSTILE[:4], [(tag, 0.5) for tag in HOSTILE[:10]], HOSTILE[:4]))
    rows.append(PhotoRow(9, str(run / "gone.jpg"), HOSTILE, [], []))
    write_table2(run, Table2(HOSTILE[0], rows, HOSTILE[3], HOSTILE[4]))
    return run


def test_hostile_texts_are_texts_and_photos_enlarge(tmp_path: Path) -> None:
    run = hostile_runs(tmp_path / "runs")
    page = make(tmp_path / "runs", out=tmp_path / "report.html")
    assert all(tag in page.text("embedded") for tag in HOSTILE)
    large = {a["id"]: a for a in page.all("div") if "popover" in a}
    assert len(large) == 3
    assert sorted(a["popovertarget"] for a in page.all("button") if "popovertargetaction" not in a) == sorted(large)
    heights = sorted(int(a["height"]) for a in page.all("img") if a["src"].startswith("data:image/jpeg"))
    assert heights == [200, 200, 200, 480, 480, 480]
    photo(run / "im0.jpg")
    (run / "im1.jpg").write_bytes(b"no photo")
    page = make(tmp_path / "runs", out=tmp_path / "report.html")
    assert page.text("embedded").count("missing or cannot be read") == 2


def test_mistakes() -> None:
    for arguments, words in ((["--runs"], "name at least one folder"), (["--out", "page.txt"], "ends in .html")):
        with pytest.raises(UsageError, match=words):
            report.main(arguments)
