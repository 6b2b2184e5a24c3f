"""Tags for anybody's photos from a trained run, as a user asks for them."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from cgan import CganError, checkpoint
from cgan.devices import seeded
from data.scenes import render_scene
from embeddings import EmbeddingError
from embeddings.decoding import decode
from embeddings.vocabulary import Vocabulary
from experiments import UsageError
from experiments.flickr_tags import __main__ as flickr_tags
from experiments.flickr_tags import evaluate
from experiments.flickr_tags.dataset import features_of
from experiments.flickr_tags.tag import load_tagger, main
from experiments.runs.cli import sentence
from tests.experiments import commands, flickr_runs
from tests.experiments.commands import assert_one_sentence
from tests.experiments.conftest import Call, FlickrRun
from tests.experiments.mutations import fuzz_count, mutate, mutate_text

#: What tagging needs of a run.
NEEDED = ("config.json", "vocabulary.bin", "vocabulary.json", "scale.safetensors", "best.safetensors")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes that the run has not seen, one in a folder within, and a broken file among them."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    render_scene(7, 1).image.save(folder / "one.jpg")
    render_scene(7, 2).image.save(folder / "more" / "two.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not much of a photo")
    return folder


def test_a_folder_is_tagged_and_a_broken_photo_is_named(flickr_run: FlickrRun, photos: Path) -> None:
    done = commands.run("tag", flickr_run.folder, photos)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    note = lines.pop(0)
    assert note.startswith("NOTE: ") and "rendered scenes" in note and note.endswith("a network with random weights.")
    assert lines[::2] == [str(photos / "more" / "two.png"), str(photos / "one.jpg")]
    words = set(Vocabulary.load(flickr_run.folder / "vocabulary.bin").words)
    for line in lines[1::2]:
        tags = [entry.rpartition(" ") for entry in line.strip().split(", ")]
        assert len(tags) == 10 and {tag for tag, _, _ in tags} <= words
        assert all(share.endswith("%") for _, _, share in tags)
    # The broken one is named, on standard error, where no bar is drawn either.
    (note,) = done.stderr.splitlines()
    assert note.startswith(f"NOTE: {photos / 'broken.jpg'} is left out: ")


def test_json_holds_paths_with_tags_and_shares(flickr_run: FlickrRun, photos: Path, tmp_path: Path, call: Call) -> None:
    one, two, out = photos / "one.jpg", photos / "more" / "two.png", tmp_path / "new" / "tags.json"
    done = call(main, flickr_run.folder, one, two, one, "--json", out, "--top", 3)
    assert done.returncode == 0 and str(one) in done.stdout
    record = json.loads(out.read_text())
    assert list(record) == [str(one), str(two)]
    for tags in record.values():
        shares = [share for _, share in tags]
        assert len({tag for tag, _ in tags}) == 3 and shares == sorted(shares, reverse=True)
        # Shares count samples of a hundred.
        assert all(0 < share <= 1 and abs(100 * share - round(100 * share)) < 1e-6 for share in shares)
    # To standard output, and nothing but it.
    done = call(main, flickr_run.folder, one, two, "--json", "-", "--top", 3)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, record, "")
    # Other noise moves the shares of what is not always near.
    first, other = (call(main, flickr_run.folder, one, "--json", "-", "--top", 60, "--seed", seed) for seed in (1, 2))
    assert first.stdout != other.stdout
    done = call(main, flickr_run.folder, photos / "broken.jpg", "--json", "-")
    assert done.returncode == 1 and json.loads(done.stdout) == {} and "broken.jpg is left out" in done.stderr


def test_photos_are_tagged_as_the_run_tagged_its_own(flickr_run: FlickrRun) -> None:
    """Table 2's photos, in its order, with the noise that the run gave them."""
    table = json.loads((flickr_run.folder / "table2.json").read_text())
    tagger = load_tagger(flickr_run.folder)
    features, rows, skipped = features_of(tagger.network, [Path(row["path"]) for row in table["photos"]])
    assert len(rows) == len(table["photos"]) and not skipped
    blocks = evaluate.sample_vectors(
        tagger.generator, tagger.scale(features), 100, seeded(tagger.record.seed, "samples")
    )
    found = decode(tagger.vocabulary, blocks, 20, 10).rankings(tagger.vocabulary)
    assert [[word for word, _ in row["generated"]] for row in table["photos"]] == found


def test_mistakes_are_one_sentence(flickr_run: FlickrRun, photos: Path, tmp_path: Path, call: Call) -> None:
    one, run = photos / "one.jpg", flickr_run.folder
    (tmp_path / "empty").mkdir()
    (tmp_path / "digits").mkdir()
    other = json.loads((run / "config.json").read_text()) | {"experiment": "mnist"}
    (tmp_path / "digits" / "config.json").write_text(json.dumps(other))
    (tmp_path / "early").mkdir()
    for name in NEEDED[:-1]:
        shutil.copy(run / name, tmp_path / "early" / name)
    for arguments, words in (
        ((tmp_path / "none", one), ("none", "no such folder")),
        ((tmp_path / "digits", one), ("a run of mnist, not of flickr-tags",)),
        ((tmp_path / "early", one), ("best.safetensors", "--resume")),
        (("pape", one), ("pape: no such folder",)),
        (("paper", one), ("generator paper: of mnist, not of flickr-tags",)),
        ((run, tmp_path / "gone.jpg"), ("gone.jpg", "no such file or folder")),
        ((run, tmp_path / "empty"), ("empty", "no images in this folder")),
        ((run, one, "--top", 0), ("--top 0",)),
        ((run, one, "--weights", tmp_path / "x.safetensors"), ("either a weights file or random weights",)),
        ((run, one, "--json", tmp_path), ("--json", "that is a folder")),
    ):
        assert_one_sentence(call(main, *arguments), *words)


def test_files_of_another_kind_are_named(flickr_run: FlickrRun, tmp_path: Path) -> None:
    tensors, kept = checkpoint.load(flickr_run.folder / "scale.safetensors")
    short = {name: tensor[:10] for name, tensor in tensors.items()}
    for damage, words in (
        (lambda: (tmp_path / "vocabulary.json").unlink(), "vocabulary.json: no such file"),
        (lambda: (tmp_path / "vocabulary.json").write_text("{}"), "vocabulary.json.*restore"),
        (lambda: checkpoint.save(tmp_path / "scale.safetensors", short, kept), "not the scale"),
        (lambda: checkpoint.save(tmp_path / "scale.safetensors", tensors, kept | {"kind": "other"}), "not the scale"),
    ):
        for name in NEEDED:
            shutil.copy(flickr_run.folder / name, tmp_path / name)
        damage()
        with pytest.raises((UsageError, CganError), match=words):
            load_tagger(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "scale.safetensors", "best.safetensors"])
def test_changed_records_of_a_tagger_are_loaded_or_refused(name: str, flickr_run: FlickrRun, tmp_path: Path) -> None:
    rng, whole = random.Random(name), flickr_run.folder
    for file in NEEDED:
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


def test_weights_that_moved_are_named_again_and_others_are_refused(photos: Path, tmp_path: Path, call: Call) -> None:
    def weights(seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        return timm.create_model("test_vit", num_classes=0).state_dict()

    save_file(weights(1), tmp_path / "test_vit.safetensors")
    save_file(weights(2), tmp_path / "other.safetensors")
    flickr_runs.write_words(tmp_path / "words.bin", ["sea", "sky", "tree", "water", "clouds", *map(str, range(30))])
    own = flickr_runs.folder_of_photos(tmp_path / "own")
    (own / "mirflickr" / "im3.jpg").write_bytes(b"no image")
    arguments: list[object] = [
        "paper", *flickr_runs.NETS, "--stopping.max-updates", 20, "--stopping.first-estimate", 20,
        "--training.batch-size", 5, "--dataset", own, "--runs", tmp_path / "runs", "--name", "r",
        "--decoding.min-photos", 0, "--words.vectors", tmp_path / "words.bin", "--features.no-random-weights",
        "--features.weights", tmp_path / "test_vit.safetensors",
    ]  # fmt: skip
    done = call(flickr_tags.main, *arguments)
    assert done.returncode == 0 and "im3.jpg is left out: not an image" in done.stdout
    folder, one = tmp_path / "runs" / "flickr-tags" / "r", photos / "one.jpg"
    before = call(main, folder, one, "--json", "-")
    assert before.returncode == 0
    moved = (tmp_path / "test_vit.safetensors").rename(tmp_path / "moved.safetensors")
    assert_one_sentence(call(main, folder, one), "test_vit.safetensors", "--weights")
    after = call(main, folder, one, "--weights", moved, "--json", "-")
    assert after.returncode == 0 and after.stdout == before.stdout
    other = call(main, folder, one, "--weights", tmp_path / "other.safetensors")
    assert_one_sentence(other, "are not those", "--weights")
    # The run itself goes on from the new place too: what is in the file counts, not where it lies.
    assert "is finished" in call(flickr_tags.main, *arguments[:-1], moved, "--resume").stdout


def test_a_photo_named_by_nobody_with_care_is_shown_safely(flickr_run: FlickrRun, tmp_path: Path, call: Call) -> None:
    """Control characters in a name would reach the terminal."""
    path = tmp_path / "\x1b[31mred.png"
    Image.new("RGB", (40, 40), "red").save(path)
    done = call(main, flickr_run.folder, path)
    assert done.returncode == 0 and "\x1b" not in done.stdout and "red.png" in done.stdout
