"""Set what the papers claim beside what the runs measured: one plain sentence and one verdict a claim.

A verdict is "higher", "lower", "equal" or "open" and follows from the numbers by ``RULES``. Runs on embedded data
support no verdict. Reads no file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from experiments.report.forms import form, number
from experiments.report.tables import CONTROLS, PUBLISHED, TABLE_1

if TYPE_CHECKING:
    import pandas as pd

Word = Literal["higher", "lower", "equal", "open"]

#: Standard deviation over seeds that is assumed where fewer than three seeds finished, in nats. The presets that were
#: trained with three seeds or more have 2 to 9.
ASSUMED_SPREAD = 10.0

#: "equal" needs a 95% interval of the difference at most this wide on either side: nats, and shares of one.
CLOSE_NATS, CLOSE_SHARE = 10.0, 0.02

TUTORIAL = "a widely copied tutorial; the paper does not measure it"

RULES = {
    "Log-likelihoods": (
        "Higher or lower if the 95% interval of the difference lies on that side of zero; equal if it contains zero "
        f"and its half is at most {CLOSE_NATS:g} nats; open otherwise. The interval joins the error over seeds "
        f"(Student's t; with fewer than three seeds a standard deviation of {ASSUMED_SPREAD:g} nats is assumed), the "
        "error over test images, and the published error. A run that was cut short could only rise, so its "
        "lower and equal count as open."
    ),
    "Shares": (
        "The same for shares of images or tags, with the error over images (tags: the bootstrap interval over photos) "
        f"and {CLOSE_SHARE:g} in the place of {CLOSE_NATS:g} nats."
    ),
}


@dataclass(frozen=True)
class Verdict:
    """One claim, and what became of it here."""

    claim: str
    """What is said, and by whom."""
    source: str
    published: str
    measured: str
    word: Word
    """How the measured figure stands to the published one."""
    agrees: bool | None
    """Whether the claim holds by it; None if that is open."""
    remark: str = ""


@dataclass(frozen=True)
class Figure:
    """A measured mean with the half-width of its 95% interval."""

    mean: float
    half: float
    text: str
    cut_short: bool = False


def compare(difference: float, half: float, close: float, cut_short: bool = False) -> Word:
    """Return how a measured figure stands to a reference, by ``RULES``."""
    if abs(difference) > half:
        return "higher" if difference > 0 else "open" if cut_short else "lower"
    return "equal" if half <= close and not cut_short else "open"


def figure(row: Any) -> Figure | None:
    """Return the log-likelihood of a row of Table 1 with its 95% interval over seeds and test images."""
    if not row.seeds:
        return None
    from scipy.stats import t

    over_seeds = 0.0
    if row.experiment == "mnist":
        few = row.seeds < 3
        spread = max(ASSUMED_SPREAD, row.spread if number(row.spread) else 0.0) if few else row.spread
        over_seeds = (1.96 if few else float(t.ppf(0.975, row.seeds - 1))) * spread / math.sqrt(row.seeds)
    half = math.hypot(over_seeds, 1.96 * row.standard_error)
    over = f" over {row.seeds} seed{'s' * (row.seeds > 1)}" if row.experiment == "mnist" else ""
    return Figure(
        row.log_likelihood, half, f"{form(row.log_likelihood, '.1f')} ± {half:.1f} nats{over}", bool(row.cut_short)
    )


def verdicts(rows: pd.DataFrame, runs: pd.DataFrame) -> list[Verdict]:
    """Return every verdict, from Table 1 as numbers and the table of runs on real data that count."""
    by_preset = {row.preset: row for row in rows.itertuples() if row.section in ("paper", "control", "further")}
    figures = {preset: figure(row) for preset, row in by_preset.items()}
    found = [_published(by_preset[cited.preset], cited, figures[cited.preset]) for cited in PUBLISHED if cited.preset]
    paper, best = by_preset["paper"], by_preset["conditional-best"]
    pairs = {preset: (figures[preset], by_preset[preset]) for preset in figures}
    claim = "The conditional net scores below the unconditional one"
    order = _difference(claim, TABLE_1, "93 nats lower", "lower", pairs["paper"], pairs["gan"])
    claim = "Cluster centres score above real images: the measure can be fooled"
    fooled = _difference(claim, CONTROLS, "70 nats higher", "higher", pairs["mnist-kmeans"], pairs["mnist-train"])
    presets = [row for row in rows.itertuples() if row.section in ("paper", "further") and row.experiment == "mnist"]
    rejects = [verdict for row in presets if (verdict := _wrong_labels(row, runs)) is not None]
    papers, controls = found[:2], found[2:]
    return [*papers, order, _conjecture(best, figures["conditional-best"]), _labels(paper, runs), _tags(runs),
            *controls, fooled, *rejects]  # fmt: skip


def _published(row: Any, cited: Any, measured: Figure | None) -> Verdict:
    """Does the measured log-likelihood stand above or below the published one?"""
    error = f" ± {cited.error:g}" if cited.error else ""
    claim, published = f"{cited.model} reach {cited.mean:g} nats", f"{cited.mean:g}{error} nats"
    if measured is None:
        return Verdict(claim, cited.source, published, _missing(row), "open", None)
    # A figure that is published without an error is known to its last digit.
    half = math.hypot(measured.half, 1.96 * (cited.error or 0.3))
    word = compare(measured.mean - cited.mean, half, CLOSE_NATS, measured.cut_short)
    agrees = None if word == "open" else word == "equal"
    return Verdict(claim, cited.source, published, measured.text, word, agrees, _cut(measured))


def _difference(
    claim: str,
    source: str,
    published: str,
    said: Word,
    one: tuple[Figure | None, Any],
    other: tuple[Figure | None, Any],
) -> Verdict:
    """Does one row stand above or below another, as is ``said``?"""
    for measured, row in (other, one):
        if measured is None:
            return Verdict(claim, source, published, _missing(row), "open", None)
    a, b = one[0], other[0]
    assert a is not None and b is not None
    gap, half = a.mean - b.mean, math.hypot(a.half, b.half)
    word = compare(gap, half, CLOSE_NATS)
    # The row that was cut short would rise.
    doubtful = a.cut_short if word == "lower" else b.cut_short if word == "higher" else a.cut_short or b.cut_short
    cut = next((part for part in (a, b) if part.cut_short), a)
    word = "open" if doubtful else word
    agrees = None if word == "open" else word == said
    text = f"{form(abs(gap), '.1f')} ± {half:.1f} nats {'higher' if gap > 0 else 'lower'}"
    return Verdict(claim, source, published, text, word, agrees, _cut(cut))


def _conjecture(row: Any, measured: Figure | None) -> Verdict:
    """Does the conditional net, explored further, reach what is published of the unconditional one?"""
    cited = next(cited for cited in PUBLISHED if cited.preset == "gan")
    claim = "With more exploration the conditional net matches or exceeds the unconditional one (a conjecture)"
    source, published = "Mirza and Osindero 2014, section 4.1", f"{cited.mean:g} ± {cited.error:g} nats or more"
    if measured is None:
        return Verdict(claim, source, published, _missing(row), "open", None)
    half = math.hypot(measured.half, 1.96 * (cited.error or 0.0))
    word = compare(measured.mean - cited.mean, half, CLOSE_NATS, measured.cut_short)
    labels = f", {row.label_fidelity:.1%} of the labels as asked" if number(row.label_fidelity) else ""
    agrees = None if word == "open" else word != "lower"
    return Verdict(claim, source, published, f"{measured.text} ({row.model}){labels}", word, agrees, _cut(measured))


def _labels(row: Any, runs: pd.DataFrame) -> Verdict:
    """Do samples show the digit asked for, as surely as real digits show theirs?"""
    claim, source = "Each row of figure 2 shows the digit that was asked for", "Mirza and Osindero 2014, figure 2"
    done = _finished(row, runs)
    if not number(row.label_fidelity) or not done:
        return Verdict(claim, source, "shown, no figure given", _missing(row), "open", None)
    real = sum(result.classifier_accuracy for result in done) / len(done)
    share = row.label_fidelity
    count = sum(result.parzen.n_samples for result in done)
    half = 1.96 * math.sqrt(share * (1 - share) / max(count, 1) + real * (1 - real) / 10_000)
    word = compare(share - real, half, CLOSE_SHARE)
    text = f"{share:.1%} of the samples are read as the label asked for, {real:.1%} of real test digits as their own"
    return Verdict(claim, source, "shown, no figure given", text, word, word in ("higher", "equal") or share >= 0.95)


def _wrong_labels(row: Any, runs: pd.DataFrame) -> Verdict | None:
    """Does D reject a real image that comes with a wrong label?"""
    tables = [result.acceptance.accepted for result in _finished(row, runs) if result.acceptance]
    tables = [
        table for table in tables if [len(cells) for cells in table] == [2, 2] and None not in table[0] + table[1]
    ]
    if not tables:
        return None
    (real, wrong), (fake, fake_wrong) = (
        [sum(table[i][k] for table in tables) / len(tables) for k in (0, 1)] for i in (0, 1)
    )
    word = compare(wrong - 0.5, 1.96 * math.sqrt(0.25 / 10_000), CLOSE_SHARE)
    text = (
        f"accepts {wrong:.1%} of real images with a wrong label (with their own: {real:.1%}; of generated images "
        f"{fake_wrong:.1%} and {fake:.1%})"
    )
    claim = f"D rejects a real image with a wrong label ({row.preset})"
    return Verdict(claim, TUTORIAL, "under half are accepted", text, word, word == "lower")


def _tags(runs: pd.DataFrame) -> Verdict:
    """Do generated tags say more than the commonest tags do? The paper gives examples and no figure."""
    claim, source = "Tags generated for a photo describe it", "Mirza and Osindero 2014, Table 2"
    found = []
    for run in runs[(runs["experiment"] == "flickr-tags") & (runs["status"] == "finished")].itertuples():
        gap = getattr(run.result.measures.get("commonest"), "cgan_minus_this_precision", None)
        if gap is not None:
            papers = run.dataset == "mirflickr" and not run.result.notice
            # The paper's photos and preset first; never the best of several, which would be selection.
            found.append(((not papers, run.preset != "paper", run.changes != "", run.seed), papers, run.dataset, gap))
    if not found:
        return Verdict(claim, source, "examples, no figure given", "not run: make flickr-tags", "open", None)
    _, papers, dataset, gap = min(found, key=lambda entry: entry[0])
    word: Word = "higher" if gap.low > 0 else "lower" if gap.high < 0 else "open"
    word = "equal" if word == "open" and max(-gap.low, gap.high) <= CLOSE_SHARE else word
    text = (
        f"precision at 10, against user tags and annotations, minus that of always giving the commonest tags: "
        f"{form(gap.value, '+.3f')} [{form(gap.low, '.3f')}, {form(gap.high, '.3f')}]"
    )
    agrees = None if word == "open" or not papers else word == "higher"
    return Verdict(
        claim, source, "examples, no figure given", text, word, agrees, "" if papers else f"on other photos ({dataset})"
    )


def _finished(row: Any, runs: pd.DataFrame) -> Sequence[Any]:
    """Return the results behind a row of Table 1."""
    return list(runs[(runs["group"] == row.group) & (runs["status"] == "finished")]["result"])


def _cut(measured: Figure) -> str:
    return "training cut short" if measured.cut_short else ""


def _missing(row: Any) -> str:
    return row.state if row.runs else f"not run: {row.command}"
