"""Measure a net of the multimodal experiment: estimates while it trains, tags, tables and figures at the end.

The baselines are ``flickr_tags.baselines``, the measures ``flickr_tags.measures``.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import UsageError
from experiments.flickr_tags import one_to_many
from experiments.flickr_tags.baselines import Rankings, Regressor
from experiments.flickr_tags.dataset import FlickrData, decoding_vocabulary
from experiments.flickr_tags.presets import FlickrConfig
from experiments.runs.folder import Result, environment
from experiments.runs.records import (
    METHODS,
    SOURCES,
    DivergedResult,
    FlickrResult,
    Interval,
    MethodMeasures,
    OneToMany,
)
from experiments.runs.training import Run, load_networks, training_end

if TYPE_CHECKING:
    import torch

    from cgan.loop import Estimate
    from cgan.networks import Generator
    from cgan.trainer import Trainer
    from embeddings.decoding import Decoded
    from embeddings.vocabulary import Vocabulary

#: Words of a ranking that average precision looks at.
DEPTH = 100
#: Vectors drawn before they are decoded.
VECTORS_AT_ONCE = 20_000
#: Numbers of nearest training images from which validation chooses that of the voting baseline.
VOTERS = (5, 10, 20, 40, 80)
#: Share of the training photos that makes a word a tag, where that is fewer than ``decoding.min_photos``.
FEW_PHOTOS = 0.02
#: Photos shown in Table 2.
SHOWN = 24


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
    generator: Generator, features: np.ndarray, samples: int, rng: torch.Generator, dropout: bool = False
) -> Iterator[np.ndarray]:
    """Yield ``samples`` vectors for each row of ``features`` (n, f), in blocks (b, samples, d)."""
    import torch

    size = max(1, VECTORS_AT_ONCE // samples)
    for start in range(0, len(features), size):
        y = torch.from_numpy(features[start : start + size]).to(rng.device)
        vectors = generator.sample(y.repeat_interleave(samples, 0), len(y) * samples, rng, dropout=dropout)
        yield vectors.view(len(y), samples, -1).cpu().numpy()


@dataclass(frozen=True, eq=False)
class Tagged:
    """Rankings of words for n images, what was decoded, and each image's diversity between samples (n,)."""

    rankings: Rankings
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
    """Return section 4.2's tags of images with scaled ``features``: samples, their nearest words, the commonest."""
    from embeddings.decoding import decode
    from experiments.flickr_tags.measures import sample_diversity

    settings = config.decoding
    diversity: list[np.ndarray] = []

    def blocks() -> Iterator[np.ndarray]:
        for block in sample_vectors(generator, features, settings.samples, rng, settings.dropout):
            if np.isfinite(block).all() and block.any(2).all():  # Otherwise ``decode`` says what is wrong.
                diversity.append(sample_diversity(block))
            yield block

    decoded = decode(vocabulary, blocks(), settings.neighbours, words, device=str(rng.device), progress=progress)
    return Tagged(decoded.rankings(vocabulary), decoded, np.concatenate(diversity) if diversity else np.empty(0))


class Estimator:
    """Tags validation images and measures them; mean average precision decides the stopping point."""

    def __init__(self, config: FlickrConfig, data: FlickrData, device: torch.device) -> None:
        self.config, self.data, self.device = config, data, device
        self.vocabulary = taggable(data, config)
        self.images = data.splits.valid[: config.estimate_images]

    def __call__(self, trainer: Trainer) -> Estimate:
        """Return the estimate of one moment, with the same noise each time: estimates differ by the net alone."""
        from cgan.devices import seeded
        from cgan.loop import Estimate
        from embeddings import EmbeddingError
        from experiments.flickr_tags.measures import average_precision, distinct, precision

        rng = seeded(trainer.seed, "estimates", device=self.device)
        try:
            found = tag(trainer.sampler, self.data.features[self.images], self.vocabulary, self.config, rng)
        except EmbeddingError:  # A vector that is zero or not finite: the training has diverged.
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


def rank_by_baselines(
    data: FlickrData, vocabulary: Vocabulary, seed: int, score: Callable[[Rankings], float]
) -> tuple[dict[str, Rankings], dict[str, float], Regressor]:
    """Return each baseline's rankings of the test images, the settings that validation images chose, and the MLP.

    They learn from the training images and those of their tags that have a vector, as the cGAN does. ``score`` takes
    rankings of the validation images; greater is better.
    """
    from experiments.flickr_tags import baselines

    train, valid, test = data.splits.train, data.splits.valid, data.splits.test
    known = [[word for word in data.tags[i] if word in data.vocabulary] for i in train.tolist()]
    x, valid_x, test_x = data.features[train], data.features[valid], data.features[test]
    having, vectors = baselines.mean_tag_vectors(known, data.vocabulary)
    valid_having, valid_vectors = baselines.mean_tag_vectors([data.tags[i] for i in valid.tolist()], data.vocabulary)
    voters = max(VOTERS, key=lambda k: score(baselines.vote(x, known, valid_x, k, DEPTH)))
    best, tried = baselines.choose_alpha(x[having], vectors, valid_x, vocabulary, score, words=DEPTH)
    alpha = tried[best][0]
    regressor = baselines.train_mlp(
        x[having], vectors, valid_x[valid_having], valid_vectors, seed=seed, progress=sys.stderr.isatty()
    )
    rankings = {
        "commonest": baselines.commonest(known, len(test), DEPTH),
        "vote": baselines.vote(x, known, test_x, voters, DEPTH),
        "ridge": baselines.ridge(x[having], vectors, test_x, vocabulary, alpha, DEPTH),
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
    from experiments.flickr_tags.measures import bootstrap, distinct, paired_difference, per_image

    values = {method: per_image(ranking, truth, vocabulary, words, DEPTH) for method, ranking in rankings.items()}
    result = {}
    for method, ranking in rankings.items():
        own, difference = values[method], None
        if method != "cgan" and "cgan" in values:
            difference = paired_difference(values["cgan"]["precision"], own["precision"])
        result[method] = MethodMeasures(
            precision_at_10=bootstrap(own["precision"]),
            recall_at_10=bootstrap(own["recall"]),
            f1_at_10=bootstrap(own["f1"]),
            mean_average_precision=bootstrap(own["average_precision"]),
            hit_at_10=bootstrap(own["hit"]),
            best_cosine=bootstrap(own["best_cosine"]),
            distinct_tags=distinct(ranking, words),
            diversity=bootstrap(diversity) if method == "cgan" else None,
            cgan_minus_this_precision=difference,
        )
    return result


def highest_precision(truth: Sequence[Sequence[str]], vocabulary: Vocabulary, words: int) -> float | None:
    """Return the precision at ``words`` that the best possible choice among ``vocabulary`` reaches, on average.

    None where no photo has a true tag.
    """
    right = [min(words, sum(tag in vocabulary for tag in set(tags))) for tags in truth if tags]
    return float(np.mean(right)) / words if right else None


def measure_run(this: Run, config: FlickrConfig, data: FlickrData) -> FlickrResult:
    """Tag the test images by the net of the stopping point and by the baselines; write tables, figures, the result."""
    from cgan.devices import seeded
    from experiments.flickr_tags.measures import average_precision

    folder, record = this.folder, this.config
    end = training_end(folder, this.stopping)
    generator, _, update = load_networks(folder, record, config.generator, config.discriminator)
    vocabulary, words, test = taggable(data, config), config.decoding.words, data.splits.test
    rng = seeded(record.seed, "samples")
    found = tag(generator, data.features[test], vocabulary, config, rng, progress=sys.stderr.isatty())
    valid_tags = [data.tags[i] for i in data.splits.valid.tolist()]

    def score(rankings: Rankings) -> float:
        return float(np.nanmean(average_precision(rankings, valid_tags, DEPTH)))

    of_baselines, chosen, regressor = rank_by_baselines(data, vocabulary, record.seed, score)
    rankings = {"cgan": found.rankings, **of_baselines}
    truth, user_tags = ([tags[i] for i in test.tolist()] for tags in (data.tags, data.user_tags))
    highest, highest_alone = (highest_precision(tags, vocabulary, words) for tags in (truth, user_tags))
    result = FlickrResult(
        preset=record.preset,
        stopped_by=end.stopped_by,
        dataset=record.dataset,
        seed=record.seed,
        updates=end.updates,
        best_update=update,
        seconds=end.seconds,
        weights=folder.best_weights(),
        images={name: len(getattr(data.splits, name)) for name in ("train", "valid", "test")},
        test_images=len(test),
        pairs=len(data.pairs.images),
        vocabulary={"words": len(data.vocabulary), "decoding": len(vocabulary)},
        highest_precision=highest,
        highest_precision_user_tags=highest_alone,
        left_out=data.counts,
        network=data.network,
        measures=compare(rankings, truth, data.vocabulary, words, found.diversity),
        measures_user_tags=compare(rankings, user_tags, data.vocabulary, words, found.diversity),
        one_to_many=one_to_many.compare(
            data,
            vocabulary,
            both_ways(generator, data.features[test], config, record.seed),
            int(chosen["vote_neighbours"]),
            chosen["ridge_alpha"],
            regressor,
            record.seed,
        ),
        baselines=chosen,
        device=record.device,
        precision=record.precision,
        threads=record.threads,
        sessions=record.sessions,
        notice=record.notice,
        environment=environment(),
    )
    write_figures(this, config, data, found, result, end.history, end.best_epoch)
    folder.write_result(result)
    return result


def both_ways(generator: Generator, features: np.ndarray, config: FlickrConfig, seed: int) -> dict[str, np.ndarray]:
    """Return the cGAN's samples (n, samples, d) with its dropout off and on, by their names in ``one_to_many``."""
    from cgan.devices import seeded

    return {
        name: np.concatenate(
            list(sample_vectors(generator, features, config.decoding.samples, seeded(seed, "samples"), dropout))
        )
        for name, dropout in (("cgan", False), ("cgan_dropout", True))
    }


def write_figures(
    this: Run,
    config: FlickrConfig,
    data: FlickrData,
    found: Tagged,
    result: FlickrResult,
    history: list[dict[str, float]],
    best_epoch: float,
) -> None:
    """Write Table 2, the learning curves and the bars of precision into the run's folder."""
    from experiments.runs import figures
    from experiments.runs.photo_table import write_table2

    folder, settings, name = this.folder.path, config.decoding, this.config.dataset.name
    write_table2(
        folder,
        table2_rows(data, found, settings.words),
        title=f"Table 2: user tags, annotations and generated tags — {name}",
        notice=result.notice,
        weights=result.weights,
        caption=(
            f"Held-out photos. For each, {settings.samples} vectors are drawn; of the {settings.neighbours} words "
            f"nearest to each vector, the {settings.words} commonest are shown, with the share of samples near them."
        ),
    )
    panels = (
        figures.Panel(
            "validation images", {"valid_average_precision": "mean average precision", "valid_precision": "precision"}
        ),
        figures.Panel("loss (nats)", {"d_loss": "discriminator D", "g_loss": "generator G"}),
        figures.Panel("cosine distance", {"diversity": "between the samples of an image, on average"}),
    )
    figures.curves(history, folder / "curves.png", chosen=best_epoch, panels=panels, title=f"Training — {name}")
    bins = {SOURCES[source]: row.calibration for source, row in (result.one_to_many or {}).items() if row.calibration}
    figures.reliability(bins, folder / "reliability.png", title=f"Are words drawn often also right often? — {name}")
    for measures, file, what in (
        (result.measures, "precision.png", "user tags and annotations"),
        (result.measures_user_tags, "precision_user_tags.png", "user tags alone"),
    ):
        rows = {METHODS[method]: row.precision_at_10 for method, row in measures.items()}
        bars = {method: (row.value, row.low, row.high) for method, row in rows.items() if row}
        if bars:  # Without any where no test photo has such a tag.
            axis = f"precision at {settings.words} against {what} (95% interval over {result.test_images} photos)"
            figures.interval_bars(bars, folder / file, axis=axis, title=f"Which method tags best? — {name}")
    if result.weights is not None:
        figures.stamp(folder.glob("*.png"), result.weights)


def table2_rows(data: FlickrData, found: Tagged, words: int) -> list[Any]:
    """Return test photos evenly spread over the split, with their tags and what was generated."""
    from experiments.runs.photo_table import PhotoRow

    test, rows = data.splits.test, []
    for at in np.unique(np.linspace(0, len(test) - 1, min(SHOWN, len(test))).round().astype(int)).tolist():
        image = int(test[at])
        photo = int(data.rows[image])
        shares = found.decoded.shares[at].tolist()
        rows.append(
            PhotoRow(
                number=int(data.photos.numbers[photo]),
                path=data.photos.paths[photo],
                user_tags=list(data.photos.tags[photo]),
                annotations=list(data.photos.annotations[photo]),
                generated=list(zip(found.rankings[at][:words], shares[:words], strict=False)),
                right=set(data.tags[image]),
            )
        )
    return rows


def summary(result: Result) -> str:
    """Return a run's result in a few lines for the terminal."""
    if isinstance(result, DivergedResult):
        return f"{result.status}: {result.reason}"
    assert isinstance(result, FlickrResult)
    lines = [
        f"dataset {result.dataset.name}; kept the weights of update {result.best_update:,} of {result.updates:,} "
        f"({result.seconds / 60:.1f} min of training, stopped by {result.stopped_by}); {result.test_images} test photos"
    ]
    for measures, what in (
        (result.measures, "user tags and annotations"),
        (result.measures_user_tags, "user tags alone"),
    ):
        lines += [f"against {what}, with 95% intervals over photos:", *_table(measures)]
    lines += _one_to_many(result.one_to_many or {})
    if result.highest_precision is not None:
        lines.append(
            f"with the {result.vocabulary['decoding']} words that can be generated, no method exceeds a precision at "
            f"10 of {result.highest_precision:.3f} against user tags and annotations"
            + (f", {alone:.3f} against user tags alone" if (alone := result.highest_precision_user_tags) else "")
        )
    if result.notice:
        lines.append(f"NOTE: {result.notice}.")
    return "\n".join(lines)


def _one_to_many(found: dict[str, OneToMany]) -> list[str]:
    """Return the samples' diversity, coverage and correctness, a line for each source."""
    if not found:
        return []

    def cell(interval: Interval | None) -> str:
        return "-" if interval is None else f"{interval.value:.2f}"

    lines = ["samples of one photo: diversity, coverage of its true tags, correctness:"]
    for source, row in found.items():
        values = "  ".join(cell(value) for value in (row.diversity, row.coverage, row.correctness))
        lines.append(f"  {SOURCES[source]:<44}{values}")
    return lines


def _table(measures: dict[str, MethodMeasures]) -> list[str]:
    """Return aligned rows, one per method."""
    names = ("precision_at_10", "recall_at_10", "mean_average_precision", "best_cosine", "cgan_minus_this_precision")

    def cell(interval: Interval | None) -> str:
        return "-" if interval is None else f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"

    rows = [["", *(name.replace("_", " ") for name in names), "different tags"]]
    for method, row in measures.items():
        rows.append([METHODS[method], *(cell(getattr(row, name)) for name in names), str(row.distinct_tags)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
