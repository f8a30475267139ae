"""``localq chats show``: one chat to read."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("show")
@click.argument("chat", type=int)
@options.output_options
@options.pass_front
def command(front: Front, chat: int) -> None:
    """Print the current branch of CHAT as Markdown; --json prints all branches."""
    from app.chats.export import to_markdown

    with front.chats() as chats:
        found = chats.get(chat)
        if front.out.json:
            front.out.event(chats.save(chat))
        else:
            front.out.text(to_markdown(found, chats.branch(chat), chats.tree(chat).branches()))
