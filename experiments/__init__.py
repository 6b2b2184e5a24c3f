"""What a person runs: the paper's experiments, built from ``cgan``, ``embeddings`` and ``data``."""


class UsageError(Exception):
    """A command cannot do what was asked; the message says what is wrong, where, and how to fix it.

    Not a ``ValueError``: command-line parsers catch those and replace the message by their own.
    """
