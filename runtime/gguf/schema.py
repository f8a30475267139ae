"""Holding the metadata's known keys against their types and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runtime.errors import GgufError
from runtime.gguf.known_keys import GENERAL, HYPERPARAMETERS, TOKEN_IDS
from runtime.gguf.metadata import RawMetadata
from runtime.gguf.projector_keys import PROJECTOR
from runtime.gguf.rules import Rule, u32
from runtime.gguf.source import Source
from runtime.gguf.values import ArrayRef, Scalar, ValueType, decode_numbers

_WHOLE: Final[Mapping[str, Rule]] = {
    **GENERAL,
    **dict.fromkeys(TOKEN_IDS, u32(0, (1 << 32) - 1)),
    **PROJECTOR,
}


def check_schema(source: Source, raw: RawMetadata, architecture: str) -> None:
    """Raises :class:`GgufError` at the first known key of a wrong type or out of its range."""
    prefix = f"{architecture}." if architecture else "\0"
    for key in raw.values:
        rule = _WHOLE.get(key)
        if rule is None and key.startswith(prefix):
            rule = HYPERPARAMETERS.get(key[len(prefix) :])
        if rule is not None:
            _check(source, raw, key, rule)


def _check(source: Source, raw: RawMetadata, key: str, rule: Rule) -> None:
    value = raw.values[key]
    if isinstance(value, ArrayRef) and raw.kinds[key] is ValueType.STRING:
        raise source.refuse("string-too-long", f"{key} has {value.nbytes - 8} bytes; it is meant to be short")
    if isinstance(value, ArrayRef):
        if not (rule.array or rule.per_layer) or value.type not in rule.types:
            raise _wrong_type(source, key, f"an array of {value.type.name}", rule)
        least, most = rule.count
        if not least <= value.count <= most:
            raise source.refuse(
                "out-of-range", f"{key} has {value.count} elements; {least} to {most} are accepted"
            )
        if value.data is not None:
            for element in decode_numbers(value.type, value.data):
                _check_range(source, key, element, rule)
    elif rule.array or raw.kinds[key] is not rule.types[0]:
        raise _wrong_type(source, key, raw.kinds[key].name, rule)
    elif not isinstance(value, str):
        _check_range(source, key, value, rule)


def _check_range(source: Source, key: str, value: Scalar, rule: Rule) -> None:
    if rule.bounded and not rule.least <= value <= rule.most:
        raise source.refuse(
            "out-of-range", f"{key} is {value}; {rule.least:.10g} to {rule.most:.10g} are accepted"
        )


def _wrong_type(source: Source, key: str, found: str, rule: Rule) -> GgufError:
    expected = " or ".join(kind.name for kind in rule.types)
    return source.refuse(
        "wrong-type", f"{key} is {found}; it must be {'an array of ' if rule.array else ''}{expected}"
    )
