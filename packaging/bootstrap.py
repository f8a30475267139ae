"""Make a virtual environment with localq in it, and say what is going on while llama.cpp compiles.

usage: bootstrap.py --venv FOLDER [--extras test,dev]     needs: Python 3.11 or newer, a C++ compiler
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINIMUM = (3, 11)
NINJA_STEP = re.compile(r"\[(\d+)/(\d+)\]")
QUIET_SECONDS = 30
"""Without a terminal, a line at least this often shows that the build goes on."""
COMPILER_HINT = """\
no C++ compiler was found (looked for $CXX, c++, g++, clang++).
Install one and run make again:
  Debian, Ubuntu   sudo apt install g++
  Fedora           sudo dnf install gcc-c++
  macOS            xcode-select --install"""


def main() -> int:
    """Prepare the environment; answers the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--venv", type=Path, required=True)
    options.add_argument("--extras", default="")
    arguments = options.parse_args()
    if sys.version_info < MINIMUM:
        found = ".".join(map(str, sys.version_info[:3]))
        return complain(f"Python {found} is too old; run make PYTHON=python3.11 (or newer)")
    if not find_compiler():
        return complain(COMPILER_HINT)
    python = make_environment(arguments.venv)
    if python is None:
        return complain(
            f"{sys.executable} cannot make a virtual environment; on Debian: sudo apt install python3-venv"
        )
    log = arguments.venv / "install.log"
    log.unlink(missing_ok=True)
    target = f"{ROOT}[{arguments.extras}]" if arguments.extras else str(ROOT)
    steps = [
        ("llama.cpp (compiled once, about five minutes; later from pip's cache)", [llama_requirement()]),
        ("localq and its libraries", ["-e", target]),
    ]
    for title, what in steps:
        if not install(python, title, what, log):
            return complain(f"the installation failed; its log is {log}\n{tail(log)}")
    say("ready")
    return 0


def find_compiler() -> str | None:
    """Path of a C++ compiler."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name.split()[0]))), None)


def make_environment(venv: Path) -> Path | None:
    """Python of the environment, made if need be; None when it cannot be made."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        say(f"making {venv} with Python {sys.version_info.major}.{sys.version_info.minor}")
        made = subprocess.run([sys.executable, "-m", "venv", str(venv)], check=False)
        if made.returncode != 0:
            return None
    return python


def llama_requirement() -> str:
    """The pinned llama-cpp-python of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(next(line for line in project["dependencies"] if line.startswith("llama-cpp-python")))


def install(python: Path, title: str, what: list[str], log: Path) -> bool:
    """Run pip with its output in ``log``, and show how far it is."""
    say(f"installing {title}")
    command = [str(python), "-m", "pip", "install", "--verbose", "--disable-pip-version-check", *what]
    started = last_said = time.monotonic()
    with log.open("ab") as record:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT)
        if process.stdout is None:
            raise RuntimeError("pip's output is not a pipe")
        step = ""
        for line in process.stdout:
            record.write(line)
            found = NINJA_STEP.search(line.decode("utf-8", "replace"))
            if found:
                step = f"compiled {found[1]} of {found[2]} files, "
            now = time.monotonic()
            pause = 0.2 if sys.stderr.isatty() else QUIET_SECONDS
            if step and now - last_said > pause:
                last_said = now
                show(f"{step}{now - started:.0f} s")
    show("", end=True)
    return process.wait() == 0


def show(text: str, *, end: bool = False) -> None:
    """A line that the next one replaces, on a terminal; a line of its own elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text and not end:
        say(text)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def say(text: str) -> None:
    """A line for the person who waits."""
    print(f"localq: {text}", file=sys.stderr, flush=True)


def complain(text: str) -> int:
    """Say what is wrong; answers the exit code."""
    say(text)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
