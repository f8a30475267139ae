"""The hook: localq's kernels inside llama.cpp's graph and threads. See docs/kernels.md.

A worker calls ``attach()`` before it loads its first model. Without it, or where it cannot attach, llama.cpp
multiplies with kernels of its own: every file in a ggml type runs either way. Importing this loads nothing.
"""

from __future__ import annotations

from runtime.ggml.attach import (
    Attached,
    MatrixData,
    attach,
    forget_all,
    forget_input_scales,
    load_with,
    packed_bytes,
    register,
    scale_input,
)
from runtime.ggml.expected import packed_types

__all__ = [
    "Attached",
    "MatrixData",
    "attach",
    "forget_all",
    "forget_input_scales",
    "load_with",
    "packed_bytes",
    "packed_types",
    "register",
    "scale_input",
]
