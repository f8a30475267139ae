"""``localq key``: keys that requests to the endpoint have to bring."""

from __future__ import annotations

import time

import click

from app.cli import options
from app.cli.front import Front


@click.group("key")
@options.output_options
def command() -> None:
    """Keys that requests to the endpoint have to bring.

    As long as there is one, every request needs one. Only hashes are kept: a key is seen once, when it is
    made. A server takes up a change when it is started again.
    """


@command.command("new")
@click.argument("name", default="default")
@options.output_options
@options.pass_front
def new(front: Front, name: str) -> None:
    """Make a key called NAME, and print it: it is not shown again."""
    from app.server.keys import KeyFile

    key = KeyFile(front.store().home).new(name)
    front.out.result({"name": name, "key": key}, key, quiet=[key])
    front.out.note("It is not kept, only its hash: store it now. Send it as 'Authorization: Bearer KEY'.")


@command.command("list")
@options.output_options
@options.pass_front
def list_(front: Front) -> None:
    """List the keys: names, and their last four characters."""
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


@command.command("rm")
@click.argument("name")
@options.output_options
@options.pass_front
def rm(front: Front, name: str) -> None:
    """Forget the key called NAME."""
    from app.server.keys import KeyFile

    KeyFile(front.store().home).remove(name)
    front.out.result({"removed": name}, f"removed {name}", quiet=[name])
