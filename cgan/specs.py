"""What a conditional MLP is made of, as plain typed values: layers, initialisations, networks.

Imports no torch, so that a command line can show and override every field without loading it. The networks themselves
are built in ``cgan.networks``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from cgan import CganError

Spec = TypeVar("Spec", bound="NetworkSpec")

#: A number as Python prints it, so that what is written reads back as the very same value.
_NUMBER = r"\d*\.?\d+(?:e[+-]?\d+)?"


def check_probability(value: float, name: str) -> None:
    """Raise ``CganError`` unless 0 <= value < 1."""
    if not 0 <= value < 1:
        raise CganError(f"{name} is {value}: it must be at least 0 and below 1")


def check_choices(settings: Any) -> None:
    """Raise ``CganError`` unless each ``Literal`` field of the dataclass ``settings`` holds one of its values."""
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal and getattr(settings, name) not in get_args(kind):
            raise CganError(f"{name} is {getattr(settings, name)!r}: it must be one of {', '.join(get_args(kind))}")


@dataclass(frozen=True)
class Layer:
    """One hidden layer: affine map, optional batch normalisation, activation, dropout on its output.

    Written as text it is ``relu:1200``, ``maxout:240x5`` (units x pieces), ``leaky_relu:512,batch_norm,dropout=0.4``.
    """

    activation: Literal["relu", "leaky_relu", "linear", "maxout"]
    units: int
    pieces: int = 1
    """Affine pieces per maxout unit; 1 for every other activation."""
    batch_norm: bool = False
    dropout: float = 0.0
    """Probability that an output is set to zero while training; the others are divided by 1 - dropout."""

    def __post_init__(self) -> None:
        check_choices(self)
        if self.units < 1 or self.pieces < 1:
            raise CganError(f"layer {self}: units and pieces must be at least 1")
        if (self.activation == "maxout") != (self.pieces > 1):
            raise CganError(f"layer {self}: maxout needs two pieces or more, written maxout:240x5; others take none")
        check_probability(self.dropout, f"dropout of layer {self}")

    @classmethod
    def parse(cls, text: str | Layer) -> Layer:
        """Return the layer that ``text`` spells, or is; raises ``CganError`` with the expected form."""
        if isinstance(text, Layer):
            return text
        units = r"(\d{1,15})(?:x(\d{1,15}))?"
        form = rf"(relu|leaky_relu|linear|maxout):{units}(,batch_norm)?(?:,dropout=({_NUMBER}))?(,batch_norm)?"
        match = re.fullmatch(form, text.replace(" ", "")) if isinstance(text, str) else None
        if match is None:
            raise CganError(
                f"layer {text!r:.200}: expected ACTIVATION:UNITS, such as relu:1200, maxout:240x5 or "
                "leaky_relu:512,batch_norm,dropout=0.4"
            )
        activation, count, pieces, norm, dropout, late_norm = match.groups()
        return cls(activation, int(count), int(pieces or 1), bool(norm or late_norm), float(dropout or 0))  # type: ignore[arg-type]

    def __str__(self) -> str:
        text = f"{self.activation}:{self.units}"
        if self.pieces > 1:
            text += f"x{self.pieces}"
        if self.batch_norm:
            text += ",batch_norm"
        return f"{text},dropout={self.dropout}" if self.dropout else text


def parse_layers(*texts: str | Layer) -> tuple[Layer, ...]:
    """Return the layers that ``texts`` spell, such as ``relu:1200,dropout=0.5``, or are."""
    return tuple(Layer.parse(text) for text in texts)


@dataclass(frozen=True)
class Init:
    """Distribution of a weight matrix at the start; biases start at zero.

    ``uniform:0.05`` is U(-0.05, 0.05); ``normal:0.02`` is N(0, 0.02^2); ``fan_in:1`` is U(-a, a) with
    a = scale * sqrt(6 / inputs), He's choice for ReLU; ``torch`` is U(-a, a) with a = scale / sqrt(inputs), PyTorch's
    own default for a linear layer.
    """

    kind: Literal["uniform", "normal", "fan_in", "torch"]
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 < self.scale < math.inf:
            raise CganError(f"initialisation {self}: the scale must be positive")

    @classmethod
    def parse(cls, text: str | Init) -> Init:
        """Return the initialisation that ``text`` spells, or is; raises ``CganError`` with the expected form."""
        if isinstance(text, Init):
            return text
        form = rf"(uniform|normal):({_NUMBER})|(fan_in|torch)(?::({_NUMBER}))?"
        match = re.fullmatch(form, text.strip()) if isinstance(text, str) else None
        if match is None:
            raise CganError(
                f"initialisation {text!r:.200}: expected uniform:0.05, normal:0.02, fan_in[:1] or torch[:1]"
            )
        return cls(match[1] or match[3], float(match[2] or match[4] or 1))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return self.kind if self.kind in ("fan_in", "torch") and self.scale == 1 else f"{self.kind}:{self.scale}"


# These fields take text as well, and always hold layers; a dataclass has one type for both, so type checkers see Any.
if TYPE_CHECKING:
    LayersField = Any
    InitField = Any
else:
    LayersField, InitField = tuple[Layer, ...], Init

#: Fields of a network that are written as text.
LAYER_FIELDS = ("input_branch", "condition_branch", "joint")
INIT_FIELDS = ("input_init", "condition_init", "joint_init", "output_init")

#: Most weights in one linear map: 8 GB in float32, and as much again for their velocities.
MOST_WEIGHTS = 2 * 10**9

NoiseKind = Literal["uniform", "centred_uniform", "normal"]


def _parse_field(name: str, value: Any) -> Any:
    """Return the layers, or the initialisation, of the spec's field ``name``, which errors tell."""
    try:
        if name in INIT_FIELDS:
            return Init.parse(value)
        return parse_layers(*(value if isinstance(value, list | tuple) else (value,)))
    except CganError as error:
        raise CganError(f"{name}: {error}") from None


@dataclass(frozen=True)
class NetworkSpec:
    """An MLP with an input branch and a condition branch that meet in joint layers. A branch may be empty.

    Layers and initialisations are given as text or as values: ``joint="relu:64"``, ``joint=("relu:64", "maxout:32x2")``
    and ``joint=(Layer("relu", 64),)``, ``joint_init="fan_in"``.
    """

    input_dim: int
    """Numbers in the input: of the noise z for a generator, of the data x for a discriminator."""
    condition: Literal["none", "one_hot", "embedding", "real"] = "none"
    """How y enters: none (a plain GAN), one_hot label, learned label embedding, or a real-valued vector."""
    condition_dim: int = 0
    """Classes of a label, or numbers in a real-valued condition."""
    embedding_dim: int = 0
    """Numbers in the learned label embedding; used by condition=embedding only."""
    input_branch: LayersField = ()
    """Hidden layers of the input alone, such as relu:200,dropout=0.5 or maxout:240x5 (section 4.1)."""
    condition_branch: LayersField = ()
    """Hidden layers of the condition alone (section 4.1)."""
    joint: LayersField = ()
    """Hidden layers after the two branches are concatenated (section 4.1)."""
    input_init: InitField = Init("uniform", 0.05)
    """Initial weights of the input branch: uniform:A, normal:S, fan_in or torch. Open in the paper."""
    condition_init: InitField = Init("uniform", 0.05)
    """Initial weights of the condition branch. Open in the paper."""
    joint_init: InitField = Init("uniform", 0.05)
    """Initial weights of the joint layers. Open in the paper."""
    output_init: InitField = Init("uniform", 0.05)
    """Initial weights of the output layer. Open in the paper."""
    input_dropout: float = 0.0
    """Probability that an input is dropped while training. Open in the paper, which says dropout 0.5 and not where."""
    condition_dropout: float = 0.0
    """Probability that a number of the condition is dropped while training. Open in the paper."""

    def __post_init__(self) -> None:
        for name in (*LAYER_FIELDS, *INIT_FIELDS):  # Past the guard of a frozen dataclass, which holds from here on.
            object.__setattr__(self, name, _parse_field(name, getattr(self, name)))
        check_choices(self)
        if self.input_dim < 1:
            raise CganError(f"input_dim is {self.input_dim}: a network needs at least one input")
        if self.condition == "none":
            if self.condition_dim or self.condition_branch:
                raise CganError("condition is none, yet condition_dim or condition_branch is set: set condition too")
        elif self.condition_dim < 1:
            raise CganError(f"condition is {self.condition}, so condition_dim must be 1 or more")
        if (self.condition == "embedding") != (self.embedding_dim > 0):
            raise CganError("embedding_dim belongs to condition=embedding, and must be 1 or more there")
        check_probability(self.input_dropout, "input_dropout")
        check_probability(self.condition_dropout, "condition_dropout")
        for name, sizes in self.linear_maps():
            if (weights := math.prod(sizes)) > MOST_WEIGHTS:
                raise CganError(
                    f"{name} multiplies by {sizes[0]} x {sizes[1]} weights, {weights * 4 // 10**9:,} GB in float32: "
                    "make its layers smaller"
                )

    @property
    def input_width(self) -> int:
        """Numbers that enter the input branch."""
        return self.input_dim

    def linear_maps(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield the field and the (inputs, outputs) of each linear map."""
        widths = {"input_branch": self.input_width, "condition_branch": self.embedding_dim or self.condition_dim}
        for name in LAYER_FIELDS:
            width = widths.get(name, sum(widths.values()))
            for layer in getattr(self, name):
                yield name, (width, layer.units * layer.pieces)
                width = layer.units
            widths[name] = width
        yield "output_dim", (widths["joint"], getattr(self, "output_dim", 1))

    @classmethod
    def from_dict(cls: type[Spec], record: Any) -> Spec:
        """Return the spec that ``as_dict`` wrote; raises ``CganError`` if a field is missing, unknown or malformed."""
        known = {item.name for item in fields(cls)}
        if isinstance(record, dict) and "pack" in known:
            record = {"pack": 1, **record}  # Older records have none.
        if not isinstance(record, dict) or record.keys() != known:
            found = sorted(record) if isinstance(record, dict) else record
            raise CganError(f"a {cls.__name__} is an object with the fields {sorted(known)}, not {found!r}"[:500])
        parsed = {name: _parse_field(name, record[name]) for name in (*LAYER_FIELDS, *INIT_FIELDS)}
        try:
            return msgspec.convert(record | msgspec.to_builtins(parsed), cls)
        except msgspec.ValidationError as error:
            raise CganError(f"a field of a {cls.__name__} is of the wrong type: {error}") from None

    def as_dict(self) -> dict[str, Any]:
        """Return the spec as JSON-ready values, layers and initialisations as text."""
        layers = {name: [str(layer) for layer in getattr(self, name)] for name in LAYER_FIELDS}
        return vars(self) | layers | {name: str(getattr(self, name)) for name in INIT_FIELDS}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All hidden layers, input branch first, then condition branch, then joint layers."""
        return self.input_branch + self.condition_branch + self.joint


@dataclass(frozen=True)
class GeneratorSpec(NetworkSpec):
    """G(z, y): noise and condition to one data vector."""

    output_dim: int = 784
    """Numbers in what is generated: pixels (section 4.1), or the word vector's (section 4.2)."""
    output: Literal["sigmoid", "tanh", "linear"] = "sigmoid"
    """Non-linearity of the output; data are scaled to its range."""
    output_bias: Literal["zero", "marginals"] = "zero"
    """Start of the output biases: zero, or such that G's start shows the mean of the training data."""
    noise: NoiseKind = "centred_uniform"
    """Distribution of each z: U(0, 1), U(-sqrt 3, sqrt 3) (mean 0, variance 1), or N(0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_dim < 1:
            raise CganError(f"output_dim is {self.output_dim}: a generator needs at least one output")


@dataclass(frozen=True)
class DiscriminatorSpec(NetworkSpec):
    """D(x, y): data vector and condition to one logit; its sigmoid is the probability that x is real."""

    pack: int = 1
    """Data of one condition that D judges together, side by side in its input (PacGAN, Lin et al. 2018): it then sees
    whether they differ as real ones do. 1 is the paper's D."""

    def __post_init__(self) -> None:
        if not 1 <= self.pack <= 100:
            raise CganError(f"pack is {self.pack}: give 1, for one datum at a time, to 100")
        super().__post_init__()

    @property
    def input_width(self) -> int:
        """Numbers that enter the input branch: those of a pack."""
        return self.input_dim * self.pack
