"""A model that a ``localq serve`` of this machine has in memory already: asked there, not loaded twice."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from app.errors import ServerUnreachable
from app.server.local_client import ask, connect, events
from app.server.running import RunningServer, running_servers
from runtime.engine.messages import (
    Event,
    FinishedEvent,
    Prompt,
    SamplingParams,
    Timings,
    TokenEvent,
    Usage,
)
from runtime.errors import EngineError, WorkerDied

ASKING_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 600.0
"""Without a word of an answer: it may wait for its turn."""
ENDING_TOKENS: Final = 16
SENT: Final = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "repeat_last_n",
    "frequency_penalty", "presence_penalty", "dry_multiplier", "dry_base", "dry_allowed_length",
    "xtc_probability", "xtc_threshold", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class Served:
    """A model in the memory of a server. ``pid`` is its worker's."""

    server: RunningServer
    name: str
    context_tokens: int
    pid: int | None


class ServedPrompt(Prompt, frozen=True):
    """A conversation as the server's template renders it; ``text`` is its end only."""

    tokens: tuple[int, ...] = ()
    begun: str = ""
    """Of the answer, which goes on behind it."""


def find_served(home: Path, name: str) -> Served | None:
    """The model, if a server of this store has it loaded now. Servers that do not answer are passed over."""
    for server in running_servers(home):
        try:
            models = ask(server, "GET", "/v1/running")["models"]
        except (ServerUnreachable, KeyError, TypeError):
            continue
        for model in models:
            if model["id"] == name:
                return Served(server, name, model["context_length"], model["pid"])
    return None


class ServedEngine:
    """The part of an engine that the app needs, over HTTP. ``alive`` until the server is gone."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.alive = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        return self.served.pid

    def close(self) -> None:
        """The model stays where it is."""

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, variables: Mapping[str, Any] | None = None
    ) -> Prompt:
        """The conversation in the server's template."""
        asked: dict[str, Any] = {"messages": list(messages)}
        if variables:
            asked["chat_template_kwargs"] = dict(variables)
        tokens = tuple(self._ask("/tokenize", asked)["tokens"])
        end = self._ask("/detokenize", {"tokens": tokens[-ENDING_TOKENS:]})["content"] if tokens else ""
        return ServedPrompt(end, tokens=tokens)

    def tokenize(self, prompt: Prompt) -> tuple[int, ...]:
        """Of a prompt that :meth:`render` gave, or of a text."""
        if isinstance(prompt, ServedPrompt):
            begun = self._text_tokens(prompt.begun) if prompt.begun else ()
            return (*prompt.tokens, *begun)
        asked = {"add_special": prompt.add_special, "parse_special": prompt.parse_special}
        return tuple(self._ask("/tokenize", {"content": prompt.text, **asked})["tokens"])

    def submit(
        self,
        prompt: Prompt | Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        **options: Any,
    ) -> ServedGeneration:
        """An answer under way."""
        tokens = self.tokenize(prompt) if isinstance(prompt, Prompt) else tuple(prompt)
        chosen = sampling or SamplingParams()
        body = {name: getattr(chosen, name) for name in SENT if getattr(chosen, name) is not None}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        return ServedGeneration(self, tokens, {**body, **self._model})

    def _text_tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self._ask("/tokenize", {"content": text, "parse_special": False})["tokens"])

    @property
    def _model(self) -> dict[str, Any]:
        return {"model": self.served.name}

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        try:
            return ask(self.served.server, "POST", path, {**body, **self._model}, ASKING_SECONDS)
        except ServerUnreachable as error:
            raise self.failed(error) from error

    def failed(self, error: ServerUnreachable) -> EngineError:
        """What is told to the person; after the end of the server, that it is gone."""
        if self.served.server.alive:
            return EngineError(str(error))
        self.alive = False
        return WorkerDied(f"the server at {self.served.server.url} ended, and the model with it")


class ServedGeneration:
    """One answer: events until its end."""

    def __init__(self, engine: ServedEngine, tokens: tuple[int, ...], body: dict[str, Any]) -> None:
        self._engine = engine
        self._tokens = tokens
        self._body = {
            **body,
            "prompt": [list(tokens)],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        self._connection: http.client.HTTPConnection = connect(engine.served.server, ANSWER_SECONDS)
        self._cancelled = False

    def cancel(self) -> None:
        """The server ends an answer that nobody listens to."""
        self._cancelled = True
        with suppress(OSError, AttributeError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)

    def __iter__(self) -> Iterator[Event]:
        count, reason, usage = 0, "stop", Usage(prompt_tokens=len(self._tokens))
        timings = Timings()
        try:
            for event in events(self._connection, self._engine.served.server, "/v1/completions", self._body):
                if self._cancelled:
                    break
                for choice in event["choices"]:
                    reason = choice["finish_reason"] or reason
                    if choice["text"]:
                        count += 1
                        yield TokenEvent(id=0, text=choice["text"], tokens=(count,))
                if event.get("usage"):
                    usage, timings = _usage(event["usage"]), _timings(event.get("timings") or {})
        except ServerUnreachable as error:
            if not self._cancelled:
                raise self._engine.failed(error) from error
        finally:
            self._connection.close()
        if self._cancelled:
            reason, usage = "cancelled", msgspec.structs.replace(usage, output_tokens=count)
        yield FinishedEvent(
            id=0,
            reason="cancelled" if self._cancelled else "length" if reason == "length" else "stop",
            usage=usage,
            timings=timings,
        )


def continued(prompt: ServedPrompt, begun: str) -> ServedPrompt:
    """With the beginning of an answer behind it."""
    return msgspec.structs.replace(prompt, begun=begun)


def _usage(told: Mapping[str, Any]) -> Usage:
    details = told.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=told["prompt_tokens"],
        cached_tokens=details.get("cached_tokens", 0),
        output_tokens=told["completion_tokens"],
    )


def _timings(told: Mapping[str, Any]) -> Timings:
    return Timings(
        queue_seconds=told.get("queue_ms", 0.0) / 1000,
        prefill_seconds=told.get("prompt_ms", 0.0) / 1000,
        decode_seconds=told.get("predicted_ms", 0.0) / 1000,
    )
