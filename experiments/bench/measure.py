"""Time candidates in turn, and lay the figures out as a table. Knows nothing of what is timed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import torch

    from cgan.devices import Precision
    from data.labelled import ImageDataset


@dataclass(frozen=True)
class Context:
    """What a path is measured with."""

    quick: bool  # Whether sizes are small.
    device: torch.device
    precision: Precision
    threads: int
    root: Path  # Folder of the data sets.
    folder: Path  # For files that are needed while measuring.

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @cached_property
    def digits(self) -> ImageDataset:
        """MNIST where it lies under the data root, else the embedded digits."""
        from data.mnist import load_digit_images

        return load_digit_images("auto", self.root, download=False)


class Candidate(NamedTuple):
    """One way to do a path's work, ready to be timed: whatever is done once only (loading, capturing) is done."""

    role: Literal["ours", "alternative", "limit"]
    name: str
    call: Callable[[], object]
    share: float = 1.0  # How much of the path's work one call does; its time is divided by this.


class Job(NamedTuple):
    """A path made ready: its work in words, how much of ``unit`` that is, and the ways to do it, ours first."""

    what: str
    amount: float
    unit: str
    candidates: Sequence[Candidate]


def measure(path: str, job: Job, repeats: int) -> dict[str, Any]:
    """Time every candidate ``repeats`` times, in turn, so that other work slows all alike; return the path's record."""
    from torch.utils.benchmark import timer  # It waits for the device.
    from tqdm import tqdm

    times: dict[str, list[float]] = {each.name: [] for each in job.candidates}
    for each in tqdm([*job.candidates] * repeats, path, leave=False, disable=None):
        start = timer()
        each.call()
        times[each.name].append((timer() - start) / each.share)
    candidates = [
        {
            "name": each.name,
            "role": each.role,
            "median_s": statistics.median(times[each.name]),
            "times": times[each.name],
            "scaled": 1 / each.share,  # Seconds are those measured times this.
        }
        for each in job.candidates
    ]
    return {"path": path, "what": job.what, "amount": job.amount, "unit": job.unit, "candidates": candidates}


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the records as a Markdown table with a row a candidate; ours comes first of each path."""
    import pandas as pd

    rows = []
    for record in records:
        ours = record["candidates"][0]["median_s"]
        for each in record["candidates"]:
            name, seconds = each["name"], each["median_s"]
            taken = f"{three_digits(seconds)} s" if seconds >= 1 else f"{three_digits(1e3 * seconds)} ms"
            taken += ", scaled up" if each["scaled"] > 1 else ""
            if each["role"] == "ours":
                rate = f"{three_digits(record['amount'] / seconds)} {record['unit']}/s"
                rows.append((record["path"], f"{record['what']}: {name}", taken, rate))
            elif each["role"] == "alternative":
                rows.append(("", name, taken, f"{seconds / ours:.2f} times ours"))
            else:
                rows.append(("", f"limit: {name}", taken, f"ours is {ours / seconds:.2f} times this"))
    return pd.DataFrame(rows, columns=["path", "work", "time", ""]).to_markdown(index=False)


def three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
