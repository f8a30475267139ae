"""A model whose next token is a function of everything in its sequence: a wrong position, a lost or a foreign
token in the cache changes the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runtime.engine.backend import Chunk, Constraint, Decoded
from runtime.engine.messages import SamplingParams, TokenLogprob
from runtime.errors import EngineError

END = 0
VOCABULARY = 97


def next_token(tokens: Sequence[int]) -> int:
    """The token after ``tokens``: never END, any other of the vocabulary."""
    state = 17
    for token in tokens:
        state = (state * 31 + token) % 1_000_003
    return 1 + state % (VOCABULARY - 1)


def answer(prompt: Sequence[int], count: int) -> list[int]:
    """The first ``count`` tokens that the model says after ``prompt`` when nothing else happens."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


@dataclass
class FakeSampler:
    backend: FakeBackend
    closed: bool = False

    def sample(self, row: int) -> int:
        return self.backend.choose(self.backend.rows[row])

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        self.backend.open_samplers -= 1


@dataclass
class FakeBackend:
    context_tokens: int = 64
    slots: int = 2
    batch_tokens: int = 16
    share_minimum: int = 1
    rewinds: bool = True
    copies: bool = True
    choose: Callable[[Sequence[int]], int] = next_token
    outcomes: list[Decoded | EngineError] = field(default_factory=list)
    """What the next passes give, before all further ones are DONE."""
    sequences: dict[int, list[int]] = field(default_factory=dict)
    passes: list[list[Chunk]] = field(default_factory=list)
    rows: dict[int, list[int]] = field(default_factory=dict)
    open_samplers: int = 0
    kept: list[tuple[int, ...]] = field(default_factory=list)
    abort_requests: list[bool] = field(default_factory=list)
    computing: threading.Event = field(default_factory=threading.Event)

    def decode(self, batch: Sequence[Chunk]) -> Decoded:
        self.passes.append(list(batch))
        assert sum(len(chunk.tokens) for chunk in batch) <= self.batch_tokens
        assert len({chunk.sequence for chunk in batch}) == len(batch)
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, EngineError):
                raise outcome
            if outcome is not Decoded.DONE:
                return outcome
        self.rows.clear()
        row = -1
        for chunk in batch:
            held = self.sequences.setdefault(chunk.sequence, [])
            assert chunk.start == len(held), "a chunk must continue its sequence"
            held.extend(chunk.tokens)
            assert len(held) <= self.context_tokens
            row += len(chunk.tokens)
            if chunk.wants_logits:
                self.rows[row] = list(held)
        return Decoded.DONE

    def request_abort(self, wanted: bool) -> None:
        self.abort_requests.append(wanted)

    def reaches(self, sequence: int, length: int) -> bool:
        held = len(self.sequences.get(sequence, []))
        return length == held or (length < held and self.rewinds)

    def recall(self, sequence: int, prompt: Sequence[int], held: int) -> int:
        best = max(
            (
                kept
                for kept in self.kept
                if tuple(prompt[: len(kept)]) == kept and held < len(kept) < len(prompt)
            ),
            key=len,
            default=None,
        )
        if best is None:
            return held
        self.sequences[sequence] = list(best)
        return len(best)

    def keeps(self, head: Sequence[int]) -> bool:
        return tuple(head) not in self.kept

    def keep(self, sequence: int, head: Sequence[int]) -> None:
        assert self.sequences[sequence] == list(head)
        self.kept.append(tuple(head))

    def truncate(self, sequence: int, length: int) -> int:
        held = self.sequences.get(sequence, [])
        assert length <= len(held)
        kept = length if self.rewinds or length == len(held) else 0
        self.sequences[sequence] = held[:kept]
        return kept

    def share(self, source: int, target: int, length: int) -> int:
        assert not self.sequences.get(target)
        if not self.rewinds and length != len(self.sequences[source]):
            return 0
        self.sequences[target] = self.sequences[source][:length]
        return length

    def sampler(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        *,
        ignore_end: bool,
        constraint: Constraint | None = None,
        keeps_logits: bool = False,
    ) -> FakeSampler:
        if params.seed == -1:
            raise EngineError("no such sampler")
        self.open_samplers += 1
        return FakeSampler(self)

    def logprobs(self, row: int, token: int, count: int) -> tuple[TokenLogprob, ...]:
        likeliest = [next_token(self.rows[row]), *range(1, count)][:count]
        return tuple(TokenLogprob(token=t, text=self.piece(t), logprob=-1.0) for t in (token, *likeliest))

    def piece(self, token: int, shown: Sequence[str] = ()) -> bytes:
        return f"<{token}>".encode()

    def ends(self, token: int) -> bool:
        return token == END
