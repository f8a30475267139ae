"""Which slot a new request gets, and how much of its prompt the cache already holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime.engine.slot import Slot, common_prefix

KEEP_SHARE = 0.5
"""Where no slot is empty, a conversation is cut in place when at least this share of it is kept. A shorter
common beginning (a system prompt) is copied to the least recently used slot: the conversation survives."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Put a request into ``slot`` with the first ``reuse`` tokens of ``source``, perhaps ``slot`` itself."""

    slot: Slot
    source: Slot
    reuse: int


def always(_sequence: int, _length: int) -> bool:
    """The cache can go back to any token."""
    return True


def place(
    slots: Sequence[Slot],
    prompt: Sequence[int],
    *,
    share_minimum: int = 1,
    reaches: Callable[[int, int], bool] = always,
    use_cache: bool = True,
) -> Placement | None:
    """Choose a slot, or None when all are busy. At least one token of the prompt is left to compute.

    A beginning shorter than ``share_minimum`` tokens is not worth a copy from another slot; one that the
    cache of a sequence cannot go back to (``reaches``) is of no use.
    """
    free = [slot for slot in slots if slot.job is None]
    if not free:
        return None
    order = idle_order(slots)
    target = min(free, key=order)
    if not use_cache:
        return Placement(target, target, 0)

    def usable(slot: Slot) -> int:
        length = min(common_prefix(slot.cached, prompt), len(prompt) - 1)
        return length if length > 0 and reaches(slot.index, length) else 0

    reuse = {slot.index: usable(slot) for slot in slots}
    best = max(slots, key=lambda slot: (reuse[slot.index], slot.job is None))
    length = reuse[best.index]
    if length == 0:
        return Placement(target, target, 0)
    if best.job is None:
        continued = length >= len(best.cached) - 1  # the newest token may have been tokenised otherwise
        if continued or (target.cached and length >= KEEP_SHARE * len(best.cached)):
            return Placement(best, best, length)
    others = [slot for slot in free if slot is not best]
    if not others:
        return Placement(best, best, length)
    target = min(others, key=order)
    return Placement(target, best, length) if length >= share_minimum else Placement(target, target, 0)


def idle_order(slots: Sequence[Slot]) -> Callable[[Slot], tuple[bool, bool, float]]:
    """Empty slots first, then neighbours of busy ones, then the conversation that rests the longest.

    llama.cpp computes sequences together only when their numbers follow each other without a gap.
    """
    busy = {slot.index for slot in slots if slot.job is not None}

    def order(slot: Slot) -> tuple[bool, bool, float]:
        apart = bool(busy) and not busy & {slot.index - 1, slot.index + 1}
        return bool(slot.cached), apart, slot.last_used

    return order
