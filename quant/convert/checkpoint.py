"""A safetensors repository on disk: its configuration, and its tensors by name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from quant.convert.json_file import INDEX_BYTES, read_object
from quant.convert.safetensors import StoredTensor, read_header
from quant.errors import CannotConvert, CheckpointDamaged
from runtime.gguf.header import file_identity
from runtime.gguf.source import pread

CONFIG: Final = "config.json"
WHOLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_READ: Final = (".safetensors", ".json", ".model", ".txt", ".jinja", ".md")
_PART: Final = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}\.safetensors")


class Checkpoint:
    """An open repository. Tensors may be read by any number of threads at once; use it as a context
    manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = weight_files(folder)
        self.tensors = _tensors(folder, self.paths)
        self._stack = ExitStack()
        self._fds: dict[Path, int] = {}
        self._identities: dict[Path, object] = {}
        try:
            for path in self.paths:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._stack.callback(os.close, fd)
                self._fds[path] = fd
                self._identities[path] = file_identity(fd)
        except OSError as error:
            self._stack.close()
            raise CheckpointDamaged(path, "unreadable", f"cannot be opened: {error.strerror}") from error

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def read(self, tensor: StoredTensor, start: int, stop: int) -> bytes:
        """The stored bytes of rows ``start`` to ``stop``. Raises :class:`CheckpointDamaged`."""
        nbytes = (stop - start) * tensor.row_bytes
        try:
            data = pread(self._fds[tensor.path], nbytes, tensor.position + start * tensor.row_bytes)
        except OSError as error:
            raise CheckpointDamaged(
                tensor.path, "unreadable", f"the tensor {tensor.name} cannot be read: {error.strerror}"
            ) from error
        if len(data) != nbytes:
            raise CheckpointDamaged(tensor.path, "shrunk", f"became shorter while {tensor.name} was read")
        return data

    def file(self, path: Path) -> int:
        """The descriptor of one of ``paths``."""
        return self._fds[path]

    def read_from(self, path: Path, actual: Path) -> None:
        """Read the tensors of ``path`` from the file ``actual`` from now on.

        Raises :class:`CheckpointDamaged` (``changed``) unless its header is that of ``path``.
        """
        found = {name: replace(tensor, path=path) for name, tensor in read_header(actual).items()}
        if found != {name: tensor for name, tensor in self.tensors.items() if tensor.path == path}:
            raise CheckpointDamaged(path, "changed", "has another header than the one that was read first")
        fd = os.open(actual, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(fd, self._fds[path], inheritable=False)
        os.close(fd)
        self._identities[path] = file_identity(self._fds[path])

    def release(self, path: Path) -> None:
        """Let go of the file whose tensors are read no more, so that removing it frees the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(fd, self._fds[path], inheritable=False)
        os.close(fd)
        self._identities[path] = file_identity(self._fds[path])

    def require_unchanged(self) -> None:
        """Raises :class:`CheckpointDamaged` (``changed``) if a file was written to meanwhile."""
        for path, fd in self._fds.items():
            if file_identity(fd) != self._identities[path]:
                raise CheckpointDamaged(
                    path, "changed", "was changed while it was read; try again when it is complete"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def is_checkpoint(folder: Path) -> bool:
    """Whether ``folder`` looks like a repository of weights that are no GGUF yet."""
    return (
        folder.is_dir()
        and (folder / CONFIG).is_file()
        and not any(path.suffix.lower() == ".gguf" for path in folder.iterdir())
    )


def repository_files(folder: Path) -> tuple[Path, ...]:
    """The files that decide what a conversion of ``folder`` gives, and others of their kinds."""
    return tuple(
        path
        for pattern in ("*", "*/*")
        for path in sorted(folder.glob(pattern))
        if path.suffix in _READ and path.is_file()
    )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of the model in ``folder``, by the index where there is one.

    Raises :class:`CheckpointDamaged` for an index or a set of parts with a hole in it, and
    :class:`CannotConvert` where there are no safetensors, whatever else there is.
    """
    if (folder / INDEX).exists():
        return tuple(folder / name for name in sorted(set(_weight_map(folder / INDEX).values())))
    if (folder / WHOLE).exists():
        return (folder / WHOLE,)
    parts = sorted(path for path in folder.iterdir() if _PART.fullmatch(path.name))
    if not parts:
        raise CannotConvert(folder, _nothing_there(folder))
    count = int(parts[0].stem.rpartition("-")[2])
    expected = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    if [path.name for path in parts] != expected:
        missing = next((name for name in expected if not (folder / name).exists()), parts[-1].name)
        raise CheckpointDamaged(
            folder / missing, "part-missing", f"{count} parts belong together, and {len(parts)} are there"
        )
    return tuple(parts)


def _nothing_there(folder: Path) -> str:
    names = [path.name for path in folder.iterdir()]
    if any(name.endswith(PICKLES) for name in names):
        return (
            "has its weights in Python's pickle format only, which runs code when it is opened, so localq "
            "never opens it; look for a repository of the same model with .safetensors files"
        )
    if any(name.endswith(".safetensors") for name in names):
        return (
            f"has safetensors files, but neither {WHOLE} nor {INDEX}; it is no model that transformers saved"
        )
    return "holds no model: there is no .safetensors file in it"


def _weight_map(path: Path) -> Mapping[str, str]:
    """Which file has which tensor. Only files beside the index are taken."""
    found = read_object(path, INDEX_BYTES).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointDamaged(path, "wrong-type", "has no weight_map with tensors")
    for name, file in found.items():
        if not isinstance(file, str) or not _FILE_NAME.fullmatch(file):
            raise CheckpointDamaged(
                path, "bad-name", f"looks for {name[:80]!r} in {str(file)[:80]!r}, which is no file beside it"
            )
        if not (path.parent / file).exists():
            raise CheckpointDamaged(
                path.parent / file,
                "part-missing",
                "is missing: the index looks for tensors in it; fetch it again",
            )
    return found


def _tensors(folder: Path, paths: tuple[Path, ...]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        for name, tensor in read_header(path).items():
            if name in tensors:
                raise CheckpointDamaged(
                    path, "duplicate-tensor", f"has {name} a second time, {tensors[name].path.name} has it"
                )
            tensors[name] = tensor
    if (folder / INDEX).exists():
        for name, file in _weight_map(folder / INDEX).items():
            if name not in tensors or tensors[name].path.name != file:
                raise CheckpointDamaged(
                    folder / file, "tensor-missing", f"lacks {name[:80]!r}, which the index looks for in it"
                )
    return tensors
