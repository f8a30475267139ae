"""A quantization under way, on disk: what a killed run leaves, and the next one goes on from.

The folder belongs to one source and one request, and to one process at a time. In it lie the plan, what
calibration measured, the part file, and a journal with a line for each tensor that is finished in it. A line
holds the digest of the tensor's bytes, so a torn write, in the journal or in the part file, is only work
lost.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from quant.certificate.document import Encoder
from quant.errors import QuantError, WorkInUse
from quant.files.layout import PlacedTensor
from quant.files.writer import PartFile

PREFIX: Final = ".localq-quantize-"
PART: Final = "part"
_KEY_DIGITS: Final = 16
_READ_BYTES: Final = 4 << 20
Document = TypeVar("Document", bound=msgspec.Struct)


class FinishedTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the journal: the tensor's bytes lie in the part file."""

    name: str
    position: int
    """In the part file, or in the one that was set aside."""
    beside: tuple[int, ...] = ()
    """The positions of :attr:`quant.files.layout.PlacedTensor.beside`."""
    sha256: str
    encoder: Encoder
    error: float | None


@dataclass(frozen=True)
class Work:
    """A folder that this process holds."""

    folder: Path
    name: str
    """Of the file under way."""

    @property
    def part(self) -> Path:
        """The file under way: in a folder of its own, for a person may have given it any name."""
        return self.folder / PART / self.name

    @property
    def evaluated(self) -> Path:
        """The certificate with its figures."""
        return self.folder / "evaluated.json"

    @property
    def statistics(self) -> Path:
        """A folder for what calibration measured."""
        return self.folder / "statistics"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def save(self, path: Path, document: object) -> None:
        """Writes a JSON document in one step: it is there whole, or not at all."""
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(document))
        temporary.replace(path)

    def load(self, path: Path, kind: type[Document]) -> Document | None:
        """A document that was saved; None where there is none, or it is damaged."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def forget_tensors(self) -> None:
        """Takes nothing of what the journal says for finished any more."""
        self.journal.unlink(missing_ok=True)

    def names(self) -> set[str]:
        """The tensors that the journal says are finished."""
        return {line.name for line in self._lines()}

    def append(self, tensor: FinishedTensor) -> None:
        """Adds a line to the journal, in one write. The tensor's bytes have been written before."""
        fd = os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            os.write(fd, b"\n" + msgspec.json.encode(tensor))  # ends a line that a kill tore
        except OSError as error:
            raise QuantError(f"{self.journal} cannot be written: {error.strerror}") from error
        finally:
            os.close(fd)

    @property
    def aside(self) -> Path:
        """A part file with another header, whose tensors are taken over."""
        return self.folder / "aside.gguf"

    def set_aside(self, size: int) -> None:
        """Makes room for a part file of ``size``: one of another size has the same tensors elsewhere."""
        try:
            if self.part.stat().st_size != size and not self.aside.exists():
                self.part.replace(self.aside)
        except FileNotFoundError:
            return

    def finished(self, part: PartFile, on_bytes: Callable[[int], None]) -> dict[str, FinishedTensor]:
        """The tensors whose bytes in ``part`` are still those of the journal.

        Those in a part file that was set aside are taken over, and that file is removed.
        """
        placed = {tensor.entry.name: tensor for tensor in part.layout.tensors}
        found = {}
        with ExitStack() as stack:
            aside = stack.enter_context(self.aside.open("rb")) if self.aside.exists() else None
            for line in self._lines():
                tensor = placed.get(line.name)
                if tensor is None:
                    continue
                if digest_of(part, tensor, on_bytes) == line.sha256:
                    found[line.name] = line
                elif aside is not None and _take_over(aside, line, part, tensor):
                    beside = tuple(piece.position for piece in tensor.beside)
                    found[line.name] = msgspec.structs.replace(line, position=tensor.position, beside=beside)
                    self.append(found[line.name])
        self.aside.unlink(missing_ok=True)
        return found

    def _lines(self) -> list[FinishedTensor]:
        """The journal's lines, the last one of each tensor; what was torn is left out."""
        try:
            raw = self.journal.read_bytes()
        except FileNotFoundError:
            return []
        lines = {}
        for text in raw.splitlines():
            try:
                line = msgspec.json.decode(text, type=FinishedTensor)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            lines[line.name] = line
        return list(lines.values())

    def remove(self) -> None:
        """Clears the folder away after success."""
        shutil.rmtree(self.folder, ignore_errors=True)


def digest_of(part: PartFile, tensor: PlacedTensor, on_bytes: Callable[[int], None]) -> str:
    """SHA-256 of a tensor's bytes as they lie in the file, in hex; what lies beside it comes behind."""
    state = hashlib.sha256()
    for position, nbytes in tensor.pieces:
        end = position + nbytes
        while position < end:
            data = part.read(position, min(_READ_BYTES, end - position))
            if not data:
                break
            state.update(data)
            position += len(data)
            on_bytes(len(data))
    return state.hexdigest()


def _take_over(aside: BinaryIO, line: FinishedTensor, part: PartFile, tensor: PlacedTensor) -> bool:
    """Copies a tensor's bytes into ``part``; whether they were those of the journal."""
    state = hashlib.sha256()
    positions = (line.position, *line.beside)
    if len(positions) != len(tensor.pieces):
        return False
    for old, (new, nbytes) in zip(positions, tensor.pieces, strict=True):
        aside.seek(old)
        for start in range(0, nbytes, _READ_BYTES):
            data = aside.read(min(_READ_BYTES, nbytes - start))
            state.update(data)
            part.write(new + start, data)
    return state.hexdigest() == line.sha256


def work_key(document: object) -> str:
    """A short name for the source and the request in ``document``, of JSON types."""
    raw = msgspec.json.encode(document, order="deterministic")
    return hashlib.sha256(raw).hexdigest()[:_KEY_DIGITS]


@contextmanager
def open_work(parent: Path, key: str, name: str) -> Iterator[Work]:
    """The folder for ``key`` in ``parent``, made if it is not there, held until the block ends.

    ``name`` is that of the file to make.

    Raises :class:`WorkInUse` while another process holds it. The lock dies with its process.
    """
    folder = parent / f"{PREFIX}{key}"
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # removed by the process that has just finished the same
        except OSError as error:
            raise QuantError(f"cannot work in {folder}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkInUse(folder) from None
            if not _is_at(fd, folder):
                continue
            try:
                _make(folder / PART)
                yield Work(folder, name)
            finally:
                with suppress(OSError):  # what failed before it left anything leaves nothing
                    (folder / PART).rmdir()
                    folder.rmdir()
            return
        finally:
            os.close(fd)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise QuantError(f"cannot work in {folder}: {error.strerror}") from error


def _is_at(fd: int, folder: Path) -> bool:
    """Whether an open folder still has its name: not if it was removed, even where another one has it now."""
    try:
        return os.path.samestat(os.fstat(fd), folder.stat())
    except FileNotFoundError:
        return False
