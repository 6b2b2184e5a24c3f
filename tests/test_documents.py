"""README and docs: links, commands and options exist, code runs, and every table's numbers are those of the results."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), RESULTS / "README.md"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def row(page: str, start: str) -> list[str]:
    """Return the cells of the only table row of the page whose first cell is ``start``."""
    found = [line for line in text_of(page).splitlines() if line.startswith(f"| {start} |")]
    assert len(found) == 1, (page, start, len(found))
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def result(folder: str) -> dict[str, Any]:
    return json.loads((RESULTS / folder / "result.json").read_text(encoding="utf-8"))


def nats(parzen: dict[str, Any], part: str = "test") -> str:
    return f"{parzen[f'{part}_mean']:.1f} ± {parzen[f'{part}_se']:.1f}".replace("-", "−")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            path, _, heading = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), target
            assert not heading or heading in anchors(there), target


#: Options of every command, which their own tests try.
EVERYWHERE = ("--help-all", "--version")


@cache
def options(module: str) -> str:
    """Return the help of a command and of all its presets or subcommands."""

    def help_of(*arguments: str) -> str:
        shown = io.StringIO()
        with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(shown):
            patched.setattr(sys, "argv", [module, *arguments, "--help-all"])
            with pytest.raises(SystemExit) as end:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
        assert not end.value.code, (module, arguments)
        return shown.getvalue()

    text = help_of()
    presets = re.match(r"usage:[^{]*\{([\w,-]+)\}", text)
    return text + "".join(help_of(name) for name in (presets[1].split(",") if presets else ()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    text, makefile = page.read_text(encoding="utf-8"), text_of("Makefile")
    for target in re.findall(r"(?:^|`)make ([a-z][\w-]*)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    if page.parent == ROOT:
        targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
        assert targets and not [target for target in targets[1].split() if f"`make {target}`" not in text]
    commands = re.findall(r"-m (experiments\.\w+)([^`\n]*)", text)
    for module, rest in commands:
        words = shlex.split(rest.replace("'", ""), comments=True)
        for option in (word for word in words if word.startswith("--") and word not in EVERYWHERE):
            assert re.search(rf"{re.escape(option)}\b", options(module)), (module, option)
        if not words:
            options(module)


def test_code_runs_as_printed(tmp_path: Path) -> None:
    labels, load, vocabulary = blocks(text_of("docs/your-own-data.md"), "python")
    assert labels == text_of("examples/labels.py")  # Which test_examples runs.
    for code in (load, vocabulary):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_citation_is_of_this_version() -> None:
    citation, (version,) = text_of("CITATION.cff"), re.findall(r"^version = (.*)$", text_of("setup.cfg"), re.MULTILINE)
    assert f"\nversion: {version}\n" in citation and "1411.1784" in citation


ROWS = {
    "Adversarial nets (`gan`)": "mnist/gan-seed1",
    "Conditional adversarial nets (`paper`)": "mnist/paper-seed1",
    "`paper-literal`": "mnist/paper-literal-seed1",
    "`tutorial`": "mnist/tutorial-seed1",
}
BEST = [f"mnist/conditional-best-seed{seed}" for seed in (1, 2, 3)]


def labels(found: dict[str, Any]) -> str:
    fidelity = found.get("label_fidelity")
    return f"{100 * fidelity['share']:.1f}%" if fidelity else ""


@pytest.mark.parametrize("name", ROWS)
def test_table_1(name: str) -> None:
    found = result(ROWS[name])
    cells = row("README.md", name)
    assert cells[2:] == [nats(found["parzen"]), "1", labels(found), f"{found['diversity']['overall']:.2f}"]


def test_the_mean_over_seeds_and_the_verdict() -> None:
    found = [result(folder) for folder in BEST]
    scores = np.array([each["parzen"]["test_mean"] for each in found])
    error = np.mean([each["parzen"]["test_se"] for each in found])
    fidelity = np.mean([each["label_fidelity"]["share"] for each in found])
    diversity = np.mean([each["diversity"]["overall"] for each in found])
    expected = [f"{scores.mean():.1f} ± {error:.1f}", "3", f"{100 * fidelity:.1f}%", f"{diversity:.2f}"]
    assert row("README.md", "`conditional-best`")[2:] == expected
    low, high = stats.t.interval(0.95, 2, scores.mean(), scores.std(ddof=1) / np.sqrt(3))
    verdict = " ".join(text_of("docs/results.md").split())
    assert f"is {scores.mean():.1f}, standard deviation {scores.std(ddof=1):.1f}; its 95% t interval" in verdict
    assert f"is {low:.0f} to {high:.0f}, which holds 225" in verdict and low < 225 < high
    for seed, each in enumerate(found, 1):
        cells = row("docs/results.md", str(seed))
        assert cells[1:4] == [nats(each["parzen"], "valid"), nats(each["parzen"]), labels(each)]
        assert cells[4] == f"{each['diversity']['overall']:.2f}"
        assert cells[5] == f"{100 * each['train_on_generated']['generated']:.1f}%"
        on = each["dropout_on"]
        assert cells[6] == f"{nats(on['parzen'])}, {on['diversity']['overall']:.2f}, {labels(on)}"


@pytest.mark.parametrize(
    ("name", "file"),
    [("10,000 real training images (control)", "mnist-train"), ("10,000 k-means centroids (control)", "mnist-kmeans")],
)
def test_controls(name: str, file: str) -> None:
    (path,) = [p for p in (RESULTS / "mnist-controls").glob("*.json") if json.loads(p.read_text())["samples"] == file]
    assert row("README.md", name)[2] == nats(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("`gan`", "gan-seed1"),
        ("`paper`", "paper-seed1"),
        ("`paper`, older revision", "paper-seed1-stopped-by-hand"),
        ("`paper`, first 30 epochs", "paper-seed1-at-epoch-30"),
        ("`paper-literal`", "paper-literal-seed1"),
        ("`tutorial`", "tutorial-seed1"),
    ],
)
def test_how_each_row_was_measured_and_what_d_accepts(name: str, folder: str) -> None:
    found = result(f"mnist/{folder}")
    lines = [line for line in text_of("docs/results.md").splitlines() if line.startswith(f"| {name} |")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]
    updates = [f"{found['best_update']:,}", f"{found['updates']:,}"]
    expected = [nats(found["parzen"]), f"{found['parzen']['sigma']:.3f}", *updates, f"{found['seconds'] / 60:.0f} min"]
    assert cells[0] == expected
    if "acceptance" in found:
        assert cells[-1] == [f"{100 * share:.1f}%" for pair in found["acceptance"]["accepted"] for share in pair]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_d_of_conditional_best_accepts(seed: int) -> None:
    accepted = result(BEST[seed - 1])["acceptance"]["accepted"]
    expected = [f"{100 * share:.1f}%" for pair in accepted for share in pair]
    assert row("docs/results.md", f"`conditional-best`, seed {seed}")[1:] == expected


def interval(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


TAGS = {name: result(f"flickr-tags/{name}-flickr-mini-seed1") for name in ("matching-aware", "paper")}
METHODS = {
    "cgan": ("Conditional adversarial net", "conditional GAN (`matching-aware`)"),
    "commonest": ("Always the commonest tags", "the ten commonest tags, always"),
    "vote": ("Votes of similar photos", "votes of the 40 most similar photos"),
    "ridge": ("Linear map (ridge)", "linear map (ridge) to the mean tag vector"),
    "mlp": ("MLP regression", "MLP of G's size, no noise, no D"),
}


def user_tag_cells(measures: dict[str, Any]) -> list[str]:
    average, cosine = measures["mean_average_precision"], measures["best_cosine"]["value"]
    return [interval(measures["precision_at_10"]), interval(average), f"{cosine:.3f}", str(measures["distinct_tags"])]


@pytest.mark.parametrize("method", METHODS)
def test_table_2(method: str) -> None:
    found, (readme, tags) = TAGS["matching-aware"], METHODS[method]
    both = [interval(found[against][method]["precision_at_10"]) for against in ("measures", "measures_user_tags")]
    assert row("README.md", readme)[1:] == both
    assert row("docs/tags.md", tags)[1:] == user_tag_cells(found["measures_user_tags"][method])


def test_the_paper_presets_tags() -> None:
    measures = TAGS["paper"]["measures_user_tags"]["cgan"]
    assert row("docs/tags.md", "conditional GAN (`paper`)")[1:] == user_tag_cells(measures)


DETAILS = {
    "(nothing changed)": "paper-seed1-stopped-by-hand",
    "random numbers once more: the present code, to its full length": "paper-seed1",
    "random numbers: the same settings and seed after the code that draws dropout masks had changed": (
        "detail-precision-float32"
    ),
    "these two, and dropout in G": "conditional-best-seed1-earlier-code",
    "dropout on G's noise branch": "detail-no-dropout-on-z-branch",
    "type of the matrix products": "detail-precision-bfloat16",
    "learning-rate decay, and the weights that sample": "detail-averaging-slow-decay",
    "initial output biases of G": "detail-output-bias-marginals",
    "initial weights of G's label branch": "detail-condition-init-fan-in",
    "dropout on D's input x": "detail-x-dropout-0.5",
}


@pytest.mark.parametrize("name", DETAILS)
def test_details(name: str) -> None:
    metrics = pd.read_csv(RESULTS / "mnist" / DETAILS[name] / "metrics.csv").set_index("update")
    found = [metrics["valid_log_likelihood"].get(update) for update in (5_000, 12_500)]
    expected = ["" if value is None else f"{value:.0f}".replace("-", "−") for value in found]
    assert row("docs/details.md", name)[3:5] == expected


# Run folders of the rows of docs/details.md's table of tags, in its order.
TAG_DETAILS = """matching-aware-flickr-mini-seed1 detail-matching-aware-words-centred
    detail-matching-aware-words-centred-min-photos-0 detail-matching-aware-nothing-centred paper-flickr-mini-seed1
    detail-words-centred detail-words-centred-no-averaging detail-words-centred-x-dropout-0 detail-nothing-centred"""


def test_details_of_tags() -> None:
    lines = text_of("docs/details.md").split("| run | update 1,000 |")[1].splitlines()[2:]
    for name, line in zip(TAG_DETAILS.split(), lines, strict=False):
        metrics = pd.read_csv(RESULTS / "flickr-tags" / name / "metrics.csv").set_index("update")
        scores = metrics["valid_average_precision"]
        expected = [f"{score:.3f}" for score in (scores[1_000], scores[3_000], scores.max())]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1:5] == [*expected, str(metrics["distinct_tags"][3_000])], (name, line)
    assert not lines[len(TAG_DETAILS.split())]


def test_dropout_while_sampling() -> None:
    early, late = result("mnist/detail-precision-float32"), result("mnist/paper-seed1-stopped-by-hand")
    on = json.loads((RESULTS / "mnist-dropout-on" / "paper-seed1.json").read_text(encoding="utf-8"))
    expected = [f"{nats(r['parzen'])}, {r['diversity']['overall']:.2f}, {labels(r)}" for r in (early, late)]
    with_dropout = early["dropout_on"]
    with_dropout = f"{nats(with_dropout['parzen'])}, {with_dropout['diversity']['overall']:.2f}, {labels(with_dropout)}"
    assert row("docs/results.md", "`paper`, epoch 25")[1:] == [expected[0], with_dropout]
    assert row("docs/results.md", "`paper`, epoch 115 (older revision)")[1:] == [expected[1], nats(on)]
    found = result("mnist/paper-seed1")
    both = [f"{nats(r['parzen'])}, {r['diversity']['overall']:.2f}, {labels(r)}" for r in (found, found["dropout_on"])]
    lines = [line for line in text_of("docs/results.md").splitlines() if line.startswith("| `paper` |")]
    assert f"| `paper` | {both[0]} | {both[1]} |" in lines


def test_density_and_coverage() -> None:
    control = json.loads((RESULTS / "mnist-controls" / "real-images.json").read_text(encoding="utf-8"))
    ours, real = result("mnist/paper-seed1")["density_coverage"], control["density_coverage"]
    names = ("precision", "density", "coverage", "recall")
    ours_features, real_features = ([f"{each['features']['overall'][n]:.2f}" for n in names] for each in (ours, real))
    text = " ".join(text_of("docs/results.md").split())
    assert "precision {} and density {}, but coverage {} and recall {}".format(*ours_features) in text
    pixels = [f"{each['pixels']['overall']['coverage']:.2f}" for each in (ours, real)]
    assert "have {}, {}, {} and {} (on pixels".format(*real_features) in text
    assert f"coverage {pixels[0]} beside {pixels[1]}" in text


def test_what_d_accepts_over_training() -> None:
    metrics = pd.read_csv(RESULTS / "mnist" / "paper-seed1" / "metrics.csv").set_index("epoch")
    text = " ".join(text_of("docs/results.md").split())
    for epoch in (10, 15, 30, 70, 95):
        assert (
            f"{100 * metrics['accept_real_wrong'][epoch]:.0f}%" + (" of the real images" if epoch == 10 else "") in text
        )
        assert f"at epoch {epoch}" in text
    assert "90% and more are accepted under their own" in text and metrics.loc[10:, "accept_real"].min() >= 0.9


def test_trials_of_many_tags() -> None:
    trials = pd.read_csv(RESULTS / "search" / "many-tags" / "trials.csv")
    names = ["`matching-aware`, dropout off", "`matching-aware`, dropout on"]
    names += ["joint layer and packs of 4, dropout off", "joint layer and packs of 4, dropout on"]
    names += ["real tags of similar photos", "ridge plus Gaussian noise", "MLP, dropout on"]
    page, measures = "docs/one-to-many.md", ["diversity", "coverage", "correctness"]
    text = " ".join(text_of(page).split())
    for name, found in zip(names, trials[measures].to_numpy(), strict=False):
        assert row(page, name)[1:] == [f"{value:.2f}" for value in found], name
    precision = [f"{value:.3f}" for value in trials["precision_at_10"].dropna()]
    assert "Precision at 10 is {} (`matching-aware`, dropout off) and {} (joint".format(*precision) in text
    assert f"real tags' {trials['diversity'].iloc[-1]:.2f}" in text


def test_rates_of_dropout_while_drawing() -> None:
    table = pd.read_csv(RESULTS / "search" / "many-tags" / "rates.csv")
    drawn = table[table["noise_scale"] == 1].set_index(["dropout_rate", "settings"]).sort_index()
    measures, page = ["diversity", "coverage", "correctness"], "docs/one-to-many.md"
    for rate, both in drawn.groupby(level=0):
        cells = []
        for _, found in both.iterrows():
            cells += [f"{found[measure]:.2f}" for measure in measures] + [f"{found['precision_at_10']:.3f}"]
        assert row(page, f"{rate:g}" if rate else "off")[1:] == cells, rate
    scaled = table[table["noise_scale"] == 4]["diversity"]
    assert "to a diversity of {:.2f} and {:.2f}.".format(*scaled) in " ".join(text_of(page).split())


def test_conditional_best_on_features_and_its_earlier_runs() -> None:
    overall = result(BEST[0])["density_coverage"]["features"]["overall"]
    said = "seed 1 has density {density:.2f}, coverage {coverage:.2f}, precision {precision:.2f}, recall {recall:.2f}."
    text = " ".join(text_of("docs/results.md").split())
    assert said.format(**overall) in text
    older, newer = ([result(f"{name}{end}")["parzen"]["test_mean"] for name in BEST] for end in ("-earlier-code", ""))
    scores = np.array([*older, *newer])
    assert "have {:.1f}, {:.1f} and {:.1f}.".format(*older) in text and scores.min() > 225
    low, high = stats.t.interval(0.95, 5, scores.mean(), scores.std(ddof=1) / np.sqrt(6))
    assert f"their mean of {scores.mean():.1f} has an interval of {low:.0f} to {high:.0f};" in text
    accepted = [result(f"{name}-earlier-code")["acceptance"]["accepted"][0][1] for name in BEST]
    assert "D accepts {:.0%}, {:.0%} and {:.0%} of the real images".format(*accepted) in text


# Header starts of all tables with numbers: those compared above, and those whose numbers have no test yet.
CHECKED = ("model | cited", "method |", "model | test", "model | real", "model | dropout off", "seed |", "what is open")
CHECKED += ("run | update", "against user tags", "path |", "without |", "settings | diversity", "rate while")
UNCHECKED = ("model | intra-class",)


@pytest.mark.parametrize("page", PAGES[:-1], ids=lambda page: page.name)
def test_every_table_of_numbers_has_a_source(page: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), re.MULTILINE):
        head, *body = table.splitlines()
        if re.search(r"\| [−+]?\d[\d.,]*( ±| \||%| ms| s )", "\n".join(body)):
            assert head.startswith(tuple(f"| {start}" for start in CHECKED + UNCHECKED)), head


def test_speed() -> None:
    bench = {each["path"]: each for each in json.loads((RESULTS / "bench" / "bench.json").read_text())["rows"]}
    seconds = {each["name"]: each["median_s"] for each in bench["update"]["candidates"]}
    ours, plain, limit = seconds.values()
    cells = row("docs/speed.md", "one update of `paper`, float32")
    assert cells[1] == f"{1000 * ours / 50:.1f} ms"
    assert cells[3] == f"{plain / ours:.1f}" and cells[5] == f"{ours / limit:.1f}"
    whole = bench["without"]["candidates"][0]["median_s"]
    shares = [each["median_s"] / whole - 1 for each in bench["without"]["candidates"] if each["role"] == "alternative"]
    written = re.findall(r"\| \+(\d+)% \|", text_of("docs/speed.md"))
    assert sorted(map(int, written)) == sorted(round(100 * share) for share in shares)
