"""Run ``python -m experiments.tag``; the command itself is ``experiments.flickr_tags.tag``."""

from experiments.flickr_tags.tag import main
from experiments.runs.cli import run

if __name__ == "__main__":
    raise SystemExit(run(main))
