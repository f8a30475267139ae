from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.backend import Chunk, Decoded
from runtime.engine.messages import (
    Event,
    FailedEvent,
    FinishedEvent,
    ProgressEvent,
    Request,
    SamplingParams,
    TokenEvent,
)
from runtime.engine.scheduler import Scheduler
from runtime.errors import EngineError
from tests.runtime.fake_backend import END, FakeBackend, answer, next_token


class Bench:
    """A scheduler over a fake model, and all that it said."""

    def __init__(self, backend: FakeBackend | None = None) -> None:
        self.backend = backend or FakeBackend()
        self.events: list[Event] = []
        ticks = itertools.count()
        self.scheduler = Scheduler(self.backend, self.events.append, clock=lambda: next(ticks) * 0.001)
        self._ids = itertools.count(1)

    def ask(
        self,
        prompt: Sequence[int],
        max_tokens: int | None = 5,
        stop: tuple[str, ...] = (),
        logprobs: int | None = None,
        seed: int | None = None,
        cache_prompt: bool = True,
        ignore_eos: bool = False,
        head: int = 0,
    ) -> int:
        request = Request(
            id=next(self._ids),
            prompt=(),
            max_tokens=max_tokens,
            stop=stop,
            logprobs=logprobs,
            sampling=SamplingParams(seed=seed),
            cache_prompt=cache_prompt,
            ignore_eos=ignore_eos,
        )
        self.scheduler.submit(request, list(prompt), head=head)
        return request.id

    def run(self, limit: int = 10_000) -> None:
        for _ in range(limit):
            if not self.scheduler.step():
                break
        assert self.scheduler.idle
        assert self.backend.open_samplers == 0

    def tokens(self, request_id: int) -> list[int]:
        return [
            token
            for event in self.events
            if isinstance(event, TokenEvent) and event.id == request_id
            for token in event.tokens
        ]

    def text(self, request_id: int) -> str:
        return "".join(e.text for e in self.events if isinstance(e, TokenEvent) and e.id == request_id)

    def end(self, request_id: int) -> FinishedEvent:
        ends = [e for e in self.events if isinstance(e, FinishedEvent) and e.id == request_id]
        assert len(ends) == 1
        return ends[0]

    def failure(self, request_id: int) -> FailedEvent:
        failures = [e for e in self.events if isinstance(e, FailedEvent) and e.id == request_id]
        assert len(failures) == 1
        return failures[0]


def test_an_answer_is_what_the_model_says_after_the_prompt() -> None:
    bench = Bench()
    request = bench.ask([3, 1, 4], max_tokens=6)
    bench.run()
    assert bench.tokens(request) == answer([3, 1, 4], 6)
    assert bench.text(request) == "".join(f"<{t}>" for t in answer([3, 1, 4], 6))
    assert bench.end(request).reason == "length"
    assert bench.end(request).usage.prompt_tokens == 3
    assert bench.end(request).usage.output_tokens == 6


def test_a_batch_of_requests_answers_as_each_would_alone() -> None:
    bench = Bench(FakeBackend(slots=4, batch_tokens=8))
    prompts = [[n, n + 1, *range(n)] for n in range(1, 12)]
    requests = [bench.ask(prompt, max_tokens=7) for prompt in prompts]
    bench.run()
    for request, prompt in zip(requests, prompts, strict=True):
        assert bench.tokens(request) == answer(prompt, 7)


def test_all_live_answers_and_short_prompts_share_one_pass() -> None:
    bench = Bench(FakeBackend(slots=3))
    for n in range(1, 4):
        bench.ask([n], max_tokens=4)
    bench.run()
    assert [len(batch) for batch in bench.backend.passes] == [3, 3, 3, 3]


def test_a_longer_prompt_has_its_pass_without_other_prompts() -> None:
    bench = Bench(FakeBackend(slots=3, batch_tokens=512, context_tokens=512))
    for n in range(1, 4):
        bench.ask([n] * 100, max_tokens=1)
    bench.run()
    assert [[len(chunk.tokens) for chunk in batch] for batch in bench.backend.passes] == [[100]] * 3


def test_prompts_that_come_together_are_read_before_the_first_answer_goes_on() -> None:
    bench = Bench(FakeBackend(slots=3, batch_tokens=128, context_tokens=512))
    for n in range(1, 4):
        bench.ask([n] * 100, max_tokens=3)
        bench.scheduler.step()
    sizes = [[len(chunk.tokens) for chunk in batch] for batch in bench.backend.passes]
    assert sizes == [[100], [100], [100]]
    bench.run()
    assert [len(batch) for batch in bench.backend.passes[3:]] == [3, 3]


def test_an_answer_that_runs_is_not_held_back_by_a_new_prompt() -> None:
    bench = Bench(FakeBackend(slots=2, batch_tokens=128, context_tokens=512))
    bench.ask([1] * 10, max_tokens=60)
    bench.scheduler.step()
    bench.scheduler.step()
    bench.ask([2] * 100, max_tokens=3)
    bench.scheduler.step()
    one, chunk = bench.backend.passes[-1]
    assert len(one.tokens) == 1 and 1 < len(chunk.tokens) < 100


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    bench = Bench(FakeBackend(slots=3, batch_tokens=16, context_tokens=2048))
    bench.ask(list(range(1, 90)) * 10, max_tokens=1)
    short = bench.ask([5] * 5, max_tokens=1)
    for _ in range(3):
        bench.scheduler.step()
    assert bench.tokens(short) == answer([5] * 5, 1)


def test_slots_beside_each_other_are_filled_first() -> None:
    bench = Bench(FakeBackend(slots=8))
    for n in range(1, 4):
        bench.ask([n, n], max_tokens=9)
    bench.run()
    assert {chunk.sequence for batch in bench.backend.passes for chunk in batch} == {0, 1, 2}


def test_only_a_request_whose_prompt_is_read_may_abort_the_pass() -> None:
    seen: list[frozenset[int]] = []

    class Watching(FakeBackend):
        def decode(self, batch: Sequence[Chunk]) -> Decoded:
            seen.append(bench.scheduler.abortable)
            return super().decode(batch)

    bench = Bench(Watching(slots=2))
    first = bench.ask([1, 2], max_tokens=4)
    bench.scheduler.step()
    bench.scheduler.step()
    second = bench.ask([3, 4], max_tokens=2)
    bench.run()
    assert seen[:4] == [{first}, frozenset(), {second}, frozenset()]
    seen.clear()
    bench = Bench(Watching(slots=2, rewinds=False))
    bench.ask([1, 2], max_tokens=4)
    bench.scheduler.step()
    bench.scheduler.step()
    bench.ask([3, 4], max_tokens=2)
    bench.run()
    assert seen[0] and seen[2] == frozenset()  # the answer beside it would lose its state


def test_a_long_prompt_is_read_in_chunks_while_answers_go_on() -> None:
    bench = Bench(FakeBackend(slots=2, batch_tokens=16, context_tokens=512))
    quick = bench.ask([1, 2], max_tokens=40)
    bench.scheduler.step()
    slow = bench.ask(list(range(1, 200)), max_tokens=3)
    bench.run()
    together = [batch for batch in bench.backend.passes if len(batch) == 2]
    assert len(together) >= 12  # 199 tokens in chunks of at most 15, each beside one token of the answer
    assert all(len(batch[0].tokens) == 1 for batch in together)
    assert bench.tokens(quick) == answer([1, 2], 40)
    assert bench.tokens(slow) == answer(list(range(1, 200)), 3)
    progress = [e.done for e in bench.events if isinstance(e, ProgressEvent) and e.id == slow]
    assert progress == sorted(progress) and len(progress) >= 12


def test_a_request_that_waits_is_told_so_and_served_in_order() -> None:
    bench = Bench(FakeBackend(slots=1))
    requests = [bench.ask([n], max_tokens=2) for n in (5, 6, 7)]
    bench.scheduler.step()
    late = bench.ask([8], max_tokens=2)
    bench.run()
    queued = [e.id for e in bench.events if isinstance(e, ProgressEvent) and e.stage == "queued"]
    assert queued == [*requests[1:], late]  # once each
    ends = [e.id for e in bench.events if isinstance(e, FinishedEvent)]
    assert ends == [*requests, late]


def test_an_end_token_ends_the_answer_and_is_not_part_of_it() -> None:
    script = iter([7, 8, END])
    bench = Bench(FakeBackend(choose=lambda tokens: next(script)))
    request = bench.ask([1], max_tokens=None)
    bench.run()
    assert bench.tokens(request) == [7, 8]
    assert bench.end(request).reason == "stop"
    assert bench.end(request).stop_text is None


def test_an_ignored_end_token_is_a_token_like_any_other() -> None:
    script = iter([7, END, 9, 9])
    bench = Bench(FakeBackend(choose=lambda tokens: next(script)))
    request = bench.ask([1], max_tokens=4, ignore_eos=True)
    bench.run()
    assert bench.tokens(request) == [7, END, 9, 9]


def test_a_stop_string_across_tokens_ends_the_answer_before_it() -> None:
    script = iter([41, 42, 43, 44])
    bench = Bench(FakeBackend(choose=lambda tokens: next(script)))
    request = bench.ask([1], max_tokens=None, stop=("2><4",))
    bench.run()
    assert bench.text(request) == "<41><4"
    assert bench.end(request).stop_text == "2><4"
    assert bench.end(request).reason == "stop"
    assert bench.tokens(request) == [41, 42, 43]


def test_the_context_ends_an_answer_without_a_limit() -> None:
    bench = Bench(FakeBackend(context_tokens=20))
    request = bench.ask(list(range(1, 11)), max_tokens=None)
    bench.run()
    assert bench.end(request).reason == "length"
    assert bench.end(request).usage.output_tokens == 10


def test_a_prompt_that_does_not_fit_is_an_error_with_both_numbers() -> None:
    bench = Bench(FakeBackend(context_tokens=20))
    request = bench.ask(list(range(20)))
    failure = bench.failure(request)
    assert failure.code == "PromptTooLong"
    assert failure.details == {"prompt_tokens": 20, "context_tokens": 20}
    assert "20" in failure.message
    assert bench.scheduler.idle


def test_an_empty_prompt_is_an_error() -> None:
    bench = Bench()
    failure = bench.failure(bench.ask([]))
    assert "no tokens" in failure.message
    assert (failure.code, failure.details) == ("InvalidRequest", {"field": "prompt"})


def test_a_sampler_that_cannot_be_made_fails_its_request_only() -> None:
    bench = Bench()
    bad = bench.ask([1], seed=-1)
    good = bench.ask([2])
    bench.run()
    assert bench.failure(bad).message == "no such sampler"
    assert bench.tokens(good) == answer([2], 5)


def test_logits_without_a_number_fail_their_request_only() -> None:
    def choose(tokens: Sequence[int]) -> int:
        if tokens[0] == 66 and len(tokens) > 3:
            raise EngineError("no numbers")
        return next_token(tokens)

    bench = Bench(FakeBackend(choose=choose))
    bad, good = bench.ask([66, 1]), bench.ask([2, 1])
    bench.run()
    assert bench.failure(bad).message == "no numbers"
    assert bench.tokens(good) == answer([2, 1], 5)
    again = bench.ask([66])
    bench.run()
    assert bench.failure(again).message == "no numbers"


def test_the_same_beginning_is_not_computed_twice() -> None:
    bench = Bench(FakeBackend(slots=2, context_tokens=256))
    first = bench.ask([9] * 20, max_tokens=4)
    bench.run()
    conversation = [9] * 20 + bench.tokens(first) + [5, 5]
    bench.backend.passes.clear()
    second = bench.ask(conversation, max_tokens=4)
    bench.run()
    assert bench.end(second).usage.cached_tokens == 23  # all but the answer's last token, never computed
    assert len(bench.backend.passes[0][0].tokens) == len(conversation) - 23
    assert bench.tokens(second) == answer(conversation, 4)


def test_an_identical_prompt_computes_only_its_last_token() -> None:
    bench = Bench(FakeBackend(context_tokens=128))
    bench.ask([4] * 30)
    bench.run()
    again = bench.ask([4] * 30)
    bench.run()
    assert bench.end(again).usage.cached_tokens == 29
    assert bench.tokens(again) == answer([4] * 30, 5)


def test_a_beginning_is_shared_with_an_answer_that_still_runs() -> None:
    bench = Bench(FakeBackend(slots=2, context_tokens=128))
    system = [7] * 16
    first = bench.ask([*system, 1], max_tokens=30)
    for _ in range(4):
        bench.scheduler.step()
    second = bench.ask([*system, 2], max_tokens=5)
    bench.run()
    assert bench.end(second).usage.cached_tokens == 16
    assert bench.tokens(first) == answer([*system, 1], 30)
    assert bench.tokens(second) == answer([*system, 2], 5)


def test_a_short_common_beginning_does_not_cost_a_long_conversation() -> None:
    bench = Bench(FakeBackend(slots=2, context_tokens=256))
    long = [3] * 10 + list(range(1, 90))
    bench.ask(long)
    bench.run()
    bench.ask([3] * 10 + [50])
    bench.run()
    again = bench.ask([*long, 60])
    bench.run()
    assert bench.end(again).usage.cached_tokens == len(long)


def test_the_cache_is_left_alone_when_the_request_says_so() -> None:
    bench = Bench(FakeBackend(context_tokens=128))
    bench.ask([4] * 30)
    bench.run()
    again = bench.ask([4] * 30, cache_prompt=False)
    bench.run()
    assert bench.end(again).usage.cached_tokens == 0
    assert bench.tokens(again) == answer([4] * 30, 5)


def test_a_model_that_cannot_go_back_reads_the_prompt_again() -> None:
    bench = Bench(FakeBackend(rewinds=False, context_tokens=128))
    bench.ask([4] * 30)
    bench.run()
    again = bench.ask([4] * 20 + [5])
    bench.run()
    assert bench.end(again).usage.cached_tokens == 0
    assert bench.tokens(again) == answer([4] * 20 + [5], 5)


def test_a_running_request_is_cancelled_within_one_pass() -> None:
    bench = Bench()
    request = bench.ask([1], max_tokens=None)
    other = bench.ask([2], max_tokens=9)
    for _ in range(3):
        bench.scheduler.step()
    passes = len(bench.backend.passes)
    bench.scheduler.cancel(request)
    assert len(bench.backend.passes) == passes
    assert bench.end(request).reason == "cancelled"
    assert bench.tokens(request) == answer([1], 3)
    bench.run()
    assert bench.tokens(other) == answer([2], 9)


def test_a_waiting_request_is_cancelled_without_a_pass() -> None:
    bench = Bench(FakeBackend(slots=1))
    bench.ask([1])
    bench.scheduler.step()
    waiting = bench.ask([2])
    bench.scheduler.cancel(waiting)
    assert bench.end(waiting).reason == "cancelled"
    assert bench.end(waiting).usage.output_tokens == 0
    bench.run()


def test_cancelling_what_has_ended_does_nothing() -> None:
    bench = Bench()
    request = bench.ask([1])
    bench.run()
    bench.scheduler.cancel(request)
    bench.scheduler.cancel(999)
    assert bench.end(request).reason == "length"


def test_an_aborted_pass_is_made_again_without_a_trace() -> None:
    bench = Bench(FakeBackend(outcomes=[Decoded.DONE, Decoded.ABORTED, Decoded.ABORTED]))
    first, second = bench.ask([1, 2, 3]), bench.ask([4, 5])
    bench.run()
    assert bench.tokens(first) == answer([1, 2, 3], 5)
    assert bench.tokens(second) == answer([4, 5], 5)


def test_an_abort_that_loses_the_sequence_is_made_good() -> None:
    backend = FakeBackend(rewinds=False, slots=1)
    bench = Bench(backend)
    request = bench.ask([1, 2, 3], max_tokens=6)
    bench.scheduler.step()
    bench.scheduler.step()
    backend.sequences[0].append(99)  # what a recurrent state looks like after half a pass
    backend.outcomes = [Decoded.ABORTED]
    bench.run()
    assert bench.tokens(request) == answer([1, 2, 3], 6)


def test_a_failed_pass_fails_its_requests_and_the_next_one_works() -> None:
    bench = Bench(FakeBackend(outcomes=[Decoded.DONE, EngineError("the graph broke")]))
    first, second = bench.ask([1]), bench.ask([2])
    bench.run()
    assert bench.failure(first).message == bench.failure(second).message == "the graph broke"
    third = bench.ask([3])
    bench.run()
    assert bench.tokens(third) == answer([3], 5)


def test_log_probabilities_come_with_their_tokens() -> None:
    bench = Bench()
    request = bench.ask([1], max_tokens=3, logprobs=2)
    bench.run()
    found = [e for e in bench.events if isinstance(e, TokenEvent) and e.id == request]
    flat = [entry for event in found for entry in event.logprobs]
    assert [entry[0].token for entry in flat] == answer([1], 3)
    assert all(len(entry) == 3 for entry in flat)


def test_the_pass_that_ends_an_answer_does_not_count_as_decoding() -> None:
    script = iter([7, 8, 9, END])
    bench = Bench(FakeBackend(choose=lambda tokens: next(script)))
    request = bench.ask([1], max_tokens=None)
    bench.run()
    speed = bench.end(request).timings.decode_tokens_per_second(3)
    script = iter([7, 8, 9])
    bench = Bench(FakeBackend(choose=lambda tokens: next(script)))
    limited = bench.ask([1], max_tokens=3)
    bench.run()
    assert speed == pytest.approx(bench.end(limited).timings.decode_tokens_per_second(3), rel=0.3)


def test_times_add_up() -> None:
    bench = Bench(FakeBackend(slots=1))
    bench.ask([1])
    second = bench.ask([2], max_tokens=4)
    bench.run()
    timings = bench.end(second).timings
    assert timings.queue_seconds > 0 and timings.prefill_seconds > 0 and timings.decode_seconds > 0
    assert timings.first_token_seconds == pytest.approx(timings.queue_seconds + timings.prefill_seconds)
    assert timings.decode_tokens_per_second(4) == pytest.approx(3 / timings.decode_seconds)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), slots=st.integers(1, 4), rewinds=st.booleans())
def test_no_interleaving_changes_an_answer(seed: int, slots: int, rewinds: bool) -> None:
    """Requests with common beginnings arrive, are cancelled and aborted at random."""
    dice = random.Random(seed)
    bench = Bench(FakeBackend(slots=slots, batch_tokens=12, context_tokens=80, rewinds=rewinds))
    asked: dict[int, tuple[list[int], int]] = {}
    stems = [[dice.randrange(1, 90) for _ in range(dice.randrange(1, 30))] for _ in range(3)]
    cancelled: set[int] = set()
    for _ in range(dice.randrange(5, 40)):
        action = dice.random()
        if action < 0.3:
            prompt = dice.choice(stems) + [dice.randrange(1, 90) for _ in range(dice.randrange(1, 20))]
            count = dice.randrange(1, 12)
            asked[bench.ask(prompt, max_tokens=count)] = (prompt, count)
        elif action < 0.37 and asked:
            victim = dice.choice(list(asked))
            bench.scheduler.cancel(victim)
            cancelled.add(victim)
        else:
            if action > 0.9:
                bench.backend.outcomes = [Decoded.ABORTED]
            bench.scheduler.step()
    bench.backend.outcomes = []
    bench.run()
    for request, (prompt, count) in asked.items():
        expected = answer(prompt, count)
        got = bench.tokens(request)
        assert got == expected[: len(got)]
        if request not in cancelled:
            assert got == expected
            assert bench.end(request).reason == "length"


def test_the_fake_model_notices_a_foreign_token() -> None:
    assert next_token([1, 2, 3]) != next_token([1, 3, 2])


class TestHeads:
    """The head of a prompt is kept when it has been read, and recalled where no slot has it."""

    PROMPT: ClassVar[list[int]] = [2 + number % 7 for number in range(40)]

    def test_it_is_kept_at_its_end_and_changes_no_answer(self) -> None:
        bench = Bench()
        first = bench.ask(self.PROMPT, head=21)
        other = bench.ask([9, 9, *self.PROMPT[:20]])
        bench.run()
        assert bench.backend.kept == [tuple(self.PROMPT[:21])]
        assert bench.tokens(first) == answer(self.PROMPT, 5)
        assert bench.tokens(other) == answer([9, 9, *self.PROMPT[:20]], 5)
        bench.ask(self.PROMPT, head=21, cache_prompt=False)
        bench.run()
        assert len(bench.backend.kept) == 1

    def test_it_comes_back_where_no_slot_has_more(self) -> None:
        kept = [tuple(self.PROMPT[:21])]
        bench = Bench(FakeBackend(kept=kept))
        first = bench.ask(self.PROMPT, head=21)
        bench.run()
        end = bench.end(first)
        assert (end.usage.cached_tokens, end.usage.disk_tokens) == (21, 21)
        assert bench.tokens(first) == answer(self.PROMPT, 5)
        second = bench.ask([*self.PROMPT[:30], 9], head=21)
        bench.run()
        assert (bench.end(second).usage.cached_tokens, bench.end(second).usage.disk_tokens) == (30, 0)
        third = bench.ask(self.PROMPT, head=21, cache_prompt=False)
        bench.run()
        assert bench.end(third).usage.cached_tokens == 0

    def test_an_aborted_pass_is_read_again_before_it_is_kept(self) -> None:
        bench = Bench(FakeBackend(outcomes=[Decoded.DONE, Decoded.ABORTED, Decoded.ABORTED]))
        first = bench.ask(self.PROMPT, head=21)
        bench.run()
        assert bench.backend.kept == [tuple(self.PROMPT[:21])]
        assert bench.tokens(first) == answer(self.PROMPT, 5)
