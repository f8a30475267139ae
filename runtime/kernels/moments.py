"""Second moments of what a matrix multiplies: the Gram matrix X^T X of token rows, full or block-diagonal.

The kernel is ``gram/``. Bits depend on how tokens were split among calls, not on threads or instruction set.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.bindings import backend

WORKSPACE = 65536
"""``LOCALQ_GRAM_WORKSPACE``: floats that a call of the kernel works in."""


def aligned(count: int) -> NDArray[np.float32]:
    """``count`` floats on a 64-byte boundary, not initialised."""
    memory = np.empty(count + 16, dtype=np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + count]


def gram(
    x: NDArray[np.float32], out: NDArray[np.float32], *, threads: int = 1, isa: str | None = None
) -> None:
    """Adds X^T X to the lower triangles of ``out``.

    ``x``: [tokens, n]; ``out``: [blocks, size, size] with blocks * size = n, of which block ``b`` gets the
    moments of columns ``b * size`` and up; one block is the full matrix. Both float32 and contiguous. What is
    above the diagonals is undefined until :func:`mirror`. ``isa`` forces an instruction set, for tests.
    """
    if x.ndim != 2 or x.dtype != np.float32 or not x.flags.c_contiguous:
        raise ValueError(f"x is {x.dtype} {x.shape}; it must be contiguous float32 [tokens, columns]")
    gram_at(x.ctypes.data, x.shape[0], x.shape[1], out, threads=threads, isa=isa)


def gram_at(
    x: int,
    tokens: int,
    columns: int,
    out: NDArray[np.float32],
    *,
    threads: int = 1,
    isa: str | None = None,
) -> None:
    """As :func:`gram`, of ``tokens`` contiguous rows of ``columns`` floats from address ``x`` on."""
    _check(out)
    blocks, size, _ = out.shape
    if blocks * size != columns:
        raise ValueError(
            f"out has {blocks} blocks of {size}; together they must have the {columns} columns of x"
        )
    kernel = backend(isa).gram_f32

    def share(part: int) -> None:
        workspace = aligned(WORKSPACE)
        kernel(
            x,
            tokens,
            columns,
            blocks,
            size,
            1.0,
            out.ctypes.data,
            size,
            part,
            threads,
            workspace.ctypes.data,
        )

    in_parts(share, threads)


def in_parts(share: Callable[[int], None], parts: int) -> None:
    """Runs ``share(0)`` to ``share(parts - 1)``, each in a thread of its own; raises the first exception."""
    if parts == 1:
        share(0)
        return
    with ThreadPoolExecutor(parts) as pool:
        for done in [pool.submit(share, part) for part in range(parts)]:
            done.result()


def mirror(out: NDArray[np.float32]) -> None:
    """Copies the lower triangle of each block of ``out`` [blocks, size, size] above the diagonal."""
    _check(out)
    size = out.shape[1]
    for block in out:
        for first in range(0, size, 256):
            last = min(first + 256, size)
            block[:first, first:last] = block[first:last, :first].T
            square = block[first:last, first:last]
            square[...] = np.tril(square) + np.tril(square, -1).T


def _check(out: NDArray[np.float32]) -> None:
    if out.dtype != np.float32 or out.ndim != 3 or out.shape[1] != out.shape[2] or not out.flags.c_contiguous:
        raise ValueError(
            f"out is {out.dtype} {out.shape}; it must be contiguous float32 [blocks, size, size]"
        )
