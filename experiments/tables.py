"""Run ``python -m experiments.tables``; the command itself is ``experiments.report.tables``."""

from experiments.report.tables import main
from experiments.runs.cli import run

if __name__ == "__main__":
    raise SystemExit(run(main))
