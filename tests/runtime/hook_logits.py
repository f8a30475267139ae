"""Logits of a model, with localq's kernels or, where ``LOCALQ_GGML=off``, llama.cpp's: a process of its own.

usage: hook_logits.py MODEL TEXT.txt LOGITS.npz THREADS   (stdout: the instruction set of the kernels, or "")

``LOCALQ_TEST_BREAK=bits`` rounds every input to one bit less than the kernels do.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import numpy as np

from runtime import ggml
from runtime.budget import best_mmap
from runtime.engine.config import EngineConfig
from runtime.engine.llama.logits import LogitModel
from runtime.gguf import open_model
from runtime.hardware import this_machine
from runtime.kernels.bindings import backend
from runtime.kernels.signatures import QuantizeInput
from tests.runtime.hook_attach import writable_table

TOKENS, FIRST = 288, 32


def round_coarsely() -> QuantizeInput:  # type: ignore[valid-type]
    """Let the table's kernel meet values of 6 bits and a sign, in blocks of 32; the answer is to be kept."""
    quantize = QuantizeInput(ctypes.cast(backend().quantize_input, ctypes.c_void_p).value or 0)

    def coarse(values: int, depth: int, block: int, data: int) -> None:
        given = np.ctypeslib.as_array((ctypes.c_float * depth).from_address(values)).reshape(-1, 32)
        step = np.maximum(np.abs(given).max(axis=1, keepdims=True), np.float32(1e-30)) / np.float32(63)
        rounded = np.ascontiguousarray(np.rint(given / step) * step)
        quantize(rounded.ctypes.data, depth, block, data)

    kernel = QuantizeInput(coarse)
    writable_table().quantize_input = kernel
    return kernel


def main() -> None:
    """Writes ``tokens`` [n] and ``logits`` [n - FIRST, vocabulary]."""
    path, threads = sys.argv[1], int(sys.argv[4])
    machine = this_machine()
    config = EngineConfig(
        model_paths=(path,),
        context_tokens=512,
        threads=threads,
        ubatch_tokens=64,
        mmap=best_mmap(open_model(path).headers, machine.features, machine.packs),
    )
    model = LogitModel(config, slice_tokens=64)
    broken = round_coarsely() if os.environ.get("LOCALQ_TEST_BREAK") == "bits" else None
    tokens = model.tokens(Path(sys.argv[2]).read_text())[:TOKENS]
    logits = np.concatenate([rows.copy() for _, rows in model.read(tokens, FIRST)])
    np.savez(sys.argv[3], tokens=tokens, logits=logits)
    print(ggml.attach(threads).isa, "broken" if broken else "")


if __name__ == "__main__":
    main()
