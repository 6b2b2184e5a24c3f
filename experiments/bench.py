"""How long one update takes: ``python -m experiments.bench PRESET``. Other paths are measured elsewhere.

Times the training step alone, on random images, after a warm-up; compares with the rate of the matrix products.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from experiments import UsageError, runs
from experiments.cli import run
from experiments.presets import MNIST_PRESETS


@dataclass(frozen=True)
class Command:
    """Time one update of a preset (D and G, one batch)."""

    preset: tyro.conf.Positional[Literal["paper", "paper-literal", "gan", "tutorial"]] = "paper"
    updates: int = 200
    """Updates timed, after 20 that are not."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products."""
    threads: int | None = None
    """Processor threads; PyTorch's own choice if not given."""
    json: Path | None = None
    """Write the figures there."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    command = tyro.cli(Command, args=argv, prog="python -m experiments.bench")
    if command.updates < 1:
        raise UsageError(f"--updates is {command.updates}: it must be at least 1")
    import torch

    from cgan.devices import prepare_cpu, product_seconds, resolve_device, resolve_precision, seeded
    from cgan.networks import Discriminator, Generator
    from cgan.training import Examples, Trainer

    device = resolve_device(command.device)
    prepare_cpu(command.threads)
    precision = resolve_precision(command.precision, device)
    config, rng = MNIST_PRESETS[command.preset](), seeded(0, "bench")
    images = torch.rand(10_000, config.generator.output_dim, generator=rng).to(device)
    labels = torch.randint(10, (10_000,), generator=rng).to(device)
    trainer = Trainer(
        Generator(config.generator, seeded(0, "G"), images.mean(0).cpu()).to(device),
        Discriminator(config.discriminator, seeded(0, "D")).to(device),
        Examples(images, None if config.generator.condition == "none" else labels),
        config.training,
        seed=0,
        precision=precision,
    )
    times = []
    for i in range(20 + command.updates):
        start = time.perf_counter()
        trainer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if i >= 20:
            times.append(1e3 * (time.perf_counter() - start))
    names = ("float32", "bfloat16")
    seconds = product_seconds(tuple(getattr(torch, name) for name in names))
    rates = {name: 2 * 512**3 / taken / 1e9 for name, taken in zip(names, seconds, strict=True)}
    record = {
        "preset": command.preset,
        "median_ms": statistics.median(times),
        "best_ms": min(times),
        "updates": command.updates,
        "device": str(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "products_gflops": rates,
        "environment": runs.environment(),
    }
    print(
        f"{command.preset}: median {record['median_ms']:.1f} ms an update, best {record['best_ms']:.1f} ms "
        f"({device}, {precision} products, {record['threads']} threads)\n"
        f"products on this processor: float32 {rates['float32']:.0f}, bfloat16 {rates['bfloat16']:.0f} GFLOP/s"
    )
    if command.json:
        runs.write_json(command.json, record)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
