"""Time candidates in turn after checking that their results agree, and lay the figures out as a table.

Knows nothing of what is timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from cgan.devices import Precision
    from data.labelled import ImageDataset


@dataclass(frozen=True)
class Sizes:
    """The work of the table, and the shares of it that slow candidates are measured on, their times scaled up."""

    updates: int = 50  # timed at a time, of an epoch too
    samples: int = 10_000  # of the Parzen window, and as many images (section 4.1)
    kde_images: int = 30  # that scikit-learn scores
    words: int = 247_465  # of the vocabulary (section 4.2), random unit vectors
    queries: int = 10_000  # vectors whose nearest words are looked for, a hundred of them an image
    gensim_queries: int = 100  # of gensim's loop
    decoded_images: int = 10  # that the per-image loop decodes
    rows: int = 200_000  # of metadata cleaned, of the million that the figure is for
    lines: int = 200_000  # of the corpus that skip-gram is trained on, at most
    photos: int = 256  # whose features are computed
    loop_photos: int = 48  # of the loop


QUICK = Sizes(
    updates=2,
    samples=400,
    kde_images=40,
    words=4_000,
    queries=200,
    gensim_queries=20,
    decoded_images=1,
    rows=2_000,
    lines=2_000,
    photos=6,
    loop_photos=4,
)


@dataclass(frozen=True)
class Context:
    """What a path is measured with."""

    sizes: Sizes
    device: torch.device
    precision: Precision
    threads: int
    seeds: int
    """Trained at once."""
    root: Path
    """Folder of the data sets."""
    folder: Path
    """For files that are needed while measuring."""

    @cached_property
    def digits(self) -> ImageDataset:
        """MNIST where it lies under the data root, else the embedded digits."""
        from data.mnist import load_digit_images

        return load_digit_images("auto", self.root, download=False)


@dataclass(frozen=True)
class Candidate:
    """One way to do a path's work, ready to be timed: whatever is done once only (loading, capturing) is done."""

    name: str
    call: Callable[[], object]
    share: float = 1.0
    """How much of the path's work one call does; its time is divided by this."""


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

    def __str__(self) -> str:
        bound = f"{'at least' if self.at_least else 'at most'} {self.bound:g}"
        return f"{self.what} is {self.value:.3g}, where {bound} agrees"


@dataclass(frozen=True)
class Job:
    """A path made ready: how far the results were found to agree, and what is timed."""

    path: str
    what: str
    """The work in words, with its sizes and data."""
    amount: float
    """How much of ``unit`` the work is: the rate is given in these."""
    unit: str
    agreement: Sequence[Check]
    ours: Candidate
    alternatives: Sequence[Candidate]
    limits: Sequence[Candidate] = ()


def measure(job: Job, repeats: int) -> dict[str, Any]:
    """Time every candidate ``repeats`` times, in turn, so that other work slows all alike; return the path's record.

    A job whose results disagree is not timed: its record has no candidates.
    """
    from torch.utils.benchmark import timer  # It waits for the device.
    from tqdm import tqdm

    disagreement = [str(check) for check in job.agreement if not check.agrees]
    roles = {"ours": [job.ours], "alternative": job.alternatives, "limit": job.limits}
    timed = [(role, each) for role, candidates in roles.items() for each in candidates if not disagreement]
    times: dict[str, list[float]] = {each.name: [] for _, each in timed}
    for _, each in tqdm(timed * repeats, job.path, leave=False, disable=None):
        start = timer()
        each.call()
        times[each.name].append((timer() - start) / each.share)
    median = {name: statistics.median(own) for name, own in times.items()}
    ours = median.get(job.ours.name, 0.0)
    return {
        "path": job.path,
        "what": job.what,
        "amount": job.amount,
        "unit": job.unit,
        "agreement": [str(check) for check in job.agreement],
        "disagreement": disagreement,
        "candidates": [
            {
                "name": each.name,
                "role": role,
                "median_s": median[each.name],
                "times": times[each.name],
                "scaled": 1 / each.share,  # Seconds are those measured times this.
            }
            for role, each in timed
        ],
        "ratios": {
            "times_faster": {each.name: median[each.name] / ours for role, each in timed if role == "alternative"},
            "times_the_limit": {each.name: ours / median[each.name] for role, each in timed if role == "limit"},
        },
    }


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the records as a Markdown table with a row a candidate; ours comes first of each path."""
    import pandas as pd

    rows = []
    for record in records:
        if not record["candidates"]:
            rows.append((record["path"], record["what"], "not timed: results disagree", ""))
        for each in record["candidates"]:
            name, ratios = each["name"], record["ratios"]
            taken = f"{seconds(each['median_s'])}{', scaled up' if each['scaled'] > 1 else ''}"
            if each["role"] == "ours":
                rate = f"{three_digits(record['amount'] / each['median_s'])} {record['unit']}/s"
                rows.append((record["path"], f"{record['what']}: {name}", taken, rate))
            elif each["role"] == "alternative":
                rows.append(("", name, taken, f"{ratios['times_faster'][name]:.2f} times ours"))
            else:
                rows.append(("", f"limit: {name}", taken, f"ours is {ratios['times_the_limit'][name]:.2f} times this"))
    return pd.DataFrame(rows, columns=["path", "work", "time", ""]).to_markdown(index=False)


def seconds(value: float) -> str:
    """Format seconds, or milliseconds below one."""
    return f"{three_digits(value)} s" if value >= 1 else f"{three_digits(1e3 * value)} ms"


def three_digits(value: float) -> str:
    """Format a number with three digits, or more before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
