"""The paper of the rendered scenes: a supersampled canvas, its light, tileable noise, and the finish of a photograph.

Knows no things of the world; ``scene_land``, ``scene_life``, ``scene_town`` and ``scene_traffic`` draw those on it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

#: Canvas pixels for one of the picture, in each direction.
SCALE = 2

#: Side of the noise textures, which repeat.
SIDE = 512

Colour = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Light:
    """Colours (RGB, 0 to 1) of one time of day: the sky from top to horizon, direct light, the light of shade, haze.

    ``thick`` is how much of a thing a unit of distance hides behind haze; ``sun`` is where the light comes from, in
    parts of the picture's width and height; ``dark`` says whether lamps are lit, ``wet`` whether it rains.
    """

    zenith: Colour
    middle: Colour
    horizon: Colour
    direct: Colour
    ambient: Colour
    haze: Colour
    thick: float = 0.5
    sun: tuple[float, float] = (0.3, 0.2)
    dark: bool = False
    wet: bool = False

    def on(self, albedo: Colour, shade: float = 1.0, depth: float = 0.0) -> np.ndarray:
        """The colour that a surface of ``albedo`` shows, ``shade`` of the direct light on it, ``depth`` far away."""
        lit = np.asarray(albedo) * (np.asarray(self.ambient) + shade * np.asarray(self.direct))
        veil = 1 - np.exp(-self.thick * depth)
        return lit + (np.asarray(self.haze) - lit) * veil

    def ink(self, albedo: Colour, shade: float = 1.0, depth: float = 0.0) -> tuple[int, int, int, int]:
        """The same as an opaque RGBA colour for Pillow."""
        return rgba(self.on(albedo, shade, depth))


LIGHTS: dict[str, tuple[Light, ...]] = {
    "day": (
        Light((0.13, 0.36, 0.74), (0.36, 0.60, 0.88), (0.74, 0.86, 0.95), (0.78, 0.74, 0.66), (0.32, 0.36, 0.42),
              (0.70, 0.81, 0.92), 0.45),
        Light((0.20, 0.50, 0.82), (0.50, 0.74, 0.92), (0.84, 0.92, 0.95), (0.72, 0.70, 0.64), (0.38, 0.40, 0.42),
              (0.80, 0.88, 0.93), 0.6),
    ),
    "overcast": (
        Light((0.58, 0.62, 0.67), (0.70, 0.73, 0.76), (0.84, 0.85, 0.86), (0.18, 0.18, 0.18), (0.54, 0.56, 0.58),
              (0.78, 0.80, 0.82), 0.8),
    ),
    "golden": (
        Light((0.30, 0.46, 0.70), (0.66, 0.68, 0.70), (1.00, 0.84, 0.56), (0.98, 0.72, 0.38), (0.26, 0.25, 0.29),
              (0.97, 0.80, 0.56), 0.75, (0.2, 0.55)),
    ),
    "sunset": (
        Light((0.17, 0.20, 0.42), (0.72, 0.38, 0.40), (1.00, 0.62, 0.24), (0.42, 0.20, 0.10), (0.13, 0.11, 0.15),
              (0.86, 0.46, 0.30), 0.5, (0.5, 0.85)),
        Light((0.26, 0.24, 0.50), (0.66, 0.42, 0.62), (1.00, 0.66, 0.56), (0.36, 0.20, 0.18), (0.15, 0.13, 0.20),
              (0.84, 0.52, 0.56), 0.6, (0.5, 0.9)),
        Light((0.25, 0.07, 0.12), (0.78, 0.22, 0.10), (1.00, 0.55, 0.12), (0.40, 0.14, 0.05), (0.11, 0.07, 0.08),
              (0.84, 0.34, 0.14), 0.5, (0.5, 0.8)),
    ),
    "dusk": (
        Light((0.04, 0.08, 0.25), (0.16, 0.22, 0.46), (0.62, 0.46, 0.52), (0.06, 0.06, 0.10), (0.13, 0.16, 0.26),
              (0.30, 0.30, 0.48), 0.6, (0.6, 1.0), True),
        Light((0.03, 0.10, 0.24), (0.08, 0.24, 0.42), (0.80, 0.58, 0.36), (0.05, 0.05, 0.07), (0.10, 0.14, 0.22),
              (0.28, 0.34, 0.44), 0.6, (0.4, 1.0), True),
    ),
    "night": (
        Light((0.01, 0.015, 0.05), (0.02, 0.04, 0.11), (0.07, 0.10, 0.20), (0.07, 0.08, 0.12), (0.055, 0.065, 0.11),
              (0.06, 0.08, 0.16), 0.5, (0.7, 0.2), True),
        Light((0.02, 0.01, 0.04), (0.05, 0.035, 0.08), (0.20, 0.12, 0.10), (0.06, 0.05, 0.06), (0.07, 0.06, 0.09),
              (0.12, 0.09, 0.11), 0.5, (0.3, 0.2), True),
    ),
    "rain": (
        Light((0.36, 0.40, 0.45), (0.46, 0.49, 0.53), (0.62, 0.65, 0.67), (0.06, 0.06, 0.06), (0.44, 0.46, 0.49),
              (0.56, 0.60, 0.63), 1.4, wet=True),
    ),
    "fog": (
        Light((0.70, 0.73, 0.75), (0.77, 0.79, 0.80), (0.84, 0.85, 0.85), (0.12, 0.12, 0.11), (0.52, 0.53, 0.54),
              (0.80, 0.81, 0.82), 3.2),
        Light((0.62, 0.62, 0.68), (0.82, 0.74, 0.68), (0.95, 0.84, 0.70), (0.30, 0.22, 0.14), (0.42, 0.40, 0.42),
              (0.90, 0.80, 0.70), 2.6),
    ),
    "snowfall": (
        Light((0.62, 0.65, 0.70), (0.70, 0.73, 0.77), (0.80, 0.82, 0.85), (0.12, 0.12, 0.13), (0.60, 0.63, 0.68),
              (0.78, 0.80, 0.84), 1.6),
    ),
}  # fmt: skip


def light_of(name: str, dice: random.Random) -> Light:
    """One of the lights of that name, every time a little other."""
    base = dice.choice(LIGHTS[name])
    tint = np.array([dice.gauss(1, 0.05) for _ in range(3)])
    power = dice.gauss(1, 0.06)

    def other(colour: Colour) -> tuple[float, ...]:
        return tuple(np.clip(np.asarray(colour) * tint * power, 0, 1.05))

    return replace(
        base,
        zenith=other(base.zenith),
        middle=other(base.middle),
        horizon=other(base.horizon),
        direct=other(base.direct),
        ambient=other(base.ambient),
        haze=other(base.haze),
        sun=(dice.uniform(0.12, 0.88), base.sun[1] * dice.uniform(0.75, 1.1)),
    )


class Canvas:
    """A picture being painted from far to near, and which concept each of its pixels shows.

    ``rgb``: float32 (h, w, 3), 0 to 1 and beyond where it glares; ``owners``: uint8 (h, w), index into ``concepts``.
    """

    def __init__(self, shape: tuple[int, int], light: Light, dice: random.Random) -> None:
        self.w, self.h = shape[0] * SCALE, shape[1] * SCALE
        self.rgb = np.zeros((self.h, self.w, 3), np.float32)
        self.owners = np.zeros((self.h, self.w), np.uint8)
        self.concepts: list[str] = [""]
        self.light, self.dice = light, dice
        self.x = np.arange(self.w, dtype=np.float32)[None]
        self.y = np.arange(self.h, dtype=np.float32)[:, None]

    def own(self, where: np.ndarray, concept: str | None, rows: slice = slice(None), cols: slice = slice(None)) -> None:
        """Note that the pixels of the boolean mask show ``concept`` now; None leaves what was noted."""
        if concept is None:
            return
        if concept not in self.concepts:
            self.concepts.append(concept)
        self.owners[rows, cols][where] = self.concepts.index(concept)

    def fill(self, mask: np.ndarray, colour: Colour, concept: str | None = None, top: int = 0) -> None:
        """Lay ``colour`` ((3,) or (rows, w, 3)) over the rows from ``top``, as far as ``mask`` (rows, w; 0 to 1)."""
        rows = slice(top, top + len(mask))
        part = self.rgb[rows]
        part += (np.asarray(colour, np.float32) - part) * mask[..., None].astype(np.float32)
        self.own(mask > 0.4, concept, rows)

    def layer(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """An empty RGBA layer of the canvas's size, and what draws on it."""
        image = Image.new("RGBA", (self.w, self.h))
        return image, ImageDraw.Draw(image)

    def paste(self, layer: Image.Image, concept: str | None = None, blur: float = 0.0, strength: float = 1.0) -> None:
        """Lay a layer over the picture, out of focus by ``blur`` canvas pixels."""
        box = layer.getbbox()
        if box is None:
            return
        margin = int(3 * blur)
        x0, y0 = max(box[0] - margin, 0), max(box[1] - margin, 0)
        x1, y1 = min(box[2] + margin, self.w), min(box[3] + margin, self.h)
        # Premultiplied, so that no dark rim comes from the empty pixels around.
        part = layer.crop((x0, y0, x1, y1)).convert("RGBa")
        if blur:
            part = part.filter(ImageFilter.GaussianBlur(blur))
        values = np.asarray(part, np.float32) * np.float32(strength / 255)
        rows, cols = slice(y0, y1), slice(x0, x1)
        self.rgb[rows, cols] = values[..., :3] + self.rgb[rows, cols] * (1 - values[..., 3:])
        self.own(values[..., 3] > 0.35, concept, rows, cols)

    def shadow(self, x: float, y: float, reach: float) -> None:
        """Darken the ground about the foot of a thing, and away from the sun, as far as ``reach`` canvas pixels."""
        layer, pen = self.layer()
        shift = reach * 0.7 * (1 if self.light.sun[0] < 0.5 else -1)
        strength = int(110 * min(sum(self.light.direct) / 2, 1)) + 35
        box = (min(x, x + shift) - reach * 0.8, y - reach * 0.1, max(x, x + shift) + reach * 0.8, y + reach * 0.14)
        pen.ellipse(box, fill=(0, 4, 10, strength))
        self.paste(layer, None, reach * 0.05 + 0.5)

    def glow(self, x: float, y: float, radius: float, colour: Colour, power: float = 1.0) -> None:
        """Add light around a point, falling off to nothing at ``radius`` canvas pixels."""
        x0, x1 = max(int(x - radius), 0), min(int(x + radius) + 1, self.w)
        y0, y1 = max(int(y - radius), 0), min(int(y + radius) + 1, self.h)
        if x0 >= x1 or y0 >= y1:
            return
        away = ((self.x[:, x0:x1] - x) ** 2 + (self.y[y0:y1] - y) ** 2) / radius**2
        fall = np.maximum(1 - away, 0) ** 2 / (1 + 12 * away) * power
        self.rgb[y0:y1, x0:x1] += fall[..., None] * np.asarray(colour, np.float32)

    def shares(self) -> dict[str, float]:
        """The part of the picture that each concept still shows."""
        counts = np.bincount(self.owners.ravel(), minlength=len(self.concepts)) / self.owners.size
        return {name: float(count) for name, count in zip(self.concepts, counts, strict=True) if name and count}


def rgba(colour: Colour, alpha: float = 1.0) -> tuple[int, int, int, int]:
    """A colour of 0 to 1 as Pillow takes it."""
    r, g, b = (min(max(int(part * 255 + 0.5), 0), 255) for part in colour)
    return r, g, b, int(alpha * 255)


def mix(a: Colour, b: Colour, part: float | np.ndarray) -> np.ndarray:
    """``a`` where ``part`` is 0, ``b`` where it is 1."""
    a = np.asarray(a, np.float32)
    return a + (np.asarray(b, np.float32) - a) * np.asarray(part, np.float32)


def smooth(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, and a soft step between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@lru_cache(maxsize=32)
def texture(roughness: float) -> np.ndarray:
    """Noise (512, 512) float32 in [0, 1] that repeats; its spectrum falls as frequency to the power -roughness."""
    rng = np.random.default_rng(int(roughness * 100))
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * frequency**-roughness
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (SIDE, SIDE))
    return np.clip(0.5 + noise / (4.5 * noise.std()), 0, 1).astype(np.float32)


def sample(roughness: float, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The texture at columns ``u`` and rows ``v`` (texture pixels, broadcast), interpolated linearly."""
    noise = texture(roughness)
    left, top = np.floor(u), np.floor(v)
    fx, fy = u - left, v - top
    i, j = left.astype(np.int32) % SIDE, top.astype(np.int32) % SIDE
    right, below = (i + 1) % SIDE, (j + 1) % SIDE
    upper = noise[j, i] * (1 - fx) + noise[j, right] * fx
    lower = noise[below, i] * (1 - fx) + noise[below, right] * fx
    return upper * (1 - fy) + lower * fy


def line(dice: random.Random, roughness: float, width: int, scale: float) -> np.ndarray:
    """One row of noise (width,) about 0.5, ``scale`` texture pixels to a canvas pixel."""
    u = np.arange(width, dtype=np.float32) * scale + dice.uniform(0, SIDE)
    return sample(roughness, u, np.full(1, dice.uniform(0, SIDE), np.float32))


def develop(canvas: Canvas, style: str, dice: random.Random) -> Image.Image:
    """The picture as a camera and its owner leave it: bloom, exposure, contrast, colour, vignette, blur and grain."""
    h, w = canvas.h // SCALE, canvas.w // SCALE
    rgb = canvas.rgb.reshape(h, SCALE, w, SCALE, 3).mean((1, 3))
    rgb = _bloom(rgb) * np.float32(2 ** dice.gauss(0, 0.18))
    rgb = np.where(rgb > 0.8, 0.8 + 0.2 * np.tanh((rgb - 0.8) / 0.3), rgb).clip(0, 1)
    rgb = _levels(rgb, 0.25 if canvas.light.thick > 2 else 0.5)
    rgb = _contrast(rgb, _power(style, canvas.light.dark) * dice.gauss(1, 0.08))
    grey = (rgb @ np.array([0.3, 0.59, 0.11], np.float32))[..., None]
    rgb = grey + (rgb - grey) * np.float32(SATURATION.get(style, 1.0) * dice.gauss(1, 0.1))
    rgb = TONES.get(style, _same)(rgb.clip(0, 1))
    y, x = np.ogrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    falloff = dice.choice([0.0, 0.05, 0.1, 0.2]) + (0.35 if style == "lomo" else 0)
    rgb = rgb * (1 - falloff * (x * x + y * y) ** 1.3 / 2)[..., None].astype(np.float32)
    image = Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))
    image = _focus(image, dice)
    grain = dice.choice([0.5, 1.0, 2.0, 3.5]) * (1.5 if canvas.light.dark else 1)
    noise = np.random.default_rng(dice.getrandbits(32)).normal(0, grain, (h, w, 3)).astype(np.float32)
    noise = 0.35 * noise + 0.65 * noise[..., :1]
    return Image.fromarray((np.asarray(image, np.float32) + noise + 0.5).clip(0, 255).astype(np.uint8))


def _bloom(rgb: np.ndarray) -> np.ndarray:
    """Light that spills from what glares."""
    glare = np.clip(rgb - 0.92, 0, 2)
    if glare.max() < 0.05:
        return rgb
    small = Image.fromarray((glare.clip(0, 1) * 255).astype(np.uint8))
    wide = np.asarray(small.filter(ImageFilter.GaussianBlur(7)), np.float32) / 255
    return rgb + 0.9 * wide


def _levels(rgb: np.ndarray, strength: float) -> np.ndarray:
    """Black and white points set as a camera's automatic does, by part."""
    low, high = np.percentile(rgb[::3, ::3], (1, 99))
    full = (rgb - low) * np.float32(0.93 / max(high - low, 0.35)) + np.float32(0.03)
    return mix(rgb, full, strength)


def _power(style: str, dark: bool) -> float:
    """The contrast of a style: 1 leaves it, more steepens it."""
    if style == "faded":
        return 0.9 if dark else 0.72
    return {"vivid": 1.25, "lomo": 1.45, "bw": 1.3}.get(style, 1.0)


def _contrast(rgb: np.ndarray, power: float) -> np.ndarray:
    return 0.5 + (rgb - 0.5) * np.float32(power) if power < 1 else mix(rgb, smooth(0, 1, rgb), power - 1)


def _focus(image: Image.Image, dice: random.Random) -> Image.Image:
    """Sharpened by the camera mostly, now and then a little out of focus or shaken."""
    kind = dice.random()
    if kind < 0.08:
        return image.filter(ImageFilter.GaussianBlur(dice.uniform(0.5, 1.0)))
    if kind < 0.12:
        shaken = np.asarray(image, np.float32)
        smeared = (np.roll(shaken, 1, 1) + shaken + np.roll(shaken, -1, 1)) / 3
        return Image.fromarray(smeared.astype(np.uint8))
    return image.filter(ImageFilter.UnsharpMask(1.2, dice.randrange(20, 90), 2))


def _same(rgb: np.ndarray) -> np.ndarray:
    return rgb


#: How colourful a style is.
SATURATION = {"vivid": 1.4, "lomo": 1.3, "faded": 0.62, "bw": 0.0, "sepia": 0.0}

#: What a style does to the colours after that.
TONES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "warm": lambda rgb: rgb * np.array([1.08, 1.0, 0.86], np.float32),
    "cold": lambda rgb: rgb * np.array([0.88, 0.98, 1.10], np.float32),
    "faded": lambda rgb: 0.09 + rgb * np.array([0.90, 0.88, 0.80], np.float32),
    "sepia": lambda rgb: rgb * np.array([1.07, 0.90, 0.68], np.float32),
    "lomo": lambda rgb: np.stack([rgb[..., 0] ** 0.95, rgb[..., 1], 0.12 + 0.76 * rgb[..., 2]], -1),
}
