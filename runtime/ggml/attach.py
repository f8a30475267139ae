"""Typed bindings of ``localq_ggml.h``: attaching, and what the hook is told before a model is loaded."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import runtime.ggml
from runtime.errors import KernelError
from runtime.kernels import active_isa
from runtime.kernels.library import load as load_kernels

ABI_VERSION = 3
"""``LOCALQ_GGML_ABI_VERSION`` of ``localq_ggml.h``."""

FILE_NAME = "liblocalq_ggml.dylib" if sys.platform == "darwin" else "liblocalq_ggml.so"
LLAMA_CPP_PYTHON = "0.3.36"
"""The version whose private structures the hook knows."""
SWITCH = "LOCALQ_GGML"
"""In the environment: ``off`` leaves llama.cpp's own kernels in place, a path names another library."""


@dataclass(frozen=True, slots=True)
class Attached:
    """Whether localq's kernels multiply in this process: of the set ``isa``, or "" for a ``reason``."""

    isa: str
    reason: str = ""


def find() -> Path | None:
    """The hook's library; None where it was not built. Loads nothing."""
    if chosen := os.environ.get(SWITCH):
        return Path(chosen)
    places = [Path(directory) / FILE_NAME for directory in runtime.ggml.__path__]
    found = [place for place in places if place.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns) if found else None


def refusal() -> str:
    """Why the kernels are not to be used here, as far as is known without llama.cpp; "" where nothing
    speaks against.

    Raises KernelError where the kernel library cannot be loaded.
    """
    if os.environ.get(SWITCH) == "off":
        return f"{SWITCH}=off"
    if active_isa() == "scalar" and not os.environ.get("LOCALQ_FORCE_ISA"):
        return "no kernels for this processor but the reference, which is slower than llama.cpp's"
    return ""


def attach(threads: int) -> Attached:
    """Put the kernels before llama.cpp's own for all models that this process loads from now on.

    ``threads`` share the packing of weights. Loads llama.cpp. Nothing is raised: where the kernels cannot
    be used, ``reason`` says why, and llama.cpp is as it was.
    """
    try:
        if reason := refusal():
            return Attached("", reason)
        library = _library()
        problem: bytes | None = library.localq_ggml_attach(max(1, threads))
        return Attached("", problem.decode()) if problem is not None else Attached(active_isa())
    except KernelError as error:
        return Attached("", str(error))


def load_with(*, embeddings: bool, mapped: bool) -> None:
    """How models are loaded from now on: whether the matrix of embeddings is packed, as it should be where
    one copy serves as the output's too, and whether llama.cpp maps the file.
    """
    _library().localq_ggml_load_with(embeddings, mapped)


def packed_bytes() -> int:
    """Bytes of all packed matrices now."""
    found: int = _library().localq_ggml_packed_bytes()
    return found


class MatrixData(ctypes.Structure):
    """``localq_ggml_matrix``: a matrix in an LT format, or one for each expert; addresses as integers."""

    _fields_ = (
        ("bits", ctypes.c_uint32),
        ("state_bits", ctypes.c_uint32),
        ("rows", ctypes.c_uint64),
        ("depth", ctypes.c_uint64),
        ("experts", ctypes.c_uint64),
        ("strips", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("signs", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
    )


def register(name: str, matrix: MatrixData) -> None:
    """Multiply the tensor ``name`` of models that are loaded from now on with ``matrix``, whose memory
    outlives them.

    Raises KernelError where the kernels cannot: no such format, or a size that the shape does not have.
    """
    if not _library().localq_ggml_register(name.encode(), ctypes.byref(matrix)):
        raise KernelError(
            f"{name}: {matrix.bytes} bytes at {matrix.strips:#x} are no {matrix.experts} matrices of"
            f" {matrix.rows} x {matrix.depth} in LT{matrix.bits} with states of {matrix.state_bits} bits"
        )


def forget_all() -> int:
    """Models loaded from now on have no registered matrices. How many of them models have taken."""
    taken: int = _library().localq_ggml_forget_all()
    return taken


def scale_input(name: str, scales: Sequence[float]) -> None:
    """Round what the tensor ``name`` of models that are loaded from now on multiplies with ``scales``: one
    for each block of its columns (:func:`runtime.kernels.products.input_block`). They are copied.

    Raises KernelError for a scale that is not above 0 and finite.
    """
    values = (ctypes.c_float * len(scales))(*scales)
    if not _library().localq_ggml_scale_input(name.encode(), values, len(values)):
        raise KernelError(
            f"{name}: of the static scales of its input, {min(scales)} to {max(scales)}, some are not above 0"
            " or not finite"
        )


def forget_input_scales() -> int:
    """Models loaded from now on have no static scales. Of how many tensors models have taken them."""
    taken: int = _library().localq_ggml_forget_input_scales()
    return taken


@functools.cache
def _library() -> ctypes.CDLL:
    """The loaded hook; llama.cpp and the kernels come first, for it finds them by their sonames."""
    path = find()
    if path is None:
        raise KernelError(f"the hook's library {FILE_NAME} was not built; run `make rebuild` in a checkout")
    import llama_cpp

    if llama_cpp.__version__ != LLAMA_CPP_PYTHON:
        raise KernelError(
            f"llama-cpp-python {llama_cpp.__version__}; the kernels are made for {LLAMA_CPP_PYTHON}"
        )
    load_kernels()
    try:
        library = ctypes.CDLL(str(path))
        # uint32_t localq_ggml_abi_version(void);
        library.localq_ggml_abi_version.argtypes = ()
        library.localq_ggml_abi_version.restype = ctypes.c_uint32
        if library.localq_ggml_abi_version() != ABI_VERSION:
            raise KernelError(f"{path} is of another version of localq; run `make rebuild`")
        # const char* localq_ggml_attach(uint32_t threads);
        library.localq_ggml_attach.argtypes = (ctypes.c_uint32,)
        library.localq_ggml_attach.restype = ctypes.c_char_p
        # void localq_ggml_load_with(bool embeddings, bool mapped);
        library.localq_ggml_load_with.argtypes = (ctypes.c_bool, ctypes.c_bool)
        library.localq_ggml_load_with.restype = None
        # uint64_t localq_ggml_packed_bytes(void);
        library.localq_ggml_packed_bytes.argtypes = ()
        library.localq_ggml_packed_bytes.restype = ctypes.c_uint64
        # bool localq_ggml_register(const char* name, const localq_ggml_matrix* matrix);
        library.localq_ggml_register.argtypes = (ctypes.c_char_p, ctypes.POINTER(MatrixData))
        library.localq_ggml_register.restype = ctypes.c_bool
        # uint64_t localq_ggml_forget_all(void);
        library.localq_ggml_forget_all.argtypes = ()
        library.localq_ggml_forget_all.restype = ctypes.c_uint64
        # bool localq_ggml_scale_input(const char* name, const float* scales, uint64_t count);
        library.localq_ggml_scale_input.argtypes = (
            ctypes.c_char_p,
            ctypes.POINTER(ctypes.c_float),
            ctypes.c_uint64,
        )
        library.localq_ggml_scale_input.restype = ctypes.c_bool
        # uint64_t localq_ggml_forget_input_scales(void);
        library.localq_ggml_forget_input_scales.argtypes = ()
        library.localq_ggml_forget_input_scales.restype = ctypes.c_uint64
    except (OSError, AttributeError) as error:
        raise KernelError(f"{path} cannot be loaded: {error}; run `make rebuild`") from error
    return library
