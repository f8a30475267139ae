"""A sequence of the KV cache, and the request that generates in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.engine.backend import Chunk, Sampler
from runtime.engine.messages import Request, TokenLogprob
from runtime.engine.text import TextStream


@dataclass(slots=True)
class Job:
    """A request that runs in a slot.

    ``pending`` tokens are not in the cache yet: the rest of the prompt, or the newest token of the answer.
    """

    request: Request
    prompt: Sequence[int]
    arrived: float
    admitted: float
    sampler: Sampler
    text: TextStream
    pending: Sequence[int]
    cached_tokens: int
    disk_tokens: int = 0
    keep_at: int = 0
    """Where the prompt's head ends, whose state is to be kept when it has been read; 0 = nowhere."""
    output_tokens: int = 0
    last_read: float = 0.0
    """When a chunk of its prompt last went into a pass."""
    first_token: float = 0.0
    newest_token: float = 0.0
    unsent_text: list[str] = field(default_factory=list)
    unsent_tokens: list[int] = field(default_factory=list)
    unsent_logprobs: list[tuple[TokenLogprob, ...]] = field(default_factory=list)

    @property
    def reading(self) -> bool:
        """The prompt is being read (or read again after an abort); otherwise the answer is being written."""
        return self.output_tokens == 0 or len(self.pending) > 1


@dataclass(slots=True)
class Slot:
    """One sequence of the cache. ``cached`` are the tokens whose keys and values it holds."""

    index: int
    cached: list[int] = field(default_factory=list)
    job: Job | None = None
    last_used: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """One slot's share of a pass through the model."""

    slot: Slot
    job: Job
    chunk: Chunk


def common_prefix(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Length of the common beginning of two token lists, or texts, by halving: the compares run in C."""
    low, high = 0, min(len(left), len(right))
    while low < high:  # the first ``low`` tokens are equal; the first difference is at ``high`` or before
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
