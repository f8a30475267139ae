"""Chat templates: a conversation becomes the prompt that the model was trained on.

    template = ChatTemplate(source, bos_text="<s>", eos_text="</s>", control_texts=info.control_texts)
    with TemplateRenderer() as renderer:
        prompt = renderer.render(template, [{"role": "user", "content": "Hello"}])

A template is a program out of a model file. It runs in a process of its own (``process``), which is
killed when it takes too long; what it understands is learnt first (``dialect``); what the user wrote
cannot become a control token through it (``seal``).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from runtime.engine.messages import Prompt
from runtime.engine.templates import wire
from runtime.engine.templates.chat import ChatMessage, read_messages, read_tools, read_variables
from runtime.engine.templates.child import TemplateChild
from runtime.engine.templates.control_text import Piece, split_prompt
from runtime.engine.templates.dialect import Dialect, adapt_messages, adapt_tools, learn_dialect
from runtime.engine.templates.seal import Seal, choose_marks, settle
from runtime.engine.templates.template import ChatTemplate, builtin_template, model_template
from runtime.errors import EngineError, InvalidRequest, TemplateError, TemplateTimeout

__all__ = ["ChatTemplate", "Piece", "TemplateRenderer", "builtin_template", "model_template", "split_prompt"]

LEARNT_TEMPLATES = 64


@dataclass(frozen=True)
class Conversation:
    """What one rendering is of, in the template's words."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    variables: dict[str, Any]

    def sealed(self, seal: Seal) -> Conversation:
        return Conversation(
            [seal.message(message) for message in self.messages],
            [seal.tool(tool) for tool in self.tools],
            {name: seal.variable(value) for name, value in self.variables.items()},
        )


class TemplateRenderer:
    """Renders templates in one child process, started by the first use and again after it had to be killed.

    Thread-safe; renderings follow each other. ``clock`` is what ``strftime_now`` tells a template.
    """

    def __init__(self, *, clock: Callable[[], datetime] = datetime.now) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._child: TemplateChild | None = None
        self._learnt: dict[ChatTemplate, tuple[Dialect, frozenset[str]]] = {}
        self._closed = False
        self._seconds_left = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        child = self._child
        return child.pid if child else None

    def close(self) -> None:
        """End the child process. Rendering afterwards is an error."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
            if child is not None:
                child.close()

    def render(
        self,
        template: ChatTemplate,
        messages: Sequence[Mapping[str, Any] | ChatMessage],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """The prompt for a conversation of OpenAI's shape; ``kwargs`` are more variables for the template.

        Raises InvalidRequest for what is no conversation, TemplateError when the template fails or has no
        place for a part of it, TemplateTimeout for more than ``RENDER_SECONDS`` or ``MEMORY_BYTES``.
        Tools and their results are never dropped silently, and nothing of the user's becomes a control token.
        """
        turns, definitions = read_messages(messages), read_tools(tools)
        variables = read_variables(kwargs or {})
        with self._one_call():
            dialect, names = self._learn(template)
        conversation = Conversation(
            adapt_messages(turns, dialect), adapt_tools(definitions, dialect), variables
        )
        finder = template.finder
        marks = choose_marks(finder, _checked_inputs(template, conversation))
        # Sealing takes a second for megabytes: others have the child meanwhile.
        light, full = (
            conversation.sealed(Seal(finder, marks, template.source, full=whole)) for whole in (False, True)
        )
        with self._one_call():
            text = self._render(template, light, names, add_generation_prompt)
            _check_understood(dialect, turns, definitions)
            if not marks:
                return Prompt(text)
            try:
                guarded = self._render(template, full, names, add_generation_prompt)
            except TemplateTimeout:
                raise
            except TemplateError as error:
                raise _depends_on_letters(error) from error
        try:
            return settle(text, guarded, marks, finder)
        except TemplateError as error:
            raise _depends_on_letters(error) from error

    def dialect(self, template: ChatTemplate) -> Dialect:
        """What a template understands. Raises as :meth:`render` does."""
        with self._one_call():
            return self._learn(template)[0]

    def variables(self, template: ChatTemplate) -> frozenset[str]:
        """The variables that a template reads, such as ``enable_thinking``. Raises as :meth:`render` does."""
        with self._one_call():
            return self._learn(template)[1]

    @contextmanager
    def _one_call(self) -> Iterator[None]:
        """Have the child to oneself, alive, for ``RENDER_SECONDS`` of its processor time."""
        with self._lock:
            self._living_child()
            self._seconds_left = wire.RENDER_SECONDS
            yield

    def _living_child(self) -> TemplateChild:
        if self._closed:
            raise EngineError("the template renderer is closed; make a new one")
        if self._child is None or self._child.dead:
            self._child = TemplateChild()
        return self._child

    def _learn(self, template: ChatTemplate) -> tuple[Dialect, frozenset[str]]:
        known = self._learnt.get(template)
        if known is None:
            reply = self._ask({"source": template.source, "describe": True})
            names = frozenset(json.loads(reply))

            def rendered(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str | None:
                try:
                    return self._render(template, Conversation(messages, tools, {}), names, True)
                except TemplateError:
                    if self._child is None or self._child.dead:
                        raise  # it did not refuse: it was stopped, or crashed
                    return None

            known = learn_dialect(rendered, template.source), names
            if len(self._learnt) >= LEARNT_TEMPLATES:
                self._learnt.pop(next(iter(self._learnt)))
            self._learnt[template] = known
        return known

    def _render(
        self, template: ChatTemplate, conversation: Conversation, names: frozenset[str], prompt: bool
    ) -> str:
        now = self._clock().replace(tzinfo=None)
        context = {
            **conversation.variables,
            "messages": conversation.messages,
            "add_generation_prompt": prompt,
            "bos_token": template.bos_text,
            "eos_token": template.eos_text,
            **_tool_variables(conversation.tools, names, now),
        }
        reply = self._ask({"source": template.source, "context": context, "now": now.isoformat()})
        return reply.decode("utf-8")

    def _ask(self, request: dict[str, Any]) -> bytes:
        child, frame = self._living_child(), _json(request).encode()
        start = child.seconds
        try:
            return child.ask(frame, self._seconds_left)
        finally:
            self._seconds_left -= child.seconds - start


def _tool_variables(tools: list[dict[str, Any]], names: frozenset[str], now: datetime) -> dict[str, Any]:
    """Tools under the names by which templates know them; undefined, not None, where there are none.

    Firefunction reads ``functions``, a JSON text that it always prints, beside ``datetime``; SmolLM3
    ``xml_tools``.
    """
    variables: dict[str, Any] = {"tools": tools} if tools else {}
    if "functions" in names and "tools" not in names:
        functions = [tool["function"] for tool in tools]
        variables["functions"] = json.dumps(functions, ensure_ascii=False, indent=4)
    if "xml_tools" in names and "tools" not in names and tools:
        variables["xml_tools"] = tools
    if "datetime" in names:
        variables["datetime"] = now.strftime("%B %d %Y %H:%M")
    return variables


def _depends_on_letters(error: TemplateError) -> TemplateError:
    return TemplateError(
        "the chat template depends on the letters of the user's text, so that control tokens in it cannot be "
        f"told from the template's own; use another template ({error})"
    )


def _check_understood(
    dialect: Dialect, messages: Sequence[ChatMessage], tools: Sequence[dict[str, Any]]
) -> None:
    if tools and dialect.tools == "refused":
        raise TemplateError(
            "this model's chat template has no place for tool definitions; leave tools out, "
            "or use another model"
        )
    if not dialect.tool_results and any(message.role == "tool" for message in messages):
        raise TemplateError(
            "this model's chat template has no place for the results of tools; use another model "
            "for this conversation"
        )


def _checked_inputs(template: ChatTemplate, conversation: Conversation) -> str:
    """All strings of a rendering in one. Raises InvalidRequest for a conversation that is too large."""
    text = _json([conversation.messages, conversation.tools, conversation.variables])
    if len(text) > wire.MAX_REQUEST_CHARACTERS:
        raise InvalidRequest(
            f"the conversation has {len(text)} characters, and at most {wire.MAX_REQUEST_CHARACTERS} "
            "are rendered; shorten it",
            field="messages",
        )
    return text + template.source + template.bos_text + template.eos_text


def _json(value: object) -> str:
    """JSON for the child. Raises InvalidRequest for what JSON or UTF-8 cannot hold."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except (UnicodeEncodeError, ValueError) as error:
        raise InvalidRequest(
            f"the conversation cannot be written as UTF-8 JSON ({error}); leave out lone surrogates and "
            "integers of thousands of digits",
            field="messages",
        ) from None
    return text
