"""What is different from one architecture to the next, as data and pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, MODEL_TENSOR
from numpy.typing import NDArray

from quant.convert.config import Config
from quant.files.layout import Key
from runtime.gguf.values import ValueType

Shapes: TypeAlias = Mapping[MODEL_TENSOR, tuple[int, ...]]
Computed: TypeAlias = Mapping[MODEL_TENSOR, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Change:
    """What llama.cpp wants differently in a tensor than transformers has it."""

    heads: int = 0
    """In each of so many heads, the rows' two halves are interleaved: llama.cpp rotates neighbours, where
    transformers rotates a row with the one half a head further."""
    shift: float = 0.0
    """Added to each value."""
    skip_rows: int = 0
    """Rows at the start that are not used."""


@dataclass(frozen=True)
class Hyperparameters:
    """A list of ``<architecture>.*`` keys under way."""

    name: str
    """llama.cpp's name of the architecture."""
    keys: list[Key] = field(default_factory=list)

    def u32(self, template: str, value: int | None) -> None:
        """Adds a number, unless it is None."""
        self._add(template, ValueType.U32, value)

    def f32(self, template: str, value: float | None) -> None:
        self._add(template, ValueType.F32, value)

    def flag(self, template: str, value: bool | None) -> None:
        self._add(template, ValueType.BOOL, value)

    def text(self, template: str, value: str | None) -> None:
        self._add(template, ValueType.STRING, value)

    def flags(self, template: str, values: list[bool]) -> None:
        self.keys.append(Key(template.format(arch=self.name), ValueType.BOOL, values, array=True))

    def _add(self, template: str, kind: ValueType, value: int | float | str | None) -> None:
        if value is not None:
            self.keys.append(Key(template.format(arch=self.name), kind, value))


def _no_changes(_config: Config) -> Mapping[MODEL_TENSOR, Change]:
    return {}


def _nothing_computed(_config: Config) -> Computed:
    return {}


@dataclass(frozen=True)
class Architecture:
    """How the models of some classes of transformers become those of one architecture of llama.cpp.

    ``defaults`` are what transformers' configuration class takes where config.json is silent. ``shapes``
    names the weights that a model must have, slowest dimension first, and nothing that it may lack; a kind of
    a block stands for that of all blocks. Tensors whose names ``left_out`` matches are no part of the
    language model. ``prefixes`` are taken off the names before they are looked up in gguf's map.
    """

    arch: MODEL_ARCH
    classes: tuple[str, ...]
    models: str
    """What people call them."""
    hyperparameters: Callable[[Config, Hyperparameters], None]
    shapes: Callable[[Config], Shapes]
    changes: Callable[[Config], Mapping[MODEL_TENSOR, Change]] = _no_changes
    computed: Callable[[Config], Computed] = _nothing_computed
    """Tensors of float32 that transformers computes when it loads a model, and llama.cpp reads."""
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    left_out: tuple[re.Pattern[str], ...] = ()
    prefixes: tuple[str, ...] = ()
    embedder: bool = False
    """Whether the models make vectors of texts, and no texts."""

    @property
    def name(self) -> str:
        """llama.cpp's."""
        return str(MODEL_ARCH_NAMES[self.arch])
