"""The ground, the water and the sky of the rendered scenes, painted on a ``Canvas``.

Each function paints one of them; where it goes is decided in ``data.scene_wild`` and ``data.scene_settled``.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from data.scenes.scene_canvas import SIDE, Canvas, Colour, line, mix, sample, smooth


def sky(c: Canvas, horizon: float) -> None:
    """The gradient from zenith to horizon, and the light around the sun."""
    light = c.light
    t = np.clip(c.y[:, 0] / max(horizon, 1), 0, 1) ** c.dice.uniform(0.8, 1.3)
    colours = np.array([light.zenith, light.middle, light.horizon])
    rows = np.stack([np.interp(t, (0, 0.55, 1), colours[:, band]) for band in range(3)], -1)
    c.rgb[:] = rows[:, None]
    c.own(np.broadcast_to(c.y < horizon, c.owners.shape), "sky")
    sx, sy = light.sun[0] * c.w, light.sun[1] * horizon
    away = np.hypot(c.x - sx, (c.y - sy) * 1.5) / c.w
    warm = np.asarray(light.direct, np.float32) * np.float32(0.12 if light.dark else 0.42)
    c.rgb += np.exp(-away * 5)[..., None] * warm


def sun(c: Canvas, horizon: float) -> None:
    """The disc, glaring."""
    x, y = c.light.sun[0] * c.w, c.light.sun[1] * horizon
    low = c.light.sun[1] > 0.5
    r = c.w * c.dice.uniform(0.025, 0.05) * (1.3 if low else 0.8)
    colour = mix((1.6, 1.5, 1.3), np.asarray(c.light.horizon) * 1.7 + 0.15, 0.55 if low else 0)
    c.glow(x, y, r * 6, colour, 0.8)
    disc = smooth(1.1, 0.9, np.hypot(c.x - x, c.y - y) / r) * (c.y < horizon)
    c.fill(disc, colour, "sun")


def moon(c: Canvas, horizon: float) -> None:
    """The moon with its seas, in some phase."""
    dice = c.dice
    x, y = dice.uniform(0.15, 0.85) * c.w, dice.uniform(0.12, 0.6) * horizon
    r = c.w * dice.choice([0.025, 0.035, 0.05, 0.09])
    c.glow(x, y, r * 5, (0.5, 0.52, 0.56), 0.5)
    seas = sample(1.6, (c.x - x) * 60 / r + dice.uniform(0, SIDE), (c.y - y) * 60 / r + 0 * c.x)
    disc = smooth(1.06, 0.94, np.hypot(c.x - x, c.y - y) / r)
    shift = dice.choice([9, 9, 0.5, 0.9, 1.3, -0.6, -1.0])
    disc = disc * smooth(0.92, 1.08, np.hypot(c.x - x - shift * r, c.y - y + 0.3 * r) / r)
    c.fill(disc, mix((0.62, 0.62, 0.60), (1.12, 1.1, 1.02), smooth(0.3, 0.6, seas)[..., None]), "moon")
    # It lights the water below.
    c.light = replace(c.light, sun=(x / c.w, 0.4))


def stars(c: Canvas, horizon: float) -> None:
    """Stars of all magnitudes; sometimes the Milky Way."""
    rng = np.random.default_rng(c.dice.getrandbits(32))
    horizon = min(horizon, c.h)
    if c.dice.random() < 0.35:
        slope = c.dice.uniform(-1.2, 1.2)
        across = (c.x - c.w / 2) + slope * (c.y - horizon / 2) + 60 * (sample(1.6, c.x, c.y) - 0.5)
        dust = sample(1.3, c.x * 1.2, c.y * 1.2)
        band = np.exp(-((across / (0.14 * c.w)) ** 2)) * (0.35 + dust) * (c.y < horizon)
        c.rgb += (band * 0.16)[..., None] * np.array([0.9, 0.85, 1.1], np.float32)
    count = c.dice.randrange(60, 320)
    x, y = rng.integers(1, c.w - 1, count), (rng.random(count) * max(horizon - 3, 2)).astype(int) + 1
    power = rng.pareto(1.6, count).clip(0.25, 3)[:, None] * (0.9, 0.93, 1.0)
    np.add.at(c.rgb, (y, x), power)
    np.add.at(c.rgb, (y, x - 1), power * 0.5)
    np.add.at(c.rgb, (y - 1, x), power * 0.5)
    bright = np.zeros(c.owners.shape, bool)
    bright[y, x] = bright[y, x - 1] = bright[y - 1, x] = True
    c.own(bright, "stars")


def clouds(c: Canvas, horizon: float, cover: float) -> None:
    """A layer of clouds seen in perspective, lit from the sun's side; ``cover`` from 0 (few) to 1 (all)."""
    dice, light, rows = c.dice, c.light, max(int(horizon), 2)
    away = (horizon - c.y[:rows]) / horizon + dice.uniform(0.12, 0.5)
    size = dice.uniform(45, 130)
    u = (c.x / c.w - 0.5) * size * 1.4 / away + dice.uniform(0, SIDE)
    v = size * dice.uniform(0.7, 1.6) / away + dice.uniform(0, SIDE)
    if dice.random() < 0.25:  # Wisps drawn out by the wind.
        u, v = u * 0.4 + v * dice.uniform(-0.3, 0.3), v * 1.6
    fine = sample(1.25, u * 2.3, v * 2.3 + 0 * u)
    density = sample(1.7, u, v + 0 * u) * 0.75 + fine * 0.25
    low = 0.66 - 0.5 * cover
    alpha = smooth(low, low + dice.uniform(0.14, 0.26), density)
    # Thicker towards the sun means shaded: the cheapest cloud shading there is.
    toward = 1.0 if light.sun[0] > 0.5 else -1.0
    ahead = sample(1.7, u + 0.05 * size * toward, v - 0.04 * size + 0 * u)
    shade = np.clip(0.62 + (density - ahead) * 4.5 - 0.35 * smooth(low, 1, density), 0, 1)
    lit = mix(light.horizon, np.asarray(light.direct) * 0.9 + np.asarray(light.ambient) * 0.9, 0.6)
    dull = mix(light.middle, np.asarray(light.ambient) * 1.25, 0.6) * (0.74 if cover > 0.8 else 0.95)
    near_sun = np.exp(-np.hypot(c.x / c.w - light.sun[0], c.y[:rows] / horizon - light.sun[1]) * 3)[..., None]
    colour = mix(dull, lit, shade[..., None]) + near_sun * np.asarray(light.direct, np.float32) * 0.4
    colour = mix(light.horizon, colour, np.clip(1.5 * (horizon - c.y[:rows]) / horizon + 0.15, 0, 1)[..., None])
    c.fill(alpha * np.float32(dice.uniform(0.8, 0.97)), colour, "clouds")


def rainbow(c: Canvas, horizon: float) -> None:
    """A bow opposite the sun."""
    x, r = (1 - c.light.sun[0]) * c.w, horizon * c.dice.uniform(0.85, 1.1)
    ring = (np.hypot(c.x - x, c.y - horizon * 1.15) - r) / (0.075 * c.w)
    hues = [np.interp(ring, (-1, -0.5, 0, 0.5, 1), band) for band in ((0.5, 0.2, 0.3, 1, 1), (0.2, 0.5, 0.9, 0.8, 0.2),
            (0.9, 0.9, 0.3, 0.1, 0.1))]  # fmt: skip
    mask = smooth(1, 0.5, np.abs(ring)) * (c.y < horizon) * 0.5
    c.fill(mask, np.stack(hues, -1), None)
    c.own(mask > 0.2, "rainbow")


def water(c: Canvas, top: float, concept: str, calm: float, mask: np.ndarray | None = None) -> None:
    """Water from row ``top`` down, or where ``mask`` (rows below top, w) is: mirrors what is painted above it.

    ``calm`` from 0 (a sea in the wind) to 1 (a mirror).
    """
    dice, light, y0 = c.dice, c.light, int(top)
    y = c.y[y0:]
    away = (y - top) / (c.h - top) + 0.035
    u = (c.x / c.w - 0.5) * 26 / away + dice.uniform(0, SIDE)
    v = 60 / away + dice.uniform(0, SIDE)
    wave = sample(1.0, u * 0.6, v + 0 * u) - 0.5
    tilt = (1 - calm) * (0.3 + away) * 1.3 + 0.03
    down = 2 * top - y - wave * tilt * c.h * 0.5
    across = c.x + wave * tilt * c.w * 0.25
    ys, xs = np.clip(np.abs(down), 0, max(y0 - 1, 0)).astype(np.int32), np.clip(across, 0, c.w - 1).astype(np.int32)
    mirror = c.rgb[ys, xs]
    hue = dice.choice([(0.03, 0.16, 0.24), (0.02, 0.22, 0.28), (0.05, 0.20, 0.20), (0.04, 0.12, 0.22)])
    if concept == "sea" and not light.dark and dice.random() < 0.3:
        hue = (0.02, 0.34, 0.40)
    deep = np.asarray(light.on(hue, 0.9), np.float32) * np.float32(1.25)
    fresnel = np.clip(0.92 - (0.95 - 0.75 * calm) * away**0.6 + wave * 0.5 * (1 - calm), 0.1, 0.95)[..., None]
    colour = mix(deep, mirror * 0.92, fresnel)
    ripple = (wave * (1 - 0.75 * calm) * 0.35)[..., None]
    colour = colour + ripple * np.asarray(light.middle, np.float32)
    moonlit = light.dark and "moon" in c.concepts
    if (moonlit or not light.dark) and light.thick < 1:
        road = np.exp(-(((c.x / c.w - light.sun[0]) / (0.05 + 0.16 * away)) ** 2))
        spark = smooth(0.08, 0.3, wave) * road * (1.1 if light.sun[1] > 0.5 else 0.35)
        shine = (1.2, 1.25, 1.3) if moonlit else np.asarray(light.direct) * 1.6
        colour = colour + spark[..., None] * np.asarray(shine, np.float32)
    if concept == "sea" and calm < 0.35:
        colour = mix(colour, light.on((0.95, 0.96, 0.97)), (smooth(0.24, 0.36, wave) * away)[..., None])
    c.fill(np.ones_like(wave) if mask is None else mask, colour, concept, y0)


def level(c: Canvas, row: float, swing: float, roughness: float = 2.2, scale: float = 0.5) -> np.ndarray:
    """An edge (w,) about ``row`` that rises and falls by ``swing``."""
    return row - (line(c.dice, roughness, c.w, scale) - 0.5) * 2 * swing


def ground(c: Canvas, edge: np.ndarray, near: Colour, far: Colour, concept: str, grain: float = 0.5) -> None:
    """Land below the row ``edge`` (w,) of each column, from ``far`` to ``near``, with its texture in perspective."""
    dice, y0 = c.dice, int(max(edge.min(), 0))
    y = c.y[y0:]
    away = np.clip((y - y0) / max(c.h - y0, 1), 0, 1) + 0.05
    u = (c.x / c.w - 0.5) * 40 / away + dice.uniform(0, SIDE)
    v = 70 / away + dice.uniform(0, SIDE)
    patches = sample(1.4, u * 0.5, v * 0.7 + 0 * u)
    blades = sample(0.5, c.x * dice.uniform(1.5, 3), y * dice.uniform(0.3, 1) + 0 * c.x)
    shade = 1 + grain * ((patches - 0.5) * 1.5 + (blades - 0.5) * np.minimum(away * 1.4, 1.0))
    albedo = mix(far, near, np.clip(away, 0, 1)[..., None]) * shade[..., None]
    light = c.light
    lit = albedo * (np.asarray(light.ambient, np.float32) + 0.85 * np.asarray(light.direct, np.float32))
    veil = (1 - np.exp(-light.thick * (1 - np.minimum(away, 1)) ** 3 * 0.9))[..., None]
    c.fill(smooth(-0.5, 0.5, y - edge[None]), mix(lit, light.haze, veil), concept, y0)


def mountains(c: Canvas, base: float, height: float, depth: float, snow: float) -> None:
    """A range on the row ``base``: peaks with a lit and a shaded flank; above ``snow`` (part of height) it is white."""
    dice, light = c.dice, c.light
    peaks = np.array([dice.uniform(-0.1, 1.1) for _ in range(dice.randrange(2, 6))]) * c.w
    tall = np.array([dice.uniform(0.5, 1.0) for _ in peaks]) * height
    tall[0], peaks[0] = height, dice.uniform(0.2, 0.8) * c.w
    steep = np.array([dice.uniform(0.45, 0.95) for _ in peaks])
    sides = tall[:, None] - steep[:, None] * np.abs(c.x - peaks[:, None])
    tallest = sides.argmax(0)
    ridge = np.maximum(sides.max(0), height * 0.1) + (line(dice, 1.3, c.w, 1.1) - 0.5) * height * 0.16
    top = int(max(base - ridge.max() - 1, 0))
    y = c.y[top : int(base) + 1]
    if not len(y):
        return
    # Gullies and spurs fan out from each summit, as water and ice cut them.
    summit = base - tall[tallest]
    rock = sample(1.15, c.x * 1.1 + dice.uniform(0, SIDE), y * 1.1 + 0 * c.x)
    fan = (c.x - peaks[tallest] + (rock - 0.5) * 0.18 * height) / (np.maximum(y - summit, 0) + 0.22 * height)
    spurs = sample(1.2, fan * dice.uniform(22, 40) + dice.uniform(0, SIDE), y * 0.22 + 0 * c.x)
    facing = smooth(-0.25, 0.25, (fan + (spurs - 0.5) * 0.7) * (1 if light.sun[0] > 0.5 else -1))
    shade = np.clip(0.1 + 0.68 * facing + (spurs - 0.5) * 0.8 + (rock - 0.5) * 0.35, 0, 1.2)[..., None]
    stone = dice.choice([(0.42, 0.40, 0.40), (0.46, 0.40, 0.34), (0.36, 0.40, 0.38), (0.40, 0.36, 0.42)])
    up = (base - y) / height
    wooded = smooth(0.15, 0.5, up + (rock - 0.5) * 0.5)[..., None]
    albedo = mix((0.22, 0.31, 0.16), stone, 0.25 + 0.75 * wooded) * (0.75 + 0.5 * rock[..., None])
    white = smooth(-0.05, 0.05, up - snow + (spurs - 0.5) * 0.35 + (rock - 0.5) * 0.3)
    albedo = mix(albedo, (0.96, 0.98, 1.02), white[..., None])
    lit = albedo * (np.asarray(light.ambient, np.float32) * 1.05 + shade * np.asarray(light.direct, np.float32))
    veil = 1 - np.exp(-light.thick * depth * (1.25 - 0.5 * np.clip(up, 0, 1)))
    mask = smooth(-1, 1, y - (base - ridge)[None]) * (y <= base)
    c.fill(mask, mix(lit, light.haze, veil[..., None]), "mountain", top)
    c.own((white > 0.5) & (mask > 0.5), "snow", slice(top, top + len(y)))


def hills(c: Canvas, base: float, height: float, albedo: Colour, depth: float, concept: str | None) -> None:
    """One soft rise of land down to the bottom of the picture."""
    dice = c.dice
    edge = base - height * (0.35 + line(dice, 2.0, c.w, dice.uniform(0.3, 0.8))) - (line(dice, 0.9, c.w, 1) - 0.5) * 3
    top = int(max(edge.min(), 0))
    y = c.y[top:]
    rough = sample(0.9, c.x * 1.5 + dice.uniform(0, SIDE), y * 2.5 + 0 * c.x)
    lit = c.light.on(albedo, dice.uniform(0.55, 0.9), depth)
    colour = lit * (1 + (rough[..., None] - 0.5) * 0.5 / (1 + 2 * depth))
    c.fill(smooth(-0.7, 0.7, y - edge[None]), colour, concept, top)


def dunes(c: Canvas, horizon: float) -> None:
    """Sand in waves, one flank lit and one in shade, with ripples."""
    dice, light = c.dice, c.light
    sand = dice.choice([(0.86, 0.60, 0.34), (0.80, 0.46, 0.24), (0.90, 0.74, 0.50)])
    count = dice.randrange(3, 6)
    for number in range(count):
        part = (number + dice.uniform(0, 0.5)) / count
        row = horizon + (c.h - horizon) * part**1.3
        peak = dice.uniform(0.1, 0.9) * c.w
        swell = (c.h - horizon) * dice.uniform(0.12, 0.34) * (0.4 + part)
        edge = row - swell * np.exp(-np.abs(c.x[0] - peak) / (c.w * dice.uniform(0.2, 0.5)))
        edge = edge + (line(dice, 2.2, c.w, 0.5) - 0.5) * swell * 0.6
        top = int(max(edge.min(), 0))
        y = c.y[top:]
        below = y - edge[None]
        wind = line(dice, 2.0, c.w, 0.6)[None] * 30
        crest = peak + below * dice.uniform(0.5, 1.6) + 8 * np.sin(below / (6 + 10 * part))
        facing = smooth(-3, 3, (c.x - crest) * (1 if light.sun[0] > 0.5 else -1))
        ripple = np.sin((below + wind) * (1.9 - 1.2 * part)) * 0.05 * part
        dust = sample(0.6, c.x * 2, y * 2 + 0 * c.x) - 0.5
        shade = 0.15 + 0.85 * facing + ripple + 0.12 * dust
        lit = np.asarray(sand) * (np.asarray(light.ambient) * 0.95 + shade[..., None] * np.asarray(light.direct) * 1.05)
        veil = 1 - math.exp(-light.thick * (1 - part) ** 2 * 1.2)
        c.fill(smooth(-0.7, 0.7, below), mix(lit, light.haze, veil), "desert", top)


def rocks(c: Canvas, row: float) -> None:
    """Dark stones at the water's edge, lit from one side."""
    layer, draw = c.layer()
    side = 1 if c.light.sun[0] > 0.5 else -1
    start = c.dice.choice([0.0, 0.65])
    for _ in range(c.dice.randrange(4, 9)):
        x, y = (start + c.dice.random() * 0.35) * c.w, row + c.dice.uniform(0.25, 1) * (c.h - row)
        r = c.w * c.dice.uniform(0.02, 0.07) * (0.5 + (y - row) / (c.h - row))
        for step, shade in ((0, 0.15), (0.22, 0.55), (0.45, 0.9)):
            points = [
                (x + side * step * r * 0.6 + math.cos(a) * r * (1.4 - step) * c.dice.uniform(0.8, 1.1),
                 y - step * r * 0.5 + math.sin(a) * r * (0.75 - 0.5 * step))
                for a in np.linspace(0, 2 * math.pi, 9)
            ]  # fmt: skip
            draw.polygon(points, fill=c.light.ink((0.34, 0.30, 0.28), shade))
    c.paste(layer, "rocks", 0.6)
