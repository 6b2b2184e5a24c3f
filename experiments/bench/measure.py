"""Time candidates in turn after checking that their results agree, and lay the figures out as a table.

Knows nothing of what is timed.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """One way to do a path's work, ready to be timed: whatever is done once only (loading, capturing) is done."""

    name: str
    call: Callable[[], object]
    share: float = 1.0
    """How much of the path's work one call does; its time is divided by this."""
    note: str = ""


@dataclass(frozen=True)
class Check:
    """A number that says how far two results agree, and the bound it must keep."""

    what: str
    value: float
    bound: float
    at_least: bool = False
    """Whether the bound is the smallest value that agrees; else it is the largest."""

    @property
    def agrees(self) -> bool:
        """Whether the bound is kept; NaN keeps none."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready; a value that JSON does not know (NaN, infinity) as None."""
        value = self.value if math.isfinite(self.value) else None
        return {**asdict(self), "value": value, "agrees": self.agrees}


@dataclass(frozen=True)
class Job:
    """A path made ready: how far the results were found to agree, and what is timed."""

    path: str
    what: str
    """The work in words, with its sizes and data."""
    amount: float
    """How much of ``unit`` the work is: its rates are given in these."""
    unit: str
    agreement: Sequence[Check]
    ours: Candidate
    alternatives: Sequence[Candidate]
    limits: Sequence[Candidate]
    aim: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def measure(
    job: Job, repeats: int, synchronise: Callable[[], object] = lambda: None, progress: bool = False
) -> dict[str, Any]:
    """Time every candidate ``repeats`` times, in turn, so that other work slows all alike; return the path's record.

    A job whose results disagree is not timed: its record has no candidates. ``synchronise`` waits for the device.
    """
    from tqdm import tqdm

    roles = {"ours": [job.ours], "alternative": job.alternatives, "limit": job.limits}
    agreed = all(check.agrees for check in job.agreement)
    timed = [(role, each) for role, candidates in roles.items() for each in candidates] if agreed else []
    times: dict[str, list[float]] = {each.name: [] for _, each in timed}
    for _, each in tqdm(timed * repeats, job.path, leave=False, disable=None if progress else True):
        synchronise()
        start = time.perf_counter()
        each.call()
        synchronise()
        times[each.name].append((time.perf_counter() - start) / each.share)
    median = {name: statistics.median(own) for name, own in times.items()}
    ratios = {}
    if agreed:
        ours = median[job.ours.name]
        ratios["times_faster"] = {each.name: median[each.name] / ours for each in job.alternatives}
        ratios["times_the_limit"] = {each.name: ours / median[each.name] for each in job.limits}
    return {
        "path": job.path,
        "what": job.what,
        "aim": job.aim,
        "agreement": [check.as_dict() for check in job.agreement],
        "candidates": [
            {
                "name": each.name,
                "role": role,
                "median_s": median[each.name],
                "times": times[each.name],
                "amount": job.amount,
                "unit": job.unit,
                "scaled": 1 / each.share,  # Seconds are those measured times this.
                "note": each.note,
            }
            for role, each in timed
        ],
        "ratios": ratios,
        "facts": dict(job.facts),
    }


def disagreements(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe each result that did not agree."""
    return [f"{row['path']}: {in_words(check)}" for row in rows for check in row["agreement"] if not check["agrees"]]


def in_words(check: Mapping[str, Any]) -> str:
    """Describe a check."""
    value = "not a number" if check["value"] is None else f"{check['value']:.3g}"
    bound = f"{'at least' if check['at_least'] else 'at most'} {check['bound']:g}"
    return f"{check['what']} is {value}, where {bound} agrees"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the records as a Markdown table; further alternatives and limits of a path have lines of their own."""
    lines = [
        "| path | ours | alternative | times faster | limit | times the limit |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if not row["candidates"]:
            lines.append(f"| {row['path']} | not timed: results disagree | | | | |")
            continue
        ours, *others = row["candidates"]
        rate = f"{three_digits(ours['amount'] / ours['median_s'])} {ours['unit']}/s"
        head = f"**{row['path']}** ({row['what']}) | {seconds(ours['median_s'])} ({rate})"
        columns = []
        for role, kind in (("alternative", "times_faster"), ("limit", "times_the_limit")):
            mine = [each for each in others if each["role"] == role]
            columns.append([f"{described(each)} | {row['ratios'][kind][each['name']]:.2f}" for each in mine])
        for alternative, limit in itertools.zip_longest(*columns, fillvalue=" | "):
            lines.append(f"| {head} | {alternative} | {limit} |")
            head = " | "
    return "\n".join(lines)


def described(candidate: Mapping[str, Any]) -> str:
    """Describe a candidate: name, seconds, whether these were scaled up, and the note."""
    scaled = ", scaled up" if candidate["role"] == "alternative" and candidate["scaled"] > 1 else ""
    note = f" ({candidate['note']})" if candidate["note"] else ""
    return f"{candidate['name']}: {seconds(candidate['median_s'])}{scaled}{note}"


def seconds(value: float) -> str:
    """Format seconds, or milliseconds below one."""
    return f"{three_digits(value)} s" if value >= 1 else f"{three_digits(1e3 * value)} ms"


def three_digits(value: float) -> str:
    """Format a number with three digits, or more before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
