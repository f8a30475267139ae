"""Reading the key-value section: every count against the bytes that remain, before anything is allocated."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from runtime.gguf import limits
from runtime.gguf.merges import read_merges
from runtime.gguf.source import Source
from runtime.gguf.tokens import read_tokens
from runtime.gguf.values import SCALARS, ArrayRef, Scalar, Value, ValueType, decode_numbers

KEY_PATTERN: Final = re.compile(rb"[!-~]+")
"""Visible ASCII. The specification asks for lower snake case with dots; real files have more signs."""

TOKENS_KEY: Final = "tokenizer.ggml.tokens"
MERGES_KEY: Final = "tokenizer.ggml.merges"
TEMPLATE_KEY: Final = "tokenizer.chat_template"
PACKED_PREFIX: Final = "localq.packed."
"""The directory of packed matrices (``packed``)."""
ACTIVATIONS_PREFIX: Final = "localq.activations."
"""Static activation scales (``activations``)."""
KEPT: Final = {
    PACKED_PREFIX: (ValueType.STRING, ValueType.U32, ValueType.U64),
    ACTIVATIONS_PREFIX: (ValueType.STRING, ValueType.U32, ValueType.F32),
}
"""Of the arrays with these prefixes the elements are kept, which are of these types."""

_MIN_PAIR_BYTES = 8 + 1 + 4 + 1
_LENGTH_BYTES = 8


@dataclass
class RawMetadata:
    """The section as read: values and their types by key; tokens' texts, kept for the vocabulary's check."""

    values: dict[str, Value] = field(default_factory=dict)
    kinds: dict[str, ValueType] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Elements of every array, known before they are read."""
    tokens: list[bytes] | None = None
    kept: dict[str, list[int] | list[float] | list[bool] | list[str]] = field(default_factory=dict)
    """The arrays of :data:`KEPT`."""
    text_bytes: int = 0
    array_strings: int = 0
    templates: int = 0


def read_metadata(source: Source, count: int, raw: RawMetadata | None = None) -> RawMetadata:
    """The next ``count`` pairs, put into ``raw``. Raises :class:`GgufError` at the first bad one."""
    if count > limits.KEYS:
        raise source.refuse("too-many-keys", f"claims {count} keys; at most {limits.KEYS} are accepted")
    source.require(count * _MIN_PAIR_BYTES, f"a table of {count} keys")
    raw = raw or RawMetadata()
    source.limit_to(limits.METADATA_BYTES)
    for index in range(count):
        key = _read_key(source, index)
        if key in raw.values:
            raise source.refuse("duplicate-key", f"has the key {key} twice")
        kind = _read_kind(source, f"the type of {key}")
        raw.kinds[key] = kind
        if kind is ValueType.STRING:
            raw.values[key] = _read_text(source, raw, key)
        elif kind is ValueType.ARRAY:
            raw.values[key] = _read_array(source, raw, key)
        else:
            raw.values[key] = _read_scalar(source, kind, key)
    return raw


def _read_key(source: Source, index: int) -> str:
    length = source.u64(f"the length of key {index}")
    if not 1 <= length <= limits.KEY_BYTES:
        raise source.refuse("bad-key", f"key {index} has {length} bytes; a key has 1 to {limits.KEY_BYTES}")
    key = source.take(length, f"key {index}")
    if not KEY_PATTERN.fullmatch(key):
        raise source.refuse("bad-key", f"key {index} is {key!r}; a key is of visible ASCII characters")
    return key.decode("ascii")


def _read_kind(source: Source, what: str) -> ValueType:
    number = int.from_bytes(source.take(4, what), "little")
    try:
        return ValueType(number)
    except ValueError:
        raise source.refuse("bad-value-type", f"{what} is {number}; GGUF has the types 0 to 12") from None


def _read_scalar(source: Source, kind: ValueType, key: str) -> Scalar:
    (value,) = source.unpack(SCALARS[kind], f"the value of {key}")
    if kind is ValueType.BOOL:
        if value > 1:
            raise source.refuse("bad-bool", f"{key} is a bool with the value {value}; 0 and 1 are defined")
        return bool(value)
    number: int | float = value
    return number


def _read_text(source: Source, raw: RawMetadata, key: str) -> str | ArrayRef:
    """A text, or the place of one that is too long to be kept."""
    start = source.position
    length = source.u64(f"the length of {key}")
    if key.startswith(TEMPLATE_KEY):
        _check_template(source, raw, key, length)
    if length > limits.TEXT_BYTES:
        source.skip(length, f"the text {key}")
        return ArrayRef(ValueType.STRING, 1, start, 8 + length)
    raw.text_bytes += length
    if raw.text_bytes > limits.TEXTS_BYTES:
        raise source.refuse(
            "string-too-long", f"its texts have more than {limits.TEXTS_BYTES} bytes together, up to {key}"
        )
    try:
        return source.take(length, f"the text {key}").decode("utf-8")
    except UnicodeDecodeError as error:
        raise source.refuse("not-utf8", f"{key} is not valid UTF-8 at its byte {error.start}") from None


def _check_template(source: Source, raw: RawMetadata, key: str, length: int) -> None:
    limit = limits.CHAT_TEMPLATE_BYTES
    if length > limit:
        raise source.refuse("string-too-long", f"{key} has {length} bytes; at most {limit} are accepted")
    raw.templates += 1
    if raw.templates > limits.CHAT_TEMPLATES:
        raise source.refuse(
            "too-many-templates", f"has more than the {limits.CHAT_TEMPLATES} chat templates accepted"
        )


def _read_array(source: Source, raw: RawMetadata, key: str) -> ArrayRef:
    kind = _read_kind(source, f"the element type of {key}")
    count = source.u64(f"the length of {key}")
    raw.counts[key] = count
    if kind is ValueType.ARRAY:
        raise source.refuse("nested-array", f"{key} is an array of arrays, which llama.cpp does not read")
    offset = source.position
    for prefix, kinds in KEPT.items():
        if key.startswith(prefix):
            return _read_kept(source, raw, key, kind, count, kinds)
    if kind is ValueType.STRING:
        _read_strings(source, raw, key, count)
        return ArrayRef(kind, count, offset, source.position - offset)
    nbytes = count * SCALARS[kind].size
    if nbytes <= limits.INLINE_BYTES:
        return ArrayRef(kind, count, offset, nbytes, source.take(nbytes, f"the elements of {key}"))
    source.skip(nbytes, f"the {count} elements of {key}")
    return ArrayRef(kind, count, offset, nbytes)


def _read_kept(
    source: Source,
    raw: RawMetadata,
    key: str,
    kind: ValueType,
    count: int,
    kinds: tuple[ValueType, ...],
) -> ArrayRef:
    """An array whose elements are kept; others are of no use."""
    offset = source.position
    most = limits.ACTIVATION_SCALES if kind is ValueType.F32 else limits.TENSORS
    if count > most:
        raise source.refuse("array-too-long", f"{key} has {count} elements; at most {most} are accepted")
    if kind not in kinds:
        names = ", ".join(each.name for each in kinds[:-1])
        raise source.refuse(
            "wrong-type", f"{key} is an array of {kind.name}; it must be one of {names} or {kinds[-1].name}"
        )
    if kind is ValueType.STRING:
        source.require(count * _LENGTH_BYTES, f"the {count} strings of {key}")
        parts = source.strings(count, limits.TENSOR_NAME_BYTES, f"a string of {key}")
        raw.kept[key] = [text.decode("ascii", "replace") for part in parts for text in part]
    else:
        data = source.take(count * SCALARS[kind].size, f"the elements of {key}")
        raw.kept[key] = decode_numbers(kind, data)
    return ArrayRef(kind, count, offset, source.position - offset)


def _read_strings(source: Source, raw: RawMetadata, key: str, count: int) -> None:
    """Walks over an array of strings, and keeps the vocabulary's."""
    source.require(count * _LENGTH_BYTES, f"the {count} strings of {key}")
    raw.array_strings += count
    if raw.array_strings > limits.ARRAY_STRINGS:
        raise source.refuse(
            "array-too-long",
            f"its arrays hold more than the {limits.ARRAY_STRINGS} strings accepted, up to {key}",
        )
    if key == TOKENS_KEY:
        raw.tokens = read_tokens(source, count)
    elif key == MERGES_KEY:
        read_merges(source, key, count)
    else:
        for _ in source.strings(count, limits.STRING_BYTES, f"a string of {key}"):
            pass
