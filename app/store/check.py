"""Reading every stored byte again and comparing it with what it should be."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from app.errors import StoreDamaged
from app.store.hashing import hash_file
from app.store.layout import Layout, Progress
from app.store.manifest import Manifest, StoredFile, read_manifest
from app.store.repair import repair_command
from app.store.temporary import dead_files, dead_folders

ProblemKind: TypeAlias = Literal[
    "missing", "size", "hash", "unreadable", "changed-link", "unreadable-manifest", "orphan", "temporary"
]

MAX_THREADS = 8
_REPORT_SECONDS = 0.1


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the store that is not as it should be."""

    kind: ProblemKind
    path: str
    detail: str
    models: tuple[str, ...] = ()
    """The models that cannot be used because of it."""
    next_command: str | None = None
    """What repairs it, or removes what cannot be repaired."""

    @property
    def harmless(self) -> bool:
        """Left by a process that was killed; no model needs it, and ``gc`` removes it."""
        return self.kind in ("orphan", "temporary")


@dataclass(frozen=True)
class _Target:
    """A file to hash, and the models that need it."""

    file: StoredFile
    path: Path
    models: tuple[str, ...]
    repair: str


def verify(layout: Layout, names: Sequence[str] | None, progress: Progress) -> list[Problem]:
    """See :meth:`app.store.Store.verify`; ``names`` exist."""
    found: list[tuple[Path, Problem]] = []
    if names is None:
        manifests, damaged = layout.read_all()
        for error in damaged:
            found.append(
                (error.path, _loose("unreadable-manifest", error.path, error.reason, error.next_command))
            )
        if not damaged:  # otherwise it is not known what is needed
            found += _orphans(layout, manifests)
        found += _leftovers(layout)
    else:
        manifests = [read_manifest(layout.manifest(name)) for name in dict.fromkeys(names)]
    found += _hash_all(_targets(layout, manifests), progress)
    return [problem for path, problem in found if _still_there(layout, path, problem)]


def check_quickly(layout: Layout, manifest: Manifest) -> None:
    """Raises :class:`StoreDamaged` unless every file of a model has its size, and links are untouched."""
    for file in manifest.files:
        path = layout.place(file)
        problem = _look(_Target(file, path, (manifest.name,), ""))
        if problem is not None:
            command = repair_command(layout, manifest)
            raise StoreDamaged(
                path, f"{problem.detail} (of the model {manifest.name!r})", next_command=command
            )


def printable(path: Path) -> str:
    """``path`` as text that can be encoded, whatever bytes it has."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _targets(layout: Layout, manifests: Iterable[Manifest]) -> list[_Target]:
    """Each blob and link once, with all models that need it."""
    users: dict[tuple[Path, StoredFile], dict[str, Manifest]] = {}
    for manifest in manifests:
        for file in manifest.files:
            anonymous = msgspec.structs.replace(file, filename="", role="model")
            users.setdefault((layout.place(file), anonymous), {})[manifest.name] = manifest
    return [
        _Target(file, path, tuple(models), _repairs(layout, models.values()))
        for (path, file), models in users.items()
    ]


def _repairs(layout: Layout, manifests: Iterable[Manifest]) -> str:
    """One command for each of the models, since each has an origin of its own."""
    return " && ".join(dict.fromkeys(repair_command(layout, manifest) for manifest in manifests))


def _look(target: _Target) -> Problem | None:
    """What can be seen without reading the file."""
    try:
        status = target.path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _problem("missing", target, "is missing")
    except OSError as error:
        return _problem("unreadable", target, f"cannot be read: {error.strerror}")
    if status.st_size != target.file.size:
        kind: ProblemKind = "changed-link" if target.file.link else "size"
        return _problem(kind, target, f"has {status.st_size} bytes, it was stored with {target.file.size}")
    if target.file.link is not None and status.st_mtime_ns != target.file.link.mtime_ns:
        return _problem("changed-link", target, "was written to since it was linked; link it again")
    return None


def _read(target: _Target, report: _Report) -> Problem | None:
    problem = _look(target)
    if problem is not None:
        report.add(target.file.size)
        return problem
    try:
        fd = os.open(target.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            digest, size = hash_file(fd, report.add)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return _problem("missing", target, "is missing")
    except OSError as error:
        return _problem("unreadable", target, f"cannot be read: {error.strerror}")
    if (digest, size) != (target.file.digest, target.file.size):
        kind: ProblemKind = "changed-link" if target.file.link else "hash"
        return _problem(kind, target, f"holds {digest}, it was stored with {target.file.digest}")
    return None


def _problem(kind: ProblemKind, target: _Target, detail: str) -> Problem:
    return Problem(
        kind=kind,
        path=printable(target.path),
        detail=detail,
        models=target.models,
        next_command=target.repair,
    )


class _Stopped(Exception):
    """The person interrupted the check."""


class _Report:
    """Counts bytes from several threads; the thread that waits tells the caller."""

    def __init__(self) -> None:
        self.done = 0
        self.stopped = False
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        if self.stopped:
            raise _Stopped
        with self._lock:
            self.done += count


def _hash_all(targets: Sequence[_Target], progress: Progress) -> list[tuple[Path, Problem]]:
    """Hashes files in as many threads as there are processors (hashlib lets go of the interpreter's lock)."""
    if not targets:
        return []
    from concurrent.futures import Future, ThreadPoolExecutor, wait

    total = sum(target.file.size for target in targets)
    report = _Report()
    threads = min(MAX_THREADS, os.cpu_count() or 1, len(targets))
    with ThreadPoolExecutor(threads, "localq-verify") as pool:
        jobs: list[Future[Problem | None]] = [pool.submit(_read, target, report) for target in targets]
        try:
            waiting = set(jobs)
            while waiting:
                _, waiting = wait(waiting, _REPORT_SECONDS)
                progress(report.done, total)
        except BaseException:
            report.stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    results = zip(targets, (job.result() for job in jobs), strict=True)
    return [(target.path, problem) for target, problem in results if problem is not None]


def _orphans(layout: Layout, manifests: Iterable[Manifest]) -> list[tuple[Path, Problem]]:
    needed = frozenset().union(*(manifest.blobs for manifest in manifests))
    return [
        (path, _loose("orphan", path, f"{size} bytes that no model needs; run `localq gc`"))
        for path, size in layout.blob_sizes()
        if path.name not in needed
    ]


def _leftovers(layout: Layout) -> list[tuple[Path, Problem]]:
    folders = (layout.blobs, layout.manifests, layout.certificates, layout.scratch)
    return [
        (path, _loose("temporary", path, "left by a process that died; run `localq gc`"))
        for folder in folders
        for path in (*dead_folders(folder), *dead_files(folder))
    ]


def _loose(kind: ProblemKind, path: Path, detail: str, next_command: str | None = "localq gc") -> Problem:
    """A problem of no model."""
    return Problem(kind=kind, path=printable(path), detail=detail, next_command=next_command)


def _still_there(layout: Layout, path: Path, problem: Problem) -> bool:
    """False if another process removed, finished or replaced what was found meanwhile."""
    if problem.kind == "missing" and path.exists():
        return False
    if problem.kind == "orphan":
        return path.exists() and not any(path.name in manifest.blobs for manifest in layout.read_all()[0])
    if not problem.models:
        return os.path.lexists(path)
    for name in problem.models:
        try:
            manifest = read_manifest(layout.manifest(name))
        except FileNotFoundError:
            continue
        except StoreDamaged:
            return True
        if any(layout.place(file) == path for file in manifest.files):
            return True
    return False
