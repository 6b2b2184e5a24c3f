"""Frozen representations: word vectors and image features. Knows nothing of GANs.

Importing this package imports no heavy library; take what you need from its modules.
"""


class EmbeddingError(Exception):
    """An input or a setting of this package is unusable; the message says what, where, and how to fix it.

    Not a ``ValueError``: command-line parsers catch those, and put their own words in the place of the message.
    """
