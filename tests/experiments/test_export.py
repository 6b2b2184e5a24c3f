"""``experiments.export``: ONNX Runtime gives what PyTorch gives, for runs of both experiments and every condition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cgan.networks import Generator
from cgan.specs import GeneratorSpec
from experiments import export
from experiments.export import example_inputs, largest_difference, to_onnx
from experiments.generators import load_generator
from tests.experiments.conftest import Call

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def session(model: Any) -> Any:
    return runtime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "spec",
    [
        GeneratorSpec(3, joint="maxout:4x3", output="tanh"),
        GeneratorSpec(3, "embedding", 4, 2, joint="leaky_relu:6,batch_norm", output_dim=7, output="linear"),
        GeneratorSpec(3, "real", 4, output_dim=7, input_branch="linear:2", output="linear", output_init="normal:100"),
    ],
    ids=["none", "embedding", "real"],
)
def test_every_kind_of_generator(spec: GeneratorSpec) -> None:
    generator = Generator(spec, 1)
    generator(**dict(zip("zy", example_inputs(generator, 50, 5).values(), strict=False)))  # Moves running statistics.
    model = to_onnx(generator.eval(), {"a": "b"})
    assert largest_difference(model, generator) < 1e-5
    assert session(model).get_modelmeta().custom_metadata_map == {"a": "b"}
    for parameter in generator.output.parameters():
        parameter.data.add_(1)
    assert largest_difference(model, generator) > export.TOLERANCE


def test_a_run_of_digits(mnist_run: Path, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "generator.onnx"
    path.parent.mkdir()
    done = call(export.main, mnist_run, "--onnx", path)
    assert done.returncode == 0 and "condition (n,) int64" in done.stdout and "(n, 784)" in done.stdout, done.stderr
    found, rng = session(str(path)), np.random.default_rng(0)
    z, y = rng.uniform(-1, 1, (7, 100)).astype(np.float32), np.arange(7)
    (images,) = found.run(["data"], {"noise": z, "condition": y})
    generator = load_generator(mnist_run).generator
    np.testing.assert_allclose(images, generator(torch.from_numpy(z), torch.from_numpy(y)).detach(), atol=1e-5)
    about = found.get_modelmeta().custom_metadata_map
    assert GeneratorSpec.from_dict(json.loads(about["generator"])) == generator.spec and "digits" in about["trained on"]


def test_what_cannot_be_exported_is_refused_and_nothing_written(
    mnist_run: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "generator.onnx"
    for arguments in ((mnist_run, "--onnx", tmp_path), (mnist_run, "--onnx", "g.pt"), (tmp_path, "--onnx", path)):
        done = call(export.main, *arguments)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    done = call(export.main, mnist_run, "--onnx", path)
    assert done.returncode == 2 and "differ" in done.stderr and not path.exists()
    monkeypatch.setattr(export, "NEEDED", ("onnxruntime", "no_such_package"))
    done = call(export.main, mnist_run, "--onnx", path)
    assert done.returncode == 2 and "no_such_package" in done.stderr and ".[export]" in done.stderr
