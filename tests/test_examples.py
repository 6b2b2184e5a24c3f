"""The examples: each script and the notebook's cells run in order, trained briefly."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs code as a script in ``tmp_path``, with 30 updates instead of thousands.

    In this process, since imports would take longer than the script; it returns what was printed.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["script.py"])
    matplotlib.use("Agg")

    def inner(code: str, *arguments: str) -> tuple[str, str]:
        sys.argv[1:] = arguments
        exec(compile(re.sub(r"\.train\(\d{4}", ".train(30", code), "script.py", "exec"), {"__name__": "__main__"})
        return capsys.readouterr()

    return inner


def test_labels_are_trained_and_their_samples_scored(tmp_path: Path, run: Run) -> None:
    assert "30/30" in run((EXAMPLES / "labels.py").read_text())[1]
    samples = np.load(tmp_path / "samples.npy")
    assert samples.shape == (1000, 64) and 0 <= samples.min() < samples.max() <= 1
    assert Image.open(tmp_path / "labels.png").size == (80, 80)
    score = (EXAMPLES / "score.py").read_text()
    number = r"log-likelihood (-?[\d.]+) ± [\d.]+ nats at sigma [\d.]+\ndensity ([\d.]+) .* coverage ([\d.]+) "
    scores = [
        [float(value) for value in re.search(number, run(score, *file)[0]).groups()]  # type: ignore[union-attr]
        for file in ((), ("samples.npy",))
    ]
    assert all(real > generated for real, generated in zip(*scores, strict=True)) and scores[0][2] > 0.8


def test_vectors(tmp_path: Path, run: Run) -> None:
    assert "30/30" in run((EXAMPLES / "vectors.py").read_text())[1]
    assert Image.open(tmp_path / "vectors.png").size == (88, 80)


def test_the_notebook_runs_and_shows_its_outputs(run: Run) -> None:
    cells = json.loads((EXAMPLES / "conditional-gan.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    shown = [kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})]
    assert shown.count("image/png") == 1
    done, _ = run("\n".join("".join(cell["source"]) for cell in code))
    printed = "".join("".join(output.get("text", [])) for cell in code for output in cell["outputs"])
    words = [re.sub(r"-?\d+\.\d+", "#", text) for text in (printed, done)]
    assert "nats" in words[0] and [line for line in words[0].splitlines() if line not in words[1]] == []
