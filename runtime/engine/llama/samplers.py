"""The chain of samplers of one request, in llama.cpp's order and in C: Python sees one call a token.

Order: logit bias, penalties, DRY, top-k, typical, top-p, min-p, XTC, temperature, draw. Filters that are off
are left out. With temperature 0 the likeliest token is taken after bias and penalties.
"""

from __future__ import annotations

import ctypes
import math
import secrets
from collections.abc import Sequence

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from runtime.engine.backend import Constraint
from runtime.engine.llama.vocabulary import Vocabulary
from runtime.engine.messages import SamplingParams
from runtime.errors import EngineError
from runtime.kernels import argmax_f32_at

NO_NUMBERS = "the model gave no numbers (its logits are NaN); verify its file"


class ConstrainedSampler:
    """Chooses by another sampler what a grammar allows: all other logits of the row become -inf.

    ``kept`` gets the row as it was, by its number, for log probabilities that are asked for afterwards.
    """

    def __init__(
        self,
        context: int,
        vocabulary_size: int,
        inner: GreedySampler | ChainSampler,
        constraint: Constraint,
        kept: dict[int, NDArray[np.float32]] | None,
    ) -> None:
        self._context = context
        self._size = vocabulary_size
        self._inner = inner
        self._constraint = constraint
        self._kept = kept

    def sample(self, row: int) -> int:
        """See :class:`runtime.engine.backend.Sampler`."""
        logits = logits_of(self._context, row, self._size)
        if self._kept is not None:
            self._kept[row] = logits.copy()
        bits = np.unpackbits(self._constraint.allowed().view(np.uint8), count=self._size, bitorder="little")
        np.putmask(logits, bits == 0, -np.inf)
        token = self._inner.sample(row)
        self._constraint.accept(token)
        return token

    def close(self) -> None:
        """Free what the other sampler holds."""
        self._inner.close()


class GreedySampler:
    """The likeliest token that is not ``forbidden``; of equals the first. No native state."""

    def __init__(self, context: int, vocabulary_size: int, forbidden: frozenset[int]) -> None:
        self._context = context
        self._size = vocabulary_size
        self._forbidden = forbidden

    def sample(self, row: int) -> int:
        """See :class:`runtime.engine.backend.Sampler`."""
        logits = native.llama_get_logits_ith(self._context, row)
        address = ctypes.addressof(logits.contents)
        token = argmax_f32_at(address, self._size)
        if token in self._forbidden:
            for each in self._forbidden:
                logits[each] = -math.inf
            token = argmax_f32_at(address, self._size)
        if token < 0:
            raise EngineError(NO_NUMBERS)
        return token

    def close(self) -> None:
        """Nothing to free."""


class ChainSampler:
    """A llama.cpp sampler chain; it accepts what it samples. ``forbidden`` tokens have a bias of -inf."""

    def __init__(self, context: int, chain: int, forbidden: frozenset[int]) -> None:
        self._context = context
        self._forbidden = forbidden
        self._chain: int | None = chain

    def sample(self, row: int) -> int:
        """See :class:`runtime.engine.backend.Sampler`."""
        token = int(native.llama_sampler_sample(self._chain, self._context, row))
        # With nothing left to choose from, a chain still names some token.
        if token in self._forbidden:
            raise EngineError("logit_bias forbids every token that the other filters leave")
        if math.isnan(native.llama_get_logits_ith(self._context, row)[token]):
            raise EngineError(NO_NUMBERS)
        return token

    def close(self) -> None:
        """Free the chain and its samplers."""
        if self._chain is not None:
            native.llama_sampler_free(self._chain)
            self._chain = None


def make_sampler(
    context: int,
    vocabulary: Vocabulary,
    params: SamplingParams,
    prompt: Sequence[int],
    *,
    context_tokens: int,
    ignore_end: bool,
) -> GreedySampler | ChainSampler:
    """The sampler for ``params``, with ``prompt`` already accepted where penalties look back at it."""
    bias = dict(params.logit_bias)
    penalized = params.repeat_last_n != 0 and (
        params.repeat_penalty != 1 or params.frequency_penalty != 0 or params.presence_penalty != 0
    )
    dry = params.dry_multiplier > 0 and params.dry_last_n != 0
    if params.temperature <= 0 and not (bias or penalized or dry):
        return GreedySampler(context, vocabulary.size, vocabulary.end_tokens if ignore_end else frozenset())
    if ignore_end:
        bias |= dict.fromkeys(vocabulary.end_tokens, -math.inf)

    chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())

    def add(sampler: int) -> None:
        native.llama_sampler_chain_add(chain, sampler)

    if bias:
        entries = (native.llama_logit_bias * len(bias))(*bias.items())
        add(native.llama_sampler_init_logit_bias(vocabulary.size, len(bias), entries))
    last_n = look_back(params.repeat_last_n, context_tokens)
    if penalized:
        add(
            native.llama_sampler_init_penalties(
                vocabulary.size,
                last_n,
                params.repeat_penalty,
                params.frequency_penalty,
                params.presence_penalty,
            )
        )
    dry_last_n = look_back(params.dry_last_n, context_tokens)
    if dry:
        breakers = (ctypes.c_char_p * len(params.dry_breakers))(
            *(text.encode() for text in params.dry_breakers)
        )
        add(
            native.llama_sampler_init_dry(
                vocabulary.handle,
                params.dry_multiplier,
                params.dry_base,
                params.dry_allowed_length,
                dry_last_n,
                breakers,
                len(breakers),
            )
        )
    if params.temperature <= 0:
        add(native.llama_sampler_init_greedy())
    else:
        seed = secrets.randbits(32) if params.seed is None else params.seed & 0xFFFF_FFFF
        if params.top_k > 0:
            add(native.llama_sampler_init_top_k(params.top_k))
        if params.typical_p < 1:
            add(native.llama_sampler_init_typical(params.typical_p, 1))
        if params.top_p < 1:
            add(native.llama_sampler_init_top_p(params.top_p, 1))
        if params.min_p > 0:
            add(native.llama_sampler_init_min_p(params.min_p, 1))
        if params.xtc_probability > 0:
            add(native.llama_sampler_init_xtc(params.xtc_probability, params.xtc_threshold, 1, seed))
        if params.temperature != 1:
            add(native.llama_sampler_init_temp(params.temperature))
        add(native.llama_sampler_init_dist(seed))
    remembered = max(last_n if penalized else 0, dry_last_n if dry else 0)
    for token in prompt[max(0, len(prompt) - remembered) :] if remembered else ():
        native.llama_sampler_accept(chain, token)
    forbidden = frozenset(token for token, value in bias.items() if value == -math.inf)
    return ChainSampler(context, chain, forbidden)


def logits_of(context: int, row: int, size: int) -> NDArray[np.float32]:
    """The logits of a row of the last pass, [vocabulary], without a copy."""
    pointer = native.llama_get_logits_ith(context, row)
    return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), shape=(size,))


def look_back(last_n: int, context_tokens: int) -> int:
    """Tokens that a penalty looks back at, at most the whole context, which -1 stands for too."""
    return context_tokens if last_n < 0 else min(last_n, context_tokens)
