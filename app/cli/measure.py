"""What ``bench`` measures, and what the numbers mean."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.cli.front import EngineLike
from runtime.budget import MemoryPlan
from runtime.budget.reading import read_shares
from runtime.engine.messages import FinishedEvent, Prompt
from runtime.gguf import GgufModel

TEXT = """\
The river turned south below the old mill, and most of the houses there stood empty through the winter. Every
morning a boat carried letters, paper and a little music from one village to the next, because no road crossed
the mountain. Children asked why water moves and light does not wait; their teachers answered with numbers,
drawings, stories, or another question. After many years somebody measured how long the journey had taken.
"""
WORDS = tuple(TEXT.split())

CELL_PADDING = 256
"""llama.cpp rounds the cells of a cache up to this."""


@dataclass(frozen=True)
class Run:
    """One repetition."""

    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    first_token_seconds: float


def run_of(finished: FinishedEvent) -> Run:
    """The speeds of a finished request."""
    usage, timings = finished.usage, finished.timings
    read = usage.prompt_tokens - usage.cached_tokens
    return Run(
        prefill_tokens_per_second=read / timings.prefill_seconds if timings.prefill_seconds > 0 else 0.0,
        decode_tokens_per_second=timings.decode_tokens_per_second(usage.output_tokens),
        first_token_seconds=timings.first_token_seconds,
    )


def prompts(engine: EngineLike, tokens: int, count: int) -> Iterator[tuple[int, ...]]:
    """``count`` prompts of ``tokens`` tokens each, always the same ones, no two of which begin alike."""
    for number in range(count):
        choose = random.Random(number)
        first = WORDS[number % len(WORDS)]
        text = " ".join([first, *(choose.choice(WORDS) for _ in range(tokens))])
        yield engine.tokenize(Prompt(text, parse_special=False))[:tokens]


def weight_bytes_per_token(model: GgufModel) -> int:
    """Bytes of weights that one decode step reads: see :func:`runtime.budget.reading.read_shares`."""
    shares = read_shares(model.headers)
    return int(sum(tensor.nbytes * shares[tensor.name] for tensor in model.all_tensors))


def cache_bytes_per_token(plan: MemoryPlan, prompt_tokens: int, output_tokens: int) -> int:
    """Bytes of the KV cache that a decode step reads on average while the answer grows."""
    filled = prompt_tokens + output_tokens / 2
    cells = -(-plan.config.context_tokens // CELL_PADDING) * CELL_PADDING
    return int(plan.kv_cache * min(1.0, filled / cells))


def median(values: Iterable[float]) -> float:
    """The middle value; of an even number, the mean of the two."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
