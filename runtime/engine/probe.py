"""What llama.cpp says of itself: run as a child process, since the front never loads llama.cpp.

    python -m runtime.engine.probe

prints one :class:`Probe` as JSON. It ends by a signal where llama.cpp was compiled for another processor.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runtime.ggml import attach

DEVICE_TYPES = frozenset({1, 2})
"""ggml's enum: a graphics processor with memory of its own, or one that shares the host's."""


class ProbedDevice(msgspec.Struct, frozen=True):
    """A device that layers can go to, and its memory in bytes."""

    name: str
    description: str
    total: int
    free: int


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Versions and abilities of the installed llama.cpp."""

    llama_cpp_python: str
    llama: str
    ggml: str
    ggml_commit: str
    features: dict[str, bool]
    """What the processor backend was compiled for, in ggml's names: ``AVX2``, ``AVX512_VNNI``..."""
    devices: tuple[ProbedDevice, ...]
    gpu_offload: bool
    system_info: str
    kernels: str = ""
    """The instruction set of localq's kernels, which passed their test inside llama.cpp; "" without them."""
    kernels_reason: str = ""
    """Why they do not."""
    portable: bool = False
    """Whether llama.cpp has a library for each level of the architecture; the loader took the best."""


def probe() -> Probe:
    """Loads llama.cpp into this process and asks it."""
    import llama_cpp

    libraries = Path(llama_cpp.__file__).parent / "lib"
    attached = attach(threads=1)
    info = llama_cpp.llama_print_system_info().decode("utf-8", "replace")
    return Probe(
        llama_cpp_python=llama_cpp.__version__,
        llama=_text(libraries, "llama", "llama_version"),
        ggml=_text(libraries, "ggml-base", "ggml_version"),
        ggml_commit=_text(libraries, "ggml-base", "ggml_commit"),
        features=parse_features(info),
        devices=tuple(_devices(libraries)),
        gpu_offload=bool(llama_cpp.llama_supports_gpu_offload()),
        system_info=info,
        kernels=attached.isa,
        kernels_reason=attached.reason,
        portable=(libraries / "glibc-hwcaps").is_dir(),
    )


def parse_features(system_info: str) -> dict[str, bool]:
    """The ``NAME = 0|1`` pairs of the part ``CPU : ...`` of llama.cpp's system info."""
    _, _, cpu = system_info.partition("CPU : ")
    return {name: value == "1" for name, value in re.findall(r"(\w+) = ([01])\b", cpu)}


def _devices(folder: Path) -> Iterator[ProbedDevice]:
    registry, base = load_library(folder, "ggml"), load_library(folder, "ggml-base")
    # size_t ggml_backend_dev_count(void);
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    # ggml_backend_dev_t ggml_backend_dev_get(size_t index);
    registry.ggml_backend_dev_get.argtypes = (ctypes.c_size_t,)
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    # enum ggml_backend_dev_type ggml_backend_dev_type(ggml_backend_dev_t device);
    base.ggml_backend_dev_type.argtypes = (ctypes.c_void_p,)
    base.ggml_backend_dev_type.restype = ctypes.c_int
    # void ggml_backend_dev_memory(ggml_backend_dev_t device, size_t * free, size_t * total);
    pointer = ctypes.POINTER(ctypes.c_size_t)
    base.ggml_backend_dev_memory.argtypes = (ctypes.c_void_p, pointer, pointer)
    base.ggml_backend_dev_memory.restype = None
    # const char * ggml_backend_dev_name(ggml_backend_dev_t device); and _description
    for function in (base.ggml_backend_dev_name, base.ggml_backend_dev_description):
        function.argtypes = (ctypes.c_void_p,)
        function.restype = ctypes.c_char_p
    for index in range(registry.ggml_backend_dev_count()):
        device = registry.ggml_backend_dev_get(index)
        if base.ggml_backend_dev_type(device) not in DEVICE_TYPES:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        base.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        yield ProbedDevice(
            _decode(base.ggml_backend_dev_name(device)),
            _decode(base.ggml_backend_dev_description(device)),
            total.value,
            free.value,
        )


def load_library(folder: Path, library: str) -> ctypes.CDLL:
    """One of the libraries that come with llama_cpp, in its ``folder``."""
    suffix = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
    return ctypes.CDLL(str(folder / f"{'' if sys.platform == 'win32' else 'lib'}{library}{suffix}"))


def _text(folder: Path, library: str, function: str) -> str:
    """What a ``const char * function(void)`` of one of llama.cpp's libraries says; "unknown" without it."""
    try:
        call = getattr(load_library(folder, library), function)
    except (OSError, AttributeError):
        return "unknown"
    call.argtypes = ()
    call.restype = ctypes.c_char_p
    return _decode(call())


def _decode(text: bytes | None) -> str:
    return text.decode("utf-8", "replace") if text else "unknown"


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(probe()).decode() + "\n")
