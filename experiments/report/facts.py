"""What the report says of a run in words and figures: how it went, what it stands on, and where its figures come from.

Draws and judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.report.records import FLICKR, MNIST, Run, number
from experiments.report.tables import NONE, clock, nats


def unimodal_facts(run: Run) -> list[tuple[str, str]]:
    """What a run on digits came to, as terms and values."""
    result = run.result
    score, error = number(result, "parzen", "test_mean"), number(result, "parzen", "test_se")
    shown = f"{nats(score)} ± {error:.1f} nats" if score is not None and error is not None else run.remark
    facts = [("Test log-likelihood", shown), *_training_facts(run)]
    sigma = number(result, "parzen", "sigma")
    facts += [("Sigma", f"{sigma:.3f}")] if sigma is not None else []
    for name, keys, form in (
        ("Labels as asked", ("label_fidelity", "share"), ".1%"),
        ("Variety (real digits 1)", ("variety", "overall"), ".2f"),
        ("Test log-likelihood with G's dropout left on (nats)", ("dropout_on", "parzen", "test_mean"), ".1f"),
        ("Variety with G's dropout left on", ("dropout_on", "variety", "overall"), ".2f"),
        ("A classifier trained on samples reads real digits", ("train_on_generated", "generated"), ".1%"),
        ("Trained on as many real digits", ("train_on_generated", "real"), ".1%"),
    ):
        value = number(result, *keys)
        facts += [(name, f"{value:{form}}")] if value is not None else []
    return facts


def _training_facts(run: Run) -> list[tuple[str, str]]:
    result = run.result
    kept, updates, seconds = (number(result, name) for name in ("best_update", "updates", "seconds"))
    facts = [("Data", run.dataset)]
    facts += [("Changed settings", "; ".join(run.changes))] if len(run.changes) > 1 else []
    if kept is not None and updates is not None:
        facts.append(("Weights kept", f"update {kept:,.0f} of {updates:,.0f}"))
    facts += [("Training time", clock(seconds))] if seconds is not None else []
    return [*facts, ("Ending", run.remark)]


def multimodal_facts(run: Run) -> list[tuple[str, str]]:
    """What a run on photos stands on, among it how the data measure up to the paper's, as terms and values."""
    result, network = run.result, run.result.get("network")
    facts = _training_facts(run)
    if isinstance(network, Mapping):
        weights = network.get("weights")
        state = "untrained, random weights" if weights == "random" else "trained weights"
        facts.append(("Image features", f"{network.get('name')}, {network.get('dim')} numbers, {state}"))
    words, pairs = number(result, "vocabulary", "words"), number(result, "pairs")
    facts += [("Vocabulary (paper: 247,465 words)", f"{words:,.0f} words")] if words is not None else []
    facts += [("Training pairs (paper: 150,000)", f"{pairs:,.0f}")] if pairs is not None else []
    images = result.get("images")
    if isinstance(images, Mapping):
        parts = [f"{number(images, key) or 0:,.0f} {what}" for key, what in _SPLITS.items()]
        facts.append(("Photos", ", ".join(parts)))
    return facts


_SPLITS = {"train": "train", "valid": "validate", "test": "test"}


def provenance(run: Run) -> list[tuple[str, list[str]]]:
    """Where a run's figures come from: terms and lines."""
    result = run.result
    environment = result.get("environment")
    environment = environment if isinstance(environment, Mapping) else {}
    sessions = result.get("sessions")
    sessions = [s for s in sessions if isinstance(s, Mapping)] if isinstance(sessions, list) else []
    told = [str(s["command"]) for s in sessions if s.get("command")] or texts([environment.get("command")])
    if not told and run.experiment not in (MNIST, FLICKR):
        told = texts([_at(result, "parzen", "command")])
    packages = environment.get("packages")
    versions = [f"Python {environment['python']}"] if environment.get("python") else []
    versions += [f"{name} {version}" for name, version in packages.items()] if isinstance(packages, Mapping) else []
    device = ", ".join(
        str(text)
        for text in (
            result.get("device"),
            environment.get("platform"),
            f"{environment['cpu_cores']} cores" if environment.get("cpu_cores") else None,
            f"{result['precision']} products" if result.get("precision") else None,
            f"{result['threads']} threads" if result.get("threads") else None,
        )
        if text
    )
    revision = environment.get("git_revision")
    revisions = list(dict.fromkeys(str(s["git_revision"]) for s in sessions if s.get("git_revision")))
    return [
        ("Folder", [str(run.place)]),
        ("Command", list(dict.fromkeys(told)) or [NONE]),
        ("Seed", [str(run.seed)]),
        ("Data", [run.dataset, *([f"checksum {run.checksum}"] if run.checksum else [])]),
        ("Versions", [", ".join(versions) or NONE]),
        ("Device", [device or NONE]),
        ("Revision", revisions or [str(revision) if revision else NONE]),
    ]


def _at(record: Any, *keys: str) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def texts(value: Any) -> list[str]:
    """The texts of a list; none of what is no list."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
