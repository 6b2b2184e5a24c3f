"""A scene of ``data.scene_plan`` drawn as a small photograph: what goes where, from far to near, by place.

The shapes themselves are in ``data.scene_nature`` and ``data.scene_built``; words are in ``data.scene_words``.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from data import scene_built as built
from data import scene_nature as nature
from data.scene_canvas import SIDE, Canvas, develop, light_of, mix, sample, smooth
from data.scene_plan import Scene

#: What the whole picture shows rather than some of its pixels.
AIR = ("sunset", "night", "rain", "fog")


def draw(scene: Scene, dice: random.Random) -> tuple[Image.Image, dict[str, float]]:
    """The picture, and the part of it (0 to 1) that each concept is seen in; 1 for what the whole of it shows."""
    light = light_of(scene.light, dice)
    canvas = Canvas(scene.shape, light, dice)
    COMPOSERS[scene.place](canvas, scene)
    _weather(canvas, scene)
    shares = canvas.shares()
    shares.update({thing: 1.0 for thing in AIR if scene.has(thing)})
    return develop(canvas, scene.style, dice), shares


def _heaven(c: Canvas, scene: Scene, horizon: float) -> None:
    """The sky and all that stands in it."""
    nature.sky(c, horizon)
    if scene.has("stars"):
        nature.stars(c, horizon)
    if scene.has("moon"):
        nature.moon(c, horizon)
    if scene.has("sun"):
        nature.sun(c, horizon)
    if scene.has("clouds"):
        cover = {"overcast": 0.9, "rain": 1.0, "snowfall": 1.0}.get(scene.light, c.dice.uniform(0.2, 0.62))
        nature.clouds(c, horizon, cover)
    if scene.has("rainbow"):
        nature.rainbow(c, horizon)


def _range(c: Canvas, scene: Scene, horizon: float, height: float, rows: int = 2) -> None:
    """Mountains on the horizon, the farther ones paler."""
    snow = c.dice.uniform(0.35, 0.65) if scene.has("snow") else 2.0
    if scene.season == "winter":
        snow = 0.05
    for row in range(rows):
        part = (row + 1) / rows
        nature.mountains(
            c, horizon + 2, height * (1.15 - 0.4 * part * c.dice.random()) * c.h, 2.4 - 1.7 * part, snow + 0.1 * row
        )


def _flock(c: Canvas, horizon: float) -> None:
    layer, draw = c.layer()
    if c.dice.random() < 0.45:
        nature.flying(
            c,
            draw,
            c.dice.uniform(0.25, 0.75) * c.w,
            c.dice.uniform(0.25, 0.7) * horizon,
            c.w * c.dice.uniform(0.12, 0.24),
        )
    else:
        x, y = c.dice.uniform(0.2, 0.8) * c.w, c.dice.uniform(0.2, 0.7) * horizon
        for _ in range(c.dice.randrange(3, 15)):
            nature.flying(
                c,
                draw,
                x + c.dice.gauss(0, 0.12) * c.w,
                y + c.dice.gauss(0, 0.1) * c.h,
                c.w * c.dice.uniform(0.03, 0.06),
            )
    c.paste(layer, "bird", 0.4)


def _tree(c: Canvas, scene: Scene, x: float, base: float, height: float, depth: float = 0.0, blur: float = 0.0) -> None:
    layer, pen = c.layer()
    if c.dice.random() < 0.25 or (scene.has("snow") and c.dice.random() < 0.5):
        nature.conifer(c, pen, x, base, height, depth, scene.has("snow"))
    else:
        nature.broadleaf(c, layer, x, base, height, depth, "winter" if scene.has("snow") else scene.season)
    c.paste(layer, "tree", blur)


def _meadow(c: Canvas, scene: Scene, edge: np.ndarray) -> None:
    """Grass, or snow in winter, below the edge."""
    if scene.has("snow") and (scene.season == "winter" or scene.light == "snowfall"):
        nature.ground(c, edge, (0.93, 0.95, 1.0), (0.86, 0.89, 0.95), "snow", 0.12)
        return
    greens = {"autumn": ((0.44, 0.38, 0.14), (0.60, 0.50, 0.22)), "summer": ((0.30, 0.44, 0.12), (0.46, 0.54, 0.22))}
    near, far = greens.get(scene.season, ((0.24, 0.46, 0.12), (0.38, 0.58, 0.20)))
    nature.ground(c, edge, near, far, "meadow", 0.75)


def _coast(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    horizon = c.h * dice.uniform(0.32, 0.66)
    _heaven(c, scene, horizon)
    if scene.has("mountain"):
        _range(c, scene, horizon, dice.uniform(0.06, 0.18), 1)
    calm = dice.choice([0.1, 0.2, 0.4, 0.6, 0.75])
    nature.water(c, horizon, "sea", calm)
    if scene.has("lighthouse"):
        built.lighthouse(c, dice.choice([0.14, 0.25, 0.78]) * c.w, horizon + c.h * 0.05, c.h * dice.uniform(0.2, 0.4))
    if scene.has("boat"):
        _boats(c, horizon, dice.choice([1, 1, 1, 2, 4]))
    if scene.has("rocks"):
        nature.rocks(c, horizon + (c.h - horizon) * 0.35)
    if scene.has("bird"):
        _flock(c, horizon)


def _boats(c: Canvas, horizon: float, count: int, floor: float | None = None) -> None:
    floor = c.h if floor is None else floor
    for near in sorted(c.dice.uniform(0.04, 0.62) ** 1.4 for _ in range(count)):
        y = horizon + near * (floor - horizon) + 2
        size = c.w * (0.05 + 0.5 * near) * c.dice.uniform(0.8, 1.2)
        kind = c.dice.choice(["sail", "sail", "fishing", "rowing", "ship" if near < 0.15 else "sail"])
        built.boat(c, c.dice.uniform(0.15, 0.85) * c.w, y, size * (1.5 if kind == "ship" else 1), kind, floor)


def _beach(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    horizon = c.h * dice.uniform(0.3, 0.5)
    _heaven(c, scene, horizon)
    if scene.has("mountain"):
        _range(c, scene, horizon, dice.uniform(0.05, 0.15), 1)
    nature.water(c, horizon, "sea", dice.uniform(0.15, 0.5))
    slope, row = dice.uniform(-0.35, 0.35) * c.h, c.h * dice.uniform(0.6, 0.8)
    edge = nature.level(c, row, c.h * 0.03, 2.2, 0.7) + slope * (c.x[0] / c.w - 0.5)
    if scene.has("boat"):
        _boats(c, horizon, 1, float(edge.min()))
    y0 = int(max(edge.min() - 12, horizon))
    off = c.y[y0:] - edge[None]
    lace = sample(1.0, c.x * 1.7 + dice.uniform(0, SIDE), c.y[y0:] * 2.5 + 0 * c.x)
    foam = smooth(-9, -3, off + (lace - 0.5) * 9) * smooth(4, 1, off + (lace - 0.5) * 9)
    sand = dice.choice([(0.86, 0.76, 0.58), (0.92, 0.86, 0.74), (0.78, 0.64, 0.46)])
    nature.ground(c, edge, sand, [part * 1.03 for part in sand], "beach", 0.16)
    wet = smooth(16, 2, off) * smooth(-1, 1, off) * 0.5
    c.fill(wet, mix(c.light.on([part * 0.55 for part in sand], 0.8), c.light.middle, 0.3), None, y0)
    c.fill(foam * 0.9, c.light.on((0.97, 0.98, 0.98)), None, y0)
    if scene.has("people"):
        built.people(c, float(edge.max()) + 4, c.h * 0.98, dice.randrange(1, 7), c.h * dice.uniform(0.12, 0.26))
    if scene.has("palm"):
        for _ in range(dice.choice([1, 1, 2, 3])):
            layer, _pen = c.layer()
            nature.palm(
                c,
                layer,
                dice.choice([dice.uniform(0.0, 0.25), dice.uniform(0.75, 1.0)]) * c.w,
                c.h * dice.uniform(0.8, 1.02),
                c.h * dice.uniform(0.5, 0.85),
            )
            c.paste(layer, "palm")
    if scene.has("bird"):
        _flock(c, horizon)


def _lake(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    shore = c.h * dice.uniform(0.46, 0.64)
    _heaven(c, scene, shore)
    if scene.has("mountain"):
        _range(c, scene, shore, dice.uniform(0.2, 0.42))
    if not scene.has("mountain") or dice.random() < 0.5:
        nature.hills(
            c, shore - 2, c.h * 0.09, nature.leaf(c, scene.season), 1.0, "forest" if scene.has("forest") else None
        )
    if scene.has("forest"):
        nature.wood_edge(c, shore, c.h * dice.uniform(0.08, 0.2), 0.5, scene.season, scene.has("snow"))
    if scene.has("house"):
        built.house(
            c, dice.uniform(0.15, 0.85) * c.w, shore + 1, c.w * dice.uniform(0.06, 0.12), 0.4, scene.has("snow")
        )
    nature.water(c, shore, "lake", dice.uniform(0.7, 0.98))
    if scene.has("boat"):
        _boats(c, shore, 1)
    if scene.has("bird"):
        _flock(c, shore)
    _foreground(c, scene)


def _foreground(c: Canvas, scene: Scene) -> None:
    """A bank of grass at the lower edge, now and then."""
    if c.dice.random() < 0.45:
        edge = nature.level(c, c.h * c.dice.uniform(0.86, 0.97), c.h * 0.07) + c.dice.uniform(-0.2, 0.2) * (
            c.x[0] - c.w / 2
        )
        nature.ground(c, edge, (0.16, 0.28, 0.10), (0.22, 0.34, 0.12), "meadow", 0.9)


def _river(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    horizon = c.h * dice.uniform(0.36, 0.52)
    _heaven(c, scene, horizon)
    if scene.has("mountain"):
        _range(c, scene, horizon, dice.uniform(0.15, 0.3))
    nature.hills(c, horizon, c.h * 0.07, nature.leaf(c, scene.season), 0.9, None)
    if scene.has("forest"):
        nature.wood_edge(c, horizon + 2, c.h * dice.uniform(0.08, 0.16), 0.6, scene.season, scene.has("snow"))
    if scene.has("house"):
        built.house(
            c, dice.uniform(0.1, 0.9) * c.w, horizon + 4, c.w * dice.uniform(0.07, 0.12), 0.4, scene.has("snow")
        )
    above = c.rgb.copy()
    _meadow(c, scene, nature.level(c, horizon, 3))
    banks = c.rgb
    y0 = int(horizon) + 2
    t = (c.y[y0:] - horizon) / (c.h - horizon)
    middle = c.w * (
        0.5
        + dice.uniform(-0.25, 0.25) * (1 - t)
        + dice.uniform(0.08, 0.22) * np.sin(5 * t**0.6 + dice.uniform(0, 6)) * t
    )
    rough = (sample(1.4, c.x * 1.5, c.y[y0:] * 1.5 + 0 * c.x) - 0.5) * 22 * t
    mask = smooth(1.5, -1.5, np.abs(c.x - middle) + rough - c.w * (0.02 + dice.uniform(0.24, 0.42) * t))
    c.rgb = above
    nature.water(c, horizon, "", dice.uniform(0.6, 0.9))
    wet = c.rgb
    c.rgb = banks
    c.owners[c.owners == c.concepts.index("")] = 0
    _restore(c, y0, mask, wet)
    if scene.has("bridge"):
        built.bridge(c, horizon + (c.h - horizon) * 0.16, c.h * dice.uniform(0.14, 0.22), c.h * 0.75)
    if scene.has("tree"):
        for side in dice.sample((0.04, 0.14, 0.86, 0.97), dice.randrange(1, 3)):
            _tree(c, scene, side * c.w, c.h * dice.uniform(0.7, 0.96), c.h * dice.uniform(0.45, 0.85))


def _restore(c: Canvas, y0: int, mask: np.ndarray, wet: np.ndarray) -> None:
    """Lay the river into the meadow."""
    c.fill(mask, wet[y0:], "river", y0)


def _mountains(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    base = c.h * dice.uniform(0.62, 0.92)
    _heaven(c, scene, base * 0.95)
    _range(c, scene, base, dice.uniform(0.32, 0.6), dice.choice([2, 3]))
    if scene.has("forest"):
        nature.hills(c, base, c.h * 0.08, (0.16, 0.26, 0.14), 0.7, "forest")
        nature.wood_edge(c, base + c.h * 0.03, c.h * dice.uniform(0.09, 0.2), 0.4, scene.season, scene.has("snow"))
    if scene.has("meadow") or scene.has("road") or not scene.has("forest"):
        edge = nature.level(c, base + c.h * 0.03, c.h * 0.05)
        _meadow(c, scene, edge)
    if scene.has("road"):
        built.road(
            c,
            base + c.h * 0.04,
            dice.uniform(0.3, 0.7) * c.w,
            c.w * 0.16,
            dice.uniform(-0.5, 0.5),
            scene.season == "winter",
        )
    if scene.has("house"):
        built.house(
            c, dice.uniform(0.15, 0.85) * c.w, base + c.h * 0.08, c.w * dice.uniform(0.08, 0.16), 0.2, scene.has("snow")
        )
    if scene.has("bird"):
        _flock(c, base * 0.6)


def _wood(c: Canvas, scene: Scene) -> None:
    """Inside a forest: trunks behind trunks, leaves above, the light coming through."""
    dice, light = c.dice, c.light
    floor = c.h * dice.uniform(0.55, 0.72)
    far = np.asarray(light.haze) * 0.9 + np.asarray(nature.leaf(c, scene.season)) * 0.25
    c.rgb[:] = mix(far, light.on(nature.leaf(c, scene.season), 0.9), 0.35)
    c.own(np.ones(c.owners.shape, bool), "forest")
    leaves = sample(0.9, c.x * 2 + dice.uniform(0, SIDE), c.y * 2 + 0 * c.x)
    c.fill(smooth(0.5, 0.75, leaves) * 0.5, light.on(nature.leaf(c, scene.season), 1.0, 0.5))
    litter = (0.44, 0.28, 0.12) if scene.season in ("autumn", "winter") else (0.24, 0.32, 0.12)
    nature.ground(c, nature.level(c, floor, c.h * 0.04), litter, [part * 1.4 for part in litter], "forest", 1.0)
    if scene.has("path"):
        middle = built.road(c, floor, c.w * dice.uniform(0.35, 0.65), c.w * 0.16, dice.uniform(-0.4, 0.4), False)
        del middle
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
        tone = light.on(nature.leaf(c, scene.season), 0.35 + 0.6 * dice.random(), 1.2 * (1 - near))
        c.fill(leafy * 0.9, tone * (0.6 + 0.8 * crowns[..., None]), "forest")
    if scene.has("people"):
        built.people(c, floor + 6, floor + c.h * 0.15, dice.randrange(1, 3), c.h * 0.2)
    if scene.light in ("golden", "fog", "day") and dice.random() < 0.7:
        angle = (light.sun[0] - 0.5) * 1.4
        beams = sample(1.6, (c.x + angle * c.y) * 0.8 + dice.uniform(0, SIDE), 0 * c.y + 0 * c.x)
        c.rgb += (smooth(0.5, 0.8, beams) * (1 - c.y / c.h) * 0.45)[..., None] * np.asarray(light.direct, np.float32)


def _open_land(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    horizon = c.h * dice.uniform(0.36, 0.68)
    _heaven(c, scene, horizon)
    if scene.has("mountain"):
        _range(c, scene, horizon, dice.uniform(0.12, 0.3))
    for row in range(dice.randrange(0, 3)):
        nature.hills(c, horizon + row * 3, c.h * 0.08, nature.leaf(c, scene.season), 1.4 - 0.5 * row, "meadow")
    edge = nature.level(c, horizon + c.h * 0.03, c.h * dice.uniform(0.01, 0.06))
    _meadow(c, scene, edge)
    if scene.has("house"):
        built.house(
            c,
            dice.uniform(0.1, 0.9) * c.w,
            horizon + c.h * 0.08,
            c.w * dice.uniform(0.07, 0.16),
            0.3,
            scene.has("snow"),
        )
    if scene.has("sheep"):
        nature.sheep(c, horizon + c.h * 0.05)
    if scene.has("flower"):
        nature.flower_field(c, horizon + c.h * 0.04, dice.sample(nature.PETALS, dice.randrange(1, 4)))
    if scene.has("tree"):
        for _ in range(dice.choice([1, 1, 2, 3])):
            near = dice.random()
            _tree(
                c,
                scene,
                dice.uniform(0.08, 0.92) * c.w,
                horizon + c.h * (0.05 + 0.2 * near),
                c.h * (0.14 + 0.42 * near),
                0.4 * (1 - near),
            )
    if scene.has("bird"):
        _flock(c, horizon)


def _close_up(c: Canvas, scene: Scene) -> None:
    """The background of a close-up: blurred colours and discs of light."""
    dice, light = c.dice, c.light
    blobs = sample(2.0, c.x * 0.9 + dice.uniform(0, SIDE), c.y * 0.9 + dice.uniform(0, SIDE) + 0 * c.x)
    spots = sample(1.8, c.x * 1.6 + dice.uniform(0, SIDE), c.y * 1.6 + dice.uniform(0, SIDE) + 0 * c.x)
    deep = light.on(dice.choice([(0.10, 0.20, 0.07), (0.16, 0.22, 0.10), (0.08, 0.12, 0.10), (0.22, 0.20, 0.12)]), 0.5)
    fresh = light.on(nature.leaf(c, scene.season), 0.9)
    c.rgb[:] = mix(mix(deep, fresh, blobs[..., None]), light.horizon, (smooth(0.62, 0.95, spots) * 0.7)[..., None])
    c.own(np.ones(c.owners.shape, bool), "leaves")
    if scene.has("bokeh"):
        layer, pen = c.layer()
        for _ in range(dice.randrange(8, 30)):
            r, x, y = c.w * dice.uniform(0.02, 0.06), dice.random() * c.w, dice.random() * c.h * 0.9
            ink = (
                *(
                    int(255 * min(part * dice.uniform(0.8, 1.1), 1))
                    for part in mix(light.horizon, fresh, dice.random())
                ),
                dice.randrange(25, 100),
            )
            pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
        c.paste(layer.filter(ImageFilter.GaussianBlur(1.5)), "bokeh")


def _flowers(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    _close_up(c, scene)
    petal = [min(part * dice.gauss(1, 0.05), 1) for part in dice.choice(nature.PETALS)]
    kind = dice.choice(["daisy", "sunflower", "poppy", "rose", "aster"])
    if kind == "sunflower":
        petal = [0.98, 0.76, 0.08]
    count = dice.choice([1, 1, 2, 3, 5])
    size = c.h * dice.uniform(0.24, 0.42) / (1 + 0.28 * (count - 1))
    for number in range(count + dice.randrange(0, 4)):
        far = number < 3 and count + 3 > number and number >= count
        layer, pen = c.layer()
        x, y = dice.uniform(0.18, 0.82) * c.w, dice.uniform(0.22, 0.68) * c.h
        r = size * (0.6 if far else dice.uniform(0.8, 1.1))
        nature.stem(c, pen, x, y, c.h * 1.05, r * 0.09)
        nature.blossom(c, pen, x, y, r, petal, kind)
        c.paste(layer, "flower", 5.0 if far else dice.choice([0, 0, 0, 1.2]))


def _branch(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    _close_up(c, scene)
    layer, pen = c.layer()
    y0, y1 = dice.uniform(0.55, 0.85) * c.h, dice.uniform(0.55, 0.85) * c.h
    wide = c.h * dice.uniform(0.02, 0.04)
    points = [(t * c.w, y0 + (y1 - y0) * t + 5 * np.sin(9 * t)) for t in np.linspace(-0.02, 1.02, 16)]
    pen.line(points, fill=c.light.ink((0.30, 0.22, 0.16), 0.35), width=int(wide * 1.6))
    pen.line([(x, y - wide * 0.3) for x, y in points], fill=c.light.ink((0.42, 0.32, 0.24), 0.9), width=int(wide * 0.7))
    for _ in range(dice.randrange(3, 12)):
        x, y = dice.choice(points)
        nature.petal_shape(
            pen,
            x,
            y,
            dice.uniform(0, 6.3),
            c.h * dice.uniform(0.08, 0.16),
            c.h * 0.03,
            1,
            c.light.ink(nature.leaf(c, scene.season), dice.uniform(0.4, 1)),
        )
    c.paste(layer, "branch")
    at = dice.uniform(0.3, 0.7)
    nature.perched(c, at * c.w, y0 + (y1 - y0) * at + 5 * np.sin(9 * at) - wide * 0.5, c.h * dice.uniform(0.26, 0.46))


def _desert(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    horizon = c.h * dice.uniform(0.36, 0.58)
    _heaven(c, scene, horizon)
    if scene.has("mountain"):
        _range(c, scene, horizon, dice.uniform(0.08, 0.22), 1)
    if scene.has("road"):
        nature.ground(c, nature.level(c, horizon, 3), (0.76, 0.52, 0.32), (0.82, 0.60, 0.40), "desert", 0.4)
        built.road(c, horizon + 2, dice.uniform(0.35, 0.65) * c.w, c.w * 0.22, 0, False)
    else:
        nature.dunes(c, horizon)
    if scene.has("cactus"):
        for near in sorted(dice.random() for _ in range(dice.choice([1, 1, 2, 4]))):
            nature.cactus(
                c,
                dice.uniform(0.05, 0.95) * c.w,
                horizon + (c.h - horizon) * (0.15 + 0.75 * near),
                c.h * (0.12 + 0.5 * near),
            )
    if scene.has("people"):
        built.people(c, horizon + c.h * 0.12, horizon + c.h * 0.3, dice.randrange(1, 5), c.h * 0.12)


def _skyline(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    base = c.h * dice.uniform(0.6, 0.74) if scene.has("river") else c.h * dice.uniform(0.86, 1.0)
    _heaven(c, scene, base)
    built.skyline(c, base, c.h * dice.uniform(0.3, 0.55))
    if scene.has("river"):
        nature.water(c, base, "river", dice.uniform(0.55, 0.9))
        if scene.has("bridge"):
            built.bridge(c, base + c.h * 0.06, c.h * dice.uniform(0.14, 0.24), c.h)
    else:
        nature.ground(c, nature.level(c, base, 4), (0.22, 0.22, 0.2), (0.3, 0.3, 0.3), "city", 0.6)
    if scene.has("bird"):
        _flock(c, base * 0.5)


def _street(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    horizon, vanish = c.h * dice.uniform(0.46, 0.62), c.w * dice.uniform(0.38, 0.62)
    _heaven(c, scene, horizon)
    built.street(c, horizon, vanish)
    spots = [0.16, 0.3, 0.55] if scene.has("lamp") else []
    for depth in spots:
        for side in (-1, 1):
            built.lamp(
                c, vanish + side * depth * c.w * 0.40, horizon + depth * (c.h - horizon), c.h * 0.85 * depth, -side
            )
    if scene.has("tree"):
        _tree(c, scene, dice.choice([0.1, 0.9]) * c.w, c.h * 0.9, c.h * dice.uniform(0.5, 0.8))
    if scene.has("car"):
        for depth in sorted(dice.uniform(0.12, 0.75) for _ in range(dice.choice([1, 2, 2, 3]))):
            side = dice.choice([-1, 1])
            built.car(
                c,
                vanish + side * depth * c.w * 0.17,
                horizon + depth * (c.h - horizon),
                c.w * 0.24 * depth + 4,
                "back" if side > 0 else "front",
            )
    if scene.has("people"):
        built.people(
            c, horizon + 8, horizon + (c.h - horizon) * 0.7, dice.randrange(1, 6), c.h * dice.uniform(0.16, 0.3)
        )


def _road(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    horizon = c.h * dice.uniform(0.4, 0.58)
    _heaven(c, scene, horizon)
    if scene.has("mountain"):
        _range(c, scene, horizon, dice.uniform(0.12, 0.3))
    if scene.has("forest"):
        nature.wood_edge(c, horizon + 2, c.h * dice.uniform(0.08, 0.2), 0.6, scene.season, scene.has("snow"))
    if scene.has("meadow") or scene.has("snow"):
        _meadow(c, scene, nature.level(c, horizon, 3))
    else:
        nature.ground(c, nature.level(c, horizon, 3), (0.46, 0.40, 0.24), (0.56, 0.50, 0.34), "", 0.7)
    vanish = dice.uniform(0.35, 0.65) * c.w
    middle = built.road(
        c, horizon + 1, vanish, c.w * dice.uniform(0.22, 0.34), dice.uniform(-0.35, 0.35), scene.has("snow")
    )
    if scene.has("tree"):
        for near in sorted(dice.random() for _ in range(dice.randrange(1, 5))):
            side = dice.choice([-1, 1])
            row = horizon + (c.h - horizon) * (0.05 + 0.5 * near)
            _tree(
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
        built.car(
            c,
            middle[int(row)] + side * c.w * 0.11 * near,
            row,
            c.w * (0.03 + 0.22 * near),
            "back" if side > 0 else "front",
        )


def _village(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    snowy = scene.has("snow")
    horizon = c.h * dice.uniform(0.42, 0.58)
    _heaven(c, scene, horizon)
    if scene.has("mountain"):
        _range(c, scene, horizon, dice.uniform(0.16, 0.34))
    nature.hills(c, horizon, c.h * 0.08, nature.leaf(c, scene.season) if not snowy else (0.85, 0.88, 0.94), 1.0, None)
    _meadow(c, scene, nature.level(c, horizon + c.h * 0.03, c.h * 0.03))
    if scene.has("road"):
        built.road(c, horizon + c.h * 0.1, dice.uniform(0.3, 0.7) * c.w, c.w * 0.2, dice.uniform(-0.4, 0.4), snowy)
    spots = sorted(dice.random() for _ in range(dice.choice([1, 2, 4, 6])))
    church = dice.randrange(len(spots)) if scene.has("church") else -1
    for number, near in enumerate(spots):
        x, base, size = dice.uniform(0.08, 0.92) * c.w, horizon + c.h * (0.06 + 0.24 * near), c.w * (0.1 + 0.2 * near)
        if number == church:
            built.church(c, x, base, size * 0.8, 0.4 * (1 - near), snowy)
        else:
            built.house(c, x, base, size, 0.4 * (1 - near), snowy)
        if scene.has("tree") and dice.random() < 0.7:
            _tree(
                c, scene, x + dice.choice([-0.8, 0.8]) * size, base + 3, size * dice.uniform(0.8, 1.5), 0.3 * (1 - near)
            )
    if scene.has("lamp"):
        built.lamp(c, dice.uniform(0.2, 0.8) * c.w, c.h * 0.86, c.h * 0.3, dice.choice([-1, 1]))
    if scene.has("car"):
        built.car(c, dice.uniform(0.25, 0.75) * c.w, c.h * 0.93, c.w * dice.uniform(0.2, 0.34), "side")


def _winter(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    horizon = c.h * dice.uniform(0.4, 0.6)
    _heaven(c, scene, horizon)
    if scene.has("mountain"):
        _range(c, scene, horizon, dice.uniform(0.16, 0.34))
    nature.ground(c, nature.level(c, horizon, c.h * 0.02), (0.93, 0.95, 1.0), (0.86, 0.89, 0.95), "snow", 0.1)
    if scene.has("forest"):
        nature.wood_edge(c, horizon + c.h * 0.04, c.h * dice.uniform(0.14, 0.3), 0.5, "winter", True)
    nature.ground(
        c, nature.level(c, horizon + c.h * 0.12, c.h * 0.05), (0.94, 0.96, 1.0), (0.88, 0.91, 0.97), "snow", 0.14
    )
    if scene.has("house"):
        built.house(c, dice.uniform(0.15, 0.85) * c.w, horizon + c.h * 0.16, c.w * dice.uniform(0.14, 0.26), 0.2, True)
    if scene.has("tree"):
        for near in sorted(dice.random() for _ in range(dice.randrange(1, 5))):
            _tree(
                c,
                scene,
                dice.uniform(0.05, 0.95) * c.w,
                horizon + c.h * (0.12 + 0.28 * near),
                c.h * (0.2 + 0.45 * near),
                0.4 * (1 - near),
            )
    if scene.has("people"):
        built.people(c, horizon + c.h * 0.2, c.h * 0.95, dice.randrange(1, 4), c.h * dice.uniform(0.14, 0.26))


def _harbour(c: Canvas, scene: Scene) -> None:
    dice = c.dice
    shore = c.h * dice.uniform(0.48, 0.6)
    _heaven(c, scene, shore)
    if scene.has("mountain"):
        _range(c, scene, shore, dice.uniform(0.12, 0.26), 1)
    x = -c.w * 0.02
    while x < c.w:
        size = c.w * dice.uniform(0.1, 0.17)
        built.house(c, x + size / 2, shore, size, 0.3, False)
        x += size * dice.uniform(0.85, 1.3)
    if scene.has("lamp"):
        for part in (0.2, 0.5, 0.8):
            built.lamp(c, part * c.w, shore, c.h * 0.14, 1)
    nature.water(c, shore, "sea", dice.uniform(0.55, 0.85))
    _boats(c, shore + c.h * 0.03, dice.randrange(2, 6))
    if scene.has("bird"):
        _flock(c, shore * 0.6)


def _sky_only(c: Canvas, scene: Scene) -> None:
    horizon = c.h * c.dice.choice([1.05, 1.3, 0.93])
    _heaven(c, scene, horizon)
    if horizon < c.h:
        nature.hills(c, horizon, c.h * 0.06, (0.12, 0.14, 0.10), 0.2, None)
    if scene.has("bird"):
        _flock(c, c.h * 0.9)


def _weather(c: Canvas, scene: Scene) -> None:
    """Rain, snowflakes and fog between the camera and all the rest."""
    dice = c.dice
    if scene.light == "fog":
        bank = sample(1.8, c.x * 0.6 + dice.uniform(0, SIDE), c.y * 1.2 + 0 * c.x)
        c.fill(smooth(0.25, 0.85, bank) * 0.5 * smooth(1.1, 0.3, c.y / c.h), c.light.haze)
    if scene.light == "rain":
        layer, pen = c.layer()
        slant = dice.uniform(-0.3, 0.3)
        for _ in range(dice.randrange(90, 220)):
            x, y, long = dice.random() * c.w, dice.random() * c.h, c.h * dice.uniform(0.02, 0.09)
            pen.line((x, y, x + slant * long, y + long), fill=(225, 230, 236, dice.randrange(60, 140)), width=1)
        c.paste(layer, None, 0.4)
    if scene.light == "snowfall":
        for blur, count, size in ((0.4, 160, 1.4), (1.2, 50, 2.6), (2.5, 16, 5)):
            layer, pen = c.layer()
            for _ in range(count):
                x, y, r = dice.random() * c.w, dice.random() * c.h, size * dice.uniform(0.6, 1.3)
                pen.ellipse((x - r, y - r, x + r, y + r), fill=(248, 250, 255, 215))
            c.paste(layer, None, blur)


COMPOSERS: dict[str, Callable[[Canvas, Scene], None]] = {
    "coast": _coast, "beach": _beach, "lake": _lake, "river": _river, "mountains": _mountains, "wood": _wood,
    "meadow": _open_land, "flowers": _flowers, "desert": _desert, "skyline": _skyline, "street": _street, "road": _road,
    "village": _village, "winter": _winter, "harbour": _harbour, "heaven": _sky_only, "branch": _branch,
}  # fmt: skip
