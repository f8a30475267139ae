"""``localq import``: take a model that is already on this machine into the store."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.front import Front

if TYPE_CHECKING:
    from app.store import Manifest


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name in the store.  [default: made from the file's name]")
@click.option("--link", is_flag=True, help="Leave the file where it is, and only remember it.")
@options.output_options
@options.pass_front
def command(front: Front, path: Path, name: str | None, link: bool) -> None:
    """Check the GGUF file at PATH, or the parts of one in a folder, and store it under a name."""
    from app.cli.text import format_bytes
    from app.hub.known import KNOWN

    chosen = name or default_name(path)
    with front.out.progress(f"{'reading' if link else 'copying'} {path.name}") as progress:
        manifest = front.store().import_file(path, chosen, link=link, known=KNOWN, progress=progress.advance)
    front.out.result(
        document(manifest),
        f"Imported {manifest.name} ({format_bytes(manifest.size_bytes)}).",
        f"Talk to it: localq run {shlex.quote(manifest.name)}",
        quiet=[manifest.name],
    )


def default_name(path: Path) -> str:
    """A name for the model at ``path``: its file's or folder's, made fit to be one. Raises InvalidName."""
    from app.errors import InvalidName
    from app.paths import expand
    from app.store.names import check_name

    resolved = expand(path).absolute()
    stem = resolved.name if resolved.is_dir() else resolved.stem
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", stem)
    try:
        return check_name(stem.lower())
    except InvalidName as error:
        if error.suggestion is None:
            raise
        return error.suggestion


def document(manifest: Manifest) -> dict[str, object]:
    """A stored model as ``import``, ``list`` and ``show`` print it with --json."""
    import msgspec

    built: dict[str, object] = msgspec.to_builtins(manifest)
    return {**built, "size_bytes": manifest.size_bytes}
