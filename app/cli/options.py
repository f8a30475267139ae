"""Options that several commands share, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click

from app.cli.front import Front
from app.limits import KV_TYPES, MAX_CONTEXT_TOKENS, MAX_THREADS

F = TypeVar("F", bound=Callable[..., Any])

pass_front = click.make_pass_decorator(Front)


class Size(click.ParamType[int]):
    """A number of bytes: ``6G``, ``512M``, or a plain count."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from app.settings import parse_size

        try:
            return parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Between(click.FloatRange):
    """A float from ``min`` to ``max``; NaN, which no comparison refuses, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def output_options(function: F) -> F:
    """``--json`` and ``--quiet``, as every command has them."""
    function = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_switch("quiet"),
        is_eager=True,
        help="Print the bare data and errors only.",
    )(function)
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_switch("json"),
        is_eager=True,
        help="Print one JSON document.",
    )(function)


def _switch(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def switch(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            setattr(ctx.ensure_object(Front).out, name, True)

    return switch


def context_option(function: F) -> F:
    """``--ctx``: tokens of one conversation."""
    return click.option(
        "--ctx",
        "context",
        type=click.IntRange(1, MAX_CONTEXT_TOKENS),
        metavar="TOKENS",
        help="Length of one conversation.  [default: 4096, or what fits]",
    )(function)


def threads_option(function: F) -> F:
    """``--threads``: of one decode step."""
    return click.option(
        "--threads",
        type=click.IntRange(0, MAX_THREADS),
        metavar="N",
        help="Threads; 0 = one for each physical core.  [default: 0]",
    )(function)


def kv_option(function: F) -> F:
    """``--kv``: type of the KV cache."""
    return click.option("--kv", type=click.Choice(KV_TYPES), help="Type of the KV cache.  [default: f16]")(
        function
    )


def ram_option(function: F) -> F:
    """``--ram``: the most that a model may use."""
    return click.option(
        "--ram", type=Size(), metavar="SIZE", help="Memory the model may use at most, such as 6G."
    )(function)


def jobs_option(function: F) -> F:
    """``--jobs``: threads of a quantization."""
    return click.option(
        "--jobs",
        type=click.IntRange(1, MAX_THREADS),
        metavar="N",
        help="Threads; the result is the same.  [default: one for each physical core]",
    )(function)


def mem_option(function: F) -> F:
    """``--mem``: the most that a quantization may use."""
    return click.option(
        "--mem", type=Size(), metavar="SIZE", help="Memory that may be used at most, such as 4G."
    )(function)


def verbose_option(function: F) -> F:
    """``--verbose`` of a quantization."""
    return click.option("-v", "--verbose", is_flag=True, help="Say each tensor's format and error.")(function)


def measure_option(function: F) -> F:
    """``--measure`` and ``--no-measure``."""
    return click.option(
        "--measure/--no-measure",
        default=None,
        help="Test how much each kind of matrix counts before formats are chosen.  "
        "[default: up to 500 million weights]",
    )(function)


def device_options(function: F) -> F:
    """``--gpu-layers`` and ``--force``."""
    function = click.option(
        "--force", is_flag=True, help="Load even where the memory plan says that it does not fit."
    )(function)
    return click.option(
        "--gpu-layers",
        metavar="N|auto",
        default="0",
        show_default=True,
        callback=_layers,
        help="Layers on a device, where llama.cpp was built with one.",
    )(function)


def _layers(_ctx: click.Context, _param: click.Parameter, value: str) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if value.isascii() and value.isdigit() and len(value) <= 5:
        return int(value)
    raise click.BadParameter(f"{value!r} is neither a number of layers nor 'auto'")


def engine_options(function: F) -> F:
    """All that say how a model is loaded: context, threads, KV type, memory, devices."""
    for option in (device_options, ram_option, kv_option, threads_option, context_option):
        function = option(function)
    return function
