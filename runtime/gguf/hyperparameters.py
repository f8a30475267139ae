"""Holding a model's hyperparameters against each other, where llama.cpp would abort, or divide by zero."""

from __future__ import annotations

from typing import Final

from runtime.gguf.metadata import RawMetadata
from runtime.gguf.source import Source
from runtime.gguf.values import ArrayRef, decode_numbers

ROPE_SCALINGS: Final = ("none", "linear", "yarn", "longrope")


def check_hyperparameters(source: Source, raw: RawMetadata, architecture: str) -> None:
    """Raises :class:`GgufError` at values that contradict each other. The schema has been checked."""
    model = _Hyperparameters(raw, architecture)
    _check_heads(source, model)
    _check_experts(source, model)
    blocks = model.number("block_count")
    for key in ("leading_dense_block_count", "nextn_predict_layers"):
        value = model.number(key) or 0
        if blocks is not None and value > blocks:
            raise source.refuse("out-of-range", f"{model.name(key)} is {value}, of {blocks} blocks")
    scaling = raw.values.get(model.name("rope.scaling.type"), ROPE_SCALINGS[0])
    if scaling not in ROPE_SCALINGS:
        raise source.refuse(
            "out-of-range",
            f"{model.name('rope.scaling.type')} is {scaling!r}, not one of {', '.join(ROPE_SCALINGS)}",
        )


class _Hyperparameters:
    """Integers of one architecture by their short names."""

    def __init__(self, raw: RawMetadata, architecture: str) -> None:
        self._raw = raw
        self._prefix = f"{architecture}."

    def name(self, key: str) -> str:
        return self._prefix + key

    def number(self, key: str) -> int | None:
        """A scalar; None where the file lacks it or has an array."""
        value = self._raw.values.get(self._prefix + key)
        return value if isinstance(value, int) else None

    def numbers(self, key: str) -> list[int]:
        """A scalar or the elements of an array; empty where the file lacks it."""
        value = self._raw.values.get(self._prefix + key)
        if isinstance(value, ArrayRef):
            return [int(element) for element in decode_numbers(value.type, value.data or b"")]
        return [value] if isinstance(value, int) else []

    def has_any(self, prefix: str) -> bool:
        return any(key.startswith(self._prefix + prefix) for key in self._raw.values)


def _check_heads(source: Source, model: _Hyperparameters) -> None:
    heads = model.number("attention.head_count")
    # Recurrent models have no heads, and their files say 0.
    recurrent = model.has_any("ssm.") or model.has_any("wkv.")
    for key in ("attention.head_count", "attention.head_count_kv"):
        if model.number(key) == 0 and not recurrent:
            raise source.refuse("out-of-range", f"{model.name(key)} is 0")
    if not heads:
        return
    kv_heads = model.number("attention.head_count_kv")
    if kv_heads and heads % kv_heads:
        raise source.refuse(
            "out-of-range", f"{heads} attention heads cannot share {kv_heads} key-value heads evenly"
        )
    width = model.number("embedding_length")
    head = model.number("attention.key_length")
    if head is None and width is not None:
        head = width // heads
        if head == 0:
            raise source.refuse("out-of-range", f"{heads} attention heads share {width} embedding elements")
    rope = model.number("rope.dimension_count")
    if rope is not None and head is not None and rope > head:
        raise source.refuse(
            "out-of-range", f"{model.name('rope.dimension_count')} is {rope}, in heads of {head} elements"
        )


def _check_experts(source: Source, model: _Hyperparameters) -> None:
    experts = model.number("expert_count") or 0
    used = max(model.numbers("expert_used_count"), default=0)
    if used > experts:
        raise source.refuse("out-of-range", f"uses {used} experts of {experts}")
    if experts and not used:
        raise source.refuse("out-of-range", f"uses none of its {experts} experts")
    groups = model.number("expert_group_count") or 0
    if groups and groups >= experts:
        raise source.refuse("out-of-range", f"has {groups} groups of {experts} experts")
    if groups > 1:
        group_used = model.number("expert_group_used_count") or 0
        if experts % groups or not 0 < group_used < groups:
            raise source.refuse(
                "out-of-range", f"uses {group_used} of {groups} groups, of {experts} experts together"
            )
