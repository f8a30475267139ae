"""``localq chats import``: chats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.front import Front
from app.cli.text import plural

if TYPE_CHECKING:
    from app.chats.imports import Taken

SHOWN_PROBLEMS = 5


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@options.output_options
@options.pass_front
def command(front: Front, paths: tuple[Path, ...]) -> None:
    """Take in the chats of other programs: a file, or a folder of files.

    ChatGPT: the exported zip, or conversations.json. LM Studio: a .conversation.json, or the folder
    ~/.lmstudio/conversations. Ollama's app: its db.sqlite. Open WebUI: the exported JSON. Messages of
    OpenAI's shape: JSON, or one chat a line. localq: the JSON of 'localq chats export'.

    Taking the same chats in again adds what is new in them, and nothing twice.
    """
    from app.chats import Chats
    from app.chats.imports import take_in

    with front.out.progress("importing chats") as progress, Chats(front.store().home) as chats:
        taken = take_in(chats, paths, lambda taken: progress.say(f"{taken.chats:,}"))
    front.out.result(
        {
            "new": taken.new,
            "grown": taken.grown,
            "unchanged": taken.unchanged,
            "messages": taken.messages,
            "unread": [{"where": problem.where, "reason": problem.reason} for problem in taken.unread],
        },
        summary(taken),
        quiet=[str(taken.new)],
    )
    for problem in taken.unread[:SHOWN_PROBLEMS]:
        front.out.warn(f"not read: {problem.where}: {problem.reason}")
    if len(taken.unread) > SHOWN_PROBLEMS:
        front.out.warn(f"{len(taken.unread) - SHOWN_PROBLEMS} more were not read; --json lists all")


def summary(taken: Taken) -> str:
    """What came of it, in a sentence."""
    return (
        f"{plural(taken.new, 'chat')} imported, {taken.grown:,} added to, "
        f"{taken.unchanged:,} there already: {plural(taken.messages, 'message')}."
    )
