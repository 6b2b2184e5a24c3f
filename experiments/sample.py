"""Run ``python -m experiments.sample``; the command itself is ``experiments.mnist.sample``."""

from experiments.mnist.sample import main
from experiments.runs.cli import run

if __name__ == "__main__":
    raise SystemExit(run(main))
