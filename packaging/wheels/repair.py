"""Name a wheel after the oldest C library that it runs with, and carry nothing of llama.cpp's in it.

usage: repair.py WHEEL FOLDER      needs: auditwheel
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kit.project import source_date_epoch
from kit.sources import tools_path
from kit.zips import read, write

FOREIGN = ("libggml.so.0", "libggml-base.so.0", "libggml-cpu.so.0", "liblocalq_kernels.so")
"""In the process before the hook is loaded: llama-cpp-python's libraries and our own."""


def repair(wheel: Path, target: Path) -> Path:
    """The wheel in ``target``, its platform as auditwheel finds it in the libraries' symbols."""
    with tempfile.TemporaryDirectory(prefix="localq-repair-") as folder:
        excluded = [word for name in FOREIGN for word in ("--exclude", name)]
        auditwheel = shutil.which("auditwheel", path=tools_path()) or "auditwheel"
        command = [auditwheel, "repair", "--wheel-dir", folder, *excluded, str(wheel)]
        subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | {"PATH": tools_path()})
        (repaired,) = Path(folder).glob("*.whl")
        result = target / repaired.name
        write(result, read(repaired), source_date_epoch())
    return result


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    print(repair(Path(sys.argv[1]), Path(sys.argv[2])))
