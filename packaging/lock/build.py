"""Resolve what localq runs with, and what builds it, for all platforms to versions and hashes.

usage: build.py            writes requirements.txt and tools.txt beside it; needs: uv

    pip install --require-hashes -r packaging/lock/requirements.txt

installs just that, from whatever index pip is set to. The files name no index.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from kit.locked import LOCK, TOOLS, locked
from kit.project import ROOT, metadata


def resolve(source: str, target: Path, wanted: str | None = None) -> None:
    """Write the lock of what ``source`` asks for, or ``wanted`` where that is "-"; uv may fail."""
    uv = shutil.which("uv") or str(Path(sysconfig.get_path("scripts")) / "uv")
    options = ["--generate-hashes", "--universal", "--no-annotate", "--no-header", "--quiet"]
    done = subprocess.run(
        [uv, "pip", "compile", source, *options, "--no-emit-index-url", "--no-emit-find-links"],
        cwd=ROOT,
        input=wanted,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [requirement.text for requirement in locked(done.stdout)]
    target.write_text("# Written by `make lock`.\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"localq: {len(lines)} requirements in {target.relative_to(ROOT)}", file=sys.stderr)


def main() -> int:
    """Resolve both; answers the exit code."""
    try:
        resolve("pyproject.toml", LOCK)
        resolve("-", TOOLS, "\n".join(metadata()["optional-dependencies"]["package"]))
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
