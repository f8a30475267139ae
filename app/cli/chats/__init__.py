"""``localq chats``: the kept conversations, without the terminal app."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.commands import Entry, LazyGroup
from app.cli.front import Front

SECTIONS = {
    "Chats": (
        Entry("list", "app.cli.chats.list_", "List them, the last changed first."),
        Entry("show", "app.cli.chats.show", "Print one."),
        Entry("search", "app.cli.chats.search", "Find words in all of them."),
        Entry("edit", "app.cli.chats.edit", "Change a title or folder, pin or unpin."),
        Entry("export", "app.cli.chats.export", "Write Markdown or JSON."),
        Entry("import", "app.cli.chats.import_", "Take in chats of ChatGPT, LM Studio, Ollama."),
        Entry("rm", "app.cli.chats.rm", "Delete for good."),
    )
}


@click.group("chats", cls=LazyGroup, sections=SECTIONS, invoke_without_command=True)
@options.output_options
@options.pass_front
@click.pass_context
def command(ctx: click.Context, front: Front) -> None:
    """List, search, export and delete the chats that are kept on this machine.

    They are in the folder 'chats' of the store, readable by their owner only, and nothing is sent anywhere.
    The terminal app keeps its chats; 'localq run' does where the setting 'chats' is 'all'; with 'none'
    nothing is kept.
    """
    if ctx.invoked_subcommand is None:
        from app.cli.chats.list_ import listing

        listing(front, folder=None, everything=False)
