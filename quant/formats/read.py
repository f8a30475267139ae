"""Any block of weights that ggml reads -> float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quant.formats.format import F32, U8
from quant.formats.native import dequantize
from quant.formats.registry import BY_GGML_TYPE

_F32, _F16, _BF16 = 0, 1, 30
_CODEBOOKS = frozenset({16, 17, 18, 19, 21, 22, 29, 39, 40})
"""IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S, IQ3_S, IQ2_S, IQ1_M, MXFP4, NVFP4: the ``gguf`` library decodes them."""


def read(ggml_type: int, data: U8, columns: int) -> F32:
    """Bytes of whole rows -> float32 [rows, columns], bit for bit what ggml makes of them; may share memory.

    ``data`` is uint8 of any shape, in memory order; ``ggml_type`` the type's number in the file. NaN and
    infinity come through as they are. Raises ValueError when the type holds no weights (integers, F64,
    activations), or when the bytes are no whole rows.
    """
    flat = np.ascontiguousarray(data).reshape(-1)
    if ggml_type == _F32:
        return _rows(flat, columns, 1, 4).view("<f4").astype(np.float32, copy=False)
    if ggml_type == _F16:
        return _rows(flat, columns, 1, 2).view("<f2").astype(np.float32)
    if ggml_type == _BF16:
        return (_rows(flat, columns, 1, 2).view("<u2").astype(np.uint32) << 16).view(np.float32)
    if fmt := BY_GGML_TYPE.get(ggml_type):
        return dequantize(fmt, _rows(flat, columns, fmt.block, fmt.block_bytes))
    if ggml_type in _CODEBOOKS:
        return _read_codebook(ggml_type, flat, columns)
    raise ValueError(f"tensors of ggml type {ggml_type} hold no weights that can be quantized; copy them")


def _rows(flat: U8, columns: int, block: int, block_bytes: int) -> U8:
    """[bytes] -> [rows, bytes of a row]."""
    row_bytes = columns // block * block_bytes
    if columns < 1 or columns % block or flat.size % row_bytes:
        raise ValueError(
            f"{flat.size} bytes are no whole rows of {columns} weights, with {block_bytes} bytes for {block}"
        )
    return flat.reshape(-1, row_bytes)


def _read_codebook(ggml_type: int, flat: U8, columns: int) -> F32:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize as dequantize_codebook

    kind = GGMLQuantizationType(ggml_type)
    rows = _rows(flat, columns, *GGML_QUANT_SIZES[kind])
    if not len(rows):
        return np.empty((0, columns), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # a damaged file's scale may be NaN or infinite
        values: NDArray[np.float32] = dequantize_codebook(rows, kind)
    return values
