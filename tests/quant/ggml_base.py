"""What the shipped libggml-base makes of bytes: the judge of every format."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ToFloat = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _TypeTraits(ctypes.Structure):
    """The beginning of ``ggml_type_traits``."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Type:
    """A type as ggml knows it."""

    name: str
    block: int
    block_bytes: int
    address: int | None

    def to_float(self, data: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [n, block_bytes] -> [n, block]."""
        blocks = np.ascontiguousarray(data)
        values = np.empty((len(blocks), self.block), np.float32)
        assert self.address is not None, f"ggml does not decode {self.name}"
        _ToFloat(self.address)(blocks.ctypes.data, values.ctypes.data, values.size)
        return values


@functools.cache
def ggml_type(number: int) -> Type:
    """By its number in a file."""
    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(folder.glob("libggml-base.so*"))))
    library.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
    traits = library.ggml_get_type_traits(number).contents
    return Type(traits.type_name.decode().lower(), traits.blck_size, traits.type_size, traits.to_float)


def same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether two arrays hold the same floats: also the signs of zeros; every NaN is like another."""
    same = (a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))
    return a.shape == b.shape and bool(same.all())
