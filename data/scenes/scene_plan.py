"""The world of the rendered scenes: which places, lights and things a photograph there may show together.

Decides and describes only; ``data.scene_drawing`` draws, ``data.scene_words`` words it. Pure Python, seeded.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

T = TypeVar("T")

#: Pixels (width, height) of the pictures, with weights: mostly landscape, as photographs are.
SHAPES = {(160, 120): 10, (160, 107): 4, (120, 160): 4, (140, 140): 1}

#: How the picture was finished, with weights.
STYLES = {"plain": 10, "vivid": 4, "warm": 2, "cold": 2, "faded": 2, "lomo": 2, "bw": 2, "sepia": 0.6}

#: Lights that are also things to name, which the whole picture shows rather than some of its pixels.
AIR = ("sunset", "night", "rain", "fog")


class Place(NamedTuple):
    """Where the camera stands: what is always there, what may be (with its probability), and the weights of lights."""

    always: tuple[str, ...]
    maybe: Mapping[str, float]
    lights: Mapping[str, float]
    weight: float = 1


@dataclass(frozen=True)
class Scene:
    """One photograph before it is drawn or told."""

    place: str
    light: str
    season: str
    things: tuple[str, ...]
    style: str
    shape: tuple[int, int]

    def has(self, thing: str) -> bool:
        """Whether ``thing`` is to be in the picture."""
        return thing in self.things


_OPEN = {"day": 5, "overcast": 1.5, "golden": 2, "sunset": 3, "dusk": 1, "night": 1, "rain": 0.5, "fog": 0.6}
_LAND = {"day": 6, "overcast": 1.5, "golden": 2.5, "sunset": 1.2, "dusk": 0.4, "night": 0.5, "rain": 0.6, "fog": 0.9}
_NEAR = {"day": 6, "overcast": 2, "golden": 2, "rain": 0.6}
_TOWN = {"day": 3, "overcast": 1, "golden": 1, "sunset": 1, "dusk": 2, "night": 4, "rain": 1, "fog": 0.4}

PLACES: dict[str, Place] = {
    "coast": Place(
        ("sky", "sea"),
        {"clouds": 0.6, "boat": 0.5, "bird": 0.35, "mountain": 0.2, "lighthouse": 0.2, "rocks": 0.35},
        _OPEN,
        1.6,
    ),
    "beach": Place(
        ("sky", "sea", "beach"),
        {"clouds": 0.5, "palm": 0.35, "people": 0.45, "boat": 0.2, "bird": 0.25, "mountain": 0.15},
        _OPEN,
        1.5,
    ),
    "lake": Place(
        ("sky", "lake"),
        {"mountain": 0.65, "forest": 0.6, "clouds": 0.5, "boat": 0.25, "bird": 0.12, "house": 0.15},
        _LAND,
        1.2,
    ),
    "river": Place(
        ("sky", "river", "meadow"),
        {"tree": 0.6, "forest": 0.5, "bridge": 0.4, "clouds": 0.5, "house": 0.2, "mountain": 0.3},
        _LAND,
        0.9,
    ),
    "mountains": Place(
        ("sky", "mountain"),
        {"clouds": 0.55, "forest": 0.5, "meadow": 0.5, "house": 0.15, "bird": 0.1, "road": 0.12},
        _LAND,
        1.3,
    ),
    "wood": Place(("forest",), {"path": 0.4, "people": 0.12}, {"day": 4, "golden": 3, "fog": 2, "overcast": 1}, 1.0),
    "meadow": Place(
        ("sky", "meadow"),
        {"clouds": 0.6, "tree": 0.65, "flower": 0.45, "house": 0.2, "sheep": 0.18, "mountain": 0.2, "bird": 0.1},
        _LAND,
        1.4,
    ),
    "flowers": Place(("flower",), {"bokeh": 0.8, "rain": 0.05}, _NEAR, 1.6),
    "desert": Place(
        ("sky", "desert"),
        {"clouds": 0.25, "mountain": 0.3, "cactus": 0.35, "road": 0.2, "people": 0.12},
        {"day": 4, "golden": 3, "sunset": 2, "night": 0.8},
        0.7,
    ),
    "skyline": Place(("sky", "city"), {"river": 0.55, "clouds": 0.4, "bird": 0.08, "bridge": 0.2}, _TOWN, 1.2),
    "street": Place(
        ("street", "sky"), {"car": 0.7, "people": 0.5, "lamp": 0.8, "tree": 0.25, "clouds": 0.2}, _TOWN, 1.4
    ),
    "road": Place(
        ("sky", "road"),
        {"car": 0.55, "mountain": 0.45, "meadow": 0.6, "forest": 0.35, "clouds": 0.55, "tree": 0.3},
        _LAND,
        1.0,
    ),
    "village": Place(
        ("sky", "house", "meadow"),
        {"clouds": 0.5, "church": 0.35, "tree": 0.8, "mountain": 0.4, "car": 0.2, "road": 0.25},
        _LAND | {"night": 1, "dusk": 1},
        1.1,
    ),
    "winter": Place(
        ("sky", "snow"),
        {"tree": 0.6, "forest": 0.5, "house": 0.35, "mountain": 0.4, "people": 0.2, "clouds": 0.3},
        {"day": 4, "overcast": 2, "golden": 1, "sunset": 1, "dusk": 0.6, "night": 0.7, "snowfall": 2.5, "fog": 0.5},
        1.2,
    ),
    "harbour": Place(
        ("sky", "sea", "boat", "house"), {"clouds": 0.5, "bird": 0.4, "mountain": 0.3}, _TOWN | {"day": 5}, 0.8
    ),
    "heaven": Place(
        ("sky",),
        {"clouds": 0.75, "bird": 0.4},
        {"day": 4, "golden": 1, "sunset": 3, "dusk": 1, "night": 3, "overcast": 0.3},
        1.0,
    ),
    "branch": Place(("bird", "branch"), {"bokeh": 0.6}, _NEAR, 0.7),
}


def pick(dice: random.Random, weights: Mapping[T, float]) -> T:
    """One key, each with the probability of its weight."""
    return dice.choices(list(weights), list(weights.values()))[0]


def chance(dice: random.Random, probability: float) -> bool:
    """Whether something of that probability happens."""
    return dice.random() < probability


def imagine(dice: random.Random) -> Scene:
    """A scene of this world: a place, a light, a season, and the things that go with them.

    Boats come with water, stars with night, leaves turn in autumn, flowers bloom from spring to summer.
    """
    name = pick(dice, {name: place.weight for name, place in PLACES.items()})
    place = PLACES[name]
    light = pick(dice, place.lights)
    season = "winter" if name == "winter" else pick(dice, {"spring": 3, "summer": 5, "autumn": 3, "winter": 1})
    if season == "winter" and name in ("flowers", "desert", "beach", "branch"):
        season = "summer"
    things = list(place.always) + [thing for thing, share in place.maybe.items() if chance(dice, share)]
    things += _weather(dice, name, light, season)
    return Scene(name, light, season, _agreed(things, light, season), pick(dice, STYLES), pick(dice, SHAPES))


def _weather(dice: random.Random, place: str, light: str, season: str) -> list[str]:
    """What the light and the season bring along."""
    outdoors = place not in ("wood", "flowers", "branch")
    things = []
    if light in AIR:
        things.append(light)
    if light == "snowfall" or (season == "winter" and place in ("mountains", "village", "road", "meadow", "lake")):
        things.append("snow")
    if place == "mountains" and chance(dice, 0.5):
        things.append("snow")
    if light == "night" and outdoors:
        things += [thing for thing, share in (("moon", 0.45), ("stars", 0.55)) if chance(dice, share)]
    if light == "night" and place == "heaven" and "moon" not in things:
        things.append("stars")
    if light == "dusk" and outdoors and chance(dice, 0.3):
        things.append("moon")
    if outdoors and chance(dice, {"sunset": 0.65, "golden": 0.3, "day": 0.08, "fog": 0.15}.get(light, 0)):
        things.append("sun")
    if light == "day" and place in ("meadow", "coast", "mountains", "village", "lake") and chance(dice, 0.06):
        things += ["rainbow", "clouds"]
    if light in ("dusk", "night") and place in ("street", "village", "harbour"):
        things.append("lamp")
    if light in ("overcast", "rain", "snowfall") and outdoors:
        things.append("clouds")
    return things


def _agreed(things: Sequence[str], light: str, season: str) -> tuple[str, ...]:
    """Each thing once, without those that the others rule out."""
    kept = list(dict.fromkeys(things))
    if light in ("night", "fog", "rain", "snowfall"):
        kept = [thing for thing in kept if thing not in ("bird", "sheep") or "branch" in kept]
    if light == "fog":
        kept = [thing for thing in kept if thing not in ("clouds", "rainbow")]
    if "snow" in kept:
        kept = [thing for thing in kept if thing not in ("flower", "sheep", "bird")]
        if "mountain" not in kept or season == "winter":
            kept = [thing for thing in kept if thing != "meadow"]
    if season == "autumn" and "sky" in kept:
        kept = [thing for thing in kept if thing != "flower"]
    return tuple(kept)
