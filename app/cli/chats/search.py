"""``localq chats search``: words in all chats."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("search")
@click.argument("words", nargs=-1, required=True)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    metavar="N",
    help="Print N places at most.",
)
@options.output_options
@options.pass_front
def command(front: Front, words: tuple[str, ...], limit: int) -> None:
    """Find messages that have all WORDS in them, and titles; the last word may be the beginning of one.

    A phrase in quotation marks stays together; behind -- a word with a minus before it must not be there.
    """
    import msgspec

    from app.cli.output import Table

    typed = " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words)
    with front.chats() as chats:
        hits = chats.search(typed, limit=limit)
    rows = [
        (
            str(hit.chat_id),
            f"{hit.created.astimezone():%Y-%m-%d}",
            hit.title[:32] if hit.message_id else "title",
            hit.excerpt[:100],
        )
        for hit in hits
    ]
    front.out.result(
        {"hits": [msgspec.to_builtins(hit) for hit in hits]},
        *([Table(("CHAT", "DATE", "IN", "FOUND"), rows)] if rows else []),
        quiet=list(dict.fromkeys(str(hit.chat_id) for hit in hits)),
    )
    if not hits:
        front.out.note("Nothing found.")
