"""What a person runs: the paper's experiments, wired from ``cgan``, ``embeddings`` and ``data``."""


class UsageError(ValueError):
    """A command was asked for something it cannot do; the message says what, where, and the mend."""
