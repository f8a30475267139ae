"""Holding the parts of a vocabulary against each other: what llama.cpp indexes, must be there."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping
from typing import Final

from runtime.gguf import limits
from runtime.gguf.known_keys import TOKEN_IDS
from runtime.gguf.metadata import RawMetadata
from runtime.gguf.source import Source
from runtime.gguf.values import ArrayRef, ValueType, decode_numbers

NO_TOKEN: Final = 0xFFFFFFFF
"""-1 as u32: converters write it for a special token that a model lacks."""

BYTE_TYPE: Final = 6
"""The last of llama.cpp's token types: undefined, normal, unknown, control, user-defined, unused, byte."""

_TYPES = bytes(range(BYTE_TYPE + 1))
_BYTE_TOKEN = re.compile(rb"<0x[0-9A-Fa-f]{2}>")

_DEFAULT_IDS: Final[Mapping[str, Mapping[str, int]]] = {
    "llama": {"bos": 1, "eos": 2, "unknown": 0},
    "bert": {"bos": 101, "unknown": 100, "seperator": 102, "padding": 0, "mask": 103},
    "gpt2": {"bos": 11, "eos": 11},
    "t5": {"eos": 1, "unknown": 2, "padding": 0},
    "plamo2": {"bos": 1, "eos": 2, "unknown": 0, "padding": 3},
}
"""What llama.cpp takes for an absent ``tokenizer.ggml.<name>_token_id``, by ``tokenizer.ggml.model``."""


def check_vocabulary(source: Source, raw: RawMetadata) -> None:
    """Raises :class:`GgufError` at a vocabulary that llama.cpp would read past its end, or abort at.

    Reads at most a few MiB; the source's position is undefined afterwards.
    """
    tokens = raw.tokens
    if tokens is None:
        return
    model = raw.values.get("tokenizer.ggml.model", "")
    _check_texts(source, tokens)
    _check_types(source, raw, tokens, model)
    _check_scores(source, raw, len(tokens))
    _check_special_ids(source, raw, len(tokens), str(model))
    _check_charsmap(source, raw)
    if model == "rwkv" and not {b"\\n", b"\n", b"\\x0a", b"\\x0A"}.intersection(tokens):
        raise source.refuse(
            "bad-vocabulary", "its rwkv vocabulary has no newline token; llama.cpp would hang"
        )


def _check_texts(source: Source, tokens: list[bytes]) -> None:
    """Every text once, llama.cpp's names for empty ones included: it aborts at a second one."""
    distinct = set(tokens)
    names = tokens
    if b"" in distinct:
        names = [text or b"[EMPTY_%d]" % token for token, text in enumerate(tokens)]
        distinct = set(names)
    if len(distinct) < len(names):
        first = {name: token for token, name in reversed(list(enumerate(names)))}
        token = next(token for token, name in enumerate(names) if first[name] < token)
        raise source.refuse(
            "duplicate-token",
            f"token {token} repeats the text {names[token][:40]!r}; llama.cpp aborts at that",
        )
    squares = sum(len(text) ** 2 for text in tokens if len(text) >= 64)
    if squares > limits.TOKEN_SQUARES:
        raise source.refuse(
            "vocabulary-too-large", "has so many long tokens that llama.cpp might need gigabytes for them"
        )


def _check_types(source: Source, raw: RawMetadata, tokens: list[bytes], model: object) -> None:
    ref = _array(source, raw, "tokenizer.ggml.token_type", len(tokens))
    if ref is None:
        return
    data = _read(source, ref)[: 4 * len(tokens)]
    kinds = data[::4]  # the low bytes; the others must be zero
    if kinds.translate(None, _TYPES) or (data[1::4] + data[2::4] + data[3::4]).strip(b"\0"):
        numbers = decode_numbers(ValueType.I32, data)
        token = next(token for token, number in enumerate(numbers) if not 0 <= number <= BYTE_TYPE)
        raise source.refuse(
            "bad-token-type", f"token {token} has the type {numbers[token]}; 0 to {BYTE_TYPE} are defined"
        )
    token = kinds.find(BYTE_TYPE)
    if token >= 0 and model == "bert":
        raise source.refuse(
            "bad-token-type", f"token {token} is a byte, at which llama.cpp's bert reader aborts"
        )
    while token >= 0:
        if not _BYTE_TOKEN.fullmatch(tokens[token]):
            raise source.refuse(
                "bad-byte-token",
                f"token {token} is a byte, but its text {tokens[token][:40]!r} is not <0xHH>",
            )
        token = kinds.find(BYTE_TYPE, token + 1)


def _check_scores(source: Source, raw: RawMetadata, count: int) -> None:
    ref = _array(source, raw, "tokenizer.ggml.scores", count)
    if ref is None or ref.type is not ValueType.F32:
        return
    scores = array("f", _read(source, ref))
    if math.isnan(sum(scores)) and any(map(math.isnan, scores)):
        raise source.refuse("bad-score", "a token's score is not a number, so that tokens have no order")


def _check_special_ids(source: Source, raw: RawMetadata, count: int, model: str) -> None:
    defaults = _DEFAULT_IDS.get(model, {})
    for key in TOKEN_IDS:
        name = key.removeprefix("tokenizer.ggml.").removesuffix("_token_id")
        token = raw.values.get(key)
        if token is None and defaults.get(name, 0) >= count:
            raise source.refuse(
                "bad-special-token",
                f"lacks {key}; llama.cpp would take {defaults[name]}, but the vocabulary has {count} tokens",
            )
        if isinstance(token, int) and token >= count and token != NO_TOKEN:
            raise source.refuse(
                "bad-special-token", f"{key} is {token}, but the vocabulary has {count} tokens"
            )


def _check_charsmap(source: Source, raw: RawMetadata) -> None:
    """Four bytes say how long the first part is; llama.cpp reads the second behind it."""
    ref = raw.values.get("tokenizer.ggml.precompiled_charsmap")
    if not isinstance(ref, ArrayRef) or not ref.count:
        return
    if ref.nbytes < 4:
        raise source.refuse(
            "bad-charsmap", f"its precompiled charsmap has {ref.nbytes} bytes; 0 or from 4 on"
        )
    source.seek(ref.offset)
    first = int.from_bytes(source.take(4, "the charsmap"), "little")
    if first + 4 >= ref.nbytes:
        raise source.refuse(
            "bad-charsmap",
            f"the first part of its precompiled charsmap takes {first} bytes of {ref.nbytes - 4}",
        )


def _array(source: Source, raw: RawMetadata, key: str, count: int) -> ArrayRef | None:
    """The array ``key`` with at least ``count`` elements, or None if the file lacks it."""
    ref = raw.values.get(key)
    if not isinstance(ref, ArrayRef):
        return None
    if ref.count < count:
        raise source.refuse("array-too-short", f"{key} has {ref.count} elements for {count} tokens")
    return ref


def _read(source: Source, ref: ArrayRef) -> bytes:
    if ref.data is not None:
        return ref.data
    source.seek(ref.offset)
    return source.take(ref.nbytes, "an array")
