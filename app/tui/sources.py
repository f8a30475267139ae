"""Where a model can come from. The one place that another way is added to: a search on the Hub is a row more.

A way asks the person what it needs, on screens of its own, then works in a thread and says how far it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.errors import WrongUse

if TYPE_CHECKING:
    from app.store import Manifest, Progress, Store
    from app.tui.app import LocalqApp

Work = Callable[["Progress"], "Manifest"]
"""Blocking; ``Progress`` gets bytes done and bytes to do."""


@dataclass(frozen=True)
class Source:
    """``ask`` gives the work to do; None where the person changed their mind. It may raise LocalqError."""

    title: str
    help: str
    ask: Callable[[LocalqApp], Awaitable[Work | None]]


async def _demo(app: LocalqApp) -> Work:
    from app.hub.demo import fetch_demo

    store = app.host.store
    return lambda progress: fetch_demo(store, progress)


async def _file(app: LocalqApp) -> Work | None:
    from app.cli.import_ import default_name
    from app.hub.known import KNOWN
    from app.paths import expand
    from app.tui.screens.choose import Ask, Choose

    said = "A GGUF file, or a folder with the parts of one."
    given = await app.push_screen_wait(Ask("Add a file", said, placeholder="~/models/model.gguf"))
    if not given:
        return None
    path = expand(given.strip()).absolute()
    if not path.exists():
        raise WrongUse(f"there is nothing at {path}")
    name = await app.push_screen_wait(Ask("Its name", value=default_name(path)))
    if not name:
        return None
    linked = await app.push_screen_wait(
        Choose("Copy it?", "", ["Copy it into the store", "Leave it where it is, and only remember it"])
    )
    if linked is None:
        return None
    return _importing(app.host.store, path, name, linked == 1, KNOWN)


def _importing(store: Store, path: Path, name: str, link: bool, known: object) -> Work:
    def work(progress: Progress) -> Manifest:
        return store.import_file(path, name, link=link, known=known, progress=progress)  # type: ignore[arg-type]

    return work


SOURCES: Final[tuple[Source, ...]] = (
    Source("The demo model", "SmolLM2-135M, 94 MiB: small, and here in a minute", _demo),
    Source("A file on this machine", "a GGUF that you have already", _file),
)
