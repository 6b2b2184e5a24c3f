"""What several places of the rendered scenes have in common: their sky, ranges, flocks, trees, meadows and boats."""

from __future__ import annotations

import numpy as np
from PIL import ImageFilter

from data.scenes import scene_land as land
from data.scenes import scene_life as life
from data.scenes import scene_traffic as traffic
from data.scenes.scene_canvas import SIDE, Canvas, mix, rgba, sample, smooth
from data.scenes.scene_plan import Scene


def heaven(c: Canvas, scene: Scene, horizon: float) -> None:
    """The sky and all that stands in it."""
    land.sky(c, horizon)
    if scene.has("stars"):
        land.stars(c, horizon)
    if scene.has("moon"):
        land.moon(c, horizon)
    if scene.has("sun"):
        land.sun(c, horizon)
    if scene.has("clouds"):
        cover = {"overcast": 0.9, "rain": 1.0, "snowfall": 1.0}.get(scene.light, c.dice.uniform(0.2, 0.62))
        land.clouds(c, horizon, cover)
    if scene.has("rainbow"):
        land.rainbow(c, horizon)


def backdrop(c: Canvas, scene: Scene, horizon: float, height: tuple[float, float], rows: int = 2) -> None:
    """The sky, and the mountains if there are any; their least and greatest ``height``, in parts of the picture's."""
    heaven(c, scene, horizon)
    if scene.has("mountain"):
        mountain_range(c, scene, horizon, c.dice.uniform(*height), rows)


def mountain_range(c: Canvas, scene: Scene, horizon: float, height: float, rows: int) -> None:
    """Mountains on the horizon, ``height`` in parts of the picture's, in rows, the farther ones paler."""
    snow = c.dice.uniform(0.35, 0.65) if scene.has("snow") else 2.0
    if scene.season == "winter":
        snow = 0.05
    for row in range(rows):
        part = (row + 1) / rows
        land.mountains(
            c, horizon + 2, height * (1.15 - 0.4 * part * c.dice.random()) * c.h, 2.4 - 1.7 * part, snow + 0.1 * row
        )


def flock(c: Canvas, scene: Scene, horizon: float) -> None:
    """If there are birds: one near by, or several far away, above the row ``horizon``."""
    if not scene.has("bird"):
        return
    layer, draw = c.layer()
    if c.dice.random() < 0.45:
        life.flying(
            c,
            draw,
            c.dice.uniform(0.25, 0.75) * c.w,
            c.dice.uniform(0.25, 0.7) * horizon,
            c.w * c.dice.uniform(0.12, 0.24),
        )
    else:
        x, y = c.dice.uniform(0.2, 0.8) * c.w, c.dice.uniform(0.2, 0.7) * horizon
        for _ in range(c.dice.randrange(3, 15)):
            life.flying(
                c,
                draw,
                x + c.dice.gauss(0, 0.12) * c.w,
                y + c.dice.gauss(0, 0.1) * c.h,
                c.w * c.dice.uniform(0.03, 0.06),
            )
    c.paste(layer, "bird", 0.4)


def tree(c: Canvas, scene: Scene, x: float, base: float, height: float, depth: float = 0.0) -> None:
    """One tree with its foot at (x, base), a conifer or of the season."""
    c.shadow(x, base, height * 0.3)
    layer, pen = c.layer()
    if c.dice.random() < 0.25 or (scene.has("snow") and c.dice.random() < 0.5):
        life.conifer(c, pen, x, base, height, depth, scene.has("snow"))
    else:
        life.broadleaf(c, layer, x, base, height, depth, "winter" if scene.has("snow") else scene.season)
    c.paste(layer, "tree")


def people(c: Canvas, low: float, high: float, count: int, size: float) -> None:
    """People with their feet between the rows ``low`` and ``high``, the nearest ``size`` tall."""
    spots = []
    for _ in range(count):
        near = c.dice.random()
        spots.append((c.dice.uniform(0.05, 0.95) * c.w, low + (high - low) * near, size * (0.55 + 0.45 * near)))
    traffic.people(c, spots)


def meadow(c: Canvas, scene: Scene, edge: np.ndarray) -> None:
    """Grass, or snow in winter, below the edge."""
    if scene.has("snow") and (scene.season == "winter" or scene.light == "snowfall"):
        land.ground(c, edge, (0.93, 0.95, 1.0), (0.86, 0.89, 0.95), "snow", 0.12)
        return
    greens = {"autumn": ((0.44, 0.38, 0.14), (0.60, 0.50, 0.22)), "summer": ((0.30, 0.44, 0.12), (0.46, 0.54, 0.22))}
    near, far = greens.get(scene.season, ((0.24, 0.46, 0.12), (0.38, 0.58, 0.20)))
    land.ground(c, edge, near, far, "meadow", 0.75)


def boats(c: Canvas, horizon: float, count: int, floor: float | None = None) -> None:
    """``count`` boats on the water between the rows ``horizon`` and ``floor``, the nearer ones larger."""
    floor = c.h if floor is None else floor
    for near in sorted(c.dice.uniform(0.04, 0.62) ** 1.4 for _ in range(count)):
        y = horizon + near * (floor - horizon) + 2
        size = c.w * (0.05 + 0.5 * near) * c.dice.uniform(0.8, 1.2)
        kind = c.dice.choice(["sail", "sail", "fishing", "rowing", "ship" if near < 0.15 else "sail"])
        traffic.boat(c, c.dice.uniform(0.15, 0.85) * c.w, y, size * (1.5 if kind == "ship" else 1), kind, floor)


def foreground(c: Canvas) -> None:
    """A bank of grass at the lower edge, now and then."""
    if c.dice.random() < 0.45:
        edge = land.level(c, c.h * c.dice.uniform(0.86, 0.97), c.h * 0.07) + c.dice.uniform(-0.2, 0.2) * (
            c.x[0] - c.w / 2
        )
        land.ground(c, edge, (0.16, 0.28, 0.10), (0.22, 0.34, 0.12), "meadow", 0.9)


def close_up(c: Canvas, scene: Scene) -> None:
    """The background of a close-up: blurred colours and discs of light."""
    dice, light = c.dice, c.light
    blobs = sample(3.0, c.x * 0.9 + dice.uniform(0, SIDE), c.y * 0.9 + dice.uniform(0, SIDE) + 0 * c.x)
    spots = sample(3.0, c.x * 1.6 + dice.uniform(0, SIDE), c.y * 1.6 + dice.uniform(0, SIDE) + 0 * c.x)
    deep = light.on(dice.choice([(0.10, 0.20, 0.07), (0.16, 0.22, 0.10), (0.08, 0.12, 0.10), (0.22, 0.20, 0.12)]), 0.5)
    fresh = light.on(life.leaf(c, scene.season), 0.9)
    c.rgb[:] = mix(mix(deep, fresh, blobs[..., None]), light.horizon, (smooth(0.58, 1.0, spots) * 0.6)[..., None])
    c.own(np.ones(c.owners.shape, bool), "leaves")
    if scene.has("bokeh"):
        layer, pen = c.layer()
        for _ in range(dice.randrange(8, 30)):
            r, x, y = c.w * dice.uniform(0.02, 0.06), dice.random() * c.w, dice.random() * c.h * 0.9
            ink = rgba(mix(light.horizon, fresh, dice.random()) * dice.uniform(0.8, 1.1), dice.uniform(0.1, 0.4))
            pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
        c.paste(layer.filter(ImageFilter.GaussianBlur(1.5)), "bokeh")
