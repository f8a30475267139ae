"""``/v1/chat/completions``: its request as a :class:`Talk`, the pieces of answers as its objects."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.server.conversation import Choice, Spoken, Talk
from app.server.errors import Refusal
from app.server.schemas import chat
from app.server.schemas.base import CompletionTokensDetails, Finish, PromptTokensDetails, Timings, Usage
from app.server.translate.sampling import seconds_to_ms, wanted_of
from app.store import ChatDefaults
from app.version import VERSION
from runtime.engine.answers.pieces import CallArguments, CallStart, Content, Reasoning
from runtime.engine.grammar import schema_grammar
from runtime.engine.messages import FinishedEvent, Grammar, TokenLogprob

FINGERPRINT = f"localq-{VERSION}"
ANY_OBJECT = {"type": "object"}


def talk_of(request: chat.ChatRequest, defaults: ChatDefaults) -> Talk:
    """The conversation of a request; the model's ``defaults`` stand where it says nothing.

    Raises Refusal and InvalidRequest for what cannot be served.
    """
    refuse_unserved(request)
    choice, callable_names = choice_of(request)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    if request.top_logprobs is not None and not request.logprobs:
        raise Refusal(
            400, "top_logprobs needs logprobs to be true", code="invalid_value", param="top_logprobs"
        )
    wanted = wanted_of(
        request,
        defaults.temperature,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        logprobs=logprobs,
        count=request.n or 1,
        streams=bool(request.stream),
    )
    grammar = format_grammar(request.response_format) or wanted.grammar
    variables = dict(request.chat_template_kwargs or {})
    if request.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", request.reasoning_effort)
    return Talk(
        messages=with_system(
            [message_of(message, f"messages[{at}]") for at, message in enumerate(request.messages)], defaults
        ),
        wanted=type(wanted)(**{**vars(wanted), "grammar": grammar}),
        tools=[tool_of(tool) for tool in request.tools or ()],
        choice=choice,
        callable=callable_names,
        parallel=request.parallel_tool_calls is not False,
        variables=variables,
        truncates=request.truncation == "auto",
    )


def refuse_unserved(request: chat.ChatRequest) -> None:
    """Raise Refusal for what would silently be left out otherwise."""
    if request.chat_template is not None:
        raise Refusal(
            400, "a request cannot bring a chat template; the model's own is used", code="unsupported",
            param="chat_template",
        )  # fmt: skip
    if request.functions:
        raise Refusal(400, "functions are deprecated; send tools", code="unsupported", param="functions")
    if request.modalities and request.modalities != ["text"]:
        raise Refusal(400, "this server writes text only", code="unsupported", param="modalities")


def with_system(messages: list[dict[str, Any]], defaults: ChatDefaults) -> list[dict[str, Any]]:
    """The conversation, behind the model's own system prompt where it brings none."""
    if defaults.system is None or any(message["role"] in ("system", "developer") for message in messages):
        return messages
    return [{"role": "system", "content": defaults.system}, *messages]


def message_of(message: chat.Message, field: str) -> dict[str, Any]:
    """A message as the engine takes it."""
    turn: dict[str, Any] = {"role": message.role, "content": content_of(message.content, f"{field}.content")}
    if turn["content"] is None and message.refusal is not None:
        turn["content"] = message.refusal
    for name in ("name", "tool_call_id", "reasoning_content"):
        if (value := getattr(message, name)) is not None:
            turn[name] = value
    if message.tool_calls:
        turn["tool_calls"] = [msgspec.to_builtins(call) for call in message.tool_calls]
    if message.content is None and message.refusal is None and not message.tool_calls:
        if message.role != "assistant":
            raise Refusal(400, f"{field}.content is missing", code="missing_field", param=f"{field}.content")
        turn["content"] = ""
    return turn


def content_of(content: str | Sequence[chat.Part] | None, field: str) -> str | list[dict[str, str]] | None:
    """A content; of its parts only texts can be read."""
    if content is None or isinstance(content, str):
        return content
    parts = []
    for at, part in enumerate(content):
        match part:
            case chat.TextPart():
                parts.append({"type": "text", "text": part.text})
            case chat.RefusalPart():
                parts.append({"type": "text", "text": part.refusal})
            case _:
                kind = part.__struct_config__.tag
                raise Refusal(
                    400, f"{field}[{at}] is of type {kind!r}; this server reads text only",
                    code="unsupported_content", param=f"{field}[{at}].type",
                )  # fmt: skip
    return parts


def tool_of(tool: chat.Tool) -> dict[str, Any]:
    """A tool as templates know it."""
    function: dict[str, Any] = {"name": tool.function.name}
    if tool.function.description is not None:
        function["description"] = tool.function.description
    function["parameters"] = tool.function.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def choice_of(request: chat.ChatRequest) -> tuple[Choice, tuple[str, ...] | None]:
    """Whether a tool has to be called, and which may be."""
    known = {tool.function.name for tool in request.tools or ()}
    match request.tool_choice:
        case None:
            return "auto", None
        case "none":
            return "none", None
        case "auto":
            return "auto", None
        case "required":
            if not known:
                raise Refusal(
                    400, "tool_choice is 'required', but there are no tools", code="invalid_value",
                    param="tool_choice",
                )  # fmt: skip
            return "required", None
        case chat.NamedTool(function=function):
            names: tuple[str, ...] = (function.name,)
            mode: Choice = "required"
        case chat.AllowedToolsChoice(allowed_tools=allowed):
            names = tuple(str((tool.get("function") or tool).get("name", "")) for tool in allowed.tools)
            mode = allowed.mode
    return mode, known_names(names, known)


def known_names(names: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """The names of tools that may be called. Raises Refusal for one that is unknown, and for none."""
    found = tuple(names)
    unknown = next((name for name in found if name not in known), None)
    if unknown is not None or not found:
        which = "no tool" if unknown is None else f"the tool {unknown[:80]!r}, which is not in tools"
        raise Refusal(400, f"tool_choice names {which}", code="invalid_value", param="tool_choice")
    return found


def format_grammar(
    asked: chat.TextFormat | chat.JsonObjectFormat | chat.JsonSchemaFormat | None,
) -> Grammar | None:
    """The grammar of a response format."""
    match asked:
        case chat.JsonObjectFormat():
            return schema_grammar(ANY_OBJECT if asked.schema is None else asked.schema, "response_format")
        case chat.JsonSchemaFormat():
            return schema_grammar(asked.json_schema.schema, "response_format.json_schema.schema")
        case _:
            return None


# -- answers --------------------------------------------------------------------------------------------


@dataclass
class Told:
    """What one answer has said so far."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """Id, name, pieces of the arguments."""
    logprobs: list[chat.TokenLogprob] = field(default_factory=list)
    tokens: int = 0
    reasoning_tokens: int = 0
    finished: FinishedEvent | None = None

    def take(self, spoken: Spoken) -> None:
        """Add what an event brought."""
        self.tokens += spoken.tokens
        if spoken.is_reasoning:
            self.reasoning_tokens += spoken.tokens
        else:
            self.logprobs += map(logprob_of, spoken.logprobs)
        for piece in spoken.pieces:
            match piece:
                case Content(text=text):
                    self.content.append(text)
                case Reasoning(text=text):
                    self.reasoning.append(text)
                case CallStart(name=name, id=identifier):
                    self.calls.append((identifier or new_id("call"), name, []))
                case CallArguments(text=text):
                    self.calls[-1][2].append(text)
        if spoken.finished is not None:
            self.finished = spoken.finished

    @property
    def text(self) -> str:
        """The content; what stands before a call is often only layout."""
        text = "".join(self.content)
        return text.rstrip() if self.calls else text

    @property
    def reason(self) -> Finish:
        """Why the answer ended, in OpenAI's words."""
        if self.finished is not None and self.finished.reason == "length":
            return "length"
        return "tool_calls" if self.calls else "stop"


def completion_of(
    identifier: str,
    created: int,
    model: str,
    told: Sequence[Told],
    *,
    logprobs: bool,
    truncated: int,
) -> chat.ChatCompletion:
    """The whole answer."""
    choices = []
    for index, each in enumerate(told):
        calls = [
            chat.ToolCallAnswer(id=call_id, function=chat.FunctionAnswer(name=name, arguments="".join(parts)))
            for call_id, name, parts in each.calls
        ]
        message = chat.ChatAnswer(
            content=each.text or (None if calls else ""),
            reasoning_content="".join(each.reasoning) if each.reasoning else msgspec.UNSET,
            tool_calls=calls or msgspec.UNSET,
        )
        choices.append(
            chat.Choice(
                index=index,
                message=message,
                finish_reason=each.reason,
                logprobs=chat.Logprobs(content=each.logprobs) if logprobs else None,
            )
        )
    return chat.ChatCompletion(
        id=identifier,
        created=created,
        model=model,
        choices=choices,
        usage=usage_of(told),
        timings=timings_of(told),
        system_fingerprint=FINGERPRINT,
        truncated_messages=truncated,
    )


def deltas_of(spoken: Spoken, told: Told, *, logprobs: bool) -> Iterable[chat.ChunkChoice]:
    """The changes that an event makes; ``told`` has taken it already."""
    probabilities = None
    if logprobs and spoken.logprobs and not spoken.is_reasoning:
        probabilities = chat.Logprobs(content=[logprob_of(each) for each in spoken.logprobs])
    started = sum(isinstance(piece, CallStart) for piece in spoken.pieces)
    call = len(told.calls) - started - 1
    for piece in spoken.pieces:
        match piece:
            case Content(text=text):
                delta = chat.Delta(content=text)
            case Reasoning(text=text):
                delta = chat.Delta(reasoning_content=text)
            case CallStart(name=name):
                call += 1
                function = chat.FunctionDelta(name=name, arguments="")
                first = chat.ToolCallDelta(
                    index=call, id=told.calls[call][0], type="function", function=function
                )
                delta = chat.Delta(tool_calls=[first])
            case CallArguments(text=text):
                more = chat.ToolCallDelta(index=call, function=chat.FunctionDelta(arguments=text))
                delta = chat.Delta(tool_calls=[more])
        yield chat.ChunkChoice(index=spoken.index, delta=delta, logprobs=probabilities)
        probabilities = None
    if probabilities is not None:
        yield chat.ChunkChoice(index=spoken.index, delta=chat.Delta(), logprobs=probabilities)
    if spoken.finished is not None:
        yield chat.ChunkChoice(index=spoken.index, delta=chat.Delta(), finish_reason=told.reason)


def usage_of(told: Sequence[Told]) -> Usage:
    """The counts of all answers; the prompt counts once."""
    ends = [each.finished for each in told if each.finished is not None]
    prompt = ends[0].usage.prompt_tokens if ends else 0
    cached = min((end.usage.cached_tokens for end in ends[:1]), default=0)
    output = sum(end.usage.output_tokens for end in ends)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=output,
        total_tokens=prompt + output,
        prompt_tokens_details=PromptTokensDetails(
            cached_tokens=cached, disk_tokens=ends[0].usage.disk_tokens if ends else 0
        ),
        completion_tokens_details=CompletionTokensDetails(
            reasoning_tokens=sum(each.reasoning_tokens for each in told)
        ),
    )


def sum_of(usages: Sequence[Usage]) -> Usage:
    """The counts of several prompts and their answers."""
    cached = sum(each.prompt_tokens_details.cached_tokens for each in usages)
    reasoning = sum(each.completion_tokens_details.reasoning_tokens for each in usages)
    return Usage(
        prompt_tokens=sum(each.prompt_tokens for each in usages),
        completion_tokens=sum(each.completion_tokens for each in usages),
        total_tokens=sum(each.total_tokens for each in usages),
        prompt_tokens_details=PromptTokensDetails(
            cached_tokens=cached,
            disk_tokens=sum(each.prompt_tokens_details.disk_tokens for each in usages),
        ),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=reasoning),
    )


def timings_of(told: Sequence[Told]) -> Timings:
    """The times of the first answer."""
    end = next((each.finished for each in told if each.finished is not None), None)
    if end is None:
        return Timings(queue_ms=0, prompt_ms=0, prompt_per_second=0, predicted_ms=0, predicted_per_second=0)
    times, usage = end.timings, end.usage
    read = usage.prompt_tokens - usage.cached_tokens
    return Timings(
        queue_ms=seconds_to_ms(times.queue_seconds),
        prompt_ms=seconds_to_ms(times.prefill_seconds),
        prompt_per_second=round(read / times.prefill_seconds, 2) if times.prefill_seconds > 0 else 0.0,
        predicted_ms=seconds_to_ms(times.decode_seconds),
        predicted_per_second=round(times.decode_tokens_per_second(usage.output_tokens), 2),
    )


def logprob_of(entry: tuple[TokenLogprob, ...]) -> chat.TokenLogprob:
    """A token's own log probability and the likeliest ones."""
    chosen, *likeliest = entry
    return chat.TokenLogprob(
        token=chosen.text.decode("utf-8", "replace"),
        logprob=chosen.logprob,
        bytes=list(chosen.text),
        top_logprobs=[
            chat.TopLogprob(
                token=each.text.decode("utf-8", "replace"), logprob=each.logprob, bytes=list(each.text)
            )
            for each in likeliest
        ],
    )


def new_id(kind: str) -> str:
    """An identifier that nobody else has."""
    return f"{kind}_{secrets.token_hex(12)}" if kind == "call" else f"{kind}-{secrets.token_hex(12)}"
