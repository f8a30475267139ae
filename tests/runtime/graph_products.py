"""Operations of ggml with matrices in the hook's buffer, for tests: a process of its own loads ggml.

usage: graph_products.py CASES.npz RESULTS.npz THREADS
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime import ggml

F16, F32, I32 = 1, 0, 26
"""ggml types."""
Operation = Literal["mul_mat", "mul_mat_id", "get_rows", "get_tensor"]


@dataclass(frozen=True)
class GraphCase:
    """``data``: ggml's blocks of ``shape`` (ggml's order); ``input`` float32; ``ids`` int32, numpy's order."""

    operation: Operation
    ggml_type: int
    shape: tuple[int, ...]
    data: NDArray[np.uint8]
    input: NDArray[np.float32] | None = None
    ids: NDArray[np.int32] | None = None
    name: str = "weights"
    own: NDArray[np.uint8] | None = None
    """Strips that are registered for ``name``; the tensor itself is F16 then."""
    times: int = 1
    """How often the graph is computed; the last result counts."""


class _Init(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("memory", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class Library:
    """The functions of ggml that the tests call, by name; all answer pointers unless said otherwise."""

    def __init__(self) -> None:
        import llama_cpp  # here, for the tests import this file

        folder = Path(llama_cpp.__file__).parent / "lib"
        self._libraries = [
            ctypes.CDLL(str(folder / f"lib{name}.so.0")) for name in ("ggml-base", "ggml", "ggml-cpu")
        ]

    def call(self, name: str, *arguments: Any, answer: Any = ctypes.c_void_p) -> Any:
        function = next(f for f in (getattr(lib, name, None) for lib in self._libraries) if f is not None)
        function.restype = answer
        return function(*arguments)

    def own_buffer_type(self) -> int:
        """The first extra buffer type of the processor."""
        device = ctypes.c_void_p(self.call("ggml_backend_dev_by_type", 0))
        registry = ctypes.c_void_p(self.call("ggml_backend_dev_backend_reg", device))
        address = self.call(
            "ggml_backend_reg_get_proc_address", registry, b"ggml_backend_dev_get_extra_bufts"
        )
        find = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)
        found = find(device)[0]
        assert found is not None
        return int(found)

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


def compute(library: Library, case: GraphCase, threads: int) -> NDArray[Any]:
    """The operation's result, flat: float32, or the bytes that ``get_tensor`` reads back."""
    with library.context() as weights_context, library.context() as context:
        kind = case.ggml_type if case.own is None else F16
        weights = library.tensor(weights_context, kind, case.shape)
        library.call("ggml_set_name", weights, case.name.encode())
        if case.own is not None:
            depth, rows, *experts = case.shape
            count = experts[0] if experts else 1
            ggml.register(
                case.name, case.ggml_type, rows, depth, count, case.own.ctypes.data, case.own.nbytes
            )
        memory = library.place(weights_context, library.own_buffer_type())
        library.set(weights, case.data)
        if case.operation == "get_tensor":
            result = library.get(weights, np.uint8)
        else:
            result = _compute(library, context, case, weights, threads)
        library.call("ggml_backend_buffer_free", memory, answer=None)
    return result


def _compute(
    library: Library, context: ctypes.c_void_p, case: GraphCase, weights: ctypes.c_void_p, threads: int
) -> NDArray[np.float32]:
    inputs: list[tuple[ctypes.c_void_p, NDArray[Any]]] = []
    for values, kind in ((case.input, F32), (case.ids, I32)):
        if values is not None:
            inputs.append((library.tensor(context, kind, values.shape[::-1]), values))
    operands = [weights, *(tensor for tensor, _ in inputs)]
    result = ctypes.c_void_p(library.call(f"ggml_{case.operation}", context, *operands))
    graph = ctypes.c_void_p(library.call("ggml_new_graph", context))
    library.call("ggml_build_forward_expand", graph, result, answer=None)
    memory = library.place(context, None)
    for tensor, values in inputs:
        library.set(tensor, values)
    processor = ctypes.c_void_p(library.call("ggml_backend_cpu_init"))
    library.call("ggml_backend_cpu_set_n_threads", processor, threads, answer=None)
    for _ in range(case.times):
        status = library.call("ggml_backend_graph_compute", processor, graph, answer=ctypes.c_int)
        assert status == 0, status
    found = library.get(result, np.float32)
    library.call("ggml_backend_free", processor, answer=None)
    library.call("ggml_backend_buffer_free", memory, answer=None)
    return found


def save(path: Path, cases: list[GraphCase]) -> None:
    """Write cases for the process to read."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, case in enumerate(cases):
        for key, value in vars(case).items():
            if value is not None:
                arrays[f"{number}.{key}"] = np.asarray(value)
    np.savez(path, **arrays)


def load(path: Path) -> list[GraphCase]:
    """What :func:`save` wrote; strips on a 64-byte boundary."""
    from runtime.kernels.products import aligned

    cases: dict[int, dict[str, Any]] = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            number, key = name.split(".")
            value = arrays[name]
            if key == "own":
                strips = aligned(value.nbytes)
                strips[:] = value
                value = strips
            elif key == "shape":
                value = tuple(int(size) for size in value)
            elif value.ndim == 0:
                value = value.item()
            cases.setdefault(int(number), {})[key] = value
    return [GraphCase(**cases[number]) for number in sorted(cases)]


def main() -> None:
    """Compute every case."""
    cases, results, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    attached = ggml.attach(threads)
    if not attached.isa:
        raise SystemExit(attached.reason)
    ggml.load_with(embeddings=True, mapped=False)
    library = Library()
    np.savez(results, *(compute(library, case, threads) for case in load(cases)))


if __name__ == "__main__":
    main()
