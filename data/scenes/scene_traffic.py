"""Roads and what moves in the rendered scenes, painted on a ``Canvas``: boats, cars and people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from data.scenes.scene_canvas import SIDE, Canvas, Colour, rgba, sample, smooth

PAINT = (
    (0.78, 0.10, 0.10), (0.90, 0.90, 0.90), (0.12, 0.24, 0.56), (0.10, 0.10, 0.12), (0.94, 0.76, 0.10),
    (0.55, 0.58, 0.60), (0.12, 0.42, 0.26), (0.86, 0.42, 0.10), (0.45, 0.70, 0.78),
)  # fmt: skip
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


def road(c: Canvas, horizon: float, vanish: float, wide: float, bend: float, kind: str) -> np.ndarray:
    """A road to (vanish, horizon), with markings if it is paved; returns its middle for every row of the canvas (h,).

    ``kind``: "road", "snowy road", or "path" for one of earth.
    """
    dice, light, y0 = c.dice, c.light, int(horizon) + 1
    t = np.clip((c.y[:, 0] - horizon) / (c.h - horizon), 0, 1)
    foot = dice.uniform(0.3, 0.7) * c.w
    middle = vanish + (foot - vanish) * t + bend * c.w * np.sin(np.pi * t**0.7) * (1 - t)
    half = wide * (0.012 + t)
    off = np.abs(c.x - middle[y0:, None]) - half[y0:, None]
    paved = kind == "road" and dice.random() < 0.75
    surfaces = {"snowy road": (0.66, 0.68, 0.72), "path": (0.50, 0.40, 0.28), "road": (0.55, 0.44, 0.32)}
    tar = dice.choice([(0.30, 0.30, 0.32), (0.24, 0.24, 0.26)]) if paved else surfaces[kind]
    grit = sample(0.5, c.x * 2 + dice.uniform(0, SIDE), c.y[y0:] * 2 + 0 * c.x)
    colour = np.asarray(light.on(tar, 0.8), np.float32) * (0.85 + 0.3 * grit[..., None])
    c.fill(smooth(0.9, -0.5, off), colour, "path" if kind == "path" else "road", y0)
    if paved:
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


def people(c: Canvas, spots: Sequence[tuple[float, float, float]]) -> None:
    """Standing and walking figures: column and row of their feet, and their height."""
    dice, light = c.dice, c.light
    layer, draw = c.layer()
    for x, foot, s in sorted(spots, key=lambda spot: spot[1]):
        stride = dice.uniform(0.02, 0.14)
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
        if light.wet or dice.random() < 0.04:
            draw.pieslice(
                (x - s * 0.34, foot - s * 1.25, x + s * 0.34, foot - s * 0.75),
                180,
                360,
                fill=light.ink(dice.choice(PAINT), 0.8),
            )
    c.paste(layer, "people", 0.3)
