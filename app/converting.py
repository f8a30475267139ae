"""A folder with safetensors becomes a model of the store, or for a while a GGUF to work with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from app.errors import NameTaken, NoSuchModel
from app.store import ChatDefaults, Manifest, Source, Store
from app.version import VERSION
from quant.convert.checkpoint import repository_files
from quant.convert.convert import OutType, convert
from quant.convert.metadata import Provenance, title_of
from quant.convert.shards import Shards
from quant.convert.snapshot import snapshot_provenance
from quant.errors import WorkInUse
from quant.files.work import open_work, work_key
from quant.files.writer import PartFile
from quant.progress import OnEvent, ignore

STEM_CHARACTERS = 100


def _silent(_done: int, _total: int) -> None:
    """Progress that nobody wants to see."""


def import_checkpoint(
    store: Store,
    folder: Path,
    name: str,
    *,
    outtype: OutType | None = None,
    provenance: Provenance | None = None,
    source: Source | None = None,
    defaults: ChatDefaults = ChatDefaults(),  # noqa: B008 (frozen)
    on_event: OnEvent = ignore,
    progress: Callable[[int, int], None] = _silent,
    shards: Shards | None = None,
) -> Manifest:
    """Converts the repository in ``folder``, and stores the GGUF as ``name``.

    ``provenance`` None means what the folder's path and model card say; ``source`` None the folder itself.
    ``on_event`` gets the conversion's events, ``progress`` bytes done and bytes to do of the copying into the
    store. Raises :class:`NameTaken`, and what :func:`quant.convert.convert.convert` and
    :meth:`app.store.Store.import_file` raise; the store is as it was then.
    """
    require_free(store, name)
    folder = folder.absolute()
    known = provenance or snapshot_provenance(folder)

    def into_store(part: PartFile) -> None:
        origin = Source(
            kind="file", origin=_text(folder), license=known.license, url=known.url, version=known.commit
        )
        store.import_file(part.path, name, source=source or origin, defaults=defaults, progress=progress)

    convert(
        folder,
        store.work / f"{file_stem(folder, known)}.gguf",
        outtype=outtype,
        provenance=known,
        work=store.work,
        copies=2,
        on_event=on_event,
        publish=into_store,
        shards=shards,
    )
    return store.get(name)


@contextmanager
def converted(
    store: Store,
    folder: Path,
    listening: Callable[[], AbstractContextManager[OnEvent]],
    provenance: Provenance | None = None,
    shards: Shards | None = None,
    outtype: OutType | None = None,
) -> Iterator[Path]:
    """The GGUF of the repository in ``folder``, with the weights' own types, until the block ends well.

    ``listening`` is entered for the time of the conversion, and gets its events. Where the block fails, the
    file stays for the next try, as long as the repository does not change; ``localq gc`` removes it. Raises
    what :func:`quant.convert.convert.convert` raises, WorkInUse while another process has it.
    """
    folder = folder.absolute()
    known = provenance or snapshot_provenance(folder)
    stem = file_stem(folder, known)
    identities = [
        [_text(path), status.st_size, status.st_mtime_ns, status.st_ino]
        for path, status in ((path, path.stat()) for path in repository_files(folder))
    ]
    key = work_key([VERSION, known.repository, known.commit, outtype, identities])
    with ExitStack() as stack:
        try:
            work = stack.enter_context(open_work(store.work, key, f"{stem}.gguf"))
        except WorkInUse as error:
            raise WorkInUse(error.folder, f"works with the safetensors in {folder}") from error
        if not work.part.exists():
            with listening() as on_event:
                convert(
                    folder, work.part, outtype=outtype, provenance=known, on_event=on_event, shards=shards
                )
        yield work.part
        work.remove()


def file_stem(folder: Path, provenance: Provenance) -> str:
    """What the GGUF is called, without its suffix: any file system takes it."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", title_of(folder, provenance)).lstrip(".-")
    return plain[:STEM_CHARACTERS] or "model"


def require_free(store: Store, name: str) -> None:
    """Raises :class:`NameTaken`, and :class:`InvalidName`, before hours of work do."""
    try:
        store.get(name)
    except NoSuchModel:
        return
    raise NameTaken(name)


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "replace").decode("utf-8")
