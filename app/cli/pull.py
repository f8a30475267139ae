"""``localq pull``: bring a model from the Hub into the store, verified; it goes on where it stopped."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.front import Front

if TYPE_CHECKING:
    from app.cli.pull_progress import Show
    from app.hub.reference import HubReference, PathReference
    from app.settings import Settings
    from app.store import Manifest, Store


@click.command("pull")
@click.argument("reference", metavar="REF")
@click.option(
    "--name", metavar="NAME", help="Name in the store.  [default: the repository's, and the quantization]"
)
@click.option(
    "--connections",
    type=click.IntRange(1, 16),
    default=4,
    show_default=True,
    metavar="N",
    help="Connections to fetch one file over.",
)
@click.option(
    "--no-reuse", is_flag=True, help="Fetch even what Hugging Face's cache, Ollama or LM Studio has already."
)
@click.option("--force", is_flag=True, help="Fetch even a model that this machine has no memory for.")
@options.ram_option
@options.context_option
@options.output_options
@options.pass_front
def command(
    front: Front,
    reference: str,
    name: str | None,
    connections: int,
    no_reuse: bool,
    force: bool,
    ram: int | None,
    context: int | None,
) -> None:
    """Fetch the model REF from the Hugging Face Hub into the store.

    REF is OWNER/NAME, OWNER/NAME:QUANT, OWNER/NAME/FILE.gguf, the address of any of these on hf.co, a name of
    the catalog (`localq search` without words lists it), or a path. OWNER/NAME@REVISION takes a branch, a tag
    or a commit.

    Parts of a split model, its mmproj file and its chat template come along. Every file is checked against
    the hash that the Hub announces before it gets its name. The same command goes on where an interrupted one
    stopped; files that another program has fetched are linked.
    """
    from app.hub.catalog import look_up
    from app.hub.reference import CatalogReference, PathReference, parse_reference

    front.model = reference
    settings = front.settings(ram=ram, context=context)
    store = front.store(settings)
    parsed = parse_reference(reference)
    if isinstance(parsed, PathReference):
        _finish(front, _import(front, store, parsed, name))
        return
    if isinstance(parsed, CatalogReference):
        name = name or reference
        parsed = look_up(parsed)
    _finish(front, _pull(front, settings, store, parsed, name, connections, not no_reuse, force))


def _pull(
    front: Front,
    settings: Settings,
    store: Store,
    reference: HubReference,
    name: str | None,
    connections: int,
    reuse: bool,
    force: bool,
) -> Manifest:
    from app.cli.again import again
    from app.cli.pull_fit import require_fit
    from app.cli.pull_progress import Show
    from app.cli.text import format_bytes, plural
    from app.hub.api import Hub
    from app.hub.pull import default_name, find, pull_model, stored_model

    with Hub() as hub:
        with front.out.progress(f"asking for {reference}"):
            choice = find(hub, reference)
            name = name or default_name(reference, choice)
            stored = stored_model(store, choice, name)
        if stored is not None:
            front.out.note(f"{name} is up to date.")
            return stored
        require_fit(front, hub, choice, settings, force=force)
        size = format_bytes(sum(file.size for file in choice.files))
        front.out.note(
            f"Pulling {choice.repo.repo}, {choice.model.label}: {plural(len(choice.files), 'file')}, {size}, "
            f"licence {choice.repo.license or 'not stated'}."
        )
        with front.out.bars() as bars:
            show = Show(front, bars)
            try:
                return pull_model(hub, store, choice, name, show, connections=connections, reuse=reuse)
            except KeyboardInterrupt:
                _interrupted(front, show, again(front))
                raise


def _interrupted(front: Front, show: Show, command: str) -> None:
    from app.cli.text import format_bytes

    kept, total = show.kept_bytes, show.total_bytes
    if front.out.json:
        front.out.event({"event": "interrupted", "kept_bytes": kept, "total_bytes": total, "next": command})
    front.out.note(
        f"Interrupted. {format_bytes(kept)} of {format_bytes(total)} are kept (`localq gc` removes them).",
        f"Go on with: {command}",
    )


def _import(front: Front, store: Store, reference: PathReference, name: str | None) -> Manifest:
    from app.cli.import_ import default_name
    from app.hub.known import KNOWN
    from app.paths import expand

    path = expand(reference.path)
    chosen = name or default_name(path)
    with front.out.progress(f"copying {path.name}") as progress:
        return store.import_file(path, chosen, known=KNOWN, progress=progress.advance)


def _finish(front: Front, manifest: Manifest) -> None:
    from app.cli.import_ import document
    from app.cli.text import format_bytes

    front.out.result(
        {"event": "stored", **document(manifest)},
        f"Pulled {manifest.name} ({format_bytes(manifest.size_bytes)}).",
        f"Talk to it: localq run {shlex.quote(manifest.name)}",
        quiet=[manifest.name],
    )
