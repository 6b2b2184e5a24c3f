"""Datasets on disk turned into arrays and records, and their downloads.

Importing this package imports no heavy library; take what you need from its modules.
"""


class DataError(Exception):
    """A dataset is missing, damaged or of another form; the message says what, where, and how to fix it.

    Not a ``ValueError``: command-line parsers catch those and replace the message.
    """
