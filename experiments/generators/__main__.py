"""Add a run's generator, in half precision, and its card: ``python -m experiments.generators RUN``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import tyro

from experiments import UsageError
from experiments.generators import FOLDER, Figure, GeneratorRecord, TrainedGenerator, load_generator
from experiments.runs.cli import check_name, parse, run
from experiments.runs.files import without_folders, write_text
from experiments.runs.folder import RunFolder
from experiments.runs.records import DivergedResult, FlickrResult, MnistResult, RunConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Command:
    """Add the generator of a finished run to this package, in half precision, with a model card."""

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
    net = load_generator(command.run)
    if net.folder is None:
        raise UsageError(f"{command.run}: the name of a generator that is here already; give the folder of a run")
    result = net.folder.read_result()
    if isinstance(result, DivergedResult):
        raise UsageError(f"{net.folder}: diverged; give a run that finished")
    if result.measured_on != "test":
        raise UsageError(
            f"{net.folder}: measured on validation data; train its settings once more, measured on test data"
        )
    from cgan import checkpoint

    config = net.config
    tensors = {f"G.{name}": tensor.half() for name, tensor in net.generator.state_dict().items()}
    words = add_decoding(net.folder, config, tensors) if config.experiment == "flickr-tags" else []
    record = GeneratorRecord(
        config=msgspec.convert(json.loads(without_folders(json.dumps(msgspec.to_builtins(config)))), RunConfig),
        weights=net.weights,
        revision=", ".join(dict.fromkeys(s.git_revision for s in config.sessions if s.git_revision)) or None,
        figure=figure(result),
        rounding=compare_precisions(net, command.data_root),
        licence="MIT",
        words=words,
    )
    path = command.out / f"{command.name}.safetensors"
    checkpoint.save(path, tensors, msgspec.to_builtins(record))
    write_text(path.with_suffix(".md"), card(command.name, net, record, result))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; {record.rounding}\n{path.with_suffix('.md')}: its card")
    return 0


def add_decoding(folder: RunFolder, config: RunConfig, tensors: dict[str, Tensor]) -> list[str]:
    """Add to ``tensors`` what turns photos into conditions and vectors into words; return the words."""
    import torch

    from experiments.flickr_tags.dataset import decoding_vocabulary
    from experiments.flickr_tags.presets import FlickrConfig
    from experiments.flickr_tags.tag import read_inputs

    settings = FlickrConfig.from_dict(config.settings)
    vocabulary, scale = read_inputs(folder, settings)
    vocabulary = decoding_vocabulary(vocabulary, settings)
    tensors["words"] = torch.from_numpy(vocabulary.vectors).half()
    tensors.update({f"scale.{name}": tensor for name, tensor in scale.items()})
    return vocabulary.words


def figure(result: MnistResult | FlickrResult) -> Figure:
    """Return the test figure of a run."""
    if isinstance(result, MnistResult):
        score = result.parzen
        what = f"test log-likelihood in nats, Parzen window of sigma {score.sigma:.3f} on {score.n_samples:,} samples"
        return Figure(what=f"{what}; standard error over test images", value=score.test_mean, error=score.test_se)
    precision = result.measures["cgan"].precision_at_10
    if precision is None:
        raise UsageError("result.json has no precision at 10 of the cGAN: train the run again")
    what = "precision at 10 against user tags and annotations; half the width of the 95% interval over test photos"
    return Figure(what=what, value=precision.value, error=(precision.high - precision.low) / 2)


def compare_precisions(net: TrainedGenerator, data_root: Path | None) -> str:
    """Return in words what rounding the weights to half precision changes, for the same noise."""
    import copy

    import torch

    from cgan.devices import seeded

    rounded = copy.deepcopy(net.generator).half().float()
    if net.config.experiment == "flickr-tags":
        n, y = 1_000, torch.randn(1_000, net.generator.spec.condition_dim, generator=seeded(0, "conditions"))
        y = net.config.settings["features"]["length"] * torch.nn.functional.normalize(y)
        vectors, changed = (each.sample(y, n, seeded(0, "samples")) for each in (net.generator, rounded))
        change = ((changed - vectors).norm(dim=1) / vectors.norm(dim=1)).max().item()
        return f"no generated vector changes by more than {change:.2%} of its length, of {n:,} for random conditions"
    from cgan.metrics import parzen
    from data.mnist import load_digit_images
    from experiments.mnist.sampling import sample_images

    dataset = load_digit_images("digits" if net.config.dataset.embedded else "mnist", data_root)
    n, classes = 10_000, net.classes
    labels = torch.arange(classes).repeat_interleave(n // classes) if classes else None
    valid, test = torch.from_numpy(dataset.valid.images), torch.from_numpy(dataset.test.images)
    single, half = (
        parzen.evaluate(
            sample_images(each, labels, n, seeded(0, "samples"), net.sampling.drawing_dropout), valid, test
        ).test_mean
        for each in (net.generator, rounded)
    )
    return f"test log-likelihood of {n:,} samples {half:.2f} nats, in single precision {single:.2f} on the same noise"


def card(name: str, net: TrainedGenerator, record: GeneratorRecord, result: MnistResult | FlickrResult) -> str:
    """Return the model card in Markdown."""
    import jinja2

    digits = isinstance(result, MnistResult)
    if digits:
        from experiments.mnist.evaluate import summary
    else:
        from experiments.flickr_tags.output import summary
    template = jinja2.Template((FOLDER / "card.jinja").read_text(encoding="utf-8"), keep_trailing_newline=True)
    return template.render(
        name=name,
        weights=f"{sum(p.numel() for p in net.generator.parameters()):,}",
        layers=lambda branch: ", ".join(map(str, branch)) or "no layer",
        commands=list(dict.fromkeys(session.command for session in record.config.sessions)),
        summary=textwrap.dedent(summary(result)),
        faults=result.faults if isinstance(result, MnistResult) else [],
        digits=digits,
        config=record.config,
        spec=net.generator.spec,
        record=record,
        sampling=net.sampling,
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
