"""Records as an accident or a stranger may have changed them: tables and page come out all the same."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from experiments.report import __main__ as report
from experiments.report import tables
from experiments.report.records import load
from experiments.runs.photo_table import PhotoRow, Table2, write_table2
from tests.experiments.mutations import fuzz_count, mutate_text
from tests.experiments.report.builders import REFERENCE, flickr_run, mnist_run

METRICS = "update,epoch,valid_log_likelihood,valid_average_precision,label_fidelity\n1,1,-5,0.1,0.1\n2,2,7.5,0.2,0.9\n"

#: Changed records of each kind that are read, and those that go through the tables and the page as well.
READ, SHOWN = fuzz_count(800), 100


@pytest.mark.parametrize(
    "kind", ["mnist/config", "mnist/result", "flickr/config", "flickr/result", "flickr/table2", "score"]
)
def test_changed_records_cost_nothing_but_themselves(kind: str, tmp_path: Path) -> None:
    rng = random.Random(kind)
    whole = (flickr_run if kind.startswith("flickr") else mnist_run)(tmp_path / "whole")
    rows = [PhotoRow(7, "im7.jpg", ["dog", "ball"], ["dog"], [("dog", 0.5), ("cat", 0.25)])]
    write_table2(whole, Table2("Photos", rows, "made by hand", "Held-out photos."))
    (whole / "metrics.csv").write_text(METRICS)
    shutil.copy(REFERENCE / "mnist-controls" / "k-means.json", whole / "score.json")
    contents = {path.name: path.read_bytes() for path in whole.iterdir()}
    name = f"{kind.split('/')[-1]}.json"
    record = json.loads(contents[name])
    for number in range(SHOWN if kind == "flickr/table2" else READ):
        folder = tmp_path / ("shown" if number < SHOWN else "read") / str(number)
        folder.mkdir(parents=True)
        for file in ("config.json", "result.json", *(("metrics.csv", "table2.json") if number < SHOWN else ())):
            (folder / file).write_bytes(contents[file])
        (folder / name).write_bytes(mutate_text(record, rng))
    mnist_run(tmp_path / "shown" / "good", preset="tutorial", score=123.25, dropout_on=99.0, metrics=METRICS)
    runs = load([tmp_path])
    assert tmp_path / "shown" / "good" in set(runs.table["folder"])
    left_out = [note for note in runs.notes if note.endswith("left out")]
    assert (len(left_out) > READ / 10 or kind == "flickr/table2") and not any("\n" in note for note in runs.notes)
    assert len({note.split(": ")[0] for note in left_out}) == len(left_out), "more than one note a file"
    assert tables.main(["--runs", str(tmp_path / "shown"), "--out", str(tmp_path / "out")]) == 0
    assert "123.2" in (tmp_path / "out" / "table1.md").read_text(encoding="utf-8")
    assert report.main(["--runs", str(tmp_path / "shown"), "--out", str(tmp_path / "report.html")]) == 0
    assert "123.2" in (tmp_path / "report.html").read_text(encoding="utf-8")
