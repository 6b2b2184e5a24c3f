"""Tables 1 and 2 and the details from run folders: figures against NumPy, every form parsed back."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.mnist.presets import MNIST_PRESETS
from experiments.report import digits, forms, tables
from experiments.report.records import KMEANS, REAL
from experiments.runs import photo_table
from experiments.runs.records import Weights
from tests.experiments import commands
from tests.experiments.conftest import Call
from tests.experiments.report.builders import DIGITS, REFERENCE, SCENES, flickr_run, mnist_run
from tests.experiments.runs.test_photo_table import HOSTILE

PAPER = "Conditional adversarial nets (paper)"


@dataclass
class Made:
    """The files that the command wrote."""

    folder: Path

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def csv(self, name: str = "table1.csv") -> pd.DataFrame:
        return pd.read_csv(self.folder / name, keep_default_na=True)

    def row(self, model: str, name: str = "table1.csv", column: str = "model") -> pd.Series:
        frame = self.csv(name)
        (place,) = np.flatnonzero(frame[column] == model)
        return frame.iloc[place]

    def cells(self, model: str, name: str = "table1.md", block: int = 0) -> dict[str, str]:
        """The row of a Markdown table, by column."""
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in self.text(name).splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in line] for line in lines]
        place = [place for place, row in enumerate(rows) if row[0] in ("Model", "Run", "Method")][block]
        return dict(zip(rows[place], next(row for row in rows[place:] if row[0] == model), strict=True))


def make(*folders: Path, out: Path) -> Made:
    assert tables.main(["--runs", *map(str, folders), "--out", str(out)]) == 0
    return Made(out)


def test_means_and_both_errors_over_seeds_and_what_became_of_the_lost_one(tmp_path: Path) -> None:
    scores, errors = np.array([190.25, 171.5, 203.125]), np.array([2.5, 2.75, 2.25])
    near = {"k": 5, "overall": {"precision": 1.0, "recall": 1.0, "density": 0.75, "coverage": 0.25}, "per_class": []}
    for seed, (score, error) in enumerate(zip(scores, errors, strict=True), start=1):
        own = {"score": float(score), "error": float(error), "sigma": [0.2, 0.1, 0.2][seed - 1]}
        own |= {"dropout_on": [180.0, 190.0, None][seed - 1]}
        result = {"updates": 60_000 + seed, "density_coverage": {"features": near}}
        mnist_run(tmp_path / "runs" / str(seed), seed=seed, result=result, **own)
    mnist_run(tmp_path / "runs" / "lost", seed=4, diverged=True)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    row = made.row(PAPER)
    numbers = {
        "log_likelihood": scores.mean(),
        "standard_error": errors.mean(),
        "spread": scores.std(ddof=1),
        "worst": scores.min(),
        "best": scores.max(),
        "updates": 60_002,
        "label_fidelity": 0.875,
        "diversity": 0.5,
        "density": 0.75,
        "accept_real_wrong": 0.1,
        "on_log_likelihood": 185.0,
        "on_spread": np.sqrt(50),
        "on_label_fidelity": 0.75,
        "on_diversity": 0.9,
    }
    np.testing.assert_allclose(row[list(numbers)].astype(float), list(numbers.values()), rtol=1e-12)
    assert (row["seeds"], row["runs"], row["seed_list"], row["sigma"]) == (3, 4, "1;2;3", "0.1;0.2")
    figures = [f"{value:.1f}" for value in (scores.mean(), scores.std(ddof=1), errors.mean())]
    state = "seeds 1, 2, 3 reached the stopping point; seed 4 diverged at update 812"
    shown = [PAPER, "132 ± 1.8", *figures, "171.5, 203.1", "3 of 4", "87.5%", "0.50", state]
    assert list(made.cells(PAPER).values()) == shown
    shown = made.cells(PAPER, "details.md")
    assert (shown["Sigma"], shown["Updates"], shown["Dropout on"]) == ("0.1, 0.2", "50,000 of 60,002", "185.0")
    assert made.cells(PAPER, "details.md", block=1)["Real image, wrong label"] == "10.0%"


def test_the_published_figures_are_all_there_with_their_source(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    frame = make(tmp_path / "runs", out=tmp_path / "out").csv()
    paper, controls = frame[frame["section"] == "paper"], frame[frame["section"] == "control"]
    assert list(paper["cited"]) == [138, 121, 214, 225, 132] and list(paper["cited_error"]) == [2, 1.6, 1.1, 2, 1.8]
    assert list(controls["cited"]) == [243, 313] and controls["cited_source"].str.contains("1511.01844").all()
    assert paper["cited_source"].str.contains("1411.1784").all() and (frame["seeds"] == 0).all()
    assert {row.preset for row in digits.ROWS} - {"", REAL, KMEANS} == set(MNIST_PRESETS)


def test_full_length_stands_for_the_preset_and_changes_are_details(tmp_path: Path) -> None:
    """Runs cut short stand in for the preset only while there is no full one (issue 13, fault 16)."""
    root = tmp_path / "runs"
    cut = {"stopping": {"max_updates": 9_000}, "result": {"stopped_by": "max_updates"}}
    mnist_run(root / "cut", seed=2, score=100.0, **cut)
    assert make(root, out=tmp_path / "out").row(PAPER)["log_likelihood"] == 100.0
    mnist_run(root / "full", seed=1, score=190.0)
    mnist_run(root / "changed", seed=1, score=-65.0, changes={"generator.output_bias": "marginals"})
    made = make(root, out=tmp_path / "out")
    row = made.row(PAPER)
    assert (row["log_likelihood"], row["seeds"]) == (190.0, 1) and len(made.csv()) == len(digits.ROWS)
    changed = {"paper, 9,000 updates", "paper with generator.output_bias=marginals"}
    assert set(made.csv("details.csv")["name"]) == {"paper", *changed}


@pytest.mark.parametrize(
    ("seed_3", "seen"),
    [(None, "no difference seen"), (1000, "lower")],  # t on one degree of freedom covers -5 and -8; on two it does not.
)
def test_details_compare_estimates_at_the_same_update(tmp_path: Path, seed_3: int | None, seen: str) -> None:
    base = {1: {500: 10.0, 1000: 50.0, 1500: 70.0}, 2: {500: 12.0, 1000: 58.0}, 3: {seed_3 or 750: 54.0}}
    changed = {1: {500: 1.0, 1000: 45.0}, 2: {500: 2.0, 1000: 50.0, 1500: 90.0}, 3: {seed_3 or 800: 47.5}}
    for name, curves, changes in (("base", base, {}), ("changed", changed, {"training.decay": 2.0})):
        for seed, curve in curves.items():
            lines = "".join(f"{update},{value},0.25,0.5\n" for update, value in curve.items())
            metrics = "update,valid_log_likelihood,label_fidelity,diversity\n" + lines
            folder = tmp_path / "runs" / f"{name}{seed}"
            mnist_run(folder, seed=seed, changes=changes, score=150.0 + seed, metrics=metrics)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    row = made.row("paper with training.decay=2.0", "details.csv", "name")
    expected = (1000, 3 if seed_3 else 2, 54.0, 47.5, -6.5)
    assert (row["update"], row["seeds"], row["base"], row["changed"], row["difference"]) == expected
    differences = [-5.0, -8.0, -6.5][: int(row["seeds"])]
    assert row["difference_spread"] == pytest.approx(np.std(differences, ddof=1)) and row["log_likelihood"] == 152.0
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert seen == row["seen"] == ("lower" if interval.high < 0 else "no difference seen")
    shown = made.cells("paper with training.decay=2.0", "details.md", block=2)
    assert (shown["Labels"], shown["Test"]) == ("25%", "152.0")


# Table 2


def test_measures_of_one_run_with_their_intervals_against_both_truths(tmp_path: Path) -> None:
    flickr_run(tmp_path / "runs" / "f")
    made = make(tmp_path / "runs", out=tmp_path / "out")
    shown = made.cells("Conditional adversarial net", "table2.md")
    assert (shown["Precision at 10"], shown["Distinct tags"]) == (r"0.250 \[0.220, 0.280\]", "1,234")
    assert shown["Recall at 10"] == shown["Diversity"] == "—"
    assert made.cells("Conditional adversarial net", "table2.md", block=1)["Precision at 10"].startswith("0.125 ")
    assert made.cells("oracle", "table2.md")["Precision at 10"].startswith("1.000 ")
    frame = made.csv("table2.csv").set_index(["against", "method", "measure"])
    cgan = frame.loc[("user tags and annotations", "cgan", "precision_at_10")]
    assert (cgan["value"], cgan["low"], cgan["high"]) == (0.25, 0.22, 0.28)
    assert frame.loc[("user tags alone", "cgan", "precision_at_10")]["value"] == 0.125
    for seed, value in ((2, 0.28), (3, 0.22)):
        flickr_run(tmp_path / "runs" / f"f{seed}", seed=seed, precision=value)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    shown = made.cells("Conditional adversarial net", "table2.md")["Precision at 10"]
    assert shown == "0.250 ± 0.030" and "seeds 1, 2, 3" in made.text("table2.md")


def test_photos_come_with_their_run_unless_they_are_of_other_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = flickr_run(tmp_path / "runs" / "g", preset="matching-aware")
    photo_table.write_table2(other, photo_table.Table2("Photos", [], weights=Weights(update=5, sha256="x")))
    folder = flickr_run(tmp_path / "runs" / "f")
    generated = [(tag, 0.5) for tag in HOSTILE]
    rows = [photo_table.PhotoRow(7, "a|b.jpg", HOSTILE, ["people"], generated, [HOSTILE[1]])]
    photo_table.write_table2(folder, photo_table.Table2("Photos", rows, "Not *Flickr's* own.", "so"))
    flickr_run(tmp_path / "runs" / "s", dataset=SCENES, notice="Rendered scenes.")
    made = make(tmp_path / "runs", out=tmp_path / "out")
    assert "g/table2.json: its tags are of other weights" in capsys.readouterr().err
    assert "> Not \\*Flickr's\\* own." in made.text("table2.md") and "<script>" not in made.text("table2.md")
    assert "scenes" not in made.text("table2.md") and "> Rendered scenes." in made.text("table2-embedded.md")
    (line,) = [line for line in made.text("table2.md").splitlines() if line.startswith("| 7 ")]
    assert "| people |" in line and f"✓ {photo_table.escape_markdown(HOSTILE[1])} (50%)" in line


# Forms

ODD = r"50% & more_#1 {x} $y$ \input{z} ~^ é − — ± <t>|`"


def check_latex(text: str) -> None:
    """Check that braces and environments balance, and that every row has as many cells as the table has columns."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\{}&%$#_]", "", body)
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0 and bare.count("$") % 2 == 0 and not re.search("[#~^%]", bare)
    for spec, rows in re.findall(r"\\begin\{tabular\}\{(.*?)\}\n(.*?)\\end\{tabular\}", body, re.DOTALL):
        columns = len(re.sub(r"p\{.*?\}", "p", spec))
        found = re.findall(r"^(.*) \\\\$", rows, re.MULTILINE)
        assert found and all(len(re.findall(r"(?<!\\)&", row)) == columns - 1 for row in found)


def test_every_form_holds_odd_texts_as_they_are(tmp_path: Path) -> None:
    mnist_run(tmp_path / "runs" / "a", dataset=DIGITS, preset=ODD)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    for name in ("table1", "table1-embedded", "details"):
        check_latex(made.text(f"{name}.tex"))
    assert r"\input" not in made.text("table1-embedded.tex").split("booktabs.")[1]
    name = f"{ODD} on {DIGITS.name}"
    assert made.csv("table1-embedded.csv")["model"].tolist() == [name]
    assert f"| {photo_table.escape_markdown(name)} |" in made.text("table1-embedded.md")


def test_spreadsheets_meet_no_formula(tmp_path: Path) -> None:
    """Names from strangers' folders do not compute; numbers stay numbers (issue 17, item 11)."""
    mnist_run(tmp_path / "runs" / "a", dataset=DIGITS, preset='=HYPERLINK("http://x")', score=-12.5)
    made = make(tmp_path / "runs", out=tmp_path / "out")
    row = made.csv("table1-embedded.csv").iloc[0]
    assert row["model"].startswith("'=HYPERLINK") and row["log_likelihood"] == -12.5
    table = pd.DataFrame({"text": ["=1", "+1", "-1", "@x", "x=1", "\t=1"], "number": [-1.0, 1e300, 2.5, 0.1, 0.2, 0.3]})
    back = pd.read_csv(io.StringIO(forms.as_csv(table)))
    assert list(back["text"]) == ["'=1", "'+1", "'-1", "'@x", "x=1", "'\t=1"]
    assert list(back["number"]) == list(table["number"])


# As a user types it


def test_the_reference_results_as_a_user_types_it(tmp_path: Path, call: Call) -> None:
    done = call(tables.main, "--runs", REFERENCE, "--out", tmp_path / "out")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    made = Made(tmp_path / "out")
    results = [json.loads(path.read_text()) for path in REFERENCE.glob("mnist/conditional-best-seed?/result.json")]
    score = np.mean([result["parzen"]["test_mean"] for result in results])
    row = made.row("conditional-best")
    np.testing.assert_allclose(row["log_likelihood"], score, rtol=1e-12)
    assert re.search(rf"^conditional-best +{score:.1f} ", done.stdout, re.MULTILINE)
    for name in ("table1", "table1-embedded", "table2", "table2-embedded", "details"):
        assert all(f"{name}.{form}" in done.stdout for form in ("md", "csv", "tex"))
        check_latex(made.text(f"{name}.tex"))


def test_before_the_first_run_and_after_mistakes(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(tables.main)
    assert done.returncode == 0 and done.stderr == "note: runs: no run was found there\n"
    assert done.stdout.count("not run: ") == 8 and "make mnist PRESET=paper" in done.stdout
    assert "make flickr-tags" in (tmp_path / "results" / "table2.md").read_text(encoding="utf-8")
    commands.assert_one_sentence(call(tables.main, "--runs", "rusn"), "rusn", "no such folder")
    commands.assert_one_sentence(call(tables.main, "--out", "results/table1.md"), "--out", "table1.md")
