"""Make a virtual environment with localq in it, and say what is going on while llama.cpp compiles.

usage: bootstrap.py --venv FOLDER [--extras test,dev]     needs: Python 3.11 or newer, a C++ compiler

Python 3.8 must be able to parse this file and to import what stands at its top: it is what tells the
person that their Python is too old.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO, NoReturn, TextIO

ROOT = Path(__file__).resolve().parent.parent
MINIMUM = (3, 11)
INTERRUPTED = 130
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LIVE_SECONDS = 0.2
QUIET_SECONDS = 30.0
"""Without a terminal, a line at least this often shows that the installation goes on."""
PATIENCE_SECONDS = 10.0
"""How long an interrupted pip may take to put back what it was replacing."""
COMPILER_HINT = """\
Install one and run make again:
  Debian, Ubuntu   sudo apt install g++
  Fedora           sudo dnf install gcc-c++
  macOS            xcode-select --install"""
PHASES = [
    (re.compile(r"\[(\d+)/(\d+)\] "), r"compiled \1 of \2 files"),
    (re.compile(r"\[ *(\d+)%\] "), r"compiled \1 %"),
    (re.compile(r"Collecting ([\w.-]+)"), r"looking for \1"),
    (re.compile(r"Downloading (?:\S*/)?([\w.+-]+(?: \([\d.]+ [kMG]?B\))?)"), r"downloading \1"),
    (re.compile(r"Installing (build|backend) dependencies"), r"fetching the tools to build with"),
    (re.compile(r"(?:Getting requirements to build|Preparing)\b"), r"preparing to build"),
    (re.compile(r"\*\*\* Configuring CMake"), r"looking at the compiler"),
    (re.compile(r"Building (?:wheel|editable) for ([\w.-]+)"), r"building \1"),
    (re.compile(r"Installing collected packages"), r"installing"),
]
"""How lines of pip, scikit-build-core, Ninja and make begin, and what they mean to the person who waits."""


class Failed(Exception):
    """The environment could not be made; the text says why, and what to do."""


class Screen:
    """What the person who waits sees. ``pause`` is how many seconds they are left without news at most."""

    def __init__(self, stream: TextIO, pause: float | None = None) -> None:
        self.stream = stream
        self.live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.pause = (LIVE_SECONDS if self.live else QUIET_SECONDS) if pause is None else pause

    def say(self, text: str) -> None:
        """A line that stays."""
        self._write("\r\033[K" if self.live else "", f"localq: {text}\n")

    def show(self, text: str) -> None:
        """A line that the next one replaces on a terminal, and one that stays elsewhere."""
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self._write("\r\033[K", f"localq: {text}"[:width])
        else:
            self.say(text)

    def _write(self, control: str, text: str) -> None:
        printable = "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)
        self.stream.write(control + printable)
        self.stream.flush()


def main(
    words: list[str] | None = None,
    *,
    screen: Screen | None = None,
    version: tuple[int, ...] = tuple(sys.version_info[:3]),
) -> int:
    """Prepare the environment; answers the exit code."""
    screen = screen or Screen(sys.stderr)
    if version < MINIMUM:
        screen.say(
            f"Python {'.'.join(map(str, version))} is too old; localq needs 3.11 or newer. "
            "Name one that is: make PYTHON=python3.11 and what you want, as in make PYTHON=python3.11 chat"
        )
        return 1
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--venv", type=Path, required=True)
    options.add_argument("--extras", default="")
    arguments = options.parse_args(words)
    try:
        prepare(arguments.venv.absolute(), arguments.extras, screen)
    except KeyboardInterrupt:
        screen.say("interrupted; run make again to go on")
        return INTERRUPTED
    except (Failed, OSError) as error:
        screen.say(str(error))
        return 1
    screen.say("ready")
    return 0


def prepare(venv: Path, extras: str, screen: Screen) -> None:
    """llama.cpp first, so that what takes minutes has a title of its own; then localq. Raises Failed."""
    find_compiler(os.environ.get("CXX", ""))
    python = make_environment(venv, screen, sys.executable)
    log = venv / "install.log"
    log.unlink(missing_ok=True)
    steps = [
        ("llama.cpp (compiled once, about five minutes; later from pip's cache)", [llama_requirement()]),
        ("localq and its libraries", ["-e", f".[{extras}]" if extras else "."]),
    ]
    for title, what in steps:
        screen.say(f"installing {title}")
        if not install(python, what, log, screen):
            text = log.read_text(encoding="utf-8", errors="replace")
            raise Failed(f"the installation failed; its log is {log}\n{tail(text)}")


def find_compiler(chosen: str) -> str:
    """A C++ compiler that runs: the one that $CXX chose, if it chose one. Raises Failed."""
    names = [chosen.split()[0]] if chosen.split() else ["c++", "g++", "clang++"]
    for name in names:
        path = shutil.which(name)
        # asked, because /usr/bin/c++ of a Mac without the developer tools only says that they are missing
        if path and answer([path, "--version"]) is not None:
            return path
    if chosen.split():
        raise Failed(f"CXX={chosen} names no C++ compiler that runs; correct it, or unset it")
    raise Failed(f"no C++ compiler was found (looked for {', '.join(names)}).\n{COMPILER_HINT}")


def make_environment(venv: Path, screen: Screen, base: str) -> Path:
    """The environment's Python, which has a pip that works; made (again) if need be. Raises Failed."""
    python = venv / "bin" / "python"
    if pip_works(python):
        return python
    number = f"{sys.version_info.major}.{sys.version_info.minor}"
    screen.say(f"making {venv} {'again ' if venv.exists() else ''}with Python {number}")
    command = [base, "-m", "venv", "--clear", str(venv)]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if made.returncode == 0 and pip_works(python):
        return python
    raise Failed(
        f"{base} cannot make a virtual environment at {venv}:\n"
        f"{tail(made.stdout.decode('utf-8', 'replace'))}\n"
        "If its venv module or pip is missing, install it and run make again "
        "(or choose another Python: make PYTHON=...):\n"
        f"  Debian, Ubuntu   sudo apt install python{number}-venv\n"
        "  elsewhere        Python from python.org, or from your package manager, has both"
    )


def pip_works(python: Path) -> bool:
    """Whether the environment is whole and its Python new enough; pip names the Python that it runs in."""
    found = re.search(r"\(python (\d+)\.(\d+)\)", answer([str(python), "-m", "pip", "--version"]) or "")
    return found is not None and (int(found[1]), int(found[2])) >= MINIMUM


def answer(command: list[str]) -> str | None:
    """What a command prints; None if it fails or cannot be run."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
    except OSError:
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def llama_requirement() -> str:
    """The pinned llama-cpp-python of pyproject.toml."""
    import tomllib  # new in Python 3.11

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(next(line for line in project["dependencies"] if line.startswith("llama-cpp-python")))


def install(python: Path, what: list[str], log: Path, screen: Screen) -> bool:
    """Run pip with its output in ``log``, and show every ``screen.pause`` seconds how far it is."""
    command = [str(python), "-m", "pip", "install", "--verbose", "--no-input", "--disable-pip-version-check"]
    with log.open("ab") as record, log.open("rb") as news:
        news.seek(0, os.SEEK_END)
        process = None
        try:
            with signals_held():
                process = subprocess.Popen(
                    command + what,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=record,
                    stderr=record,
                    process_group=0,  # so that an interrupt ends pip and all that it started, no more
                )
            return follow(process, news, screen)
        except BaseException:
            if process is not None:
                stop(process)
            raise


@contextmanager
def signals_held() -> Iterator[None]:
    """What would end this program comes when the block is left: what it started can be ended then."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for late in came:
            signal.raise_signal(late)


def follow(process: subprocess.Popen[bytes], news: BinaryIO, screen: Screen) -> bool:
    """Show the last phase of ``news`` and the time until ``process`` ends; whether it ended well."""
    started, phase, rest = time.monotonic(), "starting", b""
    while True:
        try:
            return process.wait(screen.pause) == 0
        except subprocess.TimeoutExpired:
            for piece in news.readlines():
                rest += piece
                if rest.endswith(b"\n"):
                    phase, rest = phase_of(rest.decode("utf-8", "replace")) or phase, b""
            screen.show(f"{phase}, {clock(time.monotonic() - started)}")


def phase_of(line: str) -> str | None:
    """What a line of pip's output says about how far it is; None if nothing."""
    for pattern, words in PHASES:
        found = pattern.match(line.strip())
        if found:
            return found.expand(words)
    return None


def clock(seconds: float) -> str:
    """``42 s``, ``3 min 07 s``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group: asked first, killed if it does not listen or the person asks again."""
    try:
        with suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(PATIENCE_SECONDS)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tail(text: str, lines: int = 15) -> str:
    """The last lines of what a program said."""
    return "\n".join(text.splitlines()[-lines:])


def leave(number: int, frame: FrameType | None) -> NoReturn:
    """Take pip along when make or the terminal ends this program."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
    raise SystemExit(main())
