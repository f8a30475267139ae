"""``localq chats export``: chats as Markdown or JSON, on stdout or in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.front import Front

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.chats import Chat, Chats


@click.command("export")
@click.argument("numbers", type=int, nargs=-1, metavar="[CHAT]...")
@click.option("--all", "everything", is_flag=True, help="All chats.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("md", "json")),
    default="md",
    show_default=True,
    help="Markdown of the current branch to read, or JSON of everything to import again.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A file, or for Markdown of several chats a folder.  [default: stdout]",
)
@options.output_options
@options.pass_front
def command(front: Front, numbers: tuple[int, ...], everything: bool, form: str, out: Path | None) -> None:
    """Write CHATs as Markdown or JSON. Files that exist already stay as they are.

    In Markdown control characters are shown instead of kept; JSON keeps them, escaped.
    """
    from app.chats import Archive
    from app.chats.export import markdown_of, to_json
    from app.errors import WrongUse
    from app.paths import expand

    if bool(numbers) == everything:
        raise WrongUse("give the numbers of the chats to export, or --all", next_command="localq chats list")
    target = None if out is None else expand(out)
    written: list[Path] = []
    with front.chats() as chats:
        chosen = chats.list() if everything else [chats.get(number) for number in dict.fromkeys(numbers)]
        if front.out.json and target is None:
            front.out.event(Archive(chats=tuple(chats.save(chat.id) for chat in chosen)))
        elif form == "json":
            written = _document(front, target, to_json([chats.save(chat.id) for chat in chosen]))
        elif target is not None and (target.is_dir() or len(chosen) != 1):
            written = _files(chats, chosen, target)
        else:
            text = "\n".join(markdown_of(chats, chat) for chat in chosen)
            written = _document(front, target, text.encode())
    if target is not None:
        front.out.result(
            {"chats": len(chosen), "files": [str(path) for path in written]},
            *(f"Wrote {path}" for path in written),
            quiet=[str(path) for path in written],
        )


def _document(front: Front, target: Path | None, data: bytes) -> list[Path]:
    if target is None:
        front.out.text(data.decode())
        return []
    from app.chats.writing import write_new

    write_new(target, data)
    return [target]


def _files(chats: Chats, chosen: Sequence[Chat], folder: Path) -> list[Path]:
    from app.chats.export import file_stem, markdown_of
    from app.chats.writing import write_new

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = []
    for chat in chosen:
        path = folder / f"{file_stem(chat)}.md"
        write_new(path, markdown_of(chats, chat).encode())
        written.append(path)
    return written
