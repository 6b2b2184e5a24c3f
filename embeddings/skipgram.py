"""Lines of tokens to word vectors: skip-gram with negative sampling (gensim), as for the paper's section 4.2.

Makes no corpus, searches no neighbours and writes no files.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embeddings import EmbeddingError
from embeddings.corpus import CorpusFile, count_words

if TYPE_CHECKING:
    from embeddings.vocabulary import Vocabulary

#: Tokens of a file that make another worker worth its start.
TOKENS_PER_WORKER = 10_000
#: Tokens times epochs that one worker trains in about five minutes: up to here the default is one, and repeatable.
ONE_WORKER_TOKENS = 60_000_000


@dataclass(frozen=True)
class SkipGram:
    """Settings of the training: the paper's where it names them, else word2vec's usual ones (gensim's defaults).

    Raises ``EmbeddingError`` for a setting out of its range.
    """

    vector_size: int = 200
    """Numbers in a vector (section 4.2)."""
    min_count: int = 200
    """Words seen less often are dropped (section 4.2); a small corpus needs a lower one, such as 5."""
    window: int = 5
    """Words to either side that a word predicts, at most; each time a number up to it is drawn."""
    negative: int = 5
    """Random words contrasted with each true neighbour."""
    sample: float = 1e-3
    """Words of a greater share of the corpus than this are thinned out; 0 keeps them all."""
    epochs: int = 5
    """Passes over the corpus."""
    alpha: float = 0.025
    """Learning rate at the beginning; falls linearly."""
    min_alpha: float = 1e-4
    """Learning rate at the end."""
    seed: int = 1
    """Seed of the initial vectors and of all drawing; with one worker the same vectors come out each time."""
    workers: int = 0
    """Threads; 0: one for a corpus that it finishes within minutes, else all cores. Several train without locks, so
    that no two runs agree to the bit."""

    def __post_init__(self) -> None:
        for name in ("vector_size", "min_count", "window", "negative", "epochs"):
            if getattr(self, name) < 1:
                raise EmbeddingError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not 0 <= self.sample < 1:
            raise EmbeddingError(f"sample is {self.sample}: it must be from 0 to below 1")
        if not 0 < self.min_alpha <= self.alpha <= 1:
            raise EmbeddingError(
                f"min_alpha {self.min_alpha}, alpha {self.alpha}: 0 < min_alpha <= alpha <= 1 must hold"
            )
        if not 0 <= self.seed < 2**32:
            raise EmbeddingError(f"seed is {self.seed}: it must be from 0 to below 2^32")
        if self.workers < 0:
            raise EmbeddingError(f"workers is {self.workers}: it must be 0 or more")


def workers_for(settings: SkipGram, tokens: int) -> int:
    """Return the number of threads for a corpus of so many tokens."""
    if settings.workers:
        return settings.workers
    return 1 if tokens * settings.epochs <= ONE_WORKER_TOKENS else os.cpu_count() or 1


def train(
    folder: Path,
    files: Sequence[CorpusFile],
    settings: SkipGram,
    counting: Callable[[int], object] = lambda tokens: None,
    training: Callable[[int], object] = lambda tokens: None,
) -> Vocabulary:
    """Return the vocabulary of the ``files`` in ``folder`` with a vector for each word, most frequent first.

    gensim reads one file at a time, each by all workers; the learning rate falls linearly over all files and epochs.
    ``counting`` and ``training`` are called with the tokens just counted, or trained on. Raises ``EmbeddingError`` when
    the minimum count leaves no word.
    """
    counts = count_words([folder / file.name for file in files], settings.min_count, counting)
    if not counts:
        raise EmbeddingError(
            f"no word of the corpus occurs {settings.min_count:,} times: lower the minimum count (now min_count "
            f"{settings.min_count}) or take a larger corpus"
        )
    from gensim.models import Word2Vec

    from embeddings.vocabulary import Vocabulary

    workers = workers_for(settings, sum(file.tokens for file in files))
    # gensim's threads part a file by bytes and may not count every word once, of which it would warn.
    with quiet_gensim(logging.ERROR):
        model = Word2Vec(
            sg=1,
            vector_size=settings.vector_size,
            min_count=1,  # count_words has dropped the rare words, in less memory.
            window=settings.window,
            negative=settings.negative,
            sample=settings.sample,
            alpha=settings.alpha,
            min_alpha=settings.min_alpha,
            epochs=settings.epochs,
            seed=settings.seed,
            sorted_vocab=0,  # They come sorted, and equally frequent ones in a stated order.
        )
        model.build_vocab_from_freq(counts, corpus_count=sum(file.lines for file in files))
        total = settings.epochs * sum(file.tokens for file in files)
        rate, done = settings.alpha, 0
        for file in list(files) * settings.epochs:
            model.workers = max(1, min(workers, math.ceil(file.tokens / TOKENS_PER_WORKER)))
            done += file.tokens
            start, rate = rate, settings.alpha + (settings.min_alpha - settings.alpha) * (done / total)
            path = str(folder / file.name)
            model.train(corpus_file=path, total_words=file.tokens, epochs=1, start_alpha=start, end_alpha=rate)
            training(file.tokens)
    return Vocabulary.from_arrays(list(counts), model.wv.vectors, list(counts.values()))


@contextlib.contextmanager
def quiet_gensim(level: int) -> Iterator[None]:
    """Keep gensim's records below ``level`` off the terminal."""
    logger = logging.getLogger("gensim")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
