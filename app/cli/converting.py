"""Folders with safetensors on the command line: converted where a GGUF is wanted, and how far that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.front import Front
from app.errors import UnconvertedModel

if TYPE_CHECKING:
    from app.models import ResolvedModel
    from app.settings import Settings
    from app.store import Manifest, Store
    from quant.convert.convert import OutType
    from quant.progress import Event


@contextmanager
def find_original(front: Front, settings: Settings, reference: str) -> Iterator[tuple[Store, ResolvedModel]]:
    """As :func:`app.cli.loading.find`; a folder with safetensors is converted for the length of the block.

    Where the block fails, what was converted is kept for the same command again.
    """
    from app.cli.loading import find
    from app.converting import converted
    from app.models import ResolvedModel, require_unicode

    try:
        found = find(front, settings, reference)
    except UnconvertedModel as error:
        folder = error.path.absolute()
    else:
        yield found
        return
    require_unicode(folder)
    store = front.store(settings)
    with converted(store, folder, partial(shown, front, f"converting {folder.name}:")) as path:
        yield store, ResolvedModel(path.stem, (path,), folder=folder)


@contextmanager
def find_header(front: Front, settings: Settings, reference: str) -> Iterator[ResolvedModel]:
    """As :func:`find_original`, of files that nothing but the headers is read of: nothing is converted."""
    from app.cli.loading import find
    from app.models import ResolvedModel
    from quant.convert.convert import write_outline

    try:
        found = find(front, settings, reference)[1]
    except UnconvertedModel as error:
        folder = error.path
    else:
        yield found
        return
    with front.store(settings).scratch() as scratch:
        path = scratch / "outline.gguf"
        write_outline(folder, path)
        yield ResolvedModel(folder.absolute().name, (path,), folder=folder)


def import_folder(front: Front, folder: Path, name: str | None, outtype: OutType | None) -> Manifest:
    """Converts the safetensors in ``folder`` into the store. Raises what ``import_checkpoint`` raises."""
    from app.cli.import_ import name_from
    from app.converting import file_stem, import_checkpoint
    from quant.convert.snapshot import snapshot_provenance

    provenance = snapshot_provenance(folder)
    chosen = name or name_from(file_stem(folder, provenance))
    with shown(front, f"importing {folder.absolute().name}:") as show:
        return import_checkpoint(
            front.store(),
            folder,
            chosen,
            outtype=outtype,
            provenance=provenance,
            on_event=show,
            progress=show.storing,
        )


@contextmanager
def shown(front: Front, label: str) -> Iterator[Shown]:
    """A listener for the events of a conversion; its line ends with the block."""
    with front.out.progress(label) as progress:
        yield Shown(progress.say, front.out.warn, front.out.hear)


class Shown:
    """Events of a conversion as a line on the terminal, and warnings."""

    def __init__(
        self, say: Callable[[str], None], warn: Callable[[str], None], hear: Callable[[object], None]
    ) -> None:
        self._say = say
        self._warn = warn
        self._hear = hear

    def __call__(self, event: Event) -> None:
        from quant.progress import PhaseEvent, WarningEvent

        self._hear(event)
        if isinstance(event, PhaseEvent):
            self._say(f"converting {event.done / event.total:.0%}")
        elif isinstance(event, WarningEvent):
            self._warn(event.message)

    def storing(self, done: int, total: int) -> None:
        """``done`` of ``total`` bytes are in the store."""
        self._say(f"storing {done / total:.0%}" if total else "storing")
