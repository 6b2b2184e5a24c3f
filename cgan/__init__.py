"""A small conditional-MLP GAN core: networks, game, training, and what measures them.

Knows nothing of MNIST, Flickr, image files or words. Importing this package imports no heavy library; take what you
need from its modules (``cgan.networks``, ``cgan.training``, ``cgan.parzen``, ...).
"""


class CganError(Exception):
    """What the caller asked for cannot be done; the message says what is wrong, where, and the mend.

    Not a ``ValueError``: command-line parsers catch those, and put their own words in the place of the message.
    """
