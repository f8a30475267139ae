"""``localq chats edit``: a chat's title, its folder, its pin."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("edit")
@click.argument("chat", type=int)
@click.option("--title", metavar="TEXT", help="Another title.")
@click.option("--folder", metavar="NAME", help="Move it to this folder; '' takes it out of one.")
@click.option("--pin/--unpin", "pinned", default=None, help="Keep it at the top of the list, or not.")
@options.output_options
@options.pass_front
def command(front: Front, chat: int, title: str | None, folder: str | None, pinned: bool | None) -> None:
    """Change what is given of CHAT."""
    import msgspec

    from app.errors import WrongUse

    asked = {"title": title, "folder": folder, "pinned": pinned}
    changes = {key: value for key, value in asked.items() if value is not None}
    if not changes:
        raise WrongUse(
            "nothing to change is given: --title, --folder, --pin or --unpin",
            next_command="localq chats edit --help",
        )
    with front.chats() as chats:
        changed = chats.change(chat, **changes)
    place = f" in {changed.folder}" if changed.folder else ""
    front.out.result(
        msgspec.to_builtins(changed),
        f"Chat {changed.id}: {changed.title}{place}{', pinned' if changed.pinned else ''}.",
        quiet=[str(changed.id)],
    )
