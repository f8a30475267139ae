"""How many prompt tokens join a pass in which answers are being generated."""

from __future__ import annotations

MINIMUM_TOKENS = 8
STALL_FACTOR = 2.0
"""By how many times its length a pass may grow for prompt tokens: answers slow down to a third at most."""
SMOOTHING = 0.3


class Pace:
    """Measured speed of passes: seconds of a pass of answers alone, seconds of one prompt token."""

    def __init__(self) -> None:
        self._answer_seconds = 0.0
        self._prompt_token_seconds = 0.0

    def observe(self, answers: int, prompt_tokens: int, seconds: float) -> None:
        """Learn from a finished pass of ``answers`` running answers and ``prompt_tokens`` prompt tokens."""
        if prompt_tokens == 0:
            self._answer_seconds = smooth(self._answer_seconds, seconds)
            return
        own = seconds - self._answer_seconds if answers else seconds
        if prompt_tokens >= MINIMUM_TOKENS and own > 0 and (self._answer_seconds > 0 or not answers):
            self._prompt_token_seconds = smooth(self._prompt_token_seconds, own / prompt_tokens)

    def prompt_tokens(self, limit: int) -> int:
        """Prompt tokens for a pass beside running answers, at most ``limit``."""
        if self._answer_seconds <= 0 or self._prompt_token_seconds <= 0:
            return min(limit, 4 * MINIMUM_TOKENS)
        affordable = int(STALL_FACTOR * self._answer_seconds / self._prompt_token_seconds)
        return min(limit, max(MINIMUM_TOKENS, affordable))


def smooth(old: float, new: float) -> float:
    """Exponential moving average that starts at the first value."""
    return new if old == 0 else old + SMOOTHING * (new - old)
