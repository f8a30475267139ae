"""``localq chat``: the terminal app, with a new chat."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("chat")
@click.argument("model", required=False)
@click.option("--inline", is_flag=True, help="Below the prompt, instead of the whole screen.")
@click.option("--theme", metavar="NAME", help="Colours, such as localq-light, ansi-dark or textual-ansi.")
@options.context_option
@options.threads_option
@options.kv_option
@options.ram_option
@options.output_options
@options.pass_front
def command(
    front: Front,
    model: str | None,
    inline: bool,
    theme: str | None,
    context: int | None,
    threads: int | None,
    kv: str | None,
    ram: int | None,
) -> None:
    """Open the terminal app with a new chat with MODEL, or with the model that was used last.

    MODEL is the name of a stored model, a path to a GGUF file, or 'demo', which is fetched when missing.
    'localq' alone opens the chat that was open last.

    Chats are kept in the store's folder, for their owner only; the setting 'chats' = 'none' keeps them in
    memory. F1 shows keys and commands. For a screen reader, or without a screen: localq run MODEL.
    """
    from app.cli.app import open_app

    open_app(
        front,
        front.settings(context=context, threads=threads, kv=kv, ram=ram),
        model=model,
        new=True,
        inline=inline,
        theme=theme,
    )
