"""A small conditional-MLP GAN core: networks, losses, optimiser, training and metrics.

Knows nothing of MNIST, Flickr, image files or words. ``from cgan import Generator, Trainer`` takes these names from
their modules on first use, so that importing this package loads no heavy library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgan.batches import TrainingSet as TrainingSet
    from cgan.devices import seeded as seeded
    from cgan.loop import Estimate as Estimate
    from cgan.loop import Progress as Progress
    from cgan.loop import fit as fit
    from cgan.networks import Discriminator as Discriminator
    from cgan.networks import Generator as Generator
    from cgan.settings import StoppingSettings as StoppingSettings
    from cgan.settings import TrainingSettings as TrainingSettings
    from cgan.specs import DiscriminatorSpec as DiscriminatorSpec
    from cgan.specs import GeneratorSpec as GeneratorSpec
    from cgan.specs import Init as Init
    from cgan.specs import Layer as Layer
    from cgan.trainer import Diverged as Diverged
    from cgan.trainer import Trainer as Trainer

#: Names imported on first use, by module.
_NAMES = {
    "batches": ["TrainingSet"],
    "devices": ["seeded"],
    "loop": ["Estimate", "Progress", "fit"],
    "networks": ["Discriminator", "Generator"],
    "settings": ["StoppingSettings", "TrainingSettings"],
    "specs": ["DiscriminatorSpec", "GeneratorSpec", "Init", "Layer"],
    "trainer": ["Diverged", "Trainer"],
}

__all__ = ["CganError", *(name for names in _NAMES.values() for name in names)]


class CganError(Exception):
    """What was asked for cannot be done; the message says what is wrong, where, and how to fix it.

    Not a ``ValueError``: command-line parsers catch those and replace the message by their own.
    """


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
