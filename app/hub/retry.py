"""Trying again what may work next time: with longer and longer waits, or as long as the server asks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from app.hub.session import Patience, Transient

T = TypeVar("T")


def patiently(
    action: Callable[[], T],
    patience: Patience,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The result of ``action``, which is called again after a :class:`Transient`, as far as patience goes.

    Raises the error in the last Transient, at once if the server asks for a longer wait than is borne.
    """
    attempt = 1
    while True:
        try:
            return action()
        except Transient as failed:
            wait = next_wait(failed, attempt, patience)
            if wait is None:
                raise failed.error from failed
            sleep(wait)
            attempt += 1


def next_wait(failed: Transient, attempt: int, patience: Patience) -> float | None:
    """Seconds to wait after the ``attempt``-th failure in a row; None if it was the last that is borne.

    Spread by up to a quarter, so that many processes do not come back at the same moment.
    """
    asked = failed.retry_after_seconds
    if attempt >= patience.attempts or (asked is not None and asked > patience.longest_asked):
        return None
    if asked is not None:
        return asked * random.uniform(1.0, 1.1)
    return patience.wait_before(attempt) * random.uniform(0.75, 1.25)
