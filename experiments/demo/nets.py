"""The nets at hand, and what the page of ``experiments.demo`` asks of them.

Reads runs and data sets that are on the disk; trains nothing, downloads nothing and keeps nothing.
"""

from __future__ import annotations

import base64
import io
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cgan import CganError
from cgan.devices import seeded
from cgan.metrics.neighbours import nearest_neighbours
from cgan.networks import interpolate_noise, sample_noise
from data.digits import load_digits_28
from data.download import UnavailableError
from data.labelled import ImageDataset
from data.mnist import load_mnist
from experiments import UsageError
from experiments.flickr_tags.tag import load_tagger, tag_photos
from experiments.generators import TrainedGenerator, load_generator, names
from experiments.mnist.presets import MnistConfig
from experiments.mnist.sampling import from_pixels, sample_images, to_pixels
from experiments.runs.cli import USER_ERRORS, check_choice, sentence
from experiments.runs.folder import CONFIG, RESULT, Experiment, RunFolder
from experiments.runs.records import DatasetRecord
from experiments.runs.training import read_settings

#: Images of a draw and of a walk, nearest training images, real images beside them, and tags of a photo.
SAMPLES, STEPS, NEAREST, REAL, TAGS = 10, 33, 6, 100, 20

NO_MNIST = "MNIST is not on this disk: make mnist fetches it, or --data-root names the folder that holds MNIST/raw."
NO_D = "D is not part of this net, of which only the generator was published: make mnist trains both."


@dataclass(frozen=True)
class Net:
    """A net that can be chosen, and what a reader must know of it."""

    name: str
    source: str
    """The run's folder, or the name of a generator that comes with this package."""
    written: int
    """When the weights were written, in nanoseconds: the run may be at work. 0 of such a generator."""
    experiment: Experiment
    dataset: DatasetRecord
    classes: int
    """Labels that a net of digits takes; 0 if it takes none."""
    about: str


published = lru_cache(None)(load_generator)


def find_nets(runs: Path) -> tuple[dict[str, Net], list[str]]:
    """Return the nets below ``runs`` by name, such as mnist/paper-seed1, and a sentence on each damaged run.

    Finished runs stand first, the generators that come with this package last.
    """
    nets, notes = {}, []
    paths = [path for name in ("mnist", "flickr-tags") for path in runs.glob(f"{name}/[!.]*/{CONFIG}")]
    for path in sorted(paths, key=lambda path: (not (path.parent / RESULT).exists(), path)):
        folder, name = RunFolder(path.parent), f"{path.parent.parent.name}/{path.parent.name}"
        if not folder.best_path.exists():  # It has not come to its first estimate.
            continue
        try:
            record, classes, written = folder.read_config(), 0, folder.best_path.stat().st_mtime_ns
            if record.experiment == "mnist":
                spec = read_settings(folder, record, MnistConfig.from_dict).generator
                classes = 0 if spec.condition == "none" else spec.condition_dim
        except USER_ERRORS as error:
            notes.append(sentence(error))
            continue
        state = "" if folder.result_path.exists() else ", not finished"
        about = f"Trained on {record.dataset.name}{state}." + (f" Note: {record.notice}." if record.notice else "")
        nets[name] = Net(name, str(folder.path), written, record.experiment, record.dataset, classes, about)
    for name in names():
        net = published(name)
        notice = f" Note: {net.config.notice}." if net.config.notice else ""
        about = f"Trained on {net.config.dataset.name}; comes with this package.{notice}"
        nets[name] = Net(name, name, 0, net.config.experiment, net.config.dataset, net.classes or 0, about)
    return nets, notes


class Nets:
    """Answers the page, one question at a time; every answer is a dictionary for JSON.

    All raise one of ``USER_ERRORS`` where the net is unknown or damaged, or a number is out of range.
    """

    def __init__(self, runs: Path, root: Path, weights: Path | None = None) -> None:
        """``root`` is the data root, ``weights`` the weights file of the tag nets' frozen network (None: their own)."""
        self.runs, self.root, self.lock = runs, root, Lock()
        self._digits = lru_cache(4)(lambda net: load_generator(net.source, "mnist"))
        self._tagger = lru_cache(1)(lambda net: load_tagger(net.source, weights))
        self._images = lru_cache(2)(self._load_images)
        self._real = lru_cache(None)(self._real_distance)

    def samples(self, name: str, label: int, seed: int) -> dict[str, Any]:
        """Return ten images of the label, and the update that the weights are of."""
        with self.lock:
            net, loaded = self._net(name, label)
            return {"images": _png(_draw(net, loaded, label, seed)), "update": loaded.weights.update}

    def walk(self, name: str, label: int, seed: int) -> dict[str, Any]:
        """Return the images of the label on the way from one noise vector to another."""
        with self.lock:
            net, loaded = self._net(name, label)
            spec = loaded.generator.spec
            start, end = sample_noise(spec.noise, (2, spec.input_dim), seeded(seed, "interpolation"))
            z = interpolate_noise(start, end, STEPS, spherical=spec.noise == "normal")
            with torch.no_grad():
                images = to_pixels(loaded.generator(z, _labels(net, label, STEPS)), spec.output)
            return {"images": _png(images)}

    def closer(self, name: str, label: int, seed: int, index: int) -> dict[str, Any]:
        """Return what is near to one of the ten images, and what D says to it; a sentence where one is not at hand."""
        with self.lock:
            net, loaded = self._net(name, label)
            images = _draw(net, loaded, label, seed).roll(-index, 0)
            try:
                train, real = self._images(net.dataset).train, self._real(net.dataset, label if net.classes else None)
            except USER_ERRORS as error:
                near: dict[str, Any] = {"missing": sentence(error)}
            else:
                indices, distances = nearest_neighbours(images[:1], torch.from_numpy(train.images), NEAREST)
                shown, labels = torch.from_numpy(train.images)[indices[0]], train.labels[indices[0].numpy()].tolist()
                near = {"images": _png(shown), "labels": labels, "distances": distances[0].tolist(), "real": real}
            return {"near": near, "judged": judge(loaded, images)}

    def tags(self, name: str, seed: int, photo: bytes) -> dict[str, Any]:
        """Return the commonest tags of the photo, each with the share of samples near it."""
        with self.lock, tempfile.TemporaryDirectory() as folder:
            tagger = self._tagger(self._find(name, "flickr-tags"))
            path = Path(folder, "photo")
            path.write_bytes(photo)
            found, skipped = tag_photos(tagger, [path], TAGS, seed)
            if skipped:
                raise UsageError(f"this photo cannot be used: {skipped[str(path)]}; choose another")
            return {"tags": found[str(path)], "samples": tagger.config.decoding.samples}

    def _find(self, name: str, experiment: Experiment) -> Net:
        nets = {name: net for name, net in find_nets(self.runs)[0].items() if net.experiment == experiment}
        check_choice(name, tuple(nets), "net")
        return nets[name]

    def _net(self, name: str, label: int) -> tuple[Net, TrainedGenerator]:
        net = self._find(name, "mnist")
        if net.classes and label >= net.classes:
            raise UsageError(f"label {label}: {name} knows 0 to {net.classes - 1}")
        return net, self._digits(net)

    def _real_distance(self, record: DatasetRecord, label: int | None) -> float:
        """Return the median distance of real test images, of the label if there is one, from the training images."""
        dataset = self._images(record)
        images = dataset.test.images if label is None else dataset.test.images[dataset.test.labels == label]
        _, distances = nearest_neighbours(torch.from_numpy(images[:REAL]), torch.from_numpy(dataset.train.images), 1)
        return distances.median().item()

    def _load_images(self, record: DatasetRecord) -> ImageDataset:
        try:
            dataset = load_digits_28() if record.embedded else load_mnist(self.root, download=False)
        except UnavailableError:
            raise UsageError(NO_MNIST) from None
        if dataset.checksum != record.checksum:
            raise UsageError(f"this net was trained on other images than those of {dataset.name} here")
        return dataset


def judge(loaded: TrainedGenerator, images: Tensor) -> dict[str, Any]:
    """Return D's probability that the first of ``images`` (n, pixels) is real, under every label.

    A D that judges packs is shown the images that follow as well.
    """
    if (D := loaded.discriminator) is None:
        return {"missing": NO_D}
    pack = D.spec.pack
    rows = from_pixels(images[torch.arange(pack) % len(images)], loaded.generator.spec.output).reshape(1, -1)
    labels = torch.arange(D.spec.condition_dim) if D.spec.condition != "none" else None
    with torch.no_grad():
        real = D(rows if labels is None else rows.expand(len(labels), -1), labels).sigmoid().tolist()
    return {"real": real, "labels": labels is not None, "pack": pack}


def _draw(net: Net, loaded: TrainedGenerator, label: int, seed: int) -> Tensor:
    """Return ten images (10, pixels) in [0, 1]; the noise is the same for every label."""
    dropout = loaded.sampling.drawing_dropout
    return sample_images(loaded.generator, _labels(net, label, SAMPLES), SAMPLES, seeded(seed, "samples"), dropout)


def _labels(net: Net, label: int, n: int) -> Tensor | None:
    return torch.full((n,), label) if net.classes else None


def _png(images: Tensor) -> list[str]:
    """Return square images (n, pixels) in [0, 1] as data addresses of PNG files."""
    if not images.isfinite().all():
        raise CganError("this net gives numbers that are not finite: it has diverged; choose another")
    side = round(images.shape[1] ** 0.5)
    found = []
    for pixels in images.clamp(0, 1).mul(255).round().byte().view(-1, side, side).numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        found.append(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}")
    return found
