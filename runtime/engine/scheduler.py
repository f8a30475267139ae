"""Continuous batching: every pass through the model carries the next token of each running answer and, beside
them, a chunk of the prompts that are still being read.

The scheduler is plain, single-threaded code over a :class:`Backend`. Requests come in by ``submit`` and
``cancel``, events go out through ``emit``, ``step`` makes one pass.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from runtime.engine.backend import Backend, Chunk, Constraint, Decoded
from runtime.engine.messages import EndReason, Event, ProgressEvent, Request, TokenEvent
from runtime.engine.pace import Pace
from runtime.engine.placement import place
from runtime.engine.reports import cancelled_in_queue, failed, finished, prompt_too_long
from runtime.engine.slot import Job, Part, Slot, common_prefix
from runtime.engine.text import TextStream
from runtime.errors import EngineError, InvalidRequest, LocalqError

SHORT_PROMPT_TOKENS = 64
"""The rows from which on llama.cpp's attention on a processor works in tiles (GGML_FA_TILE_Q)."""

WORTH_WAITING_TOKENS = 128
"""A beginning of this length that another slot is reading is waited for and copied, not read twice."""


class Waiting(NamedTuple):
    """A request that has no slot yet."""

    request: Request
    prompt: Sequence[int]
    arrived: float
    constraint: Constraint | None
    head: int = 0


class Scheduler:
    """Runs requests over the slots of one backend, first come, first served."""

    def __init__(
        self,
        backend: Backend,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._backend = backend
        self._emit = emit
        self._clock = clock
        self._pace = Pace()
        self._waiting: deque[Waiting] = deque()
        self._told: set[int] = set()
        self.slots = [Slot(index) for index in range(backend.slots)]
        self.abortable: frozenset[int] = frozenset()
        """Requests whose prompt the pass under way reads, which may take long: a cancel may abort it."""

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._waiting and all(slot.job is None for slot in self.slots)

    def submit(
        self,
        request: Request,
        prompt: Sequence[int],
        arrived: float | None = None,
        constraint: Constraint | None = None,
        head: int = 0,
    ) -> None:
        """Queue a request whose prompt has been tokenised; one that cannot fit fails at once.

        The first ``head`` tokens are worth keeping for other conversations.
        """
        limit = self._backend.context_tokens
        if not prompt:
            reason = "the prompt has no tokens; give at least one"
            self._fail(request.id, InvalidRequest(reason, field="prompt"))
        elif len(prompt) >= limit:
            self._fail(request.id, prompt_too_long(len(prompt), limit))
        else:
            since = self._clock() if arrived is None else arrived
            self._waiting.append(Waiting(request, prompt, since, constraint, head))

    def cancel(self, request_id: int) -> None:
        """End a request, waiting or running, with reason ``cancelled``; an unknown id has ended already."""
        for entry in self._waiting:
            if entry.request.id == request_id:
                self._waiting.remove(entry)
                self._told.discard(request_id)
                self._emit(cancelled_in_queue(request_id, entry.prompt, self._clock() - entry.arrived))
                return
        for slot in self.slots:
            if slot.job is not None and slot.job.request.id == request_id:
                self._finish(slot, "cancelled")
                return

    def step(self) -> bool:
        """Admit what can be admitted and make one pass; False when there was nothing to do."""
        self._admit()
        parts = self._next_parts()
        if not parts:
            return False
        started = self._clock()
        reading = [part for part in parts if part.job.reading]
        alone = len(parts) == 1 or self._backend.rewinds
        self.abortable = frozenset(part.job.request.id for part in reading) if alone else frozenset()
        try:
            outcome = self._backend.decode([part.chunk for part in parts])
        except EngineError as error:
            self._fail_parts(parts, error)
            return True
        if outcome is Decoded.ABORTED:
            self._restore(parts)
        else:
            prompt_tokens = sum(len(part.chunk.tokens) for part in reading)
            self._pace.observe(len(parts) - len(reading), prompt_tokens, self._clock() - started)
            self._take_results(parts)
        return True

    # -- admission ------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        held: list[Waiting] = []
        while self._waiting:
            request, prompt, arrived, constraint, head = self._waiting[0]
            placement = place(
                self.slots,
                prompt,
                share_minimum=self._backend.share_minimum,
                reaches=self._backend.reaches,
                use_cache=request.cache_prompt,
            )
            if placement is None:
                break
            entry = self._waiting.popleft()
            if request.cache_prompt and self._is_being_read(prompt, placement.reuse):
                held.append(entry)
                continue
            self._told.discard(request.id)
            try:
                sampler = self._backend.sampler(
                    request.sampling,
                    prompt,
                    ignore_end=request.ignore_eos,
                    constraint=constraint,
                    keeps_logits=request.logprobs is not None,
                )
            except LocalqError as error:
                self._fail(request.id, error)
                continue
            slot, source, reuse = placement.slot, placement.source, placement.reuse
            if source is slot:
                reuse = self._backend.truncate(slot.index, reuse)
            else:
                self._backend.truncate(slot.index, 0)
                reuse = self._backend.share(source.index, slot.index, reuse)
            found, keep_at = reuse, 0
            if head and request.cache_prompt:
                reuse = self._backend.recall(slot.index, prompt, found)
                keep_at = head if reuse < head and self._backend.keeps(prompt[:head]) else 0
            slot.cached = list(prompt[:reuse])
            slot.job = Job(
                request,
                prompt,
                arrived,
                admitted=self._clock(),
                sampler=sampler,
                text=TextStream(request.stop),
                pending=prompt[reuse:],
                cached_tokens=reuse,
                disk_tokens=reuse if reuse > found else 0,
                keep_at=keep_at,
            )
        self._waiting.extendleft(reversed(held))
        for entry in self._waiting:
            if entry.request.streams and entry.request.id not in self._told:
                self._told.add(entry.request.id)
                total = len(entry.prompt)
                self._emit(ProgressEvent(id=entry.request.id, stage="queued", done=0, total=total))

    def _is_being_read(self, prompt: Sequence[int], reuse: int) -> bool:
        """Whether a slot is reading a beginning of ``prompt`` that is much longer than what can be reused."""
        if not self._backend.copies:
            return False
        for slot in self.slots:
            if slot.job is not None and slot.job.output_tokens == 0:
                shared = min(common_prefix(slot.job.prompt, prompt), len(prompt) - 1)
                if shared > len(slot.cached) and shared - reuse >= WORTH_WAITING_TOKENS:
                    return True
        return False

    # -- one pass -------------------------------------------------------------------------------------------

    def _next_parts(self) -> list[Part]:
        """The next token of every answer, and beside them a chunk of one prompt, or of several short ones.

        Prompts take turns. A longer one has its pass without other prompts: llama.cpp cuts a batch of several
        into pieces of equal length, and computes attention of ``SHORT_PROMPT_TOKENS`` rows and more in
        another order, so that what comes out of a prompt would depend on who else asks.
        """
        running = [(slot, slot.job) for slot in self.slots if slot.job is not None]
        answering = [(slot, job) for slot, job in running if not job.reading]
        reading = [(slot, job) for slot, job in running if job.reading]
        burst = [entry for entry in reading if len(entry[1].pending) <= self._backend.batch_tokens]
        if burst and all(job.output_tokens == 1 for _, job in answering):
            # They came together: all are read, one pass each, before the first answer goes on.
            answering, reading = [], burst
        parts = [make_part(slot, job, 1) for slot, job in answering]
        room = self._backend.batch_tokens - len(parts)
        if not reading:
            return parts
        if parts:
            room = self._pace.prompt_tokens(room)
        reading.sort(key=lambda entry: (entry[1].last_read, entry[1].admitted))
        first = reading[0]
        short = [entry for entry in reading if len(entry[1].pending) < SHORT_PROMPT_TOKENS]
        now = self._clock()
        for slot, job in short if first in short else [first]:
            count = min(room, len(job.pending))
            if len(slot.cached) < job.keep_at:  # a pass ends where the head does
                count = min(count, job.keep_at - len(slot.cached))
            if count > 0:
                parts.append(make_part(slot, job, count))
                job.last_read = now
                room -= count
        return parts

    def _take_results(self, parts: Sequence[Part]) -> None:
        """Sample where a chunk reached the end of what was known, and report on the others."""
        row = -1
        for part in parts:
            job, chunk = part.job, part.chunk
            row += len(chunk.tokens)
            part.slot.cached.extend(chunk.tokens)
            job.pending = job.pending[len(chunk.tokens) :]
            if len(part.slot.cached) == job.keep_at:
                self._backend.keep(part.slot.index, part.slot.cached)
                job.keep_at = 0
            if chunk.wants_logits:
                try:
                    token = job.sampler.sample(row)
                except EngineError as error:
                    self._fail_parts([part], error)
                    continue
                job.first_token = job.first_token or self._clock()
                self._take_token(part.slot, job, token, row)
            elif job.output_tokens == 0 and job.request.streams:
                total = len(job.prompt)
                done = total - len(job.pending)
                self._emit(ProgressEvent(id=job.request.id, stage="prefill", done=done, total=total))

    def _take_token(self, slot: Slot, job: Job, token: int, row: int) -> None:
        """Add a sampled token to the answer: release its text, or end the answer."""
        request = job.request
        if self._backend.ends(token) and not request.ignore_eos:
            self._finish(slot, "stop")
            return
        job.newest_token = self._clock()
        job.output_tokens += 1
        job.unsent_tokens.append(token)
        if request.logprobs is not None:
            job.unsent_logprobs.append(self._backend.logprobs(row, token, request.logprobs))
        text = job.text.push(self._backend.piece(token, request.shown))
        if job.text.stop_text is not None:
            self._send_text(job, text)
            self._finish(slot, "stop")
            return
        job.pending = (token,)
        full = len(slot.cached) + 1 >= self._backend.context_tokens
        if full or (request.max_tokens is not None and job.output_tokens >= request.max_tokens):
            self._send_text(job, text)
            self._finish(slot, "length")
        elif text:
            self._send_text(job, text)

    # -- ends -----------------------------------------------------------------------------------------------

    def _send_text(self, job: Job, text: str, *, last: bool = False) -> None:
        if text:
            job.unsent_text.append(text)
        if (last or job.request.streams) and (job.unsent_text or job.unsent_tokens):
            self._emit(
                TokenEvent(
                    id=job.request.id,
                    text="".join(job.unsent_text),
                    tokens=tuple(job.unsent_tokens),
                    logprobs=tuple(job.unsent_logprobs),
                )
            )
            job.unsent_text.clear()
            job.unsent_tokens.clear()
            job.unsent_logprobs.clear()

    def _finish(self, slot: Slot, reason: EndReason) -> None:
        job = slot.job
        if job is None:
            return
        self._send_text(job, job.text.finish(), last=True)
        self._release(slot)
        self._emit(finished(job, reason, self._clock()))

    def _release(self, slot: Slot) -> None:
        if slot.job is not None:
            slot.job.sampler.close()
        slot.job = None
        slot.last_used = self._clock()

    def _fail(self, request_id: int, error: LocalqError) -> None:
        self._emit(failed(request_id, error))

    # -- trouble --------------------------------------------------------------------------------------------

    def _fail_parts(self, parts: Sequence[Part], error: EngineError) -> None:
        for part in parts:
            self._release(part.slot)
            self._empty(part.slot)
            self._fail(part.job.request.id, error)

    def _restore(self, parts: Sequence[Part]) -> None:
        """After an abort the cache holds what it held before, or (recurrent models) nothing of a sequence."""
        for part in parts:
            slot, job = part.slot, part.job
            kept = self._backend.truncate(slot.index, len(slot.cached))
            job.pending = [*slot.cached[kept:], *job.pending]
            del slot.cached[kept:]

    def _empty(self, slot: Slot) -> None:
        self._backend.truncate(slot.index, 0)
        slot.cached = []


def make_part(slot: Slot, job: Job, count: int) -> Part:
    """The next ``count`` pending tokens of a job."""
    tokens = job.pending[:count]
    chunk = Chunk(slot.index, len(slot.cached), tokens, wants_logits=count == len(job.pending))
    return Part(slot, job, chunk)
