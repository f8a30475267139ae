"""Write the manifests of other people's package managers from the artefacts that lie in DIST.

usage: render.py DIST      writes DIST/manifests: homebrew/, aur/ and winget/, each if its artefact is there

Version, licence and dependencies come from where everything takes them, hashes from the files themselves. The
addresses begin with $LOCALQ_RELEASES, where the release is published; without it they name the reserved
domain `localq.invalid`, so that nobody installs by mistake what has not been published.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kit.locked import LOCK, Locked, locked
from kit.project import version
from manifests.aur import aur
from manifests.homebrew import homebrew
from manifests.winget import winget


def main() -> int:
    """Write; answers the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    dist = Path(sys.argv[1])
    for name, text in manifests(dist, locked(LOCK.read_text(encoding="utf-8"))).items():
        path = dist / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


def manifests(dist: Path, lock: list[Locked]) -> dict[str, str]:
    """Every manifest whose artefacts are in ``dist``, by its path."""
    found: dict[str, str] = {}
    for sdist in dist.glob(f"localq-{version()}.tar.gz"):
        found["homebrew/localq.rb"] = homebrew(sdist, lock)
    for archive in dist.glob(f"localq-{version()}-linux-x86_64.tar.gz"):
        found |= aur(archive)
    for archive in dist.glob(f"localq-{version()}-windows-x86_64.zip"):
        found |= winget(archive)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
