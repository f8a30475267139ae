"""The sandbox of chat templates: what a template may do, and what becomes of one that fails.

It keeps a template from Python: no underscore attributes, no unsafe ``format``, no loader, nothing mutable
but lists made for this rendering. It does not keep it from working for ever; that is ``process``'s
part. The options are those of ``transformers``: ``trim_blocks``, ``lstrip_blocks``, loop controls, ``tojson``
without HTML escapes, ``raise_exception``, ``strftime_now``, the ``generation`` block.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime
from types import GeneratorType
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.engine.templates import wire

OLDEST_JINJA = (3, 1, 6)
"""Before it, ``|attr`` reached ``str.format`` (CVE-2025-27516)."""

MESSAGE_CHARACTERS = 2000


class TooMuchOutput(Exception):
    """A rendering passed ``MAX_OUTPUT_CHARACTERS``."""


class Refusal(jinja2.TemplateError):
    """The template called ``raise_exception``."""


class Generation(Extension):
    """``{% generation %}`` marks the assistant's words for training; to a prompt it is only a scope."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of all templates."""

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
        )
        self.filters["tojson"] = to_json
        self.globals["raise_exception"] = raise_exception
        self.compiled = functools.lru_cache(maxsize=8)(self.from_string)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Lists may grow and shrink (Kimi-K2 keeps a queue): all of them were made for this rendering."""
        return (type(obj) is list and attr in {"append", "pop"}) or super().is_safe_attribute(
            obj, attr, value
        )


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON in the order in which keys came; a generator (``tools | map(...)``) is a list."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_as_list,
    )


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, GeneratorType):
        return list(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def raise_exception(message: object = "") -> str:
    raise Refusal(str(message))


def check_jinja(installed: str) -> None:
    """Raise RuntimeError for a jinja2 whose sandbox is known to leak."""
    numbers = tuple(int(part) for part in installed.split(".")[:3] if part.isdecimal())
    if numbers < OLDEST_JINJA:
        oldest = ".".join(map(str, OLDEST_JINJA))
        raise RuntimeError(f"jinja2 {installed} has a leaking sandbox; install jinja2>={oldest}")


def render(sandbox: Sandbox, source: str, context: dict[str, Any], now: str) -> str:
    clock = datetime.fromisoformat(now)
    pieces: list[str] = []
    size = 0
    for piece in sandbox.compiled(source).generate({**context, "strftime_now": clock.strftime}):
        pieces.append(piece)
        size += len(piece)
        if size > wire.MAX_OUTPUT_CHARACTERS:
            raise TooMuchOutput(f"it wrote more than {wire.MAX_OUTPUT_CHARACTERS} characters")
    return "".join(pieces)


def answer(sandbox: Sandbox, request: bytes) -> bytes:
    """The reply to one request; whatever a template does, it is a reply."""
    try:
        fields = json.loads(request)
        if fields.get("describe"):
            names = jinja2.meta.find_undeclared_variables(sandbox.parse(fields["source"]))
            return wire.NAMES + json.dumps(sorted(names - sandbox.globals.keys())).encode()
        return wire.TEXT + render(sandbox, **fields).encode()
    except MemoryError:
        return wire.MEMORY
    except Exception as error:
        return wire.FAILURE + explain(error).encode("utf-8", "backslashreplace")


def explain(error: Exception) -> str:
    """What a template's failure is, and in which line."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        text = str(error.message)[:MESSAGE_CHARACTERS]
        return f"the chat template has a syntax error in line {error.lineno}: {text}"
    line = _line(error)
    place = f" in line {line}" if line else ""
    text = str(error)[:MESSAGE_CHARACTERS]
    match error:
        case Refusal():
            return f"the chat template refused the conversation: {text}"
        case SecurityError():
            return f"the chat template tried to leave its sandbox{place}: {text}"
        case TooMuchOutput():
            return f"the chat template was stopped{place}: {text}"
        case RecursionError():
            return f"the chat template nests or recurses too deep{place}"
        case UnicodeEncodeError():
            return "the chat template wrote text that is not valid Unicode (a lone surrogate)"
        case _:
            return f"the chat template failed{place}: {type(error).__name__}: {text}"


def _line(error: Exception) -> int | None:
    """The template's line, which jinja2 writes into the traceback."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
