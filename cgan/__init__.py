"""A small conditional-MLP GAN core: networks, losses, optimiser, training and metrics.

Knows nothing of MNIST, Flickr, image files or words. ``from cgan import Generator, Trainer`` takes the names of
``__all__`` from their modules on first use, so that importing this package loads no heavy library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgan.batches import TrainingSet
    from cgan.devices import seeded
    from cgan.loop import Estimate, Progress, fit
    from cgan.networks import Discriminator, Generator
    from cgan.settings import StoppingSettings, TrainingSettings
    from cgan.specs import DiscriminatorSpec, GeneratorSpec, Init, Layer
    from cgan.trainer import Diverged, Trainer

#: Module of each name that is imported on first use.
_MODULES = {
    "Discriminator": "networks",
    "DiscriminatorSpec": "specs",
    "Diverged": "trainer",
    "Estimate": "loop",
    "Generator": "networks",
    "GeneratorSpec": "specs",
    "Init": "specs",
    "Layer": "specs",
    "Progress": "loop",
    "StoppingSettings": "settings",
    "Trainer": "trainer",
    "TrainingSet": "batches",
    "TrainingSettings": "settings",
    "fit": "loop",
    "seeded": "devices",
}

__all__ = [
    "CganError",
    "Discriminator",
    "DiscriminatorSpec",
    "Diverged",
    "Estimate",
    "Generator",
    "GeneratorSpec",
    "Init",
    "Layer",
    "Progress",
    "StoppingSettings",
    "Trainer",
    "TrainingSet",
    "TrainingSettings",
    "fit",
    "seeded",
]


class CganError(Exception):
    """What was asked for cannot be done; the message says what is wrong, where, and how to fix it.

    Not a ``ValueError``: command-line parsers catch those and replace the message by their own.
    """


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
