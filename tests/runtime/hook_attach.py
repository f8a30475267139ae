"""Attaching the hook in a process of its own, with something broken on purpose.

usage: hook_attach.py nothing|wrong-kernels|other-version MODEL   (stdout: set, reason, packed bytes as JSON)
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
from typing import Any

import llama_cpp

from runtime import ggml
from runtime.engine.config import EngineConfig
from runtime.engine.llama.model import open_weights
from runtime.kernels.bindings import backend
from runtime.kernels.signatures import QuantizeInput


def _quantize_nothing(_values: int, depth: int, _block: int, data: int) -> None:
    ctypes.memset(data, 0, depth)


_QUANTIZE_NOTHING = QuantizeInput(_quantize_nothing)


def writable_table() -> Any:
    """The library's table of kernels, which may be changed from now on."""
    table = backend()
    begin = ctypes.addressof(table) // mmap.PAGESIZE * mmap.PAGESIZE
    libc = ctypes.CDLL(None)
    allowed = mmap.PROT_READ | mmap.PROT_WRITE
    assert libc.mprotect(ctypes.c_void_p(begin), ctypes.c_size_t(2 * mmap.PAGESIZE), allowed) == 0
    return table


def break_kernels() -> None:
    """Let the library's table quantize every input to zeros."""
    writable_table().quantize_input = _QUANTIZE_NOTHING


def main() -> None:
    """Attach, load a model, and say what became of it."""
    what, path = sys.argv[1], sys.argv[2]
    if what == "wrong-kernels":
        break_kernels()
    elif what == "other-version":
        llama_cpp.__version__ = "0.3.37"
    attached = ggml.attach(threads=2)
    open_weights(EngineConfig(model_paths=(path,), threads=2, mmap=False), lambda _fraction: None)
    packed = ggml.packed_bytes() if attached.isa else 0
    print(json.dumps({"isa": attached.isa, "reason": attached.reason, "packed": packed}))


if __name__ == "__main__":
    main()
