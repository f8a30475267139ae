"""Fetch the demo model for the tests into a store of their own, and link its file to where they look for it.

usage: fetch_demo.py OUT.gguf     (OUT's folder also gets the store)
"""

from __future__ import annotations

import sys
from pathlib import Path

from app.hub.demo import fetch_demo
from app.store import Store
from runtime.errors import LocalqError


def main() -> int:
    """Fetch and link; answers the exit code."""
    target = Path(sys.argv[1]).resolve()
    store = Store(target.parent / "store")
    print(f"localq: fetching the demo model for the tests (93 MB, once) into {target}", file=sys.stderr)
    try:
        manifest = fetch_demo(store)
    except LocalqError as error:
        print(f"localq: {error}", file=sys.stderr)
        return 1
    (source,) = store.paths(manifest)
    target.unlink(missing_ok=True)
    target.hardlink_to(source)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
