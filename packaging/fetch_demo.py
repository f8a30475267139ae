"""Fetch the demo model for the tests into a store of their own, and link its file to where they look for it.

usage: fetch_demo.py OUT.gguf     (OUT's folder also gets the store)
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from app.hub.demo import fetch_demo
from app.store import Store
from runtime.errors import LocalqError

QUIET_SECONDS = 10.0


def main() -> int:
    """Fetch and link; answers the exit code."""
    target = Path(sys.argv[1]).resolve()
    store = Store(target.parent / "store")
    say(f"fetching the demo model for the tests (93 MB, once) into {target}")
    try:
        (source,) = store.paths(fetch_demo(store, reporter(time.monotonic)))
        place(source, target)
    except KeyboardInterrupt:
        say("interrupted; run make again to go on")
        return 130
    except (LocalqError, OSError) as error:
        say(str(error))
        return 1
    return 0


def reporter(clock: Callable[[], float]) -> Callable[[int, int], None]:
    """Says every ten seconds how many percent are done."""
    last = clock()

    def report(done: int, total: int) -> None:
        nonlocal last
        if clock() - last >= QUIET_SECONDS:
            last = clock()
            say(f"fetched and checked {100 * done // total} %")

    return report


def place(source: Path, target: Path, link: Callable[[Path, Path], None] = os.link) -> None:
    """``source`` under the name ``target`` too, whole or not at all; a copy where hard links do not work."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        link(source, part)
    except OSError as error:
        say(f"no hard link ({error.strerror}); copying the demo model")
        shutil.copyfile(source, part)
    part.replace(target)


def say(text: str) -> None:
    """A line for the person who waits."""
    print(f"localq: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
