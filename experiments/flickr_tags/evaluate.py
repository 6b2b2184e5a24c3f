"""What the multimodal experiment measures: estimates while it trains; tags, rivals, tables and figures at the end.

Trains no game; the rivals are ``experiments.tagging``'s, the measures ``experiments.tag_measures``'s.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import UsageError
from experiments.flickr_tags.baselines import METHODS
from experiments.flickr_tags.dataset import FlickrData, decoding_vocabulary
from experiments.flickr_tags.presets import FlickrConfig
from experiments.runs import folder as runs
from experiments.runs.figures import Panel

if TYPE_CHECKING:
    import torch

    from cgan.networks import Generator
    from cgan.trainer import Estimate, Trainer
    from embeddings.decoding import Decoded
    from embeddings.vocabulary import Vocabulary

#: Words of a ranking that average precision looks at.
DEPTH = 100
#: Vectors that are drawn before they are decoded.
HELD = 20_000
#: Numbers of nearest training images among which the voting rival's is chosen on validation images.
VOTERS = (5, 10, 20, 40, 80)
#: Share of the training photos that makes a word a tag, where that is fewer than ``decoding.min_photos``.
FEW_PHOTOS = 0.02
#: Photos of Table 2.
SHOWN = 24


def taggable(data: FlickrData, config: FlickrConfig) -> Vocabulary:
    """The words that can come out: of ``decoding_vocabulary`` those that ``decoding.min_photos`` training photos have.

    In a small set 2% of the training photos are enough. Raises ``UsageError`` when fewer are left than a sample takes.
    """
    from embeddings.vocabulary import Vocabulary

    vocabulary, settings = decoding_vocabulary(data.vocabulary, config), config.decoding
    train = data.splits.train.tolist()
    least = min(settings.min_photos, math.ceil(FEW_PHOTOS * len(train)))
    photos_with = Counter(tag for i in train for tag in set(data.tags[i]))
    kept = [rank for rank, word in enumerate(vocabulary.words) if photos_with[word] >= least]
    if len(kept) < settings.neighbours:
        raise UsageError(
            f"only {len(kept)} words are a tag of {least} training photos or more, but decoding takes the "
            f"{settings.neighbours} nearest of each sample: lower decoding.min_photos or decoding.neighbours"
        )
    counts = None if vocabulary.counts is None else vocabulary.counts[kept]
    result = Vocabulary([vocabulary.words[rank] for rank in kept], vocabulary.vectors[kept], counts)
    result.info = vocabulary.info
    return result


def sampled(generator: Generator, features: np.ndarray, samples: int, rng: torch.Generator) -> Iterator[np.ndarray]:
    """``samples`` vectors for each row of ``features`` (n, f), in blocks (b, samples, d)."""
    import torch

    size = max(1, HELD // samples)
    for start in range(0, len(features), size):
        y = torch.from_numpy(features[start : start + size]).to(rng.device)
        vectors = generator.sample(y.repeat_interleave(samples, 0), len(y) * samples, rng)
        yield vectors.view(len(y), samples, -1).cpu().numpy()


@dataclass(frozen=True, eq=False)
class Tagged:
    """Rankings of words for images, what was decoded, and each image's diversity between samples (n,)."""

    rankings: list[list[str]]
    decoded: Decoded
    diversity: np.ndarray


def tag(
    generator: Generator,
    features: np.ndarray,
    vocabulary: Vocabulary,
    config: FlickrConfig,
    rng: torch.Generator,
    *,
    words: int = DEPTH,
    progress: bool = False,
) -> Tagged:
    """Section 4.2's tags of images with (scaled) ``features``: samples, their nearest words, the commonest of these."""
    from embeddings.decoding import decode
    from experiments.flickr_tags.measures import sample_diversity

    settings = config.decoding
    diversity: list[np.ndarray] = []

    def blocks() -> Iterator[np.ndarray]:
        for block in sampled(generator, features, settings.samples, rng):
            if np.isfinite(block).all() and block.any(2).all():  # Else ``decode`` says what is wrong.
                diversity.append(sample_diversity(block))
            yield block

    decoded = decode(vocabulary, blocks(), settings.neighbours, words, device=str(rng.device), progress=progress)
    return Tagged(decoded.rankings(vocabulary), decoded, np.concatenate(diversity) if diversity else np.empty(0))


class Estimator:
    """Tags validation images and measures them: mean average precision decides the stopping point."""

    def __init__(self, config: FlickrConfig, data: FlickrData, device: torch.device) -> None:
        self.config, self.data, self.device = config, data, device
        self.vocabulary = taggable(data, config)
        self.images = data.splits.valid[: config.estimate_images]

    def __call__(self, trainer: Trainer) -> Estimate:
        """The estimate of one moment. The noise is the same each time, so that estimates differ by the net alone."""
        from cgan.devices import seeded
        from cgan.trainer import Estimate
        from embeddings import EmbeddingError
        from experiments.flickr_tags.measures import average_precision, distinct, precision

        rng = seeded(trainer.seed, "estimates", device=self.device)
        try:
            found = tag(trainer.sampler, self.data.features[self.images], self.vocabulary, self.config, rng)
        except EmbeddingError:  # A vector without a direction (``prepare`` checked all else): dead must not look alive.
            return Estimate(float("nan"), {}, "")
        truth = [self.data.tags[i] for i in self.images.tolist()]
        at = self.config.decoding.words
        columns = {
            "valid_average_precision": float(np.nanmean(average_precision(found.rankings, truth, DEPTH))),
            "valid_precision": float(np.nanmean(precision(found.rankings, truth, at))),
            "distinct_tags": distinct(found.rankings, at),
            "diversity": float(np.nanmean(found.diversity)) if self.config.decoding.samples > 1 else 0.0,
        }
        line = (
            f"validation: average precision {columns['valid_average_precision']:.3f}, precision at {at} "
            f"{columns['valid_precision']:.3f}, {columns['distinct_tags']} different tags, diversity "
            f"{columns['diversity']:.2f}"
        )
        return Estimate(columns["valid_average_precision"], columns, line)


# ---------------------------------------------------------------------------------------------------------------------
# The comparison


def rivals(data: FlickrData, vocabulary: Vocabulary, seed: int, score: Any) -> tuple[dict[str, list[list[str]]], dict]:
    """Rankings of the test images by the four other methods, and what was chosen for them on validation images.

    They learn from the training images and the tags that have a vector, as the game does. ``score`` takes rankings of
    validation images; the greater the better.
    """
    from experiments.flickr_tags import baselines as tagging

    train, valid, test = data.splits.train, data.splits.valid, data.splits.test
    known = [[word for word in data.tags[i] if word in data.vocabulary] for i in train.tolist()]
    x, valid_x, test_x = data.features[train], data.features[valid], data.features[test]
    having, vectors = tagging.mean_tag_vectors(known, data.vocabulary)
    valid_having, valid_vectors = tagging.mean_tag_vectors([data.tags[i] for i in valid.tolist()], data.vocabulary)
    voters = max(VOTERS, key=lambda k: score(tagging.vote(x, known, valid_x, k, DEPTH)))
    best, tried = tagging.choose_alpha(x[having], vectors, valid_x, vocabulary, score, words=DEPTH)
    alpha = tried[best][0]
    rankings = {
        "commonest": tagging.commonest(known, len(test), DEPTH),
        "vote": tagging.vote(x, known, test_x, voters, DEPTH),
        "ridge": tagging.ridge(x[having], vectors, test_x, vocabulary, alpha, DEPTH),
        "mlp": tagging.mlp(
            x[having],
            vectors,
            valid_x[valid_having],
            valid_vectors,
            test_x,
            vocabulary,
            DEPTH,
            seed=seed,
            progress=sys.stderr.isatty(),
        ),
    }
    return rankings, {"vote_neighbours": voters, "ridge_alpha": alpha}


def compare(
    rankings: dict[str, list[list[str]]],
    truth: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    words: int,
    diversity: np.ndarray,
) -> dict[str, dict[str, Any]]:
    """Every measure of every method with its bootstrap interval over images; for rivals also cgan minus rival."""
    from experiments.flickr_tags.measures import bootstrap, distinct, paired_difference, per_image

    names = {"precision": f"precision_at_{words}", "recall": f"recall_at_{words}", "f1": f"f1_at_{words}"}
    names |= {"average_precision": "mean_average_precision", "hit": f"hit_at_{words}", "best_cosine": "best_cosine"}
    values = {method: per_image(ranking, truth, vocabulary, words, DEPTH) for method, ranking in rankings.items()}
    result: dict[str, dict[str, Any]] = {}
    for method, ranking in rankings.items():
        row: dict[str, Any] = {name: _interval(bootstrap(values[method][key])) for key, name in names.items()}
        row["distinct_tags"] = distinct(ranking, words)
        row["diversity"] = _interval(bootstrap(diversity)) if method == "cgan" and len(diversity) else None
        if method != "cgan" and "cgan" in values:
            difference = paired_difference(values["cgan"]["precision"], values[method]["precision"])
            row["cgan_minus_this_precision"] = _interval(difference)
        result[method] = row
    return result


def _interval(interval: Any) -> dict[str, float] | None:
    """JSON-ready, None where no image had a value."""
    if not np.isfinite(interval.mean):
        return None
    return {"value": interval.mean, "low": interval.low, "high": interval.high}


def notice_of(data: FlickrData) -> str | None:
    """What a reader of any figure from these data must know first: of the photos, and of an untrained network."""
    untrained = "the image features come from a network with random weights"
    told = [data.photos.notice, untrained if data.network["weights"] == "random" else None]
    return "; ".join(sentence.rstrip(".") for sentence in told if sentence) or None


def finish(
    folder: Path,
    config: FlickrConfig,
    data: FlickrData,
    record: dict[str, Any],
    generator: Generator,
    update: int,
    state: dict[str, Any],
) -> dict[str, Any]:
    """Tag the test images with the net of the stopping point and by every rival; write tables, figures, results.

    ``state`` is the checkpoint's record.
    """
    from cgan.devices import seeded
    from experiments.flickr_tags.measures import average_precision
    from experiments.runs import figures
    from experiments.runs.photo_table import write_table2

    started = time.monotonic()
    vocabulary, words = taggable(data, config), config.decoding.words
    test, valid_tags = data.splits.test, [data.tags[i] for i in data.splits.valid.tolist()]
    rng = seeded(record["seed"], "samples")
    found = tag(generator, data.features[test], vocabulary, config, rng, progress=sys.stderr.isatty())

    def score(ranking: list[list[str]]) -> float:
        return float(np.nanmean(average_precision(ranking, valid_tags, DEPTH)))

    others, chosen = rivals(data, vocabulary, record["seed"], score)
    rankings = {"cgan": found.rankings, **others}
    truth = {
        "measures": [data.tags[i] for i in test.tolist()],
        "measures_user_tags": [data.user_tags[i] for i in test.tolist()],
    }
    progress = state["progress"]
    result: dict[str, Any] = {
        "experiment": "flickr-tags",
        "preset": record["preset"],
        "status": "finished",
        "stopped_by": "patience" if progress["without_best"] >= config.stopping.patience else "max_updates",
        "dataset": record["dataset"],
        "seed": record["seed"],
        "updates": state["trainer"]["t"],
        "best_update": update,
        "seconds": progress["seconds"],
        "images": {name: len(getattr(data.splits, name)) for name in ("train", "valid", "test")},
        "test_images": len(test),
        "pairs": len(data.pairs.images),
        "vocabulary": {"words": len(data.vocabulary), "decoding": len(vocabulary)},
        "left_out": data.counts,
        "network": data.network,
        **{
            name: compare(rankings, of_images, data.vocabulary, words, found.diversity)
            for name, of_images in truth.items()
        },
        "rivals": chosen,
        **{name: record[name] for name in ("device", "precision", "threads", "sessions")},
        "notice": notice_of(data),
        "measuring_seconds": time.monotonic() - started,
        "environment": runs.environment(),
    }
    write_table2(
        folder,
        table2_rows(data, found, words),
        title=f"Table 2: user tags, annotations and generated tags — {record['dataset']['name']}",
        notice=result["notice"],
        caption=(
            f"Held-out photos. {config.decoding.samples} vectors were drawn for each; of the "
            f"{config.decoding.neighbours} words nearest to every one, the {words} commonest are shown, each with the "
            "share of samples near it."
        ),
    )
    history = progress["history"]
    place = next(row["epoch"] for row in history if row["update"] == progress["best_t"])
    name = record["dataset"]["name"]
    figures.curves(history, folder / "curves.png", chosen=place, panels=PANELS, title=f"Training — {name}")
    for key, what in (("measures", "tags and annotations"), ("measures_user_tags", "user tags alone")):
        rows = {METHODS[method]: row[f"precision_at_{words}"] for method, row in result[key].items()}
        figures.interval_bars(
            {method: (row["value"], row["low"], row["high"]) for method, row in rows.items() if row},
            folder / ("precision.png" if key == "measures" else "precision_user_tags.png"),
            axis=f"precision at {words} against {what} (95% interval over {len(test)} photos)",
            title=f"Which method tags best? — {name}",
        )
    runs.write_json(folder / runs.RESULT, result)
    return result


def table2_rows(data: FlickrData, found: Tagged, words: int) -> list[Any]:
    """Test photos evenly spread over the split, with their tags and what was generated."""
    from experiments.runs.photo_table import PhotoRow

    test = data.splits.test
    rows = []
    for place in np.unique(np.linspace(0, len(test) - 1, min(SHOWN, len(test))).round().astype(int)).tolist():
        image = int(test[place])
        at = int(data.rows[image])
        shares = found.decoded.shares[place].tolist()
        rows.append(
            PhotoRow(
                number=int(data.photos.numbers[at]),
                path=data.photos.paths[at],
                user_tags=list(data.photos.tags[at]),
                annotations=list(data.photos.annotations[at]),
                generated=list(zip(found.rankings[place][:words], shares[:words], strict=False)),
                right=set(data.tags[image]),
            )
        )
    return rows


def summary(result: dict[str, Any]) -> str:
    """A run's result in a few lines for the terminal."""
    if result["status"] != "finished":
        return f"{result['status']}: {result['reason']}"
    d = result["dataset"]
    lines = [
        f"dataset {d['name']}; kept the weights of update {result['best_update']:,} of {result['updates']:,} "
        f"({result['seconds'] / 60:.1f} min of training, stopped by {result['stopped_by']}); "
        f"{result['test_images']} test photos"
    ]
    for key, what in (("measures", "user tags and annotations"), ("measures_user_tags", "user tags alone")):
        lines += [f"against {what}, with 95% intervals over photos:", *_table(result[key])]
    if result["notice"]:
        lines.append(f"NOTE: {result['notice']}.")
    return "\n".join(lines)


def _table(measures: dict[str, dict[str, Any]]) -> list[str]:
    """Aligned rows, one for each method."""
    names = [name for name, value in measures["cgan"].items() if isinstance(value, dict) and name != "diversity"]
    rows = [["", *(name.replace("_", " ") for name in names), "different tags"]]
    for method, row in measures.items():
        cells = [
            "-" if row[name] is None else f"{row[name]['value']:.3f} ({row[name]['low']:.3f}-{row[name]['high']:.3f})"
            for name in names
        ]
        rows.append([METHODS[method], *cells, str(row["distinct_tags"])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


#: What the curves show.
PANELS = (
    Panel("validation images", {"valid_average_precision": "mean average precision", "valid_precision": "precision"}),
    Panel("loss (nats)", {"d_loss": "discriminator D", "g_loss": "generator G"}),
    Panel("cosine distance", {"diversity": "between the samples of an image, on average"}),
)
