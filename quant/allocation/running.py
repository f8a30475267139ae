"""How a file is meant to be run, and what was foreseen of it when its formats were chosen."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from runtime.engine.config import KvType
from runtime.gguf import GgufHeader

PREFIX: Final = "localq.running."

Positive = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a plan that is not the weights'."""

    budget_bytes: Positive
    """Memory that there was for all of it."""
    context_tokens: Positive
    kv_type: KvType
    batch_tokens: Positive
    peak_bytes: Positive
    """Foreseen for the worker: weights, cache, buffers, process."""
    kl: Annotated[float, msgspec.Meta(ge=0)]
    """Foreseen mean divergence from the original, in nats, that of the cache included."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of the file took, on the machine that made it."""

    peak_bytes: int
    tokens_per_second: float
    foreseen_tokens_per_second: float


def read_running(header: GgufHeader) -> Running | None:
    """What a file's keys say of it; None for a file that was fitted to no memory, or with damaged keys."""
    try:
        return msgspec.convert(
            {name: header.metadata.get(PREFIX + name) for name in Running.__struct_fields__}, Running
        )
    except msgspec.ValidationError:
        return None
