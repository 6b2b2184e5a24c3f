"""``data.scenes`` read back with plain code: layout, determinism, what the words and labels owe to the pictures."""

from __future__ import annotations

import bz2
import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from pathlib import Path
from urllib.parse import unquote_plus

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from data import DataError
from data.scenes.scenes import ROWS, VERSION, caption_rows, render_scene, write_scenes
from data.yfcc100m import Tally, read_records

ROOT = Path(__file__).parents[2]
COUNT = 160
NOTES = "mirflickr25k_annotations_v080"

#: Words that speak of a thing, written down apart from the generator's tables.
SPEAKING = {
    "sea": {"sea", "ocean", "waves", "seascape", "seaside", "coast", "mar", "meer", "mer", "mare", "海"},
    "flower": {"flower", "flowers", "bloom", "blossom", "petals", "flora", "blume", "fleur", "flor", "fiore", "花"},
    "night": {
        "night",
        "noche",
        "nacht",
        "nuit",
        "notte",
        "夜",
        "nightshot",
        "midnight",
        "longexposure",
        "stars",
        "moon",
    },
    "tree": {"tree", "trees", "forest", "woods", "wood", "palm", "palms", "palmtree", "leaves", "branches", "pine"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("root") / "scenes", COUNT)


def tags(folder: Path, number: int, kind: str = "tags") -> list[str]:
    return (folder / "mirflickr" / "meta" / kind / f"tags{number}.txt").read_text(encoding="utf-8").splitlines()


def members(folder: Path, label: str) -> set[int]:
    return {int(line) for line in (folder / NOTES / f"{label}.txt").read_text().split()}


def listing(folder: Path) -> dict[str, str]:
    """Every file below the folder and its checksum; the lock is empty and says nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "scenes.lock")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_layout_is_mirflickrs(folder: Path) -> None:
    assert {path.name for path in (folder / "mirflickr").iterdir()} == {f"im{n + 1}.jpg" for n in range(COUNT)} | {
        "meta"
    }
    for number in range(1, COUNT + 1):
        with Image.open(folder / "mirflickr" / f"im{number}.jpg") as image:
            assert image.format == "JPEG" and image.mode == "RGB"
            assert 17_000 < image.width * image.height < 20_000
        clean, raw = tags(folder, number), tags(folder, number, "tags_raw")
        assert clean == ["".join(c for c in tag.lower() if c.isalnum()) for tag in raw]
        assert len(set(clean)) == len(clean) <= 15 and all(clean)
    labels = {path.stem for path in (folder / NOTES).glob("*.txt")} - {"README"}
    # MIRFLICKR's own names, and of its fourteen relevant ones those that this world has.
    potential = "animals bird car clouds flower lake night people plant_life river sea sky structures sunset transport"
    potential += " tree water"
    relevant = "bird car clouds flower night people river sea tree"
    assert labels == set(potential.split()) | {f"{label}_r1" for label in relevant.split()}
    for label in labels:
        assert members(folder, label) <= set(range(1, COUNT + 1))
        assert members(folder, label) <= members(folder, label.removesuffix("_r1"))
    assert members(folder, "sea") <= members(folder, "water")
    assert members(folder, "car") <= members(folder, "transport")
    assert not members(folder, "sunset") & members(folder, "night")
    assert json.loads((folder / "scenes.json").read_text()) == {"seed": 1, "images": COUNT, "version": VERSION}


def test_tags_have_a_long_tail(folder: Path) -> None:
    every = [tags(folder, number) for number in range(1, COUNT + 1)]
    sizes = np.array([len(one) for one in every])
    assert sizes.min() == 0 and sizes.max() >= 13 and 3 < sizes.mean() < 8
    assert 1 <= (sizes == 0).sum() < 0.12 * COUNT
    counts = np.array(sorted(Counter(itertools.chain.from_iterable(every)).values(), reverse=True))
    assert len(counts) > 200 and counts[0] > 0.15 * COUNT and (counts == 1).mean() > 0.25
    raw = [tag for number in range(1, COUNT + 1) for tag in tags(folder, number, "tags_raw")]
    assert any(" " in tag for tag in raw) and any(tag != tag.lower() for tag in raw)
    junk = sum(bool({"abigfave", "geotagged", "nikon", "canon", "2007", "explore"} & set(one)) for one in every)
    assert 0.1 < junk / COUNT < 0.6


@pytest.mark.parametrize("label", SPEAKING)
def test_tags_follow_the_picture(folder: Path, label: str) -> None:
    speaking = [bool(SPEAKING[label] & set(tags(folder, number))) for number in range(1, COUNT + 1)]
    shown = np.isin(np.arange(1, COUNT + 1), sorted(members(folder, label)))
    assert 8 < shown.sum() < COUNT - 8
    with_it, without = np.mean(np.array(speaking)[shown]), np.mean(np.array(speaking)[~shown])
    # Neither always (people forget) nor by chance.
    assert 0.35 < with_it < 0.98 and with_it > 3 * without


@pytest.mark.parametrize("label", ["sunset", "night", "sea", "flower"])
def test_labels_can_be_learned_from_the_mean_colours_of_thirds(folder: Path, label: str) -> None:
    features = []
    for number in range(1, COUNT + 1):
        with Image.open(folder / "mirflickr" / f"im{number}.jpg") as image:
            thirds = np.array_split(np.asarray(image, np.float64) / 255, 3)
        features.append(np.concatenate([part.mean((0, 1)) for part in thirds]))
    x = np.array(features)
    # Brightness and what each colour is beside it: a linear score of them is enough.
    x = StandardScaler().fit_transform(np.hstack([x, x**2]))
    y = np.isin(np.arange(1, COUNT + 1), sorted(members(folder, label)))
    scores = np.empty(COUNT)
    for fold in range(5):
        held_out = np.arange(COUNT) % 5 == fold
        model = RidgeClassifier(class_weight="balanced").fit(x[~held_out], y[~held_out])
        scores[held_out] = model.decision_function(x[held_out])
    assert roc_auc_score(y, scores) > {"sunset": 0.85, "night": 0.95, "sea": 0.65, "flower": 0.75}[label]
    shuffled = np.random.default_rng(0).permutation(y)
    assert roc_auc_score(shuffled, scores) < 0.68


def test_every_row_is_yfcc100ms(folder: Path) -> None:
    shard = folder / "yfcc100m" / "yfcc100m_dataset-0.bz2"
    lines = bz2.decompress(shard.read_bytes()).decode("ascii").splitlines()
    assert len(lines) == ROWS and {line.count("\t") for line in lines} == {22}
    tally = Tally()
    records = list(read_records(shard, tally))
    assert not tally.skipped and tally.damage is None and len(records) == ROWS
    assert len({record.photo_id for record in records}) == ROWS
    for line, record in zip(lines[:500], records, strict=False):
        columns = line.split("\t")
        assert (columns[0], unquote_plus(columns[6]), unquote_plus(columns[7])) == record[:3]
        assert [unquote_plus(tag) for tag in columns[8].split(",") if tag] == list(record.tags)
    descriptions = [record.description for record in records]
    assert 0.02 < np.mean(["<" in text for text in descriptions]) < 0.3
    assert len(set(descriptions)) > 500 and len({record.title for record in records}) > ROWS / 4
    letters = "".join(tag for record in records for tag in record.tags)
    assert {unicodedata.name(c).split()[0] for c in set(letters) if c.isalpha()} >= {"LATIN", "CJK"}


def test_words_of_one_thing_keep_company(folder: Path) -> None:
    bags = []
    for record in read_records(folder / "yfcc100m" / "yfcc100m_dataset-0.bz2"):
        bags.append(set(re.findall(r"\w+", " ".join([record.title, record.description, *record.tags]).lower())))
    counts = Counter(itertools.chain.from_iterable(bags))
    assert sum(count >= 5 for count in counts.values()) > 500

    def lift(one: str, other: str) -> float:
        """How much likelier the two are in one row than if they had nothing to do with one another."""
        both = sum(one in bag and other in bag for bag in bags)
        return both * len(bags) / (counts[one] * counts[other])

    for near in (("sea", "ocean"), ("boat", "sailboat"), ("night", "stars"), ("snow", "winter"), ("flower", "petals")):
        assert lift(*near) > 2, near
    for far in (("sea", "sheep"), ("flower", "skyscraper"), ("desert", "boat"), ("nikon", "canon")):
        assert lift(*far) < 0.5, far


def test_the_same_in_every_process() -> None:
    script = """if True:
        import hashlib, itertools
        from data.scenes.scenes import caption_rows, render_scene
        digest = hashlib.sha256()
        for number in range(1, 13):
            rendered = render_scene(3, number)
            digest.update(rendered.image.tobytes() + repr(rendered[1:]).encode())
        for row in itertools.islice(caption_rows(3), 300):
            digest.update(row.encode())
        print(digest.hexdigest())
    """
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1 and len(digests.pop()) == 65


def test_other_seeds_are_other_pictures_and_captions() -> None:
    assert render_scene(1, 1).image.tobytes() != render_scene(2, 1).image.tobytes()
    assert next(caption_rows(1)) != next(caption_rows(2))


def test_a_killed_run_is_begun_again_and_a_scene_does_not_depend_on_the_count(folder: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    process = subprocess.Popen(
        [sys.executable, "-c", f"from data.scenes.scenes import write_scenes; write_scenes({str(torn)!r}, 600)"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 60
    while not (torn / "mirflickr" / "im12.jpg").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (torn / "mirflickr" / "im12.jpg").exists() and not (torn / "scenes.json").exists()

    write_scenes(torn, 7)
    whole, few = listing(folder), listing(torn)
    assert len([name for name in few if name.endswith(".jpg")]) == 7 and "scenes.unfinished" not in few
    for name, checksum in few.items():
        if name.startswith(NOTES) and not name.endswith("README.txt"):
            label = Path(name).stem
            assert members(torn, label) == {number for number in members(folder, label) if number <= 7}
        elif name != "scenes.json":
            assert whole[name] == checksum, name

    # Done is done; a file less, and it is made again; but never over somebody's own files.
    before = (torn / "scenes.json").stat().st_mtime_ns
    write_scenes(torn, 7)
    assert (torn / "scenes.json").stat().st_mtime_ns == before
    (torn / "mirflickr" / "im3.jpg").unlink()
    (torn / "mirflickr" / "holiday.jpg").touch()
    with pytest.raises(
        DataError, match=r"holds mirflickr/holiday\.jpg, which is not of rendered scenes: name an empty"
    ):
        write_scenes(torn, 7)
    assert (torn / "scenes.json").stat().st_mtime_ns == before
    (torn / "mirflickr" / "holiday.jpg").unlink()
    write_scenes(torn, 7)
    assert listing(torn) == few


def test_real_photos_of_the_same_names_are_never_touched(tmp_path: Path) -> None:
    photo = tmp_path / "mirflickr" / "im1.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"somebody's own")
    with pytest.raises(DataError, match=r"holds mirflickr/im1\.jpg, which is not of rendered scenes"):
        write_scenes(tmp_path, 2)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [photo]
    assert photo.read_bytes() == b"somebody's own"
    with pytest.raises(DataError, match="ask for at least one"):
        write_scenes(tmp_path / "none", 0)
    assert not (tmp_path / "none").exists()
