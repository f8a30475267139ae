"""Loading models whose file has static activation scales (``runtime.gguf.activations``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runtime import ggml
from runtime.engine.config import EngineConfig
from runtime.errors import ModelLoadFailed
from runtime.gguf import GgufHeader


@contextmanager
def static_activations(header: GgufHeader, config: EngineConfig) -> Iterator[None]:
    """The model of ``header``, loaded meanwhile, rounds inputs with the scales of its file.

    The hook has to be attached. Raises ModelLoadFailed where some matrix with scales went elsewhere: answers
    would not be those that the file's certificate speaks of.
    """
    for name, scales in header.activations.items():
        ggml.scale_input(name, scales)
    try:
        yield
    finally:
        taken = ggml.forget_input_scales()
    if taken != len(header.activations) and config.gpu_layers == 0:
        raise ModelLoadFailed(
            f"{header.path} has static activation scales for {len(header.activations)} matrices, of which"
            f" localq's kernels multiply {taken}: `localq quantize --activations dynamic` makes one without"
        )
