"""``localq cp``: a second name for a model."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("cp")
@click.argument("model")
@click.argument("name")
@options.output_options
@options.pass_front
def command(front: Front, model: str, name: str) -> None:
    """Give the stored MODEL a second NAME. Takes no room: both share their files."""
    from app.cli.import_ import document

    manifest = front.store().copy(model, name)
    front.out.result(
        document(manifest), f"{model} is also called {manifest.name} now.", quiet=[manifest.name]
    )
