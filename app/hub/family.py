"""Models of one family by their names: what to propose where one is too large."""

from __future__ import annotations

import re
from typing import Final

from app.hub.catalog import Entry, catalog

_FAMILY: Final = re.compile(r"([a-z]+)(?:[-_ ]?(\d{1,2})(?![.\d]*[bm]))?")
"""Letters and a first version: ``llama`` and ``3`` of ``Llama-3.2-1B``; a size is no version."""
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)B")


def family_of(name: str) -> str:
    """``qwen3`` of ``qwen3-8b`` and of ``Qwen/Qwen3-8B-GGUF``; empty where a name says nothing."""
    match = _FAMILY.match(name.rpartition("/")[2].lower())
    return f"{match[1]}{match[2] or ''}" if match else ""


def smaller_relatives(name: str, weights: int) -> list[Entry]:
    """Models of the catalog of the same family as ``name``, of fewer weights than it; largest first."""
    family = family_of(name)
    return [
        entry
        for entry in reversed(catalog().values())
        if family and family_of(entry.name) == family and _weights(entry) < 0.9 * weights
    ]


def _weights(entry: Entry) -> float:
    match = _SIZE.match(entry.parameters)
    return float(match[1]) * 1e9 if match else float("inf")
