"""What the paths of the benchmark share: candidates timed in turn, checks that their results agree, rows and a table.

Knows nothing of what is timed.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from experiments import UsageError

Role = Literal["ours", "alternative", "limit"]


@dataclass(frozen=True)
class Candidate:
    """One way to do a row's work, ready to be timed: whatever is done once only (loading, capturing) is done."""

    name: str
    role: Role
    call: Callable[[], object]
    share: float = 1.0
    """How much of the row's work one call does; its time is divided by this."""
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
    """A path made ready: what its results were found to agree in, and the candidates, ours first."""

    path: str
    what: str
    """The work in words, with its sizes and data."""
    amount: float
    """How much of ``unit`` the work is: its rates are given in these."""
    unit: str
    agreement: Sequence[Check]
    candidates: Sequence[Candidate]
    aim: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def measure(
    job: Job, repeats: int, synchronise: Callable[[], None] = lambda: None, progress: bool = False
) -> dict[str, Any]:
    """Time every candidate of a job ``repeats`` times, in turn, so that other work slows all alike; return its row.

    A job whose results disagree is not timed: its row has no candidates. ``synchronise`` waits for the device.
    """
    from tqdm import tqdm

    timed = job.candidates if all(check.agrees for check in job.agreement) else []
    times: list[list[float]] = [[] for _ in timed]
    with tqdm(total=repeats * len(timed), desc=job.path, leave=False, disable=None if progress else True) as bar:
        for _ in range(repeats):
            for candidate, own in zip(timed, times, strict=True):
                synchronise()
                start = time.perf_counter()
                candidate.call()
                synchronise()
                own.append((time.perf_counter() - start) / candidate.share)
                bar.update()
    measured = [
        {
            "name": candidate.name,
            "role": candidate.role,
            "median_s": statistics.median(own),
            "times": own,
            "amount": job.amount,
            "unit": job.unit,
            # Seconds are those measured times this.
            "scaled": 1 / candidate.share,
            "note": candidate.note,
        }
        for candidate, own in zip(timed, times, strict=True)
    ]
    return {
        "path": job.path,
        "what": job.what,
        "aim": job.aim,
        "agreement": [check.as_dict() for check in job.agreement],
        "candidates": measured,
        "ratios": ratios(measured),
        "facts": dict(job.facts),
    }


def ratios(measured: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return how many times faster ours (the first of that role) is than each alternative and each limit."""
    if not measured:
        return {}
    ours = next(each["median_s"] for each in measured if each["role"] == "ours")
    return {
        "times_faster": {each["name"]: each["median_s"] / ours for each in measured if each["role"] == "alternative"},
        "times_the_limit": {each["name"]: ours / each["median_s"] for each in measured if each["role"] == "limit"},
    }


def disagreements(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe each result that did not agree."""
    return [f"{row['path']}: {in_words(check)}" for row in rows for check in row["agreement"] if not check["agrees"]]


def in_words(check: Mapping[str, Any]) -> str:
    """Describe a check."""
    value = "not a number" if check["value"] is None else f"{check['value']:.3g}"
    return (
        f"{check['what']} is {value}, where {'at least' if check['at_least'] else 'at most'} {check['bound']:g} agrees"
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table; further alternatives and limits of a path have lines of their own."""
    lines = [
        "| path | ours | alternative | times faster | limit | times the limit |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if not row["candidates"]:
            lines.append(f"| {row['path']} | not timed: results disagree | | | | |")
            continue
        of = {role: [each for each in row["candidates"] if each["role"] == role] for role in ("alternative", "limit")}
        first, *_ = row["candidates"]
        head = f"**{row['path']}** ({row['what']})", f"{seconds(first['median_s'])} ({rate(first)})"
        for slower, limit in itertools.zip_longest(of["alternative"], of["limit"]):
            cells = [*head]
            for each, kind in ((slower, "times_faster"), (limit, "times_the_limit")):
                if each is None:
                    cells += ["", ""]
                else:
                    cells += [described(each), f"{row['ratios'][kind][each['name']]:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
            head = "", ""
    return "\n".join(lines)


def described(measured: Mapping[str, Any]) -> str:
    """Describe a candidate: name, seconds, whether these were scaled up, and the note."""
    scaled = ", scaled up" if measured["role"] == "alternative" and measured["scaled"] > 1 else ""
    note = f" ({measured['note']})" if measured["note"] else ""
    return f"{measured['name']}: {seconds(measured['median_s'])}{scaled}{note}"


def seconds(value: float) -> str:
    """Format seconds or milliseconds with three digits."""
    if value >= 100:
        return f"{value:,.0f} s"
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def rate(measured: Mapping[str, Any]) -> str:
    """Format how much is done in a second."""
    value = measured["amount"] / measured["median_s"]
    return f"{value:,.0f} {measured['unit']}/s" if value >= 100 else f"{value:.3g} {measured['unit']}/s"


def check_positive(values: Mapping[str, int | None]) -> None:
    """Raise ``UsageError`` naming the first option that is there but below 1."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: at least 1 is needed")
