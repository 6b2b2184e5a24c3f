"""Rendered scenes in MIRFLICKR-25000's layout, with invented tags: the stand-in where there are no photos.

Drawn, not photographed, and their words are made up: no figure from them stands beside the paper's.
"""

from data.scenes.words import ROWS, caption_rows
from data.scenes.write import LABELS, MANIFEST, VERSION, render_scene, write_scenes

__all__ = ["LABELS", "MANIFEST", "ROWS", "VERSION", "caption_rows", "render_scene", "write_scenes"]
