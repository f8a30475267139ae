"""``localq pull --fit-ram``, and pulling what has to be converted: fetched, made, and let go again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.front import Front

if TYPE_CHECKING:
    from app.cli.quantizing import Choices
    from app.hub.api import Hub
    from app.hub.original import Original
    from app.hub.reference import HubReference
    from app.models import ResolvedModel
    from app.settings import Settings
    from app.store import Manifest, Store


def pull_fitted(
    front: Front,
    settings: Settings,
    store: Store,
    reference: HubReference,
    name: str | None,
    choices: Callable[[str], Choices],
    *,
    connections: int,
    reuse: bool,
    keep_source: bool,
) -> None:
    """The best file of a model that runs in a memory, from its original on the Hub.

    ``choices`` gets the name that the result will have. Raises DoesNotFit before anything is fetched.
    """
    from app.cli.quantizing import foresee, make
    from app.cli.relatives import proposing
    from app.hub.api import Hub
    from app.hub.original import find_original, outline
    from app.store.names import check_name
    from runtime.errors import DoesNotFit

    with Hub() as hub:
        with front.out.progress(f"asking for {reference}"):
            original = find_original(hub, reference)
        chosen = choices(check_name(name or f"{original.repo.repo}:fit".lower()))
        assert chosen.fit is not None
        with store.scratch() as scratch, front.out.progress("reading its header"):
            headers = outline(hub, original, scratch)
        fit_in = partial(foresee, front, settings, store, fit=chosen.fit)
        try:
            plan = fit_in(headers)
        except DoesNotFit as error:
            quiet = partial(fit_in, quiet=True)
            raise proposing(front, hub, store, original.repo.repo, headers, error, quiet) from error
        _say_disk(front, original, plan.file_bytes)
        with source(front, hub, store, original, connections=connections, reuse=reuse) as found:
            if keep_source:
                found = _kept(store, found)
            make(front, settings, store, found, chosen, no_speed=False, verbose=False)


def pull_converted(
    front: Front,
    hub: Hub,
    store: Store,
    original: Original,
    name: str,
    *,
    connections: int,
    reuse: bool,
) -> Manifest:
    """The safetensors of ``original`` as a GGUF in the store, in the weights' own types."""
    from app.cli.converting import shown
    from app.converting import import_checkpoint
    from app.hub.original import provenance_of
    from app.hub.pull import source_of

    with (
        _fetched(front, hub, store, original, connections, reuse) as folder,
        shown(front, "converting:") as show,
    ):
        return import_checkpoint(
            store,
            folder,
            name,
            provenance=provenance_of(hub, original.repo),
            source=source_of(hub, original.repo),
            on_event=show,
            progress=show.storing,
        )


@contextmanager
def source(
    front: Front, hub: Hub, store: Store, original: Original, *, connections: int, reuse: bool
) -> Iterator[ResolvedModel]:
    """The original as a GGUF on this machine, until the block ends well."""
    from app.cli.converting import shown
    from app.converting import converted
    from app.hub.original import paths_in, provenance_of
    from app.hub.pull import source_of
    from app.models import ResolvedModel

    repo = original.repo
    with _fetched(front, hub, store, original, connections, reuse) as folder:
        if not original.converts:
            yield ResolvedModel(repo.repo, paths_in(folder, original.files), source=source_of(hub, repo))
            return
        listening = partial(shown, front, f"converting {repo.repo}:")
        with converted(store, folder, listening, provenance_of(hub, repo)) as path:
            yield ResolvedModel(repo.repo, (path,), source=source_of(hub, repo))


@contextmanager
def _fetched(
    front: Front, hub: Hub, store: Store, original: Original, connections: int, reuse: bool
) -> Iterator[Path]:
    from contextlib import ExitStack

    from app.cli.again import again
    from app.cli.pull import interrupted
    from app.cli.pull_progress import Show
    from app.cli.text import format_bytes, plural
    from app.hub.original import fetched

    repo = original.repo
    front.out.note(
        f"Pulling {repo.repo}: {plural(len(original.files), 'file')}, {format_bytes(original.size)}, "
        f"licence {repo.license or 'not stated'}."
    )
    with ExitStack() as stack:
        with front.out.bars() as bars:
            show = Show(front, bars)
            try:
                folder = stack.enter_context(
                    fetched(hub, store, original, show, connections=connections, reuse=reuse)
                )
            except KeyboardInterrupt:
                interrupted(front, show, again(front))
                raise
        yield folder


def _kept(store: Store, found: ResolvedModel) -> ResolvedModel:
    """The original in the store, under the repository's name."""
    from app.errors import NoSuchModel
    from app.models import ResolvedModel
    from app.store.names import check_name

    assert found.source is not None
    name = check_name(f"{found.source.origin}:original".lower())
    try:
        manifest = store.get(name)
    except NoSuchModel:
        manifest = store.import_file(found.paths[0], name, source=found.source)
    return ResolvedModel(manifest.name, store.paths(manifest), manifest)


def _say_disk(front: Front, original: Original, result: int) -> None:
    """What all of it takes on the disk at its peak."""
    from app.cli.text import format_bytes

    copies = original.size if original.converts else 0
    front.out.note(
        f"It takes up to {format_bytes(original.size + copies + 2 * result)} of disk on the way"
        f"{' (files, their GGUF, the result)' if copies else ''}, and {format_bytes(result)} in the end."
    )
