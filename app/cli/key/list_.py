"""``localq key list``: which keys there are."""

from __future__ import annotations

import time

import click

from app.cli import options
from app.cli.front import Front


@click.command("list")
@options.output_options
@options.pass_front
def command(front: Front) -> None:
    """List the keys: names, and their last four characters."""
    listing(front)


def listing(front: Front) -> None:
    """Print them."""
    from app.cli.output import Table
    from app.server.keys import KeyFile

    keys = KeyFile(front.store().home).read()
    rows = [
        (key.name, f"...{key.hint}", time.strftime("%Y-%m-%d", time.localtime(key.created))) for key in keys
    ]
    front.out.result(
        [{"name": key.name, "hint": key.hint, "created": key.created} for key in keys],
        Table(("NAME", "KEY", "MADE"), rows) if rows else "no keys: only this machine can use the endpoint",
        quiet=[key.name for key in keys],
    )
