"""What a search may choose: fields of a preset by their dotted names, each with a distribution of Optuna's.

Reads and checks spaces, and proposes settings. Trains nothing.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from cgan import CganError
from cgan.specs import Init, Layer
from experiments import UsageError
from experiments.runs.cli import check_choice
from experiments.runs.files import convert_record, flat, read_record
from experiments.runs.records import LARGEST

if TYPE_CHECKING:
    from experiments.search.trials import Searcher, Trial

Config = TypeVar("Config")
Space = dict[str, BaseDistribution]

optuna.logging.set_verbosity(optuna.logging.ERROR)

#: Trials drawn at random before TPE's model is asked.
STARTUP = 10

#: What a space gives to a field.
FORMS = 'give {"uniform": [LOW, HIGH]}, {"log_uniform": [LOW, HIGH]}, {"choice": [VALUE, ...]} or one value'

#: The spaces that have a name, by experiment; the first of an experiment is its default.
NAMED = Path(__file__).with_name("spaces.json")

#: Fields that a search may not touch, and why.
REFUSED = {
    "stopping.": "--epochs and --estimate-epochs say how long a trial trains, the same for all",
    "estimate.": "it decides what is measured, and scores would not compare",
    "sampling.": "estimates do not draw by it, so no score would change",
    "estimate_images": "it decides what is measured, and scores would not compare",
    "pairs.": "it decides which photos and tags validate, and scores would not compare",
}


def find_space(experiment: str, text: str | None) -> tuple[dict[str, Any], str]:
    """Return the space of a name or a JSON file, the default if None, and what to call it in errors."""
    named = read_record(NAMED, dict[str, dict[str, dict[str, Any]]])[experiment]
    if text is None or text in named:
        return named[text or next(iter(named))], f"--space {text}"
    advice = f"choose {', '.join(named)}, or give the JSON file of a space, {{field: values}}"
    if not text.endswith(".json"):
        raise UsageError(f"--space {text}: {advice}")
    return read_record(Path(text), dict[str, Any], missing=advice, fix=advice), text


def parse_space(record: Mapping[str, Any], config: Any, where: str) -> Space:
    """Return the distributions of a space in the form of ``FORMS``; ``where`` names it in errors.

    Raises ``UsageError`` for a field that the preset ``config`` has not, a wrong value, an empty range or choice.
    """
    known, space = tuple(flat(config.as_dict())), Space()
    if not record:
        raise UsageError(f"{where}: nothing to choose; name at least one field")
    for spelled, values in record.items():
        name = spelled.replace("-", "_")
        check_choice(name, known, f"{where}: field")
        try:
            for part, why in REFUSED.items():
                if name.startswith(part):
                    raise UsageError(f"a search may not choose it, since {why}")
            space[name] = _distribution(name, values, config)
        except (UsageError, CganError, ValueError) as error:  # Optuna refuses a range by ValueError.
            raise UsageError(f"{where}: {name}: {error}") from None
    return space


def _distribution(name: str, spelled: Any, config: Any) -> BaseDistribution:
    kind, values = next(iter(spelled.items()), ("", None)) if isinstance(spelled, dict) else ("choice", [spelled])
    ends = values if isinstance(values, list) else []
    if kind not in ("choice", "uniform", "log_uniform") or not ends or (kind != "choice" and len(ends) != 2):
        raise UsageError(f"{spelled} is no range and no choice: {FORMS}")
    # As the field holds them: whole numbers become floats where it takes floats.
    held = [reduce(getattr, name.split("."), with_values(config, {name: value})) for value in ends]
    if any(isinstance(value, int | float) and not abs(value) <= LARGEST for value in held):
        raise UsageError(f"give numbers up to {LARGEST:g}")
    if kind == "choice":
        return CategoricalDistribution(ends)
    if not all(type(value) in (int, float) for value in held):
        raise UsageError("a range is for numbers; give a choice")
    make: Any = IntDistribution if all(isinstance(value, int) for value in held) else FloatDistribution
    found: BaseDistribution = make(*held, log=kind == "log_uniform")
    return found


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the preset with other ``values`` by dotted name; layers and initialisations are text.

    Raises ``UsageError`` or ``CganError`` for a value of the wrong type or out of range.
    """
    record = msgspec.to_builtins(config)
    for name, value in values.items():
        *sections, last = name.split(".")
        now = reduce(getattr, [*sections, last], config)
        if isinstance(now, Init | tuple) and not isinstance(value, str):
            raise UsageError(f"{value!r} is no text such as uniform:0.05, or relu:200,dropout=0.5 relu:100 for layers")
        if isinstance(now, Init):
            value = asdict(Init.parse(value))
        elif isinstance(now, tuple):
            value = [asdict(Layer.parse(text)) for text in value.split()]
        reduce(dict.__getitem__, sections, record)[last] = value
    return convert_record(record, type(config), "settings", fix="correct the value")


def propose(space: Space, trials: Iterable[Trial], searcher: Searcher, seed: int, number: int) -> dict[str, Any]:
    """Return settings for trial ``number``, a function of the arguments alone, so that resuming repeats it.

    ``tpe`` is Bergstra et al.'s tree-structured Parzen estimator as Optuna has it, given the trials that were stopped
    (the best score at each estimate) and of those that train now, and at random for the first ``STARTUP``.
    Raises ``UsageError`` naming the folder of a trial that does not fit the space, or lacks its estimates.
    """
    draws = random.Random(f"{seed}/{number}").getrandbits(32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Options of TPE that are called experimental since 2020.
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(draws)
        if searcher == "tpe":
            sampler = optuna.samplers.TPESampler(
                seed=draws, n_startup_trials=STARTUP, multivariate=True, constant_liar=True
            )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        known = {"finished": TrialState.COMPLETE, "waiting": TrialState.RUNNING}
        try:
            study.add_trial(
                create_trial(
                    state=known.get(trial.record.state, TrialState.PRUNED),
                    value=trial.bests[-1] if trial.record.state == "finished" else None,
                    params=trial.record.values,
                    distributions=space,
                    # A failure has no intermediate values, and so stands below all that have.
                    intermediate_values=dict(enumerate(trial.bests)) if trial.record.state == "stopped" else {},
                )
            )
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise UsageError(f"{trial.folder}: no trial of this search ({error}); delete the folder") from None
    return dict(study.ask(space).params)
