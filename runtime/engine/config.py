"""What an engine is started with."""

from __future__ import annotations

from typing import Literal

import msgspec

KvType = Literal["f16", "q8_0", "q4_0"]


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One loaded model: its files and the memory that it is given.

    ``context_tokens`` is the length of one conversation. The KV cache holds ``slots`` of them, each in a
    stream of its own.
    """

    model_paths: tuple[str, ...]
    """The GGUF, or the parts of a split one in their order."""
    context_tokens: int = 4096
    slots: int = 1
    """How many requests generate at the same time."""
    threads: int = 0
    """Threads of one decode step; 0 = one for each physical core that this process may use."""
    kv_type: KvType = "f16"
    ubatch_tokens: int = 512
    """Tokens in one pass through the graph: the compute buffers grow with it."""
    gpu_layers: int = 0
    """Layers on a device, where llama.cpp was built with one; -1 = all."""
    mmap: bool = True
    prefix_folder: str | None = None
    """Where the state of long system prompts is kept for the next process; None = nowhere."""
    prefix_bytes: int = 0
    """What the files there may take, all models together."""
