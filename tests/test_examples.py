"""The examples: each script runs as a reader starts it, and the notebook's cells run in order; both trained briefly."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def briefly(code: str) -> str:
    """Return the code with 30 updates instead of thousands."""
    shorter, count = re.subn(r"\.train\(\d{4}", ".train(30", code)
    assert count == 1
    return shorter


def run(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as a script in ``folder``, away from this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_labels_are_trained_and_their_samples_scored(tmp_path: Path) -> None:
    done = run(tmp_path, briefly((EXAMPLES / "labels.py").read_text()))
    assert "30/30" in done.stderr
    samples = np.load(tmp_path / "samples.npy")
    assert samples.shape == (1000, 64) and 0 <= samples.min() < samples.max() <= 1
    assert Image.open(tmp_path / "labels.png").size == (80, 80)
    score = (EXAMPLES / "score.py").read_text()
    number = r"log-likelihood (-?[\d.]+) ± [\d.]+ nats at sigma [\d.]+\ndensity ([\d.]+) .* coverage ([\d.]+) "
    scores = [
        [float(value) for value in re.search(number, run(tmp_path, score, *file).stdout).groups()]  # type: ignore[union-attr]
        for file in ((), ("samples.npy",))
    ]
    assert all(real > generated for real, generated in zip(*scores, strict=True)) and scores[0][2] > 0.8


def test_vectors(tmp_path: Path) -> None:
    assert "30/30" in run(tmp_path, briefly((EXAMPLES / "vectors.py").read_text())).stderr
    assert Image.open(tmp_path / "vectors.png").size == (88, 80)


def test_the_notebook_runs_and_shows_its_outputs(tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "conditional-gan.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    shown = [kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})]
    assert shown.count("image/png") == 1
    done = run(tmp_path, briefly("\n".join("".join(cell["source"]) for cell in code)))
    printed = "".join("".join(output.get("text", [])) for cell in code for output in cell["outputs"])
    words = [re.sub(r"-?\d+\.\d+", "#", text) for text in (printed, done.stdout)]
    assert "nats" in words[0] and [line for line in words[0].splitlines() if line not in words[1]] == []
