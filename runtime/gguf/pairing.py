"""Files that are used together: an adapter or a draft model must fit the model that it is loaded beside."""

from __future__ import annotations

from typing import Final

from runtime.errors import GgufError
from runtime.gguf.header import GgufHeader
from runtime.gguf.model import GgufModel
from runtime.gguf.values import ArrayRef

SPARE_TOKENS: Final = 128
"""How many tokens two vocabularies may differ by: models of one family pad theirs differently."""

NAMED_TOKENS: Final = 5
"""The first ids, where models of one family name their special tokens differently."""


def require_adapter_fits(model: GgufModel, adapter: GgufHeader) -> None:
    """Raises :class:`GgufError` unless every factor of ``adapter`` has the shape of its weight in ``model``.

    llama.cpp compares rows and columns; that it does not compare the number of experts lets an adapter write
    past the end of a tensor.
    """
    if adapter.role != "lora":
        raise GgufError(adapter.path, "wrong-role", "is not a LoRA adapter")
    if adapter.architecture != model.header.architecture:
        raise GgufError(
            adapter.path,
            "adapter-mismatch",
            f"adapts a model of the architecture {adapter.architecture!r}, not {model.header.architecture!r}",
        )
    weights = {tensor.name: _four(tensor.shape) for tensor in model.tensors}
    factors = {tensor.name: _four(tensor.shape) for tensor in adapter.tensors}
    for name, first in factors.items():
        stem, _, suffix = name.rpartition(".")
        if suffix != "lora_a":
            continue
        weight = weights.get(stem)
        if weight is None:
            raise GgufError(adapter.path, "adapter-mismatch", f"adapts {stem}, which the model lacks")
        second = factors[f"{stem}.lora_b"]
        if stem.endswith("token_embd.weight"):  # its factors are stored the other way round
            shape = (second[1], first[1], *first[2:])
        else:
            shape = (first[0], second[1], *first[2:])
        if shape != weight:
            raise GgufError(
                adapter.path,
                "adapter-mismatch",
                f"adapts {stem} in the shape {list(shape)}, the model's is {list(weight)}",
            )


def _four(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1, 1, 1)[:4]


def require_draft_fits(model: GgufModel, draft: GgufModel) -> None:
    """Raises :class:`GgufError` unless a token of ``draft`` means the same in ``model``."""
    kinds = [part.header.metadata.get("tokenizer.ggml.model") for part in (model, draft)]
    if kinds[0] != kinds[1]:
        raise _draft_error(draft, f"its tokenizer is {kinds[1]!r}, the model's is {kinds[0]!r}")
    ours, theirs = _tokens(model.header), _tokens(draft.header)
    if abs(len(ours) - len(theirs)) > SPARE_TOKENS:
        raise _draft_error(draft, f"it has {len(theirs)} tokens, the model {len(ours)}")
    for token, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our != their and token >= NAMED_TOKENS:
            raise _draft_error(draft, f"token {token} is {their[:40]!r} in it and {our[:40]!r} in the model")


def _tokens(header: GgufHeader) -> list[bytes]:
    ref = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(ref, ArrayRef):
        raise GgufError(header.path, "missing-key", "has no vocabulary (tokenizer.ggml.tokens)")
    return [text for text in header.read_array(ref) if isinstance(text, bytes)]


def _draft_error(draft: GgufModel, reason: str) -> GgufError:
    return GgufError(draft.header.path, "draft-mismatch", f"cannot draft for this model: {reason}")
