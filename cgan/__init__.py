"""A small conditional-MLP GAN core: networks, losses, optimiser, training and metrics.

Knows nothing of MNIST, Flickr, image files or words. Importing this package imports no heavy library: take what you
need from its modules (``cgan.networks``, ``cgan.trainer``, ``cgan.metrics.parzen``, ...).
"""


class CganError(Exception):
    """What was asked for cannot be done; the message says what is wrong, where, and how to fix it.

    Not a ``ValueError``: command-line parsers catch those and replace the message by their own.
    """
