"""A disk that may lose power: what of a folder survives is worked out from what was brought to the disk.

The model is the weakest that file systems promise. A file's data is safe after fsync of the file; before that
it may be missing, cut, zeros, garbage or there. A folder's names are safe after fsync of the folder; before
that every single change of a name may have happened or not, in any combination (a rename is one change).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest

from tests.app.store_kit import wrap_disk


class Killed(BaseException):
    """The process is dead: from now on it changes nothing."""


@dataclass
class Inode:
    """A file, or a folder."""

    folder: bool = False
    data: bytes = b""
    durable: bytes | None = None
    """The data at the last fsync; None = there was none."""

    def after_cut(self, random: Random) -> bytes:
        if self.durable == self.data:
            return self.data
        size = len(self.data)
        return random.choice(
            [
                self.durable or b"",
                self.data[: random.randrange(size + 1)],
                bytes(size),
                random.randbytes(size),
                self.data,
            ]
        )


@dataclass(frozen=True)
class Change:
    """One change of a folder's names, not yet brought to the disk."""

    kind: Literal["link", "rename", "unlink"]
    name: str
    inode: Inode | None = None
    old: str = ""

    def apply(self, names: dict[str, Inode]) -> None:
        if self.kind == "rename":
            names.pop(self.old, None)
        if self.kind == "unlink":
            names.pop(self.name, None)
        elif self.inode is not None:
            names[self.name] = self.inode


@dataclass
class Disk:
    """Watches what the store does to ``root`` through the primitives of ``app.store.disk``."""

    root: Path
    durable: dict[Path, dict[str, Inode]] = field(default_factory=dict)
    pending: dict[Path, list[Change]] = field(default_factory=dict)
    live: dict[Path, Inode] = field(default_factory=dict)
    before_step: Callable[[], None] = lambda: None
    dead: bool = False
    broken: frozenset[str] = frozenset()
    """Primitives, or ``primitive folder``, that silently do nothing: to see that this is noticed."""

    def __post_init__(self) -> None:
        for folder in (self.root, *(path for path in self.root.rglob("*") if path.is_dir())):
            self.pending[folder] = []
            self.durable[folder] = {}
            for path in folder.iterdir():
                inode = Inode(True) if path.is_dir() else Inode(False, path.read_bytes(), path.read_bytes())
                self.durable[folder][path.name] = self.live[path] = inode

    def attach(self, patch: pytest.MonkeyPatch) -> None:
        wrap_disk(self._around, patch)

    def _around(self, name: str, primitive: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self._notice_folders()
        if self.dead:
            raise Killed
        self.before_step()
        if self.dead:
            raise Killed
        result = primitive(*args)
        path = next(arg for arg in reversed(args) if isinstance(arg, Path))
        if name == "create":
            self.live[path] = Inode()
            self._change(path, Change("link", path.name, self.live[path]))
        elif name == "write":
            self.live[path].data += bytes(args[1])
        elif name == "sync" and "sync" not in self.broken:
            self.live[path].durable = self.live[path].data
        elif name == "sync_directory":
            self._sync_directory(path)
        elif name == "rename":
            inode = self.live.pop(args[0])
            self.live[path] = inode
            self._change(path, Change("rename", path.name, inode, args[0].name))
        elif name == "unlink" and self.live.pop(path, None) is not None:
            self._change(path, Change("unlink", path.name))
        return result

    def _sync_directory(self, path: Path) -> None:
        self._notice_folders()
        if path in self.pending and not self.broken & {"sync_directory", f"sync_directory {path.name}"}:
            for change in self.pending[path]:
                change.apply(self.durable[path])
            self.pending[path].clear()

    def _change(self, path: Path, change: Change) -> None:
        self.pending[path.parent].append(change)

    def _notice_folders(self) -> None:
        """Folders are made inside a primitive, so they are seen at the next one."""
        for path in sorted(path for path in self.root.rglob("*") if path.is_dir()):
            if path not in self.live:
                self.live[path] = Inode(True)
                self.pending[path], self.durable[path] = [], {}
                self._change(path, Change("link", path.name, self.live[path]))

    def cut(self, target: Path, random: Random) -> None:
        """Writes to the new folder ``target`` what ``root`` may be after a power cut now."""
        self._notice_folders()
        self._cut(self.root, target, random)

    def _cut(self, folder: Path, target: Path, random: Random) -> None:
        target.mkdir()
        names = dict(self.durable[folder])
        survival = random.choice([0.0, 0.5, 0.5, 0.5, 1.0])
        for change in self.pending[folder]:
            if random.random() < survival:
                change.apply(names)
        for name, inode in names.items():
            if inode.folder:
                self._cut(folder / name, target / name, random)
            else:
                (target / name).write_bytes(inode.after_cut(random))
