"""Cholesky factors H = S^T S with S lower triangular, in place, in float32: kernels ``cholesky/``, ``gram/``.

Bits depend on H only, never on threads or instruction set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.bindings import backend
from runtime.kernels.moments import WORKSPACE, aligned, in_parts

STEP = 128
"""``LOCALQ_CHOLESKY_STEP``: rows that are solved at once."""
CHOLESKY_WORKSPACE = 65536
"""``LOCALQ_CHOLESKY_WORKSPACE``"""


def cholesky(h: NDArray[np.float32], *, least: float, threads: int = 1, isa: str | None = None) -> int | None:
    """Turns the lower triangle of ``h`` [n, n] (float32, contiguous) into S with H = S^T S, last row first.

    What is above the diagonal is not read, and undefined afterwards. Returns the row whose pivot is not above
    ``least`` (``h`` is spoilt then), or None.
    """
    if h.dtype != np.float32 or h.ndim != 2 or h.shape[0] != h.shape[1] or not h.flags.c_contiguous:
        raise ValueError(f"h is {h.dtype} {h.shape}; it must be a contiguous float32 square")
    n, kernels, workspace = h.shape[0], backend(isa), aligned(CHOLESKY_WORKSPACE)
    workspaces = [aligned(WORKSPACE) for _ in range(threads)]
    for first in reversed(range(0, n, STEP)):
        last = min(first + STEP, n)
        broken: int = kernels.cholesky_step_f32(h.ctypes.data, n, first, last, least, workspace.ctypes.data)
        if broken >= 0:
            return broken
        if first == 0:
            break
        panel = h[first:last]

        def subtract(part: int, panel: NDArray[np.float32] = panel, size: int = first) -> None:
            kernels.gram_f32(
                panel.ctypes.data,
                panel.shape[0],
                n,
                1,
                size,
                -1.0,
                h.ctypes.data,
                n,
                part,
                threads,
                workspaces[part].ctypes.data,
            )

        in_parts(subtract, threads)
    return None
