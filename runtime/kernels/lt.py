"""Typed bindings of ``lt/``: matrices in LT formats (docs/formats.md), and their products with columns.

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
from runtime.kernels.products import aligned
from runtime.kernels.signatures import ColumnData, LtInputData, Multiply, ProductData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LT_ROWS = 64
"""Of a strip."""
BITS = (1, 2, 3, 4)
STATE_BITS = (4, 6, 8)


@dataclass(frozen=True, slots=True)
class LtMatrix:
    """A matrix of [rows, depth]: ``data`` has its strips of 64 rows one behind the other, 64-byte aligned.

    ``table`` int8 [2^state_bits] holds the states' values.
    """

    bits: int
    state_bits: int
    rows: int
    depth: int
    table: NDArray[np.int8]
    data: NDArray[np.uint8]

    def __post_init__(self) -> None:
        wanted = self.count * strip_bytes(self.bits, self.depth)
        if self.bits not in BITS or self.state_bits not in STATE_BITS or self.depth % 64 or not self.depth:
            raise ValueError(
                f"{self.bits} bits, states of {self.state_bits} and rows of {self.depth}: no LT format"
            )
        if self.data.dtype.char != "B" or self.data.shape != (wanted,) or not self.data.flags.c_contiguous:
            raise ValueError(f"data is {self.data.dtype} {self.data.shape}; it must be uint8 [{wanted}]")
        if self.table.dtype.char != "b" or self.table.shape != (1 << self.state_bits,):
            raise ValueError(
                f"table is {self.table.dtype} {self.table.shape}; it must be int8 [{1 << self.state_bits}]"
            )

    @property
    def count(self) -> int:
        """Strips; the last one may have fewer rows."""
        return -(-self.rows // LT_ROWS)


@dataclass(frozen=True, slots=True)
class LtInput:
    """How a column becomes an input: signs (bit 1 is minus) uint8 [depth / 8], order uint16 [depth]."""

    signs: NDArray[np.uint8]
    order: NDArray[np.uint16]

    def __post_init__(self) -> None:
        depth = self.depth
        if self.order.dtype.char != "H" or self.signs.dtype.char != "B" or self.signs.shape != (depth // 8,):
            raise ValueError(
                f"signs {self.signs.dtype} {self.signs.shape} and order {self.order.dtype} {self.order.shape}"
                " must be uint8 [depth / 8] and uint16 [depth]"
            )
        if depth % 64 or (self.order >= depth).any():
            raise ValueError(f"the order of {depth} values must name these, and {depth} be a multiple of 64")

    @property
    def depth(self) -> int:
        return len(self.order)


@functools.cache
def _library() -> ctypes.CDLL:
    library = plain_library()
    size = ctypes.c_size_t
    try:
        # size_t localq_lt_strip_bytes(uint32_t bits, size_t depth);
        library.localq_lt_strip_bytes.argtypes = (ctypes.c_uint32, size)
        library.localq_lt_strip_bytes.restype = size
        # size_t localq_lt_input_bytes(size_t depth);
        library.localq_lt_input_bytes.argtypes = (size,)
        library.localq_lt_input_bytes.restype = size
        # size_t localq_lt_workspace_bytes(size_t depth, size_t columns);
        library.localq_lt_workspace_bytes.argtypes = (size, size)
        library.localq_lt_workspace_bytes.restype = size
    except AttributeError as error:
        raise KernelError(f"{find()} is older than these bindings: {error}; run `make rebuild`") from error
    return library


def strip_bytes(bits: int, depth: int) -> int:
    """Bytes of a strip of 64 rows."""
    found: int = _library().localq_lt_strip_bytes(bits, depth)
    return found


def transform_input(
    transform: LtInput, values: NDArray[np.float32], isa: str | None = None
) -> NDArray[np.uint8]:
    """float32 [columns, depth] -> uint8 [columns, bytes of an input] (``lt/layout.h``)."""
    depth = transform.depth
    if values.dtype.char != "f" or values.ndim != 2 or values.shape[1] != depth:
        raise ValueError(f"values is {values.dtype} {values.shape}; it must be float32 [columns, {depth}]")
    columns, nbytes = len(values), _library().localq_lt_input_bytes(depth)
    inputs = aligned(columns * nbytes).reshape(columns, nbytes)
    workspace = aligned(depth * 4)
    data = LtInputData(transform.signs.ctypes.data, transform.order.ctypes.data)
    for column, row in enumerate(values):
        row = row.copy() if not row.flags.c_contiguous else row
        backend(isa).lt_transform_input(
            ctypes.byref(data), row.ctypes.data, depth, inputs[column].ctypes.data, workspace.ctypes.data
        )
    return inputs


class LtProduct:
    """A matrix times transformed columns, ready to be computed again and again into ``output`` [columns,
    rows]."""

    def __init__(self, matrix: LtMatrix, inputs: NDArray[np.uint8], isa: str | None = None) -> None:
        import numpy as np

        columns, input_bytes = inputs.shape
        expected = _library().localq_lt_input_bytes(matrix.depth)
        if input_bytes != expected:
            raise ValueError(
                f"inputs have {input_bytes} bytes; for {matrix.depth} values they have {expected}"
            )
        address: int | None = backend(isa).lt_multiply_of(matrix.bits, matrix.state_bits)
        assert address is not None  # a matrix's format is one
        self._multiply = Multiply(address)
        self._matrix, self._inputs = matrix, inputs
        self.output: NDArray[np.float32] = np.zeros((columns, matrix.rows), dtype=np.float32)
        self._columns = (ColumnData * columns)(
            *(
                ColumnData(inputs[column].ctypes.data, self.output[column].ctypes.data)
                for column in range(columns)
            )
        )
        self._product = ProductData(
            matrix.data.ctypes.data,
            matrix.rows,
            matrix.depth,
            self._columns,
            columns,
            matrix.table.ctypes.data,
        )
        self._workspace = aligned(_library().localq_lt_workspace_bytes(matrix.depth, columns))

    def compute(self, first_strip: int = 0, last_strip: int | None = None) -> NDArray[np.float32]:
        """The results of the rows of some strips, or of all; the others stay. Answers ``output``."""
        last = self._matrix.count if last_strip is None else last_strip
        self._multiply(ctypes.byref(self._product), first_strip, last, self._workspace.ctypes.data)
        return self.output


def multiply(
    matrix: LtMatrix, transform: LtInput, values: NDArray[np.float32], isa: str | None = None
) -> NDArray[np.float32]:
    """The matrix times float32 [columns, depth], transformed -> float32 [columns, rows]."""
    return LtProduct(matrix, transform_input(transform, values, isa), isa).compute()
