"""What people made, and people: boats, houses, streets, cities, roads, cars and lamps of the rendered scenes.

Each function paints one thing on a ``Canvas``; where things go is decided in ``data.scene_drawing``.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from data.scene_canvas import SIDE, Canvas, Colour, mix, rgba, sample, smooth

PAINT = (
    (0.78, 0.10, 0.10), (0.90, 0.90, 0.90), (0.12, 0.24, 0.56), (0.10, 0.10, 0.12), (0.94, 0.76, 0.10),
    (0.55, 0.58, 0.60), (0.12, 0.42, 0.26), (0.86, 0.42, 0.10), (0.45, 0.70, 0.78),
)  # fmt: skip
WALLS = (
    (0.88, 0.84, 0.76), (0.76, 0.42, 0.32), (0.90, 0.74, 0.46), (0.66, 0.70, 0.74), (0.62, 0.20, 0.16),
    (0.78, 0.82, 0.70), (0.92, 0.90, 0.88), (0.52, 0.44, 0.38),
)  # fmt: skip
ROOFS = ((0.52, 0.22, 0.16), (0.30, 0.28, 0.30), (0.42, 0.30, 0.22), (0.62, 0.34, 0.22))
LAMPLIGHT = (1.25, 0.86, 0.40)


def boat(c: Canvas, x: float, y: float, size: float, kind: str, water: float) -> None:
    """A boat whose waterline is at (x, y), and its image in the water; ``size`` is its length."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    way, paint, depth = dice.choice([-1, 1]), dice.choice(PAINT), max(0.0, 1 - size / (0.12 * c.w)) * 0.6

    def shape(points: list[tuple[float, float]], albedo: Colour, shade: float) -> None:
        draw.polygon([(x + way * px * size, y - py * size) for px, py in points], fill=light.ink(albedo, shade, depth))

    if kind == "sail":
        cloth = dice.choice([(0.96, 0.95, 0.92)] * 4 + [(0.80, 0.22, 0.14), (0.94, 0.62, 0.20)])
        shape([(0.0, 0.12), (0.02, 0.12), (0.02, 1.35), (0.0, 1.35)], (0.4, 0.3, 0.2), 0.5)
        shape([(-0.03, 0.2), (-0.03, 1.3), (-0.2, 0.75), (-0.5, 0.2)], cloth, 0.9)
        shape([(0.05, 0.2), (0.05, 1.15), (0.28, 0.6), (0.5, 0.18)], cloth, 0.6)
        shape([(-0.5, 0.14), (0.58, 0.14), (0.4, -0.02), (-0.4, -0.02)], paint, 0.7)
        shape([(-0.5, 0.14), (0.58, 0.14), (0.55, 0.1), (-0.49, 0.1)], (0.95, 0.95, 0.95), 0.9)
    elif kind == "ship":
        shape([(-0.5, 0.16), (0.55, 0.2), (0.46, -0.02), (-0.46, -0.02)], dice.choice(PAINT[2:4] + PAINT[:1]), 0.6)
        shape([(-0.45, 0.16), (-0.45, 0.36), (-0.22, 0.36), (-0.22, 0.16)], (0.95, 0.95, 0.95), 0.9)
        shape([(-0.4, 0.36), (-0.4, 0.46), (-0.32, 0.46), (-0.32, 0.36)], (0.85, 0.3, 0.15), 0.7)
        for block in range(6):
            left = -0.18 + block * 0.1
            for tier in range(dice.randrange(1, 3)):
                low = 0.17 + tier * 0.07
                shape(
                    [(left, low), (left, low + 0.065), (left + 0.09, low + 0.065), (left + 0.09, low)],
                    dice.choice(PAINT),
                    0.8,
                )
    else:
        shape([(-0.5, 0.2), (-0.4, 0.15), (0.35, 0.15), (0.56, 0.28), (0.4, -0.02), (-0.4, -0.02)], paint, 0.7)
        shape(
            [(-0.5, 0.2), (-0.4, 0.15), (0.35, 0.15), (0.56, 0.28), (0.53, 0.21), (-0.48, 0.14)], (0.92, 0.9, 0.85), 0.9
        )
        if kind == "fishing":
            shape([(-0.28, 0.15), (-0.28, 0.48), (0.0, 0.48), (0.03, 0.15)], (0.94, 0.93, 0.9), 0.8)
            shape([(-0.22, 0.28), (-0.22, 0.42), (-0.04, 0.42), (-0.04, 0.28)], (0.15, 0.2, 0.25), 0.6)
            shape([(0.16, 0.15), (0.18, 0.15), (0.18, 0.8), (0.16, 0.8)], (0.4, 0.3, 0.2), 0.5)
    mirrored(c, layer, y, water)
    c.paste(layer, "boat", 0.3)
    if light.dark:
        c.glow(x, y - size * 0.3, size * 0.7, LAMPLIGHT, 0.9)


def mirrored(c: Canvas, layer: Image.Image, y: float, water: float) -> None:
    """The image of what is on ``layer`` in water at row ``y``, broken by ripples; not below row ``water``."""
    box = layer.getbbox()
    if box is None:
        return
    part = np.asarray(layer.crop((box[0], box[1], box[2], min(int(y), box[3]))))[::-1]
    rows = min(len(part), c.h - int(y), max(int(water - y), 0))
    if rows <= 0 or not part.shape[1]:
        return
    sway = np.rint(np.sin(np.arange(rows) * c.dice.uniform(0.8, 1.6)) * (0.6 + np.arange(rows) * 0.04)).astype(int)
    cols = np.clip(np.arange(part.shape[1])[None] + sway[:, None], 0, part.shape[1] - 1)
    image = Image.new("RGBA", (c.w, c.h))
    image.paste(Image.fromarray(part[np.arange(rows)[:, None], cols]), (box[0], int(y)))
    c.paste(image, None, 0.8, 0.5)


def house(c: Canvas, x: float, base: float, size: float, depth: float, snowy: bool, concept: str = "house") -> None:
    """A house of width ``size`` standing at (x, base): front, gable roof, side, windows, door, chimney."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    wall, roof = dice.choice(WALLS), (0.95, 0.96, 1.0) if snowy else dice.choice(ROOFS)
    tall, rise = size * dice.uniform(0.5, 0.95), size * dice.uniform(0.25, 0.45)
    front = size * dice.uniform(0.4, 0.6)
    near, far = (0.9, 0.4) if light.sun[0] < 0.5 else (0.45, 0.85)
    left, right, eave = x - size / 2, x + size / 2, base - tall
    draw.polygon(
        [(left, base), (left, eave), (left + front / 2, eave - rise), (left + front, eave), (left + front, base)],
        fill=light.ink(wall, near, depth),
    )
    draw.rectangle((left + front, eave, right, base), fill=light.ink(wall, far, depth))
    draw.polygon(
        [
            (left + front / 2, eave - rise),
            (right - front * 0.3, eave - rise),
            (right + size * 0.04, eave + size * 0.03),
            (left + front, eave + size * 0.02),
        ],
        fill=light.ink(roof, far * 0.95, depth),
    )
    draw.line(
        [(left - size * 0.05, eave + size * 0.04), (left + front / 2, eave - rise), (left + front, eave + size * 0.02)],
        fill=light.ink(roof, 0.5, depth),
        width=max(1, int(size * 0.05)),
    )
    if dice.random() < 0.7:
        at = left + front * 0.5 + (size - front) * 0.5
        draw.rectangle(
            (at, eave - rise * 1.4, at + size * 0.09, eave - rise * 0.6), fill=light.ink((0.45, 0.26, 0.2), 0.6, depth)
        )
    glows = []
    floors = 2 if tall > size * 0.72 else 1
    for floor in range(floors):
        y0 = eave + tall * (0.16 + floor * 0.45)
        for part in (0.16, 0.58):
            glows.append(window(c, draw, left + front * part, y0, front * 0.26, size * 0.17, depth))
        for part in (0.14, 0.56):
            glows.append(
                window(c, draw, left + front + (size - front) * part, y0, (size - front) * 0.28, size * 0.17, depth)
            )
    draw.rectangle(
        (left + front * 0.38, base - size * 0.26, left + front * 0.6, base),
        fill=light.ink(dice.choice(PAINT), 0.4, depth),
    )
    c.paste(layer, concept, 0.5 if depth > 0.6 else 0)
    for glow in glows:
        if glow is not None:
            c.glow(*glow, size * 0.35, LAMPLIGHT, 0.45)


def window(c: Canvas, draw: ImageDraw.ImageDraw, x: float, y: float, w: float, h: float, depth: float,
           ) -> tuple[float, float] | None:  # fmt: skip
    """A window pane with its frame; its middle when it is lit."""
    lit = c.light.dark and c.dice.random() < 0.55
    draw.rectangle((x - 1, y - 1, x + w + 1, y + h + 1), fill=c.light.ink((0.9, 0.88, 0.84), 0.6, depth))
    pane = rgba((1.0, 0.82, 0.42)) if lit else c.light.ink((0.22, 0.27, 0.33), c.dice.uniform(0.3, 1), depth)
    draw.rectangle((x, y, x + w, y + h), fill=pane)
    if w > 6:
        draw.line((x + w / 2, y, x + w / 2, y + h), fill=c.light.ink((0.9, 0.88, 0.84), 0.5, depth))
    return (x + w / 2, y + h / 2) if lit else None


def church(c: Canvas, x: float, base: float, size: float, depth: float, snowy: bool) -> None:
    """A house with a steeple."""
    light = c.light
    house(c, x, base, size, depth, snowy, "church")
    layer, draw = c.layer()
    wall = (0.90, 0.87, 0.80)
    left, wide, top = x - size * 0.72, size * 0.3, base - size * 1.5
    draw.rectangle((left, top, left + wide, base), fill=light.ink(wall, 0.75, depth))
    draw.rectangle((left + wide * 0.6, top, left + wide, base), fill=light.ink(wall, 0.45, depth))
    draw.polygon(
        [(left - 2, top), (left + wide / 2, top - size * 0.9), (left + wide + 2, top)],
        fill=light.ink((0.28, 0.30, 0.34), 0.6, depth),
    )
    draw.ellipse(
        (left + wide * 0.25, top + size * 0.12, left + wide * 0.75, top + size * 0.12 + wide * 0.5),
        fill=light.ink((0.2, 0.2, 0.22), 0.5, depth),
    )
    draw.line(
        (left + wide / 2, top - size * 1.02, left + wide / 2, top - size * 0.88),
        fill=light.ink((0.2, 0.2, 0.2), 0.4, depth),
        width=2,
    )
    c.paste(layer, "church")


def lighthouse(c: Canvas, x: float, base: float, size: float) -> None:
    """A striped tower on a rock; its lamp burns in the dark."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    stripe = dice.choice([(0.80, 0.12, 0.10), (0.12, 0.2, 0.45), (0.94, 0.94, 0.92)])
    draw.polygon(
        [
            (x - size * 0.7, base + size * 0.12),
            (x - size * 0.35, base - size * 0.07),
            (x + size * 0.3, base - size * 0.08),
            (x + size * 0.8, base + size * 0.12),
        ],
        fill=light.ink((0.30, 0.28, 0.26), 0.5),
    )
    for band in range(5):
        y1, y0 = base - size * band / 5, base - size * (band + 1) / 5
        r1, r0 = size * (0.13 - 0.011 * band), size * (0.13 - 0.011 * (band + 1))
        albedo = stripe if band % 2 else (0.94, 0.93, 0.9)
        draw.polygon([(x - r1, y1), (x - r0, y0), (x + r0, y0), (x + r1, y1)], fill=light.ink(albedo, 0.9))
        draw.polygon([(x + r1 * 0.2, y1), (x + r0 * 0.2, y0), (x + r0, y0), (x + r1, y1)], fill=light.ink(albedo, 0.4))
    top, r = base - size, size * 0.075
    draw.rectangle((x - r * 1.3, top - 1, x + r * 1.3, top + 2), fill=light.ink((0.2, 0.2, 0.2), 0.6))
    draw.rectangle(
        (x - r * 0.7, top - r * 1.8, x + r * 0.7, top),
        fill=rgba((1, 0.95, 0.7)) if light.dark else light.ink((0.5, 0.6, 0.65), 0.8),
    )
    draw.polygon([(x - r, top - r * 1.8), (x, top - r * 3.2), (x + r, top - r * 1.8)], fill=light.ink(stripe, 0.6))
    c.paste(layer, "lighthouse")
    if light.dark:
        c.glow(x, top - r, size * 1.2, (1.2, 1.1, 0.7), 1.2)


def bridge(c: Canvas, row: float, height: float, water: float) -> None:
    """A bridge from side to side over the water row ``row``: stone arches, or a suspension bridge."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    deck = row - height * 0.45
    if dice.random() < 0.5:
        ink = light.ink(dice.choice([(0.62, 0.20, 0.14), (0.45, 0.48, 0.5)]), 0.6, 0.3)
        wide = max(2, int(height * 0.05))
        towers = (c.w * dice.uniform(0.18, 0.3), c.w * dice.uniform(0.68, 0.82))
        for x in towers:
            draw.rectangle((x - wide, row - height * 1.5, x + wide, row + 2), fill=ink)
        draw.rectangle((0, deck - wide, c.w, deck + wide), fill=ink)
        spans = [(-0.5 * c.w + towers[0], towers[0]), towers, (towers[1], towers[1] + 0.6 * c.w)]
        for x0, x1 in spans:
            t = np.linspace(0, 1, 24)
            sag = row - height * 1.45 + (height * 0.9) * (1 - (2 * t - 1) ** 2)
            points = list(zip(x0 + (x1 - x0) * t, sag, strict=True))
            draw.line(points, fill=ink, width=max(1, wide // 2))
            for x, y in points[::2]:
                draw.line((x, y, x, deck), fill=ink, width=1)
    else:
        stone = dice.choice([(0.62, 0.56, 0.48), (0.52, 0.50, 0.48), (0.66, 0.44, 0.34)])
        draw.rectangle((0, deck - height * 0.14, c.w, row + 2), fill=light.ink(stone, 0.7, 0.3))
        draw.rectangle((0, deck - height * 0.14, c.w, deck - height * 0.08), fill=light.ink(stone, 1.0, 0.3))
        span = c.w / dice.choice([2, 3, 4])
        for number in range(-1, 5):
            x0 = number * span + span * 0.4
            arch = (x0 + span * 0.1, deck + height * 0.06, x0 + span * 0.9, row * 2 - deck)
            hole = Image.new("RGBA", layer.size)
            mask = Image.new("L", layer.size)
            ImageDraw.Draw(mask).ellipse(arch, fill=255)
            layer.paste(hole, mask=mask)
    mirrored(c, layer, row, water)
    c.paste(layer, "bridge")
    if light.dark:
        for x in np.linspace(0.05, 0.95, 9) * c.w:
            c.glow(x, deck - height * 0.12, height * 0.3, LAMPLIGHT, 0.9)


def skyline(c: Canvas, base: float, height: float) -> None:
    """The towers of a city in three rows, their windows lit when it is dark."""
    dice, light = c.dice, c.light
    middle = dice.uniform(0.25, 0.75) * c.w
    for row in range(3):
        layer, draw = c.layer()
        depth, x = 1.5 - 0.6 * row, -10.0
        while x < c.w:
            wide = c.w * dice.uniform(0.035, 0.09)
            bulge = np.exp(-(((x - middle) / (0.3 * c.w)) ** 2))
            tall = height * (0.25 + 0.75 * bulge) * dice.uniform(0.35, 1.0) * (1 - 0.16 * row)
            tower(c, draw, x, base, wide, tall, depth)
            x += wide * dice.uniform(0.8, 1.25)
        c.paste(layer, "city", 0.5 if row == 0 else 0)
    if light.dark:
        c.rgb[: int(base)] += (np.exp(-(base - c.y[: int(base)]) / (height * 0.6)) * 0.12)[..., None] * np.array(
            [1.0, 0.7, 0.4], np.float32
        )


def tower(c: Canvas, draw: ImageDraw.ImageDraw, x: float, base: float, wide: float, tall: float, depth: float) -> None:
    """One tower with its windows."""
    dice, light = c.dice, c.light
    albedo = dice.choice(
        [(0.55, 0.52, 0.50), (0.38, 0.44, 0.52), (0.66, 0.58, 0.48), (0.30, 0.32, 0.36), (0.58, 0.36, 0.28)]
    )
    top, split = base - tall, x + wide * dice.uniform(0.55, 0.8)
    near, far = (0.85, 0.35) if light.sun[0] < 0.5 else (0.4, 0.8)
    draw.rectangle((x, top, split, base), fill=light.ink(albedo, near, depth))
    draw.rectangle((split, top, x + wide, base), fill=light.ink(albedo, far, depth))
    kind = dice.random()
    if kind < 0.15:
        draw.polygon([(x, top), (x + wide / 2, top - wide * 1.2), (x + wide, top)], fill=light.ink(albedo, 0.6, depth))
    elif kind < 0.35:
        draw.line((x + wide / 2, top - wide * 0.9, x + wide / 2, top), fill=light.ink(albedo, 0.5, depth), width=2)
    step, full = dice.choice([4, 5, 6]), dice.uniform(0.25, 0.75)
    warm = dice.choice([(1.0, 0.84, 0.48), (1.0, 0.93, 0.75), (0.78, 0.9, 1.0)])
    for wy in range(int(top) + 3, int(base) - 2, step):
        for wx in range(int(x) + 2, int(x + wide) - 2, step):
            if light.dark:
                if dice.random() < full:
                    draw.rectangle(
                        (wx, wy, wx + 1, wy + 1), fill=rgba([part * dice.uniform(0.45, 1.0) for part in warm])
                    )
            elif (wx + wy) % 2 == 0 or full > 0.5:
                draw.rectangle((wx, wy, wx + 1, wy + 2), fill=light.ink([part * 0.55 for part in albedo], 0.7, depth))


def road(c: Canvas, horizon: float, vanish: float, wide: float, bend: float, snowy: bool) -> np.ndarray:
    """A road to (vanish, horizon); returns its middle for every row (h,), and paints markings and verge."""
    dice, light, y0 = c.dice, c.light, int(horizon) + 1
    t = np.clip((c.y[:, 0] - horizon) / (c.h - horizon), 0, 1)
    foot = dice.uniform(0.3, 0.7) * c.w
    middle = vanish + (foot - vanish) * t + bend * c.w * np.sin(np.pi * t**0.7) * (1 - t)
    half = wide * (0.012 + t)
    off = np.abs(c.x - middle[y0:, None]) - half[y0:, None]
    tar = dice.choice([(0.30, 0.30, 0.32), (0.24, 0.24, 0.26), (0.55, 0.44, 0.32)])
    if snowy:
        tar = (0.66, 0.68, 0.72)
    grit = sample(0.5, c.x * 2 + dice.uniform(0, SIDE), c.y[y0:] * 2 + 0 * c.x)
    colour = np.asarray(light.on(tar, 0.8), np.float32) * (0.85 + 0.3 * grit[..., None])
    c.fill(smooth(0.9, -0.5, off), colour, "road", y0)
    if tar[0] < 0.5:
        rows = t[y0:, None]
        dash = (np.sin(7.0 / (rows + 0.06) + dice.uniform(0, 6)) > 0) * (
            np.abs(c.x - middle[y0:, None]) < 0.02 * half[y0:, None] + 0.5
        )
        edges = np.abs(off + 0.1 * half[y0:, None]) < 0.018 * half[y0:, None] + 0.2
        c.fill((dash | edges) * 0.8, light.on((0.92, 0.90, 0.80), 0.8), None, y0)
    return middle


def car(c: Canvas, x: float, base: float, size: float, view: str) -> None:
    """A car of length (side) or width (back, front) ``size``, its wheels on (x, base)."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    paint, way = dice.choice(PAINT), dice.choice([-1, 1])
    glass, tyre = light.ink((0.20, 0.26, 0.32), 0.8), light.ink((0.06, 0.06, 0.07), 0.5)

    def shape(points: list[tuple[float, float]], ink: tuple[int, ...]) -> None:
        draw.polygon([(x + way * px * size, base - py * size) for px, py in points], fill=ink)

    shadow, pen = c.layer()
    pen.ellipse((x - size * 0.58, base - size * 0.05, x + size * 0.58, base + size * 0.06), fill=(0, 0, 0, 150))
    c.paste(shadow, None, size * 0.02 + 0.5)
    if view == "side":
        shape(
            [
                (-0.5, 0.08),
                (-0.5, 0.21),
                (-0.36, 0.25),
                (-0.22, 0.38),
                (0.1, 0.38),
                (0.26, 0.25),
                (0.46, 0.21),
                (0.5, 0.12),
                (0.5, 0.08),
            ],
            light.ink(paint, 0.8),
        )
        shape([(-0.5, 0.08), (-0.5, 0.14), (0.5, 0.14), (0.5, 0.08)], light.ink(paint, 0.35))
        shape([(-0.31, 0.25), (-0.2, 0.355), (-0.07, 0.355), (-0.07, 0.25)], glass)
        shape([(-0.04, 0.25), (-0.04, 0.355), (0.08, 0.355), (0.2, 0.25)], glass)
        shape(
            [(-0.36, 0.25), (0.26, 0.25), (0.45, 0.215), (0.44, 0.2), (-0.5, 0.2)],
            light.ink([p * 1.15 + 0.05 for p in paint], 1.0),
        )
        for wheel in (-0.29, 0.29):
            for r, ink in ((0.105, tyre), (0.06, light.ink((0.7, 0.7, 0.72), 0.8)), (0.02, tyre)):
                cx, cy = x + way * wheel * size, base - 0.1 * size
                draw.ellipse((cx - r * size, cy - r * size, cx + r * size, cy + r * size), fill=ink)
        lamps = [
            (x + way * 0.48 * size, base - 0.19 * size, (1.3, 1.2, 0.9)),
            (x - way * 0.49 * size, base - 0.19 * size, (1.2, 0.1, 0.05)),
        ]
    else:
        lamp = (1.2, 0.08, 0.05) if view == "back" else (1.3, 1.22, 0.95)
        shape([(-0.42, 0.0), (-0.42, 0.16), (-0.26, 0.16), (-0.26, 0.0)], tyre)
        shape([(0.42, 0.0), (0.42, 0.16), (0.26, 0.16), (0.26, 0.0)], tyre)
        shape([(-0.5, 0.12), (-0.5, 0.42), (-0.44, 0.5), (0.44, 0.5), (0.5, 0.42), (0.5, 0.12)], light.ink(paint, 0.7))
        shape([(-0.4, 0.48), (-0.3, 0.78), (0.3, 0.78), (0.4, 0.48)], light.ink(paint, 0.95))
        shape([(-0.34, 0.5), (-0.26, 0.73), (0.26, 0.73), (0.34, 0.5)], glass)
        shape([(-0.5, 0.12), (-0.5, 0.2), (0.5, 0.2), (0.5, 0.12)], light.ink(paint, 0.3))
        shape([(-0.13, 0.22), (-0.13, 0.3), (0.13, 0.3), (0.13, 0.22)], light.ink((0.9, 0.9, 0.85), 0.8))
        for side in (-1, 1):
            shape(
                [(side * 0.47, 0.3), (side * 0.47, 0.41), (side * 0.31, 0.41), (side * 0.31, 0.3)],
                rgba(np.clip(lamp, 0, 1)) if light.dark else light.ink(np.clip(lamp, 0.1, 1), 0.6),
            )
        lamps = [(x + side * 0.39 * size, base - 0.36 * size, lamp) for side in (-1, 1)]
    c.paste(layer, "car", 0.3)
    if light.dark:
        for lx, ly, colour in lamps:
            c.glow(lx, ly, size * 0.5, colour, 1.1)


def people(c: Canvas, low: float, high: float, count: int, size: float) -> None:
    """Standing and walking figures with their feet between rows ``low`` and ``high``; ``size`` at the lower edge."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    for foot in sorted(dice.uniform(low, high) for _ in range(count)):
        s = size * (0.55 + 0.45 * (foot - low) / max(high - low, 1))
        x, stride = dice.uniform(0.05, 0.95) * c.w, dice.uniform(0.02, 0.14)
        shirt, legs = dice.choice(PAINT), dice.choice([(0.16, 0.18, 0.26), (0.30, 0.26, 0.22), (0.1, 0.1, 0.1)])
        skin = dice.choice([(0.80, 0.60, 0.48), (0.55, 0.38, 0.28), (0.34, 0.23, 0.17)])
        wide = max(1, int(s * 0.09))
        draw.ellipse((x - s * 0.22, foot - s * 0.02, x + s * 0.3, foot + s * 0.05), fill=(0, 0, 0, 90))
        for side in (-1, 1):
            draw.line((x, foot - s * 0.48, x + side * s * stride, foot), fill=light.ink(legs, 0.5), width=wide)
            draw.line(
                (x + side * s * 0.1, foot - s * 0.8, x + side * s * 0.17, foot - s * 0.46),
                fill=light.ink(skin, 0.7),
                width=max(1, wide - 1),
            )
        draw.polygon([(x - s * 0.13, foot - s * 0.84), (x + s * 0.13, foot - s * 0.84), (x + s * 0.1, foot - s * 0.44),
                      (x - s * 0.1, foot - s * 0.44)], fill=light.ink(shirt, 0.75))  # fmt: skip
        draw.ellipse((x - s * 0.075, foot - s, x + s * 0.075, foot - s * 0.84), fill=light.ink(skin, 0.8))
        draw.pieslice(
            (x - s * 0.085, foot - s * 1.01, x + s * 0.085, foot - s * 0.84),
            180,
            360,
            fill=light.ink((0.15, 0.1, 0.07), 0.6),
        )
        if light.thick == 1.4 or dice.random() < 0.04:
            draw.pieslice(
                (x - s * 0.34, foot - s * 1.25, x + s * 0.34, foot - s * 0.75),
                180,
                360,
                fill=light.ink(dice.choice(PAINT), 0.8),
            )
    c.paste(layer, "people", 0.3)


def lamp(c: Canvas, x: float, base: float, height: float, side: int) -> None:
    """A street lamp, and its light when it is dark."""
    layer, draw = c.layer()
    ink = c.light.ink((0.16, 0.17, 0.18), 0.5)
    wide, reach = max(1, int(height * 0.02)), side * height * 0.14
    draw.line((x, base, x, base - height), fill=ink, width=wide)
    draw.line((x, base - height, x + reach, base - height * 1.03), fill=ink, width=wide)
    draw.ellipse((x + reach - height * 0.04, base - height * 1.05, x + reach + height * 0.04, base - height * 1.0),
                 fill=rgba((1, 0.93, 0.7)) if c.light.dark else ink)  # fmt: skip
    c.paste(layer, "lamp")
    if c.light.dark:
        c.glow(x + reach, base - height * 1.02, height * 0.55, LAMPLIGHT, 1.5)
        c.glow(x + reach, base, height * 0.5, LAMPLIGHT, 0.25)


def street(c: Canvas, horizon: float, vanish: float) -> None:
    """A street between two rows of houses in one-point perspective, with pavements; it shines when wet or dark."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    # Below the eye the walls meet the ground on lines from the vanishing point to the picture's lower corners.
    for side in (-1, 1):
        near, x_end = 1.0, (c.w if side > 0 else 0)
        reach = abs(x_end - vanish) * dice.uniform(1.0, 1.25)
        while near > 0.07:
            far = near * dice.uniform(0.62, 0.8)
            wall = dice.choice(WALLS)
            tall = horizon * dice.uniform(0.9, 1.7)
            facade(
                c,
                draw,
                vanish,
                horizon,
                side * reach,
                near,
                far,
                tall,
                wall,
                0.85 if (side > 0) == (light.sun[0] < 0.5) else 0.4,
            )
            near = far
    c.paste(layer, "house")
    y0 = int(horizon) + 1
    t = (c.y[y0:] - horizon) / (c.h - horizon)
    across = (c.x - vanish) / np.maximum(t, 0.01)
    grit = sample(0.6, c.x * 2, c.y[y0:] * 2 + 0 * c.x)
    inside = smooth(1.06, 1.0, np.where(across > 0, across / (c.w - vanish), -across / vanish) + 0.0 * t)
    tar = np.asarray(light.on((0.27, 0.27, 0.29), 0.8), np.float32) * (0.85 + 0.3 * grit[..., None])
    walk = np.asarray(light.on((0.55, 0.53, 0.50), 0.8), np.float32) * (0.85 + 0.3 * grit[..., None])
    border = np.where(across > 0, across / (c.w - vanish), -across / vanish)
    colour = mix(tar, walk, smooth(0.62, 0.66, border)[..., None])
    dash = (np.abs(border) < 0.02) & (np.sin(6.0 / (t + 0.05)) > 0)
    colour = np.where(dash[..., None], light.on((0.9, 0.88, 0.8), 0.8), colour)
    wet = 0.6 if light.thick == 1.4 or (light.dark and dice.random() < 0.6) else 0.08
    rows = np.clip(2 * horizon - c.y[y0:, 0] * 1.0, 0, y0 - 1).astype(int)
    ripple = ((grit - 0.5) * 16).astype(int)
    mirror = c.rgb[rows[:, None], np.clip(c.x.astype(int) + ripple, 0, c.w - 1)]
    c.fill(inside, mix(colour, mirror, wet), "street", y0)


def facade(c: Canvas, draw: ImageDraw.ImageDraw, vx: float, vy: float, reach: float, near: float, far: float,
           tall: float, wall: Colour, shade: float) -> None:  # fmt: skip
    """One house of a street, between the depths ``near`` and ``far`` (1 at the picture's edge, 0 at infinity)."""
    light, dice = c.light, c.dice
    ground = c.h - vy

    def at(depth: float, up: float) -> tuple[float, float]:
        return vx + reach * depth, vy + ground * depth - up * (tall + ground) * depth

    haze = 0.7 * (1 - near)
    draw.polygon([at(near, 0), at(near, 1), at(far, 1), at(far, 0)], fill=light.ink(wall, shade, haze))
    draw.polygon(
        [at(near, 1.0), at(near, 1.04), at(far, 1.04), at(far, 1.0)], fill=light.ink((0.3, 0.25, 0.22), shade, haze)
    )
    floors, columns = max(2, int(tall / (c.h * 0.16))), dice.randrange(2, 5)
    for column in range(columns):
        d0 = near + (far - near) * (column + 0.25) / columns
        d1 = near + (far - near) * (column + 0.72) / columns
        for floor in range(floors):
            lit = light.dark and dice.random() < (0.8 if floor == 0 else 0.4)
            ink = (
                rgba((1.0, dice.uniform(0.72, 0.9), dice.uniform(0.35, 0.6)))
                if lit
                else light.ink((0.2, 0.25, 0.3), dice.uniform(0.4, 1.0), haze)
            )
            low, high = (floor + (0.08 if floor == 0 else 0.28)) / floors, (floor + 0.8) / floors
            draw.polygon([at(d0, low), at(d0, high), at(d1, high), at(d1, low)], fill=ink)
