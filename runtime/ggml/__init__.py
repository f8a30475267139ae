"""The hook: localq's kernels inside llama.cpp's graph and threads. Only a worker imports what loads it.

``attach()`` before the first model is loaded. Without it, or where it cannot attach, llama.cpp multiplies with
kernels of its own: every file in a ggml type runs either way.
"""

from __future__ import annotations

from runtime.ggml.attach import Attached, attach, pack_embeddings, packed_bytes, register

__all__ = ["Attached", "attach", "pack_embeddings", "packed_bytes", "register"]
