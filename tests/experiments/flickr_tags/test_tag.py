"""Tags for anybody's photos from a trained run, as a user asks for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cgan import checkpoint as checkpoints
from data.scenes import render_scene
from embeddings.vocabulary import Vocabulary
from experiments.flickr_tags import __main__ as flickr_tags
from experiments.flickr_tags.tag import load_tagger, main
from tests.experiments import commands, flickr_runs
from tests.experiments.commands import assert_one_sentence
from tests.experiments.conftest import Call, FlickrRun


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes that the run has not seen, one in a folder within, and a broken file among them."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    render_scene(7, 1).image.save(folder / "one.jpg")
    render_scene(7, 2).image.save(folder / "more" / "two.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not much of a photo")
    return folder


def words_of(run: FlickrRun) -> set[str]:
    return set(Vocabulary.load(run.folder / "vocabulary.bin").words)


def test_a_folder_is_tagged_and_a_broken_photo_is_named(flickr_run: FlickrRun, photos: Path) -> None:
    done = commands.run("tag", flickr_run.folder, photos)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    note = lines.pop(0)
    assert note.startswith("NOTE: ") and "rendered scenes" in note and note.endswith("a network with random weights.")
    assert [line for line in lines if not line.startswith(" ")] == [
        str(photos / "more" / "two.png"), str(photos / "one.jpg"),
    ]  # fmt: skip
    for line in lines[1::2]:
        tags = [entry.rpartition(" ") for entry in line.strip().split(", ")]
        assert len(tags) == 10 and {tag for tag, _, _ in tags} <= words_of(flickr_run)
        assert all(share.endswith("%") for _, _, share in tags)
    # The broken one is named, on standard error, where no bar is drawn either.
    (note,) = done.stderr.splitlines()
    assert note.startswith(f"NOTE: {photos / 'broken.jpg'} is left out: ")


def test_a_run_whose_output_biases_started_from_the_data_can_tag(flickr_run: FlickrRun, tmp_path: Path) -> None:
    folder = shutil.copytree(flickr_run.folder, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["generator"]["output_bias"] = "marginals"
    (folder / "config.json").write_text(json.dumps(config))
    tensors, record = checkpoints.load(folder / "best.safetensors")
    record["identity"]["settings"]["generator"]["output_bias"] = "marginals"
    checkpoints.save(folder / "best.safetensors", tensors, record)
    found, expected = (load_tagger(run).generator.output.bias for run in (folder, flickr_run.folder))
    assert found.tolist() == expected.tolist()


def test_json_holds_paths_with_tags_and_shares(flickr_run: FlickrRun, photos: Path, tmp_path: Path, call: Call) -> None:
    one, two, out = photos / "one.jpg", photos / "more" / "two.png", tmp_path / "new" / "tags.json"
    done = call(main, flickr_run.folder, one, two, one, "--json", out, "--top", 3)
    assert done.returncode == 0 and str(one) in done.stdout
    record = json.loads(out.read_text())
    assert list(record) == [str(one), str(two)]
    for tags in record.values():
        assert len(tags) == 3 and len({tag for tag, _ in tags}) == 3
        assert all(isinstance(tag, str) and 0 < share <= 1 for tag, share in tags)
        shares = [share for _, share in tags]
        assert shares == sorted(shares, reverse=True)
    # To standard output, and nothing but it.
    done = call(main, flickr_run.folder, one, two, "--json", "-", "--top", 3)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, record, "")
    # Other noise moves the shares of what is not always near.
    every = [
        call(main, flickr_run.folder, one, "--json", "-", "--top", 60, "--seed", seed).stdout for seed in (1, 2, 1)
    ]
    assert every[0] == every[2] != every[1] and json.loads(every[1]).keys() == {str(one)}
    # Shares count samples of a hundred.
    assert all(abs(100 * share - round(100 * share)) < 1e-6 for tags in record.values() for _, share in tags)


def test_photos_are_tagged_as_the_run_tagged_its_own(flickr_run: FlickrRun, call: Call) -> None:
    """Table 2's photos, in its order, with the noise that the run gave them."""
    table = json.loads((flickr_run.folder / "table2.json").read_text())
    paths = [row["path"] for row in table["photos"]]
    from cgan.devices import seeded
    from experiments.flickr_tags import tag as module
    from experiments.flickr_tags.dataset import features_of
    from experiments.flickr_tags.evaluate import tag

    tagger = module.load_tagger(flickr_run.folder)
    features, rows, skipped = features_of(tagger.network, [Path(path) for path in paths])
    assert len(rows) == len(paths) and not skipped
    rng = seeded(tagger.record.seed, "samples")
    found = tag(tagger.generator, tagger.scale(features), tagger.vocabulary, tagger.config, rng)
    for row, ranking in zip(table["photos"], found.rankings, strict=True):
        assert [word for word, _ in row["generated"]] == ranking[:10]


def test_only_broken_photos_is_a_failure(flickr_run: FlickrRun, photos: Path, call: Call) -> None:
    done = call(main, flickr_run.folder, photos / "broken.jpg", "--json", "-")
    assert done.returncode == 1 and json.loads(done.stdout) == {} and "broken.jpg is left out" in done.stderr


def test_mistakes_are_one_sentence(flickr_run: FlickrRun, photos: Path, tmp_path: Path, call: Call) -> None:
    one, run = photos / "one.jpg", flickr_run.folder
    (tmp_path / "empty").mkdir()
    (tmp_path / "digits").mkdir()
    other = json.loads((run / "config.json").read_text()) | {"experiment": "mnist"}
    (tmp_path / "digits" / "config.json").write_text(json.dumps(other))
    (tmp_path / "early").mkdir()
    for name in ("config.json", "vocabulary.bin", "vocabulary.json", "scale.safetensors"):
        shutil.copy(run / name, tmp_path / "early" / name)
    for arguments, words in (
        ((tmp_path / "none", one), ("none", "no such folder")),
        ((tmp_path / "empty", one), ("config.json", "no such file")),
        ((tmp_path / "digits", one), ("a run of mnist, not of flickr-tags",)),
        ((tmp_path / "early", one), ("best.safetensors", "--resume")),
        (("pape", one), ("no such folder", "generators by name: ")),
        (("paper", one), ("generator paper: of mnist, not of flickr-tags",)),
        ((run, tmp_path / "gone.jpg"), ("gone.jpg", "no such file or folder")),
        ((run, tmp_path / "empty"), ("empty", "no images in this folder")),
        ((run, one, "--top", 0), ("--top 0",)),
        ((run, one, "--device", "cuda:77"), ("cuda:77",)),
        ((run, one, "--weights", tmp_path / "x.safetensors"), ("either a weights file or random weights",)),
    ):
        assert_one_sentence(call(main, *arguments), *words)


def test_files_of_another_kind_are_named(flickr_run: FlickrRun, photos: Path, tmp_path: Path, call: Call) -> None:
    folder, one = tmp_path / "run", photos / "one.jpg"
    names = ("config.json", "vocabulary.bin", "vocabulary.json", "scale.safetensors", "best.safetensors")
    tensors, kept = checkpoints.load(flickr_run.folder / "scale.safetensors")
    config = json.loads((flickr_run.folder / "config.json").read_text())

    def refused(*words: str) -> None:
        assert_one_sentence(call(main, folder, one), *words)
        for name in names:
            shutil.copy(flickr_run.folder / name, folder / name)

    folder.mkdir()
    for name in names:
        shutil.copy(flickr_run.folder / name, folder / name)
    for changes in ({"network": {}}, {"network": None}, {"dataset": "scenes"}):
        (folder / "config.json").write_text(json.dumps(config | changes))
        refused("config.json", f"field {next(iter(changes))}")
    (folder / "vocabulary.json").unlink()
    refused("vocabulary.json", "no such file")
    (folder / "vocabulary.json").write_text("{}")
    refused("vocabulary.json", "restore")
    shutil.copy(folder / "best.safetensors", folder / "scale.safetensors")
    refused("scale.safetensors", "not of the expected form")
    short = {name: tensor[:10] for name, tensor in tensors.items()}
    for held, record in ((short, kept), ({}, kept), (tensors, kept | {"kind": "other"})):
        checkpoints.save(folder / "scale.safetensors", held, record)
        refused("scale.safetensors", "not the scale")
    for place, words in ((folder, "that is a folder"), (one / "tags.json", "one.jpg is a file")):
        assert_one_sentence(call(main, folder, one, "--json", place), "--json", words)


def test_weights_that_moved_are_named_again_and_others_are_refused(
    flickr_run: FlickrRun, photos: Path, tmp_path: Path, call: Call
) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    def weights(seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        return timm.create_model("test_vit", num_classes=0).state_dict()

    save_file(weights(1), tmp_path / "test_vit.safetensors")
    save_file(weights(2), tmp_path / "other.safetensors")
    dataset = flickr_runs.folder_of_photos(tmp_path / "own")
    words = ["sea", "sky", "tree", "water", "clouds", *(f"word{i}" for i in range(30))]
    vectors = np.random.default_rng(0).standard_normal((len(words), 16)).astype(np.float32)
    Vocabulary.from_arrays(words, vectors, None).save(tmp_path / "words.bin")
    run = ("--dataset", dataset, "--runs", tmp_path / "runs", "--name", "r", "--decoding.min-photos", 0)
    given = ("--features.no-random-weights", "--features.weights", tmp_path / "test_vit.safetensors")
    vectors_at = ("--words.vectors", tmp_path / "words.bin")
    short = ("--stopping.max-updates", 20, "--stopping.first-estimate", 20)
    nets = (*flickr_runs.NETS, *short, "--training.batch-size", 5)
    arguments = ["paper", *map(str, (*nets, *run, *given, *vectors_at))]
    assert call(flickr_tags.main, *arguments).returncode == 0
    folder, one = tmp_path / "runs" / "flickr-tags" / "r", photos / "one.jpg"
    before = call(main, folder, one, "--json", "-")
    assert before.returncode == 0
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "weights.safetensors"
    (tmp_path / "test_vit.safetensors").rename(moved)
    assert_one_sentence(call(main, folder, one), "test_vit.safetensors", "--weights")
    after = call(main, folder, one, "--weights", moved, "--json", "-")
    assert after.returncode == 0 and after.stdout == before.stdout
    other = call(main, folder, one, "--weights", tmp_path / "other.safetensors")
    assert_one_sentence(other, "are not those", "--weights")
    # The run itself goes on from the new place too: what is in the file counts, not where it lies.
    arguments[arguments.index(str(tmp_path / "test_vit.safetensors"))] = str(moved)
    assert "is finished" in call(flickr_tags.main, *arguments, "--resume").stdout


def test_a_photo_named_by_nobody_with_care_is_shown_safely(flickr_run: FlickrRun, tmp_path: Path, call: Call) -> None:
    """Control characters in a name would reach the terminal."""
    path = tmp_path / "\x1b[31mred.png"
    try:
        Image.new("RGB", (40, 40), "red").save(path)
    except OSError:
        pytest.skip("this file system takes no such name")
    done = call(main, flickr_run.folder, path)
    assert done.returncode == 0 and "\x1b" not in done.stdout and "red.png" in done.stdout
