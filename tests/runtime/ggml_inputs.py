"""Bytes and scales that ggml itself makes of a product's input, for tests: a process of its own loads ggml.

usage: ggml_inputs.py <values >blocks   (float32; then all blocks of Q8_1, and all of Q8_K)
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np
from numpy.typing import NDArray

from runtime.ggml.graph import Ggml

Q8_1, Q8_K = 9, 15
Parts = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]

OF_32 = np.dtype([("scale", "<f2"), ("low", "<f2"), ("codes", "i1", 32)])
OF_256 = np.dtype([("scale", "<f4"), ("codes", "i1", 256), ("sums", "<i2", 16)])


class _Traits(ctypes.Structure):
    """``ggml_type_traits_cpu``."""

    _fields_ = (
        ("from_float", ctypes.c_void_p),
        ("vec_dot", ctypes.c_void_p),
        ("vec_dot_type", ctypes.c_int),
        ("nrows", ctypes.c_int64),
    )


def parse(data: bytes, shape: tuple[int, ...]) -> dict[int, Parts]:
    """By values of a block: codes [columns, blocks, block], scales [..., 1], lows [columns, blocks]."""
    count = int(np.prod(shape))
    split = count // 32 * OF_32.itemsize
    small = np.frombuffer(data[:split], OF_32).reshape(shape[0], -1)
    large = np.frombuffer(data[split:], OF_256).reshape(shape[0], -1)
    wide = {name: small[name].astype(np.float32) for name in ("scale", "low")}
    return {
        32: (small["codes"].astype(np.float32), wide["scale"][..., None], wide["low"]),
        256: (large["codes"].astype(np.float32), large["scale"][..., None], None),
    }


def main() -> None:
    """Quantize standard input."""
    library = Ggml()
    library.call("ggml_cpu_init", answer=None)
    values = np.frombuffer(sys.stdin.buffer.read(), np.float32)
    for kind, block in ((Q8_1, OF_32), (Q8_K, OF_256)):
        traits = library.call("ggml_get_type_traits_cpu", kind, answer=ctypes.POINTER(_Traits)).contents
        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(traits.from_float)
        blocks = np.zeros(len(values) // block["codes"].shape[0], block)
        call(values.ctypes.data, blocks.ctypes.data, len(values))
        sys.stdout.buffer.write(blocks.tobytes())


if __name__ == "__main__":
    main()
