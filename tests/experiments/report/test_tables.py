"""Tables 1 and 2 from hand-made run folders: figures against NumPy, forms parsed back, damage survived."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.mnist.presets import MNIST_PRESETS
from experiments.parzen import __main__ as parzen
from experiments.report import records as run_records
from experiments.report import table_forms, tables
from experiments.runs import photo_table as table2
from tests.experiments import commands
from tests.experiments.runs.test_photo_table import HOSTILE

REFERENCE = commands.ROOT / "experiments" / "results"

#: Of an MNIST that never was; only that it is the same for all runs counts.
DATASET = {"name": "mnist", "embedded": False, "checksum": "c0ffee"}
DIGITS = {"name": "digits (embedded)", "embedded": True, "checksum": "d161"}


def write(path: Path, record: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record), encoding="utf-8")
    return path


def mnist_run(
    folder: Path, preset: str = "paper", seed: int = 1, score: float = 190.0, settings: Any = None, **changes: Any
) -> Path:
    """A finished run's folder; ``settings`` maps dotted names to values that differ from the preset's, ``changes``
    the result's own fields to values."""
    own = MNIST_PRESETS[preset]().as_dict()
    for name, value in (settings or {}).items():
        section, field = name.split(".")
        own[section][field] = value
    record = {
        "experiment": "mnist",
        "preset": preset,
        "status": "finished",
        "stopped_by": "patience",
        "dataset": DATASET,
        "seed": seed,
        "updates": 60_000,
        "best_update": 50_000,
        "seconds": 3_600.0,
        "parzen": {"sigma": 0.16681005, "test_mean": score, "test_se": 2.5, "at_edge": False},
        "label_fidelity": {"share": 0.875},
        "variety": {"overall": 0.5},
        "device": "cuda (NVIDIA H200)",
        **changes,
    }
    write(folder / "config.json", {"experiment": "mnist", "preset": preset, "seed": seed, "settings": own})
    write(folder / "result.json", record)
    return folder


def flickr_run(folder: Path, seed: int = 1, precision: float = 0.25, **changes: Any) -> Path:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.03, "high": value + 0.03}

    record = {
        "experiment": "flickr-tags",
        "preset": "paper",
        "dataset": {"name": "flickr-mini", "embedded": False, "checksum": "f11c"},
        "seed": seed,
        "status": "finished",
        "updates": 4_000,
        "seconds": 300.0,
        "measures": {
            "cgan": {"precision_at_10": interval(precision), "distinct_tags": 1234, "diversity": None},
            "vote": {"precision_at_10": interval(0.24), "distinct_tags": 99},
            "oracle": {"precision_at_10": 1},
        },
        "test_images": 120,
        **changes,
    }
    write(folder / "result.json", record)
    write(folder / "config.json", {**record, "settings": {"training": {"decay": 1.0003}}})
    return folder


class Made:
    """The files that the command wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def csv(self, name: str = "table1.csv") -> pd.DataFrame:
        return pd.read_csv(self.folder / name)

    def row(self, model: str, name: str = "table1.csv") -> pd.Series:
        frame = self.csv(name)
        (place,) = np.flatnonzero(frame["model"] == model)
        return frame.iloc[place]

    def markdown_row(self, model: str, name: str = "table1.md") -> list[str]:
        (line,) = [line for line in self.text(name).splitlines() if line.startswith(f"| {model} |")]
        return cells(line)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def make(*folders: Path, out: Path) -> Made:
    assert tables.main(["--runs", *map(str, folders), "--out", str(out)]) == 0
    return Made(out)


PAPER = "Conditional adversarial nets (paper)"


def test_means_and_spread_over_seeds(tmp_path: Path) -> None:
    scores, errors = np.array([190.25, 171.5, 203.125]), np.array([2.5, 2.75, 2.25])
    for seed, (score, error) in enumerate(zip(scores, errors, strict=True), start=1):
        mnist_run(
            tmp_path / "runs" / "mnist" / f"paper-seed{seed}",
            seed=seed,
            updates=60_000 + seed,
            seconds=1_000.0 * seed,
            parzen={"sigma": [0.2, 0.1, 0.2][seed - 1], "test_mean": score, "test_se": error},
        )
    made = make(tmp_path / "runs", out=tmp_path / "out")
    row = made.row(PAPER)
    expected = [scores.mean(), errors.mean(), scores.std(ddof=1), 2_000.0, 60_002, 0.875, 0.5]
    names = ["log_likelihood", "standard_error", "spread", "seconds", "updates", "labels_as_asked", "variety"]
    np.testing.assert_allclose(row[names].astype(float), expected, rtol=1e-12)
    assert (row["seeds"], row["seed_list"], row["sigma"], row["cited"]) == (3, "1;2;3", "0.1;0.2", 132)
    shown = made.markdown_row(PAPER)
    assert shown[:7] == [
        PAPER,
        "132 ± 1.8",
        f"{scores.mean():.1f} ± {errors.mean():.1f}",
        f"{scores.std(ddof=1):.1f}",
        "3",
        "0.1, 0.2",
        "50,000 of 60,001–60,003",
    ]
    assert shown[7:12] == ["33 min", "87.5%", "0.50", "reached its stopping point", "cuda (NVIDIA H200)"]


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    mnist_run(tmp_path / "runs" / "a", preset="gan", score=-46.75)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    row = made.row("Adversarial nets (gan)")
    assert row["log_likelihood"] == -46.75 and np.isnan(row["spread"]) and row["seeds"] == 1
    assert made.markdown_row("Adversarial nets (gan)")[2:5] == ["−46.8 ± 2.5", "—", "1"]


def test_the_papers_figures_are_all_there_with_their_source(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    frame = make(tmp_path / "runs", out=tmp_path / "out").csv()
    paper, controls = frame[frame["section"] == "paper"], frame[frame["section"] == "control"]
    assert list(paper["cited"]) == [138, 121, 214, 225, 132] and list(paper["cited_error"]) == [2, 1.6, 1.1, 2, 1.8]
    assert list(controls["cited"]) == [243, 313]
    assert paper["cited_source"].str.contains("1411.1784").all()
    assert controls["cited_source"].str.contains("1511.01844").all()
    assert frame["state"].str.startswith("not run: ").all() and (frame["seeds"] == 0).all()
    further = ["paper-literal", "tutorial", "conditional-best"]
    assert set(frame["preset"].dropna()) == {*MNIST_PRESETS, parzen.REAL, parzen.KMEANS} - set(further)
    assert list(frame["model"][-3:]) == further


@pytest.mark.parametrize("model", [PAPER, "10,000 k-means centroids"])
def test_what_is_not_run_says_how_to_run_it(model: str, tmp_path: Path) -> None:
    """The command that the row names is one that the project takes."""
    (tmp_path / "runs").mkdir()
    state = make(tmp_path / "runs", out=tmp_path / "out").row(model)["state"].removeprefix("not run: ")
    if state.startswith("make"):
        done = subprocess.run(["make", "-n", *state.split()[1:]], cwd=commands.ROOT, capture_output=True)
        assert done.returncode == 0
    else:
        settings = state.split("experiments.parzen ")[1].split()
        assert settings[:2] == ["--samples", parzen.KMEANS] and settings[2] == "--json"


def test_a_changed_setting_gets_a_row_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    mnist_run(root / "a", seed=1, score=190.0)
    mnist_run(root / "b", seed=1, score=-65.0, settings={"generator.output_bias": "marginals"})
    mnist_run(root / "c", seed=2, score=-67.0, settings={"generator.output_bias": "marginals"})
    mnist_run(root / "d", seed=2, score=180.0, settings={"stopping.max_updates": 9_000}, stopped_by="max_updates")
    made = make(root, out=tmp_path / "out")
    changed = made.row("paper with generator.output_bias=marginals")
    assert (changed["section"], changed["log_likelihood"], changed["seeds"]) == ("further", -66.0, 2)
    # The length of training is no such setting, but the row tells it.
    row = made.row(PAPER)
    assert (row["log_likelihood"], row["seeds"]) == (185.0, 2)
    full = MNIST_PRESETS["paper"]().stopping.max_updates
    assert row["state"] == f"seed 1 reached its stopping point; seed 2 cut short (planned: at most {full:,} updates)"


def test_embedded_runs_keep_to_their_own_table(tmp_path: Path) -> None:
    mnist_run(tmp_path / "runs" / "digits", dataset=DIGITS, score=150.0)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert made.row(PAPER)["seeds"] == 0 and not (made.csv()["log_likelihood"] == 150.0).any()
    row = made.row("paper on digits (embedded)", "table1-embedded.csv")
    assert row["log_likelihood"] == 150.0 and np.isnan(row["cited"])
    assert "embedded" in made.text("table1-embedded.md") and r"150.0 $\pm$ 2.5" in made.text("table1-embedded.tex")


def test_diverged_and_unfinished_runs_say_so(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    mnist_run(root / "gan", preset="gan", status="diverged", reason="loss is NaN", updates=812)
    for seed in (1, 2):
        mnist_run(root / f"paper{seed}", seed=seed)
    (root / "paper2" / "result.json").unlink()
    config = json.loads((root / "paper2" / "config.json").read_text())
    write(root / "paper2" / "config.json", {**config, "dataset": DATASET})
    write(root / "paper2" / "metrics.csv", "update,valid_log_likelihood\n500,-3.5\n2500,12.25\n5000,7\n")
    made = make(root, out=tmp_path / "out")
    assert made.markdown_row("Adversarial nets (gan)")[2:4] == ["diverged", ""]
    assert made.row("Adversarial nets (gan)")["state"] == "diverged at update 812"
    row = made.row(PAPER)
    assert (row["seeds"], row["log_likelihood"]) == (1, 190.0)
    assert row["state"] == (
        "seed 1 reached its stopping point; seed 2 unfinished at update 5,000, best validation estimate 12.2 nats"
    )


@pytest.mark.parametrize("metrics", [None, "", "update\n", "update,valid_log_likelihood\nx,y\n"])
def test_a_run_that_has_just_begun(metrics: str | None, tmp_path: Path) -> None:
    folder = mnist_run(tmp_path / "runs" / "a")
    (folder / "result.json").unlink()
    write(folder / "config.json", {"experiment": "mnist", "preset": "paper", "seed": 1, "dataset": DATASET})
    if metrics is not None:
        write(folder / "metrics.csv", metrics)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert made.markdown_row(PAPER)[2] == "unfinished" and made.row(PAPER)["state"] == "unfinished"


def test_controls_are_read_from_scores(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    shutil.copytree(REFERENCE / "mnist-controls", root / "controls")
    record = json.loads((root / "controls" / "k-means.json").read_text())
    write(root / "few.json", {**record, "n_samples": 100, "test_mean": 1.0})
    write(root / "own.json", {**record, "samples": "dbn.npy", "test_mean": 2.0})
    write(root / "other-images.json", {**record, "test": "mine.npy", "test_mean": 3.0})
    made = make(root, out=tmp_path / "out")
    assert made.row("10,000 k-means centroids")["log_likelihood"] == record["test_mean"]
    assert made.row("10,000 real training images")["log_likelihood"] == pytest.approx(244.164005, abs=1e-6)
    assert made.row("samples mnist-kmeans with 100 samples")["log_likelihood"] == 1.0
    assert made.row("samples dbn.npy")["log_likelihood"] == 2.0
    assert not (made.csv()["log_likelihood"] == 3.0).any()


def test_the_names_of_the_controls_are_the_commands() -> None:
    assert (run_records.REAL, run_records.KMEANS, run_records.COUNT) == (parzen.REAL, parzen.KMEANS, parzen.COUNT)


def note_of(capsys: pytest.CaptureFixture[str], made: Made, *words: str) -> None:
    """One note on standard error and in Table 1's file holds all ``words``."""
    notes = [line for line in capsys.readouterr().err.splitlines() if all(word in line for word in words)]
    assert len(notes) == 1 and notes[0].startswith("note: ")
    listed = made.text("table1.md").split("## Notes")[1].replace("\\", "")
    assert notes[0].removeprefix("note: ") in listed


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"experiment": "mni'])
def test_broken_json_is_named_and_costs_nothing_else(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mnist_run(tmp_path / "runs" / "good")
    write(mnist_run(tmp_path / "runs" / "bad", seed=2) / "result.json", content)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert made.row(PAPER)["seeds"] == 1
    note_of(capsys, made, "bad/result.json", "left out")


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({"experiment": None}, "experiment"),
        ({"preset": None}, "preset"),
        ({"status": None}, "status"),
        ({"seed": "1"}, "seed"),
        ({"dataset": "mnist"}, "dataset.embedded"),
        ({"dataset": {"name": "digits"}}, "dataset.embedded"),
        ({"parzen": 190.0}, "parzen.test_mean"),
        ({"parzen": {"test_mean": float("nan"), "test_se": 1.0}}, "parzen.test_mean"),
        ({"parzen": {"test_mean": 190.0}}, "parzen.test_se"),
    ],
)
def test_a_result_of_an_older_format_is_named(
    missing: dict[str, Any], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mnist_run(tmp_path / "runs" / "new", seed=2)
    path = mnist_run(tmp_path / "runs" / "old") / "result.json"
    write(path, {**json.loads(path.read_text()), **missing})
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert made.row(PAPER)["seed_list"] == 2
    note_of(capsys, made, "old/result.json", "older format", named, "--resume")


def test_the_least_that_a_result_must_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measures that came later are left blank, and settings that cannot be read are taken for the preset's."""
    record = {"experiment": "mnist", "preset": "paper", "status": "finished", "dataset": DATASET, "seed": 1}
    write(tmp_path / "runs" / "a" / "result.json", {**record, "parzen": {"test_mean": 1.5, "test_se": 0.5}})
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert made.markdown_row(PAPER)[2:11] == ["1.5 ± 0.5", "—", "1", "", "", "", "", "", "finished"]
    note_of(capsys, made, "a/result.json", "no readable config.json")


def started(when: str) -> dict[str, Any]:
    return {"sessions": [{"started": "2026-01-01T00:00:00Z"}, {"started": when}]}


def test_of_two_runs_of_a_seed_the_later_finished_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "runs"
    mnist_run(root / "early", score=150.0, **started("2026-02-01T00:00:00Z"))
    mnist_run(root / "late", score=160.0, updates=10, **started("2026-03-01T00:00:00Z"))
    mnist_run(root / "latest", score=170.0, status="diverged", **started("2026-04-01T00:00:00Z"))
    made = make(root, out=tmp_path / "out")
    row = made.row(PAPER)
    assert (row["log_likelihood"], row["seeds"], row["runs"]) == (160.0, 1, str(root / "late"))
    again = made.csv()[made.csv()["model"] == "paper, seed 1 again"]
    assert list(again["log_likelihood"])[:1] == [150.0] and list(again["state"])[1] == "diverged at update 60,000"
    note_of(capsys, made, "early: another run of paper, seed 1", "late, which finished later")


def test_without_dates_the_longer_run_counts(tmp_path: Path) -> None:
    mnist_run(tmp_path / "runs" / "a", score=150.0, updates=15_000)
    mnist_run(tmp_path / "runs" / "b", score=190.0, updates=62_108)
    os.utime(tmp_path / "runs" / "b", (1, 1))
    assert make(tmp_path / "runs", out=tmp_path / "out").row(PAPER)["log_likelihood"] == 190.0


def test_a_copy_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mnist_run(tmp_path / "runs" / "a")
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    made = make(tmp_path / "runs", tmp_path / "copy", tmp_path / "runs" / "a", out=tmp_path / "out")
    assert made.row(PAPER)["seeds"] == 1 and not made.csv()["model"].str.contains("again").any()
    note_of(capsys, made, "copy/a: the same as", "counted once")


def test_another_experiments_files_are_let_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "runs" / "w" / "result.json", {"experiment": "word-vectors", "seconds": 3})
    write(tmp_path / "runs" / "w" / "config.json", {"hidden": 3})
    write(tmp_path / "runs" / "w" / "list.json", [1, 2])
    mnist_run(tmp_path / "runs" / "a")
    make(tmp_path / "runs", out=tmp_path / "out")
    assert capsys.readouterr().err == ""


# Table 2


def test_measures_of_one_run_with_their_intervals(tmp_path: Path) -> None:
    flickr_run(tmp_path / "runs" / "f")
    made = make(tmp_path / "runs", out=tmp_path / "out")
    shown = made.markdown_row("Conditional adversarial net", "table2.md")
    assert shown[1:3] == [r"0.250 \[0.220, 0.280\]", "—"] and shown[-2:] == ["1,234", "—"]
    assert made.markdown_row("MLP regression", "table2.md")[1:] == ["—"] * len(tables.MEASURES)
    assert made.markdown_row("oracle", "table2.md")[1] == "1.000"
    assert "## paper on flickr-mini, seed 1: finished" in made.text("table2.md")
    frame = made.csv("table2.csv").set_index(["method", "measure"])
    cgan = frame.loc[("cgan", "precision_at_10")]
    assert (cgan["value"], cgan["low"], cgan["high"]) == (0.25, 0.25 - 0.03, 0.25 + 0.03)
    assert np.isnan(frame.loc[("cgan", "diversity")]["value"]) and frame.loc[("vote", "distinct_tags")]["value"] == 99


def test_both_truths_are_shown_and_named(tmp_path: Path) -> None:
    alone = {"cgan": {"precision_at_10": {"value": 0.125, "low": 0.1, "high": 0.15}}}
    flickr_run(tmp_path / "runs" / "f", measures_user_tags=alone)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    frame = made.csv("table2.csv").set_index(["against", "method", "measure"])
    for truth, value, shown in (
        ("user tags and annotations", 0.25, r"0.250 \[0.220, 0.280\]"),
        ("user tags alone", 0.125, r"0.125 \[0.100, 0.150\]"),
    ):
        part = made.text("table2.md").split(f"; against {truth}\n")[1].split("\n## ")[0]
        assert f"| Conditional adversarial net | {shown} |" in part
        assert f"against {truth}" in made.text("table2.tex")
        assert frame.loc[(truth, "cgan", "precision_at_10")]["value"] == value


def test_measures_over_seeds(tmp_path: Path) -> None:
    values = [0.25, 0.28, 0.22]
    for seed, value in enumerate(values, start=1):
        flickr_run(tmp_path / "runs" / f"f{seed}", seed=seed, precision=value)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    expected = f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert made.markdown_row("Conditional adversarial net", "table2.md")[1] == expected
    assert "seeds 1, 2, 3" in made.text("table2.md")


def test_photos_come_with_their_run(tmp_path: Path) -> None:
    folder = flickr_run(tmp_path / "runs" / "f")
    generated = [(tag, 0.5) for tag in HOSTILE]
    rows = [table2.PhotoRow(7, Path("a|b.jpg"), HOSTILE, ["people"], generated, {HOSTILE[1]})]
    table2.write_table2(folder, rows, title="Photos", notice="Not *Flickr's* own.", caption="so")
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert "> Not \\*Flickr's\\* own." in made.text("table2.md")
    assert table2.photos_markdown(table2.read_table2(folder / "table2.json").rows) in made.text("table2.md")
    with open(made.folder / "table2-photos.csv", encoding="utf-8", newline="") as file:
        (photo,) = csv.DictReader(file)
    assert json.loads(photo["user_tags"]) == HOSTILE and json.loads(photo["annotations"]) == ["people"]
    assert json.loads(photo["generated"]) == [[tag, 0.5] for tag in HOSTILE]
    assert json.loads(photo["right"]) == [HOSTILE[1]] and photo["number"] == "7"
    check_latex(made.text("table2.tex"))
    assert "<script>" not in made.text("table2.md")


def test_broken_photos_and_embedded_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = {"name": "scenes (embedded)", "embedded": True, "checksum": "5"}
    write(flickr_run(tmp_path / "runs" / "f") / "table2.json", "{")
    flickr_run(tmp_path / "runs" / "s", dataset=scenes, notice="Rendered scenes.")
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert "table2.json" in made.text("table2.md").split("## Notes")[1]
    assert "f/table2.json" in capsys.readouterr().err
    assert "scenes" not in made.text("table2.md") and "> Rendered scenes." in made.text("table2-embedded.md")


@pytest.mark.parametrize("measures", [{}, {"cgan": None}, {"cgan": {"precision_at_10": "high"}}, {"cgan": []}])
def test_measures_are_read_leniently(measures: Any, tmp_path: Path) -> None:
    flickr_run(tmp_path / "runs" / "f", measures=measures)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert made.markdown_row("Conditional adversarial net", "table2.md")[1:] == ["—"] * len(tables.MEASURES)


def test_diverged_flickr_runs_say_so(tmp_path: Path) -> None:
    record = {"status": "diverged", "updates": 900, "measures": None}
    flickr_run(tmp_path / "runs" / "f", **record)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert "## paper on flickr-mini, seed 1: diverged at update 900" in made.text("table2.md")


# Forms


def check_latex(text: str) -> None:
    """Braces and environments balanced, and in every row of a ``tabular`` as many cells as it has columns."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\{}&%$#_]", "", body)
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0 and bare.count("$") % 2 == 0 and not re.search("[#~^%]", bare)
    assert not re.search(r"(?<!\\)_", body)
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    for spec, rows in re.findall(r"\\begin\{tabular\}\{(.*?)\}\n(.*?)\\end\{tabular\}", body, re.DOTALL):
        columns = len(re.sub(r"p\{.*?\}", "p", spec))
        for row in re.findall(r"^(?!\\hline)(.*) \\\\$", rows, re.MULTILINE):
            if not row.startswith(r"\multicolumn"):
                assert len(re.findall(r"(?<!\\)&", row)) == columns - 1, row


def test_latex_stays_latex_whatever_it_holds(tmp_path: Path) -> None:
    hostile = r"50% & more_#1 {x} $y$ \input{z} ~^ [k] -- é"
    mnist_run(tmp_path / "runs" / "a", settings={"generator.noise": hostile}, device=hostile)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    text = made.text("table1.tex")
    check_latex(text)
    shown = (
        r"50\% \& more\_\#1 \{x\} \$y\$ \textbackslash{}input\{z\} \textasciitilde{}\textasciicircum{} {[}k{]} -{}- é"
    )
    assert shown in text and r"\input{z}" not in text
    check_latex(made.text("table2.tex"))
    check_latex(made.text("table1-embedded.tex"))


@pytest.mark.parametrize("text", ["a--b", "---", "*x", "[x]", "a\n\nb", "−1 — 2–3 ± 4", "<x>|`", "\x00"])
def test_latex_of_odd_texts(text: str) -> None:
    escaped = table_forms.escape_latex(text)
    # Neither a paragraph, nor an option or star after the row before, nor dashes made of hyphens.
    assert "\n" not in escaped and not escaped.startswith(("*", "["))
    assert "--" not in escaped or "—" in text
    back = escaped
    for shown, source in {"$-$": "−", "---": "—", "--": "–", r"$\pm$": "±", "-{}": "-", "{*}": "*"}.items():
        back = back.replace(shown, source)
    for name, sign in {"textless": "<", "textgreater": ">", "textbar": "|", "textasciigrave": "`"}.items():
        back = back.replace(rf"\{name}{{}}", sign)
    assert back.replace("{[}", "[").replace("{]}", "]") == " ".join(text.split()).replace("\x00", "�")


def test_a_table_for_the_terminal_is_aligned() -> None:
    table = table_forms.Table(("A", "B"), (("First", (("long text", "−1"), ("x", "—"))), ("Second", (("y", "2"),))))
    assert table_forms.plain(table).splitlines() == [
        "A          B",
        "",
        "First:",
        "long text  -1",
        "x          -",
        "",
        "Second:",
        "y          2",
    ]


# As a user types it


def test_the_reference_results_as_a_user_types_it(tmp_path: Path) -> None:
    """The README's figures come from this command."""
    done = commands.run("tables", "--runs", "experiments/results", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    made = Made(tmp_path / "out")
    readme = (commands.ROOT / "README.md").read_text(encoding="utf-8")
    for model, preset in (("Adversarial nets (gan)", "gan"), (PAPER, "paper")):
        results = [json.loads(path.read_text()) for path in REFERENCE.glob(f"mnist/{preset}-seed?/result.json")]
        score = np.mean([result["parzen"]["test_mean"] for result in results])
        np.testing.assert_allclose(made.row(model)["log_likelihood"], score, rtol=1e-12)
        assert re.search(rf"^{re.escape(model)} .* {score:.1f} ± ", done.stdout, re.MULTILINE)
        assert f"{score:.1f} ± " in readme
    for control in made.csv()["log_likelihood"][made.csv()["section"] == "control"]:
        assert f"{control:.1f} ± " in readme and f"{control:.1f} ± " in done.stdout
    for name in ("table1.md", "table1.tex", "table1.csv", "table2.md", "table2.csv", "table2.tex"):
        assert name in done.stdout and (made.folder / name).stat().st_size > 0
    assert not [path for path in made.folder.iterdir() if path.suffix == ".tmp"]
    # What notes name is what the user named.
    assert "paper-seed1-at-epoch-30" in done.stderr and str(commands.ROOT) not in done.stdout + done.stderr


def test_what_a_search_played_is_no_run(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "search" / "mine" / "search.json", {"experiment": "mnist"})
    mnist_run(tmp_path / "runs" / "search" / "mine" / "trials" / "0001", score=250.0)
    write(tmp_path / "runs" / "search" / "mine" / "ray" / "tune" / "state.json", "\x80 no JSON")
    mnist_run(tmp_path / "runs" / "mnist" / "paper-seed1", score=190.0)
    found = run_records.find([tmp_path / "runs"])
    assert [run.result["parzen"]["test_mean"] for run in found.runs] == [190.0] and not found.notes


def test_before_the_first_run(tmp_path: Path) -> None:
    done = commands.run("tables", cwd=tmp_path, PYTHONPATH=str(commands.ROOT))
    assert done.returncode == 0 and done.stderr == "note: runs: no run was found there\n"
    assert done.stdout.count("not run: ") == 10 and "make mnist PRESET=paper" in done.stdout
    assert "make flickr-tags" in (tmp_path / "results" / "table2.md").read_text(encoding="utf-8")


def test_mistakes_end_in_one_sentence_and_leave_the_tables(tmp_path: Path) -> None:
    mnist_run(tmp_path / "runs" / "a")
    made = make(tmp_path / "runs", out=tmp_path / "out")
    before = made.text("table1.md")
    commands.assert_one_sentence(
        commands.run("tables", "--runs", tmp_path / "rusn", "--out", tmp_path / "out"), "rusn", "no such folder"
    )
    commands.assert_one_sentence(
        commands.run("tables", "--runs", tmp_path / "runs", "--out", made.folder / "table1.md"), "--out", "table1.md"
    )
    assert made.text("table1.md") == before
