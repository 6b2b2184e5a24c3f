"""What stands still and was built in the rendered scenes, painted on a ``Canvas``: houses, streets, bridges, cities."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from data.scenes.scene_canvas import Canvas, Colour, mix, rgba, sample, smooth
from data.scenes.scene_traffic import LAMPLIGHT, PAINT, mirrored

WALLS = (
    (0.88, 0.84, 0.76), (0.76, 0.42, 0.32), (0.90, 0.74, 0.46), (0.66, 0.70, 0.74), (0.62, 0.20, 0.16),
    (0.78, 0.82, 0.70), (0.92, 0.90, 0.88), (0.52, 0.44, 0.38),
)  # fmt: skip
ROOFS = ((0.52, 0.22, 0.16), (0.30, 0.28, 0.30), (0.42, 0.30, 0.22), (0.62, 0.34, 0.22))


def house(c: Canvas, x: float, base: float, size: float, depth: float, snowy: bool, concept: str = "house") -> None:
    """A house of width ``size`` standing at (x, base): front, gable roof, side, windows, door, chimney."""
    dice, light = c.dice, c.light
    c.shadow(x, base, size * 0.6)
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
    wet = 0.6 if light.wet or (light.dark and dice.random() < 0.6) else 0.08
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
