"""From the command line into the terminal app."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import click

from app.cli.front import Front
from app.errors import WrongUse

if TYPE_CHECKING:
    from app.settings import Settings


def has_terminal() -> bool:
    """Whether somebody could use the app here."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def open_app(
    front: Front,
    settings: Settings,
    *,
    model: str | None = None,
    new: bool = False,
    inline: bool = False,
    theme: str | None = None,
) -> None:
    """Runs the app until the person leaves. Raises WrongUse where there is no terminal."""
    if front.out.json or not has_terminal():
        raise WrongUse(
            "there is no terminal to chat in; 'localq run' answers without one",
            next_command="localq run --help",
        )
    gc.disable()  # what is imported and built before the first frame stays; begun again by the chat screen
    from app.tui.app import LocalqApp, Opening

    try:
        app = LocalqApp(front, settings, Opening(model=model, new=new, theme=theme))
        app.run(inline=inline)
    finally:
        gc.enable()
    if inline and app.said:
        front.out.text(app.said)
    if app.return_code:
        raise click.exceptions.Exit(app.return_code)
