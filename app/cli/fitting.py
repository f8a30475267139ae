"""Plans for a memory, as a person asks for them and reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from app.cli import options
from app.limits import KV_TYPES, MAX_CONTEXT_TOKENS

if TYPE_CHECKING:
    from app.cli.front import Front
    from app.settings import Settings
    from quant.allocation.fit import Fit
    from quant.allocation.joint import JointPlan, Model
    from quant.allocation.planner import Prefer
    from quant.allocation.recipe import Override
    from quant.allocation.running import Running
    from quant.allocation.speed import Speeds
    from runtime.engine.config import KvType
    from runtime.gguf import GgufHeader

F = TypeVar("F", bound=Callable[..., Any])
PREFERENCES = ("quality", "balanced", "speed")
MOST_FORMATS = 3
"""Named of a mixture; the others are in --json."""


class Tokens(click.IntRange):
    """A number of tokens: ``4096``, or ``4k``."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip().lower()
        if text.endswith("k") and text[:-1].isdecimal():
            value = int(text[:-1]) * 1024
        return int(super().convert(value, param, ctx))


def fit_options(function: F) -> F:
    """``--keep-free`` and ``--prefer``, which say with ``--ram``, ``--ctx`` and ``--kv`` what is to fit."""
    function = click.option(
        "--prefer",
        type=click.Choice(PREFERENCES),
        default="balanced",
        show_default=True,
        help="What to give up for speed: nothing, 0.006 nats, or a quarter of the divergence.",
    )(function)
    return click.option(
        "--keep-free",
        type=options.Size(),
        metavar="SIZE",
        help="Memory to leave to other programs, of what the machine has available.",
    )(function)


def context_option(multiple: bool) -> Callable[[F], F]:
    """``--ctx``, to be given once or several times."""
    return click.option(
        "--ctx",
        "contexts" if multiple else "context",
        type=Tokens(1, MAX_CONTEXT_TOKENS),
        multiple=multiple,
        metavar="TOKENS",
        help="Length of one conversation, such as 16k.  [default: the longest that costs little]",
    )


def kv_option(function: F) -> F:
    """``--kv``: left to the plan where it is not given."""
    return click.option(
        "--kv", type=click.Choice(KV_TYPES), help="Type of the KV cache.  [default: what serves best]"
    )(function)


def portable_option(default: bool | None) -> Callable[[F], F]:
    """``--portable``; without a ``default`` it can be denied, too."""
    names = "--portable" if default is not None else "--portable/--no-portable"
    return click.option(
        names,
        is_flag=True,
        default=default,
        help="Choose only formats that any llama.cpp runs, not localq's own, which have less error for their "
        f"bytes.{'' if default is not None else '  [default: as MODEL was made]'}",
    )


def only_portable(
    front: Front, asked: bool, *, mixture: str | None = None, overrides: Sequence[Override] = ()
) -> bool:
    """Whether only ggml's formats are to be chosen: as asked, or where localq's own would not run here.

    Raises WrongUse where ``mixture`` or ``overrides`` ask for another.
    """
    from app.errors import WrongUse
    from quant.allocation.recipe import uses_words
    from runtime.ggml import packed_types

    if asked and uses_words(mixture, overrides):
        named = [f"--to {mixture}"] if uses_words(mixture, ()) else []
        named += [f"--tensor {each.pattern}={each.format}" for each in overrides if uses_words(None, [each])]
        raise WrongUse(
            f"--portable keeps localq's own formats out, and {named[0]} asks for one",
            next_command="localq export --help",
        )
    if asked or mixture is not None or packed_types():
        return asked
    front.out.note(
        "Only formats that any llama.cpp runs are chosen: localq's kernels do not run here; "
        "`localq doctor` says why."
    )
    return True


def fit_of(
    front: Front,
    wanted: bool,
    ram: int | None,
    context: int | None,
    kv: KvType | None,
    keep_free: int | None,
    prefer: Prefer,
) -> Fit | None:
    """What ``--fit-ram`` and its options ask for. Raises WrongUse for the options without it."""
    from quant.allocation.fit import Fit

    if wanted:
        settings = front.settings(ram=ram, context=context, kv=kv)
        return Fit(settings.ram, keep_free or 0, settings.context, settings.kv, prefer)
    require_fit_ram(front, False, {"--ram": ram, "--ctx": context, "--kv": kv, "--keep-free": keep_free})
    return None


def require_fit_ram(front: Front, wanted: bool, others: Mapping[str, object]) -> None:
    """Raises WrongUse for an option that means nothing without ``--fit-ram``."""
    from app.cli.again import again
    from app.errors import WrongUse

    given = [name for name, value in others.items() if value is not None]
    if given and not wanted:
        raise WrongUse(f"{given[0]} belongs to --fit-ram", next_command=again(front, "--fit-ram"))


def foreseen(headers: Sequence[GgufHeader], *, words: bool) -> Model:
    """A model of which nothing but the headers is there; with ``words`` LT formats are chosen from too."""
    from quant.allocation.forecast import forecast
    from quant.allocation.joint import Model

    tensors = [tensor for header in headers for tensor in header.tensors]
    return Model(tuple(headers), forecast(tensors, headers[0].alignment, words=words))


def speeds_here(settings: Settings) -> Speeds:
    """How fast this machine reads weights."""
    from quant.allocation.speed import Speeds
    from runtime.hardware import memory_bandwidth

    return Speeds(memory_bandwidth(settings.threads or None).bytes_per_second)


def document(plan: JointPlan, speeds: Speeds) -> dict[str, Any]:
    """A plan as ``--json`` prints it."""
    return {
        "budget_bytes": plan.memory.available,
        "context": plan.config.context_tokens,
        "kv_type": plan.config.kv_type,
        "batch": plan.config.ubatch_tokens,
        "predicted_peak_bytes": plan.memory.total,
        "file_bytes": plan.file_bytes,
        "bits_per_weight": plan.bits_per_weight,
        "predicted_kl": plan.predicted_kl,
        "predicted_tokens_per_second": plan.tokens_per_second(speeds),
        "formats": plan.format_shares(),
    }


def sentence(plan: JointPlan, speeds: Speeds) -> str:
    """A plan in a line."""
    from app.cli.text import format_bytes

    return (
        f"Plan: {plan.bits_per_weight:.2f} bits a weight ({mixture(plan)}), a file of "
        f"{format_bytes(plan.file_bytes)}; {in_memory(plan.running())}; about {nats(plan.predicted_kl)} from "
        f"the original, {plan.tokens_per_second(speeds):.0f} tokens a second."
    )


def in_memory(running: Running) -> str:
    """Where a file runs, and with what."""
    from app.cli.text import format_bytes

    return (
        f"{running.context_tokens:,} tokens of context with {running.kv_type} keys and values in "
        f"{format_bytes(running.peak_bytes)} of {format_bytes(running.budget_bytes)}"
    )


def nats(value: float) -> str:
    """A divergence: two digits say enough of a forecast."""
    return f"{value:.2g} nats"


def mixture(plan: JointPlan) -> str:
    """The formats of most weights, and their shares."""
    shares = plan.format_shares()
    found = sorted(shares, key=lambda name: -shares[name])
    words = [f"{name} {shares[name]:.0%}" for name in found[:MOST_FORMATS] if shares[name] >= 0.005]
    return ", ".join([*words, "..."] if len(found) > MOST_FORMATS else words)
