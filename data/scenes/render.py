"""Draw one scene: a light (day, sunset, night), a ground, and perhaps a thing, as simple shapes with gradients.

Pure functions of their arguments; words are ``data.scenes.words``'s.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 160, 120
#: Shapes are drawn at this multiple of the size and shrunk, which smooths their edges.
SCALE = 2

Colour = tuple[int, int, int]
Point = tuple[float, float]
Corners = tuple[float, float, float, float]

#: Colours of the sky at the top and at the horizon, and how bright everything else is.
LIGHTS: dict[str, tuple[Colour, Colour, float]] = {
    "sky": ((70, 130, 210), (190, 220, 245), 1.0),
    "sunset": ((70, 50, 110), (250, 150, 60), 0.6),
    "night": ((8, 10, 28), (35, 38, 70), 0.35),
}
#: The things that may stand on each ground; None: nothing but the ground.
GROUNDS: dict[str, tuple[str | None, ...]] = {
    "sea": ("boat", "boat", None),
    "beach": ("boat", "house", None),
    "mountain": ("house", "flower", None),
    "forest": ("flower", "house", None),
    "snow": ("house", "car", None),
    "street": ("car", "car", "house"),
    "meadow": ("flower", "flower", "house"),
}


@dataclass(frozen=True)
class Scene:
    """What a picture shows: ``light`` (a key of LIGHTS), ``ground`` (of GROUNDS), ``thing`` or None."""

    light: str
    ground: str
    thing: str | None

    @property
    def concepts(self) -> tuple[str, ...]:
        """Return all that is shown; a meadow has no name of its own."""
        shown = (self.light, self.ground if self.ground != "meadow" else None, self.thing)
        return tuple(concept for concept in shown if concept)


def imagine(rng: random.Random) -> Scene:
    """Return a random scene; streets are mostly seen at night, the rest mostly by day."""
    ground = rng.choice(sorted(GROUNDS))
    weights = (1, 1, 4) if ground == "street" else (5, 3, 1)  # Day, sunset, night.
    return Scene(rng.choices(tuple(LIGHTS), weights)[0], ground, rng.choice(GROUNDS[ground]))


def draw(scene: Scene, rng: random.Random) -> tuple[Image.Image, dict[str, float]]:
    """Return the picture (RGB, 160 x 120) and the share of its pixels (0 to 1) that each concept covers."""
    painter = Painter(scene.light, rng)
    horizon = rng.uniform(0.35, 0.55)
    painter.sky(horizon)
    getattr(painter, scene.ground)(horizon)
    if scene.thing:
        getattr(painter, scene.thing)(horizon)
    return painter.finish(), {name: painter.shares.get(name, 0.0) for name in scene.concepts}


class Painter:
    """A canvas, the light on it, and how much each concept covers."""

    def __init__(self, light: str, rng: random.Random) -> None:
        self.rng, self.light = rng, light
        self.top, self.low, self.brightness = LIGHTS[light]
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE))
        self.shares: dict[str, float] = {}

    # ---- shapes: coordinates run from 0 to 1, from the upper left corner

    def lit(self, colour: Colour, spread: int = 14) -> Colour:
        """Return ``colour`` in the scene's light, varied a little."""
        shift = self.rng.randint(-spread, spread)
        r, g, b = (max(0, min(255, round((c + shift) * self.brightness))) for c in colour)
        return (min(255, round(r * 1.25)), g, round(b * 0.85)) if self.light == "sunset" else (r, g, b)

    def polygon(self, concept: str | None, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon, and count its area for ``concept``."""
        self._fill(concept, "polygon", points, colour)

    def box(self, concept: str | None, corners: Corners, colour: Colour, kind: str = "rectangle") -> None:
        """Fill the rectangle between two corners, and count its area for ``concept``."""
        x, y = sorted(corners[::2]), sorted(corners[1::2])
        self._fill(concept, kind, list(zip(x, y, strict=True)), colour)

    def oval(self, concept: str | None, corners: Corners, colour: Colour) -> None:
        """Fill the ellipse between two corners, and count its area for ``concept``."""
        self.box(concept, corners, colour, "ellipse")

    def _fill(self, concept: str | None, kind: str, points: Sequence[Point], colour: Colour) -> None:
        place = [(x * self.image.width, y * self.image.height) for x, y in points]
        getattr(ImageDraw.Draw(self.image), kind)(place, fill=colour)
        if concept:
            mask = Image.new("1", self.image.size)
            getattr(ImageDraw.Draw(mask), kind)(place, fill=1)
            covered = float(np.asarray(mask).mean())
            self.shares[concept] = min(1.0, self.shares.get(concept, 0.0) + covered)

    def gradient(self, concept: str | None, y0: float, y1: float, top: Colour, low: Colour) -> None:
        """Fill the rows from y0 to y1 with a gradient."""
        rows = slice(round(y0 * self.image.height), round(y1 * self.image.height))
        t = np.linspace(0, 1, max(1, rows.stop - rows.start))[:, None]
        band = np.array(top) * (1 - t) + np.array(low) * t
        pixels = np.repeat(band[:, None], self.image.width, 1).astype(np.uint8)
        self.image.paste(Image.fromarray(pixels), (0, rows.start))
        if concept:
            self.shares[concept] = self.shares.get(concept, 0.0) + y1 - y0

    def ridge(self, y: float, roughness: float, steps: int = 12) -> list[Point]:
        """Return the points of a rough line across the picture at height y, closed along the bottom."""
        line = [(i / steps, y + self.rng.uniform(-roughness, roughness)) for i in range(steps + 1)]
        return [*line, (1.0, 1.0), (0.0, 1.0)]

    # ---- lights

    def sky(self, horizon: float) -> None:
        rng = self.rng
        self.gradient(self.light, 0, horizon + 0.1, self.top, self.low)
        if self.light == "sky":
            for _ in range(rng.randint(1, 4)):
                x, y, w = rng.random(), rng.uniform(0.02, horizon * 0.6), rng.uniform(0.08, 0.2)
                for _ in range(4):
                    dx, dy = rng.uniform(-w, w) / 2, rng.uniform(-0.02, 0.02)
                    corners = (x + dx - w / 2, y + dy - 0.03, x + dx + w / 2, y + dy + 0.03)
                    self.oval(None, corners, (240, 244, 250))
        elif self.light == "sunset":
            x, r = rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.09)
            self.oval(None, (x - r * 0.75, horizon - r, x + r * 0.75, horizon + r), (255, 220, 130))
        else:
            for _ in range(30):
                x, y = rng.random(), rng.uniform(0, horizon)
                self.oval(None, (x, y, x + 0.006, y + 0.008), (210, 210, 220))
            x = rng.random()
            self.oval(None, (x, 0.06, x + 0.07, 0.153), (240, 236, 205))

    # ---- grounds

    def sea(self, horizon: float) -> None:
        self.gradient("sea", horizon, 1, self.lit((60, 120, 160)), self.lit((15, 55, 95)))
        for _ in range(40):
            x, y, w = self.rng.random(), self.rng.uniform(horizon + 0.02, 1), self.rng.uniform(0.02, 0.08)
            self.oval(None, (x, y, x + w, y + 0.008), self.lit((150, 190, 215)))

    def beach(self, horizon: float) -> None:
        shore = horizon + self.rng.uniform(0.12, 0.25)
        self.gradient(None, horizon, shore + 0.03, self.lit((70, 150, 180)), self.lit((90, 180, 190)))
        self.polygon("beach", self.ridge(shore, 0.015), self.lit((225, 200, 150)))
        foam = [(0, shore - 0.012), (1, shore - 0.004), (1, shore + 0.01), (0, shore + 0.006)]
        self.polygon(None, foam, self.lit((240, 240, 240)))
        self._speckle(shore + 0.03, (200, 175, 125))

    def mountain(self, horizon: float) -> None:
        rng, foot = self.rng, horizon + 0.08
        for _ in range(rng.randint(2, 4)):
            x, w, peak = rng.random(), rng.uniform(0.25, 0.5), rng.uniform(0.08, horizon - 0.12)
            self.polygon("mountain", [(x - w, foot), (x, peak), (x + w, foot)], self.lit((105, 100, 110)))
            cap, side = 0.3 * (horizon + 0.08 - peak), w * 0.3
            snow = [(x - side, peak + cap), (x, peak), (x + side, peak + cap), (x, peak + cap * 0.7)]
            self.polygon(None, snow, self.lit((235, 238, 245)))
        self.polygon(None, self.ridge(foot, 0.02), self.lit((80, 115, 60)))
        self._speckle(horizon + 0.12, (65, 95, 50))

    def forest(self, horizon: float) -> None:
        rng = self.rng
        self.gradient(None, horizon, 1, self.lit((45, 75, 35)), self.lit((30, 50, 25)))
        for x in sorted((rng.random() for _ in range(rng.randint(14, 22))), key=lambda _: rng.random()):
            foot, size = rng.uniform(horizon + 0.05, 0.95), rng.uniform(0.25, 0.5)
            self.box(None, (x - 0.01, foot - 0.08, x + 0.01, foot), self.lit((80, 55, 35)))
            for level in range(3):
                y, w = foot - 0.06 - level * size * 0.27, (0.10 - level * 0.022) * (size + 0.6)
                self.polygon("forest", [(x - w, y), (x, y - size * 0.45), (x + w, y)], self.lit((30, 90, 45), 20))

    def snow(self, horizon: float) -> None:
        self.polygon("snow", self.ridge(horizon, 0.03), self.lit((232, 238, 248), 6))
        self.polygon(None, self.ridge(horizon + self.rng.uniform(0.15, 0.3), 0.03), self.lit((214, 222, 238), 6))
        for _ in range(60):
            x, y = self.rng.random(), self.rng.random()
            self.oval(None, (x, y, x + 0.008, y + 0.011), self.lit((250, 250, 255), 3))

    def street(self, horizon: float) -> None:
        rng, x = self.rng, 0.0
        while x < 1:
            w, top = rng.uniform(0.12, 0.22), rng.uniform(0.02, horizon - 0.05)
            wall = self.lit(rng.choice(((120, 110, 105), (140, 95, 80), (95, 105, 120))))
            self.box("street", (x, top, x + w, horizon + 0.12), wall)
            for wx in np.arange(x + 0.02, x + w - 0.025, 0.04):
                for wy in np.arange(top + 0.03, horizon + 0.05, 0.075):
                    on = self.light == "night" and rng.random() < 0.6
                    pane = (250, 215, 120) if on else self.lit((70, 80, 95))
                    self.box(None, (wx, wy, wx + 0.02, wy + 0.04), pane)
            x += w
        self.gradient("street", horizon + 0.12, 1, self.lit((85, 85, 90)), self.lit((60, 60, 65)))
        m, far = rng.uniform(0.35, 0.65), horizon + 0.12
        line = [(m - 0.01, far), (m + 0.01, far), (m + 0.05, 1), (m - 0.05, 1)]
        self.polygon(None, line, self.lit((215, 210, 190)))

    def meadow(self, horizon: float) -> None:
        self.gradient(None, horizon, 1, self.lit((120, 165, 80)), self.lit((70, 125, 45)))
        self._speckle(horizon, (95, 150, 60))

    def _speckle(self, y: float, colour: Colour) -> None:
        for _ in range(50):
            x, v = self.rng.random(), self.rng.uniform(y, 1)
            self.oval(None, (x, v, x + 0.012, v + 0.01), self.lit(colour, 25))

    # ---- things

    def boat(self, horizon: float) -> None:
        x, y, s = self.rng.uniform(0.25, 0.75), horizon + self.rng.uniform(0.08, 0.2), self.rng.uniform(0.12, 0.22)
        hull = self.lit(self.rng.choice(((150, 40, 35), (60, 50, 45), (235, 235, 230))))
        self.polygon("boat", [(x - s, y), (x + s, y), (x + s * 0.7, y + s * 0.4), (x - s * 0.7, y + s * 0.4)], hull)
        self.box(None, (x - 0.006, y - s * 1.7, x + 0.006, y), self.lit((90, 70, 50)))
        front = [(x + 0.01, y - s * 1.65), (x + s * 0.85, y - 0.03), (x + 0.01, y - 0.03)]
        back = [(x - 0.01, y - s * 1.4), (x - s * 0.6, y - 0.03), (x - 0.01, y - 0.03)]
        self.polygon("boat", front, self.lit((245, 242, 232), 6))
        self.polygon("boat", back, self.lit((225, 222, 212), 6))

    def house(self, horizon: float) -> None:
        rng = self.rng
        x, s = rng.uniform(0.15, 0.6), rng.uniform(0.2, 0.32)
        foot = horizon + rng.uniform(0.2, 0.32)
        roof = foot - s * 0.85
        wall = self.lit(rng.choice(((225, 205, 170), (190, 90, 70), (240, 240, 235))))
        self.box("house", (x, roof, x + s, foot), wall)
        gable = [(x - 0.03, roof), (x + s / 2, roof - s * 0.6), (x + s + 0.03, roof)]
        self.polygon("house", gable, self.lit((125, 50, 40)))
        pane = (250, 215, 120) if self.light == "night" else self.lit((110, 140, 165))
        for wx in (0.15, 0.62):
            self.box(None, (x + s * wx, roof + s * 0.2, x + s * (wx + 0.22), roof + s * 0.45), pane)
        self.box(None, (x + s * 0.42, foot - s * 0.42, x + s * 0.58, foot), self.lit((85, 55, 35)))

    def car(self, horizon: float) -> None:
        rng = self.rng
        x, y, s = rng.uniform(0.1, 0.5), horizon + rng.uniform(0.3, 0.4), rng.uniform(0.3, 0.42)
        paint = self.lit(rng.choice(((200, 30, 35), (35, 80, 170), (235, 200, 50), (230, 230, 230))))
        cabin = [(x + s * 0.2, y), (x + s * 0.32, y - s * 0.25), (x + s * 0.7, y - s * 0.25), (x + s * 0.85, y)]
        self.polygon("car", cabin, paint)
        self.box("car", (x, y, x + s, y + s * 0.3), paint)
        low, high = y - 0.01, y - s * 0.2
        glass = [(x + s * 0.3, low), (x + s * 0.37, high), (x + s * 0.66, high), (x + s * 0.74, low)]
        self.polygon(None, glass, self.lit((150, 180, 200)))
        for wx in (0.22, 0.78):
            r, middle = s * 0.11, x + s * wx
            corners = (middle - r, y + s * 0.3 - r, middle + r, y + s * 0.3 + r * 1.4)
            self.oval("car", corners, self.lit((25, 25, 28), 4))
        if self.light == "night":
            self.oval(None, (x + s * 0.95, y + s * 0.06, x + s * 1.02, y + s * 0.16), (255, 245, 190))

    def flower(self, horizon: float) -> None:
        rng = self.rng
        petals = rng.choice(((225, 40, 60), (240, 190, 40), (170, 80, 190), (245, 245, 245), (240, 120, 160)))
        for _ in range(rng.randint(2, 5)):
            x, y, r = rng.uniform(0.1, 0.9), rng.uniform(horizon + 0.1, 0.85), rng.uniform(0.06, 0.13)
            self.box(None, (x - 0.008, y, x + 0.008, 1.0), self.lit((50, 120, 45)))
            colour = self.lit(petals)
            for angle in np.linspace(0, 2 * np.pi, 7)[:-1]:
                px, py = x + r * 0.6 * np.cos(angle), y + r * 0.8 * np.sin(angle)
                self.oval("flower", (px - r * 0.42, py - r * 0.55, px + r * 0.42, py + r * 0.55), colour)
            self.oval("flower", (x - r * 0.3, y - r * 0.4, x + r * 0.3, y + r * 0.4), self.lit((235, 190, 50)))

    def finish(self) -> Image.Image:
        """Return the picture at its size, blurred a little, with the noise of a sensor."""
        rng = self.rng
        small = self.image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(2, 7), (HEIGHT, WIDTH, 3))
        pixels = np.asarray(small, dtype=np.float32) * rng.uniform(0.88, 1.1) + noise
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
