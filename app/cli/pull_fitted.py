"""``localq pull --fit-ram``, and pulling what has to be converted: fetched, made, and let go again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.front import Front

if TYPE_CHECKING:
    from app.cli.pull_progress import Show
    from app.cli.quantizing import Choices, Made
    from app.hub.api import Hub
    from app.hub.original import Original, Outline
    from app.hub.reference import HubReference
    from app.models import ResolvedModel
    from app.settings import Settings
    from app.store import Manifest, Store
    from quant.allocation.fit import Fit
    from quant.convert.convert import OutType


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
    no_speed: bool = False,
) -> Made:
    """The best file of a model that runs in a memory, from its original on the Hub.

    ``choices`` gets the name that the result will have. Raises DoesNotFit before anything is fetched.
    """
    from app.cli.quantizing import foresee, make
    from app.cli.relatives import proposing
    from app.converting import require_free
    from app.hub.api import Hub
    from app.hub.original import find_original, outline
    from app.store.names import check_name
    from runtime.errors import DoesNotFit

    with Hub() as hub:
        with front.out.progress(f"asking for {reference}"):
            original = find_original(hub, reference)
        name = check_name(name or f"{original.repo.repo}:fit".lower())
        chosen = choices(name)
        assert chosen.fit is not None
        if (made := _interrupted(store, name, original.repo.repo, chosen.fit)) is not None:
            return _proved(front, settings, store, made, chosen.fit, no_speed=no_speed)
        require_free(store, name)
        with store.scratch() as scratch:
            with front.out.progress("reading its header"):
                sketch = outline(hub, original, scratch)
            fit_in = partial(foresee, front, settings, store, fit=chosen.fit, words=not chosen.portable)
            try:
                plan = fit_in(sketch.headers)
            except DoesNotFit as error:
                name, quiet = original.repo.repo, partial(fit_in, quiet=True)
                raise proposing(front, hub, store, name, sketch.headers, error, quiet) from error
            working = partial(outline, hub, original, scratch)
            outtype = working_type(front, store, sketch, plan.file_bytes, working)
        with source(front, hub, store, original, outtype, connections=connections, reuse=reuse) as found:
            if keep_source:
                found = _kept(store, found)
            return make(front, settings, store, found, chosen, no_speed=no_speed, verbose=False)


def _interrupted(store: Store, name: str, repo: str, fit: Fit) -> Made | None:
    """What an earlier call for the same memory had published when it was interrupted before its proof."""
    from app.cli.quality import certificate_of
    from app.cli.quantizing import Made
    from app.errors import NoSuchModel
    from app.models import ResolvedModel

    try:
        manifest = store.get(name)
    except NoSuchModel:
        return None
    paths = store.paths(manifest)
    certificate = certificate_of(store, ResolvedModel(name, paths, manifest))
    running = certificate and certificate.running
    if certificate is None or not running or certificate.proof is not None or manifest.source.origin != repo:
        return None
    if fit.memory_bytes not in (None, running.budget_bytes):
        return None
    return Made(name, paths, certificate, manifest.size_bytes, 0, stored=True, imatrix=None)


def _proved(front: Front, settings: Settings, store: Store, made: Made, fit: Fit, *, no_speed: bool) -> Made:
    """Does what was left to do, and says what is there."""
    import msgspec

    from app.cli.proof import prove
    from quant.allocation.learned import read_learned
    from runtime.gguf import open_model

    if not no_speed:
        architecture = open_model(made.paths).header.architecture
        fit = replace(fit, learned=read_learned(store.home, architecture))
        made = prove(front, store, settings, made, fit)
    document = {"name": made.name, "certificate": msgspec.to_builtins(made.certificate)}
    front.out.result(
        document,
        f"{made.name} was made by a call that was interrupted; see localq show {made.name} --quality",
        quiet=[made.name],
    )
    return made


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
    from app.converting import import_checkpoint
    from app.hub.original import arriving, provenance_of
    from app.hub.pull import source_of

    with (
        _listening(front, original) as show,
        arriving(hub, store, original, show, connections=connections, reuse=reuse) as (folder, shards),
    ):
        return import_checkpoint(
            store,
            folder,
            name,
            provenance=provenance_of(hub, original.repo),
            source=source_of(hub, original.repo),
            on_event=show.converting,
            shards=shards,
        )


@contextmanager
def source(
    front: Front,
    hub: Hub,
    store: Store,
    original: Original,
    outtype: OutType | None,
    *,
    connections: int,
    reuse: bool,
) -> Iterator[ResolvedModel]:
    """The original as a GGUF on this machine, of ``outtype`` where it is converted, until the block ends
    well."""
    from app.converting import converted
    from app.hub.original import arriving, fetched, paths_in, provenance_of
    from app.hub.pull import source_of
    from app.models import ResolvedModel

    known, where = provenance_of(hub, original.repo), source_of(hub, original.repo)
    with ExitStack() as stack:
        with _listening(front, original) as show:
            paths: tuple[Path, ...]
            if original.converts:
                arrival = arriving(hub, store, original, show, connections=connections, reuse=reuse)
                folder, shards = stack.enter_context(arrival)
                made = converted(store, folder, lambda: nullcontext(show.converting), known, shards, outtype)
                paths = (stack.enter_context(made),)
            else:
                whole = fetched(hub, store, original, show, connections=connections, reuse=reuse)
                paths = paths_in(stack.enter_context(whole), original.files)
        yield ResolvedModel(original.repo.repo, paths, source=where)


@contextmanager
def _listening(front: Front, original: Original) -> Iterator[Show]:
    """Says what comes, and shows how far it is until the block ends."""
    from app.cli.again import again
    from app.cli.pull import interrupted
    from app.cli.pull_progress import Show
    from app.cli.text import format_bytes, plural

    repo = original.repo
    front.out.note(
        f"Pulling {repo.repo}: {plural(len(original.files), 'file')}, {format_bytes(original.size)}, "
        f"licence {repo.license or 'not stated'}."
    )
    with front.out.bars() as bars:
        show = Show(front, bars)
        try:
            yield show
        except KeyboardInterrupt:
            interrupted(front, show, again(front))
            raise


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


def working_type(
    front: Front,
    store: Store,
    sketch: Outline,
    result_bytes: int,
    outline_as: Callable[[OutType], Outline],
) -> OutType | None:
    """The type of the GGUF to work with: the weights' own, None, or Q8_0 where the disk is too small for it.

    Says what all of it takes. Raises :class:`app.errors.NotEnoughDisk`.
    """
    from app.cli.text import format_bytes
    from app.errors import NotEnoughDisk
    from app.store import disk

    free = disk.free_bytes(store.home) + disk.used_bytes(store.work)
    outtype: OutType | None = None
    if sketch.working_bytes and sketch.disk_bytes(result_bytes) > free:
        outtype, sketch = "q8_0", outline_as("q8_0")
        front.out.note(f"The disk has {format_bytes(free)} free: the weights are kept in Q8_0 meanwhile.")
    needed = sketch.disk_bytes(result_bytes)
    if needed > free:
        raise NotEnoughDisk(store.home, needed_bytes=needed, free_bytes=free)
    front.out.note(
        f"It takes up to {format_bytes(needed)} of disk on the way"
        f"{' (a part of its files, their GGUF, the result)' if sketch.working_bytes else ''}, "
        f"and {format_bytes(result_bytes)} in the end."
    )
    return outtype
