"""``localq key new``: a key, seen once."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("new")
@click.argument("name", default="default")
@options.output_options
@options.pass_front
def command(front: Front, name: str) -> None:
    """Make a key called NAME, and print it: it is not shown again."""
    from app.server.keys import KeyFile

    key = KeyFile(front.store().home).new(name)
    front.out.result({"name": name, "key": key}, key, quiet=[key])
    front.out.note("It is not kept, only its hash: store it now. Send it as 'Authorization: Bearer KEY'.")
