"""config.json: what a model's hyperparameters are, each with the type and the range that it must have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from quant.convert.json_file import read_object
from quant.errors import CannotConvert, CheckpointDamaged

WIDTH: Final = 1 << 24
"""The widest that anything of a model may be; the same limit as for a GGUF."""
INT32_MAX: Final = (1 << 31) - 1


@dataclass(frozen=True)
class Config:
    """The values of a config.json. A value that is there but wrong raises :class:`CheckpointDamaged`."""

    path: Path
    values: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What transformers takes where the file is silent."""

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def architecture(self) -> str:
        """The model's class, as ``LlamaForCausalLM``."""
        found = self.values.get("architectures")
        if not isinstance(found, list) or not found or not isinstance(found[0], str):
            raise CannotConvert(self.folder, "its config.json names no architecture")
        return found[0][:100]

    def get(self, *names: str) -> Any:
        """The first of ``names`` that has a value; None where none has."""
        for values in (self.values, self.defaults):
            for name in names:
                if values.get(name) is not None:
                    return values[name]
        return None

    def integer(self, *names: str, least: int = 1, most: int = WIDTH) -> int:
        """A count that must be there."""
        found = self.optional_integer(*names, least=least, most=most)
        if found is None:
            raise self.refuse(names[0], "is missing")
        return found

    def optional_integer(self, *names: str, least: int = 1, most: int = WIDTH) -> int | None:
        found = self.get(*names)
        if found is None:
            return None
        if type(found) is float and found.is_integer():
            found = int(found)
        if type(found) is not int or not least <= found <= most:
            raise self.refuse(names[0], f"is {_shown(found)}, not a whole number from {least} to {most}")
        return found

    def number(self, *names: str) -> float:
        """A positive, finite number that must be there."""
        found = self.optional_number(*names)
        if found is None:
            raise self.refuse(names[0], "is missing")
        return found

    def optional_number(self, *names: str) -> float | None:
        found = self.get(*names)
        return None if found is None else self.positive(names[0], found)

    def positive(self, name: str, found: object) -> float:
        """``found``, which stands under ``name``, as a positive and finite number."""
        if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found < 1e30:
            raise self.refuse(name, f"is {_shown(found)}, not a positive number")
        return float(found)

    def flag(self, name: str, default: bool = False) -> bool:
        found = self.get(name)
        if found is None:
            return default
        if not isinstance(found, bool):
            raise self.refuse(name, f"is {_shown(found)}, not true or false")
        return found

    def mapping(self, *names: str) -> dict[str, Any]:
        """An object; empty where there is none."""
        found = self.get(*names)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise self.refuse(names[0], f"is {_shown(found)}, not an object")
        return found

    def require(self, name: str, *accepted: object, why: str) -> None:
        """Raises :class:`CannotConvert` unless ``name`` has one of the values that llama.cpp can compute."""
        found = self.get(name)
        if found not in accepted:
            raise CannotConvert(
                self.folder,
                f"{name} in its config.json is {_shown(found)}; {why} ({', '.join(map(str, accepted))})",
            )

    def refuse(self, name: str, reason: str) -> CheckpointDamaged:
        return CheckpointDamaged(self.path, "bad-config", f"{name} {reason}")


def read_config(path: Path) -> Config:
    """The config.json at ``path``; of a model that also sees or hears, the part of its language model.

    Raises :class:`CheckpointDamaged`.
    """
    values = read_object(path)
    text = values.get("text_config")
    if text is not None and not isinstance(text, dict):
        raise CheckpointDamaged(path, "bad-config", "text_config is not an object")
    return Config(path, values | (text or {}) | {"architectures": values.get("architectures")})


def is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
