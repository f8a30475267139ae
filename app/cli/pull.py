"""``localq pull``: bring a model from the Hub into the store, verified; it goes on where it stopped."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING

import click

from app.cli import options
from app.cli.fitting import context_option, fit_options, kv_option, portable_option
from app.cli.front import Front

if TYPE_CHECKING:
    from app.cli.pull_progress import Show
    from app.hub.reference import HubReference, PathReference
    from app.settings import Settings
    from app.store import Manifest, Store
    from quant.allocation.planner import Prefer
    from runtime.engine.config import KvType


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
@click.option(
    "--fit-ram",
    is_flag=True,
    help="Make the best file of the model that runs in this machine's memory, or in that of --ram.",
)
@options.ram_option
@context_option(multiple=False)
@kv_option
@fit_options
@portable_option(False)
@options.measure_option
@click.option("--keep-source", is_flag=True, help="With --fit-ram: store what was fetched too.")
@options.output_options
@options.pass_front
def command(
    front: Front,
    reference: str,
    name: str | None,
    connections: int,
    no_reuse: bool,
    force: bool,
    fit_ram: bool,
    ram: int | None,
    context: int | None,
    kv: KvType | None,
    keep_free: int | None,
    prefer: Prefer,
    portable: bool,
    measure: bool | None,
    keep_source: bool,
) -> None:
    """Fetch the model REF from the Hugging Face Hub into the store.

    REF is OWNER/NAME, OWNER/NAME:QUANT, OWNER/NAME/FILE.gguf, the address of any of these on hf.co, a name of
    the catalog (`localq search` without words lists it), or a path. OWNER/NAME@REVISION takes a branch, a tag
    or a commit.

    Parts of a split model, its mmproj file and its chat template come along. Every file is checked against
    the hash that the Hub announces before it gets its name. The same command goes on where an interrupted one
    stopped; files that another program has fetched are linked. Safetensors become a GGUF.

    With --fit-ram the model's original is fetched, and context, KV cache, buffers and formats are chosen
    together for the memory, as `localq plan REF` says before; then the original is let go again.
    """
    from app.cli.fitting import fit_of, only_portable, require_fit_ram
    from app.cli.pull_fitted import pull_fitted
    from app.cli.quantizing import default_choices
    from app.hub.catalog import look_up, original_of
    from app.hub.reference import CatalogReference, PathReference, parse_reference

    front.model = reference
    settings = front.settings(ram=ram, context=context)
    store = front.store(settings)
    parsed = parse_reference(reference)
    if isinstance(parsed, PathReference):
        _finish(front, _import(front, store, parsed, name))
        return
    if isinstance(parsed, CatalogReference):
        name = name or (f"{parsed.name}:fit" if fit_ram else reference)
        parsed = original_of(parsed) if fit_ram else look_up(parsed)
    others = {
        "--kv": kv,
        "--keep-free": keep_free,
        "--portable": portable or None,
        "--measure": measure,
        "--keep-source": keep_source or None,
    }
    require_fit_ram(front, fit_ram, others)
    if fit_ram:
        fit = fit_of(front, True, ram, context, kv, keep_free, prefer)
        pull_fitted(
            front,
            front.settings(),  # --ram is for running the result
            store,
            parsed,
            name,
            partial(
                default_choices,
                fit=fit,
                portable=only_portable(front, portable),
                measure=measure,
            ),
            connections=connections,
            reuse=not no_reuse,
            keep_source=keep_source,
        )
        return
    _finish(front, pull_whole(front, settings, store, parsed, name, connections, not no_reuse, force))


def pull_whole(
    front: Front,
    settings: Settings,
    store: Store,
    reference: HubReference,
    name: str | None,
    connections: int,
    reuse: bool,
    force: bool,
) -> Manifest:
    """A model as its repository has it, or its safetensors as a GGUF."""
    from app.cli.again import again
    from app.cli.pull_fit import require_fit
    from app.cli.pull_fitted import pull_converted
    from app.cli.pull_progress import Show
    from app.cli.text import format_bytes, plural
    from app.errors import NeedsConversion
    from app.hub.api import Hub
    from app.hub.original import find_original
    from app.hub.pull import default_name, find, pull_model, stored_model
    from app.store.names import check_name

    with Hub() as hub:
        with front.out.progress(f"asking for {reference}"):
            try:
                choice = find(hub, reference)
            except NeedsConversion:
                choice = None
        if choice is None:
            original = find_original(hub, reference)
            name = name or check_name(original.repo.repo.lower())
            return pull_converted(front, hub, store, original, name, connections=connections, reuse=reuse)
        with front.out.progress(f"asking for {reference}"):
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
                interrupted(front, show, again(front))
                raise


def interrupted(front: Front, show: Show, command: str) -> None:
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
