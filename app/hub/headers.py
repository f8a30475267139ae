"""Headers of files on the Hub, read by ranges: what a model is, before a byte of its weights is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from app.errors import HubMisbehaved
from app.hub.api import Hub, RemoteFile, RemoteRepo
from app.hub.ranges import RangeReader
from app.hub.retry import patiently
from app.hub.session import host_of
from runtime.gguf import GgufHeader
from runtime.gguf.metadata import RawMetadata
from runtime.gguf.reader import read_gguf
from runtime.gguf.skim import Enough, skim_gguf
from runtime.gguf.source import Source

FIRST_BYTES: Final = 1 << 18
MOST_BYTES: Final = 4 << 20
"""Of one request; each asks for twice as much as the one before."""
SKIMMED_BYTES: Final = 1 << 18
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_SAFETENSORS_BYTES: Final = 16 << 20
"""Of a safetensors header; that of a model with 100,000 tensors has about 12 MB."""


class SafetensorsTensor(msgspec.Struct, frozen=True):
    """One entry of a safetensors header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]
    """Where its bytes begin and end, counted from the end of the header."""


class _RemoteSource(Source):
    """The bytes of a file on the Hub, fetched as far as they are read."""

    def __init__(self, hub: Hub, repo: RemoteRepo, file: RemoteFile) -> None:
        super().__init__(-1, Path(file.path), file.size)
        self._reader = RangeReader(hub, repo.repo, repo.commit, file)
        self._patience = hub.patience
        self._step = FIRST_BYTES

    def read_at(self, position: int, least: int) -> bytes:
        end = position + max(least, min(self._step, self.size - position))
        self._step = min(2 * self._step, MOST_BYTES)
        return patiently(lambda: self._reader.read(position, end), self._patience)


def remote_gguf_header(hub: Hub, repo: RemoteRepo, file: RemoteFile) -> GgufHeader:
    """The validated header of a GGUF on the Hub; of its tensors nothing is fetched but the table.

    Its ``path`` is the path in the repository, and its large arrays cannot be read. Raises
    :class:`runtime.errors.GgufError` or a :class:`app.errors.HubError`.
    """
    return read_gguf(_RemoteSource(hub, repo, file))


class _Skimmed(_RemoteSource):
    """Gives the first bytes only."""

    def read_at(self, position: int, least: int) -> bytes:
        if position + least > SKIMMED_BYTES:
            raise Enough
        end = min(self.size, SKIMMED_BYTES)
        return patiently(lambda: self._reader.read(position, end), self._patience)


def skim_remote(hub: Hub, repo: RemoteRepo, file: RemoteFile) -> RawMetadata:
    """The first keys of a GGUF on the Hub, its hyperparameters among them; at most 256 KiB are read.

    Raises :class:`runtime.errors.GgufError` or a :class:`app.errors.HubError`.
    """
    return skim_gguf(_Skimmed(hub, repo, file))


def read_config(hub: Hub, repo: RemoteRepo, file: RemoteFile) -> dict[str, Any]:
    """A ``config.json`` on the Hub. Raises a :class:`app.errors.HubError`."""
    if not 0 < file.size <= MAX_CONFIG_BYTES:
        raise HubMisbehaved(host_of(hub.base), f"{file.path} has {file.size} bytes")
    reader = RangeReader(hub, repo.repo, repo.commit, file)
    text = patiently(lambda: reader.read(0, file.size), hub.patience)
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubMisbehaved(host_of(hub.base), f"{file.path} is no JSON object: {error}") from error


def remote_safetensors_header(
    hub: Hub, repo: RemoteRepo, file: RemoteFile
) -> Mapping[str, SafetensorsTensor]:
    """The tensors of a safetensors file on the Hub, by their names; sizes and places are not checked.

    Raises a :class:`app.errors.HubError`.
    """
    reader, host = RangeReader(hub, repo.repo, repo.commit, file), host_of(hub.base)
    if file.size < 8:
        raise HubMisbehaved(host, f"{file.path} is too short for a safetensors file")
    raw = patiently(lambda: reader.read(0, 8), hub.patience)
    length = int.from_bytes(raw, "little")
    if not 2 <= length <= min(MAX_SAFETENSORS_BYTES, file.size - 8):
        raise HubMisbehaved(host, f"{file.path} says that its header has {length} bytes")
    text = patiently(lambda: reader.read(8, 8 + length), hub.patience)
    try:
        entries = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        return {
            name: msgspec.json.decode(entry, type=SafetensorsTensor)
            for name, entry in entries.items()
            if name != "__metadata__"
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubMisbehaved(host, f"{file.path} has no valid safetensors header: {error}") from error
