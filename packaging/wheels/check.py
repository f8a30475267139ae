"""Check that localq is installed whole: imports, native libraries, and what `localq doctor` says.

usage: check.py            run it with the Python of the environment, from any folder but the checkout
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

PACKAGES = ("app", "quant", "runtime")


def main() -> int:
    """Check, and say what is used; answers the exit code."""
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    for package in PACKAGES:
        found = Path(importlib.import_module(package).__file__ or "").resolve()
        if not any(found.is_relative_to(place) for place in places):
            return fail(f"{package} comes from {found.parent}, not from this environment")
    command = [sys.executable, "-P", "-m", "app.cli.main", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return fail(f"localq doctor ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)
    kernels = report["llama"]["kernels"]
    if kernels != report["processor"]["isa"] and sys.platform != "win32":
        return fail(f"the kernels are not inside llama.cpp: {report['llama']['kernels_reason']}")
    print(f"localq {report['versions']['localq']}: kernels {kernels or 'outside llama.cpp'}, doctor is green")
    return 0


def fail(text: str) -> int:
    """Say what is wrong; answers the exit code."""
    print(f"localq: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.path[:] = sys.path[1:]  # not this folder, which is in the checkout
    raise SystemExit(main())
