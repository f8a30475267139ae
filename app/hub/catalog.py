"""Names for well-known open models, so that nobody has to know repositories: ``assets/catalog.toml``."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from pathlib import Path

import msgspec

from app.errors import InvalidReference
from app.hub.reference import CatalogReference, HubReference


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model of the catalog."""

    name: str
    repo: str
    """With its weights as GGUF."""
    revision: str = "main"
    """A branch or a commit."""
    quant: str | None = None
    """The quantization to take where none is named."""
    original: str
    """The repository of the model's makers, with its weights as safetensors."""
    license: str
    parameters: str
    """As people say it: 0.6B, 30B-A3B."""
    good_for: str


class _Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[Entry, ...]


def catalog_path() -> Path:
    """In a clone the file in ``assets``, in an installed localq its copy beside this module."""
    installed = Path(__file__).with_name("catalog.toml")
    return installed if installed.exists() else Path(__file__).parents[2] / "assets" / "catalog.toml"


@cache
def catalog() -> dict[str, Entry]:
    """The models by their names, smallest first."""
    table = tomllib.loads(catalog_path().read_text("utf-8"))
    return {entry.name: entry for entry in msgspec.convert(table, _Catalog).model}


def look_up(reference: CatalogReference) -> HubReference:
    """The repository behind a name. Raises :class:`InvalidReference` with names that are near."""
    entry = _entry(reference)
    revision = None if entry.revision == "main" else entry.revision
    return HubReference(entry.repo, revision, quant=reference.quant or entry.quant)


def original_of(reference: CatalogReference) -> HubReference:
    """The repository of the model's makers. Raises :class:`InvalidReference` as :func:`look_up` does."""
    return HubReference(_entry(reference).original)


def _entry(reference: CatalogReference) -> Entry:
    entry = catalog().get(reference.name)
    if entry is None:
        near = [name for name in catalog() if name.startswith(reference.name)][:3]
        near = near or difflib.get_close_matches(reference.name, catalog(), n=3, cutoff=0.5)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise InvalidReference(
            reference.name,
            f"the catalog has no such name{hint}; a model on the Hub is OWNER/NAME, a file here ./FILE",
            next_command=f"localq pull {near[0]}" if len(near) == 1 else f"localq search {reference.name}",
        )
    return entry
