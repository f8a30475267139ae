"""Typed bindings of ``matmul/``: matrices in strips, and their products with columns.

For tests and benchmarks: in a worker ``runtime/ggml`` calls the same functions from C++. Shapes, types and
layouts are checked here. Every call releases the GIL.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import KernelError
from runtime.kernels.bindings import backend, plain_library
from runtime.kernels.library import find
from runtime.kernels.signatures import ColumnData, Multiply, ProductData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STRIP_ROWS = 16
ALIGNMENT = 64
INPUT_BLOCK, SUPER_BLOCK = 32, 256
"""Columns of an input that share a scale: as many as the matrix's blocks have, or 32."""


@dataclass(frozen=True, slots=True)
class StripLayout:
    """A ggml type that can be multiplied: weights and bytes of a block."""

    ggml_type: int
    weights: int
    nbytes: int


class _Layout(ctypes.Structure):
    """``localq_strip_layout``."""

    _fields_ = (
        ("ggml_type", ctypes.c_uint32),
        ("weights", ctypes.c_uint32),
        ("bytes", ctypes.c_uint32),
        ("line_bytes", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class Strips:
    """A packed matrix of [rows, depth]. ``data`` is 64-byte aligned where :func:`pack_strips` made it."""

    layout: StripLayout
    rows: int
    depth: int
    data: NDArray[np.uint8]

    @property
    def count(self) -> int:
        """Strips of 16 rows; the last may have fewer."""
        return -(-self.rows // STRIP_ROWS)


@functools.cache
def _library() -> ctypes.CDLL:
    library = plain_library()
    try:
        # const localq_strip_layout* localq_strip_layout_of(uint32_t ggml_type);
        library.localq_strip_layout_of.argtypes = (ctypes.c_uint32,)
        library.localq_strip_layout_of.restype = ctypes.POINTER(_Layout)
        # bool localq_pack_strips(uint32_t ggml_type, const uint8_t* rows, size_t row_count, size_t depth,
        #                         size_t first_strip, size_t last_strip, uint8_t* strips);
        size = ctypes.c_size_t
        library.localq_pack_strips.argtypes = (
            ctypes.c_uint32,
            ctypes.c_void_p,
            size,
            size,
            size,
            size,
            ctypes.c_void_p,
        )
        library.localq_pack_strips.restype = ctypes.c_bool
        # bool localq_unpack_row(uint32_t ggml_type, const uint8_t* strips, size_t depth, size_t row,
        #                        uint8_t* data);
        library.localq_unpack_row.argtypes = (ctypes.c_uint32, ctypes.c_void_p, size, size, ctypes.c_void_p)
        library.localq_unpack_row.restype = ctypes.c_bool
        # size_t localq_input_bytes(size_t depth, size_t block);
        library.localq_input_bytes.argtypes = (size, size)
        library.localq_input_bytes.restype = size
        # size_t localq_workspace_bytes(const localq_strip_layout* layout, size_t depth, size_t columns);
        library.localq_workspace_bytes.argtypes = (ctypes.POINTER(_Layout), size, size)
        library.localq_workspace_bytes.restype = size
    except AttributeError as error:
        raise KernelError(f"{find()} is older than these bindings: {error}; run `make rebuild`") from error
    return library


@functools.cache
def strip_layout(ggml_type: int) -> StripLayout:
    """Raises ValueError for a type that has no product."""
    found = _library().localq_strip_layout_of(ggml_type)
    if not found:
        raise ValueError(f"matrices of ggml type {ggml_type} are not multiplied by this library")
    return StripLayout(found.contents.ggml_type, found.contents.weights, found.contents.bytes)


def has_product(ggml_type: int) -> bool:
    """Whether matrices of a type can be multiplied."""
    return bool(_library().localq_strip_layout_of(ggml_type))


def aligned(nbytes: int, offset: int = 0) -> NDArray[np.uint8]:
    """``nbytes`` of memory that begin ``offset`` bytes behind a 64-byte boundary."""
    import numpy as np

    memory = np.zeros(nbytes + 2 * ALIGNMENT + offset, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT + offset
    return memory[start : start + nbytes]


def pack_strips(ggml_type: int, rows: NDArray[np.uint8], *, offset: int = 0) -> Strips:
    """uint8 [rows, bytes of a row in ggml's blocks] -> strips. Raises ValueError for another shape."""
    layout = strip_layout(ggml_type)
    if (
        rows.dtype.char != "B"
        or rows.ndim != 2
        or not rows.flags.c_contiguous
        or rows.shape[1] % layout.nbytes
    ):
        raise ValueError(
            f"rows is {rows.dtype} {rows.shape}; it must be contiguous uint8 [rows, n * {layout.nbytes}]"
        )
    count, row_bytes = rows.shape
    depth = row_bytes // layout.nbytes * layout.weights
    strips = -(-count // STRIP_ROWS)
    data = aligned(strips * STRIP_ROWS * row_bytes, offset)
    _library().localq_pack_strips(ggml_type, rows.ctypes.data, count, depth, 0, strips, data.ctypes.data)
    return Strips(layout, count, depth, data)


def unpack_row(strips: Strips, row: int) -> NDArray[np.uint8]:
    """One row in ggml's blocks. Raises IndexError for a row that is not there."""
    if not 0 <= row < strips.rows:
        raise IndexError(f"row {row} of {strips.rows}")
    data = aligned(strips.depth // strips.layout.weights * strips.layout.nbytes)
    _library().localq_unpack_row(
        strips.layout.ggml_type, strips.data.ctypes.data, strips.depth, row, data.ctypes.data
    )
    return data


def input_block(weights: int) -> int:
    """Columns that share a scale, for a matrix whose blocks have ``weights``."""
    return SUPER_BLOCK if weights == SUPER_BLOCK else INPUT_BLOCK


def quantize_input(
    values: NDArray[np.float32],
    block: int,
    isa: str | None = None,
    *,
    scales: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """float32 [columns, depth] -> uint8 [columns, bytes of an input] (``matmul/input.h``).

    ``scales`` [depth / :func:`input_block`] are static ones; without, each block gets that of its largest
    value.
    """
    if (
        values.dtype.char != "f"
        or values.ndim != 2
        or not values.flags.c_contiguous
        or values.shape[1] % block
    ):
        raise ValueError(
            f"values is {values.dtype} {values.shape}; it must be float32 [columns, n * {block}]"
        )
    columns, depth = values.shape
    nbytes = _library().localq_input_bytes(depth, block)
    inputs = aligned(columns * nbytes).reshape(columns, nbytes)
    kernels = backend(isa)
    if scales is None:
        for column in range(columns):
            kernels.quantize_input(values[column].ctypes.data, depth, block, inputs[column].ctypes.data)
        return inputs
    count = depth // input_block(block)
    if scales.dtype.char != "f" or scales.shape != (count,) or not scales.flags.c_contiguous:
        raise ValueError(f"scales is {scales.dtype} {scales.shape}; it must be float32 [{count}]")
    inverses = 1 / scales
    for column in range(columns):
        kernels.quantize_input_static(
            values[column].ctypes.data,
            scales.ctypes.data,
            inverses.ctypes.data,
            depth,
            block,
            inputs[column].ctypes.data,
        )
    return inputs


class Product:
    """A matrix times quantized columns, ready to be computed again and again into ``output`` [columns, rows].

    Raises KernelError where the instruction set, or the active one, has no product for the matrix's type.
    """

    def __init__(self, strips: Strips, inputs: NDArray[np.uint8], isa: str | None = None) -> None:
        import numpy as np

        columns, input_bytes = inputs.shape
        expected = _library().localq_input_bytes(strips.depth, strips.layout.weights)
        if input_bytes != expected:
            raise ValueError(
                f"inputs have {input_bytes} bytes; for {strips.depth} values they have {expected}"
            )
        address: int | None = backend(isa).multiply_of(strips.layout.ggml_type)
        if address is None:
            raise KernelError(f"{isa or 'the active instruction set'} has no product for {strips.layout}")
        self._multiply = Multiply(address)
        self._strips, self._inputs = strips, inputs
        self.output: NDArray[np.float32] = np.zeros((columns, strips.rows), dtype=np.float32)
        self._columns = (ColumnData * columns)(
            *(
                ColumnData(inputs[column].ctypes.data, self.output[column].ctypes.data)
                for column in range(columns)
            )
        )
        self._product = ProductData(
            strips.data.ctypes.data, strips.rows, strips.depth, self._columns, columns
        )
        layout = _library().localq_strip_layout_of(strips.layout.ggml_type)
        self._workspace = aligned(_library().localq_workspace_bytes(layout, strips.depth, columns))

    def compute(
        self, first_strip: int = 0, last_strip: int | None = None, *, prepared: bool = False
    ) -> NDArray[np.float32]:
        """The results of the rows of some strips, or of all; the others stay. Answers ``output``.

        ``prepared``: it goes on after another call for the same inputs, and makes nothing of them again.
        """
        last = self._strips.count if last_strip is None else last_strip
        self._product.prepared = prepared
        self._multiply(ctypes.byref(self._product), first_strip, last, self._workspace.ctypes.data)
        return self.output


def multiply(strips: Strips, values: NDArray[np.float32], isa: str | None = None) -> NDArray[np.float32]:
    """The matrix times float32 [columns, depth], quantized as products do it -> float32 [columns, rows]."""
    return Product(strips, quantize_input(values, strips.layout.weights, isa), isa).compute()
