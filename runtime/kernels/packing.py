"""Typed bindings of ``blocks/``: packing and dequantizing blocks of ggml's formats.

``quant/formats`` defines the formats in NumPy; this is the same, fast. Shapes, types and layouts are checked
here. Every call releases the GIL.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from runtime.errors import KernelError
from runtime.kernels.library import find, load
from runtime.kernels.signatures import BlocksData


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """What the kernels know of a type: weights and bytes of a block, groups, and which fields blocks have."""

    ggml_type: int
    weights: int
    nbytes: int
    groups: int
    minimum: bool
    scales: bool
    minima: bool


class _Layout(ctypes.Structure):
    """``localq_block_layout``."""

    _fields_ = (
        ("ggml_type", ctypes.c_uint32),
        ("weights", ctypes.c_uint32),
        ("bytes", ctypes.c_uint32),
        ("groups", ctypes.c_uint32),
        ("minimum", ctypes.c_bool),
        ("scales", ctypes.c_bool),
        ("minima", ctypes.c_bool),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    library = load()
    try:
        # const localq_block_layout* localq_block_layout_of(uint32_t ggml_type);
        library.localq_block_layout_of.argtypes = (ctypes.c_uint32,)
        library.localq_block_layout_of.restype = ctypes.POINTER(_Layout)
        # bool localq_pack_blocks(uint32_t ggml_type, const localq_blocks* blocks, size_t count,
        #                         uint8_t* data);
        library.localq_pack_blocks.argtypes = (
            ctypes.c_uint32,
            ctypes.POINTER(BlocksData),
            ctypes.c_size_t,
            ctypes.c_void_p,
        )
        library.localq_pack_blocks.restype = ctypes.c_bool
        # bool localq_dequantize_blocks(uint32_t ggml_type, const uint8_t* data, size_t count,
        #                               float* values);
        library.localq_dequantize_blocks.argtypes = (
            ctypes.c_uint32,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
        )
        library.localq_dequantize_blocks.restype = ctypes.c_bool
    except AttributeError as error:
        raise KernelError(f"{find()} is older than these bindings: {error}; run `make rebuild`") from error
    return library


@functools.cache
def block_layout(ggml_type: int) -> BlockLayout:
    """Raises ValueError for a type that is not packed here."""
    found = _library().localq_block_layout_of(ggml_type)
    if not found:
        raise ValueError(f"blocks of ggml type {ggml_type} are not packed by this library")
    layout = found.contents
    return BlockLayout(
        layout.ggml_type,
        layout.weights,
        layout.bytes,
        layout.groups,
        layout.minimum,
        layout.scales,
        layout.minima,
    )


def pack_blocks(
    ggml_type: int,
    codes: NDArray[np.uint8],
    scale: NDArray[np.float16],
    minimum: NDArray[np.float16] | None = None,
    scales: NDArray[np.int8] | None = None,
    minima: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Contiguous arrays as in ``quant.formats.format.Blocks`` -> uint8 [n, bytes of a block].

    Codes and group scales are within the format's ranges; of what is not, the bits above are lost. Raises
    ValueError for an array that is missing, superfluous, or has another type or shape.
    """
    layout = block_layout(ggml_type)
    count = len(codes)
    groups = (count, layout.groups)
    blocks = BlocksData(
        codes=_address("codes", codes, np.uint8, (count, layout.weights)),
        scale=_address("scale", scale, np.float16, (count,)),
        minimum=_address("minimum", minimum, np.float16, (count,) if layout.minimum else None),
        scales=_address("scales", scales, np.int8, groups if layout.scales else None),
        minima=_address("minima", minima, np.uint8, groups if layout.minima else None),
    )
    data = np.empty((count, layout.nbytes), np.uint8)
    _library().localq_pack_blocks(ggml_type, ctypes.byref(blocks), count, data.ctypes.data)
    return data


def dequantize_blocks(ggml_type: int, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Contiguous uint8 [n, bytes of a block] -> float32 [n, weights of a block].

    Every byte string has values. Raises ValueError for another shape or type.
    """
    layout = block_layout(ggml_type)
    address = _address("data", data, np.uint8, (len(data), layout.nbytes))
    values = np.empty((len(data), layout.weights), np.float32)
    _library().localq_dequantize_blocks(ggml_type, address, len(data), values.ctypes.data)
    return values


def _address(
    name: str, array: NDArray[np.generic] | None, dtype: DTypeLike, shape: tuple[int, ...] | None
) -> int | None:
    """Where a checked array begins; None for one that the type does not have (``shape`` None)."""
    if array is None or shape is None:
        if array is not None:
            raise ValueError(f"{name}: blocks of this type have none")
        if shape is not None:
            raise ValueError(f"{name} is missing; blocks of this type have it")
        return None
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} is {array.dtype} {array.shape}; it must be contiguous {np.dtype(dtype)} {shape}"
        )
    return array.ctypes.data
