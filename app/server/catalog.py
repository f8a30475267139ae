"""The models that the endpoint offers, by the names that requests use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.errors import InvalidName, ModelNotFound, NoSuchModel, StoreError
from app.models import ResolvedModel
from app.store import ChatDefaults, Manifest, Store
from runtime.gguf import ModelSummary, open_model, summarize


@dataclass(frozen=True)
class Offered:
    """A model under the name that it is asked for by."""

    name: str
    found: ResolvedModel
    summary: ModelSummary
    certificate: bytes | None = None
    pinned: bool = False

    @property
    def manifest(self) -> Manifest | None:
        return self.found.manifest

    @property
    def defaults(self) -> ChatDefaults:
        return self.found.manifest.defaults if self.found.manifest else ChatDefaults()


class Catalog:
    """The models that a person named, the first of which answers requests without a name; or the whole
    store."""

    def __init__(self, store: Store, named: Sequence[Offered] = ()) -> None:
        self._store = store
        self._named = {offered.name: offered for offered in named}

    def list(self) -> Sequence[Offered]:
        """All of them."""
        if self._named:
            return list(self._named.values())
        found = []
        for manifest in self._store.list():
            with suppress(StoreError):  # a damaged one cannot be offered; `localq verify` tells of it
                found.append(self._offered(manifest))
        return found

    def get(self, name: str | None) -> Offered:
        """The model of a request. Raises ModelNotFound, and StoreError for one that is damaged."""
        if not name:
            offered = self.list()
            if len(offered) != 1 and not self._named:
                raise ModelNotFound("", tuple(each.name for each in offered[:3]))
            return offered[0]
        if self._named:
            if name in self._named:
                return self._named[name]
            raise ModelNotFound(name, tuple(self._named)[:3])
        try:
            manifest = self._store.get(name)
        except NoSuchModel as error:
            raise ModelNotFound(name, error.nearest) from None
        except InvalidName:
            raise ModelNotFound(name[:80]) from None
        return self._offered(manifest)

    def _offered(self, manifest: Manifest) -> Offered:
        return offer(ResolvedModel(manifest.name, self._store.paths(manifest), manifest), self._store)


def offer(found: ResolvedModel, store: Store, name: str | None = None, *, pinned: bool = False) -> Offered:
    """A model as it is offered, under its own name or another. Raises GgufError for a file that is none."""
    manifest = found.manifest
    return Offered(
        name or found.name,
        found,
        manifest.summary if manifest else summarize(open_model(found.paths)),
        store.certificate(manifest) if manifest else None,
        pinned,
    )
