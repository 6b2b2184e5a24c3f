"""How every command of this package ends: results on standard output, one sentence on a mistake, exit status 2.

Holds nothing about any experiment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from cgan import CganError
from data import DataError
from embeddings import EmbeddingError
from experiments import UsageError

#: What a person can mend: these print as one sentence. Anything else is a bug and keeps its traceback.
MENDABLE = (CganError, DataError, EmbeddingError, UsageError, OSError)


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> int:
    """Call ``main(argv)`` and return the exit status: 0, what ``main`` returns, 2 on a mendable error, 130 on Ctrl-C.

    ``CGAN_TRACEBACK=1`` in the environment shows the traceback of a mendable error as well.
    """
    try:
        return main(argv) or 0
    except MENDABLE as error:
        if os.environ.get("CGAN_TRACEBACK") == "1":
            raise
        sys.stdout.flush()
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{stop or 'stopped'}", file=sys.stderr)
        return 130


def sentence(error: BaseException) -> str:
    """The error as one line; an ``OSError`` gets its file's name and reason without the number.

    Of two names, as in renaming what is written to its place, the latter is the one that was asked for.
    """
    if isinstance(error, OSError) and error.strerror:
        name = error.filename2 or error.filename
        return f"{name}: {error.strerror}" if name else error.strerror
    return " ".join(str(error).split())
