"""Rendered scenes: layout, determinism, and that there is something to learn from them."""

from __future__ import annotations

import bz2
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from urllib.parse import unquote_plus

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from data import DataError
from data.scenes import LABELS, VERSION, caption_rows, render_scene, write_scenes
from data.yfcc100m import Tally, read_batches

COUNT = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("data.scenes.words.ROWS", 1000)
        return write_scenes(tmp_path_factory.mktemp("root") / "scenes", COUNT)


def tags(folder: Path, number: int, kind: str = "tags") -> list[str]:
    return (folder / "mirflickr" / "meta" / kind / f"tags{number}.txt").read_text(encoding="utf-8").splitlines()


def members(folder: Path, label: str) -> set[int]:
    return {int(line) for line in (folder / "mirflickr25k_annotations_v080" / f"{label}.txt").read_text().split()}


def test_the_layout_is_that_of_mirflickr(folder: Path) -> None:
    photos = folder / "mirflickr"
    assert {path.name for path in photos.iterdir()} == {f"im{n}.jpg" for n in range(1, COUNT + 1)} | {"meta"}
    with Image.open(photos / "im1.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (160, 120))
    for number in range(1, COUNT + 1):
        clean, raw = tags(folder, number), tags(folder, number, "tags_raw")
        assert clean == ["".join(c for c in tag.lower() if c.isalnum()) for tag in raw]
        assert len(set(clean)) == len(clean) <= 11 and all(clean)
    labels = {path.stem for path in (folder / "mirflickr25k_annotations_v080").glob("*.txt")} - {"README"}
    assert labels == set(LABELS) | {f"{label}_r1" for label, (_, share) in LABELS.items() if share}
    for label in labels:
        assert members(folder, label) <= set(range(1, COUNT + 1))
        assert members(folder, label) <= members(folder, label.removesuffix("_r1"))
    assert members(folder, "car") <= members(folder, "transport") and members(folder, "tree_r1")
    assert not members(folder, "sunset") & members(folder, "night")
    assert json.loads((folder / "scenes.json").read_text()) == {"seed": 1, "images": COUNT, "version": VERSION}


def test_tags_and_pixels_tell_what_is_shown(folder: Path) -> None:
    """People often forget a thing, and hardly ever name one that is not there; a linear map finds it in the pixels."""
    numbers, half = range(1, COUNT + 1), COUNT // 2
    for label, words in (("sea", {"sea", "ocean", "waves"}), ("car", {"car", "cars", "auto"})):
        named = np.array([bool(words & set(tags(folder, number))) for number in numbers])
        shown = np.isin(numbers, sorted(members(folder, label)))
        assert 0.25 < named[shown].mean() < 0.95 and named[~shown].mean() < 0.05
    images = [Image.open(folder / "mirflickr" / f"im{number}.jpg").resize((16, 12)) for number in numbers]
    pixels = np.stack([np.asarray(image, dtype=float).ravel() / 255 for image in images])
    for label in ("night", "flower", "tree"):
        shown = np.isin(numbers, sorted(members(folder, label))).astype(float)
        scores = Ridge(30.0).fit(pixels[:half], shown[:half]).predict(pixels[half:])
        assert roc_auc_score(shown[half:], scores) > 0.75


def test_the_seed_decides_every_pixel_and_word(folder: Path) -> None:
    first, again, other = render_scene(1, 1), render_scene(1, 1), render_scene(2, 1)
    assert first.image == again.image != other.image
    # The same in every process, whatever its hash seed.
    assert first.tags == tags(folder, 1, "tags_raw") == ["nature", "canon", "twilight", "nikon", "Sunset", "Lumix"]
    assert first.labels == ["sky", "sunset", "water"] and other.tags == ["sunset", "landscape", "lights", "city"]


def test_rows_are_those_of_yfcc100m(folder: Path) -> None:
    tally = Tally()
    shard = folder / "yfcc100m" / "yfcc100m_dataset-0.bz2"
    records = [record for batch in read_batches(shard, tally) for record in batch]
    with bz2.open(shard, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert len(records) == 1000 and not tally.skipped and lines[:5] == list(islice(caption_rows(1), 5))
    rows = [line.split("\t") for line in lines]
    assert {len(row) for row in rows} == {23}
    texts = [unquote_plus(row[7]) for row in rows]
    assert any("<b>" in text for text in texts) and any(not text for text in texts)
    words = Counter(word for record in records for word in record.tags)
    assert words["sea"] > 25 and words["car"] > 25


def test_scenes_are_written_once_and_replaced_when_others_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.scenes.words.ROWS", 20)
    place = write_scenes(tmp_path / "s", 4)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.jpg")}
    assert write_scenes(place, 4) == place
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.jpg")} == before
    write_scenes(place, 3, seed=2)
    assert len(list((place / "mirflickr").glob("*.jpg"))) == 3
    (place / "mirflickr" / "im2.jpg").unlink()
    write_scenes(place, 3, seed=2)
    assert (place / "mirflickr" / "im2.jpg").is_file()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["s"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mirflickr").mkdir()
    (tmp_path / "mirflickr" / "im1.jpg").write_bytes(b"somebody's photo")
    with pytest.raises(DataError, match="not of rendered scenes"):
        write_scenes(tmp_path, 3)
    assert (tmp_path / "mirflickr" / "im1.jpg").read_bytes() == b"somebody's photo"
