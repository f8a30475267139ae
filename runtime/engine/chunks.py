"""Drawing chunks of tokens out of domains: the same number from each, spread over its texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.errors import TooFewTokens

MOST_BATCH_TOKENS = 2048
"""Second moments are read and written once for each batch: longer batches write less."""
LOGIT_BYTES = 512 << 20
"""llama.cpp keeps room for the logits of a whole batch, and clears it, though none is computed here."""
GOLDEN_SHARE = 0.6180339887498949
"""Multiples of it, modulo 1, lie far apart: the offsets of successive seeds."""


def batch_chunks(vocabulary: int, chunk_tokens: int) -> int:
    """Chunks that a model of so large a vocabulary reads together."""
    return max(1, min(MOST_BATCH_TOKENS, LOGIT_BYTES // (4 * max(vocabulary, 1))) // chunk_tokens)


def shares(domains: int, chunks: int) -> list[int]:
    """``chunks`` over ``domains`` as evenly as can be; the first get the rest."""
    return [chunks // domains + (index < chunks % domains) for index in range(domains)]


def draw_chunks(
    streams: Mapping[str, NDArray[np.int32]],
    chunks: int,
    chunk_tokens: int,
    *,
    first: int | None = None,
    seed: int = 0,
) -> dict[str, list[NDArray[np.int32]]]:
    """``chunks`` chunks of ``chunk_tokens`` out of the ``streams`` of all domains.

    A chunk is ``first``, where a model wants a token in front, and consecutive tokens of one stream. A
    domain's chunks do not overlap and are spread evenly over it; ``seed`` moves them. Raises TooFewTokens.
    """
    body = chunk_tokens - (first is not None)
    head = np.array([] if first is None else [first], dtype=np.int32)
    drawn: dict[str, list[NDArray[np.int32]]] = {}
    for (domain, stream), wanted in zip(streams.items(), shares(len(streams), chunks), strict=True):
        available = len(stream) // body
        if available < wanted:
            fewer = f", or ask for at most {available * chunk_tokens * len(streams)} tokens in all"
            raise TooFewTokens(
                f"the texts of the domain {domain!r} have {len(stream)} tokens; {wanted * body} are needed: "
                f"give more text{fewer if available else ''}",
                tokens=len(stream),
                needed_tokens=wanted * body,
            )
        offset = seed * GOLDEN_SHARE % 1.0
        places = [int((index + offset) * available / wanted) * body for index in range(wanted)]
        drawn[domain] = [np.concatenate([head, stream[at : at + body]]) for at in places]
    return drawn
