"""A tagger's records as an accident or a stranger may have changed them: loaded, or refused in a sentence."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from cgan import CganError, checkpoint
from embeddings import EmbeddingError
from experiments import UsageError
from experiments.flickr_tags.tag import load_tagger
from experiments.runs.cli import sentence
from tests.experiments.conftest import FlickrRun
from tests.experiments.mutations import fuzz_count, mutate, mutate_text


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "scale.safetensors", "best.safetensors"])
def test_changed_records_of_a_tagger_are_loaded_or_refused(name: str, flickr_run: FlickrRun, tmp_path: Path) -> None:
    rng, whole = random.Random(name), flickr_run.folder
    for file in ("config.json", "vocabulary.bin", "vocabulary.json", "scale.safetensors", "best.safetensors"):
        shutil.copy(whole / file, tmp_path)
    tensors, record = checkpoint.load(whole / name) if name.endswith("tensors") else ({}, None)
    record = record or json.loads((whole / name).read_text())
    refused = 0
    for _ in range(count := fuzz_count(40)):
        if tensors:
            try:
                checkpoint.save(tmp_path / name, tensors, mutate(record, rng))
            except (ValueError, TypeError, UnicodeEncodeError):
                continue  # Not a record that JSON can hold.
        else:
            (tmp_path / name).write_bytes(mutate_text(record, rng))
        try:
            load_tagger(tmp_path)
        except (UsageError, CganError, EmbeddingError) as error:
            refused += 1
            assert "\n" not in sentence(error) and len(sentence(error)) <= 1_000
    assert refused > count / 20
