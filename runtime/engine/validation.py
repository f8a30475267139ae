"""Ranges of a request's fields, checked in the front before the worker hears of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from runtime.engine.config import EngineConfig
from runtime.engine.messages import ModelInfo, Request, SamplingParams
from runtime.errors import InvalidRequest

MAX_STOPS = 64
MAX_STOP_CHARACTERS = 1024
MAX_LOGPROBS = 1024
MAX_BREAKERS = 16
"""llama.cpp looks each of them up in the whole vocabulary, while every answer waits."""
MAX_BREAKER_CHARACTERS = 32
MAX_SEED = 2**32 - 2
"""2^32 - 1 means "draw one" in llama.cpp."""

RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_k": (0, 2**31 - 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repeat_penalty": (1e-6, 1e6),
    "repeat_last_n": (-1, 2**31 - 1),
    "frequency_penalty": (-1e6, 1e6),
    "presence_penalty": (-1e6, 1e6),
    "dry_multiplier": (0, 1e6),
    "dry_base": (1, 1e6),
    "dry_allowed_length": (0, 2**31 - 1),
    "dry_last_n": (-1, 2**31 - 1),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
}


def check_config(config: EngineConfig) -> None:
    """Raise InvalidRequest for what no engine can be started with."""
    for name in ("context_tokens", "slots", "ubatch_tokens"):
        if getattr(config, name) < 1:
            raise out_of_range(name, getattr(config, name), 1, 2**31 - 1)
    if config.slots > config.ubatch_tokens:
        raise out_of_range("slots", config.slots, 1, config.ubatch_tokens)
    if config.context_tokens * config.slots >= 2**31:
        raise out_of_range("context_tokens", config.context_tokens, 1, (2**31 - 1) // config.slots)


def check_stop(stop: object) -> None:
    """Raise InvalidRequest for a text where a list of texts belongs: it would be cut into its letters."""
    if isinstance(stop, str):
        raise InvalidRequest(f"stop is the text {stop!r}; give a list of texts", field="stop")


def check_request(request: Request, info: ModelInfo) -> None:
    """Raise InvalidRequest for the first field of a wrong type or out of its range."""
    try:
        msgspec.convert(msgspec.to_builtins(request), Request)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidRequest(f"the request has a wrong type: {error}", field="request") from None
    if not info.generates:
        raise InvalidRequest(
            f"{info.description} is an encoder: it makes vectors of texts, and writes none", field="model"
        )
    if request.grammar is not None and request.ignore_eos:
        raise InvalidRequest("ignore_eos cannot be used with a grammar, which ends", field="ignore_eos")
    check_sampling(request.sampling, info.vocabulary_size)
    if isinstance(request.prompt, tuple):
        check_tokens("prompt", request.prompt, info.vocabulary_size)
    if request.max_tokens is not None and not 1 <= request.max_tokens < 2**31:
        raise out_of_range("max_tokens", request.max_tokens, 1, 2**31 - 1)
    if request.logprobs is not None and not 0 <= request.logprobs <= MAX_LOGPROBS:
        raise out_of_range("logprobs", request.logprobs, 0, MAX_LOGPROBS)
    if len(request.stop) > MAX_STOPS:
        raise InvalidRequest(f"stop has {len(request.stop)} strings; give at most {MAX_STOPS}", field="stop")
    for stop in request.stop:
        if not 0 < len(stop) <= MAX_STOP_CHARACTERS:
            raise InvalidRequest(
                f"a stop string has {len(stop)} characters; give 1 to {MAX_STOP_CHARACTERS}", field="stop"
            )


def check_sampling(params: SamplingParams, vocabulary_size: int) -> None:
    """Raise InvalidRequest for the first sampling parameter that is out of its range."""
    for name, (low, high) in RANGES.items():
        value = getattr(params, name)
        if not low <= value <= high:  # also refuses NaN
            raise out_of_range(name, value, low, high)
    if params.seed is not None and not 0 <= params.seed <= MAX_SEED:
        raise out_of_range("seed", params.seed, 0, MAX_SEED)
    if len(params.dry_breakers) > MAX_BREAKERS or any(
        len(t) > MAX_BREAKER_CHARACTERS for t in params.dry_breakers
    ):
        raise InvalidRequest(
            f"dry_breakers has {len(params.dry_breakers)} texts; give at most {MAX_BREAKERS}, "
            f"of at most {MAX_BREAKER_CHARACTERS} characters",
            field="dry_breakers",
        )
    check_tokens("logit_bias", tuple(params.logit_bias), vocabulary_size)
    for token, bias in params.logit_bias.items():
        if math.isnan(bias) or bias == math.inf:
            raise InvalidRequest(
                f"logit_bias of token {token} is {bias}; give a number or -inf", field="logit_bias"
            )


def check_tokens(name: str, tokens: Sequence[int], vocabulary_size: int) -> None:
    """Raise InvalidRequest when a token is not in the vocabulary."""
    for token in tokens:
        if not 0 <= token < vocabulary_size:
            raise InvalidRequest(
                f"{name} has token {token}; the vocabulary has 0 to {vocabulary_size - 1}", field=name
            )


def out_of_range(name: str, value: float, low: float, high: float) -> InvalidRequest:
    """The error for a number outside its range."""
    return InvalidRequest(f"{name} is {value:g}; give a number from {low:g} to {high:g}", field=name)
