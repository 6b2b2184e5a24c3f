"""README and docs: links, commands and options exist, code runs, and every table's numbers are those of the results."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
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


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


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
            # That a module was imported before it is run again.
            with warnings.catch_warnings(), pytest.raises(SystemExit) as end:
                warnings.simplefilter("ignore", RuntimeWarning)
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


def test_code_runs_as_printed() -> None:
    labels, load, vocabulary = blocks(text_of("docs/your-own-data.md"), "python")
    assert labels == text_of("examples/labels.py")  # Which test_examples runs.
    for code in (load, vocabulary):
        exec(code, {})


def test_the_citation_is_of_this_version() -> None:
    citation, (version,) = text_of("CITATION.cff"), re.findall(r"^version = (.*)$", text_of("setup.cfg"), re.MULTILINE)
    assert f"\nversion: {version}\n" in citation and "1411.1784" in citation


# ---- every number in a table or a sentence is that of a result file


def record(path: str) -> dict[str, Any]:
    return json.loads((RESULTS / path).read_text(encoding="utf-8"))


def result(folder: str) -> dict[str, Any]:
    return record(f"{folder}/result.json")


def metrics(folder: str, index: str = "update") -> pd.DataFrame:
    return pd.read_csv(RESULTS / folder / "metrics.csv").set_index(index)


def nats(parzen: dict[str, Any], part: str = "test") -> str:
    return f"{parzen[f'{part}_mean']:.1f} ± {parzen[f'{part}_se']:.1f}".replace("-", "−")


def labels(found: dict[str, Any]) -> str:
    return f"{100 * found['label_fidelity']['share']:.1f}%" if found.get("label_fidelity") else ""


def diversity(found: dict[str, Any]) -> str:
    return f"{found['diversity']['overall']:.2f}"


def whole(found: dict[str, Any]) -> str:
    return f"{nats(found['parzen'])}, {diversity(found)}, {labels(found)}"


def accepted(found: dict[str, Any]) -> list[str]:
    return [f"{100 * share:.1f}%" for pair in found["acceptance"]["accepted"] for share in pair]


def interval(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def spread(values: list[float], places: int) -> str:
    """Return mean ± standard deviation over seeds; the mean alone where there is one, or no seed differs."""
    deviation = f"{np.std(values, ddof=1) if len(values) > 1 else 0:.{places}f}"
    return f"{np.mean(values):.{places}f}" + (f" ± {deviation}" if float(deviation) else "")


def of_seeds(found: list[dict[str, Any]]) -> list[str]:
    """Return the cells of Table 1 for the runs of several seeds: means, and the standard error over test images."""
    score, deviation, fidelity = means(found).split(", ")
    error = np.mean([each["parzen"]["test_se"] for each in found])
    return [f"{score} ± {error:.1f}", str(len(found)), fidelity, deviation]


def means(found: list[dict[str, Any]]) -> str:
    """Return log-likelihood, diversity and labels as asked, means over seeds."""
    score = np.mean([each["parzen"]["test_mean"] for each in found])
    deviation = np.mean([each["diversity"]["overall"] for each in found])
    fidelity = np.mean([each["label_fidelity"]["share"] for each in found])
    return f"{score:.1f}, {deviation:.2f}, {100 * fidelity:.1f}%"


BEST = [f"mnist/conditional-best-seed{seed}" for seed in (1, 2, 3, 4, 5)]
MANY = [f"mnist/many-digits-seed{seed}" for seed in (1, 2, 3)]
PAPER = [f"mnist/paper-seed{seed}" for seed in (1, 2, 3)]
TABLE_1 = {
    "Adversarial nets (`gan`)": "gan-seed2",
    "`paper-literal`": "paper-literal-seed1",
    "`tutorial`": "tutorial-seed1",
}
MEASURED = {
    "`gan`": "gan-seed2",
    "`paper`, seed 1": "paper-seed1",
    "`paper`, seed 2": "paper-seed2",
    "`paper`, seed 3": "paper-seed3",
    "`paper-literal`": "paper-literal-seed1",
    "`tutorial`": "tutorial-seed1",
}
#: Rows of docs/details.md: three runs of ``paper`` with one setting changed.
DETAILS = {
    "noise": "noise-uniform",
    "initial weights of G's noise branch, joint layer and output": "weights",
    "initial output biases of G": "output-bias",
    "dropout on D's input x": "input-dropout",
    "weights that sample": "averaging",
    "learning-rate decay": "decay",
    "how fast momentum rises": "momentum",
    "what D is shown": "matching-aware",
    "initial weights of G's label branch": "condition-init",
}
#: Rows of its table of tags: the same of the preset of photos.
TAG_DETAILS = {
    "weights that generate": "no-averaging",
    "dropout on D's input x": "input-dropout",
    "mean of the word vectors": "words-centred",
    "mean of the features": "features-not-centred",
    "words that can come out": "min-photos",
}
METHODS = {
    "cgan": ("Conditional adversarial net", "conditional GAN (`matching-aware`)"),
    "commonest": ("Always the commonest tags", "the ten commonest tags, always"),
    "vote": ("Votes of similar photos", "votes of the 40 most similar photos"),
    "ridge": ("Linear map (ridge)", "linear map (ridge) to the mean tag vector"),
    "mlp": ("MLP regression", "MLP of G's size, no noise, no D"),
}
ONE_TO_MANY = ["`matching-aware`, dropout off", "`matching-aware`, dropout on"]
ONE_TO_MANY += ["joint layer and packs of 4, dropout off", "joint layer and packs of 4, dropout on"]
ONE_TO_MANY += ["real tags of similar photos", "ridge plus Gaussian noise", "MLP, dropout on"]

#: A page, the first cell of a row there, the column of a later cell, and what that cell and the next ones say.
Row = tuple[str, str, int, list[str]]


def rows_of_digits() -> Iterator[Row]:
    readme, results = "README.md", "docs/results.md"
    for name, folder in TABLE_1.items():
        found = result(f"mnist/{folder}")
        yield readme, name, 2, [nats(found["parzen"]), "1", labels(found), diversity(found)]
    for name, file in (("real training images", "real-images"), ("k-means centroids", "k-means")):
        yield readme, f"10,000 {name} (control)", 2, [nats(record(f"mnist-controls/{file}.json"))]
    best = [result(folder) for folder in BEST]
    for seed, found in enumerate(best, 1):
        generated = f"{100 * found['train_on_generated']['generated']:.1f}%"
        scores = [nats(found["parzen"], "valid"), nats(found["parzen"])]
        yield results, str(seed), 1, [*scores, labels(found), diversity(found), generated, whole(found["dropout_on"])]
        yield results, f"`conditional-best`, seed {seed}", 1, accepted(found)
    yield readme, "`conditional-best`", 2, of_seeds(best)
    many = [result(folder) for folder in MANY]
    yield readme, "`many-digits` (three of these networks, drawn with dropout of 0.05)", 2, of_seeds(many)
    on = [means(best), means([each["dropout_on"] for each in best])]
    yield results, "`conditional-best`, five seeds", 1, on
    yield results, "seeds 1 to 3 of it at a rate of 0.05 (`many-digits`)", 2, [means(many)]
    cells = [text.split(", ")[1] for text in (*on, means(many))]
    yield "docs/one-to-many.md", "`conditional-best`, five seeds", 1, cells[:2]
    yield "docs/one-to-many.md", "`many-digits` (networks of three of them), rate 0.05", 2, cells[2:]
    for name, seeds in (("`conditional-best`, dropout off", best[: len(many)]), ("`many-digits`, rate 0.05", many)):
        quality = [each["density_coverage"]["features"]["overall"] for each in seeds]
        cells = [spread([each["parzen"]["test_mean"] for each in seeds], 1)]
        cells.append(spread([100 * each["label_fidelity"]["share"] for each in seeds], 1) + "%")
        cells.append(spread([each["diversity"]["overall"] for each in seeds], 2))
        cells += [spread([each[key] for each in quality], 2) for key in ("recall", "density", "coverage")]
        yield "docs/one-to-many.md", name, 1, cells
    yield readme, "Conditional adversarial nets (`paper`)", 2, of_seeds([result(folder) for folder in PAPER])
    for name, folder in MEASURED.items():
        found = result(f"mnist/{folder}")
        updates = [f"{found['best_update']:,}", f"{found['updates']:,}"]
        minutes = f"{found['seconds'] / 60:.0f} min"
        yield results, name, 1, [nats(found["parzen"]), f"{found['parzen']['sigma']:.3f}", *updates, minutes]
        if found.get("acceptance"):
            yield results, name, 1, accepted(found)
    named = {f"`paper`, seed {seed}": folder for seed, folder in enumerate(PAPER, 1)}
    for name, folder in {**named, "`paper-literal`": "mnist/paper-literal-seed1"}.items():
        now = result(folder)
        yield results, name, 1, [whole(now), whole(now["dropout_on"])]
    page, literal = "docs/one-to-many.md", result("mnist/paper-literal-seed1")
    yield page, "`paper-literal`", 1, [diversity(literal), diversity(literal["dropout_on"])]
    for name, folder in (("`gan`, all images as one class", "gan-seed2"), ("`tutorial`", "tutorial-seed1")):
        yield page, name, 1, [diversity(result(f"mnist/{folder}")), ""]
    papers = [result(folder) for folder in PAPER]
    kinds = papers, [each["dropout_on"] for each in papers]
    yield page, "`paper`, three seeds", 1, [means(each).split(", ")[1] for each in kinds]


def changed(runs: list[str], presets: list[str], score: str, update: int) -> tuple[pd.DataFrame, list[str]]:
    """Return the estimates of runs at an update, and how a score stands to that of the preset, seed by seed."""
    these, base = (pd.DataFrame([metrics(folder).loc[update] for folder in each]) for each in (runs, presets))
    if runs == presets:
        return these, []
    gain = these[score].to_numpy() - base[score].to_numpy()
    low, high = stats.t.interval(0.95, len(gain) - 1, gain.mean(), gain.std(ddof=1) / len(gain) ** 0.5)
    seen = "higher" if low > 0 else "lower" if high < 0 else "no difference seen"
    return these, [spread(gain.tolist(), 0 if score == "valid_log_likelihood" else 3), seen]


def rows_of_details() -> Iterator[Row]:
    score = "valid_log_likelihood"
    for name, kind in {"(nothing changed)": "", **DETAILS}.items():
        folders = [f"mnist/detail-{kind}-seed{seed}" for seed in (1, 2, 3)] if kind else PAPER
        these, difference = changed(folders, PAPER, score, 7_500)
        cells = [spread(these[score].tolist(), 0), f"{100 * these['label_fidelity'].mean():.0f}%"]
        cells.append(spread(these["diversity"].tolist(), 2))
        if kind:
            found = [result(folder) for folder in folders]
            off, on = found, [each["dropout_on"] for each in found]
            test = [f"{np.mean([each['parzen']['test_mean'] for each in drawn]):.0f}" for drawn in (off, on)]
            cells += [*difference, *test]
        yield "docs/details.md", name, 3, [cell.replace("-", "−") for cell in cells]
    # Its table of tags, two of whose rows begin alike.
    score, (paper, matching) = "valid_average_precision", ("paper-flickr-mini", "matching-aware-flickr-mini")
    kinds = {"(nothing changed)": paper, "`matching-aware`": matching}
    for name, kind in (kinds | {name: f"detail-{kind}" for name, kind in TAG_DETAILS.items()}).items():
        folders, presets = ([f"flickr-tags/{each}-seed{seed}" for seed in (1, 2, 3)] for each in (kind, paper))
        these, difference = changed(folders, presets, score, 1_000)
        cells = [spread(these[score].tolist(), 3), spread(these["distinct_tags"].tolist(), 0)]
        cells += difference
        if kind.startswith("detail"):
            measured = [result(folder)["measures_user_tags"]["cgan"]["precision_at_10"]["value"] for folder in folders]
            cells.append(spread(measured, 3))
        yield "docs/details.md", name, 3, [cell.replace("-", "−") for cell in cells]


def rows_of_tags() -> Iterator[Row]:
    presets = ("matching-aware", "many-tags", "paper")
    found = {name: [result(f"flickr-tags/{name}-flickr-mini-seed{seed}") for seed in (1, 2, 3)] for name in presets}
    best = found["matching-aware"]
    named = [(name, best, method) for method, (_, name) in METHODS.items()]
    named += [(f"conditional GAN (`{preset}`)", found[preset], "cgan") for preset in presets[1:]]
    for name, seeds, method in named:
        measures = [each["measures_user_tags"][method] for each in seeds]
        scores = ("precision_at_10", "mean_average_precision", "best_cosine")
        cells = [spread([each[score]["value"] for each in measures], 3) for score in scores]
        yield "docs/tags.md", name, 1, [*cells, spread([each["distinct_tags"] for each in measures], 0)]
    for method, (name, _) in METHODS.items():
        measured = [[each[kind][method] for each in best] for kind in ("measures", "measures_user_tags")]
        cells = [spread([each["precision_at_10"]["value"] for each in seeds], 3) for seeds in measured]
        yield "README.md", name, 1, cells
    for preset in presets:
        for method in list(METHODS)[1:]:
            seeds = [each["measures_user_tags"][method]["cgan_minus_this_precision"] for each in found[preset]]
            yield "docs/tags.md", f"`{preset}`, {method}", 1, [interval(each).replace("-", "−") for each in seeds]
    trials = pd.read_csv(RESULTS / "search" / "many-tags" / "trials.csv")
    values = trials[["diversity", "coverage", "correctness"]].to_numpy()
    for name, each in zip(ONE_TO_MANY, values, strict=False):
        yield "docs/one-to-many.md", name, 1, [f"{value:.2f}" for value in each]
    for name, preset, source in (
        ("`matching-aware`, as it tags (dropout off)", "matching-aware", "cgan"),
        ("`matching-aware`, dropout on", "matching-aware", "cgan_dropout"),
        ("`many-tags`, as it tags (rate 0.75)", "many-tags", "cgan_dropout"),
        ("tags of similar photos", "matching-aware", "similar"),
        ("ridge with noise", "matching-aware", "ridge_noise"),
        ("the MLP, dropout on", "matching-aware", "mlp_dropout"),
        ("the photo's own tags", "matching-aware", "real"),
    ):
        seeds, cells = found[preset], list[str]()
        for measure in ("diversity", "coverage", "correctness"):
            values = [each["one_to_many"][source][measure] for each in seeds]
            cells.append(spread([value["value"] for value in values], 2) if values[0] else "")
        if "as it tags" in name:
            cells.append(spread([each["measures"]["cgan"]["precision_at_10"]["value"] for each in seeds], 3))
        yield "docs/one-to-many.md", name, 1, cells
    alone = pd.read_csv(RESULTS / "search" / "many-tags" / "alone.csv")
    for row in alone[alone["dropout_rate"].isin([0, 0.5, 0.85])].itertuples():
        name = "joint layer" if "joint" in row.settings else "packs of 4"
        values = [f"{value:.2f}" for value in (row.diversity, row.coverage, row.correctness)]
        rate = f"{row.dropout_rate:g}" if row.dropout_rate else "off"
        yield "docs/one-to-many.md", name, 1, [rate, *values, f"{row.precision_at_10:.3f}"]
    digits = pd.read_csv(RESULTS / "search" / "many-digits" / "rates.csv").query("noise_scale == 1")
    for rate, mean in digits.groupby("dropout_rate").mean().iterrows():
        shares = [f"{mean[name]:.2f}" for name in ("diversity", "precision", "recall", "density", "coverage")]
        cells = [f"{mean['log_likelihood']:.1f}", f"{100 * mean['labels_as_asked']:.1f}%", *shares]
        yield "docs/one-to-many.md", f"rate {rate:g}" if rate else "dropout off", 1, cells
    rates = pd.read_csv(RESULTS / "search" / "many-tags" / "rates.csv").query("noise_scale == 1")
    for rate, both in rates.groupby("dropout_rate"):
        values = both.sort_values("settings")[["diversity", "coverage", "correctness", "precision_at_10"]].to_numpy()
        cells = [f"{value:.{places}f}" for each in values for value, places in zip(each, (2, 2, 2, 3), strict=True)]
        yield "docs/one-to-many.md", f"{rate:g}" if rate else "off", 1, cells


def rows_of_speed() -> Iterator[Row]:
    (update,) = [each for each in record("bench/bench.json")["rows"] if each["path"] == "update"]
    seconds = {each["role"]: each["median_s"] for each in reversed(update["candidates"])}  # The first of each role.
    name, page = "one update of `paper`, float32", "docs/speed.md"
    yield page, name, 1, [f"{1000 * seconds['ours'] / 50:.1f} ms"]
    yield page, name, 3, [f"{seconds['alternative'] / seconds['ours']:.1f}"]
    yield page, name, 5, [f"{seconds['ours'] / seconds['limit']:.1f}"]


@pytest.mark.parametrize("expected", [rows_of_digits, rows_of_details, rows_of_tags, rows_of_speed])
def test_tables(expected: Callable[[], Iterator[Row]]) -> None:
    rows = list(expected())
    times = Counter((page, start) for page, start, _, _ in rows)
    for page, start, first, cells in rows:
        lines = [line for line in text_of(page).splitlines() if line.startswith(f"| {start} |")]
        found = [[cell.strip() for cell in line.strip("|").split("|")][first:][: len(cells)] for line in lines]
        assert cells in found, (page, start, cells)
        assert len(lines) <= times[page, start], (page, start, "a row that nothing checks")


def test_what_each_optimisation_saves_is_of_the_benchmark() -> None:
    (without,) = [each["candidates"] for each in record("bench/bench.json")["rows"] if each["path"] == "without"]
    slower = [each["median_s"] / without[0]["median_s"] - 1 for each in without if each["role"] == "alternative"]
    written = re.findall(r"\| \+(\d+)% \|", text_of("docs/speed.md"))
    assert sorted(map(int, written)) == sorted(round(100 * share) for share in slower)


def sentences() -> Iterator[tuple[str, str]]:
    """Yield a page, and words that stand in it."""
    results, names = "docs/results.md", ("precision", "density", "coverage", "recall")
    new = [result(folder)["parzen"]["test_mean"] for folder in BEST]
    low, high = stats.t.interval(0.95, len(new) - 1, np.mean(new), np.std(new, ddof=1) / np.sqrt(len(new)))
    yield results, f"is {np.mean(new):.1f}, standard deviation {np.std(new, ddof=1):.1f}; its 95% t interval"
    yield results, f"is {low:.0f} to {high:.0f}, above 225"
    yield "README.md", f"`conditional-best` does (95% t interval {low:.0f} to {high:.0f})"
    half = np.hypot((high - low) / 2, 1.96 * 2)  # That of the difference from the cited 225 ± 2.
    yield results, f"{np.mean(new) - 225:.1f} ± {half:.1f} nats above"
    assert np.mean(new) - half > 225 and min(new) > 225
    drawn_on = [result(folder)["dropout_on"]["parzen"]["test_mean"] for folder in BEST]
    yield results, f"the test figure is {np.mean(drawn_on):.1f} (standard deviation {np.std(drawn_on, ddof=1):.1f})"
    valid = [result(folder)["parzen"]["valid_mean"] for folder in BEST]
    yield results, f"is {np.mean(valid):.1f} on average (standard deviation {np.std(valid, ddof=1):.1f})"
    trained = np.mean([result(folder)["train_on_generated"]["generated"] for folder in BEST])
    yield results, f"{100 * trained:.1f}% of real test digits are read by a classifier trained on samples"
    varied = np.mean([result(folder)["diversity"]["per_class"] for folder in BEST], axis=0)
    assert (varied.argmin(), varied.argmax()) == (1, 0)
    yield results, f"(from {varied[1]:.2f} for the 1s to {varied[0]:.2f} for the 0s, mean of five seeds)"
    worst = np.array([result(folder)["label_fidelity"]["per_class"] for folder in BEST])
    seed, digit = np.unravel_index(worst.argmin(), worst.shape)
    yield results, f"The worst label of a seed is {digit} of seed {seed + 1}, {100 * worst.min():.1f}% as asked."
    said = "seed 1 has density {density:.2f}, coverage {coverage:.2f}, precision {precision:.2f}, recall {recall:.2f}."
    yield results, said.format(**result(BEST[0])["density_coverage"]["features"]["overall"])
    ours = result("mnist/paper-seed1")["density_coverage"]
    real = record("mnist-controls/real-images.json")["density_coverage"]
    features, of_real = ([f"{each['features']['overall'][name]:.2f}" for name in names] for each in (ours, real))
    yield results, "precision {} and density {}, but coverage {} and recall {}".format(*features)
    yield results, "have {}, {}, {} and {} (on pixels".format(*of_real)
    pixels = [f"{each['pixels']['overall']['coverage']:.2f}" for each in (ours, real)]
    yield results, f"coverage {pixels[0]} beside {pixels[1]}"
    centroids = record("mnist-controls/k-means.json")["density_coverage"]["features"]["overall"]
    yield results, "centroids have {}, {}, {} and {}, so".format(*(f"{centroids[name]:.2f}" for name in names))
    averaged = result("mnist/detail-gan-averaging-seed1")
    yield results, f"has {nats(averaged['parzen'])} and {diversity(averaged)} of the diversity, and still rises"
    rising = metrics("mnist/detail-gan-averaging-seed1")["valid_log_likelihood"]
    yield results, f"({rising[35_000]:.1f} validation nats at update 35,000, {rising[40_000]:.1f} at 40,000)"
    gan, estimates = result("mnist/gan-seed2"), metrics("mnist/gan-seed2")["valid_log_likelihood"]
    yield results, f"rose from {estimates[60_000]:.1f} nats at update 60,000 to {estimates[125_000]:.1f} at the end"
    of_gan = gan["density_coverage"]["features"]["overall"]
    yield results, f"({diversity(gan)}): density {of_gan['density']:.2f}, coverage {of_gan['coverage']:.2f}."
    accepts = metrics("mnist/paper-seed1", "epoch")
    for epoch in (10, 15, 30, 70, 95):
        share = f"{100 * accepts['accept_real_wrong'][epoch]:.0f}%"
        yield results, f"{share} of the real images" if epoch == 10 else share
        yield results, f"at epoch {epoch}"
    aware = [f"mnist/detail-matching-aware-seed{seed}" for seed in (1, 2, 3)]
    for page in (results, "docs/details.md"):  # Shares accepted under a wrong label at update 7,500.
        for folders in (PAPER, aware):
            shares = [100 * metrics(folder)["accept_real_wrong"][7_500] for folder in folders]
            yield page, f"accepts {min(shares):.0f}% to {max(shares):.0f}%"
    obeyed = np.mean([metrics(folder)["label_fidelity"][7_500] for folder in aware])
    yield "docs/details.md", f"nearly every label ({100 * obeyed:.1f}%)"
    kinds = "paper-flickr-mini", "detail-no-averaging", "detail-input-dropout"
    paper, plain, recognised = ([metrics(f"flickr-tags/{kind}-seed{seed}") for seed in (1, 2, 3)] for kind in kinds)
    yield (
        "docs/details.md",
        "({:.3f}, {:.3f}, {:.3f} and {:.3f} in seed 1)".format(*plain[0]["valid_average_precision"]),
    )
    ends = pd.DataFrame([each.loc[1_000] for each in paper])
    scores, losses = ends["valid_average_precision"], [each["d_loss"][1_000] for each in recognised]
    yield "docs/details.md", f"has {scores.min():.3f} to {scores.max():.3f}."
    yield "docs/details.md", f"(its loss is {min(losses):.2f} to {max(losses):.2f} by update 1,000, that of"
    yield "docs/details.md", f"that of `paper` {ends['d_loss'].mean():.2f})"
    differ = np.mean([each["diversity"][1_000] for each in recognised])
    yield "docs/details.md", f"(diversity {differ:.2f} instead of {ends['diversity'].mean():.2f})"
    yield results, "90% and more are accepted under their own"
    assert accepts.loc[10:, "accept_real"].min() >= 0.9
    against = result("flickr-tags/many-tags-lite0-seed1")["measures_user_tags"]
    above = interval(against["commonest"]["cgan_minus_this_precision"]).split()
    yield (
        "docs/tags.md",
        f"of {interval(against['cgan']['precision_at_10'])} on user tags alone, photo by photo {above[0]} above",
    )
    yield "docs/tags.md", f"the commonest tags {' '.join(above[1:])}"
    trials = pd.read_csv(RESULTS / "search" / "many-tags" / "trials.csv")
    precision = [f"{value:.3f}" for value in trials["precision_at_10"].dropna()]
    yield (
        "docs/one-to-many.md",
        "Precision at 10 is {} (`matching-aware`, dropout off) and {} (joint".format(*precision),
    )
    yield "docs/one-to-many.md", f"real tags' {trials['diversity'].iloc[-1]:.2f}"
    first = pd.read_csv(RESULTS / "search" / "many-digits" / "rates.csv").query("seed == 1")
    for condition, words in (
        (
            "noise_scale == 1.5",
            "of {diversity:.2f}, {labels:.1f}% of the labels and {log_likelihood:.1f} nats;",
        ),
        ("dropout_rate == 0.1", "it has {diversity:.2f}, {labels:.1f}% and {log_likelihood:.1f}."),
    ):
        (row,) = first.query(condition).to_dict("records")
        yield "docs/one-to-many.md", words.format(labels=100 * row["labels_as_asked"], **row)
    pairs = [[result(folder) for folder in folders] for folders in zip(BEST, MANY, strict=False)]
    gains = [many["parzen"]["test_mean"] - best["parzen"]["test_mean"] for best, many in pairs]
    yield "docs/one-to-many.md", "likelihood rises by {:.1f}, {:.1f} and {:.1f} nats".format(*gains)
    gains = [many["diversity"]["overall"] - best["diversity"]["overall"] for best, many in pairs]
    yield "docs/one-to-many.md", "diversity by {:.2f}, {:.2f} and {:.2f}".format(*gains)
    lost = [100 * (best["label_fidelity"]["share"] - many["label_fidelity"]["share"]) for best, many in pairs]
    yield "docs/one-to-many.md", f"and {min(lost):.1f} to {max(lost):.1f}% of the labels go"
    score = "valid_log_likelihood"
    early, last = (metrics("mnist/detail-no-dropout-in-g")[score][update] for update in (5_000, 12_500))
    yield "docs/one-to-many.md", f"have {early:.1f} validation nats at epoch 10, {last:.1f} at epoch 25 and 10% of the"
    early = pd.DataFrame([metrics(folder).loc[12_500] for folder in BEST])
    shares = 100 * early["label_fidelity"]
    words = (
        f"have {early[score].min():.0f} to {early[score].max():.0f} nats and {shares.min():.0f}% to {shares.max():.0f}%"
    )
    yield "docs/one-to-many.md", words
    scores = [result(folder)["parzen"]["test_mean"] for folder in PAPER]
    mean, deviation = np.mean(scores), np.std(scores, ddof=1)
    half = stats.t.ppf(0.975, len(scores) - 1) * deviation / len(scores) ** 0.5
    words = (
        f"{mean:.1f}, standard deviation {deviation:.1f}; its 95% t interval is {mean - half:.0f} to {mean + half:.0f}"
    )
    yield "docs/results.md", words
    yield "README.md", f"the paper gives it ({mean - half:.0f} to {mean + half:.0f})."
    literal, on = metrics("mnist/paper-literal-seed1")[score], result("mnist/paper-literal-seed1")["dropout_on"]
    yield "docs/results.md", f"little after update 50,000 ({literal[50_000]:.1f} there, {literal.max():.1f} at best)."
    yield "README.md", f"have {on['parzen']['test_mean']:.1f} nats and a diversity of {diversity(on)}."
    drawn_on = means([result(folder)["dropout_on"] for folder in PAPER]).split(", ")
    yield "docs/results.md", f"dropout on ({diversity(on)} beside {drawn_on[1]}), with labels obeyed more often"
    yield "docs/results.md", f"({labels(on)} beside {drawn_on[2]})."
    gain = on["parzen"]["test_mean"] - result("mnist/paper-literal-seed1")["parzen"]["test_mean"]
    yield "docs/details.md", f"at full length, dropout on is worth {gain:.0f} nats"
    tutorial = metrics("mnist/tutorial-seed1")
    share = tutorial["label_fidelity"]
    yield "docs/results.md", f"{100 * share[55_000]:.1f}% at update 55,000, {100 * share[78_100]:.1f}% at the end"
    late = tutorial["valid_log_likelihood"][lambda column: column.index > 22_500]
    yield "docs/results.md", f"(−{-late.max():.0f} to −{-late.min():.0f} validation nats after update 22,500)"
    scaled = pd.read_csv(RESULTS / "search" / "many-tags" / "rates.csv").query("noise_scale == 4")["diversity"]
    yield "docs/one-to-many.md", "to a diversity of {:.2f} and {:.2f}.".format(*scaled)


def test_sentences() -> None:
    for page, words in sentences():
        assert words in " ".join(text_of(page).split()), (page, words)


# Header starts of all tables with numbers, which are compared above.
CHECKED = ("model | cited", "method |", "model | test", "model | real", "model | dropout off", "seed |", "what is open")
CHECKED += (
    "against user tags",
    "path |",
    "without |",
    "settings | diversity",
    "`conditional-best` |",
    "rate while",
    "on held-out photos",
    "on test images",
    "alone |",
    "net, baseline",
    "model | intra-class",
)


@pytest.mark.parametrize("page", PAGES[:-1], ids=lambda page: page.name)
def test_every_table_of_numbers_has_a_source(page: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), re.MULTILINE):
        head, *body = table.splitlines()
        if re.search(r"\| [−+]?\d[\d.,]*( ±| \||%| ms| s )", "\n".join(body)):
            assert head.startswith(tuple(f"| {start}" for start in CHECKED)), head
