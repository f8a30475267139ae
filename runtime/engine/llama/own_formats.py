"""Loading models with matrices in localq's own formats (``runtime.gguf.packed``), unknown to llama.cpp.

It gets a second part that declares these matrices (``runtime.gguf.skeleton``), in a temporary file that is
gone once the model is loaded; the hook multiplies from a mapping of the model's file.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from runtime import ggml
from runtime.engine.config import EngineConfig
from runtime.errors import GgufError, ModelLoadFailed
from runtime.gguf import GgufHeader
from runtime.gguf.header import file_identity
from runtime.gguf.packed import PackedSection
from runtime.gguf.packed_data import PackedData, read_packed_data
from runtime.gguf.skeleton import split_keys, write_skeleton
from runtime.gguf.source import pread

HUGE_PAGE: Final = 2 << 20
PIECE: Final = 16 << 20

_kept: list[object] = []
"""What loaded models multiply with: until the process ends."""


@contextmanager
def declared(header: GgufHeader, config: EngineConfig, params: native.llama_model_params) -> Iterator[Path]:
    """The part to load behind the model's file, with ``params``; the hook has the matrices meanwhile.

    Raises ModelLoadFailed where the hook cannot multiply here, or some matrix was not given to it; GgufError
    for what the header does not tell of the packed section.
    """
    section = header.packed
    assert section is not None
    _require_kernels(header, section, config)
    data = read_packed_data(header, section)
    packed = _map(header, section) if config.mmap else _read(header, section)
    _kept.append(data)
    overrides = _overrides(split_keys(header, section))
    params.kv_overrides = overrides
    params.use_extra_bufts = True
    try:
        _register(section, data, packed)
        with tempfile.TemporaryDirectory(prefix="localq-") as folder:
            part = Path(folder) / "packed.gguf"
            write_skeleton(header, section, part)
            yield part
    finally:
        taken = ggml.forget_all()
    if taken != len(section.tensors):
        raise ModelLoadFailed(
            f"llama.cpp asked for {taken} of {len(section.tensors)} matrices of {header.path} that are in"
            f" {_names(section)}: what it does with the others only ggml's types can; quantize them to one"
        )


def _require_kernels(header: GgufHeader, section: PackedSection, config: EngineConfig) -> None:
    if reason := ggml.attach(config.threads).reason:
        raise ModelLoadFailed(
            f"{header.path} has matrices in {_names(section)}, which only localq's kernels multiply, and they"
            f" do not run here: {reason}. `localq export` makes a file of it that any llama.cpp runs"
        )
    if config.gpu_layers != 0:
        raise ModelLoadFailed(
            f"{header.path} has matrices in {_names(section)}, which the processor multiplies: load it with"
            " --gpu-layers 0"
        )


def _names(section: PackedSection) -> str:
    return " and ".join(name.upper() for name in section.formats)


def _register(section: PackedSection, data: PackedData, packed: NDArray[np.uint8]) -> None:
    """The matrices of a section whose bytes are ``packed``."""
    for tensor in section.tensors:
        signs, order = data.inputs[tensor.input]
        columns, rows = tensor.shape[:2]
        matrix = ggml.MatrixData(
            bits=tensor.bits,
            state_bits=tensor.states,
            rows=rows,
            depth=columns,
            experts=tensor.experts,
            strips=packed.ctypes.data + tensor.offset,
            bytes=tensor.nbytes,
            signs=signs.ctypes.data,
            order=order.ctypes.data,
            table=data.tables[tensor.table].ctypes.data,
        )
        ggml.register(tensor.name, matrix)


def _map(header: GgufHeader, section: PackedSection) -> NDArray[np.uint8]:
    """The section in a mapping of the file: its pages are the system's to drop and read again."""
    fd = _open(header)
    try:
        mapping = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(fd)
    if hasattr(mmap, "MADV_WILLNEED"):
        mapping.madvise(mmap.MADV_WILLNEED)  # a cold file is read while the rest is loaded
    _kept.append(mapping)
    return np.frombuffer(mapping, np.uint8)[section.offset :]


def _read(header: GgufHeader, section: PackedSection) -> NDArray[np.uint8]:
    """The section in memory of this process, in huge pages where the system gives them."""
    memory = mmap.mmap(-1, section.nbytes + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    _kept.append(memory)
    whole = np.frombuffer(memory, np.uint8)
    packed = whole[-whole.ctypes.data % HUGE_PAGE :][: section.nbytes]
    fd = _open(header)
    try:
        for start in range(0, section.nbytes, PIECE):
            piece = packed[start : start + PIECE]
            data = pread(fd, len(piece), section.offset + start)
            if len(data) != len(piece):
                raise GgufError(header.path, "shrunk", "the file became shorter while it was read")
            piece[:] = np.frombuffer(data, np.uint8)
    finally:
        os.close(fd)
    return packed


def _open(header: GgufHeader) -> int:
    fd = os.open(header.path, os.O_RDONLY | os.O_CLOEXEC)
    if file_identity(fd) != header.identity:
        os.close(fd)
        raise GgufError(header.path, "changed", "the file was changed after it was opened; open it again")
    return fd


def _overrides(values: dict[str, int]) -> ctypes.Array[native.llama_model_kv_override]:
    """An array that ends with an empty key."""
    overrides: ctypes.Array[native.llama_model_kv_override] = (
        native.llama_model_kv_override * (len(values) + 1)
    )()
    for override, (key, value) in zip(overrides, values.items(), strict=False):
        override.tag = native.LLAMA_KV_OVERRIDE_TYPE_INT
        override.key = key.encode()
        override.value.val_i64 = value
    return overrides
