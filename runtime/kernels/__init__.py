"""C++ kernels behind a plain C ABI. Importing this loads neither the library nor NumPy; the first call does.

Layout: one folder an operation or a format, one file an instruction set, one
dispatch table (``dispatch.cpp``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.kernels.bindings import (
        Kernels,
        abort_callback_address,
        active_isa,
        argmax_f32,
        argmax_f32_at,
        available_isas,
        built_isas,
        choose_isa,
        cpu_features,
        dot_i8,
        known_features,
        read_bandwidth,
    )

__all__ = [
    "Kernels",
    "abort_callback_address",
    "active_isa",
    "argmax_f32",
    "argmax_f32_at",
    "available_isas",
    "built_isas",
    "choose_isa",
    "cpu_features",
    "dot_i8",
    "known_features",
    "read_bandwidth",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("runtime.kernels.bindings"), name)
    return value
