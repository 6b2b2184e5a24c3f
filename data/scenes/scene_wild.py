"""The places of the rendered scenes in which nature is the subject, each painted from far to near."""

from __future__ import annotations

import numpy as np

from data.scenes import scene_land as land
from data.scenes import scene_life as life
from data.scenes import scene_parts as parts
from data.scenes import scene_town as town
from data.scenes import scene_traffic as traffic
from data.scenes.scene_canvas import SIDE, Canvas, mix, sample, smooth
from data.scenes.scene_plan import Scene


def coast(c: Canvas, scene: Scene) -> None:
    """The open sea from the shore, or from a boat."""
    dice = c.dice
    horizon = c.h * dice.uniform(0.32, 0.66)
    parts.backdrop(c, scene, horizon, (0.06, 0.18), 1)
    calm = dice.choice([0.1, 0.2, 0.4, 0.6, 0.75])
    land.water(c, horizon, "sea", calm)
    if scene.has("lighthouse"):
        town.lighthouse(c, dice.choice([0.14, 0.25, 0.78]) * c.w, horizon + c.h * 0.05, c.h * dice.uniform(0.2, 0.4))
    if scene.has("boat"):
        parts.boats(c, horizon, dice.choice([1, 1, 1, 2, 4]))
    if scene.has("rocks"):
        land.rocks(c, horizon + (c.h - horizon) * 0.35)
    parts.flock(c, scene, horizon)


def beach(c: Canvas, scene: Scene) -> None:
    """Sand, surf and those who came for it."""
    dice = c.dice
    horizon = c.h * dice.uniform(0.3, 0.5)
    parts.backdrop(c, scene, horizon, (0.05, 0.15), 1)
    land.water(c, horizon, "sea", dice.uniform(0.15, 0.5))
    slope, row = dice.uniform(-0.35, 0.35) * c.h, c.h * dice.uniform(0.6, 0.8)
    edge = land.level(c, row, c.h * 0.03, 2.2, 0.7) + slope * (c.x[0] / c.w - 0.5)
    if scene.has("boat"):
        parts.boats(c, horizon, 1, float(edge.min()))
    y0 = int(max(edge.min() - 12, horizon))
    off = c.y[y0:] - edge[None]
    lace = sample(1.0, c.x * 1.7 + dice.uniform(0, SIDE), c.y[y0:] * 2.5 + 0 * c.x)
    foam = smooth(-9, -3, off + (lace - 0.5) * 9) * smooth(4, 1, off + (lace - 0.5) * 9)
    sand = dice.choice([(0.86, 0.76, 0.58), (0.92, 0.86, 0.74), (0.78, 0.64, 0.46)])
    land.ground(c, edge, sand, [part * 1.03 for part in sand], "beach", 0.16)
    wet = smooth(16, 2, off) * smooth(-1, 1, off) * 0.5
    c.fill(wet, mix(c.light.on([part * 0.55 for part in sand], 0.8), c.light.middle, 0.3), None, y0)
    c.fill(foam * 0.9, c.light.on((0.97, 0.98, 0.98)), None, y0)
    if scene.has("people"):
        parts.people(c, float(edge.max()) + 4, c.h * 0.98, dice.randrange(1, 7), c.h * dice.uniform(0.12, 0.26))
    if scene.has("palm"):
        for _ in range(dice.choice([1, 1, 2, 3])):
            layer, _pen = c.layer()
            life.palm(
                c,
                layer,
                dice.choice([dice.uniform(0.0, 0.25), dice.uniform(0.75, 1.0)]) * c.w,
                c.h * dice.uniform(0.8, 1.02),
                c.h * dice.uniform(0.5, 0.85),
            )
            c.paste(layer, "palm")
    parts.flock(c, scene, horizon)


def lake(c: Canvas, scene: Scene) -> None:
    """A quiet lake that mirrors its shore."""
    dice = c.dice
    shore = c.h * dice.uniform(0.46, 0.64)
    parts.backdrop(c, scene, shore, (0.2, 0.42))
    if not scene.has("mountain") or dice.random() < 0.5:
        land.hills(
            c, shore - 2, c.h * 0.09, life.leaf(c, scene.season), 1.0, "forest" if scene.has("forest") else "meadow"
        )
    if scene.has("forest"):
        life.wood_edge(c, shore, c.h * dice.uniform(0.08, 0.2), 0.5, scene.season, scene.has("snow"))
    if scene.has("house"):
        town.house(c, dice.uniform(0.15, 0.85) * c.w, shore + 1, c.w * dice.uniform(0.06, 0.12), 0.4, scene.has("snow"))
    land.water(c, shore, "lake", dice.uniform(0.7, 0.98))
    if scene.has("boat"):
        parts.boats(c, shore, 1)
    parts.flock(c, scene, shore)
    parts.foreground(c)


def river(c: Canvas, scene: Scene) -> None:
    """A river through meadows."""
    dice = c.dice
    horizon = c.h * dice.uniform(0.36, 0.52)
    parts.backdrop(c, scene, horizon, (0.15, 0.3))
    land.hills(c, horizon, c.h * 0.07, life.leaf(c, scene.season), 0.9, "meadow")
    if scene.has("forest"):
        life.wood_edge(c, horizon + 2, c.h * dice.uniform(0.08, 0.16), 0.6, scene.season, scene.has("snow"))
    if scene.has("house"):
        town.house(c, dice.uniform(0.1, 0.9) * c.w, horizon + 4, c.w * dice.uniform(0.07, 0.12), 0.4, scene.has("snow"))
    parts.meadow(c, scene, land.level(c, horizon, 3))
    t = np.clip((c.y[int(horizon) :] - horizon) / (c.h - horizon), 0, 1)
    swing = dice.uniform(0.08, 0.22) * np.sin(5 * t**0.6 + dice.uniform(0, 6)) * t
    middle = c.w * (0.5 + dice.uniform(-0.25, 0.25) * (1 - t) + swing)
    rough = (sample(1.4, c.x * 1.5, c.h * t + 0 * c.x) - 0.5) * 22 * t
    mask = smooth(1.5, -1.5, np.abs(c.x - middle) + rough - c.w * (0.02 + dice.uniform(0.24, 0.42) * t))
    land.water(c, horizon, "river", dice.uniform(0.6, 0.9), mask)
    if scene.has("bridge"):
        town.bridge(c, horizon + (c.h - horizon) * 0.16, c.h * dice.uniform(0.14, 0.22), c.h * 0.75)
    if scene.has("tree"):
        for side in dice.sample((0.04, 0.14, 0.86, 0.97), dice.randrange(1, 3)):
            parts.tree(c, scene, side * c.w, c.h * dice.uniform(0.7, 0.96), c.h * dice.uniform(0.45, 0.85))


def mountains(c: Canvas, scene: Scene) -> None:
    """A range above meadows or woods."""
    dice = c.dice
    base = c.h * dice.uniform(0.62, 0.92)
    parts.heaven(c, scene, base * 0.95)
    parts.mountain_range(c, scene, base, dice.uniform(0.32, 0.6), dice.choice([2, 3]))
    if scene.has("forest"):
        land.hills(c, base, c.h * 0.08, (0.16, 0.26, 0.14), 0.7, "forest")
        life.wood_edge(c, base + c.h * 0.03, c.h * dice.uniform(0.09, 0.2), 0.4, scene.season, scene.has("snow"))
    if scene.has("meadow") or scene.has("road") or not scene.has("forest"):
        edge = land.level(c, base + c.h * 0.03, c.h * 0.05)
        parts.meadow(c, scene, edge)
    if scene.has("road"):
        traffic.road(
            c,
            base + c.h * 0.04,
            dice.uniform(0.3, 0.7) * c.w,
            c.w * 0.16,
            dice.uniform(-0.5, 0.5),
            "snowy road" if scene.season == "winter" else "road",
        )
    if scene.has("house"):
        town.house(
            c, dice.uniform(0.15, 0.85) * c.w, base + c.h * 0.08, c.w * dice.uniform(0.08, 0.16), 0.2, scene.has("snow")
        )
    parts.flock(c, scene, base * 0.6)


def wood(c: Canvas, scene: Scene) -> None:
    """Inside a forest: trunks behind trunks, leaves above, the light coming through."""
    dice, light = c.dice, c.light
    floor = c.h * dice.uniform(0.55, 0.72)
    far = np.asarray(light.haze) * 0.9 + np.asarray(life.leaf(c, scene.season)) * 0.25
    c.rgb[:] = mix(far, light.on(life.leaf(c, scene.season), 0.9), 0.35)
    c.own(np.ones(c.owners.shape, bool), "forest")
    leaves = sample(0.9, c.x * 2 + dice.uniform(0, SIDE), c.y * 2 + 0 * c.x)
    c.fill(smooth(0.5, 0.75, leaves) * 0.5, light.on(life.leaf(c, scene.season), 1.0, 0.5))
    litter = (0.44, 0.28, 0.12) if scene.season in ("autumn", "winter") else (0.24, 0.32, 0.12)
    land.ground(c, land.level(c, floor, c.h * 0.04), litter, [part * 1.4 for part in litter], "forest", 1.0)
    if scene.has("path"):
        traffic.road(c, floor, c.w * dice.uniform(0.35, 0.65), c.w * 0.16, dice.uniform(-0.4, 0.4), "path")
    for row in range(4):
        layer, pen = c.layer()
        near = (row + 0.6) / 4
        for _ in range(dice.randrange(7, 12) - 2 * row):
            x, wide = dice.uniform(-0.02, 1.02) * c.w, c.w * (0.006 + 0.026 * near**1.5) * dice.uniform(0.7, 1.4)
            foot, lean = floor + (c.h - floor) * near * dice.uniform(0.5, 0.9), dice.uniform(-0.04, 0.04) * c.h
            bark = (
                dice.choice([(0.34, 0.25, 0.18), (0.26, 0.20, 0.16), (0.62, 0.60, 0.56)]) if row else (0.30, 0.24, 0.2)
            )
            for part, shade in ((1.0, 0.25), (0.45, 0.7)):
                shift = wide * (1 - part) * (1 if light.sun[0] > 0.5 else -1)
                pen.polygon([(x - wide * part * 1.4 + shift, foot), (x + lean - wide * part * 0.6 + shift, -4),
                             (x + lean + wide * part * 0.6 + shift, -4), (x + wide * part * 1.4 + shift, foot)],
                            fill=light.ink(bark, shade, 1.6 * (1 - near)))  # fmt: skip
        c.paste(layer, "tree", 1.2 * (1 - near))
        crowns = sample(
            1.1, c.x * (2.6 - near) + dice.uniform(0, SIDE), c.y * (2.6 - near) + dice.uniform(0, SIDE) + 0 * c.x
        )
        high = smooth(0.62, 0.0, c.y / c.h) * 0.5
        leafy = smooth(0.62, 0.72, crowns + high * 0.55)
        tone = light.on(life.leaf(c, scene.season), 0.35 + 0.6 * dice.random(), 1.2 * (1 - near))
        c.fill(leafy * 0.9, tone * (0.6 + 0.8 * crowns[..., None]), "forest")
    if scene.has("people"):
        parts.people(c, floor + 6, floor + c.h * 0.15, dice.randrange(1, 3), c.h * 0.2)
    if scene.light in ("golden", "fog", "day") and dice.random() < 0.7:
        angle = (light.sun[0] - 0.5) * 1.4
        beams = sample(1.6, (c.x + angle * c.y) * 0.8 + dice.uniform(0, SIDE), 0 * c.y + 0 * c.x)
        c.rgb += (smooth(0.5, 0.8, beams) * (1 - c.y / c.h) * 0.45)[..., None] * np.asarray(light.direct, np.float32)


def open_land(c: Canvas, scene: Scene) -> None:
    """Meadows and fields."""
    dice = c.dice
    horizon = c.h * dice.uniform(0.36, 0.68)
    parts.backdrop(c, scene, horizon, (0.12, 0.3))
    for row in range(dice.randrange(0, 3)):
        land.hills(c, horizon + row * 3, c.h * 0.08, life.leaf(c, scene.season), 1.4 - 0.5 * row, "meadow")
    edge = land.level(c, horizon + c.h * 0.03, c.h * dice.uniform(0.01, 0.06))
    parts.meadow(c, scene, edge)
    if scene.has("house"):
        town.house(
            c,
            dice.uniform(0.1, 0.9) * c.w,
            horizon + c.h * 0.08,
            c.w * dice.uniform(0.07, 0.16),
            0.3,
            scene.has("snow"),
        )
    if scene.has("sheep"):
        life.sheep(c, horizon + c.h * 0.05)
    if scene.has("flower"):
        life.flower_field(c, horizon + c.h * 0.04, dice.sample(life.PETALS, dice.randrange(1, 4)))
    if scene.has("tree"):
        for _ in range(dice.choice([1, 1, 2, 3])):
            near = dice.random()
            parts.tree(
                c,
                scene,
                dice.uniform(0.08, 0.92) * c.w,
                horizon + c.h * (0.05 + 0.2 * near),
                c.h * (0.14 + 0.42 * near),
                0.4 * (1 - near),
            )
    parts.flock(c, scene, horizon)


def desert(c: Canvas, scene: Scene) -> None:
    """Dunes, or a plain with a road."""
    dice = c.dice
    horizon = c.h * dice.uniform(0.36, 0.58)
    parts.backdrop(c, scene, horizon, (0.08, 0.22), 1)
    if scene.has("road"):
        land.ground(c, land.level(c, horizon, 3), (0.76, 0.52, 0.32), (0.82, 0.60, 0.40), "desert", 0.4)
        traffic.road(c, horizon + 2, dice.uniform(0.35, 0.65) * c.w, c.w * 0.22, 0, "road")
    else:
        land.dunes(c, horizon)
    if scene.has("cactus"):
        for near in sorted(dice.random() for _ in range(dice.choice([1, 1, 2, 4]))):
            life.cactus(
                c,
                dice.uniform(0.05, 0.95) * c.w,
                horizon + (c.h - horizon) * (0.15 + 0.75 * near),
                c.h * (0.12 + 0.5 * near),
            )
    if scene.has("people"):
        parts.people(c, horizon + c.h * 0.12, horizon + c.h * 0.3, dice.randrange(1, 5), c.h * 0.12)


def winter(c: Canvas, scene: Scene) -> None:
    """Snow-covered country."""
    dice = c.dice
    horizon = c.h * dice.uniform(0.4, 0.6)
    parts.backdrop(c, scene, horizon, (0.16, 0.34))
    land.ground(c, land.level(c, horizon, c.h * 0.02), (0.93, 0.95, 1.0), (0.86, 0.89, 0.95), "snow", 0.1)
    if scene.has("forest"):
        life.wood_edge(c, horizon + c.h * 0.04, c.h * dice.uniform(0.14, 0.3), 0.5, "winter", True)
    land.ground(c, land.level(c, horizon + c.h * 0.12, c.h * 0.05), (0.94, 0.96, 1.0), (0.88, 0.91, 0.97), "snow", 0.14)
    if scene.has("house"):
        town.house(c, dice.uniform(0.15, 0.85) * c.w, horizon + c.h * 0.16, c.w * dice.uniform(0.14, 0.26), 0.2, True)
    if scene.has("tree"):
        for near in sorted(dice.random() for _ in range(dice.randrange(1, 5))):
            parts.tree(
                c,
                scene,
                dice.uniform(0.05, 0.95) * c.w,
                horizon + c.h * (0.12 + 0.28 * near),
                c.h * (0.2 + 0.45 * near),
                0.4 * (1 - near),
            )
    if scene.has("people"):
        parts.people(c, horizon + c.h * 0.2, c.h * 0.95, dice.randrange(1, 4), c.h * dice.uniform(0.14, 0.26))


def sky_only(c: Canvas, scene: Scene) -> None:
    """The sky, and little or nothing under it."""
    horizon = c.h * c.dice.choice([1.05, 1.3, 0.93])
    parts.heaven(c, scene, horizon)
    if horizon < c.h:
        land.hills(c, horizon, c.h * 0.06, (0.12, 0.14, 0.10), 0.2, "meadow")
    parts.flock(c, scene, c.h * 0.9)


def flowers(c: Canvas, scene: Scene) -> None:
    """Flowers near by, before a blurred garden."""
    dice = c.dice
    parts.close_up(c, scene)
    petal = [min(part * dice.gauss(1, 0.05), 1) for part in dice.choice(life.PETALS)]
    kind = dice.choice(["daisy", "sunflower", "poppy", "rose", "aster"])
    if kind == "sunflower":
        petal = [0.98, 0.76, 0.08]
    count = dice.choice([1, 1, 2, 3, 5])
    size = c.h * dice.uniform(0.24, 0.42) / (1 + 0.28 * (count - 1))
    behind = dice.randrange(0, 4)
    for number in range(behind + count):
        far = number < behind
        layer, pen = c.layer()
        x, y = dice.uniform(0.18, 0.82) * c.w, dice.uniform(0.22, 0.68) * c.h
        r = size * (0.6 if far else dice.uniform(0.8, 1.1))
        life.stem(c, pen, x, y, c.h * 1.05, r * 0.09)
        life.blossom(c, pen, x, y, r, petal, kind)
        c.paste(layer, "flower", 5.0 if far else dice.choice([0, 0, 0, 1.2]))


def branch(c: Canvas, scene: Scene) -> None:
    """A small bird on a branch."""
    dice = c.dice
    parts.close_up(c, scene)
    layer, pen = c.layer()
    y0, y1 = dice.uniform(0.55, 0.85) * c.h, dice.uniform(0.55, 0.85) * c.h
    wide = c.h * dice.uniform(0.02, 0.04)
    points = [(t * c.w, y0 + (y1 - y0) * t + 5 * np.sin(9 * t)) for t in np.linspace(-0.02, 1.02, 16)]
    pen.line(points, fill=c.light.ink((0.30, 0.22, 0.16), 0.35), width=int(wide * 1.6))
    pen.line([(x, y - wide * 0.3) for x, y in points], fill=c.light.ink((0.42, 0.32, 0.24), 0.9), width=int(wide * 0.7))
    for _ in range(dice.randrange(3, 12)):
        x, y = dice.choice(points)
        life.petal_shape(
            pen,
            x,
            y,
            dice.uniform(0, 6.3),
            c.h * dice.uniform(0.08, 0.16),
            c.h * 0.03,
            1,
            c.light.ink(life.leaf(c, scene.season), dice.uniform(0.4, 1)),
        )
    c.paste(layer, "branch")
    at = dice.uniform(0.3, 0.7)
    life.perched(c, at * c.w, y0 + (y1 - y0) * at + 5 * np.sin(9 * at) - wide * 0.5, c.h * dice.uniform(0.26, 0.46))
