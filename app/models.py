"""What a person may write where a command wants a model: a stored name, a path, or ``demo``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.errors import InvalidName, ModelNotFound, NoSuchModel
from app.store import Manifest, Store
from runtime.gguf import ModelSummary

DEMO = "demo"


@dataclass(frozen=True)
class ResolvedModel:
    """A model and where its files lie. Texts of ``summary`` come from a file."""

    name: str
    """The stored name, or the file's name."""
    paths: tuple[Path, ...]
    """The GGUF, or the parts of a split one in their order."""
    summary: ModelSummary
    manifest: Manifest | None = None
    """None for a file that is not in the store."""


def resolve(reference: str, store: Store, fetch_demo: Callable[[Store], Manifest]) -> ResolvedModel:
    """The model that ``reference`` means. A stored name goes before a file of that name in this folder.

    ``/...``, ``./...``, ``../...`` and ``~/...`` are always paths. A missing ``demo`` is fetched.
    Raises ModelNotFound, StoreDamaged, UnsuitableFile, and GgufError for a file that is no valid GGUF.
    """
    if reference.startswith(("/", "./", "../", "~/")) or reference in (".", ".."):
        return _file(Path(reference).expanduser())
    try:
        return _stored(store.get(reference), store)
    except InvalidName:
        near: tuple[str, ...] = ()
    except NoSuchModel as error:
        near = error.nearest
    if reference == DEMO:
        return _stored(fetch_demo(store), store)
    path = Path(reference)
    if "\0" not in reference and path.exists():
        return _file(path)
    raise ModelNotFound(reference, near)


def _stored(manifest: Manifest, store: Store) -> ResolvedModel:
    return ResolvedModel(manifest.name, store.paths(manifest), manifest.summary, manifest)


def _file(path: Path) -> ResolvedModel:
    from app.store.sources import find_sources, merged

    sources = find_sources([path])
    models = [source for source in sources if source.role != "mmproj"]
    return ResolvedModel(path.name, tuple(source.path for source in models), merged(sources))
