"""What a search may choose: a preset's own fields by their dotted names, each with a range or a list of values.

Reads and checks spaces, and proposes settings, at random or by a model of the trials so far. Trains nothing.
"""

from __future__ import annotations

import math
import random
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from cgan import CganError
from cgan.specs import Init, Layer
from experiments import UsageError
from experiments.runs.files import read_record

Config = TypeVar("Config")
Searcher = Literal["random", "tpe"]

#: Trials drawn at random before the model is asked.
STARTUP = 10


@dataclass(frozen=True)
class Uniform:
    """Any number from ``low`` to ``high``, all alike; of a field of whole numbers, any whole number."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    @property
    def ends(self) -> tuple[float, ...]:
        """What has to be possible for everything between to be."""
        return self.low, self.high

    def draw(self, rng: random.Random) -> Any:
        """Return one value."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return rng.randint(self.low, self.high)
        return rng.uniform(self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """Any number from ``low`` to ``high``, all orders of magnitude alike."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        if self.low <= 0:
            raise UsageError(f"log_uniform from {self.low}: it must start above 0")

    @property
    def ends(self) -> tuple[float, ...]:
        """As of ``Uniform``."""
        return self.low, self.high

    def draw(self, rng: random.Random) -> Any:
        """Return one value."""
        value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        value = min(max(value, self.low), self.high)
        return round(value) if isinstance(self.low, int) and isinstance(self.high, int) else value


@dataclass(frozen=True)
class Choice:
    """One of ``values``: numbers, words, yes or no, layers (``relu:200,dropout=0.5``) or an initialisation."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise UsageError("a choice among no values: give at least one")

    @property
    def ends(self) -> tuple[Any, ...]:
        """As of ``Uniform``."""
        return self.values

    def draw(self, rng: random.Random) -> Any:
        """Return one value."""
        return rng.choice(self.values)


Dimension = Uniform | LogUniform | Choice
Space = Mapping[str, Dimension]
KINDS: dict[str, type[Uniform] | type[LogUniform]] = {"uniform": Uniform, "log_uniform": LogUniform}


def _check_range(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"the range from {low} to {high} is empty: give the lower end first")


# ---------------------------------------------------------------------------------------------------------------------
# Spaces that have a name


_D = "dropout=0.5"
_OPTIMISER: Space = {
    "training.learning_rate": LogUniform(0.02, 0.3),
    "training.decay": Choice((1.000004, 1.00001, 1.00002, 1.00004)),
    "training.momentum_end": Uniform(0.5, 0.9),
    "training.momentum_ramp": LogUniform(5_000, 250_000),
}

#: By experiment and name; the first of an experiment is its default.
SPACES: dict[str, dict[str, Space]] = {
    "mnist": {
        # Who wins early, G or D: the sizes and starts of G's branches, dropout on both sides, and the rate.
        "balance": {
            "generator.input_branch": Choice(
                (f"relu:200,{_D}", f"relu:400,{_D}", f"relu:800,{_D}", f"relu:1200,{_D}", "relu:800,dropout=0.2")
            ),
            "generator.condition_branch": Choice(("relu:200", f"relu:200,{_D}", f"relu:400,{_D}", f"relu:1000,{_D}")),
            "generator.joint": Choice(
                ("relu:1200", "relu:1200,dropout=0.2", f"relu:1200,{_D}", f"relu:2000,{_D}", "relu:1200 relu:1200")
            ),
            "generator.input_init": Choice(("fan_in", "uniform:0.05")),
            "generator.condition_init": Choice(("fan_in", "uniform:0.05", "uniform:0.2")),
            "generator.joint_init": Choice(("fan_in", "uniform:0.05")),
            "discriminator.input_dropout": Uniform(0.0, 0.6),
            "discriminator.joint": Choice((f"maxout:240x4,{_D}", f"maxout:240x5,{_D}", f"maxout:480x4,{_D}")),
            "training.learning_rate": LogUniform(0.03, 0.2),
            "training.decay": Choice((1.000004, 1.00001, 1.00002, 1.00004)),
        },
        "optimiser": _OPTIMISER,
        # For the embedded digits: a smoke test's.
        "small": {
            "generator.input_branch": Choice((f"relu:32,{_D}", f"relu:64,{_D}", "relu:64")),
            "generator.condition_branch": Choice((f"relu:32,{_D}", "relu:32")),
            "generator.joint": Choice((f"relu:64,{_D}", "relu:128")),
            "discriminator.input_branch": Choice((f"maxout:24x3,{_D}",)),
            "discriminator.condition_branch": Choice((f"maxout:8x3,{_D}",)),
            "discriminator.joint": Choice((f"maxout:24x2,{_D}", f"maxout:48x2,{_D}")),
            "discriminator.input_dropout": Uniform(0.0, 0.6),
            "training.learning_rate": LogUniform(0.03, 0.3),
        },
    },
    "flickr-tags": {
        "balance": {
            "generator.input_branch": Choice((f"relu:200,{_D}", f"relu:500,{_D}", "relu:500", f"relu:1000,{_D}")),
            "generator.condition_branch": Choice((f"relu:1000,{_D}", f"relu:2000,{_D}", "relu:2000,dropout=0.2")),
            "generator.condition_init": Choice(("fan_in", "uniform:0.05")),
            "discriminator.input_dropout": Uniform(0.0, 0.7),
            "discriminator.condition_dropout": Uniform(0.0, 0.5),
            "training.learning_rate": LogUniform(0.02, 0.3),
            "training.decay": Choice((1.0001, 1.0003, 1.0007)),
            "features.length": LogUniform(5.0, 40.0),
            "words.length": LogUniform(3.0, 20.0),
        },
        "optimiser": {**_OPTIMISER, "training.decay": Choice((1.00004, 1.0001, 1.0003, 1.0007))},
    },
}

#: Fields that a search may not touch, and why.
REFUSED = {
    "stopping.": "--epochs and --estimate-epochs say how long a trial trains, the same for all",
    "estimate.": "it decides what is measured, and scores would not compare",
    "estimate_images": "it decides what is measured, and scores would not compare",
    "pairs.": "it decides which photos and tags validate, and scores would not compare",
}


def find_space(experiment: str, text: str | None, config: Any) -> Space:
    """Return the space of a name or a JSON file, the default if None; checked against the preset ``config``.

    Raises ``UsageError`` on an unknown name, and as ``parse_space``.
    """
    named = SPACES[experiment]
    if text is None:
        text = next(iter(named))
    if text in named:
        return checked(named[text], config, f"--space {text}")
    if not text.endswith(".json"):
        raise UsageError(f"--space {text}: choose {', '.join(named)}, or give a .json file")
    absent = f"give a space's file, or choose {', '.join(named)}"
    return parse_space(
        read_record(
            Path(text), dict[str, Any], missing=absent, fix="a space is {field: values} in JSON, so correct it"
        ),
        config,
        text,
    )


def parse_space(record: Mapping[str, Any], config: Any, where: str) -> Space:
    """Return the space of a JSON object, checked against the preset ``config``; ``where`` names it in errors.

    A field's dotted name is given {"uniform": [LOW, HIGH]}, {"log_uniform": [LOW, HIGH]}, {"choice": [VALUE, ...]}, or
    one value, which then holds for all trials. Raises ``UsageError`` for a field that the preset has not, a value of
    the wrong type or out of the field's range, and an empty range or choice.
    """
    space: dict[str, Dimension] = {}
    for name, spelled in record.items():
        field = name.replace("-", "_")
        try:
            space[field] = _dimension(spelled)
        except UsageError as error:
            raise UsageError(f"{where}: {name}: {error}") from None
    return checked(space, config, where)


def _dimension(spelled: Any) -> Dimension:
    if not isinstance(spelled, dict):
        return Choice((spelled,))
    forms = 'give {"uniform": [LOW, HIGH]}, {"log_uniform": [LOW, HIGH]}, {"choice": [VALUE, ...]} or one value'
    if len(spelled) != 1:
        raise UsageError(f"{spelled} is no range and no choice: {forms}")
    ((kind, values),) = spelled.items()
    if kind == "choice" and isinstance(values, list):
        return Choice(tuple(values))
    if kind not in KINDS or not isinstance(values, list) or len(values) != 2 or not all(map(_is_number, values)):
        raise UsageError(f"{spelled} is no range and no choice: {forms}")
    return KINDS[kind](*values)


def spell_space(space: Space) -> dict[str, Any]:
    """Return the space in the form that ``parse_space`` reads."""
    kinds = {Uniform: "uniform", LogUniform: "log_uniform", Choice: "choice"}
    return {name: {kinds[type(dimension)]: list(dimension.ends)} for name, dimension in space.items()}


def checked(space: Space, config: Any, where: str) -> Space:
    """Return the space with every value in the form of its field; raises ``UsageError`` as ``parse_space``."""
    kinds, result = field_kinds(config), dict[str, Dimension]()
    if not space:
        raise UsageError(f"{where}: nothing to choose; name at least one field")
    for name, dimension in space.items():
        if name not in kinds:
            near = [known for known in kinds if known.rpartition(".")[2] == name.rpartition(".")[2]]
            hint = f"did you mean {near[0]}" if near else "give dotted names, such as training.learning_rate"
            raise UsageError(f"{where}: the preset has no field {name}; {hint}")
        if (why := next((why for part, why in REFUSED.items() if name.startswith(part)), None)) is not None:
            raise UsageError(f"{where}: {name} is not for a search to choose: {why}")
        try:
            values = tuple(convert(kinds[name], value) for value in dimension.ends)
            if isinstance(dimension, Choice):
                if len(set(map(_spelled, values))) < len(values):
                    raise UsageError("a value is there twice")
                result[name] = Choice(values)
            else:
                if not all(map(_is_number, values)):
                    raise UsageError("a range is for numbers; give a choice")
                result[name] = type(dimension)(*values)
            for value in values:
                with_values(config, {name: value})
        except (UsageError, CganError) as error:
            raise UsageError(f"{where}: {name}: {error}") from None
    return result


def _spelled(value: Any) -> tuple[str, str]:
    return type(value).__name__, str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# ---------------------------------------------------------------------------------------------------------------------
# Fields of a preset


def field_kinds(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return the type of every field of a preset, by dotted name."""
    hints, kinds = typing.get_type_hints(type(config)), dict[str, Any]()
    for item in fields(config):
        value, name = getattr(config, item.name), f"{prefix}{item.name}"
        if is_dataclass(value) and not isinstance(value, Init | Layer):
            kinds |= field_kinds(value, f"{name}.")
        else:
            kinds[name] = hints[item.name]
    return kinds


def convert(kind: Any, value: Any) -> Any:
    """Return ``value`` as a field of type ``kind`` has it in JSON, but layers in one text with spaces between them.

    Raises ``UsageError`` or ``CganError`` when it is of another type.
    """
    options = get_args(kind)
    if get_origin(kind) in (typing.Union, types.UnionType):
        inner = next(option for option in options if option is not types.NoneType)
        return None if value is None else convert(inner, value)
    if kind == tuple[Layer, ...]:
        texts = value.split() if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UsageError(
                f"{value!r} is no list of layers; write relu:200,dropout=0.5, with a space before the next"
            )
        return " ".join(str(Layer.parse(text)) for text in texts)
    if kind is Init and isinstance(value, str):
        return str(Init.parse(value))
    if get_origin(kind) is Literal and value in options:
        return value
    if kind is float and _is_number(value):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    wanted = " or ".join(map(repr, options)) if get_origin(kind) is Literal else getattr(kind, "__name__", str(kind))
    raise UsageError(f"{value!r} is of the wrong type: the field takes {wanted}")


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the preset with other ``values`` of its fields, by dotted name; raises ``CganError`` or ``UsageError``."""
    kinds, record = field_kinds(config), config.as_dict()  # type: ignore[attr-defined]
    for name, value in values.items():
        *sections, last = name.split(".")
        inner = record
        for section in sections:
            inner = inner[section]
        inner[last] = value.split() if kinds[name] == tuple[Layer, ...] else value
    return type(config).from_dict(record)  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------------------------
# Proposals


@dataclass(frozen=True)
class Seen:
    """A trial as a searcher sees it: its settings, what it reached, and how it ended."""

    values: Mapping[str, Any]
    bests: Sequence[float]
    """Its best score up to each estimate."""
    state: str
    """finished, stopped, waiting (also while it trains); any other is a failure."""


def propose(space: Space, seen: Sequence[Seen], searcher: Searcher, seed: int, number: int) -> dict[str, Any]:
    """Return settings for trial ``number``, a function of the arguments alone, so that resuming repeats it.

    ``tpe`` is Bergstra et al.'s tree-structured Parzen estimator as Optuna has it, told of trials that were stopped
    and of those that train now, and at random for the first ``STARTUP``.
    """
    if searcher == "random":
        rng = random.Random(f"{seed}/{number}")
        return {name: dimension.draw(rng) for name, dimension in space.items()}
    return dict(study(space, seen, seed, number).ask(distributions(space)).params)


def distributions(space: Space) -> dict[str, Any]:
    """Return the space in Optuna's terms."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choice):
            found[name] = CategoricalDistribution(dimension.values)
            continue
        whole = isinstance(dimension.low, int) and isinstance(dimension.high, int)
        make: Any = IntDistribution if whole else FloatDistribution
        found[name] = make(dimension.low, dimension.high, log=isinstance(dimension, LogUniform))
    return found


def study(space: Space, seen: Sequence[Seen], seed: int, number: int) -> Any:
    """Return an Optuna study, in memory, of the trials so far, those that finished before those that did not."""
    import warnings

    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "multivariate" is called experimental since 2020.
        sampler = optuna.samplers.TPESampler(
            seed=random.Random(f"{seed}/{number}").getrandbits(32),
            n_startup_trials=STARTUP,
            multivariate=True,
            constant_liar=True,
        )
        result = optuna.create_study(direction="maximize", sampler=sampler)
        known = distributions(space)
        for one in seen:
            state = {"finished": TrialState.COMPLETE, "waiting": TrialState.RUNNING}.get(one.state, TrialState.PRUNED)
            # A failure has no intermediate values, and so stands below all that have.
            steps = dict(enumerate(one.bests)) if one.state == "stopped" else {}
            result.add_trial(
                create_trial(
                    state=state,
                    value=one.bests[-1] if state == TrialState.COMPLETE else None,
                    params=dict(one.values),
                    distributions=known,
                    intermediate_values=steps,
                )
            )
    return result
