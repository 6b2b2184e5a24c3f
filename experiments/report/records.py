"""All runs below some folders, as records to be tabulated: found, checked, and one chosen of several of a seed.

Reads ``result.json``, ``config.json`` and the scores of ``experiments.parzen --json``. Writes and prints nothing.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import UsageError
from experiments.flickr_tags.presets import FLICKR_PRESETS
from experiments.mnist.presets import MNIST_PRESETS
from experiments.runs import folder as runs
from experiments.runs import photo_table as table2

MNIST, FLICKR, PARZEN = "mnist", "flickr-tags", "parzen"

#: Presets by experiment: what a run's settings are compared with, so that a changed setting gets a row of its own.
PRESETS: dict[str, Mapping[str, Callable[[], Any]]] = {MNIST: MNIST_PRESETS, FLICKR: FLICKR_PRESETS}

#: The only setting that may differ within a row: a run that is stopped early and measured has another one.
LENGTH = "stopping.max_updates"

#: Settings that a preset leaves to what is there, and that a run records as it was found.
FOUND = ("features.network", "features.weights", "features.grid", "features.random_weights")

#: The controls as ``experiments.parzen`` names them, and how many samples the paper's procedure takes.
REAL, KMEANS, COUNT = "mnist-train", "mnist-kmeans", 10_000

#: Other JSON files than results are looked into up to this many bytes, for scores.
SMALL = 2**20


@dataclass(frozen=True)
class Run:
    """One run, or one score of samples by ``experiments.parzen``."""

    place: Path
    """The run's folder, or the score's file."""
    experiment: str
    preset: str
    """The preset; of a score, what was scored."""
    changes: tuple[str, ...]
    """Settings that differ from the preset's own."""
    dataset: str
    embedded: bool
    checksum: str
    seed: int
    state: str
    """finished, diverged or unfinished."""
    updates: int | None
    started: str
    """When its last session started, in UTC; empty if it does not say."""
    remark: str
    """How its training ended, in words."""
    result: Mapping[str, Any]
    settings: Mapping[str, Any]
    """Recorded settings by dotted name, but for the length of training and those that are recorded as found."""

    @property
    def name(self) -> str:
        """Preset and changed settings in words."""
        told = [*self.changes[:3], *([f"{len(self.changes) - 3} more changes"] if len(self.changes) > 3 else [])]
        return f"{self.preset} with {', '.join(told)}" if told else self.preset

    @property
    def key(self) -> tuple[Any, ...]:
        """What runs of one row share."""
        # Of a preset that is known the changes say it all; a setting that a record lacks came later.
        known = own_settings(self.experiment, self.preset) is not None
        settings = "" if known else json.dumps(self.settings, sort_keys=True)
        return self.experiment, self.preset, self.changes, self.dataset, self.embedded, self.checksum, settings

    @property
    def key_and_seed(self) -> tuple[Any, ...]:
        """What only runs of the same thing share."""
        return *self.key, self.seed


@dataclass(frozen=True)
class Note:
    """What a reader must know of a file that could not be taken as it is."""

    text: str
    experiment: str | None = None
    """Whose tables it concerns; None: all."""


@dataclass
class Found:
    """What the search brought in."""

    runs: list[Run] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def find(folders: Sequence[Path]) -> Found:
    """All runs and scores below ``folders``; that there are none is noted. What a search plays is no run."""
    found = Found()
    seen: set[Path] = set()
    paths = [path for folder in folders for path in sorted(folder.rglob("*.json"))]
    searches = {path.parent for path in paths if path.name == runs.SEARCH}
    for path in paths:
        if path.resolve() not in seen and path.is_file() and not searches & set(path.parents):
            seen.add(path.resolve())
            _take(path, found)
    if not found.runs:
        found.notes.append(Note(f"{', '.join(map(str, folders))}: no run was found there"))
    return found


def _take(path: Path, found: Found) -> None:
    """Add the run that a JSON file is about, or a note on why it was left out."""
    if path.name == runs.CONFIG and (path.parent / runs.RESULT).exists():
        return
    if path.name not in (runs.RESULT, runs.CONFIG) and (path.name == table2.JSON or path.stat().st_size > SMALL):
        return
    try:
        record = runs.read_json(path)
    except UsageError as error:
        # Any tool may have written a list into a file of any other name.
        if path.name in (runs.RESULT, runs.CONFIG) or "not readable" in str(error):
            found.notes.append(Note(f"{error}; left out"))
        return
    except OSError as error:
        found.notes.append(Note(f"{path}: {error.strerror}; left out"))
        return
    try:
        if path.name == runs.RESULT:
            found.runs += read_result(path, record, found.notes)
        elif path.name == runs.CONFIG:
            found.runs += read_unfinished(path, record)
        else:
            found.runs += read_score(path, record)
    except _Form as form:
        found.notes.append(
            Note(
                f"{path}: of an older format, without a usable {form}; left out (delete it and give the run's command "
                "again with --resume to have it measured anew)"
            )
        )


class _Form(Exception):
    """A field is missing or of another kind; the message names it."""


def read_result(path: Path, record: Mapping[str, Any], notes: list[Note]) -> list[Run]:
    """The run that a ``result.json`` is about, if it is one of the paper's experiments."""
    experiment = text_of(record, "experiment")
    if experiment not in (MNIST, FLICKR):
        return []
    state = text_of(record, "status")
    if state == "finished":
        needed = (("parzen", "test_mean"), ("parzen", "test_se")) if experiment == MNIST else ()
        for keys in needed:
            if number(record, *keys) is None:
                raise _Form(".".join(keys))
        if experiment == FLICKR and not isinstance(record.get("measures"), Mapping):
            raise _Form("measures")
    config: Mapping[str, Any] = record
    try:
        config = runs.read_json(path.with_name(runs.CONFIG))
    except (UsageError, OSError):
        if not isinstance(record.get("settings"), Mapping):
            name = record.get("preset")
            text = f"{path}: no readable {runs.CONFIG} beside it; its settings are taken for {name}'s own"
            notes.append(Note(text, experiment))
    return [_run(path.parent, record, config, state, number(record, "updates"), _ending(state, record, config))]


def read_unfinished(path: Path, config: Mapping[str, Any]) -> list[Run]:
    """The run that a ``config.json`` without a result is about, with what ``metrics.csv`` says of it."""
    if config.get("experiment") not in (MNIST, FLICKR):
        return []
    updates, best = None, None
    try:
        with open(path.with_name(runs.METRICS), encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        updates = int(rows[-1]["update"])
        best = max(float(row["valid_log_likelihood"]) for row in rows)
    except (OSError, KeyError, IndexError, TypeError, ValueError):
        # The run has just begun, or measures other things.
        pass
    remark = "unfinished" + (f" at update {updates:,}" if updates is not None else "")
    if best is not None and math.isfinite(best):
        remark += f", best validation estimate {best:.1f} nats".replace("-", "−")
    return [_run(path.parent, config, config, "unfinished", updates, remark)]


def read_score(path: Path, record: Mapping[str, Any]) -> list[Run]:
    """The score that ``experiments.parzen --json`` wrote, if it is one on the whole of MNIST."""
    if record.get("valid") != "mnist" or record.get("test") != "mnist" or not isinstance(record.get("samples"), str):
        return []
    if any(number(record, name) is None for name in ("test_mean", "test_se", "n_samples")):
        return []
    count = int(record["n_samples"])
    changes = (f"{count:,} samples",) if record["samples"] in (REAL, KMEANS) and count != COUNT else ()
    result = {"parzen": record, "seconds": record.get("seconds"), "device": record.get("machine")}
    seed = number(record, "seed")
    return [
        Run(
            place=path,
            experiment=PARZEN,
            preset=record["samples"],
            changes=changes,
            dataset="mnist",
            embedded=False,
            checksum="",
            seed=int(seed) if seed is not None else 0,
            state="finished",
            updates=None,
            started="",
            remark="scored",
            result=result,
            settings={},
        )
    ]


def _run(
    place: Path,
    record: Mapping[str, Any],
    config: Mapping[str, Any],
    state: str,
    updates: float | None,
    remark: str,
) -> Run:
    experiment, preset = text_of(record, "experiment"), text_of(record, "preset")
    dataset = record.get("dataset")
    if not isinstance(dataset, Mapping) or not isinstance(dataset.get("embedded"), bool):
        # Without it an embedded run might fill a row of the paper's.
        raise _Form("dataset.embedded")
    seed = number(record, "seed")
    if seed is None:
        raise _Form("seed")
    settings = flat(config["settings"]) if isinstance(config.get("settings"), Mapping) else {}
    for name in (LENGTH, *FOUND):
        settings.pop(name, None)
    own = own_settings(experiment, preset)
    changes = () if own is None else tuple(f"{name}={told(v)}" for name, v in differing(settings, own).items())
    sessions = record.get("sessions")
    last = sessions[-1] if isinstance(sessions, list) and sessions else None
    started = last.get("started") if isinstance(last, Mapping) else None
    return Run(
        place=place,
        experiment=experiment,
        preset=preset,
        changes=changes,
        dataset=text_of(dataset, "name"),
        embedded=dataset["embedded"],
        checksum=str(dataset.get("checksum", "")),
        seed=int(seed),
        state=state if state in ("finished", "diverged") else "unfinished",
        updates=None if updates is None else int(updates),
        started=started if isinstance(started, str) else "",
        remark=remark,
        result=record,
        settings=settings,
    )


def _ending(state: str, record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """How the training that a result is about ended, in words."""
    updates = number(record, "updates")
    at = "" if updates is None else f" at update {int(updates):,}"
    if state != "finished":
        return f"{state}{at}"
    if record.get("stopped_by") == "patience":
        return "reached its stopping point"
    length = number(config, "settings", *LENGTH.split("."))
    own = own_settings(text_of(record, "experiment"), text_of(record, "preset"))
    full = None if own is None else own.get(LENGTH)
    if length is None or full is None:
        return "finished"
    return f"cut short (planned: at most {full:,} updates)" if length < full else "ran its full length"


def own_settings(experiment: str, preset: str) -> dict[str, Any] | None:
    """A preset's settings by dotted name; None where it is not known."""
    make = PRESETS.get(experiment, {}).get(preset)
    # Through JSON, as the recorded ones have gone: tuples become lists.
    return None if make is None else flat(json.loads(json.dumps(make().as_dict())))


def differing(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded ``settings`` that are not as in a preset's ``own``, both by dotted name.

    A setting that the preset has and the record lacks came later, and the run is as the preset was.
    """
    return {name: value for name, value in settings.items() if own.get(name) != value}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return out


def told(value: Any) -> str:
    """A setting's value as short text."""
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def number(record: Any, *keys: str) -> float | None:
    """The finite number at ``record[key][key]...``; None where there is none."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    if isinstance(record, bool) or not isinstance(record, int | float) or not math.isfinite(record):
        return None
    return record


def text_of(record: Mapping[str, Any], key: str) -> str:
    """The text at ``record[key]``, which must be there."""
    if not isinstance(record.get(key), str):
        raise _Form(key)
    return record[key]


def one_a_seed(found: Found) -> tuple[list[Run], list[Run]]:
    """Of several runs of a seed the finished one, and of these the later; then the runs passed over.

    The later is the one whose last session started later, else the one with more updates, else the newer folder.
    Exact copies are dropped. Both are told in the notes.
    """
    best: dict[tuple[Any, ...], Run] = {}
    passed: list[Run] = []
    for this in found.runs:
        key = this.key_and_seed
        other = best.get(key)
        twin = next((r for r in (*best.values(), *passed) if _same(r, this)), None)
        if twin is not None:
            found.notes.append(Note(f"{this.place}: the same as {twin.place}, counted once", this.experiment))
        elif other is None:
            best[key] = this
        else:
            loser, winner = sorted((other, this), key=_rank)
            best[key] = winner
            passed.append(loser)
    order = {preset: place for presets in PRESETS.values() for place, preset in enumerate(presets)}
    kept = sorted(best.values(), key=lambda r: (order.get(r.preset, len(order)), *r.key, r.seed))
    for this in passed:
        winner = best[this.key_and_seed]
        later = ", which finished later" if winner.state == this.state == "finished" else ""
        text = f"{this.place}: another run of {this.name}, seed {this.seed}; the row takes {winner.place}{later}"
        found.notes.append(Note(text, this.experiment))
    return kept, passed


def _same(a: Run, b: Run) -> bool:
    return (a.key, a.seed, a.updates, a.result) == (b.key, b.seed, b.updates, b.result)


def _rank(this: Run) -> tuple[Any, ...]:
    order = ("unfinished", "diverged", "finished").index(this.state)
    return order, this.started, this.updates or 0, this.place.stat().st_mtime


def grouped(kept: Iterable[Run]) -> list[tuple[Run, ...]]:
    """Runs that differ by seed alone, together."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for this in kept:
        groups.setdefault(this.key, []).append(this)
    return [tuple(group) for group in groups.values()]
