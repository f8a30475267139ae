"""``localq gc``: delete what no model needs."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("gc")
@options.output_options
@options.pass_front
def command(front: Front) -> None:
    """Delete files that no model needs, and what killed processes left behind."""
    from app.cli.text import format_bytes

    freed = front.store().gc()
    front.out.result(
        {"freed_bytes": freed},
        f"{format_bytes(freed)} freed." if freed else "There was nothing to delete.",
        quiet=[str(freed)],
    )
