"""Set what the papers claim beside what the runs measured: one plain sentence and one verdict a claim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from experiments.report.digits import TABLE, half_width
from experiments.report.forms import form, number
from experiments.report.photos import FIELDS
from experiments.report.records import KMEANS, MNIST, REAL

if TYPE_CHECKING:
    import pandas as pd

Word = Literal["higher", "lower", "equal", "open"]

#: Standard deviation over seeds assumed of a single seed, in nats; presets with three seeds or more have 2 to 9.
ONE_SEED = 10.0

#: "equal" needs a 95% interval of the difference at most this wide on either side: nats, and shares of one.
CLOSE_NATS, CLOSE_SHARE = 10.0, 0.02

#: Whose claims they are; each is counted for itself.
PAPER, SOURCES, OTHERS = "This paper", "The GAN paper and a tutorial", "A paper on the measure"
TITLES = {
    PAPER: "M. Mirza and S. Osindero, Conditional Generative Adversarial Nets, 2014 (arXiv 1411.1784)",
    SOURCES: "I. Goodfellow et al., Generative Adversarial Nets, 2014 (arXiv 1406.2661); a widely copied tutorial",
    OTHERS: "L. Theis, A. van den Oord and M. Bethge, A note on the evaluation of generative models (arXiv 1511.01844)",
}


@dataclass(frozen=True)
class Verdict:
    """One claim, and what became of it here."""

    origin: str  # A key of ``TITLES``.
    claim: str
    where: str
    measured: str
    word: Word  # How the measured figure stands to the published one.
    agrees: bool | None  # Whether the claim holds by it; None if that is open.
    remark: str = ""


@dataclass(frozen=True)
class Figure:
    """A mean with the half-width of its 95% interval, or what is missing where there is none."""

    mean: float = 0.0
    half: float | None = None  # None where nothing was measured.
    text: str = ""
    cut_short: bool = False
    remarks: tuple[str, ...] = ()


def compare(difference: float, half: float, close: float) -> Word:
    """Return how a measured figure stands to a reference.

    Higher or lower: the 95% interval of the difference, ``half`` to either side, excludes zero. Equal: it contains
    zero, and ``half`` is at most ``close``. Open: anything else.
    """
    if abs(difference) > half:
        return "higher" if difference > 0 else "lower"
    return "equal" if half <= close else "open"


def figure(row: Any) -> Figure:
    """Return the log-likelihood of a row of Table 1 with its 95% interval."""
    if not row.seeds:
        return Figure(text=row.state if row.runs else f"not run: {row.command}")
    mean, error = form(row.log_likelihood, ".1f"), 1.96 * row.standard_error
    remarks = ["training cut short"] * bool(row.cut_short)
    if row.seeds < row.runs:
        remarks.append(f"{row.seeds} of {row.runs} seeds finished")
    if row.experiment != MNIST:
        half, text = error, f"{mean} ± {error:.1f} nats"
    elif row.seeds == 1:
        half, text = math.hypot(1.96 * ONE_SEED, error), f"{mean} nats with one seed"
        remarks.append("rests on one seed")
    else:
        half = half_width(row.spread, row.seeds)
        text = f"{mean} ± {half:.1f} nats over {row.seeds} seeds"
    return Figure(row.log_likelihood, half, text, bool(row.cut_short), tuple(remarks))


def verdicts(rows: pd.DataFrame, runs: pd.DataFrame) -> list[Verdict]:
    """Return every verdict, from Table 1 as numbers and the table of runs on real data that count."""
    row = {row.preset: row for row in rows.itertuples() if row.preset}
    found = {preset: figure(row) for preset, row in row.items()}
    said = {preset: TABLE["Cited"](row) for preset, row in row.items()}
    cited = {
        preset: Figure(row.cited, 1.96 * row.cited_error if number(row.cited_error) else 0.0)
        for preset, row in row.items()
    }
    paper, gan, best, real, kmeans = (found[name] for name in ("paper", "gan", "conditional-best", REAL, KMEANS))
    better = "With more exploration the conditional net matches or exceeds the unconditional one's"
    fooled = f"10,000 k-means centroids score {said[KMEANS]} nats, more than real images: the measure can be fooled."
    section = "section 4.1, a conjecture; preset conditional-best"
    below = "The conditional net scores below the unconditional one, by 93 nats."
    reach = f"Conditional adversarial nets reach {said['paper']} nats."
    return [
        _nats(PAPER, reach, "Table 1", paper, cited["paper"], {"equal"}),
        _nats(PAPER, below, "Table 1", paper, gan, {"lower"}),
        _nats(PAPER, f"{better} {said['gan']} nats.", section, best, cited["gan"], {"equal", "higher"}),
        _labels(row["paper"]),
        _tags(runs),
        _nats(SOURCES, f"Adversarial nets reach {said['gan']} nats.", "Table 1", gan, cited["gan"], {"equal"}),
        _wrong_labels(rows),
        _nats(
            OTHERS, f"10,000 real training images score {said[REAL]} nats.", "section 3", real, cited[REAL], {"equal"}
        ),
        _nats(OTHERS, fooled, "section 3", kmeans, real, {"higher"}),
    ]


def _nats(origin: str, claim: str, where: str, one: Figure, other: Figure, agreeing: set[Word]) -> Verdict:
    """Return whether a log-likelihood stands to another, published or measured (with a text), as is claimed."""
    for missing in (other, one):
        if missing.half is None:
            return Verdict(origin, claim, where, missing.text, "open", None)
    gap, half = one.mean - other.mean, math.hypot(one.half or 0, other.half or 0)
    word = compare(gap, half, CLOSE_NATS)
    # The one that was cut short would rise.
    if (one.cut_short and word != "higher") or (other.cut_short and word != "lower"):
        word = "open"
    against = f", against {other.text}: a difference of {form(gap, '+.1f')} ± {half:.1f}" if other.text else ""
    remark = ", ".join(dict.fromkeys([*one.remarks, *other.remarks]))
    return Verdict(origin, claim, where, one.text + against, word, None if word == "open" else word in agreeing, remark)


def _labels(row: Any) -> Verdict:
    """Do samples show the digit asked for, as surely as real digits show theirs?"""
    claim, where = "Each row of figure 2 shows the digit that was asked for.", "figure 2, no number"
    if not number(row.label_fidelity):
        return Verdict(PAPER, claim, where, figure(row).text, "open", None)
    share, real = row.label_fidelity, row.classifier
    # 10,000 samples of each seed, and 10,000 real test images.
    half = 1.96 * math.sqrt((share * (1 - share) / row.seeds + real * (1 - real)) / 10_000)
    word = compare(share - real, half, CLOSE_SHARE)
    text = f"{share:.1%} of the samples are read as the label asked for; of real test digits {real:.1%}"
    agrees = word in ("higher", "equal") or share >= 0.95
    return Verdict(PAPER, claim, where, text, word, agrees, ", ".join(figure(row).remarks))


def _wrong_labels(rows: pd.DataFrame) -> Verdict:
    """Does D of the tutorial's net reject a real image with a wrong label? The other nets stand beside it."""
    claim, where = "D rejects a real image with a wrong label: it accepts under half of them.", "the tutorial"
    shares = {row.preset: row.accept_real_wrong for row in rows.itertuples() if number(row.accept_real_wrong)}
    text = "accepted: " + (", ".join(f"{share:.1%} ({preset})" for preset, share in shares.items()) or "not measured")
    if "tutorial" not in shares:
        return Verdict(SOURCES, claim, where, f"{text}; not run: make mnist PRESET=tutorial", "open", None)
    word = compare(shares["tutorial"] - 0.5, 1.96 * math.sqrt(0.25 / 10_000), CLOSE_SHARE)
    return Verdict(SOURCES, claim, where, text, word, word == "lower", "the verdict is on the tutorial's own net")


def _tags(runs: pd.DataFrame) -> Verdict:
    """Do generated tags say more than the commonest tags do? The paper gives examples and no figure."""
    claim, where = "Tags generated for a photo describe it.", "Table 2, no number"
    done = runs[(runs["status"] == "finished") & (runs["changes"] == "") & ~runs["cut_short"] & runs["gain"].notna()]
    if not len(done):
        return Verdict(PAPER, claim, where, "not run: make flickr-tags", "open", None)
    others = [run.dataset != "mirflickr" or bool(run.config.notice or run.result.notice) for run in done.itertuples()]
    # The paper's photos and preset first, then the most seeds; never the best of several, which would be selection.
    seeds = done.groupby("group")["seed"].transform("size")
    done = done.assign(others=others, variant=done["preset"] != "paper", seeds=seeds)
    done = done.sort_values(["others", "variant", "seeds"], ascending=[True, True, False], kind="stable")
    groups = [these for _, these in done.groupby("group", sort=False)]
    texts, words = [], []
    for these in groups:
        mean, n = these["gain"].mean(), len(these)
        low, high = these[["gain_low", "gain_high"]].iloc[0]
        if n > 1:
            half = half_width(these["gain"].std(), n)
            low, high = mean - half, mean + half
        close: Word = "equal" if max(-low, high) <= CLOSE_SHARE else "open"
        words.append("higher" if low > 0 else "lower" if high < 0 else close)
        texts.append(f"{form(mean, '+.3f')} [{form(low, '.3f')}, {form(high, '.3f')}] ({these['name'].iloc[0]})")
    first, word = groups[0].iloc[0], words[0]
    remarks = [f"the verdict is on {first['name']}"] * (len(groups) > 1) + ["rests on one seed"] * (len(groups[0]) == 1)
    remarks += ["not the paper's photos"] * bool(first["others"])
    text = f"precision at 10, against {FIELDS['measures']}, minus that of always giving the commonest tags: "
    agrees = None if word == "open" or first["others"] else word == "higher"
    return Verdict(PAPER, claim, where, text + "; ".join(texts), word, agrees, ", ".join(remarks))
