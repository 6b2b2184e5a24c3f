"""A scene of ``data.scene_plan`` drawn as a small photograph, and what can be seen in it.

The places are painted by ``data.scene_wild`` and ``data.scene_settled``; words are in ``data.scene_words``.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image

from data.scenes import scene_settled as settled
from data.scenes import scene_wild as wild
from data.scenes.scene_canvas import SIDE, Canvas, develop, light_of, sample, smooth
from data.scenes.scene_plan import AIR, Scene


def draw(scene: Scene, dice: random.Random) -> tuple[Image.Image, dict[str, float]]:
    """The picture, and the part of it (0 to 1) that each concept is seen in; 1 for what the whole of it shows."""
    light = light_of(scene.light, dice)
    canvas = Canvas(scene.shape, light, dice)
    COMPOSERS[scene.place](canvas, scene)
    _weather(canvas, scene)
    shares = canvas.shares()
    shares.update({thing: 1.0 for thing in AIR if scene.has(thing)})
    return develop(canvas, scene.style, dice), shares


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


#: Who paints which place.
COMPOSERS: dict[str, Callable[[Canvas, Scene], None]] = {
    "coast": wild.coast,
    "beach": wild.beach,
    "lake": wild.lake,
    "river": wild.river,
    "mountains": wild.mountains,
    "wood": wild.wood,
    "meadow": wild.open_land,
    "flowers": wild.flowers,
    "desert": wild.desert,
    "skyline": settled.skyline,
    "street": settled.street,
    "road": settled.road,
    "village": settled.village,
    "winter": wild.winter,
    "harbour": settled.harbour,
    "heaven": wild.sky_only,
    "branch": wild.branch,
}
