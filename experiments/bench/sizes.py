"""How much the benchmark measures of each path: the usual sizes, and small ones. Measures nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Sizes:
    """The work of the table, and the shares of it that slow candidates are measured on, their times scaled up."""

    updates: int = 50
    """Updates timed at a time."""
    epoch_updates: int | None = 100
    """Updates of an epoch that are timed; None: all."""
    samples: int = 10_000
    """Samples, and as many images, of the Parzen window (section 4.1)."""
    kde_images: int = 30
    """Images that scikit-learn scores."""
    broadcast_images: int = 10
    """Images that the broadcast loop scores."""
    words: int = 247_465
    """Words of the vocabulary (section 4.2), random unit vectors."""
    dimension: int = 200
    """Numbers in a word vector (section 4.2)."""
    queries: int = 10_000
    """Vectors whose nearest words are looked for."""
    top: int = 20
    """Nearest words of each (section 4.2)."""
    gensim_queries: int = 100
    """Queries of gensim's loop."""
    decoded_images: int = 10
    """Images, with 100 samples each (section 4.2), that the per-image loop decodes."""
    rows: int = 1_000_000
    """Rows of metadata to clean."""
    timed_rows: int = 200_000
    """Rows that are cleaned at a time."""
    lines: int | None = None
    """Lines of the corpus that skip-gram is trained on; None: of all rows found, at most ``timed_rows``."""
    passes: int = 2
    """Passes of skip-gram over them."""
    photos: int = 256
    """Photos whose features are computed."""
    loop_photos: int = 48
    """Photos of the loop, and of the bare forward pass."""


QUICK = Sizes(
    updates=2,
    epoch_updates=2,
    samples=400,
    kde_images=40,
    broadcast_images=4,
    words=4_000,
    queries=200,
    gensim_queries=20,
    decoded_images=1,
    rows=2_000,
    timed_rows=2_000,
    lines=2_000,
    passes=1,
    photos=6,
    loop_photos=4,
)


def of_accelerator(sizes: Sizes) -> Sizes:
    """Return the same work with more updates at a time, where one takes a fraction of a millisecond."""
    return replace(sizes, updates=10 * sizes.updates, epoch_updates=None)


def whole(sizes: Sizes) -> Sizes:
    """Return the same work with every candidate measured on all of it."""
    return replace(
        sizes,
        epoch_updates=None,
        kde_images=sizes.samples,
        broadcast_images=sizes.samples,
        gensim_queries=sizes.queries,
        decoded_images=sizes.queries // SAMPLES_OF_IMAGE,
        timed_rows=sizes.rows,
        loop_photos=sizes.photos,
    )


#: Vectors drawn for an image (section 4.2).
SAMPLES_OF_IMAGE = 100
