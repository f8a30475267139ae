"""Texts cut into chunks, as llama.cpp's perplexity tool cuts them, so that figures can be compared.

A chunk is ``context`` consecutive tokens, its first one replaced by the token that the model wants at the
beginning, where it wants one. The first half is context only; behind every token of the second half but the
last, the model's idea of the next token is scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.engine.wire import MAX_FRAME_BYTES
from runtime.errors import InvalidRequest

Tokens: TypeAlias = NDArray[np.int32]

MOST_POSITIONS = (MAX_FRAME_BYTES - (1 << 20)) // (3 * 8 + 1)
"""Of an answer: three scores and an agreement of each travel in one frame."""


def first_scored(context: int) -> int:
    """Index of the first token of a chunk behind which the prediction counts."""
    return context // 2


def scored_positions(context: int) -> int:
    """Predictions of a chunk that count."""
    return context - 1 - first_scored(context)


def spread(available: Sequence[int], wanted: int | None) -> tuple[int, ...]:
    """Chunks to take of each text: ``wanted`` in all, as evenly as ``available`` allows; all for None."""
    if wanted is None:
        return tuple(available)
    taken = [0] * len(available)
    left = wanted
    while left and any(taken[text] < available[text] for text in range(len(taken))):
        for text, most in enumerate(available):
            if left and taken[text] < most:
                taken[text] += 1
                left -= 1
    return tuple(taken)


def check_size(chunks: int, context: int) -> None:
    """Raise InvalidRequest where the scores of ``chunks`` chunks would not fit into one answer."""
    most = MOST_POSITIONS // scored_positions(context)
    if chunks > most:
        raise InvalidRequest(
            f"{chunks:,} chunks of {context} tokens are too many to score at once: use "
            f"--chunks {most} or fewer",
            field="chunks",
        )


def cut(texts: Sequence[Tokens], taken: Sequence[int], context: int, first: int | None) -> Iterator[Tokens]:
    """The first ``taken`` chunks of each text; ``first`` is the token that each begins with."""
    for tokens, count in zip(texts, taken, strict=True):
        for begin in range(0, count * context, context):
            chunk = tokens[begin : begin + context].copy()
            if first is not None:
                chunk[0] = first
            yield chunk
