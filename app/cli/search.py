"""``localq search``: models on the Hub, and whether and how they fit this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from app.cli import options
from app.cli.front import Front

if TYPE_CHECKING:
    from app.hub.search import Result

SORTS = ("downloads", "likes", "trending", "updated", "created")


@click.command("search")
@click.argument("words", nargs=-1)
@click.option("--gguf", is_flag=True, help="Only repositories with GGUF files, which run as they are.")
@click.option("--fits", is_flag=True, help="Only models that fit this machine's memory.")
@click.option("--sort", type=click.Choice(SORTS), default="downloads", show_default=True, help="Best first.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100),
    default=15,
    show_default=True,
    metavar="N",
    help="Models to look at.",
)
@options.ram_option
@options.context_option
@options.output_options
@options.pass_front
def command(
    front: Front,
    words: tuple[str, ...],
    gguf: bool,
    fits: bool,
    sort: str,
    limit: int,
    ram: int | None,
    context: int | None,
) -> None:
    """Find models on the Hugging Face Hub whose names hold WORDS; without words, list the catalog.

    What fits is judged from sizes and headers, which are read on the Hub: of the quantizations that fit, the
    largest is named. Nats (divergence from the original) and speed are foreseen, for the best file of that
    size that localq would make. --quiet prints the repositories alone.
    """
    from app.cli.output import Table

    settings = front.settings(ram=ram, context=context)
    if not words:
        _catalog(front)
        return
    from app.cli.fitting import speeds_here
    from app.cli.text import format_bytes, format_parameters
    from app.hub.api import Hub
    from app.hub.search import search
    from runtime.hardware import this_machine

    machine = this_machine(ram=settings.ram)
    with Hub() as hub, front.out.progress("searching") as progress:
        results = search(
            hub,
            " ".join(words),
            machine,
            settings,
            speeds_here(settings),
            gguf=gguf,
            sort=sort,
            limit=limit,
            progress=progress.advance,
        )
    shown = [result for result in results if not fits or result.fits]
    rows = [
        (
            result.repo,
            format_parameters(result.parameters) if result.parameters else "?",
            format_bytes(result.size_bytes) if result.size_bytes else "?",
            result.architecture or "?",
            (result.license or "not stated") + (", gated" if result.gated else ""),
            format_parameters(result.downloads),
            f"{result.nats:.2g}" if result.nats is not None else "?",
            f"{result.tokens_per_second:.0f}" if result.tokens_per_second is not None else "?",
            result.verdict,
        )
        for result in shown
    ]
    header = (
        "REPOSITORY",
        "WEIGHTS",
        "SIZE",
        "ARCHITECTURE",
        "LICENCE",
        "DOWNLOADS",
        "NATS",
        "TOK/S",
        "FITS HERE",
    )
    front.out.result(
        {"available_bytes": machine.memory.available, "results": [document(result) for result in shown]},
        *([Table(header, rows, right=frozenset({1, 2, 5, 6, 7}))] if rows else []),
        quiet=[result.repo for result in shown],
    )
    if not rows:
        hidden = f" that fits; {len(results)} do not" if results else ""
        front.out.note(f"Nothing found{hidden}. The Hub looks for the words in repositories' names.")


def document(result: Result) -> dict[str, Any]:
    """A result as --json prints it."""
    import msgspec

    built: dict[str, Any] = msgspec.to_builtins(result)
    return built


def _catalog(front: Front) -> None:
    import msgspec

    from app.cli.output import Table
    from app.hub.catalog import catalog

    entries = list(catalog().values())
    rows = [(entry.name, entry.parameters, entry.license, entry.good_for) for entry in entries]
    front.out.result(
        {"catalog": msgspec.to_builtins(entries)},
        Table(("NAME", "WEIGHTS", "LICENCE", "GOOD FOR"), rows, right=frozenset({1})),
        quiet=[entry.name for entry in entries],
    )
    front.out.note("Fetch one with: localq pull NAME")
