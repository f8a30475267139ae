"""The number formats of safetensors and of the GGUF to write, as bits and as float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quant.encoders.nearest import nearest
from quant.formats.registry import BY_NAME

FLOATS: Final = ("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F64")
"""Types of safetensors that weights may have."""
KEPT: Final = ("F32", "F16", "BF16")
"""Those that a GGUF has too."""

_Q8_0: Final = BY_NAME["q8_0"]
_BITS: Final[Mapping[str, Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F64": np.dtype("<f8"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
}


def stored(dtype: str, data: bytes) -> NDArray[Any]:
    """The elements in ``data`` without a conversion: those that NumPy has no type for are bits."""
    return np.frombuffer(data, _BITS[dtype])


def decode(dtype: str, elements: NDArray[Any]) -> NDArray[np.float32]:
    """:func:`stored` elements as float32, exactly, or rounded from float64."""
    values: NDArray[np.float32]
    if dtype == "BF16":
        values = np.left_shift(elements, 16, dtype=np.uint32).view(np.float32)
    elif dtype == "F8_E4M3":
        values = _E4M3[elements]
    elif dtype == "F8_E5M2":
        values = np.left_shift(elements, 8, dtype=np.uint16).view(np.float16).astype(np.float32)
    else:
        values = elements.astype(np.float32)
    return values


def encode(dtype: str, values: NDArray[np.float32]) -> NDArray[Any]:
    """float32 as the nearest elements of ``dtype``, ties to even. Infinite where float16 is too narrow.

    As Q8_0 rows [rows, columns] of finite values become their blocks' bytes, uint8 [rows, row_bytes].
    """
    if dtype == "F32":
        return values
    if dtype == "Q8_0":
        return _Q8_0.pack(nearest(_Q8_0, values)).reshape(len(values), -1)
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    bits = values.view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    quiet = (bits >> 16) | np.uint32(0x40)
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)


def _e4m3() -> NDArray[np.float32]:
    """All 256 values of the format (arXiv:2209.05433): bias 7, no infinities, NaN where all bits are ones."""
    codes = np.arange(256, dtype=np.int64)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    normal = (8 + mantissa) * np.exp2(exponent.astype(np.float64) - 10)
    values = np.where(exponent == 0, mantissa * np.exp2(-9.0), normal)
    values[(codes & 127) == 127] = np.nan
    return np.where(codes & 128, -values, values).astype(np.float32)


_E4M3: Final = _e4m3()
