"""What the paper leaves open, what the presets put there, and what runs that put something else there measured.

Compares estimates at the same update of runs with the same seed where it can. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.report.cards import metrics
from experiments.report.records import FLICKR, MNIST, Run, differing, number, own_settings, told
from experiments.report.tables import NONE, nats, signed


@dataclass(frozen=True)
class Open:
    """A setting, or a family of them, on which the paper is silent."""

    what: str
    names: tuple[str, ...]
    """Their dotted names in ``config.json``."""


#: In the order of the paper's sections 4.1 and 4.2.
OPEN: Mapping[str, tuple[Open, ...]] = {
    MNIST: (
        Open("Length of the momentum ramp", ("training.momentum_ramp",)),
        Open(
            "Initial weights and biases",
            (
                *(f"generator.{part}_init" for part in ("input", "condition", "joint", "output")),
                "generator.output_bias",
                *(f"discriminator.{part}_init" for part in ("input", "condition", "joint", "output")),
            ),
        ),
        Open(
            "Which layers dropout touches",
            (
                *(f"generator.{part}" for part in ("input_dropout", "condition_dropout", "input_branch")),
                *(f"generator.{part}" for part in ("condition_branch", "joint")),
                *(f"discriminator.{part}" for part in ("input_dropout", "condition_dropout", "input_branch")),
                *(f"discriminator.{part}" for part in ("condition_branch", "joint")),
            ),
        ),
        Open("Distribution of the noise", ("generator.noise",)),
        Open("Labels of the fakes: the batch's own, or fresh ones", ("training.fake_conditions",)),
        Open("Simultaneous or alternating updates", ("training.update",)),
        Open("Precise losses of the two players", ("training.generator_loss", "training.discriminator_loss")),
        Open(
            "How often the stopping point is looked for",
            ("stopping.first_estimate", "stopping.estimate_every", "stopping.patience", "stopping.min_updates"),
        ),
    ),
    FLICKR: (
        Open("Learning rate and momentum ramp", ("training.learning_rate", "training.momentum_ramp")),
        Open("Scale of the image features", ("features.scaling", "features.length")),
        Open("Scale of the word vectors", ("words.centred", "words.length")),
        Open("Which annotations count as tags", ("pairs.annotations",)),
        Open("Photos held out", ("pairs.train_share",)),
        Open(
            "Initial weights",
            (
                *(f"generator.{part}_init" for part in ("input", "condition", "output")),
                *(f"discriminator.{part}_init" for part in ("input", "condition", "joint", "output")),
            ),
        ),
        Open("Dropout on inputs", ("generator.input_dropout", "discriminator.input_dropout")),
        Open(
            "How often the stopping point is looked for",
            ("stopping.first_estimate", "stopping.estimate_every", "stopping.patience", "stopping.min_updates"),
        ),
    ),
}

#: The estimate that decides the stopping point, by experiment, and its form.
DECIDING = {MNIST: ("valid_log_likelihood", "nats"), FLICKR: ("valid_average_precision", "average precision")}


@dataclass(frozen=True)
class Tried:
    """A run that put something else where the paper is silent."""

    changes: str
    run: Run
    at: str
    """At which update both were estimated."""
    base: str
    """The preset's estimate there."""
    this: str
    difference: str
    final: str
    """Its figure on the test images."""
    also: str
    """Variety and labels as asked at that update."""


@dataclass(frozen=True)
class Line:
    """A row of the account of open settings."""

    what: str
    chosen: str
    """What the preset has."""
    tried: tuple[Tried, ...]


def account(experiment: str, kept: Sequence[Run]) -> list[Line]:
    """Every open setting of an experiment; ``kept`` are its runs of one data kind, embedded or not."""
    own = own_settings(experiment, "paper")
    assert own is not None
    # Compared with the preset paper, whatever the run's own preset is.
    changed = [(run, differing(run.settings, own)) for run in kept if run.experiment == experiment]
    bases = [run for run, changes in changed if not changes]
    lines = []
    for what in OPEN[experiment]:
        names = [name for name in what.names if name in own]
        chosen = _by_value({name: told(own[name]) for name in names})
        tried = [
            _tried(run, changes, _base(run, bases))
            for run, changes in changed
            if len(changes) == 1 and next(iter(changes)) in what.names
        ]
        lines.append(Line(what.what, chosen, tuple(tried)))
    several = [
        _tried(run, changes, _base(run, bases)) for run, changes in changed if len(changes) > 1 and _same_nets(run)
    ]
    if several:
        lines.append(Line("Several at once", "", tuple(several)))
    return lines


def _by_value(values: Mapping[str, str]) -> str:
    """Settings with their values, those with the same one together."""
    by_value: dict[str, list[str]] = {}
    for name, value in values.items():
        by_value.setdefault(value, []).append(name)
    return "; ".join(f"{', '.join(names)} = {value}" for value, names in by_value.items())


def _same_nets(run: Run) -> bool:
    """Whether the run plays the paper's conditional nets, in whatever way: other presets have other nets."""
    return run.experiment == FLICKR or run.preset in ("paper", "paper-literal")


def _base(run: Run, bases: Sequence[Run]) -> Run | None:
    """The unchanged run to compare with: of the same data, rather of the same seed, rather with more updates."""
    fitting = [base for base in bases if (base.dataset, base.checksum) == (run.dataset, run.checksum)]
    return max(fitting, key=lambda base: (base.seed == run.seed, base.updates or 0), default=None)


def _tried(run: Run, changes: Mapping[str, Any], base: Run | None) -> Tried:
    words = "; ".join(f"{name} = {told(value)}" for name, value in changes.items())
    column, _ = DECIDING[run.experiment]
    mine = {int(row["update"]): row for row in metrics(run) if column in row}
    others = {int(row["update"]): row for row in metrics(base) if column in row} if base else {}
    common = max(mine.keys() & others.keys(), default=None)
    at = f"{common:,}" if common is not None else NONE
    here = mine[common] if common is not None else {}
    there = others[common] if common is not None else {}
    gap = signed(_form(run, here[column] - there[column], sign=True)) if common is not None else NONE
    also = []
    if "label_fidelity" in here and "label_fidelity" in there:
        also.append(f"labels as asked {here['label_fidelity']:.0%}, not {there['label_fidelity']:.0%}")
    if "variety" in here and "variety" in there:
        also.append(f"variety {here['variety']:.2f}, not {there['variety']:.2f}")
    return Tried(
        changes=words,
        run=run,
        at=at,
        base=_form(run, there[column]) if there else NONE,
        this=_form(run, here[column]) if here else NONE,
        difference=gap,
        final=_final(run),
        also="; ".join(also),
    )


def _form(run: Run, value: float, sign: bool = False) -> str:
    form = ".1f" if run.experiment == MNIST else ".3f"
    return signed(f"{value:{'+' if sign else ''}{form}}")


def _final(run: Run) -> str:
    if run.experiment == MNIST:
        score, error = number(run.result, "parzen", "test_mean"), number(run.result, "parzen", "test_se")
        return f"{nats(score)} ± {error:.1f}" if score is not None and error is not None else run.state
    value = number(run.result, "measures", "cgan", "precision_at_10", "value")
    return run.state if value is None else f"{value:.3f}"
