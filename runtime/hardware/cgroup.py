"""Control groups of this process: where their folders are, and what the files in them say.

Sources: the kernel's cgroup-v2.rst and cgroup-v1/{memory,cpusets}.rst, proc_pid_mountinfo(5), cgroups(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Controller:
    """A controller's hierarchy: ``folders`` from the group of this process up to the root that it can see."""

    version: int
    folders: tuple[Path, ...]


def find_controller(name: str, root: Path = Path("/")) -> Controller | None:
    """The hierarchy that limits ``name`` ("memory", "cpu") for this process; None where there is none.

    ``root`` stands for ``/``, so that a tree of files can stand for a machine.
    """
    groups = _groups(root)
    for version, controllers, mounted_root, mount_point in _mounts(root):
        if version == 1 and name not in controllers:
            continue
        group = groups.get(name if version == 1 else "")
        if group is None:
            continue
        return Controller(version, _folders(root, mount_point, mounted_root, group))
    return None


def read_number(path: Path) -> int | None:
    """The number in a file; None for "max", for a file that is not there or that holds something else."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def read_table(path: Path) -> dict[str, int]:
    """A file of lines "key value" (``memory.stat``, ``/proc/meminfo``): numbers as they stand there."""
    table = {}
    try:
        text = path.read_text()
    except OSError:
        return {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[1].lstrip("-").isdigit():
            table[fields[0].rstrip(":")] = int(fields[1])
    return table


def _groups(root: Path) -> dict[str, PurePosixPath]:
    """Controller -> group of this process; the key of the unified hierarchy is ""."""
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            groups[""] = PurePosixPath(path)
        for controller in controllers.split(","):
            if controller:
                groups[controller] = PurePosixPath(path)
    return groups


def _mounts(root: Path) -> Iterator[tuple[int, frozenset[str], PurePosixPath, PurePosixPath]]:
    """(version, controllers, root of the mount, mount point), v1 first: what v1 holds, v2 cannot hold."""
    unified = []
    for line in _lines(root / "proc/self/mountinfo"):
        place, _, filesystem = line.partition(" - ")
        fields, kind = place.split(), filesystem.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        mounted_root, mount_point = (PurePosixPath(_unescape(field)) for field in fields[3:5])
        if kind[0] == "cgroup":
            yield 1, frozenset(kind[2].split(",")), mounted_root, mount_point
        elif kind[0] == "cgroup2":
            unified.append((2, frozenset[str](), mounted_root, mount_point))
    yield from unified


def _folders(
    root: Path, mount_point: PurePosixPath, mounted_root: PurePosixPath, group: PurePosixPath
) -> tuple[Path, ...]:
    top = root / mount_point.relative_to("/")
    try:
        inside = group.relative_to(mounted_root)
    except ValueError:
        return (top,)  # a container that sees its own group as the mount's root, by another name
    if ".." in inside.parts:
        return (top,)  # a process outside of its cgroup namespace's root
    return tuple(top.joinpath(*inside.parts[:depth]) for depth in range(len(inside.parts), -1, -1))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
