"""Measure a net of the multimodal experiment: estimates while it trains, tags and their measures at the end.

The baselines are ``flickr_tags.baselines``, the measures ``flickr_tags.measures``; ``flickr_tags.output`` shows them.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cgan.devices import seeded
from cgan.loop import Estimate
from cgan.networks import Generator
from cgan.trainer import Trainer
from embeddings import EmbeddingError
from embeddings.decoding import decode
from embeddings.vocabulary import Vocabulary
from experiments import UsageError
from experiments.flickr_tags import baselines, one_to_many
from experiments.flickr_tags.baselines import Rankings, Regressor
from experiments.flickr_tags.dataset import FlickrData, decoding_vocabulary
from experiments.flickr_tags.measures import (
    average_precision,
    bootstrap,
    distinct,
    highest_precision,
    per_image,
    precision,
    sample_diversity,
)
from experiments.flickr_tags.output import write_figures
from experiments.flickr_tags.presets import FlickrConfig
from experiments.runs.folder import environment
from experiments.runs.records import FlickrResult, MethodMeasures, TradeOffPoint
from experiments.runs.training import Run, load_networks, training_end

#: Words of a ranking that average precision looks at.
DEPTH = 100
#: Vectors drawn before they are decoded.
VECTORS_AT_ONCE = 20_000
#: Numbers of nearest training images from which validation chooses that of the voting baseline.
VOTERS = (5, 10, 20, 40, 80)
#: Rates of G's dropout while drawing that are compared; 0 is off.
DROPOUT_RATES = (0.0, 0.25, 0.5, 0.65, 0.75, 0.85, 0.92, 0.96)
#: Share of the training photos that makes a word a tag, where that is fewer than ``decoding.min_photos``.
FEW_PHOTOS = 0.02


def taggable(data: FlickrData, config: FlickrConfig) -> Vocabulary:
    """Return the words that can be generated: those of ``decoding_vocabulary`` that enough training photos have.

    Enough are ``decoding.min_photos``, or 2% of the training photos if that is fewer. Raises ``UsageError`` when fewer
    words are left than a sample takes.
    """
    vocabulary, settings = decoding_vocabulary(data.vocabulary, config), config.decoding
    train = data.splits.train.tolist()
    least = min(settings.min_photos, math.ceil(FEW_PHOTOS * len(train)))
    photos_with = Counter(tag for i in train for tag in set(data.tags[i]))
    kept = [rank for rank, word in enumerate(vocabulary.words) if photos_with[word] >= least]
    if len(kept) < settings.neighbours:
        raise UsageError(
            f"only {len(kept)} words are a tag of {least} training photos or more, but decoding takes the "
            f"{settings.neighbours} nearest of each sample: lower --decoding.min-photos or --decoding.neighbours"
        )
    return vocabulary.subset(kept)


def sample_vectors(
    generator: Generator, features: np.ndarray, samples: int, rng: torch.Generator, dropout: bool | float = False
) -> Iterator[np.ndarray]:
    """Yield ``samples`` vectors for each row of ``features`` (n, f), in blocks (b, samples, d)."""
    size = max(1, VECTORS_AT_ONCE // samples)
    for start in range(0, len(features), size):
        y = torch.from_numpy(features[start : start + size]).to(rng.device)
        vectors = generator.sample(y.repeat_interleave(samples, 0), len(y) * samples, rng, dropout=dropout)
        yield vectors.view(len(y), samples, -1).cpu().numpy()


class Estimator:
    """Tags validation images and measures them; mean average precision decides the stopping point."""

    def __init__(self, config: FlickrConfig, data: FlickrData, device: torch.device) -> None:
        self.config, self.data, self.device = config, data, device
        self.vocabulary = taggable(data, config)
        self.images = data.splits.valid[: config.estimate_images]

    def __call__(self, trainer: Trainer) -> Estimate:
        """Return the estimate of one moment, with the same noise each time: estimates differ by the net alone."""
        settings, rng = self.config.decoding, seeded(trainer.seed, "estimates", device=self.device)
        features = self.data.features[self.images]
        blocks = sample_vectors(trainer.sampler, features, settings.samples, rng, settings.drawing_dropout)
        vectors = np.concatenate(list(blocks))
        try:
            decoded = decode(self.vocabulary, vectors, settings.neighbours, DEPTH, device=str(self.device))
        except EmbeddingError:  # A vector that is zero or not finite: the training has diverged.
            return Estimate(float("nan"), {}, "")
        rankings, at = decoded.rankings(self.vocabulary), settings.words
        truth = [self.data.tags[i] for i in self.images.tolist()]
        columns: dict[str, float] = {
            "valid_average_precision": float(np.nanmean(average_precision(rankings, truth, DEPTH))),
            "valid_precision": float(np.nanmean(precision(rankings, truth, at))),
            "distinct_tags": distinct(rankings, at),
            "diversity": float(np.nanmean(sample_diversity(vectors))) if settings.samples > 1 else 0.0,
        }
        score, right, different, diversity = columns.values()
        line = (
            f"validation: average precision {score:.3f}, precision at {at} {right:.3f}, {different} different tags, "
            f"diversity {diversity:.2f}"
        )
        return Estimate(score, columns, line)


def rank_by_baselines(
    data: FlickrData, vocabulary: Vocabulary, seed: int, score: Callable[[Rankings], float]
) -> tuple[dict[str, Rankings], dict[str, float], Regressor]:
    """Return each baseline's rankings of the test images, the settings that validation images chose, and the MLP.

    They learn from the training images and those of their tags that have a vector, as the cGAN does. ``score`` takes
    rankings of the validation images; greater is better.
    """
    train, valid, test = data.splits.train, data.splits.valid, data.splits.test
    known = [[word for word in data.tags[i] if word in data.vocabulary] for i in train.tolist()]
    x, valid_x, test_x = data.features[train], data.features[valid], data.features[test]
    having, vectors = baselines.mean_tag_vectors(known, data.vocabulary)
    valid_having, valid_vectors = baselines.mean_tag_vectors([data.tags[i] for i in valid.tolist()], data.vocabulary)

    def ridge(features: np.ndarray, alpha: float) -> Rankings:
        predicted = baselines.ridge_vectors(x[having], vectors, features, alpha)
        return baselines.nearest_words(predicted, vocabulary, DEPTH)

    voters = max(VOTERS, key=lambda k: score(baselines.vote(x, known, valid_x, k, DEPTH)))
    # Of penalties that score the same the greatest.
    alpha = max(baselines.alpha_grid(x[having]), key=lambda each: (score(ridge(valid_x, each)), each))
    regressor = baselines.train_mlp(
        x[having], vectors, valid_x[valid_having], valid_vectors, seed=seed, progress=sys.stderr.isatty()
    )
    rankings = {
        "commonest": [baselines.commonest(known)[:DEPTH]] * len(test),
        "vote": baselines.vote(x, known, test_x, voters, DEPTH),
        "ridge": ridge(test_x, alpha),
        "mlp": baselines.nearest_words(regressor.vectors(test_x), vocabulary, DEPTH),
    }
    return rankings, {"vote_neighbours": voters, "ridge_alpha": alpha}, regressor


def compare(
    rankings: dict[str, Rankings],
    truth: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    words: int,
    diversity: np.ndarray,
) -> dict[str, MethodMeasures]:
    """Return each method's measures with bootstrap intervals over images; for baselines also cgan minus baseline."""
    values = {method: per_image(ranking, truth, vocabulary, words, DEPTH) for method, ranking in rankings.items()}
    result = {}
    for method, own in values.items():
        more = {"diversity": bootstrap(diversity)}
        if method != "cgan":
            # Photo by photo: that some photos are hard for both methods cancels out.
            difference = values["cgan"]["precision_at_10"] - own["precision_at_10"]
            more = {"cgan_minus_this_precision": bootstrap(difference)}
        means: dict[str, Any] = {name: bootstrap(of_images) for name, of_images in own.items()}
        result[method] = MethodMeasures(distinct_tags=distinct(rankings[method], words), **means, **more)
    return result


def trade_off(
    generator: Generator, config: FlickrConfig, data: FlickrData, vocabulary: Vocabulary, seed: int
) -> list[TradeOffPoint]:
    """Return the measures of samples of the validation photos at each of ``DROPOUT_RATES``; [] without dropout."""
    images, settings = data.splits.valid[: config.estimate_images], config.decoding
    tags = [data.tags[i] for i in images.tolist()]
    taggable_tags = [[tag for tag in of_image if tag in vocabulary] for of_image in tags]
    rows = []
    for rate in DROPOUT_RATES if generator.has_dropout else ():
        rng = seeded(seed, "samples")
        blocks = sample_vectors(generator, data.features[images], settings.samples, rng, rate)
        vectors = np.concatenate(list(blocks))
        words = one_to_many.nearest_word(vectors, vocabulary)
        found = one_to_many.measure(words, sample_diversity(vectors), taggable_tags)
        rankings = decode(vocabulary, vectors, settings.neighbours, DEPTH).rankings(vocabulary)
        if found.diversity is None or found.coverage is None or found.correctness is None:
            return []  # One sample a photo, or no photo with a tag that can be generated.
        rows.append(
            TradeOffPoint(
                dropout_rate=rate,
                diversity=found.diversity.value,
                coverage=found.coverage.value,
                correctness=found.correctness.value,
                precision_at_10=float(np.nanmean(precision(rankings, tags, settings.words))),
                mean_average_precision=float(np.nanmean(average_precision(rankings, tags, DEPTH))),
            )
        )
    return rows


def measure_run(this: Run, config: FlickrConfig, data: FlickrData) -> FlickrResult:
    """Tag the test images by the net of the stopping point and by the baselines; write tables, figures, the result.

    With ``pairs.measured_on`` validation, the validation images take the place of the test images.
    """
    images = {name: len(getattr(data.splits, name)) for name in ("train", "valid", "test")}
    if config.pairs.measured_on == "validation":
        data = replace(data, splits=replace(data.splits, test=data.splits.valid))
    folder, record, settings, test = this.folder, this.config, config.decoding, data.splits.test
    end = training_end(folder, this.stopping)
    generator, _, update = load_networks(folder, record, config.generator, config.discriminator)
    vocabulary, words, x = taggable(data, config), settings.words, data.features[test]
    vectors = {}
    for name, dropout in (("cgan", False), ("cgan_dropout", settings.dropout_rate or True)):
        rng = seeded(record.seed, "samples")
        vectors[name] = np.concatenate(list(sample_vectors(generator, x, settings.samples, rng, dropout)))
    drawn = vectors["cgan_dropout" if settings.dropout else "cgan"]
    decoded = decode(vocabulary, drawn, settings.neighbours, DEPTH, progress=sys.stderr.isatty())
    diversity = sample_diversity(drawn)
    valid_tags = [data.tags[i] for i in data.splits.valid.tolist()]

    def score(rankings: Rankings) -> float:
        return float(np.nanmean(average_precision(rankings, valid_tags, DEPTH)))

    of_baselines, chosen, regressor = rank_by_baselines(data, vocabulary, record.seed, score)
    rankings = {"cgan": decoded.rankings(vocabulary), **of_baselines}
    truth, user_tags = ([tags[i] for i in test.tolist()] for tags in (data.tags, data.user_tags))
    result = FlickrResult(
        preset=record.preset,
        stopped_by=end.stopped_by,
        dataset=record.dataset,
        seed=record.seed,
        updates=end.updates,
        best_update=update,
        seconds=end.seconds,
        weights=folder.best_weights(),
        images=images,
        measured_on=config.pairs.measured_on,
        test_images=len(test),
        pairs=len(data.pairs.images),
        vocabulary={"words": len(data.vocabulary), "decoding": len(vocabulary)},
        highest_precision=highest_precision(truth, vocabulary, words),
        highest_precision_user_tags=highest_precision(user_tags, vocabulary, words),
        left_out=data.counts,
        network=data.network,
        measures=compare(rankings, truth, data.vocabulary, words, diversity),
        measures_user_tags=compare(rankings, user_tags, data.vocabulary, words, diversity),
        one_to_many=one_to_many.compare(
            data, vocabulary, vectors, int(chosen["vote_neighbours"]), chosen["ridge_alpha"], regressor, record.seed
        ),
        trade_off=trade_off(generator, config, data, vocabulary, record.seed),
        baselines=chosen,
        device=record.device,
        precision=record.precision,
        threads=record.threads,
        sessions=record.sessions,
        notice=record.notice,
        environment=environment(),
    )
    write_figures(this, config, data, decoded, vocabulary, drawn, result, end)
    folder.write_result(result)
    return result
