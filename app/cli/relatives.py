"""A smaller model of the same family, where one does not fit in any form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from app.cli.front import Front

if TYPE_CHECKING:
    from app.hub.api import Hub
    from app.store import Store
    from runtime.errors import DoesNotFit
    from runtime.gguf import GgufHeader

MOST_ASKED = 4


def proposing(
    front: Front,
    hub: Hub,
    store: Store,
    name: str,
    headers: Sequence[GgufHeader],
    error: DoesNotFit,
    plan: Callable[[Sequence[GgufHeader]], object],
) -> DoesNotFit:
    """``error`` with the command for the largest model of the family of ``name`` that fits, if there is one.

    ``plan`` raises DoesNotFit for the headers of one that does not.
    """
    from app.cli.again import with_word
    from app.errors import AppError, ModelDoesNotFit
    from app.hub.catalog import original_of
    from app.hub.family import smaller_relatives
    from app.hub.original import find_original, outline
    from app.hub.reference import CatalogReference
    from quant.errors import QuantError
    from runtime.errors import DoesNotFit

    weights = sum(tensor.elements for header in headers for tensor in header.all_tensors)
    for entry in smaller_relatives(name, weights)[:MOST_ASKED]:
        try:
            with front.out.progress(f"looking at {entry.name}"), store.scratch() as scratch:
                original = find_original(hub, original_of(CatalogReference(entry.name)))
                plan(outline(hub, original, scratch).headers)
        except (DoesNotFit, AppError, QuantError):
            continue  # too large as well, or not to be had: the next one
        assert front.model is not None
        return ModelDoesNotFit(
            error,
            with_word(front, front.model, entry.name),
            f"the largest of its family that fits is {entry.name} ({entry.parameters})",
        )
    return error
