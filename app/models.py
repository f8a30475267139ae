"""What a person may write where a command wants a model: a stored name, a path, or ``demo``."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.errors import (
    InvalidName,
    InvalidReference,
    ModelNotFound,
    NoSuchModel,
    UnconvertedModel,
    WrongUse,
)
from app.paths import expand
from app.store import Manifest, Source, Store

DEMO = "demo"


@dataclass(frozen=True)
class ResolvedModel:
    """A model and where its files lie; they have not been read yet."""

    name: str
    """The stored name, or the file's name."""
    paths: tuple[Path, ...]
    """The GGUF, or the parts of a split one in their order; of a path that a person gave, any one part."""
    manifest: Manifest | None = None
    """None for a file that is not in the store."""
    folder: Path | None = None
    """That of the safetensors which the GGUF was made of for the command under way."""
    source: Source | None = None
    """Where a file is from that is only here for the command under way."""


def resolve(reference: str, store: Store, fetch_demo: Callable[[Store], Manifest]) -> ResolvedModel:
    """The model that ``reference`` means. A stored name goes before a file of that name in this folder.

    A reference to the Hub (``Org/Model:Q4_K_M``) means the model that was pulled by it, if there is one.

    ``/...``, ``./...``, ``../...`` and ``~/...`` are always paths. A missing ``demo`` is fetched.
    Raises ModelNotFound, StoreDamaged, and for a folder UnconvertedModel, UnsuitableFile and GgufError.
    """
    if not reference.startswith(("/", "./", "../", "~/")):
        try:
            return _stored(store.get(reference), store)
        except (InvalidName, NoSuchModel):
            pulled = _pulled(reference, store)
            if pulled is not None:
                return _stored(pulled, store)
            near = _near(reference, store)
        if reference == DEMO:
            return _stored(fetch_demo(store), store)
    else:
        near = ()
    path = expand(reference)
    if not reference or "\0" in reference or not _exists(path):
        raise ModelNotFound(reference, near)
    return ResolvedModel(path.name, _models_in(path) if path.is_dir() else (path,))


def require_unicode(path: Path) -> None:
    """Raises WrongUse for a path with bytes that are no UTF-8: it cannot be told to another process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise WrongUse(
            f"the path {path} holds bytes that are no UTF-8; rename it, or import the file into the store",
            next_command="localq import --help",
        ) from None


def _stored(manifest: Manifest, store: Store) -> ResolvedModel:
    return ResolvedModel(manifest.name, store.paths(manifest), manifest)


def _pulled(reference: str, store: Store) -> Manifest | None:
    """The stored model that a reference to the Hub means, if it means one and no other."""
    from app.hub.reference import HubReference, parse_reference

    try:
        parsed = parse_reference(reference)
    except InvalidReference:
        return None
    if not isinstance(parsed, HubReference):
        return None
    found = [
        manifest
        for manifest in store.list()
        if manifest.source.kind == "hub"
        and manifest.source.origin.lower() == parsed.repo.lower()
        and parsed.revision in (None, manifest.source.version)
        and (parsed.quant is None or manifest.name.endswith(f":{parsed.quant.lower()}"))
        and parsed.file in (None, *(file.filename for file in manifest.files))
    ]
    return found[0] if len(found) == 1 else None


def _near(reference: str, store: Store) -> tuple[str, ...]:
    """Names that ``reference`` may have meant; ``demo`` always is one that could be."""
    import difflib

    names = {DEMO: None} | {manifest.name: None for manifest in store.list()}
    return tuple(difflib.get_close_matches(reference.lower(), names, n=3, cutoff=0.5))


def _models_in(folder: Path) -> tuple[Path, ...]:
    from app.store.sources import find_sources
    from quant.convert.checkpoint import is_checkpoint

    if is_checkpoint(folder):
        raise UnconvertedModel(folder)
    return tuple(source.path for source in find_sources([folder]) if source.role != "mmproj")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise
