"""``localq rm``: remove models, and give their room back."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("rm")
@click.argument("models", nargs=-1, required=True)
@options.output_options
@options.pass_front
def command(front: Front, models: tuple[str, ...]) -> None:
    """Remove MODELS from the store, and the files that no other model needs. A linked file stays.

    If a name is not stored, nothing is removed.
    """
    from app.cli.text import format_bytes
    from app.errors import StoreDamaged

    store = front.store()
    names = list(dict.fromkeys(models))
    for name in names:
        try:
            store.get(name)
        except StoreDamaged:
            continue  # a damaged model can be removed too
    removed = [(name, store.remove(name)) for name in names]
    front.out.result(
        {"removed": [{"name": name, "freed_bytes": freed} for name, freed in removed]},
        *(f"Removed {name} ({format_bytes(freed)} freed)." for name, freed in removed),
        quiet=names,
    )
