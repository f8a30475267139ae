"""The program of the self-contained build: the command line, and a Python for what localq starts.

localq starts its workers as ``sys.executable -P -m MODULE``, and here that is this very program. So it
understands these words of Python's, for the modules that localq names, and takes all else as a command.
"""

from __future__ import annotations

import multiprocessing
import runpy
import sys

OURS = ("app", "quant", "runtime", "pip")
"""Packages whose modules may be run; pip fetches the demo model."""


def main() -> None:
    """Run a module as ``python -P -m`` does, or the command line."""
    words = sys.argv[1:]
    if words[:1] == ["-P"]:
        words = words[1:]
    if len(words) > 1 and words[0] == "-m":
        module = words[1]
        if module.partition(".")[0] not in OURS:
            raise SystemExit(f"localq: this build runs modules of its own only, not {module}")
        sys.argv = [module, *words[2:]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    from app.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
