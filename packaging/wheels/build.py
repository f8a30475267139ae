"""Build the wheel of localq for this machine's kind: the same commit gives the same bytes.

usage: build.py FOLDER      writes localq-VERSION-py3-none-PLATFORM.whl there

Two libraries are in it, for the floor of the platform's ABI: the kernels, which choose their instruction set
when they are loaded, and the hook, which binds to the llama.cpp of the process by its sonames.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kit.project import source_date_epoch
from kit.sources import checkout_source
from wheels.repair import repair


def main() -> int:
    """Build; answers the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(sys.argv[1]).absolute()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="localq-wheel-") as folder:
        print(build(Path(folder), target))
    return 0


def build(work: Path, target: Path, platform: str = "", options: list[str] | None = None) -> Path:
    """The finished wheel in ``target``, for this machine's kind or ``platform``, with CMake's ``options``."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(source_date_epoch())}
    if platform:
        environment["_PYTHON_HOST_PLATFORM"] = platform  # what Python's own build calls it, too
    if options:
        environment["CMAKE_ARGS"] = " ".join(options)
    source = checkout_source(work / "source")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(work), str(source)]
    subprocess.run(command, check=True, env=environment, cwd=work, stdout=sys.stderr)
    (plain,) = work.glob("*.whl")
    return repair(plain, target) if sys.platform == "linux" else Path(shutil.copy2(plain, target))


if __name__ == "__main__":
    raise SystemExit(main())
