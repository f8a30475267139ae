"""``localq df``: the room that models take."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("df")
@options.output_options
@options.pass_front
def command(front: Front) -> None:
    """Show what each model takes, what removing it would free, and what is left on the disk."""
    import msgspec

    from app.cli.output import Fields, Table
    from app.cli.text import format_bytes

    store = front.store()
    usage = store.usage()
    rows = [
        (
            model.name,
            format_bytes(model.size_bytes),
            format_bytes(model.shared_bytes),
            format_bytes(model.linked_bytes),
            format_bytes(model.freed_by_removing),
        )
        for model in usage.models
    ]
    table = Table(("NAME", "SIZE", "SHARED", "LINKED", "FREED BY RM"), rows, right=frozenset({1, 2, 3, 4}))
    totals = Fields(
        (
            ("stored", format_bytes(usage.stored_bytes)),
            ("linked", format_bytes(usage.linked_bytes)),
            ("freed by gc", format_bytes(usage.reclaimable_bytes)),
            ("free on disk", format_bytes(usage.free_bytes)),
            ("folder", str(store.home)),
        )
    )
    models = [
        {**msgspec.to_builtins(model), "freed_by_removing": model.freed_by_removing} for model in usage.models
    ]
    front.out.result(
        {**msgspec.to_builtins(usage), "models": models, "home": str(store.home)},
        *((table, "", totals) if rows else (totals,)),
        quiet=[str(usage.stored_bytes)],
    )
