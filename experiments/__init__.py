"""What a person runs: the paper's experiments, wired from ``cgan``, ``embeddings`` and ``data``."""


class UsageError(Exception):
    """A command was asked for something it cannot do; the message says what, where, and the mend.

    Not a ``ValueError``: command-line parsers catch those, and put their own words in the place of the message.
    """
