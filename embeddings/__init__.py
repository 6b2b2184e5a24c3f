"""Frozen representations: word vectors and image features. Knows nothing of GANs.

Importing this package imports no heavy library; take what you need from its modules.
"""


class EmbeddingError(ValueError):
    """An input or a setting of this package is unusable; the message says what, where, and the mend."""
