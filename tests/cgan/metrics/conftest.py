"""Real MNIST, read without the project's own reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def mnist() -> dict[str, torch.Tensor]:
    """Return training and test images float32 (n, 784) in [0, 1], and their labels."""
    root = os.environ.get("CGAN_DATA")
    if not root or not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("CGAN_DATA does not lead to MNIST/raw")
    from torchvision.datasets import MNIST

    train, test = MNIST(root, train=True), MNIST(root, train=False)
    return {
        "images": train.data[:50_000].reshape(-1, 784) / 255,
        "labels": train.targets[:50_000],
        "test_images": test.data.reshape(-1, 784) / 255,
        "test_labels": test.targets,
    }
