"""What native files ask of the system that runs them."""

from __future__ import annotations

import re
from pathlib import Path

_GLIBC = re.compile(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)")


def elf_files(folder: Path) -> list[Path]:
    """The ELF files below ``folder``, in order."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    found.append(path)
    return found


def newest_glibc(folder: Path) -> str:
    """The oldest C library that has every symbol version which files below ``folder`` name: ``2.36``."""
    versions = {(2, 17)}
    for path in elf_files(folder):
        versions |= {(int(major), int(minor)) for major, minor in _GLIBC.findall(path.read_bytes())}
    return "{}.{}".format(*max(versions))
