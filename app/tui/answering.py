"""One answer on its way: from the engine to the disk, and to whoever looks at the screen."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from app.chats import Chats, Message, State
from app.cli.front import GenerationLike
from app.tui.fitting import Fitted, fit
from app.tui.host import Host, Loaded
from app.tui.preferences import Preferences
from app.tui.thinking import Splitter
from runtime.engine.messages import FinishedEvent, ProgressEvent, Prompt, TokenEvent
from runtime.errors import EngineError, LocalqError

SAVE_SECONDS: Final = 1.0
"""How much of an answer a killed process may lose."""
STATES: Final[dict[str, State]] = {"stop": "done", "length": "length", "cancelled": "stopped"}
CONTINUED: Final = "\ue000"

Stage = Literal["waiting", "prefill", "writing", "over"]


@dataclass
class Ahead:
    """What came since somebody looked last, and how far the answer is."""

    said: str = ""
    thought: str = ""
    stage: Stage = "waiting"
    share: float = 0.0
    """Of the prompt that is read."""
    prompt_tokens: int = 0
    tokens: int = 0
    """Of the answer."""
    seconds: float = 0.0
    """Since the first token."""


@dataclass
class Outcome:
    """How an answer ended. ``error`` is what stopped it, if something did; the text so far is kept."""

    message: Message
    fitted: Fitted | None = None
    error: LocalqError | None = None
    used_tokens: int = 0
    """Of the context."""


@dataclass
class Answering:
    """Writes ``message``, an answer to ``path``; :meth:`run` blocks, in a thread of its own.

    A message that has text already is continued.
    """

    host: Host
    chats: Chats
    message: Message
    path: Sequence[Message]
    """From the first question to the last."""
    system: str | None
    preferences: Preferences
    stopped: bool = False
    _generation: GenerationLike | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ahead: Ahead = field(default_factory=Ahead)
    _said: list[str] = field(default_factory=list)
    _thought: list[str] = field(default_factory=list)
    _saved: float = 0.0
    _first: float = 0.0

    def cancel(self) -> None:
        """Stop; what came so far is the answer."""
        with self._lock:
            self.stopped = True
            if self._generation is not None:
                self._generation.cancel()

    @property
    def stage(self) -> Stage:
        """How far the answer is."""
        return self._ahead.stage

    def take(self) -> Ahead:
        """What came since the last call."""
        with self._lock:
            taken = self._ahead
            self._ahead = dataclasses.replace(taken, said="", thought="")
            return taken

    def run(self) -> Outcome:
        """Until the answer is over. Raises nothing that a model or its file can bring about."""
        from runtime.hardware.energy import EnergyMeter

        self._said = [self.message.content] if self.message.content else []
        self._thought = [self.message.thinking] if self.message.thinking else []
        fitted: Fitted | None = None
        finished: FinishedEvent | None = None
        failure: LocalqError | None = None
        with EnergyMeter() as energy:
            try:
                loaded = self.host.ready()
                if not self.stopped:
                    fitted = fit(loaded, self.path, self._system(loaded), self.preferences)
                    finished = self._follow(loaded, fitted)
            except LocalqError as error:
                failure = error
        return self._end(fitted, finished, failure, energy.joules)

    # -- within ---------------------------------------------------------------------------------------------

    def _system(self, loaded: Loaded) -> str | None:
        return loaded.defaults.system if self.system is None else self.system

    def _prompt(self, loaded: Loaded, fitted: Fitted) -> Prompt:
        """The conversation; with what is continued behind it, as text and never as control tokens."""
        begun = self.message.content
        if not begun:
            return fitted.prompt
        if loaded.served:
            from app.tui.served import ServedPrompt, continued

            assert isinstance(fitted.prompt, ServedPrompt)
            return continued(fitted.prompt, begun)
        mark = CONTINUED
        while mark in fitted.prompt.text or mark in fitted.prompt.protected:
            mark = chr(ord(mark) + 1)
        return Prompt(
            fitted.prompt.text + mark,
            {**fitted.prompt.protected, mark: begun},
            fitted.prompt.add_special,
            fitted.prompt.parse_special,
        )

    def _follow(self, loaded: Loaded, fitted: Fitted) -> FinishedEvent:
        prompt = self._prompt(loaded, fitted)
        generation = loaded.engine.submit(
            prompt,
            sampling=self.preferences.sampling(loaded.defaults.temperature),
            max_tokens=self.preferences.max_tokens,
        )
        with self._lock:
            self._ahead.prompt_tokens = fitted.tokens
            self._generation = generation
            if self.stopped:
                generation.cancel()
        # What is continued is said already: a thought would be closed.
        splitter = None if self.message.content else Splitter(prompt.text)
        self._saved = time.monotonic()
        for event in generation:
            match event:
                case TokenEvent():
                    self._hear(splitter, event)
                    self._save_now_and_then()
                case ProgressEvent(stage="prefill"):
                    with self._lock:
                        self._ahead.stage = "prefill"
                        self._ahead.share = event.done / event.total if event.total else 0.0
                case FinishedEvent():
                    if splitter is not None:
                        self._pieces(splitter.flush())
                    return event
                case _:
                    pass
        raise EngineError("the engine ended an answer without saying how; run localq doctor")

    def _hear(self, splitter: Splitter | None, event: TokenEvent) -> None:
        now = time.monotonic()
        self._first = self._first or now
        with self._lock:
            self._ahead.stage = "writing"
            self._ahead.tokens += len(event.tokens)
            self._ahead.seconds = now - self._first
        if splitter is None:
            self._say(event.text)
        else:
            self._pieces(splitter.feed(event.text))

    def _pieces(self, pieces: Sequence[Any]) -> None:
        for kind, text in pieces:
            if kind == "said":
                self._say(text)
            else:
                self._thought.append(text)
                with self._lock:
                    self._ahead.thought += text

    def _say(self, text: str) -> None:
        self._said.append(text)
        with self._lock:
            self._ahead.said += text

    def _save_now_and_then(self) -> None:
        if (now := time.monotonic()) - self._saved >= SAVE_SECONDS:
            self._saved = now
            self._update("writing", {})

    def _update(self, state: State, facts: dict[str, Any]) -> Message:
        said, thought = "".join(self._said), "".join(self._thought)
        self._said, self._thought = [said], [thought]
        changes: dict[str, Any] = {"content": said, "thinking": thought, "state": state}
        if facts:
            changes["facts"] = facts
        return self.chats.update(self.message.id, **changes)

    def _end(
        self,
        fitted: Fitted | None,
        finished: FinishedEvent | None,
        failure: LocalqError | None,
        joules: float | None,
    ) -> Outcome:
        state: State = "failed"
        facts: dict[str, Any] = {}
        used = 0
        if finished is not None:
            state = STATES[finished.reason]
            used = finished.usage.prompt_tokens + finished.usage.output_tokens
            facts = {
                "usage": msgspec.to_builtins(finished.usage),
                "timings": msgspec.to_builtins(finished.timings),
            }
            if joules is not None:
                facts["joules"] = joules
        elif failure is None or self.stopped:
            state, failure = "stopped", None
        else:
            facts = {"error": str(failure).splitlines()[0]}
        try:
            message = self._update(state, facts)
        except LocalqError as error:
            failure = failure or error
            message = msgspec.structs.replace(
                self.message, content="".join(self._said), thinking="".join(self._thought), state="failed"
            )
        with self._lock:
            self._ahead.stage = "over"
        return Outcome(message, fitted, failure, used)
