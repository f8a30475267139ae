"""Finding the files of a model among the paths that a person gives, and refusing what is none."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from app.errors import UnsuitableFile
from app.store.manifest import Role
from runtime.gguf import GgufHeader, ModelSummary, open_gguf, summarize

MAX_ENTRIES = 10_000
MIN_SPARSE_BYTES = 64 << 20
_MAX_EXTENTS = 4096
_PART_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


@dataclass(frozen=True)
class SourceFile:
    """A validated GGUF that belongs to the model to import."""

    path: Path
    """Where it lies, without symbolic links."""
    filename: str
    size: int
    role: Role
    summary: ModelSummary


def find_sources(paths: Iterable[Path]) -> tuple[SourceFile, ...]:
    """The files of the one model among ``paths`` (files or folders): the model or its parts, then its mmproj.

    Raises :class:`UnsuitableFile` if there is none, more than one, or one in part, and
    :class:`runtime.errors.GgufError` if a file is not a valid GGUF. Opens no file that is not a regular one.
    """
    paths = tuple(paths)
    return arrange(paths, (inspect(given) for given in _unique(_expand(paths))))


def arrange(
    paths: Sequence[Path], inspected: Iterable[tuple[SourceFile, GgufHeader]]
) -> tuple[SourceFile, ...]:
    """The one model among validated files: the model or its parts in their order, then its mmproj.

    ``paths`` are what the person gave, for messages. Raises :class:`UnsuitableFile`.
    """
    models: list[SourceFile] = []
    parts: list[tuple[int, SourceFile, GgufHeader]] = []
    mmproj: list[SourceFile] = []
    for found, header in inspected:
        if found.role == "mmproj":
            mmproj.append(found)
        elif found.role == "part":
            parts.append((header.get("split.no", int, -1), found, header))
        else:
            models.append(found)
    chosen = _one_model(paths, models, parts)
    if len(mmproj) > 1:
        raise UnsuitableFile(
            mmproj[1].path, f"is a second mmproj file beside {mmproj[0].path}; give only one"
        )
    return (*chosen, *mmproj)


def inspect(path: Path, filename: str | None = None) -> tuple[SourceFile, GgufHeader]:
    """Validates one file, which is called ``filename`` where it comes from (None: as here).

    Raises :class:`UnsuitableFile` or :class:`runtime.errors.GgufError`.
    """
    real = real_path(path)
    fd = open_regular(real)
    try:
        size = os.fstat(fd).st_size
        _refuse_holes(fd, size, path)
    finally:
        os.close(fd)
    header = open_gguf(real)
    filename = (filename or path.name).encode("utf-8", "replace").decode("utf-8")
    return (
        SourceFile(
            path=real,
            filename=filename,
            size=size,
            role=role_of(header),
            summary=named(summarize(header), real, filename),
        ),
        header,
    )


def role_of(header: GgufHeader) -> Role:
    """What a file is for: the projector of a vision model has the architecture ``clip``."""
    if header.architecture == "clip":
        return "mmproj"
    return "part" if header.get("split.count", int, 0) > 1 else "model"


def named(summary: ModelSummary, path: Path, filename: str) -> ModelSummary:
    """``summary`` of the file at ``path``; a name that it took from there becomes that of ``filename``."""
    if summary.name != path.stem:
        return summary
    return msgspec.structs.replace(summary, name=Path(filename).stem)


def merged(sources: Sequence[SourceFile]) -> ModelSummary:
    """The summary of the whole model: texts of its first file, sums over its parts, bytes of all files."""
    weights = [source.summary for source in sources if source.role != "mmproj"]
    parameters = sum(part.parameters for part in weights)
    bits = sum(part.bits_per_weight * part.parameters for part in weights)
    types: dict[str, int] = {}
    for part in weights:
        for name, count in part.tensor_types.items():
            types[name] = types.get(name, 0) + count
    return msgspec.structs.replace(
        weights[0],
        parameters=parameters,
        bits_per_weight=bits / parameters if parameters else 0.0,
        tensor_types=types,
        size_bytes=sum(source.size for source in sources),
    )


def real_path(path: Path) -> Path:
    """``path`` without symbolic links. Raises :class:`UnsuitableFile` for a loop, or if nothing is there."""
    try:
        return Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnsuitableFile(path, f"cannot be opened: {reason}") from error


def open_regular(path: Path) -> int:
    """A descriptor to read the regular file at ``path``, which is no symbolic link.

    Nothing else is even opened: opening a pipe waits, and opening some devices has effects.
    """
    try:
        _require_regular(path, os.lstat(path).st_mode)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise UnsuitableFile(path, f"cannot be opened: {error.strerror}") from error
    try:
        _require_regular(path, os.fstat(fd).st_mode)
    except UnsuitableFile:
        os.close(fd)
        raise
    return fd


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a regular file")
        raise UnsuitableFile(path, f"is {kind}, not a GGUF file")


def _refuse_holes(fd: int, size: int, path: Path) -> None:
    """A file that is mostly holes is a download that was laid out but never filled, or a trap."""
    if size < MIN_SPARSE_BYTES:
        return
    data = position = 0
    for _ in range(_MAX_EXTENTS):
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:
            break  # ENXIO: only a hole remains
        position = os.lseek(fd, start, os.SEEK_HOLE)
        data += position - start
        if position >= size or 2 * data >= size:
            break
    if 2 * data < size:
        raise UnsuitableFile(
            path, f"is mostly holes: only {data} of its {size} bytes were ever written; fetch it again"
        )


def _unique(paths: Iterable[Path]) -> list[Path]:
    """Without the second path to the same file."""
    return list({real_path(path): path for path in paths}.values())


def _expand(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if real_path(path).is_dir():
            found += _walk(path)
        else:
            found += _with_other_parts(path)
    return found


def _walk(folder: Path) -> list[Path]:
    """The GGUF files in ``folder`` and the folders below it; links to folders are not followed."""
    found: list[Path] = []
    entries = 0
    for where, subfolders, files in os.walk(folder, onerror=_walk_failed):
        subfolders.sort()
        entries += len(subfolders) + len(files)
        if entries > MAX_ENTRIES:
            raise UnsuitableFile(folder, f"holds more than {MAX_ENTRIES} files; name the GGUF file itself")
        found += [Path(where, name) for name in sorted(files) if name.lower().endswith(".gguf")]
    if not found:
        raise UnsuitableFile(folder, "there is no .gguf file in this folder")
    return found


def _walk_failed(error: OSError) -> None:
    raise UnsuitableFile(error.filename, f"cannot be read: {error.strerror}") from error


def _with_other_parts(path: Path) -> list[Path]:
    """``path``, and if its name says that it is one of several parts, the other parts beside it."""
    match = _PART_NAME.fullmatch(path.name)
    if match is None:
        return [path]
    count, suffix = int(match["count"]), path.suffix
    if not 1 <= int(match["number"]) <= count:
        return [path]
    names = [f"{match['stem']}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1)]
    for name in names:
        if not path.with_name(name).exists():
            raise UnsuitableFile(
                path.with_name(name), f"is missing beside {path.name}; all {count} are needed"
            )
    return [path.with_name(name) for name in names]


def _one_model(
    paths: Sequence[Path],
    models: Sequence[SourceFile],
    parts: Sequence[tuple[int, SourceFile, GgufHeader]],
) -> tuple[SourceFile, ...]:
    where = paths[0] if paths else Path()
    if len(models) > 1 or (models and parts):
        listed = ", ".join(file.filename for file in (*models, *(part[1] for part in parts))[:8])
        raise UnsuitableFile(where, f"holds more than one model ({listed}); name the one to import")
    if models:
        return (models[0],)
    if not parts:
        raise UnsuitableFile(where, "holds no language model")
    return _ordered(parts)


def _ordered(parts: Sequence[tuple[int, SourceFile, GgufHeader]]) -> tuple[SourceFile, ...]:
    """The parts of one complete split model, by their number."""
    ordered = sorted(parts, key=lambda part: part[0])
    _, first, first_header = ordered[0]
    count = first_header.get("split.count", int, 0)
    if [number for number, _, _ in ordered] != list(range(count)):
        numbers = ", ".join(str(number + 1) for number, _, _ in ordered[:16])
        raise UnsuitableFile(
            first.path, f"is one of {count} parts; parts {numbers} were given, all are needed"
        )
    names: set[str] = set()
    for _, part, header in ordered:
        own = {tensor.name for tensor in header.tensors}
        if header.get("split.count", int, 0) != count or names & own:
            raise UnsuitableFile(part.path, f"is not a part of the same model as {first.path}")
        names |= own
    expected = first_header.get("split.tensors.count", int, len(names))
    if len(names) != expected:
        raise UnsuitableFile(first.path, f"promises {expected} tensors; its {count} parts hold {len(names)}")
    if not first.summary.architecture:
        raise UnsuitableFile(first.path, "is the first part of a model, but names no architecture")
    return tuple(part for _, part, _ in ordered)
