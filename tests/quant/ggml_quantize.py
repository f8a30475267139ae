"""What the shipped libggml-base makes of weights: llama-quantize's own encoders, the ones to beat."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quant.formats.dequantize import dequantize
from quant.formats.format import F32, U8, Format


@functools.cache
def _library() -> ctypes.CDLL:
    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(folder.glob("libggml-base.so*"))))
    # size_t ggml_quantize_chunk(enum ggml_type type, const float* src, void* dst, int64_t start,
    #                            int64_t nrows, int64_t n_per_row, const float* imatrix);
    library.ggml_quantize_chunk.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        *(ctypes.c_int64,) * 3,
        ctypes.c_void_p,
    )
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    return library


def ggml_quantize(fmt: Format, weights: F32, importance: F32) -> U8:
    """float32 [rows, columns] and [columns] -> uint8 [rows, row_bytes]."""
    rows, columns = weights.shape
    data = np.empty((rows, fmt.row_bytes(columns)), dtype=np.uint8)
    used = _library().ggml_quantize_chunk(
        fmt.ggml_type, weights.ctypes.data, data.ctypes.data, 0, rows, columns, importance.ctypes.data
    )
    if used != data.nbytes:
        raise ValueError(f"ggml wrote {used} bytes of {fmt.name}, not {data.nbytes}")
    return data


def weighted_error(weights: F32, values: F32, importance: F32) -> float:
    """Sum of importance * (weight - value)^2, relative to that of the weights themselves."""
    factors: NDArray[np.float64] = importance.astype(np.float64)
    left = weights.astype(np.float64) - values.reshape(weights.shape)
    return float((left**2 * factors).sum() / (weights.astype(np.float64) ** 2 * factors).sum())


def ggml_error(fmt: Format, weights: F32, importance: F32) -> float:
    """:func:`weighted_error` of what ggml makes of the weights."""
    return weighted_error(weights, dequantize(fmt, ggml_quantize(fmt, weights, importance)), importance)
