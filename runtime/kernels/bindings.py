"""Typed bindings of ``localq_kernels.h``.

Shapes, types and layouts are checked here, once; the C side takes pointers and sizes. Every call releases the
GIL. The library is loaded by the first call; :class:`runtime.errors.KernelError` says what to do when it is
missing, or when ``LOCALQ_FORCE_ISA`` cannot be obeyed.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from runtime.errors import KernelError
from runtime.kernels.library import load
from runtime.kernels.signatures import (
    TILES,
    CholeskyStepF32,
    FeedbackRefineF32,
    FeedbackRoundF32,
    FeedbackTargetsF32,
    FitF32,
    GramF32,
    LtMultiplyOf,
    LtTransformInput,
    MultiplyOf,
    QuantizeInput,
    QuantizeInputStatic,
    TrellisRoundF32,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Address: TypeAlias = int | ctypes._Pointer[ctypes.c_float]
    """Where floats begin: a number or a ctypes pointer."""

# int64_t dot_i8(const int8_t* a, const int8_t* b, size_t length);
_DotI8 = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
# int64_t argmax_f32(const float* values, size_t length);
_ArgmaxF32 = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_size_t)
# uint64_t read_stream(const void* data, size_t bytes);
_ReadStream = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t)


class _Backend(ctypes.Structure):
    """``localq_backend``: one row of the dispatch table."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("required_features", ctypes.c_uint64),
        ("dot_i8", _DotI8),
        ("argmax_f32", _ArgmaxF32),
        ("read_stream", _ReadStream),
        ("gram_f32", GramF32),
        ("cholesky_step_f32", CholeskyStepF32),
        ("feedback_targets_f32", FeedbackTargetsF32),
        ("feedback_round_f32", FeedbackRoundF32),
        ("feedback_refine_f32", FeedbackRefineF32),
        ("fit_f32", FitF32),
        ("trellis_round_f32", TrellisRoundF32),
        ("multiply_of", MultiplyOf),
        ("quantize_input", QuantizeInput),
        ("quantize_input_static", QuantizeInputStatic),
        ("lt_multiply_of", LtMultiplyOf),
        ("lt_transform_input", LtTransformInput),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    library = load()
    # uint64_t localq_cpu_features(void);
    library.localq_cpu_features.argtypes = ()
    library.localq_cpu_features.restype = ctypes.c_uint64
    # const char* localq_feature_name(size_t bit);
    library.localq_feature_name.argtypes = (ctypes.c_size_t,)
    library.localq_feature_name.restype = ctypes.c_char_p
    # const localq_backend* localq_backend_at(size_t index);
    library.localq_backend_at.argtypes = (ctypes.c_size_t,)
    library.localq_backend_at.restype = ctypes.POINTER(_Backend)
    # const localq_backend* localq_choose_backend(uint64_t features, const char* forced, char* error, size_t);
    library.localq_choose_backend.argtypes = (
        ctypes.c_uint64,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    )
    library.localq_choose_backend.restype = ctypes.POINTER(_Backend)
    # const char* localq_active_isa(void);
    library.localq_active_isa.argtypes = ()
    library.localq_active_isa.restype = ctypes.c_char_p
    # const char* localq_dispatch_error(void);
    library.localq_dispatch_error.argtypes = ()
    library.localq_dispatch_error.restype = ctypes.c_char_p
    # int64_t localq_dot_i8(const int8_t* a, const int8_t* b, size_t length);
    library.localq_dot_i8.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    library.localq_dot_i8.restype = ctypes.c_int64
    # int64_t localq_argmax_f32(const float* values, size_t length);
    library.localq_argmax_f32.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    library.localq_argmax_f32.restype = ctypes.c_int64
    # double localq_read_bandwidth(uint32_t threads, uint64_t bytes, double seconds);
    library.localq_read_bandwidth.argtypes = (ctypes.c_uint32, ctypes.c_uint64, ctypes.c_double)
    library.localq_read_bandwidth.restype = ctypes.c_double
    for tiles in ("localq_tiles_load_f32", "localq_tiles_store_f32", "localq_tiles_store_u8"):
        getattr(library, tiles).argtypes = TILES
        getattr(library, tiles).restype = None
    return library


@functools.cache
def _active_library() -> ctypes.CDLL:
    """The library, once it is known that a backend can run: only then may its kernels be called."""
    active_isa()
    return _library()


# --- processor and dispatch --------------------------------------------------------------------------------


@functools.cache
def _feature_bits() -> dict[str, int]:
    names = _library().localq_feature_name
    bits: dict[str, int] = {}
    while (name := names(len(bits))) is not None:
        bits[name.decode()] = 1 << len(bits)
    return bits


def known_features() -> frozenset[str]:
    """Every name that :func:`cpu_features` could hold, of any processor."""
    return frozenset(_feature_bits())


def cpu_features() -> frozenset[str]:
    """What the processor has and the operating system supports: ``avx2``, ``avx512_vnni``, ``dotprod``..."""
    found: int = _library().localq_cpu_features()
    return frozenset(name for name, bit in _feature_bits().items() if found & bit)


def _backends() -> Iterator[_Backend]:
    index = 0
    while backend := _library().localq_backend_at(index):
        yield backend.contents
        index += 1


def built_isas() -> tuple[str, ...]:
    """The instruction sets that this build has kernels for, best first; ``scalar`` is the last."""
    return tuple(backend.name.decode() for backend in _backends())


def available_isas() -> tuple[str, ...]:
    """Those of :func:`built_isas` that this processor can run, best first."""
    found: int = _library().localq_cpu_features()
    return tuple(b.name.decode() for b in _backends() if not b.required_features & ~found)


def choose_isa(features: Collection[str], forced: str | None = None) -> str:
    """The dispatch policy: what this build would use on a processor with ``features``.

    Raises :class:`KernelError` when ``forced`` cannot run: the processor or the build lacks it.
    """
    bits = sum(_feature_bits()[name] for name in set(features))
    error = ctypes.create_string_buffer(1024)
    name = forced.encode() if forced is not None else None
    backend = _library().localq_choose_backend(bits, name, error, len(error))
    if not backend:
        raise KernelError(error.value.decode())
    chosen: bytes = backend.contents.name
    return chosen.decode()


def active_isa() -> str:
    """The instruction set in use, for the life of the process: the best, or ``LOCALQ_FORCE_ISA``."""
    library = _library()
    name: bytes | None = library.localq_active_isa()
    if name is None:
        raise KernelError(library.localq_dispatch_error().decode())
    return name.decode()


@functools.cache
def backend(isa: str | None = None) -> _Backend:
    """The kernels of ``isa``, or the active ones: for the bindings beside this file.

    Raises :class:`KernelError` when this build or this processor lacks ``isa``.
    """
    name = active_isa() if isa is None else choose_isa(cpu_features(), isa)
    return next(found for found in _backends() if found.name.decode() == name)


def plain_library() -> ctypes.CDLL:
    """The library's functions that need no instruction set: for the bindings beside this file."""
    return _library()


# --- kernels -----------------------------------------------------------------------------------------------


def _checked_pair(a: NDArray[np.int8], b: NDArray[np.int8]) -> tuple[int, int, int]:
    for name, array in (("a", a), ("b", b)):
        if array.dtype.char != "b":
            raise TypeError(f"{name} has dtype {array.dtype}; it must be int8")
        if array.ndim != 1 or not array.flags.c_contiguous:
            raise ValueError(f"{name} has shape {array.shape}; it must be one contiguous row")
    if a.shape != b.shape:
        raise ValueError(f"a has {a.size} elements, b has {b.size}; they must be equally long")
    return a.ctypes.data, b.ctypes.data, a.size


def _checked_row(values: NDArray[np.float32]) -> tuple[int, int]:
    if values.dtype.char != "f" or not values.dtype.isnative:
        raise TypeError(f"values has dtype {values.dtype}; it must be float32")
    if values.ndim != 1 or not values.flags.c_contiguous:
        raise ValueError(f"values has shape {values.shape}; it must be one contiguous row")
    return values.ctypes.data, values.size


def dot_i8(a: NDArray[np.int8], b: NDArray[np.int8]) -> int:
    """Sum of ``a[i] * b[i]`` of two contiguous int8 rows of one length; exact."""
    pointer_a, pointer_b, length = _checked_pair(a, b)
    result: int = _active_library().localq_dot_i8(pointer_a, pointer_b, length)
    return result


def argmax_f32(values: NDArray[np.float32]) -> int:
    """Index of the first largest value of a contiguous row; NaN never wins; -1 without a value but NaN."""
    return argmax_f32_at(*_checked_row(values))


def argmax_f32_at(values: Address, length: int) -> int:
    """As :func:`argmax_f32`, of ``length`` floats at an address (a number, or a pointer as to logits)."""
    result: int = _active_library().localq_argmax_f32(values, length)
    return result


class Kernels:
    """The kernels of one instruction set, whichever is active: for tests and benchmarks.

    Raises :class:`KernelError` when this build or this processor lacks ``isa``.
    """

    def __init__(self, isa: str) -> None:
        choose_isa(cpu_features(), isa)
        self._backend = next(b for b in _backends() if b.name.decode() == isa)
        self.isa = isa
        self.description: str = self._backend.description.decode()

    def dot_i8(self, a: NDArray[np.int8], b: NDArray[np.int8]) -> int:
        """As :func:`dot_i8`."""
        result: int = self._backend.dot_i8(*_checked_pair(a, b))
        return result

    def argmax_f32(self, values: NDArray[np.float32]) -> int:
        """As :func:`argmax_f32`."""
        result: int = self._backend.argmax_f32(*_checked_row(values))
        return result

    def read_stream(self, data: NDArray[np.uint64]) -> int:
        """Wrapping sum of ``data`` (64-byte aligned, n * 1024 bytes): the loop of :func:`read_bandwidth`."""
        if data.ctypes.data % 64 or data.nbytes % 1024 or not data.flags.c_contiguous:
            raise ValueError(f"data at {data.ctypes.data:#x} has {data.nbytes} bytes; align to 64, fill 1024")
        result: int = self._backend.read_stream(data.ctypes.data, data.nbytes)
        return result


# --- machine and engine ------------------------------------------------------------------------------------


def read_bandwidth(threads: int, *, total_bytes: int | None = None, seconds: float = 0.5) -> float:
    """Bytes per second that ``threads`` threads together read from memory: the best of many 20 ms windows.

    ``total_bytes`` are mapped for the time of the call, an equal share for each thread; with less than the
    default (256 MiB each, at most 2 GiB in all) caches may be measured too. Takes ``seconds`` and the time to
    touch the memory. Other work on the machine lowers the result. Method: ``bandwidth.cpp``.
    """
    if total_bytes is None:
        total_bytes = min(threads * (256 << 20), 2 << 30)
    if not (1 <= threads <= 4096 and 1 << 20 <= total_bytes <= 1 << 46 and 0 < seconds <= 3600):
        raise ValueError(
            f"threads={threads}, total_bytes={total_bytes}, seconds={seconds}: must be in 1 to 4096,"
            " 1 MiB to 64 TiB, and above 0 to 3600"
        )
    rate: float = _active_library().localq_read_bandwidth(threads, total_bytes, seconds)
    if rate < 0:
        what = "map that memory" if rate == -2 else "start that many threads"
        raise KernelError(
            f"read bandwidth with {threads} threads over {total_bytes} bytes: cannot {what}; ask for less"
        )
    return rate


def abort_callback_address() -> int:
    """Address of ``bool localq_abort_requested(void* flag)``, a ``ggml_abort_callback``.

    It tells whether the ``int32_t`` at ``flag`` is not 0: llama.cpp stops inside a graph, without Python::

        flag = ctypes.c_int32(0)  # keep it alive as long as the context
        params.abort_callback = llama_cpp.ggml_abort_callback(abort_callback_address())
        params.abort_callback_data = ctypes.addressof(flag)
        ...
        flag.value = 1  # from any thread
    """
    # bool localq_abort_requested(void* flag);
    address: Any = ctypes.cast(_library().localq_abort_requested, ctypes.c_void_p).value
    return int(address)
