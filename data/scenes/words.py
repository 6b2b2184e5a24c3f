"""Words of the rendered scenes: tags as people type them, and YFCC100M rows about further scenes of the same world."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote_plus

from data.scenes.render import Scene, imagine

#: YFCC100M rows: enough for skip-gram to learn which words go together.
ROWS = 8000


@cache
def lexicon() -> dict[str, Any]:
    """Return the tables of ``lexicon.json``: weighted tags by concept, common and junk tags, titles, sentences."""
    return json.loads(resources.files("data.scenes").joinpath("lexicon.json").read_text(encoding="utf-8"))


def clean(tag: str) -> str:
    """Return a tag as MIRFLICKR cleans it: lower case, letters and digits alone."""
    return "".join(character for character in tag.lower() if character.isalnum())


def tags_of(scene: Scene, rng: random.Random) -> list[str]:
    """Return tags as typed: some synonyms of what is shown, some common words, some junk; from none to a dozen.

    No two are the same when cleaned.
    """
    tables = lexicon()
    chosen: dict[str, str] = {}
    count = rng.choices((0, 2, 4, 7, 11), (6, 20, 35, 27, 12))[0]
    for _ in range(count):
        kind = rng.choices(("concept", "common", "junk", "name"), (78, 11, 8, 3))[0]
        if kind == "name":
            tag = rng.choice(tables["names"])
        else:
            tag = _pick(tables["tags"][rng.choice(scene.concepts)] if kind == "concept" else tables[kind], rng)
        tag = tag.capitalize() if rng.random() < 0.15 else tag
        chosen.setdefault(clean(tag), tag)
    return list(chosen.values())


def caption_rows(seed: int) -> Iterator[str]:
    """Yield ``ROWS`` YFCC100M rows (23 columns, no line end) about scenes of which none is drawn.

    The word vectors are trained on other people's words, never on those of the pictures to be tagged.
    """
    for number in range(ROWS):
        rng = random.Random(f"caption {seed} {number}")
        yield _row(number, imagine(rng), rng)


def _row(number: int, scene: Scene, rng: random.Random) -> str:
    tables = lexicon()
    synonyms = ([_pick(tables["tags"][concept], rng) for _ in range(3)] for concept in scene.concepts)
    pool = [word for words in synonyms for word in dict.fromkeys(words)]
    rng.shuffle(pool)
    words = (pool * 3)[:3]
    title = rng.choice(tables["titles"]).format(*words, number=number)
    lines = [rng.choice(tables["sentences"]).format(*rng.sample(words, 3), number=number) for _ in range(2)]
    tags = ",".join(quote_plus(tag) for tag in tags_of(scene, rng))
    photo, owner = 2_000_000_000 + number, f"{rng.randint(10, 99)}{rng.randint(10**5, 10**6 - 1)}@N0{rng.randint(0, 9)}"
    page = f"http://www.flickr.com/photos/{owner}/{photo}/"
    columns = [photo, owner, rng.choice(("anna", "tom", "lee")), "2008-07-01 12:00:00.0", 1_215_000_000 + number]
    columns += ["NIKON+D80", quote_plus(title), quote_plus(" ".join(lines).strip()), tags, "", "", "", "", page]
    columns += [f"{page}download.jpg", "Attribution+License", "http://creativecommons.org/licenses/by/2.0/"]
    columns += [rng.randint(1, 9999), rng.randint(1, 9), "abcdef", "fedcba", "jpg", 0]
    return "\t".join(map(str, columns))


def _pick(weights: dict[str, float], rng: random.Random) -> str:
    return rng.choices(tuple(weights), tuple(weights.values()))[0]
