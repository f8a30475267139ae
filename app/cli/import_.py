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
    from quant.convert.convert import OutType


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name in the store.  [default: made from the file's name]")
@click.option("--link", is_flag=True, help="Leave the file where it is, and only remember it.")
@click.option(
    "--outtype",
    type=click.Choice(("bf16", "f16", "f32", "q8_0")),
    help="Of the matrices, where safetensors are converted.  [default: as they are stored]",
)
@options.output_options
@options.pass_front
def command(front: Front, path: Path, name: str | None, link: bool, outtype: OutType | None) -> None:
    """Check the GGUF file at PATH, or the parts of one in a folder, and store it under a name.

    A folder with safetensors, as the Hub has them, is converted to a GGUF on the way.
    """
    from app.cli.text import format_bytes
    from app.errors import WrongUse
    from app.paths import expand
    from quant.convert.checkpoint import is_checkpoint

    if is_checkpoint(expand(path)):
        if link:
            raise WrongUse(
                f"{path} holds safetensors: they are converted to a new file, so nothing can be linked",
                next_command=f"localq import {shlex.quote(str(path))}",
            )
        from app.cli.converting import import_folder

        manifest = import_folder(front, expand(path), name, outtype)
    elif outtype is not None:
        raise WrongUse(
            f"--outtype is for a folder with safetensors, and {path} is none",
            next_command=f"localq import {shlex.quote(str(path))}",
        )
    else:
        manifest = _import_gguf(front, path, name, link)
    front.out.result(
        document(manifest),
        f"Imported {manifest.name} ({format_bytes(manifest.size_bytes)}).",
        f"Talk to it: localq run {shlex.quote(manifest.name)}",
        quiet=[manifest.name],
    )


def _import_gguf(front: Front, path: Path, name: str | None, link: bool) -> Manifest:
    from app.hub.known import KNOWN

    chosen = name or default_name(path)
    with front.out.progress(f"{'reading' if link else 'copying'} {path.name}") as progress:
        return front.store().import_file(path, chosen, link=link, known=KNOWN, progress=progress.advance)


def default_name(path: Path) -> str:
    """A name for the model at ``path``: its file's or folder's, made fit to be one. Raises InvalidName."""
    from app.paths import expand

    resolved = expand(path).absolute()
    return name_from(resolved.name if resolved.is_dir() else resolved.stem)


def name_from(stem: str) -> str:
    """``stem`` made fit to be a model's name. Raises InvalidName."""
    from app.errors import InvalidName
    from app.store.names import check_name

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
