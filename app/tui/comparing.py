"""One prompt, two models: where they part, and how far apart they are at each token. Blocks; any thread.

Both answer greedily, so that a difference is the models', not the dice's. Where both have the same
vocabulary, the second model is also asked, token by token, what it would have said in the place of the first
(teacher forcing): the divergence at a token is that of the second model's distribution from the first's.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from app.tui.host import ChatEngine, Host, Wanted
from runtime.engine.messages import ModelInfo, Prompt, SamplingParams, TokenEvent, TokenLogprob
from runtime.errors import LocalqError

T = TypeVar("T")

KEPT: Final = 40
"""Likeliest tokens of each position that are compared; all others count as one."""
GREEDY: Final = SamplingParams(temperature=0.0)
LEAST: Final = 1e-12


@dataclass(frozen=True)
class Step:
    """A token of an answer, and what the model held likely in its place."""

    token: int
    text: bytes
    likely: Mapping[int, float]
    """Natural logarithms of probabilities, of the likeliest tokens."""

    @property
    def top(self) -> int:
        return max(self.likely, key=lambda token: self.likely[token], default=self.token)


@dataclass
class Compared:
    """What is known so far. ``divergence`` and ``agrees`` are by token of the first answer, in nats."""

    first: list[Step] = field(default_factory=list)
    second: list[Step] = field(default_factory=list)
    divergence: list[float] = field(default_factory=list)
    agrees: list[bool] = field(default_factory=list)
    doing: str = ""
    comparable: bool = True
    """Whether both cut texts into the same tokens."""
    speeds: list[float] = field(default_factory=list)

    @property
    def parting(self) -> int | None:
        """The number of the first token in which the answers differ; None while they do not."""
        for number, (mine, theirs) in enumerate(zip(self.first, self.second, strict=False)):
            if mine.text != theirs.text:
                return number
        shorter = min(len(self.first), len(self.second))
        ended = not self.doing and len(self.first) != len(self.second)
        return shorter if ended else None


class Stopped(LocalqError):
    """The person stopped the comparison."""


class Comparison:
    """Runs once; :attr:`seen` may be read meanwhile."""

    def __init__(self, host: Host, first: str, second: str, prompt: str, tokens: int) -> None:
        self.seen = Compared()
        self._host = host
        self._models = (first, second)
        self._prompt = prompt
        self._tokens = tokens
        self._stopped = threading.Event()
        self._engine: ChatEngine | None = None

    def stop(self) -> None:
        """End as soon as the present token is there."""
        self._stopped.set()

    def run(self, changed: Callable[[], None] = lambda: None) -> Compared:
        """Raises what loading and answering raise, and Stopped. One model is loaded at a time."""
        first, second = self._models
        seen = self.seen
        seen.doing = f"{first} answers"
        info, prompt = self._answer(first, seen.first, changed)
        seen.doing = f"{second} answers"
        self._with(second, lambda engine, other: self._second(engine, other, info, prompt, changed))
        seen.doing = ""
        changed()
        return seen

    # -- within ---------------------------------------------------------------------------------------------

    def _answer(
        self, model: str, steps: list[Step], changed: Callable[[], None]
    ) -> tuple[ModelInfo, tuple[int, ...]]:
        def answer(engine: ChatEngine, info: ModelInfo) -> tuple[ModelInfo, tuple[int, ...]]:
            prompt = self._rendered(engine, model)
            self._follow(engine, prompt, steps, changed)
            return info, prompt

        return self._with(model, answer)

    def _second(
        self,
        engine: ChatEngine,
        info: ModelInfo,
        first: ModelInfo,
        prompt: tuple[int, ...],
        changed: Callable[[], None],
    ) -> None:
        seen = self.seen
        own = self._rendered(engine, self._models[1])
        self._follow(engine, own, seen.second, changed)
        seen.comparable = info.vocabulary_size == first.vocabulary_size and own == prompt
        if not seen.comparable:
            return
        seen.doing = "comparing token by token"
        told = [step.token for step in seen.first]
        for number, step in enumerate(seen.first):
            self._check()
            # Without the end of the answer as a choice there always is a token to have probabilities of.
            (judged,) = self._steps(engine, (*prompt, *told[:number]), 1, ignore_eos=True)
            seen.divergence.append(divergence(step.likely, judged.likely))
            seen.agrees.append(step.top == judged.top)
            changed()

    def _with(self, model: str, use: Callable[[ChatEngine, ModelInfo], T]) -> T:
        """Loads a model for a while, with as much context as this takes, within what memory there is."""
        host = self._host
        wanted = Wanted(model, self._tokens + 2 * len(self._prompt.encode()) // 3 + 256)
        loaded = host.loaded
        if loaded is not None and loaded.name == model and loaded.info is not None:
            return use(loaded.engine, loaded.info)
        temporary = Host(host.front, dataclasses.replace(host.settings, context=None))
        try:
            opened = temporary.load(wanted, own=True)
            assert opened.info is not None
            return use(opened.engine, opened.info)
        finally:
            temporary.close()

    def _rendered(self, engine: ChatEngine, model: str) -> tuple[int, ...]:
        try:
            manifest = self._host.store.get(model)
            system = manifest.defaults.system
        except LocalqError:
            system = None
        head = [] if system is None else [{"role": "system", "content": system}]
        prompt: Prompt = engine.render([*head, {"role": "user", "content": self._prompt}])
        return tuple(engine.tokenize(prompt))

    def _follow(
        self, engine: ChatEngine, prompt: Sequence[int], steps: list[Step], changed: Callable[[], None]
    ) -> None:
        for step in self._steps(engine, prompt, self._tokens):
            steps.append(step)
            changed()

    def _steps(
        self, engine: ChatEngine, prompt: Sequence[int], tokens: int, *, ignore_eos: bool = False
    ) -> list[Step]:
        found: list[Step] = []
        generation = engine.submit(
            prompt, sampling=GREEDY, max_tokens=tokens, logprobs=KEPT, ignore_eos=ignore_eos
        )
        for event in generation:
            if isinstance(event, TokenEvent):
                found += [_step(row) for row in event.logprobs]
            self._check()
        return found

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Stopped("stopped")


def _step(row: Sequence[TokenLogprob]) -> Step:
    chosen = row[0]
    return Step(chosen.token, chosen.text, {entry.token: entry.logprob for entry in row})


def divergence(first: Mapping[int, float], second: Mapping[int, float]) -> float:
    """Kullback-Leibler divergence of ``second`` from ``first``, in nats: a lower bound of the full one.

    Over the tokens that both list, and one bucket for all others. (Putting tokens into one bucket never
    raises a divergence: the data-processing inequality.)
    """
    both = first.keys() & second.keys()
    total = sum(math.exp(first[token]) * (first[token] - second[token]) for token in both)
    rest = 1 - sum(math.exp(first[token]) for token in both)
    others = 1 - sum(math.exp(second[token]) for token in both)
    if rest > LEAST:
        total += rest * math.log(rest / max(others, LEAST))
    return max(0.0, total)
