"""``localq chats rm``: delete chats, so that nothing of them is left in the files."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("rm")
@click.argument("numbers", type=int, nargs=-1, metavar="[CHAT]...")
@click.option("--all", "everything", is_flag=True, help="All chats; needs --yes.")
@click.option("--yes", is_flag=True, help="Do not ask whether all of them are meant.")
@options.output_options
@options.pass_front
def command(front: Front, numbers: tuple[int, ...], everything: bool, yes: bool) -> None:
    """Delete CHATs for good: their texts are overwritten, in the search index too.

    If a number is not there, nothing is deleted. What a file system or a disk keeps of older versions of a
    file (snapshots, backups, worn cells of an SSD) is out of localq's reach.
    """
    from app.cli.text import plural
    from app.errors import WrongUse

    if bool(numbers) == everything:
        raise WrongUse("give the numbers of the chats to delete, or --all", next_command="localq chats list")
    with front.chats() as chats:
        if everything:
            numbers = tuple(chat.id for chat in chats.list())
            if numbers and not yes:
                raise WrongUse(
                    f"this deletes {plural(len(numbers), 'chat')} for good; say --yes if you mean it",
                    next_command="localq chats export --all --format json --out chats.json",
                )
        chosen = list(dict.fromkeys(numbers))
        messages = chats.delete(chosen) if chosen else 0
    front.out.result(
        {"deleted": chosen, "messages": messages},
        f"Deleted {plural(len(chosen), 'chat')} ({plural(messages, 'message')}).",
        quiet=[str(number) for number in chosen],
    )
