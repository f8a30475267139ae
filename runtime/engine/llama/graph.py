"""The nodes of llama.cpp's graph, as its evaluation callback hands them out.

The layout is that of ``ggml_tensor`` in ggml 0.25; :func:`check_layout` holds it against the shipped library
before anything is read through it.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from runtime.engine.probe import load_library
from runtime.errors import EngineError

F32, I32 = 0, 26
"""ggml's numbers of types."""
MOST_OPERATIONS = 256


class Tensor(ctypes.Structure):
    """A ``ggml_tensor``. ``ne``: elements in each dimension, the row's first; ``nb``: strides in bytes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("raw_name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )

    @property
    def name(self) -> str:
        return bytes(self.raw_name).decode("utf-8", "replace")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """In NumPy's order: the row's length last."""
        first, second, third, fourth = self.ne
        return fourth, third, second, first

    @property
    def rows(self) -> int:
        return int(self.ne[1] * self.ne[2] * self.ne[3])


def at(address: int) -> Tensor:
    """The tensor at an address that llama.cpp gave."""
    return Tensor.from_address(address)


def source(tensor: Tensor, index: int) -> Tensor:
    """An operand. Raises EngineError where the node has none."""
    address = tensor.src[index]
    if not address:
        raise EngineError(f"the graph node {tensor.name} has no operand {index}")
    return at(address)


def values(tensor: Tensor) -> NDArray[Any]:
    """The values of an F32 or I32 tensor in host memory, [ne3, ne2, ne1, ne0], without a copy."""
    kind = np.float32 if tensor.type == F32 else np.int32
    extent = 4 + sum((count - 1) * stride for count, stride in zip(tensor.ne, tensor.nb, strict=True))
    memory = (ctypes.c_char * extent).from_address(tensor.data)
    return np.ndarray(tensor.shape, kind, memory, strides=tuple(reversed(tensor.nb)))


@cache
def _base() -> ctypes.CDLL:
    library = load_library(Path(llama_cpp.__file__).parent / "lib", "ggml-base")
    # const char * ggml_op_name(enum ggml_op op);
    library.ggml_op_name.argtypes = (ctypes.c_int,)
    library.ggml_op_name.restype = ctypes.c_char_p
    # bool ggml_backend_buffer_is_host(ggml_backend_buffer_t buffer);
    library.ggml_backend_buffer_is_host.argtypes = (ctypes.c_void_p,)
    library.ggml_backend_buffer_is_host.restype = ctypes.c_bool
    return library


@cache
def operation(name: str) -> int:
    """ggml's number of an operation; it moves from version to version."""
    library = _base()
    for number in range(MOST_OPERATIONS):
        found: bytes = library.ggml_op_name(number)
        if found == name.encode():
            return number
        if found == b"GLU":  # the last operation of the enumeration: what follows is outside the table
            break
    raise EngineError(f"this llama.cpp has no graph operation {name}")


def in_host_memory(tensor: Tensor) -> bool:
    """Whether the processor can read the tensor where it is."""
    base = at(tensor.view_src) if tensor.view_src else tensor
    return bool(base.data) and (not base.buffer or bool(_base().ggml_backend_buffer_is_host(base.buffer)))


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def check_layout() -> None:
    """Compares :class:`Tensor` with a tensor that the library makes. Raises EngineError."""
    library = _base()
    # struct ggml_context * ggml_init(struct ggml_init_params params);
    library.ggml_init.argtypes = (_InitParams,)
    library.ggml_init.restype = ctypes.c_void_p
    # void ggml_free(struct ggml_context * ctx);
    library.ggml_free.argtypes = (ctypes.c_void_p,)
    library.ggml_free.restype = None
    # struct ggml_tensor * ggml_new_tensor_2d(struct ggml_context *, enum ggml_type, int64_t, int64_t);
    library.ggml_new_tensor_2d.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    library.ggml_new_tensor_2d.restype = ctypes.c_void_p
    # struct ggml_tensor * ggml_set_name(struct ggml_tensor * tensor, const char * name);
    library.ggml_set_name.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    library.ggml_set_name.restype = ctypes.c_void_p
    # struct ggml_tensor * ggml_mul_mat(struct ggml_context *, struct ggml_tensor *, struct ggml_tensor *);
    library.ggml_mul_mat.argtypes = (ctypes.c_void_p,) * 3
    library.ggml_mul_mat.restype = ctypes.c_void_p
    context = library.ggml_init(_InitParams(1 << 20, None, False))
    try:
        left, right = (library.ggml_new_tensor_2d(context, F32, 8, rows) for rows in (3, 5))
        library.ggml_set_name(left, b"a name of a tensor")
        product = at(library.ggml_mul_mat(context, left, right))
        seen = (
            at(left).name,
            at(right).shape,
            tuple(at(right).nb),
            product.op,
            tuple(product.src[:3]),
            product.view_src,
        )
        wanted = (
            "a name of a tensor",
            (1, 1, 5, 8),
            (4, 32, 160, 160),
            operation("MUL_MAT"),
            (left, right, None),
            None,
        )
        if seen != wanted or not left < (at(left).data or 0) < left + (1 << 20):
            raise EngineError(
                f"this llama.cpp lays its tensors out otherwise than expected ({seen} instead of {wanted}); "
                f"install the version of llama-cpp-python that localq names, not {llama_cpp.__version__}"
            )
    finally:
        library.ggml_free(context)
