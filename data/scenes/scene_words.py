"""The words of the rendered scenes: user tags as people give them, titles and descriptions, and YFCC100M rows.

Words follow what a scene shows and who the imagined owner is; nothing here looks at pixels.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote_plus

from data.scenes.scene_lexicon import (
    ABROAD,
    ADJECTIVES,
    CAMERAS,
    CLOSERS,
    COLOURS,
    JUNK,
    MOODS,
    NOUNS,
    PLACE_NAMES,
    RELATIONS,
    SEASONS,
    STYLE_TAGS,
    TAGS,
    TIMES,
)
from data.scenes.scene_plan import AIR, Scene, chance, pick


@dataclass(frozen=True)
class Owner:
    """Who took the picture: how many tags they give, in which language, with which camera, and where they were."""

    zeal: str
    language: str
    camera: str
    spot: tuple[str, ...]


#: How many tags an owner gives (lowest, highest), with the weight of such owners: a long tail, as on Flickr.
ZEAL = {"none": (0, 0, 5), "few": (1, 3, 26), "some": (3, 7, 40), "many": (7, 11, 20), "all": (11, 15, 9)}


def owner_of(scene: Scene, dice: random.Random) -> Owner:
    """Somebody who may have taken that picture."""
    return Owner(
        zeal=pick(dice, {name: weight for name, (_, _, weight) in ZEAL.items()}),
        language=pick(dice, {"en": 84, **dict.fromkeys(ABROAD, 16 / len(ABROAD))}),
        camera=dice.choice(sorted(CAMERAS)),
        spot=dice.choice(PLACE_NAMES[scene.place]),
    )


def tags_of(scene: Scene, seen: Mapping[str, float], owner: Owner, dice: random.Random) -> list[str]:
    """The tags as typed, capitals and spaces included: some synonym of some of what is seen, and other things.

    ``seen``: what the picture shows, with the share (0 to 1) of it; the more is seen of a thing, the likelier it is
    named. No two tags are the same when cleaned.
    """
    low, high, _ = ZEAL[owner.zeal]
    wanted = dice.randint(low, high)
    if not wanted:
        return []
    urns: list[tuple[float, Mapping[str, float]]] = []
    for thing, share in seen.items():
        if thing not in TAGS:
            continue
        weight = 0.5 + 2.2 * min(share, 0.3) / 0.3
        words: Mapping[str, float] = TAGS[thing]
        if owner.language != "en" and thing in ABROAD[owner.language]:
            urns.append((weight * 0.9, dict.fromkeys(ABROAD[owner.language][thing], 1.0)))
            weight *= 0.4
        urns.append((weight * 1.4, words))
    urns.append((1.2, MOODS[scene.light]))
    urns.append((0.35, SEASONS[scene.season]))
    urns.append((0.7, STYLE_TAGS[scene.style]))
    urns.append((0.5, COLOURS[scene.light]))
    urns.append((0.55, dict.fromkeys(owner.spot, 1.0)))
    urns.append((0.45, CAMERAS[owner.camera]))
    urns.append((0.8, JUNK))
    tags: dict[str, str] = {}
    # An urn may be drawn from again: people say sea and ocean of one picture. Some draws repeat a word.
    for words in dice.choices([words for _, words in urns], [weight for weight, _ in urns], k=4 * wanted):
        if len(tags) < wanted:
            raw = _typed(pick(dice, words), dice)
            tags.setdefault(clean(raw), raw)
    return list(tags.values())


def clean(raw: str) -> str:
    """A tag as Flickr cleans it: lower case, without spaces and punctuation."""
    return "".join(character for character in raw.lower() if character.isalnum())


def _typed(word: str, dice: random.Random) -> str:
    """The word with the capitals somebody gives it."""
    if word != word.lower():
        return word
    return dice.choices([word, word.title(), word.capitalize(), word.upper()], [70, 14, 13, 3])[0]


# ---------------------------------------------------------------------------------------------------------------------
# captions


def seen_in(scene: Scene, dice: random.Random) -> dict[str, float]:
    """What a picture of the scene would show, when none is drawn: shares as they might have come out."""
    return {thing: 1.0 if thing in AIR else dice.uniform(0.01, 0.3) for thing in scene.things}


def title_of(scene: Scene, seen: Mapping[str, float], owner: Owner, dice: random.Random) -> str:
    """A title of a few words, a file's name, or nothing."""
    kind = dice.random()
    if kind < 0.08:
        return dice.choice(["DSC_{:04d}", "IMG_{:04d}", "P10{:05d}", "{:03d}"]).format(dice.randrange(1, 9999))
    if kind < 0.12:
        return dice.choice(["", "Untitled", "untitled"])
    things = _told(seen, dice)
    first = _phrase(things[0], dice)
    second = _phrase(things[-1], dice)
    spot = owner.spot[0]
    forms = [
        first,
        f"{first} at {spot}",
        f"{first} near {spot}",
        f"{spot} {_noun(things[0], dice)}",
        f"{first}, {pick(dice, TIMES[scene.light])}",
        f"{_noun(things[0], dice)} {pick(dice, TIMES[scene.light])}",
    ]
    if len(things) > 1:
        forms += [f"{first} and {second}", f"{_noun(things[0], dice)} with {second}"]
    title = dice.choice(forms)
    return title.title() if chance(dice, 0.3) else title[:1].upper() + title[1:]


def description_of(scene: Scene, seen: Mapping[str, float], owner: Owner, dice: random.Random) -> str:
    """None to four sentences about the scene; now and then with the HTML that people put into Flickr's."""
    count = dice.choices(range(5), [18, 30, 28, 16, 8])[0]
    sentences = [_sentence(scene, seen, owner, dice) for _ in range(count)]
    if count and chance(dice, 0.2):
        sentences.append(dice.choice(CLOSERS))
    text = " ".join(sentences)
    if sentences and chance(dice, 0.08):
        text = f"<b>{sentences[0]}</b>\n\n{' '.join(sentences[1:])}"
    if chance(dice, 0.06):
        link = f'<a href="http://www.flickr.com/photos/{dice.randrange(10**7)}/" rel="nofollow">'
        text += f"\n{link}more &quot;{owner.spot[0]}&quot;</a>"
    return text


def _told(seen: Mapping[str, float], dice: random.Random) -> list[str]:
    """One to three of what is seen, the larger ones first in mind."""
    weights = {thing: 0.1 + min(share, 0.3) for thing, share in seen.items() if thing in NOUNS}
    told: list[str] = []
    for _ in range(dice.randint(1, 3)):
        if weights:
            thing = pick(dice, weights)
            del weights[thing]
            told.append(thing)
    return told or ["photo"]


def _noun(thing: str, dice: random.Random) -> str:
    return pick(dice, NOUNS[thing])


def _phrase(thing: str, dice: random.Random) -> str:
    """An adjective and a noun, or the noun alone."""
    noun = _noun(thing, dice)
    return f"{dice.choice(ADJECTIVES[thing])} {noun}" if chance(dice, 0.6) else noun


def _sentence(scene: Scene, seen: Mapping[str, float], owner: Owner, dice: random.Random) -> str:
    when, spot = pick(dice, TIMES[scene.light]), owner.spot[0]
    things = _told(seen, dice)
    related = [(thing, link, other) for thing in seen for link, other in RELATIONS.get(thing, ()) if other in seen]
    if related and chance(dice, 0.5):
        thing, link, other = dice.choice(related)
        text = f"{_article(_phrase(thing, dice), dice)} {link} the {_phrase(other, dice)}"
        text += dice.choice(["", f" {when}", f" near {spot}"])
    elif chance(dice, 0.12):
        text = dice.choice(
            [
                f"taken with my {owner.camera} in {spot}",
                f"{spot}, {scene.season}",
                f"we stayed in {spot} for a {dice.choice(['week', 'weekend', 'few days'])}",
            ]
        )
    else:
        first = _phrase(things[0], dice)
        forms = [
            f"the {first} {when}",
            f"I love the {first} here",
            f"we watched the {first} {when}",
            f"{_article(first, dice)} in {spot}",
            f"a walk {when} to see the {first}",
        ]
        if len(things) > 1:
            second = _phrase(things[1], dice)
            forms += [
                f"the {first} and the {second} {when}",
                f"{_article(first, dice)} with {second} behind",
                f"look at the {first}, and the {second} too",
                f"the {first} under the light of {when}" if chance(dice, 0.1) else f"the {first}, the {second} and me",
            ]
        text = dice.choice(forms)
    return text[:1].upper() + text[1:] + dice.choice([".", ".", ".", "!", "..."])


def _article(phrase: str, dice: random.Random) -> str:
    if phrase.split()[-1].endswith("s") or chance(dice, 0.5):
        return f"the {phrase}"
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


# ---------------------------------------------------------------------------------------------------------------------
# rows


def row_of(number: int, scene: Scene, owner: Owner, dice: random.Random) -> str:
    """The scene as a row of YFCC100M's metadata: 23 columns, tab-separated, text URL-encoded; no line end."""
    seen = seen_in(scene, dice)
    tags = tags_of(scene, seen, owner, dice)
    photo_id, nsid = str(5_000_000_000 + number), f"{dice.randrange(10**7, 10**8)}@N{dice.randrange(100):02d}"
    day = f"{dice.randrange(2004, 2014)}-{dice.randrange(1, 13):02d}-{dice.randrange(1, 29):02d}"
    columns: Sequence[str] = (
        photo_id,
        nsid,
        f"owner{dice.randrange(400)}",
        f"{day} {dice.randrange(24):02d}:00:00.0",
        str(1_100_000_000 + number),
        quote_plus(owner.camera),
        quote_plus(title_of(scene, seen, owner, dice)),
        quote_plus(description_of(scene, seen, owner, dice)),
        ",".join(quote_plus(tag) for tag in tags),
        "",
        "",
        "",
        "",
        f"http://www.flickr.com/photos/{nsid}/{photo_id}/",
        f"http://farm1.staticflickr.com/1/{photo_id}_0.jpg",
        "Attribution License",
        "http://creativecommons.org/licenses/by/2.0/",
        "1",
        "1",
        "0",
        "0",
        "jpg",
        "0",
    )
    return "\t".join(columns)
