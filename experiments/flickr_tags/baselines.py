"""Baselines that tag an image: the commonest tags, votes of similar images, a linear map, a net without noise and D.

Each maps training images to rankings: for each query image a list of tags, best first.

Features are (n, f) arrays, tags one collection of strings for each image, word vectors (n, d).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from tqdm import trange

from embeddings.vocabulary import Vocabulary, unit_rows
from experiments import UsageError

Tags = Sequence[Collection[str]]
Rankings = list[list[str]]


def commonest(train_tags: Tags) -> list[str]:
    """Return every tag: the one that most images have first, equal ones by name."""
    counts = Counter(tag for of_image in train_tags for tag in set(of_image))
    return sorted(counts, key=lambda tag: (-counts[tag], tag))


def vote(
    train_features: np.ndarray, train_tags: Tags, features: np.ndarray, neighbours: int = 20, words: int = 100
) -> Rankings:
    """Return the tags that most of the ``neighbours`` training images nearest by cosine have.

    Of tags with equally many votes the one whose voters have the larger summed cosine comes first, then the one that
    more training images have, then the first by the alphabet; tags without a vote follow in this same order.
    """
    order = commonest(train_tags)
    place = {tag: i for i, tag in enumerate(order)}
    rankings = []
    for voters, cosines in zip(*nearest_images(train_features, features, neighbours), strict=True):
        votes, sums = Counter[str](), Counter[str]()
        for voter, cosine in zip(voters.tolist(), cosines.tolist(), strict=True):
            for tag in set(train_tags[voter]):
                votes[tag] += 1
                sums[tag] += cosine
        best = sorted(votes, key=lambda tag: (-votes[tag], -sums[tag], place[tag]))
        rankings.append([*best, *(tag for tag in order if tag not in votes)][:words])
    return rankings


def nearest_images(train_features: np.ndarray, features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and cosines (n, count or all there are) of the training images nearest to each query by cosine."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(count, len(train_features)), metric="cosine").fit(train_features)
    distances, rows = index.kneighbors(features)
    return rows, 1 - distances


def mean_tag_vectors(tags: Tags, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Return the images that have a tag with a vector (m,), and the mean vector of each one's tags (m, d) float32.

    The mean is of vectors at length one: words are found by cosine, so a word's length should not decide its weight.
    """
    known = [sorted(vocabulary.index(tag) for tag in set(of_image) if tag in vocabulary) for of_image in tags]
    rows = np.array([row for row, ranks in enumerate(known) if ranks], dtype=np.int64)
    means = [unit_rows(vocabulary.vectors[known[row]]).mean(0, dtype=np.float64) for row in rows]
    return rows, np.array(means, dtype=np.float32).reshape(len(rows), vocabulary.vectors.shape[1])


def nearest_words(vectors: np.ndarray, vocabulary: Vocabulary, words: int = 100) -> Rankings:
    """Return the ``words`` words nearest by cosine to each row of ``vectors`` (n, d), all of the vocabulary at most."""
    ranks, _ = vocabulary.nearest(vectors, min(words, len(vocabulary)))
    return [[vocabulary.words[rank] for rank in row] for row in ranks.tolist()]


def ridge_vectors(
    train_features: np.ndarray, train_vectors: np.ndarray, features: np.ndarray, alpha: float
) -> np.ndarray:
    """Return a linear map's output (n, d) for the features (n, f): the paper's related work.

    The map W, b minimises sum |W x + b - t|^2 + ``alpha`` |W|^2 over training features x and vectors t, those of
    :func:`mean_tag_vectors`.
    """
    from sklearn.linear_model import Ridge

    # In float64: at small penalties the normal equations of thousands of float32 features lose all digits.
    model = Ridge(alpha=alpha, copy_X=False)
    model.fit(np.array(train_features, dtype=np.float64), np.asarray(train_vectors, dtype=np.float64))
    return model.predict(np.asarray(features, dtype=np.float64))


def alpha_grid(train_features: np.ndarray) -> list[float]:
    """Return 13 penalties for :func:`ridge_vectors` at equal ratios, that suit features of any scale.

    They go from 1e-4 to 100 times the mean squared length of the centred features.
    """
    centred = np.asarray(train_features, dtype=np.float64) - np.mean(train_features, axis=0, dtype=np.float64)
    return (np.logspace(-4, 2, 13) * np.square(centred).sum(1).mean()).tolist()


@dataclass(frozen=True, eq=False)
class Regressor:
    """A trained MLP from features (n, f) to word vectors (n, d)."""

    net: nn.Sequential
    centre: Tensor
    scale: Tensor

    def vectors(self, features: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32, dropout off."""
        x = torch.from_numpy(np.asarray(features, dtype=np.float32))
        with torch.no_grad():
            return self.net((x - self.centre) / self.scale).numpy()

    def sample(self, features: np.ndarray, samples: int, seed: int) -> np.ndarray:
        """Return ``samples`` vectors of each row, (n, samples, d), drawn with dropout on."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net.train()
            drawn = [self.vectors(row[None].repeat(samples, 0)) for row in features]
            self.net.eval()
        return np.stack(drawn)


def train_mlp(
    train_features: np.ndarray,
    train_vectors: np.ndarray,
    valid_features: np.ndarray,
    valid_vectors: np.ndarray,
    *,
    hidden: int = 2000,
    learning_rate: float = 0.1,
    epochs: int = 200,
    patience: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> Regressor:
    """Train section 4.2's G without noise and D: features -> ``hidden`` ReLU with dropout -> d linear.

    It learns the mean vector of an image's tags (:func:`mean_tag_vectors`), the direction nearest to all of them
    together. The loss is 1 - cosine, what words are found by. SGD with momentum stops when the loss of the validation
    images has not fallen for ``patience`` epochs; the weights of its lowest count. Features are centred, and scaled by
    one number. The same ``seed`` and number of threads give the same result. Raises ``UsageError`` on divergence.
    """
    arrays = (train_features, train_vectors, valid_features, valid_vectors)
    x, t, valid_x, valid_t = (torch.from_numpy(np.asarray(rows, dtype=np.float32)) for rows in arrays)
    centre = x.mean(0)
    scale = (x - centre).square().mean().sqrt().clamp(min=1e-12)
    x, valid_x = (x - centre) / scale, (valid_x - centre) / scale
    with torch.random.fork_rng(devices=[]):  # The caller's random numbers stay where they were.
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, t.shape[1]))
        optimiser = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)
        best, best_loss, best_epoch = copy.deepcopy(net.state_dict()), np.inf, 0
        for epoch in trange(1, epochs + 1, desc="MLP", unit="epoch", disable=None if progress else True, leave=False):
            net.train()
            for batch in torch.randperm(len(x)).split(100):
                optimiser.zero_grad()
                (1 - cosine_similarity(net(x[batch]), t[batch])).mean().backward()
                optimiser.step()
            net.eval()
            with torch.no_grad():
                loss = float((1 - cosine_similarity(net(valid_x), valid_t)).mean())
            if not np.isfinite(loss):
                raise UsageError(f"the MLP regressor diverged in epoch {epoch}: lower its learning rate")
            if loss < best_loss:
                best, best_loss, best_epoch = copy.deepcopy(net.state_dict()), loss, epoch
            elif epoch - best_epoch >= patience:
                break
    net.load_state_dict(best)
    return Regressor(net.eval(), centre, scale)
