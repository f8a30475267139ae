"""Sampling parameters of a request, over the engine's defaults."""

from __future__ import annotations

import math
from typing import Any

from app.server.conversation import Wanted
from app.server.errors import Refusal
from app.server.schemas.base import Sampled
from runtime.engine.grammar import schema_grammar
from runtime.engine.messages import Grammar, SamplingParams

SAME = (
    "temperature", "top_p", "top_k", "min_p", "typical_p", "frequency_penalty", "presence_penalty",
    "repeat_penalty", "repeat_last_n", "dry_multiplier", "dry_base", "dry_allowed_length", "xtc_probability",
    "xtc_threshold",
)  # fmt: skip
SEEDS = 2**32 - 1


def sampling_of(request: Sampled, temperature: float | None) -> SamplingParams:
    """The engine's parameters; ``temperature`` is the model's own, for a request without one."""
    given: dict[str, Any] = {name: value for name in SAME if (value := getattr(request, name)) is not None}
    if temperature is not None:
        given.setdefault("temperature", temperature)
    if request.seed is not None:
        given["seed"] = request.seed % SEEDS
    if request.logit_bias:
        given["logit_bias"] = biases(request.logit_bias)
    return SamplingParams(**given)


def biases(asked: dict[str, float]) -> dict[int, float]:
    """Token numbers as numbers; -100 forbids a token, as OpenAI's documentation has it."""
    found: dict[int, float] = {}
    for key, value in asked.items():
        if not (key.isascii() and key.isdigit() and len(key) <= 9):
            raise Refusal(
                400, f"logit_bias has the key {key[:40]!r}; give token numbers", code="invalid_value",
                param="logit_bias",
            )  # fmt: skip
        found[int(key)] = -math.inf if value <= -100 else value
    return found


def stops_of(request: Sampled) -> tuple[str, ...]:
    """Stop strings; an empty one stops nothing."""
    stop = request.stop
    if isinstance(stop, str):
        return (stop,) if stop else ()
    return tuple(stop or ())


def grammar_of(request: Sampled) -> Grammar | None:
    """llama.cpp's ``grammar`` or ``json_schema``."""
    if request.grammar is not None and request.json_schema is not None:
        raise Refusal(400, "give grammar or json_schema, not both", code="invalid_value", param="grammar")
    if request.grammar is not None:
        return Grammar("gbnf", request.grammar)
    if request.json_schema is not None:
        return schema_grammar(request.json_schema, "json_schema")
    return None


def wanted_of(request: Sampled, temperature: float | None, **more: Any) -> Wanted:
    """What every wire's requests have in common."""
    wanted = Wanted(
        sampling=sampling_of(request, temperature),
        stop=stops_of(request),
        ignore_eos=request.ignore_eos,
        cache_prompt=request.cache_prompt,
        grammar=grammar_of(request),
    )
    return Wanted(**{**vars(wanted), **more})


def seconds_to_ms(seconds: float) -> float:
    """Milliseconds, to a hundredth."""
    return round(seconds * 1000, 2)
