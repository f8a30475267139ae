"""``localq chats list``: which chats there are."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front

SHOWN = 30


@click.command("list")
@click.option("--folder", metavar="NAME", help="Those in this folder only.")
@click.option("--all", "everything", is_flag=True, help=f"All of them, not the first {SHOWN}.")
@options.output_options
@options.pass_front
def command(front: Front, folder: str | None, everything: bool) -> None:
    """List the kept chats: pinned ones first, then those that changed last. --quiet prints their numbers."""
    listing(front, folder=folder, everything=everything)


def listing(front: Front, *, folder: str | None, everything: bool) -> None:
    """What the command prints; --json and --quiet print all."""
    import msgspec

    from app.cli.output import Table
    from app.cli.text import plural, shorten

    with front.chats() as chats:
        found = chats.list(folder=folder)
    shown = found if everything or not front.out.human else found[:SHOWN]
    rows = [
        (
            f"{chat.id}{'*' if chat.pinned else ''}",
            shorten(chat.title or "(empty)", 48),
            chat.folder,
            f"{chat.messages:,}",
            chat.model or "",
            f"{chat.updated.astimezone():%Y-%m-%d %H:%M}",
        )
        for chat in shown
    ]
    header = ("CHAT", "TITLE", "FOLDER", "MESSAGES", "MODEL", "CHANGED")
    front.out.result(
        {"chats": [msgspec.to_builtins(chat) for chat in found]},
        *([Table(header, rows, right=frozenset({3}))] if rows else []),
        quiet=[str(chat.id) for chat in found],
    )
    if len(shown) < len(found):
        front.out.note(f"and {plural(len(found) - len(shown), 'more chat')}: --all lists them")
    elif not found:
        front.out.note("No chats in this folder." if folder else "No chats are kept.")
