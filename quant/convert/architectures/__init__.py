"""One module an architecture: what its models are called, their hyperparameters, their tensors.

A module that holds ``ARCHITECTURES`` is found here by itself; nothing else has to be changed to add one.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from quant.convert.architectures.architecture import Architecture
from quant.convert.config import Config
from quant.errors import UnknownArchitecture


@cache
def architectures() -> tuple[Architecture, ...]:
    """All of them, in the order of their modules' names."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    return tuple(found for module in modules for found in getattr(module, "ARCHITECTURES", ()))


def supported_classes() -> tuple[str, ...]:
    """The classes of models that are converted, as config.json names them."""
    return tuple(sorted({name for found in architectures() for name in found.classes}))


def find_architecture(config: Config) -> Architecture:
    """The architecture of the model that ``config`` describes. Raises :class:`UnknownArchitecture`."""
    for found in architectures():
        if config.architecture in found.classes:
            return found
    raise UnknownArchitecture(config.folder, config.architecture, supported_classes())
