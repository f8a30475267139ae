"""``localq key``: keys that requests to the endpoint have to bring."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.commands import Entry, LazyGroup
from app.cli.front import Front

SECTIONS = {
    "Keys": (
        Entry("new", "app.cli.key.new", "Make one, and print it once."),
        Entry("list", "app.cli.key.list_", "List their names."),
        Entry("rm", "app.cli.key.rm", "Forget one."),
    )
}


@click.group("key", cls=LazyGroup, sections=SECTIONS, invoke_without_command=True)
@options.output_options
@options.pass_front
@click.pass_context
def command(ctx: click.Context, front: Front) -> None:
    """Make, list and remove keys that requests to the endpoint have to bring.

    As long as there is one, every request needs one. Only hashes are kept: a key is seen once, when it is
    made. A server takes up a change when it is started again.
    """
    if ctx.invoked_subcommand is None:
        from app.cli.key.list_ import listing

        listing(front)
