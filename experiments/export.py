"""Export a trained generator: ``python -m experiments.export RUN --onnx generator.onnx``.

The file takes noise and conditions, and is compared with PyTorch before it is written.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from experiments import UsageError
from experiments.generators import load_generator
from experiments.runs.cli import parse, run
from experiments.runs.files import check_output, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from cgan.networks import Generator

#: Packages of the extra ``export``.
NEEDED = ("onnx", "onnxruntime", "onnxscript")

#: Largest difference between ONNX Runtime and PyTorch that passes, as a share of the largest output or of 1.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Command:
    """Write a trained generator as an ONNX file, which web pages and programs without PyTorch can run.

    Inputs: noise (n, numbers) float32 and, if the net is conditional, condition: labels (n,) int64 or vectors
    (n, numbers) float32. Output: data. The distribution of the noise and the spec are in the file's metadata.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME|RUN")]
    """Name of a generator that comes with this package, or a run's folder, such as runs/mnist/paper-seed1."""
    onnx: Path
    """File to write, ending in .onnx."""

    def __post_init__(self) -> None:
        check_output(self.onnx, "--onnx", ".onnx")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    command = parse(Command, "experiments.export", argv)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"--onnx needs {' and '.join(missing)}, not installed here: pip install -e '.[export]'")
    net = load_generator(command.run)
    generator = net.generator
    about = {
        "run": Path(command.run).name,
        "trained on": net.config.dataset.name,
        "update": str(net.weights.update),
        "noise": generator.spec.noise,
        "generator": json.dumps(generator.spec.as_dict()),
    }
    model = to_onnx(generator, about)
    difference = largest_difference(model, generator)
    if not difference <= TOLERANCE:
        raise UsageError(
            f"{command.onnx}: not written, because ONNX Runtime's samples differ from PyTorch's by {difference:.1e} of "
            "the largest: update onnx, onnxruntime and onnxscript"
        )
    write_bytes(command.onnx, model)
    inputs = [f"{name} {('n', *t.shape[1:])} {t.dtype}" for name, t in example_inputs(generator, 1, 0).items()]
    shapes = ", ".join(inputs).replace("'", "").replace("torch.", "")
    print(f"{command.onnx}: {len(model) / 1e6:.1f} MB, inputs {shapes}, output data (n, {generator.spec.output_dim})")
    print(f"noise is drawn as {generator.spec.noise}; ONNX Runtime gives PyTorch's samples within {difference:.0e}")
    return 0


def example_inputs(generator: Generator, n: int, seed: int) -> dict[str, Tensor]:
    """Return ``n`` rows of noise and of conditions, labels in turn or N(0, 1) vectors, by their names in the file."""
    import torch

    from cgan.devices import seeded
    from cgan.networks import sample_noise

    spec, rng = generator.spec, seeded(seed, "export")
    inputs = {"noise": sample_noise(spec.noise, (n, spec.input_dim), rng)}
    if spec.condition == "real":
        inputs["condition"] = torch.randn(n, spec.condition_dim, generator=rng)
    elif spec.condition != "none":
        inputs["condition"] = torch.arange(n) % spec.condition_dim
    return inputs


def to_onnx(generator: Generator, about: Mapping[str, str]) -> bytes:
    """Return a float32 generator in evaluation mode as an ONNX model of any batch size, ``about`` in its metadata."""
    import torch

    inputs = example_inputs(generator, 2, 0)  # A batch of one would stay one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the exporter's own inner life.
        program = torch.onnx.export(
            generator,
            tuple(inputs.values()),
            input_names=[*inputs],
            output_names=["data"],
            dynamic_shapes=[{0: "n"} for _ in inputs],
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto  # type: ignore[union-attr]
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def largest_difference(model: bytes, generator: Generator) -> float:
    """Return the largest difference between ONNX Runtime's outputs and PyTorch's over batches of several sizes.

    Relative to the largest output, where that exceeds 1; infinite where a shape differs or a number is not finite.
    """
    import numpy as np
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    worst = 0.0
    for n in (1, 2, 100):
        inputs = example_inputs(generator, n, n)
        with torch.no_grad():
            expected = generator(*inputs.values()).numpy()
        (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        if found.shape != expected.shape or not np.isfinite(found).all():
            return float("inf")
        worst = max(worst, float(abs(found - expected).max() / max(1, abs(expected).max())))
    return worst


if __name__ == "__main__":
    raise SystemExit(run(main))
