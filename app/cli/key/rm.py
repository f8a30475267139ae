"""``localq key rm``: a key that no longer opens."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("rm")
@click.argument("name")
@options.output_options
@options.pass_front
def command(front: Front, name: str) -> None:
    """Forget the key called NAME."""
    from app.server.keys import KeyFile

    KeyFile(front.store().home).remove(name)
    front.out.result({"removed": name}, f"removed {name}", quiet=[name])
