"""``localq plan``: what of a model fits this machine, before anything is made or fetched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.fitting import context_option, fit_options, kv_option, portable_option
from app.cli.front import Front
from app.limits import MAX_THREADS

if TYPE_CHECKING:
    from app.settings import Settings
    from quant.allocation.joint import JointPlan
    from quant.allocation.planner import Planner, Prefer
    from runtime.engine.config import KvType
    from runtime.gguf import GgufHeader

NEIGHBOURS = (0.5, 0.75, 1.25, 1.5, 2.0)
"""Times the memory that there is: what more or less of it would give."""


@click.command("plan")
@click.argument("source", metavar="REF")
@click.option(
    "--ram",
    "budgets",
    type=options.Size(),
    multiple=True,
    metavar="SIZE",
    help="Memory to plan for, such as 6G; may be repeated.  [default: what there is, and more and less]",
)
@context_option(multiple=True)
@kv_option
@fit_options
@portable_option(False)
@click.option(
    "--threads",
    type=click.IntRange(0, MAX_THREADS),
    metavar="N",
    help="Threads; 0 = one for each physical core.  [default: 0]",
)
@options.output_options
@options.pass_front
def command(
    front: Front,
    source: str,
    budgets: tuple[int, ...],
    contexts: tuple[int, ...],
    kv: KvType | None,
    keep_free: int | None,
    prefer: Prefer,
    portable: bool,
    threads: int | None,
) -> None:
    """Say what would become of the model REF in the memory of this machine, or in others.

    For each memory and context: the best choice of formats that fits together with the KV cache and all
    buffers, with the divergence from the original and the speed that are to be expected. REF is a stored
    model or a file, best in F16 or BF16, a folder with safetensors, or a model on the Hub, as `localq pull`
    takes it; only headers are read. `localq quantize REF --fit-ram` makes the file, `localq pull REF
    --fit-ram` fetches and makes it.
    """
    from app.cli.fitting import document, foreseen, mixture, only_portable, speeds_here
    from app.cli.output import Styled, Table
    from app.cli.relatives import proposing
    from app.cli.text import format_bytes
    from app.hub.api import Hub
    from quant.allocation.fit import Fit, plan_fit, planner_for
    from quant.allocation.learned import read_learned
    from quant.allocation.planner import with_available
    from runtime.errors import DoesNotFit
    from runtime.hardware import this_machine

    settings = front.settings(threads=threads)
    front.model = source
    name, headers, remote = _headers(front, settings, source)
    words = not only_portable(front, portable)
    model = foreseen(headers, words=words)
    learned = read_learned(front.store(settings).home, model.headers[0].architecture)
    fit = Fit(settings.ram, keep_free or 0, min(contexts, default=None), kv, prefer, learned)
    machine = this_machine(ram=settings.ram)
    with front.out.progress("planning"):
        speeds = speeds_here(settings).scaled(learned.speed)
        planner = planner_for(model, fit, machine, threads=settings.threads, speeds=speeds)
        here = planner.machine.memory.available
        plans = _plans(planner, budgets or _around(here, planner), contexts, kv)
    if not plans:  # says what would be needed
        widest = with_available(machine, max(budgets, default=here))
        try:
            plan_fit(model, fit, widest, speeds=speeds)
        except DoesNotFit as error:
            if not remote:
                raise
            with Hub() as hub:
                raise proposing(
                    front,
                    hub,
                    front.store(settings),
                    name,
                    headers,
                    error,
                    lambda headers: plan_fit(foreseen(headers, words=words), fit, widest, speeds=speeds),
                ) from error
    rows = []
    for plan in plans:
        cells = (
            format_bytes(plan.memory.available),
            f"{plan.config.context_tokens:,}",
            plan.config.kv_type,
            format_bytes(plan.memory.total),
            format_bytes(plan.file_bytes),
            f"{plan.bits_per_weight:.2f}",
            f"{plan.predicted_kl:.2g}",
            f"{plan.tokens_per_second(speeds):.0f}",
            mixture(plan),
        )
        rows.append(tuple(Styled(cell, "bold") for cell in cells) if plan.memory.available == here else cells)
    header = ("MEMORY", "CONTEXT", "CACHE", "PEAK", "FILE", "BITS", "NATS", "TOK/S", "FORMATS")
    documents = [document(plan, speeds) for plan in plans]
    front.out.result(
        {"model": name, "available_bytes": here, "plans": documents},
        Table(header, rows, right=frozenset({0, 1, 3, 4, 5, 6, 7})),
        "",
        f"{format_bytes(here)} are available here. Nats: how far from {name} the result would be.",
        quiet=[f"{plan.predicted_kl:.4g}" for plan in plans],
    )


def _headers(front: Front, settings: Settings, reference: str) -> tuple[str, Sequence[GgufHeader], bool]:
    """Name and headers of a model on this machine, or else on the Hub, and whether it is there.

    Raises ModelNotFound and what both raise.
    """
    from app.cli.converting import find_header
    from app.errors import ModelNotFound
    from app.hub.reference import PathReference, parse_reference
    from runtime.gguf import open_model

    try:
        with find_header(front, settings, reference) as found:
            return found.name, open_model(found.paths).headers, False
    except ModelNotFound:
        parsed = parse_reference(reference)
        if isinstance(parsed, PathReference):
            raise
    from app.hub.api import Hub
    from app.hub.catalog import original_of
    from app.hub.original import find_original, outline
    from app.hub.reference import CatalogReference

    if isinstance(parsed, CatalogReference):
        parsed = original_of(parsed)
    store = front.store(settings)
    with Hub() as hub, store.scratch() as scratch, front.out.progress(f"asking for {parsed}"):
        original = find_original(hub, parsed)
        return original.repo.repo, outline(hub, original, scratch).headers, True


def _around(here: int, planner: Planner) -> tuple[int, ...]:
    """This machine's memory, and others in which the result would be another."""
    most = planner.most_bytes
    least = planner.least().memory.total
    between = [least + (most - least) * part // 4 for part in (1, 2, 3)]
    around = [int(here * times) for times in NEIGHBOURS] if here < 2 * most else between
    return tuple(sorted({here, *(size for size in around if size < most)}))


def _plans(
    planner: Planner, budgets: tuple[int, ...], contexts: tuple[int, ...], kv: KvType | None
) -> list[JointPlan]:
    """The best plan of each memory and context; what does not fit is left out."""
    from quant.allocation.fit import USEFUL_NATS

    plans = []
    for budget in budgets:
        for context in contexts or (None,):
            plan = planner.within(budget).best(context=context, kv_type=kv)
            if plan is not None and plan.predicted_kl <= USEFUL_NATS:
                plans.append(plan)
    return plans
