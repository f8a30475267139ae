"""The last word on a request: finished, cancelled or failed."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.engine.messages import EndReason, FailedEvent, FinishedEvent, Timings, Usage
from runtime.engine.slot import Job
from runtime.errors import LocalqError, PromptTooLong


def finished(job: Job, reason: EndReason, now: float) -> FinishedEvent:
    """The end of a job that ran, with its counts and times."""
    first_token = job.first_token or now
    return FinishedEvent(
        id=job.request.id,
        reason=reason,
        stop_text=job.text.stop_text,
        usage=Usage(
            prompt_tokens=len(job.prompt),
            cached_tokens=job.cached_tokens,
            output_tokens=job.output_tokens,
            disk_tokens=job.disk_tokens,
        ),
        timings=Timings(
            queue_seconds=job.admitted - job.arrived,
            prefill_seconds=first_token - job.admitted,
            first_token_seconds=first_token - job.arrived,
            decode_seconds=max(0.0, job.newest_token - first_token),
        ),
    )


def cancelled_in_queue(request_id: int, prompt: Sequence[int], waited_seconds: float) -> FinishedEvent:
    """The end of a request that never ran."""
    return FinishedEvent(
        id=request_id,
        reason="cancelled",
        usage=Usage(prompt_tokens=len(prompt)),
        timings=Timings(queue_seconds=waited_seconds),
    )


def failed(request_id: int, error: LocalqError) -> FailedEvent:
    """An error as it travels: its class's name, its message and its plain attributes."""
    details: dict[str, int | str | None] = {
        key: int(value) if isinstance(value, bool) else value
        for key, value in vars(error).items()
        if isinstance(value, int | str)
    }
    return FailedEvent(id=request_id, code=type(error).__name__, message=str(error), details=details)


def prompt_too_long(prompt_tokens: int, context_tokens: int, *, at_least: bool = False) -> PromptTooLong:
    """The error with both numbers."""
    about = "at least " if at_least else ""
    return PromptTooLong(
        f"the prompt has {about}{prompt_tokens} tokens, the context holds {context_tokens} and the answer "
        f"needs at least one; shorten the prompt or choose a longer context",
        prompt_tokens=prompt_tokens,
        context_tokens=context_tokens,
        at_least=at_least,
    )
