"""Anthropic's ``/v1/messages``: its blocks as a conversation, the pieces of an answer as blocks and
events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from app.server.conversation import Choice, Spoken, Talk, Wanted
from app.server.errors import Refusal
from app.server.schemas import messages as wire
from app.server.translate.chat import Told, known_names, new_id, with_system
from app.store import ChatDefaults
from runtime.engine.answers.pieces import CallArguments, CallStart, Content, Piece, Reasoning
from runtime.engine.messages import FinishedEvent, SamplingParams

FAULTS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def talk_of(request: wire.CountRequest, defaults: ChatDefaults) -> Talk:
    """The conversation of a request."""
    messages: list[dict[str, Any]] = []
    if request.system is not None:
        system = request.system
        text = system if isinstance(system, str) else "\n".join(block.text for block in system)
        messages.append({"role": "system", "content": text})
    for at, turn in enumerate(request.messages):
        messages += turns_of(turn, f"messages[{at}]")
    tools = [tool_of(tool) for tool in request.tools or ()]
    choice, names = choice_of(request)
    wanted = wanted_of(request, defaults) if isinstance(request, wire.MessagesRequest) else Wanted()
    thinking = request.thinking
    variables = {} if thinking is None else {"enable_thinking": thinking.type != "disabled"}
    parallel = request.tool_choice is None or not request.tool_choice.disable_parallel_tool_use
    return Talk(
        messages=with_system(messages, defaults),
        wanted=wanted,
        tools=tools,
        choice=choice,
        callable=names,
        parallel=parallel,
        variables=variables,
    )


def wanted_of(request: wire.MessagesRequest, defaults: ChatDefaults) -> Wanted:
    """How the answer is made."""
    given = {
        name: value
        for name in ("temperature", "top_p", "top_k")
        if (value := getattr(request, name)) is not None
    }
    if defaults.temperature is not None:
        given.setdefault("temperature", defaults.temperature)
    return Wanted(
        sampling=SamplingParams(**given),
        max_tokens=request.max_tokens,
        stop=tuple(request.stop_sequences or ()),
        streams=bool(request.stream),
    )


def turns_of(turn: wire.Turn, field: str) -> list[dict[str, Any]]:
    """One turn: results of tools are messages of their own."""
    if isinstance(turn.content, str):
        return [{"role": turn.role, "content": turn.content}]
    message: dict[str, Any] = {"role": turn.role, "content": ""}
    results: list[dict[str, Any]] = []
    texts: list[str] = []
    for at, block in enumerate(turn.content):
        match block:
            case wire.TextBlock(text=text):
                texts.append(text)
            case wire.ThinkingBlock(thinking=text):
                message["reasoning_content"] = message.get("reasoning_content", "") + text
            case wire.RedactedBlock():
                pass
            case wire.ToolUseBlock(id=identifier, name=name, input=arguments):
                function = {"name": name, "arguments": arguments}
                message.setdefault("tool_calls", []).append(
                    {"id": identifier, "type": "function", "function": function}
                )
            case wire.ToolResultBlock(tool_use_id=identifier, content=content):
                text = result_text(content, f"{field}.content[{at}]")
                results.append({"role": "tool", "tool_call_id": identifier, "content": text})
            case _:
                raise unreadable(f"{field}.content[{at}]", block)
    message["content"] = "\n".join(texts)
    spoken = texts or message.get("tool_calls") or not results
    return [*results, message] if spoken else results


def result_text(content: str | Sequence[Any] | None, field: str) -> str:
    """What a tool gave."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = []
    for at, block in enumerate(content):
        if not isinstance(block, wire.TextBlock):
            raise unreadable(f"{field}.content[{at}]", block)
        parts.append(block.text)
    return "\n".join(parts)


def unreadable(field: str, block: Any) -> Refusal:
    """The error for what is no text."""
    kind = block.__struct_config__.tag
    return Refusal(
        400, f"{field} is of type {kind!r}; this server reads text only", code="unsupported", param=field
    )


def tool_of(tool: wire.MessagesTool) -> dict[str, Any]:
    """A tool, as templates know it. Raises Refusal for those that Anthropic runs itself."""
    if tool.type not in (None, "custom"):
        raise Refusal(400, f"the tool {tool.type!r} is not served", code="unsupported", param="tools")
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def choice_of(request: wire.CountRequest) -> tuple[Choice, tuple[str, ...] | None]:
    """Whether a tool has to be called, and which may be."""
    chosen = request.tool_choice
    if chosen is None or chosen.type == "auto":
        return "auto", None
    if chosen.type == "none":
        return "none", None
    known = {tool.name for tool in request.tools or ()}
    return "required", known_names(known if chosen.type == "any" else [chosen.name or ""], known)


class Writer:
    """Makes blocks and events of one answer's pieces."""

    def __init__(self, model: str, prompt_tokens: int) -> None:
        self.told = Told()
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._id = new_id("msg").replace("-", "_")
        self._blocks: list[wire.AnswerBlock] = []
        self._kind: type[Content] | type[Reasoning] | type[CallStart] | None = None
        self._text: list[str] = []
        self._calls = 0

    def begin(self) -> Iterator[wire.MessageEvent]:
        """The first event."""
        empty = wire.MessageAnswer(
            id=self._id,
            model=self._model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=wire.MessagesUsage(input_tokens=self._prompt_tokens, output_tokens=0),
        )
        yield wire.MessageEvent(type="message_start", message=empty)

    def take(self, spoken: Spoken) -> Iterator[wire.MessageEvent]:
        """The events of what came."""
        self.told.take(spoken)
        for piece in spoken.pieces:
            yield from self._piece(piece)

    def end(self) -> Iterator[wire.MessageEvent]:
        """The last events."""
        yield from self._close()
        answer = self.answer()
        yield wire.MessageEvent(
            type="message_delta",
            delta={"stop_reason": answer.stop_reason, "stop_sequence": answer.stop_sequence},
            usage=answer.usage,
        )
        yield wire.MessageEvent(type="message_stop")

    def answer(self) -> wire.MessageAnswer:
        """The whole message; all pieces have been taken."""
        for _ in self._close():
            pass
        finished = self.told.finished
        return wire.MessageAnswer(
            id=self._id,
            model=self._model,
            content=self._blocks,
            stop_reason=self._reason(finished),
            stop_sequence=finished.stop_text if finished else None,
            usage=usage_of(finished),
        )

    def _reason(self, finished: FinishedEvent | None) -> Any:
        if self.told.reason == "length":
            return "max_tokens"
        if self.told.reason == "tool_calls":
            return "tool_use"
        return "stop_sequence" if finished is not None and finished.stop_text is not None else "end_turn"

    def _piece(self, piece: Piece) -> Iterator[wire.MessageEvent]:
        match piece:
            case Content(text=text):
                yield from self._open(Content, wire.AnswerText(text=""))
                yield self._delta({"type": "text_delta", "text": text}, text)
            case Reasoning(text=text):
                yield from self._open(Reasoning, wire.AnswerThinking(thinking=""))
                yield self._delta({"type": "thinking_delta", "thinking": text}, text)
            case CallStart(name=name):
                yield from self._close()
                block = wire.AnswerToolUse(id=self.told.calls[self._calls][0], name=name, input={})
                self._calls += 1
                yield from self._open(CallStart, block)
            case CallArguments(text=text):
                yield self._delta({"type": "input_json_delta", "partial_json": text}, text)

    def _open(self, kind: Any, block: wire.AnswerBlock) -> Iterator[wire.MessageEvent]:
        if self._kind is kind and kind is not CallStart:
            return
        yield from self._close()
        self._kind, self._text = kind, []
        self._blocks.append(block)
        yield wire.MessageEvent(type="content_block_start", index=len(self._blocks) - 1, content_block=block)

    def _delta(self, delta: dict[str, Any], text: str) -> wire.MessageEvent:
        self._text.append(text)
        return wire.MessageEvent(type="content_block_delta", index=len(self._blocks) - 1, delta=delta)

    def _close(self) -> Iterator[wire.MessageEvent]:
        if self._kind is None:
            return
        self._kind = None
        text = "".join(self._text)
        match self._blocks[-1]:
            case wire.AnswerText():
                self._blocks[-1] = wire.AnswerText(text=text)
            case wire.AnswerThinking():
                self._blocks[-1] = wire.AnswerThinking(thinking=text)
            case wire.AnswerToolUse(id=identifier, name=name):
                self._blocks[-1] = wire.AnswerToolUse(id=identifier, name=name, input=arguments_of(text))
        yield wire.MessageEvent(type="content_block_stop", index=len(self._blocks) - 1)


def arguments_of(text: str) -> dict[str, Any]:
    """Arguments as an object; those that broke off under a key of their own, so that nothing is lost."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {"partial_json": text}
    return value if isinstance(value, dict) else {"value": value}


def usage_of(finished: FinishedEvent | None) -> wire.MessagesUsage:
    """The counts of an answer."""
    if finished is None:
        return wire.MessagesUsage(input_tokens=0, output_tokens=0)
    counts = finished.usage
    return wire.MessagesUsage(
        input_tokens=counts.prompt_tokens - counts.cached_tokens,
        output_tokens=counts.output_tokens,
        cache_read_input_tokens=counts.cached_tokens,
    )


def fault_of(refusal: Refusal) -> wire.MessagesError:
    """An error in Anthropic's form."""
    kind = FAULTS.get(refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error")
    return wire.MessagesError(error=wire.MessagesFault(type=kind, message=refusal.message))
