"""Records as a stranger, a disk or an editor may have changed them: one random change at a time, from a seed."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 3.5, 1e308, 10**18, 10**400, "", "x", "\ud800", "\x00", "../..", "9" * 5000, [], {}, [None],
    {"x": 1}, [[[]]], "relu:1000000000",
)  # fmt: skip


def fuzz_count(usual: int) -> int:
    """Return how many changed records a test tries: ``CGAN_FUZZ`` of the environment, else ``usual``."""
    return int(os.environ.get("CGAN_FUZZ", usual))


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value inside nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from paths(inner, (*above, key))


def mutate(record: Any, rng: random.Random) -> Any:
    """Return a copy of ``record`` with one value removed, replaced or doubled."""
    changed = copy.deepcopy(record)
    *above, last = rng.choice(list(paths(changed)))
    holder = changed
    for key in above:
        holder = holder[key]
    kind = rng.randrange(4)
    if kind == 0:
        del holder[last]
    elif kind == 1 and isinstance(holder, list):
        holder.append(holder[last])
    else:
        holder[last] = rng.choice(VALUES)
    return changed


def mutate_text(record: Any, rng: random.Random) -> bytes:
    """Return ``record`` as JSON with one change: of a value, or of the bytes (cut, flipped, nested too deep)."""
    kind = rng.randrange(10)
    if kind < 7:
        return json.dumps(mutate(record, rng)).encode()
    data = bytearray(json.dumps(record).encode())
    place = rng.randrange(len(data))
    if kind == 7:
        return bytes(data[:place])
    if kind == 8:
        data[place] = rng.randrange(256)
        return bytes(data)
    return bytes(data[:place]) + b"[" * 100_000 + bytes(data[place:])


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with one change: a bit flipped, bytes cut out, put in or repeated, a number or two fields."""
    changed, place, kind = bytearray(data), rng.randrange(len(data)), rng.randrange(6)
    if kind == 0:
        changed[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del changed[place : rng.choice((place + 1, place + 50, len(data)))]
    elif kind == 2:
        changed[place:place] = rng.choice((rng.randbytes(8), rng.randbytes(500), b"\xff" * 8))
    elif kind == 3:
        changed[place:place] = rng.choice((b"[", b"(", b" ", b"\n", b"\0", b'"')) * 100_000
    elif kind == 4 and (numbers := list(re.finditer(rb"\d+", data))):
        start, end = rng.choice(numbers).span()
        changed[start:end] = rng.choice((b"9" * 5000, b"274877906944", b"-1", b"1e308", b"nan"))
    else:
        fields = re.split(rb"([,\t\n ])", data, maxsplit=1_000)
        one, other = (2 * rng.randrange(len(fields) // 2 + 1) for _ in range(2))
        fields[one], fields[other] = fields[other], fields[one]
        changed = bytearray(b"".join(fields))
    return bytes(changed)
