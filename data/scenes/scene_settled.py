"""The places of the rendered scenes in which people live, each painted from far to near."""

from __future__ import annotations

from data.scenes import scene_land as land
from data.scenes import scene_life as life
from data.scenes import scene_parts as parts
from data.scenes import scene_town as town
from data.scenes import scene_traffic as traffic
from data.scenes.scene_canvas import Canvas
from data.scenes.scene_plan import Scene


def skyline(c: Canvas, scene: Scene) -> None:
    """A city seen from afar, perhaps over its river."""
    dice = c.dice
    base = c.h * dice.uniform(0.6, 0.74) if scene.has("river") else c.h * dice.uniform(0.86, 1.0)
    parts.heaven(c, scene, base)
    town.skyline(c, base, c.h * dice.uniform(0.3, 0.55))
    if scene.has("river"):
        land.water(c, base, "river", dice.uniform(0.55, 0.9))
        if scene.has("bridge"):
            town.bridge(c, base + c.h * 0.06, c.h * dice.uniform(0.14, 0.24), c.h)
    else:
        land.ground(c, land.level(c, base, 4), (0.22, 0.22, 0.2), (0.3, 0.3, 0.3), "city", 0.6)
    parts.flock(c, scene, base * 0.5)


def street(c: Canvas, scene: Scene) -> None:
    """Down a street between houses."""
    dice = c.dice
    horizon, vanish = c.h * dice.uniform(0.46, 0.62), c.w * dice.uniform(0.38, 0.62)
    parts.heaven(c, scene, horizon)
    town.street(c, horizon, vanish)
    spots = [0.16, 0.3, 0.55] if scene.has("lamp") else []
    for depth in spots:
        for side in (-1, 1):
            town.lamp(
                c, vanish + side * depth * c.w * 0.40, horizon + depth * (c.h - horizon), c.h * 0.85 * depth, -side
            )
    if scene.has("tree"):
        parts.tree(c, scene, dice.choice([0.1, 0.9]) * c.w, c.h * 0.9, c.h * dice.uniform(0.5, 0.8))
    if scene.has("car"):
        for depth in sorted(dice.uniform(0.12, 0.75) for _ in range(dice.choice([1, 2, 2, 3]))):
            side = dice.choice([-1, 1])
            traffic.car(
                c,
                vanish + side * depth * c.w * 0.17,
                horizon + depth * (c.h - horizon),
                c.w * 0.24 * depth + 4,
                "back" if side > 0 else "front",
            )
    if scene.has("people"):
        walkers: list[tuple[float, float, float]] = []
        for _ in range(dice.randrange(1, 6)):
            depth, side = dice.uniform(0.12, 0.8), dice.choice([-1, 1])
            wall = c.w - vanish if side > 0 else vanish
            x = vanish + side * depth * wall * dice.uniform(0.68, 0.92)
            walkers.append((x, horizon + depth * (c.h - horizon), c.h * 0.42 * depth + 3))
        traffic.people(c, walkers)


def road(c: Canvas, scene: Scene) -> None:
    """Along a road through open country."""
    dice = c.dice
    horizon = c.h * dice.uniform(0.4, 0.58)
    parts.backdrop(c, scene, horizon, (0.12, 0.3))
    if scene.has("forest"):
        life.wood_edge(c, horizon + 2, c.h * dice.uniform(0.08, 0.2), 0.6, scene.season, scene.has("snow"))
    if scene.has("meadow") or scene.has("snow"):
        parts.meadow(c, scene, land.level(c, horizon, 3))
    else:
        land.ground(c, land.level(c, horizon, 3), (0.46, 0.40, 0.24), (0.56, 0.50, 0.34), "", 0.7)
    vanish = dice.uniform(0.35, 0.65) * c.w
    middle = traffic.road(
        c,
        horizon + 1,
        vanish,
        c.w * dice.uniform(0.22, 0.34),
        dice.uniform(-0.35, 0.35),
        "snowy road" if scene.has("snow") else "road",
    )
    if scene.has("tree"):
        for near in sorted(dice.random() for _ in range(dice.randrange(1, 5))):
            side = dice.choice([-1, 1])
            row = horizon + (c.h - horizon) * (0.05 + 0.5 * near)
            parts.tree(
                c,
                scene,
                middle[int(row)] + side * c.w * (0.08 + 0.5 * near),
                row,
                c.h * (0.12 + 0.6 * near),
                0.6 * (1 - near),
            )
    if scene.has("car"):
        near = dice.uniform(0.1, 0.7)
        row = horizon + (c.h - horizon) * near
        side = dice.choice([-1, 1])
        traffic.car(
            c,
            middle[int(row)] + side * c.w * 0.11 * near,
            row,
            c.w * (0.03 + 0.22 * near),
            "back" if side > 0 else "front",
        )


def village(c: Canvas, scene: Scene) -> None:
    """A few houses, perhaps a church, in the country."""
    dice = c.dice
    snowy = scene.has("snow")
    horizon = c.h * dice.uniform(0.42, 0.58)
    parts.backdrop(c, scene, horizon, (0.16, 0.34))
    land.hills(
        c,
        horizon,
        c.h * 0.08,
        life.leaf(c, scene.season) if not snowy else (0.85, 0.88, 0.94),
        1.0,
        "snow" if snowy else "meadow",
    )
    parts.meadow(c, scene, land.level(c, horizon + c.h * 0.03, c.h * 0.03))
    if scene.has("road"):
        traffic.road(
            c,
            horizon + c.h * 0.1,
            dice.uniform(0.3, 0.7) * c.w,
            c.w * 0.2,
            dice.uniform(-0.4, 0.4),
            "snowy road" if snowy else "road",
        )
    spots = sorted(dice.random() for _ in range(dice.choice([1, 2, 4, 6])))
    church = dice.randrange(len(spots)) if scene.has("church") else -1
    for number, near in enumerate(spots):
        x, base, size = dice.uniform(0.08, 0.92) * c.w, horizon + c.h * (0.06 + 0.24 * near), c.w * (0.1 + 0.2 * near)
        if number == church:
            town.church(c, x, base, size * 0.8, 0.4 * (1 - near), snowy)
        else:
            town.house(c, x, base, size, 0.4 * (1 - near), snowy)
        if scene.has("tree") and dice.random() < 0.7:
            parts.tree(
                c, scene, x + dice.choice([-0.8, 0.8]) * size, base + 3, size * dice.uniform(0.8, 1.5), 0.3 * (1 - near)
            )
    if scene.has("lamp"):
        town.lamp(c, dice.uniform(0.2, 0.8) * c.w, c.h * 0.86, c.h * 0.3, dice.choice([-1, 1]))
    if scene.has("car"):
        traffic.car(c, dice.uniform(0.25, 0.75) * c.w, c.h * 0.93, c.w * dice.uniform(0.2, 0.34), "side")


def harbour(c: Canvas, scene: Scene) -> None:
    """Boats before the houses of a port."""
    dice = c.dice
    shore = c.h * dice.uniform(0.48, 0.6)
    parts.backdrop(c, scene, shore, (0.12, 0.26), 1)
    x = -c.w * 0.02
    while x < c.w:
        size = c.w * dice.uniform(0.1, 0.17)
        town.house(c, x + size / 2, shore, size, 0.3, False)
        x += size * dice.uniform(0.85, 1.3)
    if scene.has("lamp"):
        for part in (0.2, 0.5, 0.8):
            town.lamp(c, part * c.w, shore, c.h * 0.14, 1)
    land.water(c, shore, "sea", dice.uniform(0.55, 0.85))
    parts.boats(c, shore + c.h * 0.03, dice.randrange(2, 6))
    parts.flock(c, scene, shore * 0.6)
