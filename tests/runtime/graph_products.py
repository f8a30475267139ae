"""Operations of ggml with matrices in the hook's buffer, for tests: a process of its own loads ggml.

usage: graph_products.py CASES.npz RESULTS.npz THREADS
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime import ggml
from runtime.ggml.graph import F32, I32, Ggml

Operation = Literal["mul_mat", "mul_mat_id", "get_rows", "get_tensor"]


@dataclass(frozen=True)
class GraphCase:
    """``data``: ggml's blocks of ``shape`` (ggml's order); ``input`` and ``ids`` in numpy's order."""

    operation: Operation
    ggml_type: int
    shape: tuple[int, ...]
    data: NDArray[np.uint8]
    input: NDArray[np.float32] | None = None
    ids: NDArray[np.int32] | None = None
    name: str = "weights"
    own: NDArray[np.uint8] | None = None
    """Strips in an LT format that are registered for ``name``; the tensor itself is Q1_0 then. The next ones
    go with them."""
    own_format: tuple[int, int] | None = None
    """Bits of a code and of a state."""
    signs: NDArray[np.uint8] | None = None
    order: NDArray[np.uint16] | None = None
    table: NDArray[np.int8] | None = None
    scales: NDArray[np.float32] | None = None
    """Static ones of the input."""
    times: int = 1
    """How often the graph is computed; the last result counts."""
    ours: bool = True
    """False: the matrix lies as in a file, and ggml multiplies."""


def compute(library: Ggml, case: GraphCase, threads: int) -> NDArray[Any]:
    """The operation's result, flat: float32, or the bytes that ``get_tensor`` reads back."""
    with library.context() as weights_context, library.context() as context:
        weights = library.tensor(weights_context, case.ggml_type, case.shape)
        library.call("ggml_set_name", weights, case.name.encode())
        if case.own is not None:
            register(case)
        if case.scales is not None:
            ggml.scale_input(case.name, case.scales.tolist())
        memory = library.place(weights_context, library.extra_buffer_types()[0] if case.ours else None)
        assert ggml.forget_input_scales() == (case.scales is not None and case.own is None)
        library.set(weights, case.data)
        if case.operation == "get_tensor":
            result = library.get(weights, np.uint8)
        else:
            result = _compute(library, context, case, weights, threads)
        library.call("ggml_backend_buffer_free", memory, answer=None)
    return result


def register(case: GraphCase) -> None:
    depth, rows, *experts = case.shape
    assert case.own is not None
    assert case.own_format is not None
    assert case.signs is not None
    assert case.order is not None
    assert case.table is not None
    matrix = ggml.MatrixData(
        bits=case.own_format[0],
        state_bits=case.own_format[1],
        rows=rows,
        depth=depth,
        experts=experts[0] if experts else 1,
        strips=case.own.ctypes.data,
        bytes=case.own.nbytes,
        signs=case.signs.ctypes.data,
        order=case.order.ctypes.data,
        table=case.table.ctypes.data,
    )
    ggml.register(case.name, matrix)


def _compute(
    library: Ggml, context: ctypes.c_void_p, case: GraphCase, weights: ctypes.c_void_p, threads: int
) -> NDArray[np.float32]:
    inputs: list[tuple[ctypes.c_void_p, NDArray[Any]]] = []
    for values, kind in ((case.input, F32), (case.ids, I32)):
        if values is not None:
            inputs.append((library.tensor(context, kind, values.shape[::-1]), values))
    operands = [weights, *(tensor for tensor, _ in inputs)]
    result = ctypes.c_void_p(library.call(f"ggml_{case.operation}", context, *operands))
    graph = library.graph(context, result)
    memory = library.place(context, None)
    for tensor, values in inputs:
        library.set(tensor, values)
    with library.threads(threads) as backend:
        for _ in range(case.times):
            library.compute(backend, graph)
    found = library.get(result, np.float32)
    library.call("ggml_backend_buffer_free", memory, answer=None)
    return found


def save(path: Path, cases: list[GraphCase]) -> None:
    """Write cases for the process to read."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, case in enumerate(cases):
        for key, value in vars(case).items():
            if value is not None:
                arrays[f"{number}.{key}"] = np.asarray(value)
    np.savez(path, allow_pickle=False, **arrays)


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
            elif key in ("shape", "own_format"):
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
    library = Ggml()
    np.savez(results, *(compute(library, case, threads) for case in load(cases)))


if __name__ == "__main__":
    main()
