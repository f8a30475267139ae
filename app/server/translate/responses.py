"""``/v1/responses``: its items as a conversation, the pieces of an answer as items and events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from app.server.conversation import Choice, Spoken, Talk, Wanted
from app.server.errors import Refusal
from app.server.schemas import responses as wire
from app.server.schemas.chat import TextFormat
from app.server.translate.chat import ANY_OBJECT, Told, known_names, logprob_of, new_id, with_system
from app.store import ChatDefaults
from runtime.engine.answers.pieces import CallArguments, CallStart, Content, Reasoning
from runtime.engine.grammar import schema_grammar
from runtime.engine.messages import Grammar, SamplingParams


def talk_of(request: wire.ResponseRequest, items: Sequence[dict[str, Any]], defaults: ChatDefaults) -> Talk:
    """The conversation of a request whose ``items`` are those of earlier responses and its own."""
    messages = messages_of(items)
    if request.instructions is not None:
        messages.insert(0, {"role": "system", "content": request.instructions})
    sampling = {
        name: value for name in ("temperature", "top_p") if (value := getattr(request, name)) is not None
    }
    if defaults.temperature is not None:
        sampling.setdefault("temperature", defaults.temperature)
    tools = [tool_of(tool, f"tools[{at}]") for at, tool in enumerate(request.tools or ())]
    choice, names = choice_of(request, tools)
    wanted = Wanted(
        sampling=SamplingParams(**sampling),
        max_tokens=request.max_output_tokens,
        logprobs=request.top_logprobs,
        grammar=grammar_of(request.text),
        streams=bool(request.stream),
    )
    effort = request.reasoning.effort if request.reasoning else None
    return Talk(
        messages=with_system(messages, defaults),
        wanted=wanted,
        tools=tools,
        choice=choice,
        callable=names,
        parallel=request.parallel_tool_calls is not False,
        variables={} if effort is None else {"reasoning_effort": effort},
        truncates=request.truncation == "auto",
    )


def refuse_unserved(request: wire.ResponseRequest) -> None:
    """Raise Refusal for what would silently be left out otherwise."""
    for name in ("background", "conversation", "prompt"):
        if getattr(request, name):
            raise Refusal(400, f"{name} is not served", code="unsupported", param=name)


def items_of(request: wire.ResponseRequest) -> list[dict[str, Any]]:
    """The items of a request, each with its type. Raises Refusal."""
    if isinstance(request.input, str):
        return [{"type": "message", "role": "user", "content": request.input}]
    items = []
    for at, item in enumerate(request.input):
        typed = item if "type" in item else {"type": "message", **item}
        try:
            msgspec.convert(typed, wire.InputItem)
        except msgspec.ValidationError as error:
            text, _, place = str(error).partition(" - at `$")
            param = f"input[{at}]{place.rstrip('`')}"
            raise Refusal(400, f"{param}: {text}", code="invalid_type", param=param) from None
        items.append(typed)
    return items


def messages_of(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items as messages: what an assistant said and called in a row is one message."""
    messages: list[dict[str, Any]] = []

    def assistant() -> dict[str, Any]:
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": ""})
        return messages[-1]

    for at, raw in enumerate(items):
        field = f"input[{at}]"
        match msgspec.convert(raw, wire.InputItem):
            case wire.MessageItem(role="assistant", content=content):
                turn = assistant()
                turn["content"] = "\n".join(filter(None, [turn["content"], text_of(content, field)]))
            case wire.MessageItem(role=role, content=content):
                messages.append({"role": role, "content": text_of(content, field)})
            case wire.FunctionCallItem(call_id=identifier, name=name, arguments=arguments):
                function = {"name": name, "arguments": arguments}
                assistant().setdefault("tool_calls", []).append(
                    {"id": identifier, "type": "function", "function": function}
                )
            case wire.FunctionOutputItem(call_id=identifier, output=output):
                messages.append(
                    {"role": "tool", "tool_call_id": identifier, "content": text_of(output, field)}
                )
            case wire.ReasoningItem(content=thoughts, summary=summary):
                text = "\n".join(part.text for part in thoughts or summary or ())
                if text:
                    messages.append({"role": "assistant", "content": "", "reasoning_content": text})
            case wire.ItemReference():
                raise Refusal(
                    400, f"{field} refers to an item, which is not served; send the item",
                    code="unsupported", param=field,
                )  # fmt: skip
    return messages


def text_of(content: str | Sequence[wire.InputPart], field: str) -> str:
    """A content as one text; of its parts only texts can be read."""
    if isinstance(content, str):
        return content
    parts = []
    for at, part in enumerate(content):
        match part:
            case wire.InputText(text=text) | wire.OutputTextPart(text=text):
                parts.append(text)
            case wire.RefusalPart(refusal=text):
                parts.append(text)
            case _:
                kind = part.__struct_config__.tag
                raise Refusal(
                    400, f"{field}.content[{at}] is of type {kind!r}; this server reads text only",
                    code="unsupported_content", param=f"{field}.content[{at}].type",
                )  # fmt: skip
    return "\n".join(parts)


def tool_of(tool: dict[str, Any], field: str) -> dict[str, Any]:
    """A function, as templates know it. Raises Refusal for the tools that OpenAI runs itself."""
    if tool.get("type") != "function":
        raise Refusal(
            400, f"{field} is of type {tool.get('type')!r}; only functions are served", code="unsupported",
            param=f"{field}.type",
        )  # fmt: skip
    name = tool.get("name")
    if not isinstance(name, str) or not name or len(name) > 128:
        raise Refusal(400, f"{field}.name must be a text", code="invalid_type", param=f"{field}.name")
    function: dict[str, Any] = {"name": name}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    function["parameters"] = tool.get("parameters") or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def choice_of(
    request: wire.ResponseRequest, tools: Sequence[dict[str, Any]]
) -> tuple[Choice, tuple[str, ...] | None]:
    """Whether a tool has to be called, and which may be."""
    known = {tool["function"]["name"] for tool in tools}
    match request.tool_choice:
        case None:
            return "auto", None
        case "none" | "auto" as mode:
            return mode, None
        case "required":
            names: tuple[str, ...] = tuple(known)
            mode = "required"
        case wire.NamedFunction(name=name):
            names, mode = (name,), "required"
        case wire.Allowed(tools=allowed, mode=mode):
            names = tuple(str(tool.get("name", "")) for tool in allowed)
    return mode, known_names(names, known)


def grammar_of(text: wire.TextOptions | None) -> Grammar | None:
    """The grammar of a format."""
    match text.format if text else None:
        case wire.JsonObjectFormat():
            return schema_grammar(ANY_OBJECT, "text.format")
        case wire.JsonSchemaFormat(schema=schema):
            return schema_grammar(schema, "text.format.schema")
        case TextFormat() | None:
            return None


class Writer:
    """Makes items and events of one answer's pieces. One item is open at a time."""

    def __init__(self, request: wire.ResponseRequest, model: str, truncated: int) -> None:
        self.told = Told()
        self._request = request
        self._number = 0
        self._done: list[wire.OutputItem] = []
        self._kind: type[Content] | type[Reasoning] | type[CallStart] | None = None
        self._item = ""
        self._call = ("", "")
        self._text: list[str] = []
        self._logprobs: list[Any] = []
        chosen = request.tool_choice
        self._base = wire.Response(
            id=new_id("resp").replace("-", "_"),
            created_at=int(time.time()),
            model=model,
            status="in_progress",
            output=[],
            tools=list(request.tools or ()),
            tool_choice=chosen
            if isinstance(chosen, str)
            else msgspec.to_builtins(chosen)
            if chosen
            else "auto",
            parallel_tool_calls=request.parallel_tool_calls is not False,
            text=msgspec.to_builtins(request.text) if request.text else {"format": {"type": "text"}},
            truncation=request.truncation or "disabled",
            store=request.store is not False,
            temperature=request.temperature,
            top_p=request.top_p,
            instructions=request.instructions,
            max_output_tokens=request.max_output_tokens,
            previous_response_id=request.previous_response_id,
            metadata=request.metadata or {},
            truncated_messages=truncated,
        )

    @property
    def id(self) -> str:
        return self._base.id

    def begin(self) -> Iterator[wire.ResponseEvent]:
        """The first events."""
        yield self._event("response.created", response=self._base)
        yield self._event("response.in_progress", response=self._base)

    def take(self, spoken: Spoken) -> Iterator[wire.ResponseEvent]:
        """The events of what came."""
        self.told.take(spoken)
        logprobs = [] if spoken.is_reasoning else [
            msgspec.to_builtins(logprob_of(entry)) for entry in spoken.logprobs
        ]  # fmt: skip
        for piece in spoken.pieces:
            match piece:
                case Content(text=text):
                    yield from self._open(Content)
                    self._text.append(text)
                    self._logprobs += logprobs
                    yield self._in_item("response.output_text.delta", delta=text, logprobs=logprobs)
                    logprobs = []
                case Reasoning(text=text):
                    yield from self._open(Reasoning)
                    self._text.append(text)
                    yield self._in_item("response.reasoning_text.delta", delta=text)
                case CallStart(name=name):
                    yield from self._close()
                    started = sum(isinstance(each, CallStart) for each in spoken.pieces)
                    position = len(self.told.calls) - started + self._calls_before(spoken, piece)
                    self._call = (self.told.calls[position][0], name)
                    yield from self._open(CallStart)
                case CallArguments(text=text):
                    self._text.append(text)
                    yield self._in_item("response.function_call_arguments.delta", delta=text, inside=False)

    def end(self) -> Iterator[wire.ResponseEvent]:
        """The last events."""
        yield from self._close()
        response = self.response()
        yield self._event(f"response.{response.status}", response=response)

    def fail(self, refusal: Refusal) -> Iterator[wire.ResponseEvent]:
        """The last event of an answer that broke off."""
        fault = wire.ResponseFault(code="server_error", message=refusal.message)
        broken = msgspec.structs.replace(self._base, status="failed", error=fault, output=self._done)
        yield self._event("response.failed", response=broken)

    def response(self) -> wire.Response:
        """The whole response; all pieces have been taken."""
        for _ in self._close():
            pass
        finished = self.told.finished
        cut = self.told.reason == "length"
        usage = None
        if finished is not None:
            counts = finished.usage
            usage = wire.ResponseUsage(
                input_tokens=counts.prompt_tokens,
                output_tokens=counts.output_tokens,
                total_tokens=counts.prompt_tokens + counts.output_tokens,
                input_tokens_details=wire.InputDetails(cached_tokens=counts.cached_tokens),
                output_tokens_details=wire.OutputDetails(reasoning_tokens=self.told.reasoning_tokens),
            )
        return msgspec.structs.replace(
            self._base,
            status="incomplete" if cut else "completed",
            incomplete_details=wire.Incomplete(reason="max_output_tokens") if cut else None,
            output=list(self._done),
            usage=usage,
        )

    # -- inside ---------------------------------------------------------------------------------------------

    def _calls_before(self, spoken: Spoken, piece: CallStart) -> int:
        calls = [each for each in spoken.pieces if isinstance(each, CallStart)]
        return next(at for at, each in enumerate(calls) if each is piece)

    def _open(self, kind: Any) -> Iterator[wire.ResponseEvent]:
        if self._kind is kind and kind is not CallStart:
            return
        yield from self._close()
        self._kind, self._text, self._logprobs = kind, [], []
        prefix = {Content: "msg", Reasoning: "rs", CallStart: "fc"}[kind]
        self._item = new_id(prefix).replace("-", "_")
        yield self._event(
            "response.output_item.added", output_index=len(self._done), item=self._current("in_progress")
        )
        if kind is not CallStart:
            yield self._in_item("response.content_part.added", part=self._part(""))

    def _close(self) -> Iterator[wire.ResponseEvent]:
        if self._kind is None:
            return
        text = "".join(self._text)
        if self._kind is CallStart:
            yield self._in_item(
                "response.function_call_arguments.done", arguments=text, name=self._call[1], inside=False
            )
        elif self._kind is Content:
            yield self._in_item("response.output_text.done", text=text, logprobs=self._logprobs)
            yield self._in_item("response.content_part.done", part=self._part(text))
        else:
            yield self._in_item("response.reasoning_text.done", text=text)
            yield self._in_item("response.content_part.done", part=self._part(text))
        item = self._current("completed")
        yield self._event("response.output_item.done", output_index=len(self._done), item=item)
        self._done.append(item)
        self._kind = None

    def _part(self, text: str) -> wire.OutputText | wire.ReasoningContent:
        if self._kind is Content:
            return wire.OutputText(text=text, logprobs=self._logprobs if text else [])
        return wire.ReasoningContent(text=text)

    def _current(self, status: Any) -> wire.OutputItem:
        text = "".join(self._text)
        if self._kind is CallStart:
            return wire.OutputCall(
                id=self._item, call_id=self._call[0], name=self._call[1], arguments=text, status=status
            )
        begun = status != "in_progress"
        if self._kind is Content:
            parts = [wire.OutputText(text=text, logprobs=self._logprobs)] if begun else []
            return wire.OutputMessage(id=self._item, status=status, content=parts)
        thoughts = [wire.ReasoningContent(text=text)] if begun else []
        return wire.OutputReasoning(id=self._item, status=status, content=thoughts)

    def _in_item(self, kind: str, *, inside: bool = True, **fields: Any) -> wire.ResponseEvent:
        if inside:
            fields["content_index"] = 0
        return self._event(kind, item_id=self._item, output_index=len(self._done), **fields)

    def _event(self, kind: str, **fields: Any) -> wire.ResponseEvent:
        event = wire.ResponseEvent(type=kind, sequence_number=self._number, **fields)
        self._number += 1
        return event


def output_as_input(output: Sequence[wire.OutputItem]) -> list[dict[str, Any]]:
    """The items of a response, for the next one."""
    return json.loads(msgspec.json.encode(output))  # type: ignore[no-any-return]
