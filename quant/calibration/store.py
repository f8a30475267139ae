"""Statistics on disk: a folder with an index and one file for each distinct input, mapped when read.

The folder appears whole or not at all, and belongs to one model, one set of texts and one set of settings.
The files hold what :class:`runtime.engine.observation.ObservedInput` says.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.errors import QuantError
from runtime.engine.accumulator import extremes_count, peak_blocks, sums_bytes
from runtime.engine.observation import ObservedInput

INDEX: Final = "index.json"
VERSION: Final = 4
HASH_BYTES: Final = 4 << 20


class TextRecord(msgspec.Struct, frozen=True):
    """A text that tokens were drawn from."""

    name: str
    domain: str
    sha256: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides the statistics, together with the processor that they were computed on."""

    model_sha256: tuple[str, ...]
    """Of each of the model's files."""
    texts: tuple[TextRecord, ...]
    tokens: int
    chunk_tokens: int
    seed: int
    hessian: bool
    expert_hessian: bool
    memory_bytes: int
    engine: str
    """Version of llama-cpp-python."""


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What the folder holds, and what it took."""

    version: int
    settings: Settings
    inputs: tuple[ObservedInput, ...]
    unseen: tuple[str, ...]
    """Matrices of the model that no input was seen of."""
    tokens: int
    domain_tokens: dict[str, int]
    template_sha256: str
    """Of the chat template that conversations were rendered with; empty where none was."""
    passes: int
    seconds: float

    @property
    def digest(self) -> str:
        """sha256 of everything that was measured: of the files, by their digests, and whose they are."""
        facts = (
            self.version,
            self.settings.model_sha256,
            self.settings.texts,
            self.inputs,
            self.domain_tokens,
        )
        return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()


class Statistics(Mapping[str, InputStatistics]):
    """Tensor name -> statistics of its input. Arrays are read-only and mapped from the files."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder = folder
        self.index = index
        self._inputs = {name: found for found in index.inputs for name in found.tensors}

    @property
    def digest(self) -> str:
        """See :attr:`Index.digest`."""
        return self.index.digest

    @property
    def domain_tokens(self) -> Mapping[str, int]:
        """Tokens that were read of each domain."""
        return self.index.domain_tokens

    def __getitem__(self, name: str) -> InputStatistics:
        found = self._inputs[name]
        values: NDArray[np.float32] = np.asarray(np.memmap(self.folder / found.file, "<f4", "r"))
        experts, columns, block = len(found.tokens), found.columns, found.block
        squares, values = values[: experts * columns], values[experts * columns :]
        moments, values = values[: experts * columns * block], values[experts * columns * block :]
        peaks = {}
        for size, count in peak_blocks(columns):
            peaks[size], values = values[: experts * count].reshape(experts, count), values[experts * count :]
        return InputStatistics(
            tokens=np.array(found.tokens, np.int64),
            mean_square=squares.reshape(experts, columns),
            gram=moments.reshape(experts, columns // block, block, block) if block else None,
            peaks=peaks,
            extremes=values.reshape(found.batches, count) if (count := extremes_count(columns)) else None,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)


def open_statistics(folder: Path) -> Statistics:
    """The statistics in a folder. Raises QuantError where it holds none, or a file of another length."""
    try:
        index = msgspec.json.decode((folder / INDEX).read_bytes(), type=Index)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QuantError(f"{folder} holds no calibration statistics ({error}); calibrate again") from error
    if index.version != VERSION:
        raise QuantError(
            f"{folder} holds statistics of version {index.version}, not {VERSION}; calibrate again"
        )
    for found in index.inputs:
        path = folder / found.file
        wanted = file_bytes(found)
        size = path.stat().st_size if path.is_file() else 0
        if size != wanted or path.parent != folder:
            raise QuantError(f"{path} has {size} bytes instead of {wanted}; calibrate again")
    return Statistics(folder, index)


def check_statistics(statistics: Statistics) -> None:
    """Reads every file. Raises QuantError at one whose bytes changed."""
    for found in statistics.index.inputs:
        digest = hashlib.sha256()
        with (statistics.folder / found.file).open("rb") as file:
            while piece := file.read(HASH_BYTES):
                digest.update(piece)
        if digest.hexdigest() != found.sha256:
            raise QuantError(
                f"{statistics.folder / found.file} was damaged since it was written; calibrate again"
            )


def reusable(folder: Path, settings: Settings) -> Statistics | None:
    """The statistics in ``folder`` if they are whole and of the same settings; else None."""
    try:
        statistics = open_statistics(folder)
        if statistics.index.settings != settings:
            return None
        check_statistics(statistics)
    except QuantError:
        return None
    return statistics


def partial_folder(folder: Path) -> Path:
    """An empty folder beside ``folder`` for the files of a new calibration, emptied of an earlier one's."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def publish(partial: Path, folder: Path, index: Index) -> Statistics:
    """Writes the index and gives the folder its name; statistics that were there before are replaced."""
    (partial / INDEX).write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
    for path in [*partial.iterdir(), partial]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return open_statistics(folder)


def file_bytes(found: ObservedInput) -> int:
    """Length of an input's file."""
    return sums_bytes(len(found.tokens), found.columns, found.block, found.batches)
