"""What lives in the rendered scenes, painted on a ``Canvas``: trees, flowers, birds and sheep."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from data.scenes.scene_canvas import Canvas, Colour, rgba

GREENS = ((0.24, 0.42, 0.13), (0.30, 0.46, 0.16), (0.18, 0.34, 0.14), (0.38, 0.50, 0.18))
AUTUMN = ((0.78, 0.40, 0.08), (0.70, 0.24, 0.08), (0.86, 0.62, 0.14), (0.50, 0.36, 0.12))
PETALS = (
    (0.95, 0.94, 0.92), (0.92, 0.16, 0.14), (0.98, 0.80, 0.10), (0.94, 0.44, 0.62),
    (0.58, 0.30, 0.74), (0.98, 0.52, 0.12), (0.44, 0.48, 0.90), (0.96, 0.78, 0.84),
)  # fmt: skip

#: Breast and back of small birds.
PLUMAGES = (
    ((0.88, 0.40, 0.16), (0.40, 0.32, 0.24)),
    ((0.95, 0.86, 0.20), (0.22, 0.42, 0.62)),
    ((0.86, 0.82, 0.74), (0.46, 0.34, 0.24)),
    ((0.30, 0.56, 0.84), (0.16, 0.34, 0.66)),
    ((0.84, 0.12, 0.12), (0.56, 0.10, 0.10)),
    ((0.94, 0.94, 0.92), (0.32, 0.34, 0.38)),
)


def leaf(c: Canvas, season: str) -> Colour:
    """A colour of foliage in that season."""
    dice = c.dice
    base = dice.choice(AUTUMN if season == "autumn" and dice.random() < 0.75 else GREENS)
    return [max(part * dice.gauss(1, 0.08), 0) for part in base]


def conifer(c: Canvas, draw: ImageDraw.ImageDraw, x: float, base: float, height: float, depth: float,
            snowy: bool = False) -> None:  # fmt: skip
    """A fir: ragged tiers, one half lit."""
    dice, light = c.dice, c.light
    green = [part * dice.uniform(0.8, 1.15) for part in (0.13, 0.27, 0.15)]
    width, side = height * dice.uniform(0.2, 0.28), (1 if light.sun[0] > 0.5 else -1)
    draw.rectangle(
        (x - height * 0.02, base - height * 0.12, x + height * 0.02, base), fill=light.ink((0.2, 0.14, 0.1), 0.4, depth)
    )
    tiers = max(4, min(9, int(height / 9)))
    for tier in range(tiers):
        y1 = base - height * (0.08 + 0.86 * tier / tiers)
        y0 = y1 - height * 1.5 / tiers
        half = width * (1 - tier / (tiers + 0.6)) * dice.uniform(0.85, 1.1)
        lean = dice.uniform(-0.1, 0.1) * half
        for edge, shade in ((-side, 0.25), (side, 0.85)):
            tip = (x + edge * half, y1 + dice.uniform(-1, 1))
            fill = light.ink(green, shade, depth)
            draw.polygon([(x + lean, y0), tip, (x + edge * half * 0.45, y1 - height * 0.02), (x, y1)], fill=fill)
        if snowy:
            white = light.ink((0.95, 0.97, 1.0), 0.8, depth)
            draw.polygon([(x + lean, y0), (x - half * 0.75, y1 - 1), (x, y1 - height * 0.6 / tiers),
                          (x + half * 0.75, y1 - 1)], fill=white)  # fmt: skip


def branches(draw: ImageDraw.ImageDraw, dice: random.Random, x: float, y: float, length: float, angle: float,
             ink: tuple[int, ...], ends: list[tuple[float, float]]) -> None:  # fmt: skip
    """A branch and its branches; their tips are added to ``ends``."""
    x1, y1 = x + math.cos(angle) * length, y - math.sin(angle) * length
    draw.line((x, y, x1, y1), fill=ink, width=max(1, int(length * 0.16)))
    if length < 5:
        ends.append((x1, y1))
        return
    for turn in (-1, 1) if dice.random() < 0.75 else (-1, 0, 1):
        bend = turn * dice.uniform(0.25, 0.6)
        branches(draw, dice, x1, y1, length * dice.uniform(0.62, 0.78), angle + bend, ink, ends)


def broadleaf(c: Canvas, layer: Image.Image, x: float, base: float, height: float, depth: float, season: str) -> None:
    """A tree with a trunk and a crown of leaf clumps, lit from the sun's side; bare in winter."""
    dice, light = c.dice, c.light
    draw = ImageDraw.Draw(layer)
    bark = light.ink((0.26, 0.19, 0.14), 0.45, depth)
    if season == "winter":
        branches(draw, dice, x, base, height * 0.3, math.pi / 2 + dice.uniform(-0.1, 0.1), bark, [])
        return
    trunk, lean = height * dice.uniform(0.025, 0.045), dice.uniform(-0.06, 0.06) * height
    fork = base - height * 0.45
    draw.polygon([(x - trunk * 1.5, base), (x + lean - trunk * 0.7, fork), (x + lean + trunk * 0.7, fork),
                  (x + trunk * 1.5, base)], fill=bark)  # fmt: skip
    for turn in (-0.7, -0.3, 0.35, 0.75):
        draw.line(
            (x + lean, fork, x + lean + turn * height * 0.25, fork - height * 0.22), fill=bark, width=max(1, int(trunk))
        )
    albedo = np.asarray(leaf(c, season))
    side = 1 if light.sun[0] > 0.5 else -1
    wide, tall = height * dice.uniform(0.27, 0.42), height * dice.uniform(0.26, 0.36)
    cx, cy = x + lean, base - height * 0.65
    count = int(min(300, 60 + height * 1.7))
    lobes = [(dice.uniform(-0.6, 0.6), dice.uniform(-0.65, 0.5), dice.uniform(0.4, 0.62)) for _ in range(7)]
    clumps = []
    for _ in range(count):
        angle, reach = dice.uniform(0, 2 * math.pi), math.sqrt(dice.random())
        px, py, size = dice.choice(lobes)
        clumps.append((px + math.cos(angle) * reach * size, py + math.sin(angle) * reach * size))
    # Shaded ones first, so that the lit ones lie on top of them.
    clumps.sort(key=lambda at: side * at[0] * 0.6 - at[1])
    for px, py in clumps:
        shade = min(max(0.45 + 0.4 * (side * px * 0.6 - py) + dice.gauss(0, 0.14), 0.05), 1.1)
        r = height * dice.uniform(0.02, 0.062)
        at = (cx + px * wide, cy + py * tall)
        draw.ellipse(
            (at[0] - r, at[1] - r * 0.8, at[0] + r, at[1] + r * 0.8),
            fill=light.ink(albedo * dice.gauss(1, 0.07), shade, depth),
        )


def palm(c: Canvas, layer: Image.Image, x: float, base: float, height: float) -> None:
    """A palm: a bent trunk and drooping fronds."""
    dice, light = c.dice, c.light
    draw = ImageDraw.Draw(layer)
    lean = dice.uniform(-0.45, 0.45) * height
    steps = 12
    trunk = [(x + lean * (s / steps) ** 1.7, base - height * s / steps) for s in range(steps + 1)]
    for (x0, y0), (x1, y1) in pairwise(trunk):
        draw.line(
            (x0, y0, x1, y1),
            fill=light.ink((0.42, 0.33, 0.24), dice.uniform(0.4, 0.8)),
            width=max(2, int(height * 0.035)),
        )
    cx, cy = trunk[-1]
    for number in range(dice.randrange(9, 14)):
        angle = number * 2.4 + dice.uniform(-0.3, 0.3)
        reach = height * dice.uniform(0.3, 0.42)
        shade = 0.9 if math.cos(angle) * (c.light.sun[0] - 0.5) > 0 else 0.4
        ink = light.ink((0.20, 0.38, 0.14), shade)
        for step in range(1, 15):
            t = step / 14
            px = cx + math.cos(angle) * reach * t
            py = cy - math.sin(angle) * reach * 0.5 * t + reach * 0.75 * t * t
            fall = reach * 0.26 * math.sin(math.pi * min(t + 0.12, 1)) + 1
            draw.line((px, py, px + math.cos(angle) * fall * 0.5, py + fall), fill=ink, width=2)


def wood_edge(c: Canvas, base: float, height: float, depth: float, season: str, snowy: bool) -> None:
    """A forest seen from outside: rows of trees, the farther ones paler."""
    dice = c.dice
    firs = dice.random() < 0.6 or snowy
    for row in range(3):
        layer, draw = c.layer()
        far = depth + 0.35 * (2 - row)
        tall = height * (0.7 + 0.15 * row)
        x = -tall * 0.2
        while x < c.w + tall * 0.2:
            size = tall * dice.uniform(0.65, 1.1)
            foot = base + row * height * 0.07
            if firs:
                conifer(c, draw, x, foot, size, far, snowy)
                x += size * dice.uniform(0.16, 0.3)
            else:
                crown(c, draw, x, foot, size * 0.7, far, season)
                x += size * dice.uniform(0.2, 0.38)
        c.paste(layer, "forest", 0.4 if row < 2 else 0)


def crown(
    c: Canvas, draw: ImageDraw.ImageDraw, x: float, base: float, height: float, depth: float, season: str
) -> None:
    """A far tree: a few clumps, lit above and shaded below."""
    albedo = leaf(c, season)
    for _ in range(14):
        px, py = c.dice.uniform(-0.4, 0.4), c.dice.random()
        r = height * c.dice.uniform(0.1, 0.2)
        at = (x + px * height, base - py * height * 0.9)
        ink = c.light.ink(albedo, 0.2 + 0.7 * py, depth)
        draw.ellipse((at[0] - r, at[1] - r, at[0] + r, at[1] + r), fill=ink)


def cactus(c: Canvas, x: float, base: float, height: float) -> None:
    """A saguaro with arms."""
    layer, draw = c.layer()
    wide = height * 0.09

    def limb(x0: float, y0: float, x1: float, y1: float, half: float) -> None:
        side = 1 if c.light.sun[0] > 0.5 else -1
        for shift, part, shade in ((0, 1, 0.25), (0.35 * side, 0.6, 0.9)):
            left, right = sorted((x0, x1))
            box = (left - half * part + shift * half, min(y0, y1), right + half * part + shift * half, max(y0, y1))
            draw.rounded_rectangle(box, half * part, fill=c.light.ink((0.24, 0.38, 0.20), shade))

    limb(x, base - height, x, base, wide)
    for side in (-1, 1):
        if c.dice.random() < 0.8:
            y, reach = base - height * c.dice.uniform(0.35, 0.6), side * height * 0.24
            limb(x, y - wide, x + reach, y + wide, 0.1)
            limb(x + reach, y - height * c.dice.uniform(0.2, 0.36), x + reach, y + wide, wide * 0.75)
    c.paste(layer, "cactus")


def blossom(c: Canvas, draw: ImageDraw.ImageDraw, x: float, y: float, r: float, petal: Colour, kind: str) -> None:
    """A flower head of radius ``r``, seen a little from the side."""
    dice, light = c.dice, c.light
    rings = {
        "daisy": (18, 0.16, 1),
        "sunflower": (22, 0.15, 2),
        "poppy": (5, 0.62, 1),
        "rose": (6, 0.5, 4),
        "aster": (12, 0.3, 2),
    }
    count, wide, rows = rings[kind]
    squeeze = dice.uniform(0.75, 1.0)
    for row in range(rows):
        reach = r * (1 - row / (rows + 0.4))
        turn = dice.uniform(0, math.pi)
        for number in range(count):
            angle = turn + 2 * math.pi * number / count + dice.gauss(0, 0.04)
            shade = min(max(0.75 - 0.35 * math.sin(angle) + 0.08 * row + dice.gauss(0, 0.08), 0.2), 1.2)
            tone = [part * (1 - 0.07 * (number % 2) - 0.04 * row) for part in petal]
            petal_shape(
                draw, x, y, angle, reach * dice.uniform(0.9, 1.05), reach * wide, squeeze, light.ink(tone, shade)
            )
            petal_shape(draw, x, y, angle, reach * 0.6, reach * wide * 0.4, squeeze, light.ink(tone, shade * 0.8))
    if kind != "rose":
        heart = {"sunflower": (0.26, 0.15, 0.07), "poppy": (0.1, 0.08, 0.09)}.get(kind, (0.96, 0.74, 0.12))
        size = r * {"sunflower": 0.42, "poppy": 0.22}.get(kind, 0.28)
        draw.ellipse((x - size, y - size * squeeze, x + size, y + size * squeeze), fill=light.ink(heart, 0.5))
        for _ in range(int(8 + size)):
            a, d = dice.uniform(0, 2 * math.pi), size * 0.85 * math.sqrt(dice.random())
            px, py = x + math.cos(a) * d, y + math.sin(a) * d * squeeze
            draw.ellipse((px - 1, py - 1, px + 1, py + 1), fill=light.ink([h * 1.4 + 0.05 for h in heart], 1.0))


def petal_shape(draw: ImageDraw.ImageDraw, x: float, y: float, angle: float, length: float, half: float,
                squeeze: float, ink: tuple[int, ...]) -> None:  # fmt: skip
    """One petal as a rounded lens."""
    ca, sa = math.cos(angle), math.sin(angle)
    outline = (
        (0.0, 0.1),
        (0.3, 0.62),
        (0.65, 1.0),
        (0.9, 0.7),
        (1.0, 0.0),
        (0.9, -0.7),
        (0.65, -1.0),
        (0.3, -0.62),
        (0.0, -0.1),
    )
    points = [(along * length, across * half) for along, across in outline]
    draw.polygon([(x + ca * p - sa * q, y + (sa * p + ca * q) * squeeze) for p, q in points], fill=ink)


def stem(c: Canvas, draw: ImageDraw.ImageDraw, x: float, y: float, base: float, width: float) -> None:
    """A bent stem with a leaf or two."""
    dice, light = c.dice, c.light
    foot = x + dice.uniform(-0.12, 0.12) * c.w
    points = [(x + (foot - x) * t * t, y + (base - y) * t) for t in np.linspace(0, 1, 9)]
    draw.line(points, fill=light.ink((0.24, 0.42, 0.14), 0.6), width=max(1, int(width)))
    for _ in range(dice.randrange(1, 3)):
        px, py = points[dice.randrange(3, 8)]
        angle = dice.choice([-0.6, math.pi + 0.6]) + dice.gauss(0, 0.2)
        petal_shape(
            draw, px, py, angle, width * 11, width * 2.2, 1, light.ink((0.22, 0.44, 0.14), dice.uniform(0.4, 0.9))
        )


def flower_field(c: Canvas, top: float, petals: Sequence[Colour]) -> None:
    """Many small flowers over a meadow, smaller and denser towards its far edge."""
    dice = c.dice
    layer, draw = c.layer()
    for _ in range(dice.randrange(150, 420)):
        near = dice.random() ** 1.8
        x, y = dice.random() * c.w, top + (c.h - top) * (0.04 + 0.96 * near)
        r = c.w * (0.004 + 0.014 * near) * dice.uniform(0.7, 1.2)
        petal = dice.choice(petals)
        draw.ellipse(
            (x - r, y - r * 0.7, x + r, y + r * 0.7), fill=c.light.ink(petal, dice.uniform(0.5, 1), 0.5 * (1 - near))
        )
        if r > 2.5:
            draw.ellipse((x - r * 0.3, y - r * 0.3, x + r * 0.3, y + r * 0.2), fill=c.light.ink((0.9, 0.7, 0.2), 0.6))
    c.paste(layer, "flower", 0.3)


def flying(c: Canvas, draw: ImageDraw.ImageDraw, x: float, y: float, span: float) -> None:
    """A bird on the wing, as two bent wings and a body."""
    dice = c.dice
    dark = (
        c.dice.choice([(0.12, 0.12, 0.13), (0.5, 0.5, 0.52), (0.9, 0.9, 0.9)])
        if c.light.ambient[0] > 0.2
        else (0.1, 0.1, 0.1)
    )
    lift, roll = dice.uniform(0.1, 0.5), dice.uniform(-0.3, 0.3)
    ink = c.light.ink(dark, 0.7)
    for side in (-1, 1):
        knee = (x + side * span * 0.25, y - span * (lift * 0.7 + side * roll * 0.2))
        tip = (x + side * span * 0.55, y - span * (lift * 0.35 + side * roll * 0.5))
        draw.polygon(
            [(x - span * 0.06, y), knee, tip, (knee[0], knee[1] + span * 0.1), (x + span * 0.06, y + span * 0.06)],
            fill=ink,
        )
    draw.ellipse((x - span * 0.15, y - span * 0.05, x + span * 0.13, y + span * 0.07), fill=ink)


def perched(c: Canvas, x: float, y: float, size: float) -> None:
    """A small bird standing at (x, y), with breast, wing, tail, head, eye and beak."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    breast, back = dice.choice(PLUMAGES)
    way = dice.choice([-1, 1])

    def at(px: float, py: float) -> tuple[float, float]:
        return x + way * px * size, y - py * size

    def oval(px: float, py: float, rx: float, ry: float, ink: tuple[int, ...]) -> None:
        cx, cy = at(px, py)
        draw.ellipse((cx - rx * size, cy - ry * size, cx + rx * size, cy + ry * size), fill=ink)

    draw.polygon([at(-0.25, 0.35), at(-0.95, 0.0), at(-0.85, -0.14), at(-0.15, 0.15)], fill=light.ink(back, 0.5))
    for foot in (-0.05, 0.1):
        draw.line((*at(foot, 0.1), *at(foot, -0.04)), fill=light.ink((0.3, 0.2, 0.15), 0.6), width=2)
    oval(0.02, 0.38, 0.40, 0.32, light.ink(breast, 0.55))
    oval(0.08, 0.44, 0.34, 0.26, light.ink(breast, 0.9))
    draw.polygon([at(0.12, 0.58), at(-0.1, 0.24), at(-0.62, 0.1), at(-0.35, 0.5)], fill=light.ink(back, 0.65))
    draw.polygon([at(0.05, 0.55), at(-0.1, 0.34), at(-0.5, 0.2), at(-0.3, 0.48)], fill=light.ink(back, 0.95))
    oval(0.27, 0.74, 0.23, 0.21, light.ink(back, 0.85))
    oval(0.33, 0.67, 0.15, 0.12, light.ink(breast, 0.9))
    draw.polygon([at(0.46, 0.78), at(0.66, 0.71), at(0.46, 0.68)], fill=light.ink((0.3, 0.24, 0.16), 0.8))
    oval(0.35, 0.79, 0.045, 0.045, rgba((0.03, 0.03, 0.03)))
    oval(0.365, 0.80, 0.014, 0.014, rgba((0.95, 0.95, 0.95)))
    c.paste(layer, "bird")


def sheep(c: Canvas, top: float) -> None:
    """A few grazing sheep."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    for _ in range(dice.randrange(2, 7)):
        near = dice.uniform(0.08, 0.6)
        x, y, s = dice.random() * c.w, top + near * (c.h - top), c.w * (0.012 + 0.05 * near)
        for leg in (-0.6, -0.3, 0.3, 0.6):
            draw.line(
                (x + leg * s, y, x + leg * s, y + s * 0.8),
                fill=light.ink((0.15, 0.13, 0.12), 0.4),
                width=max(1, int(s * 0.14)),
            )
        for _ in range(12):
            px, py, r = x + dice.uniform(-0.75, 0.75) * s, y - dice.uniform(0, 0.6) * s, s * dice.uniform(0.28, 0.42)
            draw.ellipse(
                (px - r, py - r, px + r, py + r), fill=light.ink((0.92, 0.90, 0.84), 0.35 + 0.7 * (y - py) / s)
            )
        way = dice.choice([-1, 1])
        hx, hy = x + way * s * 1.1, y + s * 0.05
        draw.ellipse(
            (hx - s * 0.26, hy - s * 0.3, hx + s * 0.26, hy + s * 0.34), fill=light.ink((0.16, 0.14, 0.13), 0.6)
        )
    c.paste(layer, "sheep")
