"""What a worker will do with the hook, said without loading it: for plans of memory."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version

from runtime.errors import KernelError
from runtime.ggml.attach import LLAMA_CPP_PYTHON, find, refusal
from runtime.gguf.ggml_types import GGML_TYPES
from runtime.kernels.products import has_product


@functools.cache
def packed_types() -> frozenset[str]:
    """Names of the ggml types whose matrices a worker packs for localq's kernels; none where it does not
    attach.

    A worker tests the kernels before it uses them: where that fails, which no known machine does, it loads
    less than was planned.
    """
    try:
        if refusal() or find() is None or version("llama-cpp-python") != LLAMA_CPP_PYTHON:
            return frozenset()
    except (KernelError, PackageNotFoundError):
        return frozenset()
    return frozenset(found.name for number, found in GGML_TYPES.items() if has_product(number))
