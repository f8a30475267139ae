"""Static activation scales: how the inputs of some matrices are rounded to bytes, fixed by calibration.

They are in the metadata of an otherwise ordinary GGUF (``docs/formats.md``), where llama.cpp, which rounds by
the values themselves, does not look for them. Here they are held against the tensors before anything else
sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from runtime.gguf.metadata import ACTIVATIONS_PREFIX, RawMetadata
from runtime.gguf.source import Source
from runtime.gguf.tensor_info import TensorInfo

ActivationScales: TypeAlias = Mapping[str, tuple[float, ...]]
"""Tensor name -> a scale for each block of the columns of its input, in their order."""

VERSION: Final = 1
SCALES_RULES: Final = frozenset({"bad-activations", "activations-version"})
"""What a file is refused for that llama.cpp would load all the same, and answer with other activations."""
LEAST: Final = 2.0**-100
MOST: Final = 2.0**100
"""Of a scale: one over it is a number too."""
SUPER_BLOCK: Final = 256
BLOCK: Final = 32


def input_block(weights: int) -> int:
    """Columns that share a scale in the input of a matrix whose blocks have ``weights``."""
    return SUPER_BLOCK if weights == SUPER_BLOCK else BLOCK


def read_activations(source: Source, raw: RawMetadata, tensors: Sequence[TensorInfo]) -> ActivationScales:
    """The scales of a file with these ``tensors``; none for a file without them.

    Raises :class:`GgufError` for scales that no kernel can use, or of tensors that are not there.
    """
    if not any(key.startswith(ACTIVATIONS_PREFIX) for key in raw.values):
        return {}
    version = raw.values.get(f"{ACTIVATIONS_PREFIX}version")
    if version != VERSION:
        raise source.refuse(
            "activations-version",
            f"has static activation scales of version {version}; this localq reads {VERSION}: update it",
        )
    names, counts, scales = (_array(source, raw, *key) for key in _ARRAYS)
    if len(names) != len(counts) or sum(counts) != len(scales):
        raise source.refuse(
            "bad-activations",
            f"has {len(scales)} static activation scales for {len(names)} tensors, whose {len(counts)} counts"
            f" say {sum(counts)}",
        )
    known = {tensor.name: tensor for tensor in tensors}
    found: dict[str, tuple[float, ...]] = {}
    start = 0
    for name, count in zip(names, counts, strict=True):
        if name in found:
            raise source.refuse("bad-activations", f"has static activation scales of {name!r} twice")
        found[name] = tuple(scales[start : start + count])
        _check(source, name, found[name], known.get(name))
        start += count
    return found


_ARRAYS: Final = (("tensors", str), ("counts", int), ("scales", float))


def _array(source: Source, raw: RawMetadata, name: str, kind: type) -> list[Any]:
    key = ACTIVATIONS_PREFIX + name
    values = raw.kept.get(key)
    if values is None or any(type(value) is not kind for value in values):
        what = {str: "texts", int: "whole numbers", float: "numbers in F32"}[kind]
        raise source.refuse("bad-activations", f"{key} is no array of {what}")
    return list(values)


def _check(source: Source, name: str, scales: tuple[float, ...], tensor: TensorInfo | None) -> None:
    if tensor is None or tensor.type.block_size == 1 or len(tensor.shape) < 2:
        what = "no tensor of it" if tensor is None else f"{tensor.type.name} {list(tensor.shape)}"
        raise source.refuse(
            "bad-activations",
            f"has static activation scales of {name!r}, which is {what}; only quantized matrices have them",
        )
    wanted = tensor.shape[0] // input_block(tensor.type.block_size)
    if len(scales) != wanted:
        raise source.refuse(
            "bad-activations",
            f"has {len(scales)} static activation scales of {name}; {tensor.shape[0]} columns in blocks of "
            f"{tensor.type.name} have {wanted}",
        )
    for scale in scales:
        if not LEAST <= scale <= MOST:  # NaN is neither
            raise source.refuse(
                "bad-activations", f"a static activation scale of {name} is {scale}; make the file again"
            )
