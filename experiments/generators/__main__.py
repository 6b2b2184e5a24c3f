"""Add a run's generator, in half precision, and its card: ``python -m experiments.generators RUN``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import tyro

from experiments import UsageError
from experiments.generators import FOLDER, Figure, GeneratorRecord, TrainedGenerator, load_generator
from experiments.runs.cli import check_name, parse, run
from experiments.runs.files import without_folders, write_text
from experiments.runs.records import MnistResult, RunConfig


@dataclass(frozen=True)
class Command:
    """Add the generator of a finished run on digits to this package, in half precision, with a model card."""

    run: tyro.conf.Positional[Path]
    """The run's folder, such as runs/mnist/paper-seed1."""
    name: str
    """Name of the generator, and of its files."""
    out: Path = FOLDER
    """Folder of both files."""
    data_root: Path | None = None
    """Folder of the data sets; else $CGAN_DATA, else data/raw."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    command = parse(Command, "experiments.generators", argv)
    check_name(command.name)
    if not command.out.is_dir():
        raise UsageError(f"--out {command.out}: no such folder")
    net = load_generator(command.run, "mnist")
    if net.folder is None:
        raise UsageError(f"{command.run}: the name of a generator that is here already; give the folder of a run")
    result = net.folder.read_result()
    if not isinstance(result, MnistResult):
        raise UsageError(f"{net.folder}: diverged; give a run that finished")
    if result.measured_on != "test":
        raise UsageError(
            f"{net.folder}: measured on validation data; train its settings once more, measured on test data"
        )
    from cgan import checkpoint

    config, score = net.config, result.parzen
    what = f"test log-likelihood in nats, Parzen window of sigma {score.sigma:.3f} on {score.n_samples:,} samples"
    record = GeneratorRecord(
        config=msgspec.convert(json.loads(without_folders(json.dumps(msgspec.to_builtins(config)))), RunConfig),
        weights=net.weights,
        revision=", ".join(dict.fromkeys(s.git_revision for s in config.sessions if s.git_revision)) or None,
        figure=Figure(what=f"{what}; standard error over test images", value=score.test_mean, error=score.test_se),
        dropout=config.settings["estimate"]["dropout"],
        rounding=compare_precisions(net, command.data_root),
        licence="MIT",
    )
    path = command.out / f"{command.name}.safetensors"
    tensors = {f"G.{name}": tensor.half() for name, tensor in net.generator.state_dict().items()}
    checkpoint.save(path, tensors, msgspec.to_builtins(record))
    write_text(path.with_suffix(".md"), card(command.name, net, record, result))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; {record.rounding}\n{path.with_suffix('.md')}: its card")
    return 0


def compare_precisions(net: TrainedGenerator, data_root: Path | None) -> str:
    """Return in words what rounding the weights to half precision changes, for the same noise."""
    import copy

    import torch

    from cgan.devices import seeded
    from cgan.metrics import parzen
    from data.mnist import load_digit_images
    from experiments.mnist.sampling import sample_images

    rounded = copy.deepcopy(net.generator).half().float()
    dataset = load_digit_images("digits" if net.config.dataset.embedded else "mnist", data_root)
    n, classes = 10_000, net.classes
    labels = torch.arange(classes).repeat_interleave(n // classes) if classes else None
    valid, test = torch.from_numpy(dataset.valid.images), torch.from_numpy(dataset.test.images)
    single, half = (
        parzen.evaluate(sample_images(each, labels, n, seeded(0, "samples")), valid, test).test_mean
        for each in (net.generator, rounded)
    )
    return f"test log-likelihood of {n:,} samples {half:.2f} nats, in single precision {single:.2f} on the same noise"


def card(name: str, net: TrainedGenerator, record: GeneratorRecord, result: MnistResult) -> str:
    """Return the model card in Markdown."""
    import jinja2

    from experiments.mnist.evaluate import summary

    template = jinja2.Template((FOLDER / "card.jinja").read_text(encoding="utf-8"), keep_trailing_newline=True)
    return template.render(
        name=name,
        weights=f"{sum(p.numel() for p in net.generator.parameters()):,}",
        layers=lambda branch: ", ".join(map(str, branch)) or "no layer",
        commands=list(dict.fromkeys(session.command for session in record.config.sessions)),
        summary=textwrap.dedent(summary(result)),
        faults=result.faults,
        config=record.config,
        spec=net.generator.spec,
        record=record,
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
