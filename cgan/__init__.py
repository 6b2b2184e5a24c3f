"""A small conditional-MLP GAN core: networks, losses, optimiser, training and metrics.

Knows nothing of MNIST, Flickr, image files or words. ``from cgan import Generator, Trainer`` takes these names from
their modules on first use, so that importing this package loads no heavy library.
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

__all__ = ["CganError", "Discriminator", "DiscriminatorSpec", "Diverged", "Estimate", "Generator", "GeneratorSpec"]
__all__ += ["Init", "Layer", "Progress", "StoppingSettings", "Trainer", "TrainingSet", "TrainingSettings", "fit"]
__all__ += ["seeded"]


class CganError(Exception):
    """What was asked for cannot be done; the message says what is wrong, where, and how to fix it.

    Not a ``ValueError``: command-line parsers catch those and replace the message by their own.
    """


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("specs", "settings", "devices", "networks", "batches", "trainer", "loop"):  # The lightest first.
            if hasattr(found := import_module(f"{__name__}.{module}"), name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
