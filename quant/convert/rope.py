"""Rotary positions: what transformers calls ``rope_parameters``, and ``rope_theta`` with ``rope_scaling``
before.

The scalings are those of transformers' ``modeling_rope_utils``: linear (kaiokendev), yarn (arXiv:2309.00071),
longrope (arXiv:2402.13753) and llama3 (the Llama 3.1 model card).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quant.convert.config import Config, is_finite
from quant.errors import CannotConvert

THETA: Final = 10_000.0
"""transformers' default base."""
_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Rope:
    """Positions of a model's full attention, and of its sliding windows where those differ."""

    theta: float
    kind: str
    """``default``, ``linear``, ``yarn``, ``longrope``, ``llama3`` or ``dynamic``."""
    scaling: Mapping[str, Any]
    sliding_theta: float | None = None


def read_rope(config: Config) -> Rope:
    """The positions in either form of config.json. Raises :class:`CannotConvert` for a scaling that is
    unknown."""
    found = config.mapping("rope_parameters", "rope_scaling")
    scaling = config_object(config, found, _FULL) if _FULL in found else found
    sliding = config_object(config, found, _SLIDING) if _SLIDING in found else {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    kind = "longrope" if kind == "su" else kind
    if kind not in ("default", "linear", "yarn", "longrope", "llama3", "dynamic"):
        raise CannotConvert(config.folder, f"its rotary positions are scaled by {kind!r}, which is not known")
    theta = scaling.get("rope_theta", config.get("rope_theta"))
    local = sliding.get("rope_theta", config.get("rope_local_base_freq"))
    return Rope(
        theta=THETA if theta is None else config.positive("rope_theta", theta),
        kind=kind,
        scaling=scaling,
        sliding_theta=None if local is None else config.positive("rope_local_base_freq", local),
    )


def config_object(config: Config, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within an object."""
    found = values[name]
    if not isinstance(found, dict):
        raise config.refuse(name, "is not an object")
    return found


def scaling_number(config: Config, rope: Rope, name: str, default: float | None = None) -> float:
    """A number of the scaling. Raises :class:`CheckpointDamaged` where it is missing or none."""
    found = rope.scaling.get(name, default)
    if found is None:
        raise config.refuse(f"{name} of the rotary positions", "is missing")
    return config.positive(f"{name} of the rotary positions", found)


def original_context(config: Config, rope: Rope) -> int:
    """The context length before the scaling."""
    found = rope.scaling.get("original_max_position_embeddings")
    if found is None:
        found = config.get("original_max_position_embeddings", "max_position_embeddings")
    return int(config.positive("original_max_position_embeddings", found))


def llama3_factors(config: Config, rope: Rope, dimensions: int) -> NDArray[np.float32]:
    """By how much each frequency is divided: float32 [dimensions / 2].

    High frequencies stay, low ones are divided by the factor, and those between by a mean of both.
    """
    factor = scaling_number(config, rope, "factor", 8.0)
    low = scaling_number(config, rope, "low_freq_factor", 1.0)
    high = scaling_number(config, rope, "high_freq_factor", 4.0)
    context = scaling_number(config, rope, "original_max_position_embeddings", 8192)
    if high <= low:
        raise config.refuse("high_freq_factor", f"is {high}, not above low_freq_factor, {low}")
    exponents = np.arange(0, dimensions, 2, dtype=np.float32) / np.float32(dimensions)
    frequencies = np.float32(1) / np.power(np.float32(rope.theta), exponents)
    wavelengths = np.float32(2 * math.pi) / frequencies
    smooth = (np.float32(context) / wavelengths - np.float32(low)) / np.float32(high - low)
    between = np.float32(1) / ((np.float32(1) - smooth) / np.float32(factor) + smooth)
    factors = np.where(wavelengths > context / low, np.float32(factor), between)
    return np.where(wavelengths < context / high, np.float32(1), factors).astype(np.float32)


def long_factors(config: Config, rope: Rope, name: str, dimensions: int) -> NDArray[np.float32]:
    """``long_factor`` or ``short_factor`` of longrope: float32 [dimensions / 2]."""
    found = rope.scaling.get(name)
    if not isinstance(found, list) or len(found) != dimensions // 2 or not all(map(is_finite, found)):
        raise config.refuse(f"{name} of the rotary positions", f"is not a list of {dimensions // 2} numbers")
    return np.asarray(found, np.float32)


def longrope_attention_factor(original: int, context: int) -> float:
    """What attention is multiplied with where positions were stretched from ``original`` to ``context``."""
    scale = context / original
    return math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
