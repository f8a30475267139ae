"""``localq chats import``: chats of other programs."""

from __future__ import annotations

from pathlib import Path

import click

from app.cli import options
from app.cli.front import Front

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
    from app.chats.imports import read_export
    from app.cli.text import plural

    new = grown = same = messages = 0
    unread = []
    with front.out.progress("importing chats") as progress, Chats(front.store().home) as chats:
        for path in paths:
            for found in read_export(path):
                if found.unread is not None:
                    unread.append(found.unread)
                if found.chat is None:
                    continue
                adopted = chats.adopt(found.chat)
                messages += adopted.messages
                new += adopted.new
                grown += not adopted.new and adopted.messages > 0
                same += not adopted.new and adopted.messages == 0
                progress.say(f"{new + grown + same:,}")
    front.out.result(
        {
            "new": new,
            "grown": grown,
            "unchanged": same,
            "messages": messages,
            "unread": [{"where": problem.where, "reason": problem.reason} for problem in unread],
        },
        f"{plural(new, 'chat')} imported, {grown:,} added to, {same:,} there already: "
        f"{plural(messages, 'message')}.",
        quiet=[str(new)],
    )
    for problem in unread[:SHOWN_PROBLEMS]:
        front.out.warn(f"not read: {problem.where}: {problem.reason}")
    if len(unread) > SHOWN_PROBLEMS:
        front.out.warn(f"{len(unread) - SHOWN_PROBLEMS} more were not read; --json lists all")
