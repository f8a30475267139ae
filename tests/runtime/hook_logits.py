"""Logits of a model, with localq's kernels or, where ``LOCALQ_GGML=off``, llama.cpp's: a process of its own.

usage: hook_logits.py MODEL TEXT.txt LOGITS.npz THREADS   (stdout: the instruction set of the kernels, or "")
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from runtime import ggml
from runtime.budget import best_mmap
from runtime.engine.config import EngineConfig
from runtime.engine.llama.logits import LogitModel
from runtime.gguf import open_model
from runtime.hardware import this_machine

TOKENS, FIRST = 288, 32


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
    tokens = model.tokens(Path(sys.argv[2]).read_text())[:TOKENS]
    logits = np.concatenate([rows.copy() for _, rows in model.read(tokens, FIRST)])
    np.savez(sys.argv[3], tokens=tokens, logits=logits)
    print(ggml.attach(threads).isa)


if __name__ == "__main__":
    main()
