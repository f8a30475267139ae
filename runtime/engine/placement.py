"""Which slot a new request gets, and how much of its prompt the cache already holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.engine.slot import Slot, common_prefix

KEEP_SHARE = 0.5
"""A conversation is continued in place when at least this share of it is kept; a shorter common beginning (a
system prompt) is copied to the least recently used slot, so that the longer conversation survives."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Put a request into ``slot`` with the first ``reuse`` tokens of ``source``, perhaps ``slot`` itself."""

    slot: Slot
    source: Slot
    reuse: int


def place(
    slots: Sequence[Slot], prompt: Sequence[int], *, share_minimum: int = 1, use_cache: bool = True
) -> Placement | None:
    """Choose a slot, or None when all are busy. At least one token of the prompt is left to compute.

    A beginning shorter than ``share_minimum`` tokens is not worth a copy from another slot.
    """
    free = [slot for slot in slots if slot.job is None]
    if not free:
        return None
    oldest = min(free, key=idle_order)
    if not use_cache:
        return Placement(oldest, oldest, 0)
    limit = len(prompt) - 1
    reuse = {slot.index: min(common_prefix(slot.cached, prompt), limit) for slot in slots}
    best = max(slots, key=lambda slot: (reuse[slot.index], slot.job is None))
    length = reuse[best.index]
    if length <= 0:
        return Placement(oldest, oldest, 0)
    if best.job is None and length >= KEEP_SHARE * len(best.cached):
        return Placement(best, best, length)
    others = [slot for slot in free if slot is not best]
    target = min(others, key=idle_order) if others else best
    if target is not best and length < share_minimum:
        return Placement(target, target, 0)
    return Placement(target, best, length)


def idle_order(slot: Slot) -> tuple[bool, float]:
    """Empty slots first, then the one whose conversation rests the longest."""
    return bool(slot.cached), slot.last_used
