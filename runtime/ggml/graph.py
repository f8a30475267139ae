"""Graphs of ggml without a model: for tests of the hook, and to time its kernels beside ggml's own."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import KernelError

F32, F16, I32 = 0, 1, 26
"""ggml types."""


class _Init(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("memory", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class Ggml:
    """The functions of ggml, called by name; a process that makes one loads llama.cpp."""

    def __init__(self) -> None:
        import llama_cpp

        folder = Path(llama_cpp.__file__).parent / "lib"
        self._libraries = [
            ctypes.CDLL(str(folder / f"lib{name}.so.0")) for name in ("ggml-base", "ggml", "ggml-cpu")
        ]

    def call(self, name: str, *arguments: Any, answer: Any = ctypes.c_void_p) -> Any:
        function = next(f for f in (getattr(lib, name, None) for lib in self._libraries) if f is not None)
        function.restype = answer
        return function(*arguments)

    def processor(self) -> ctypes.c_void_p:
        """ggml's device for the processor."""
        return ctypes.c_void_p(self.call("ggml_backend_dev_by_type", 0))

    def extra_buffer_types(self) -> list[int]:
        """What weights may go to before plain memory, best first; the hook's own comes first of all."""
        device = self.processor()
        registry = ctypes.c_void_p(self.call("ggml_backend_dev_backend_reg", device))
        address = self.call(
            "ggml_backend_reg_get_proc_address", registry, b"ggml_backend_dev_get_extra_bufts"
        )
        find = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)
        found = find(device)
        types: list[int] = []
        while (kind := found[len(types)]) is not None:
            types.append(int(kind))
        return types

    @contextmanager
    def context(self, size: int = 1 << 20) -> Iterator[ctypes.c_void_p]:
        context = ctypes.c_void_p(self.call("ggml_init", _Init(size, None, True)))
        yield context
        self.call("ggml_free", context, answer=None)

    def tensor(self, context: ctypes.c_void_p, kind: int, shape: tuple[int, ...]) -> ctypes.c_void_p:
        sizes = (ctypes.c_int64 * len(shape))(*shape)
        return ctypes.c_void_p(self.call("ggml_new_tensor", context, kind, len(shape), sizes))

    def place(self, context: ctypes.c_void_p, buffer_type: int | None) -> ctypes.c_void_p:
        """Memory for all tensors of a context; None: the processor's plain memory."""
        kind = ctypes.c_void_p(buffer_type or self.call("ggml_backend_cpu_buffer_type"))
        return ctypes.c_void_p(self.call("ggml_backend_alloc_ctx_tensors_from_buft", context, kind))

    def set(self, tensor: ctypes.c_void_p, values: NDArray[Any]) -> None:
        values = np.ascontiguousarray(values)
        self.call(
            "ggml_backend_tensor_set",
            tensor,
            ctypes.c_void_p(values.ctypes.data),
            ctypes.c_size_t(0),
            ctypes.c_size_t(values.nbytes),
            answer=None,
        )

    def get(self, tensor: ctypes.c_void_p, kind: type[Any]) -> NDArray[Any]:
        size = self.call("ggml_nbytes", tensor, answer=ctypes.c_size_t)
        values = np.empty(size // np.dtype(kind).itemsize, dtype=kind)
        self.call(
            "ggml_backend_tensor_get",
            tensor,
            ctypes.c_void_p(values.ctypes.data),
            ctypes.c_size_t(0),
            ctypes.c_size_t(size),
            answer=None,
        )
        return values

    def graph(self, context: ctypes.c_void_p, result: ctypes.c_void_p) -> ctypes.c_void_p:
        """All operations that ``result`` needs."""
        graph = ctypes.c_void_p(self.call("ggml_new_graph", context))
        self.call("ggml_build_forward_expand", graph, result, answer=None)
        return graph

    @contextmanager
    def threads(self, count: int) -> Iterator[ctypes.c_void_p]:
        """The processor's back end with ``count`` threads."""
        backend = ctypes.c_void_p(self.call("ggml_backend_cpu_init"))
        self.call("ggml_backend_cpu_set_n_threads", backend, count, answer=None)
        yield backend
        self.call("ggml_backend_free", backend, answer=None)

    def compute(self, backend: ctypes.c_void_p, graph: ctypes.c_void_p) -> None:
        """Raises KernelError where ggml cannot."""
        status = self.call("ggml_backend_graph_compute", backend, graph, answer=ctypes.c_int)
        if status != 0:
            raise KernelError(f"ggml could not compute a product: status {status}")
