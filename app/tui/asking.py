"""Asking the Hub while a person looks on: one connection, which ends when they look away. Any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from app.tui.machine import Facts
from app.tui.offers import Offer

if TYPE_CHECKING:
    from app.hub.api import Hub
    from app.hub.catalog import Entry
    from app.hub.search import Result
    from app.settings import Settings
    from quant.allocation.speed import Speeds
    from runtime.hardware import Machine

AT_ONCE: Final = 6
ATTEMPTS: Final = 2
"""A person who chooses does not wait for a network that is not there."""


class Asking:
    """Questions about what would fit the machine of ``facts``. One at a time may be open in a process."""

    def __init__(self, settings: Settings, facts: Facts) -> None:
        self._settings = settings
        self._facts = facts
        self._hub: Hub | None = None
        self._lock = threading.Lock()
        self.closed = False

    def judge(self, offers: Sequence[Offer], take: Callable[[Offer, Result], None]) -> None:
        """What the Hub says of rows of the catalog, one after the other as it comes.

        Raises HubUnreachable or HubOffline where nobody answers.
        """
        from app.errors import NotAllowed, NotOnHub
        from app.hub.reference import HubReference
        from app.hub.search import judge_entry

        machine, speeds = self._machine()
        entries = [(offer, offer.entry) for offer in offers if offer.entry is not None]
        if not entries:
            return
        hub = self._open()
        with suppress(NotOnHub, NotAllowed):  # these are answers too
            hub.repo(HubReference(entries[0][1].original))

        def judged(entry: Entry) -> Result | None:
            return None if self.closed else judge_entry(hub, entry, machine, self._settings, speeds)

        with ThreadPoolExecutor(AT_ONCE, "offers") as pool:
            results = pool.map(judged, [entry for _, entry in entries])
            for (offer, _), result in zip(entries, results, strict=True):
                if result is not None and not self.closed:
                    take(offer, result)

    def search(self, words: str, limit: int) -> list[Result]:
        """What the Hub has under these words. Raises HubError."""
        from app.hub.search import search

        machine, speeds = self._machine()
        return search(
            self._open(),
            words,
            machine,
            self._settings,
            speeds,
            gguf=False,
            sort="downloads",
            limit=limit,
            progress=lambda done, total: None,
        )

    def close(self) -> None:
        """Nothing is asked any more; what is under way ends soon."""
        self.closed = True
        with self._lock:
            hub, self._hub = self._hub, None
        if hub is not None:
            hub.__exit__()

    def _open(self) -> Hub:
        from app.errors import HubOffline
        from app.hub.api import Hub
        from app.hub.session import Patience

        with self._lock:
            if self.closed:
                raise HubOffline
            if self._hub is None:
                self._hub = Hub(Patience(attempts=ATTEMPTS))
            return self._hub

    def _machine(self) -> tuple[Machine, Speeds]:
        from quant.allocation.planner import with_available
        from quant.allocation.speed import Speeds
        from runtime.hardware import this_machine

        machine = this_machine(ram=self._settings.ram)
        return with_available(machine, self._facts.available), Speeds(self._facts.bandwidth)
