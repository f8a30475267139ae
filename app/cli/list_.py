"""``localq list``: the stored models."""

from __future__ import annotations

import click

from app.cli import options
from app.cli.front import Front


@click.command("list")
@options.output_options
@options.pass_front
def command(front: Front) -> None:
    """List the stored models. --quiet prints their names alone."""
    from app.cli.import_ import document
    from app.cli.output import Table
    from app.cli.text import format_bytes, format_parameters

    store = front.store()
    models, damaged = store.list(), store.damaged()
    rows = [
        (
            model.name,
            format_bytes(model.size_bytes),
            format_parameters(model.summary.parameters),
            model.summary.file_type,
            model.summary.architecture,
            model.source.license or model.summary.license or "not stated",
            f"{model.created:%Y-%m-%d}",
        )
        for model in models
    ]
    header = ("NAME", "SIZE", "WEIGHTS", "TYPE", "ARCHITECTURE", "LICENCE", "STORED")
    front.out.result(
        {"models": [document(model) for model in models], "damaged": [str(error) for error in damaged]},
        *([Table(header, rows, right=frozenset({1, 2}))] if rows else []),
        quiet=[model.name for model in models],
    )
    for error in damaged:
        front.out.warn(f"{error}; next: {error.next_command}")
    if not models and not damaged:
        front.out.note("No models yet. Start with: localq run demo")
