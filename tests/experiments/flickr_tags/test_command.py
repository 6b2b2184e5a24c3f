"""The multimodal experiment as a user types it, on 40 rendered scenes: whole runs, kills, mistakes."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from gensim.models import KeyedVectors
from PIL import Image
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file
from sklearn.linear_model import Ridge

from experiments.flickr_tags.__main__ import main
from tests.experiments import commands, flickr_runs
from tests.experiments.commands import assert_one_sentence, wait_until
from tests.experiments.conftest import Call, FlickrRun


def result_of(run: FlickrRun) -> dict[str, Any]:
    return json.loads((run.folder / "result.json").read_text())


def metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the clock."""
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


# ---- a whole run


def test_a_run_leaves_its_folder_and_a_result_with_every_measure(flickr_run: FlickrRun) -> None:
    names = {path.name for path in flickr_run.folder.iterdir()}
    pictures = {
        "curves.png",
        "precision.png",
        "precision_user_tags.png",
        "reliability.png",
        "trade_off.png",
        "words.png",
    }
    assert names >= {"config.json", "metrics.csv", "checkpoint.safetensors", "best.safetensors", "result.json"}
    assert names >= {"table2.md", "table2.html", "table2.json", "vocabulary.bin", "vocabulary.json"} | pictures
    assert {name for name in names if name.startswith(".")} <= {".lock"}
    for name in pictures:
        Image.open(flickr_run.folder / name).verify()
    assert [int(row["update"]) for row in metrics(flickr_run.folder)] == [20, 80, 160, 240]
    assert not list(flickr_run.root.iterdir())  # Nothing was written into the data root.
    result = result_of(flickr_run)
    assert result["images"] == {"train": 28, "valid": 6, "test": 6} and result["test_images"] == 6
    best = max(metrics(flickr_run.folder), key=lambda row: float(row["valid_average_precision"]))
    assert result["best_update"] == int(best["update"])
    for against in ("measures", "measures_user_tags"):
        assert result[against].keys() == {"cgan", "commonest", "vote", "ridge", "mlp"}
        for method, row in result[against].items():
            for interval in filter(lambda value: isinstance(value, dict), row.values()):
                assert -1 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
            assert (row["diversity"] is not None) == (method == "cgan")
            assert (row.get("cgan_minus_this_precision") is not None) == (method != "cgan")
    assert [row["dropout_rate"] for row in result["trade_off"]] == [0, 0.25, 0.5, 0.65, 0.75, 0.85, 0.92, 0.96]
    off, *_, most = [row["diversity"] for row in result["trade_off"]]
    assert 0 <= off < most <= 2
    # Every output says that these are no photos.
    assert flickr_run.printed.startswith("NOTE: there are no photos under ")
    tables = [(flickr_run.folder / name).read_text() for name in ("table2.md", "table2.html")]
    for text in (flickr_run.printed, json.dumps(result), *tables):
        assert "rendered scenes with invented tags, not photos" in text and "random" in text
    assert result["dataset"]["embedded"] is True
    assert all(row["dataset"] == "scenes (embedded)" for row in metrics(flickr_run.folder))


def again(run: FlickrRun, *more: object) -> tuple[object, ...]:
    """The command line of the run, and more."""
    return (*flickr_runs.ARGUMENTS, "--runs", run.runs, "--data-root", run.root, *more)


def test_settings_are_chosen_without_a_look_at_the_test_photos(flickr_run: FlickrRun, call: Call) -> None:
    done = call(main, *again(flickr_run, "--pairs.measured-on", "validation", "--name", "chosen-by-validation"))
    assert done.returncode == 0 and "6 validation photos" in done.stdout and "test photos" not in done.stdout
    folder = flickr_run.folder.with_name("chosen-by-validation")
    assert json.loads((folder / "result.json").read_text())["measured_on"] == "validation"
    # The same net, since training knows nothing of it; the photos shown are others.
    assert metrics(folder) == metrics(flickr_run.folder)
    shown, of_test = (
        {photo["number"] for photo in json.loads((where / "table2.json").read_text())["photos"]}
        for where in (folder, flickr_run.folder)
    )
    assert len(shown) == len(of_test) == 6 and not shown & of_test


def test_a_finished_run_is_shown_for_its_own_settings_only(flickr_run: FlickrRun, call: Call) -> None:
    before = {path: path.read_bytes() for path in flickr_run.folder.iterdir()}
    shown = call(main, *again(flickr_run, "--resume"))
    assert shown.returncode == 0 and "is finished" in shown.stdout, shown.stderr
    assert "Conditional adversarial net" in shown.stdout and "MLP regression" in shown.stdout and "NOTE" in shown.stdout
    assert_one_sentence(call(main, *again(flickr_run)), "finished run", "--name")
    # Refused before the words would be trained anew.
    done = call(main, *again(flickr_run, "--resume", "--words.epochs", 2))
    assert_one_sentence(done, "words.epochs", "another name")
    assert "epochs in" not in done.stdout
    fewer = ("--images", flickr_runs.IMAGES - 1, "--name", flickr_run.folder.name)
    assert_one_sentence(call(main, *again(flickr_run, "--resume", *fewer)), "cannot resume with another", "dataset")
    assert {path: path.read_bytes() for path in flickr_run.folder.iterdir()} == before


def test_killed_and_resumed_it_ends_bit_for_bit_the_same(flickr_run: FlickrRun, call: Call) -> None:
    arguments = again(flickr_run, "--name", "killed", "--resume")
    folder = flickr_run.folder.with_name("killed")
    process = commands.start("flickr_tags", *arguments)
    wait_until(lambda: (folder / "metrics.csv").exists() and len(metrics(folder)) >= 2, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "result.json").exists()
    done = call(main, *arguments)
    assert done.returncode == 0, done.stderr
    assert metrics(folder) == metrics(flickr_run.folder)
    for name in ("best.safetensors", "checkpoint.safetensors", "scale.safetensors"):
        ours, theirs = load_file(folder / name), load_file(flickr_run.folder / name)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value.numpy().tobytes() == theirs[key].numpy().tobytes(), (name, key)
    ours, theirs = (json.loads((place / "result.json").read_text()) for place in (folder, flickr_run.folder))
    assert ours["measures"] == theirs["measures"] and ours["measures_user_tags"] == theirs["measures_user_tags"]
    assert (folder / "table2.json").read_bytes() == (flickr_run.folder / "table2.json").read_bytes()
    assert len(ours["sessions"]) == 2


# ---- the figures of the result, computed again from the files


class Files:
    """What the files say, read with nothing of the experiment's own: tags, words, features, splits."""

    def __init__(self, run: FlickrRun) -> None:
        scenes = run.runs / "cache" / f"scenes-{flickr_runs.IMAGES}"
        numbers = range(1, flickr_runs.IMAGES + 1)
        labels: dict[int, list[str]] = {number: [] for number in numbers}
        for path in sorted((scenes / "mirflickr25k_annotations_v080").glob("*.txt")):
            if path.stem != "README" and not path.stem.endswith("_r1"):
                for line in path.read_text().split():
                    labels[int(line)].append("plant" if path.stem == "plant_life" else path.stem)
        (trained,) = (run.runs / "cache" / "word-vectors").glob("*epochs1.bin")
        keyed = KeyedVectors.load_word2vec_format(trained, binary=True)
        self.words = keyed.index_to_key
        self.units = keyed.vectors.astype(np.float64)
        self.units /= np.linalg.norm(self.units, axis=1, keepdims=True)
        known: dict[bytes, np.ndarray] = {}
        for path in (run.runs / "cache" / "features").glob("*/*.safetensors"):
            arrays = load_arrays(path)
            known |= {row.tobytes(): v for row, v in zip(arrays["images"], arrays["vectors"], strict=True)}
        self.user_tags, self.tags, features = [], [], []
        for number in numbers:
            tags = (scenes / "mirflickr" / "meta" / "tags" / f"tags{number}.txt").read_text().split()
            if tags or labels[number]:
                self.user_tags.append(set(tags))
                self.tags.append({*tags, *labels[number]})
                image = (scenes / "mirflickr" / f"im{number}.jpg").read_bytes()
                features.append(known[hashlib.sha256(image).digest()].astype(np.float64))
        self.train = range(int(0.7 * len(self.tags)))
        rest = range(len(self.train), len(self.tags))
        self.test = rest[len(rest) // 2 :]
        # The paper preset's scale: off the training images' mean, at one length.
        self.x = np.array(features) - np.mean(features[: len(self.train)], 0)
        self.x *= 20 / np.linalg.norm(self.x, axis=1, keepdims=True)
        self.known = [self.tags[i] & set(self.words) for i in self.train]
        # What can come out: seen 50 times, and a tag of a training photo (2% of 28 photos is one).
        counts = json.loads(trained.with_suffix(".json").read_text())["counts"]
        often = {word for word, count in zip(self.words, counts, strict=True) if count >= 50}
        self.possible = sorted(often & set().union(*self.known))

    def unit(self, words: Iterable[str]) -> np.ndarray:
        return self.units[[self.words.index(word) for word in sorted(words)]]


def test_the_rows_of_the_result_are_what_the_files_give(flickr_run: FlickrRun) -> None:
    files, result = Files(flickr_run), result_of(flickr_run)
    left_out = result["left_out"]
    assert result["pairs"] == sum(map(len, files.known)) and left_out["tags"] == sum(map(len, files.tags))
    assert left_out["tags without a vector"] == sum(len(tags - set(files.words)) for tags in files.tags)
    assert left_out["images without a tag"] == flickr_runs.IMAGES - len(files.tags)
    assert result["vocabulary"] == {"words": len(files.words), "decoding": len(files.possible)}

    counts = Counter(tag for of_image in files.known for tag in of_image)
    commonest = sorted(counts, key=lambda tag: (-counts[tag], tag))[:100]
    having = [i for i in files.train if files.known[i]]
    targets = np.array([files.unit(files.known[i]).mean(0) for i in having])
    ridge_map = Ridge(alpha=result["baselines"]["ridge_alpha"]).fit(files.x[having], targets)
    cosines = ridge_map.predict(files.x[list(files.test)]) @ files.unit(files.possible).T
    table = json.loads((flickr_run.folder / "table2.json").read_text())
    generated = [[tag for tag, _ in row["generated"]] for row in table["photos"]]
    assert len(generated) == len(files.test) and set().union(*generated) <= set(files.possible)
    rankings = {
        "commonest": [commonest] * len(files.test),
        "ridge": [[files.possible[i] for i in order[:100]] for order in np.argsort(-cosines, 1)],
        "cgan": generated,
    }
    for method, ranked in rankings.items():
        for against, tags in (("measures", files.tags), ("measures_user_tags", files.user_tags)):
            found = defaultdict(list)
            for ranking, true in zip(ranked, [tags[i] for i in files.test], strict=True):
                if true:
                    right = [place for place, tag in enumerate(ranking, 1) if tag in true]
                    first = sum(place <= 10 for place in right)
                    found["precision_at_10"].append(first / 10)
                    found["recall_at_10"].append(first / len(true))
                    if method != "cgan":  # Of which only ten words are kept.
                        average = sum(i / place for i, place in enumerate(right, 1)) / len(true)
                        found["mean_average_precision"].append(average)
                    if wanted := true & set(files.words):
                        near = files.unit(wanted) @ files.unit(ranking[:10]).T
                        found["best_cosine"].append(near.max(1).mean())
            row = result[against][method]
            for name, values in found.items():
                assert row[name]["value"] == pytest.approx(np.mean(values), abs=1e-6), (method, name)
            assert row["distinct_tags"] == len({tag for ranking in ranked for tag in ranking[:10]})


# ---- mistakes


def test_what_does_not_fit_is_refused_before_anything_long(tmp_path: Path, call: Call, monkeypatch: Any) -> None:
    monkeypatch.delenv("CGAN_DATA", raising=False)
    photos, runs = flickr_runs.folder_of_photos(tmp_path / "own"), tmp_path / "runs"
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "test_vit.safetensors")
    flickr_runs.write_words(tmp_path / "words.bin", [*"abcdefghijklmnopqrstuvwxyz"])
    vectors = ("--words.vectors", tmp_path / "words.bin")
    weights = ("--features.no-random-weights", "--features.weights", tmp_path / "test_vit.safetensors")
    for more, words in (
        ((*vectors, *weights, "--features.network", "test_efficientnet"), ("do not fit timm/test_efficientnet",)),
        ((*vectors, "--generator.condition-dim", 128), ("gives 64 numbers", "leave --generator.condition-dim out")),
        ((*vectors, "--features.network", "no_such_net"), ("no network is named 'no_such_net'",)),
        (
            (*vectors, "--generator.output-dim", 8, "--discriminator.input-dim", 8),
            ("vectors of 16 numbers", "output_dim is 8"),
        ),
        (("--words.vectors", tmp_path / "none.bin"), ("none.bin", "No such file")),
        ((*vectors, "--decoding.neighbours", 27), ("only 26 words are left",)),
        (("--data-root", tmp_path), ("no YFCC100M metadata", "--words.vectors")),
        ((*vectors, "--decoding.dropout-rate", 0.7), ("with dropout set",)),
        ((*vectors, "--decoding.dropout", "--decoding.dropout-rate", 1), ("between 0 and 1",)),
        ((*vectors, "--name", "a/b"), ("--name",)),
        ((*vectors, "--images", 3), ("--images 3",)),
        ((*vectors, "--dataset", tmp_path / "none"), ("neither a folder nor a set of photos",)),
    ):
        command = ("paper", *flickr_runs.NETS, "--dataset", photos, "--runs", runs, *more)
        assert_one_sentence(call(main, *command), *words)
    assert not list(runs.rglob("*.safetensors"))


def test_a_run_that_diverges_is_refused_and_recorded(flickr_run: FlickrRun, call: Call) -> None:
    command = again(flickr_run, "--name", "lost")
    done = call(main, *command, "--training.learning-rate", "1e8", "--training.averaging", 0)
    assert_one_sentence(done, "learning_rate")
    folder = flickr_run.folder.with_name("lost")
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "diverged" and result["reason"] in done.stderr
    assert not (folder / "table2.html").exists()
