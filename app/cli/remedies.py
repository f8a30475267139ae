"""The commands that mend a llama.cpp which does not load or fit, for the way localq was installed."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Command: TypeAlias = tuple[str, ...]

PINNED_VERSION = "0.3.36"
CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder that holds ``app``: of a checkout, or of installed packages."""
DPKG_LIST = Path("/var/lib/dpkg/info/localq.list")
COMPILERS = ("c++", "g++", "clang++")

INSTALLERS: dict[str, Command] = {
    "debian": ("apt-get", "install", "-y"),
    "fedora": ("dnf", "install", "-y"),
    "arch": ("pacman", "-S", "--noconfirm"),
    "alpine": ("apk", "add"),
    "suse": ("zypper", "install", "-y"),
}
"""A family of systems -> how it installs packages."""
PACKAGES: dict[str, dict[str, str]] = {
    "compiler": {"debian": "g++", "fedora": "gcc-c++", "arch": "gcc", "alpine": "g++", "suse": "gcc-c++"},
    "libgomp.so.1": {
        "debian": "libgomp1",
        "fedora": "libgomp",
        "arch": "gcc-libs",
        "alpine": "libgomp",
        "suse": "libgomp1",
    },
    "libstdc++.so.6": {
        "debian": "libstdc++6",
        "fedora": "libstdc++",
        "arch": "gcc-libs",
        "alpine": "libstdc++",
        "suse": "libstdc++6",
    },
}
"""What is missing -> the package that has it, in each family."""

_MISSING_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file")
_TOO_NEW = re.compile(r"version [`']([A-Z]+_[\d.]+)' not found")
_NOT_INSTALLED = re.compile(r"No module named '?llama_cpp'?$")


@dataclass(frozen=True)
class Installation:
    """How this localq was installed, and what the machine has to compile with."""

    kind: Literal["checkout", "environment", "package", "archive"]
    """A clone, a Python environment, the Debian package, or the self-contained folder."""
    python: str
    compiler: bool
    family: str
    """A key of INSTALLERS; "" where it is another system."""
    root: bool = False

    @property
    def carries_llama(self) -> bool:
        """Whether llama.cpp came with localq in one piece, so that only all of it can be replaced."""
        return self.kind in ("package", "archive")


@dataclass(frozen=True)
class Remedy:
    """What is wrong in words, and the commands that mend it, in their order."""

    detail: str
    commands: tuple[Command, ...]

    @property
    def shown(self) -> str | None:
        """The commands as a person types them."""
        return as_typed(self.commands)


def as_typed(commands: tuple[Command, ...]) -> str | None:
    """Commands as one line for a shell; None if there are none."""
    return " && ".join(map(shlex.join, commands)) or None


def this_installation(folder: Path = CHECKOUT) -> Installation:
    """This localq: ``folder`` holds the package ``app``."""
    if getattr(sys, "frozen", False):
        kind: Literal["checkout", "environment", "package", "archive"] = (
            "package" if DPKG_LIST.is_file() and str(folder).startswith("/usr/lib/") else "archive"
        )
    else:
        kind = "checkout" if (folder / "Makefile").is_file() else "environment"
    names = [os.environ["CXX"].split()[0]] if os.environ.get("CXX", "").strip() else COMPILERS
    return Installation(
        kind,
        sys.executable,
        any(shutil.which(name) for name in names),
        _family(),
        hasattr(os, "geteuid") and os.geteuid() == 0,
    )


def _family() -> str:
    """The family of this system, by what /etc/os-release calls it and its ancestors."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    known = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora", "opensuse": "suse"}
    return next((found for name in names if (found := known.get(name, name)) in INSTALLERS), "")


def install(what: str, installation: Installation) -> tuple[Command, ...]:
    """The command that installs ``what`` of PACKAGES; none for a system that is not known."""
    if not installation.family:
        return ()
    package = PACKAGES[what][installation.family]
    sudo = () if installation.root else ("sudo",)
    return ((*sudo, *INSTALLERS[installation.family], package),)


def rebuild_llama(detail: str, installation: Installation) -> Remedy:
    """llama.cpp compiled anew for this machine; with a compiler first, where there is none."""
    if installation.kind == "package":  # it came from a file: apt has nowhere to fetch it again from
        again = "apt install --reinstall ./localq_*.deb"
        return Remedy(f"{detail}; llama.cpp is part of the package: install it again, with {again}", ())
    if installation.kind == "archive":
        return Remedy(f"{detail}; llama.cpp is part of this build: unpack and install it again", ())
    # -P: no pip.py of the working directory
    pip = (
        installation.python,
        "-P",
        "-m",
        "pip",
        "install",
        "--force-reinstall",
        "--no-cache-dir",
        "--no-deps",
    )
    build = (*pip, "--no-binary", "llama-cpp-python", f"llama-cpp-python=={PINNED_VERSION}")
    if installation.compiler:
        return Remedy(detail, (build,))
    detail = f"{detail}; it is to be compiled here, and there is no C++ compiler"
    if not installation.family:
        detail += f" (looked for {', '.join(COMPILERS)}): install one first"
    return Remedy(detail, (*install("compiler", installation), build))


def llama_remedy(words: str, installation: Installation) -> Remedy:
    """What mends a llama.cpp that does not load, by the ``words`` that the loader or Python left."""
    if (found := _MISSING_LIBRARY.search(words)) and found[1] in PACKAGES and not installation.carries_llama:
        detail = f"llama.cpp needs {found[1]}, which this system lacks"
        commands = install(found[1], installation)
        return Remedy(detail if commands else f"{detail}: install the package that has it", commands)
    if found := _TOO_NEW.search(words):
        detail = f"llama.cpp was compiled for a newer system than this one: {found[1]} is missing"
        return rebuild_llama(detail, installation)
    if _NOT_INSTALLED.search(words):
        return rebuild_llama("llama-cpp-python is not installed", installation)
    return rebuild_llama(words, installation)


def kernel_remedy(detail: str, installation: Installation, folder: Path = CHECKOUT) -> Remedy:
    """What builds or fetches localq's own kernels anew."""
    if installation.carries_llama:
        return rebuild_llama(detail, installation)
    if installation.kind == "checkout":
        place: Command = () if folder == Path.cwd() else ("-C", str(folder))
        return Remedy(detail, (("make", *place, "rebuild"),))
    # By a name alone an index would be asked, and who has published what there nobody here knows.
    return Remedy(f"{detail}; install the wheel that localq came from again", ())
