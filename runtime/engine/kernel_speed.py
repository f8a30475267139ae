"""How fast matrices are multiplied here, by localq's kernels and by ggml's own: a job of its own process.

Weights are cold: one matrix of more than four times the last-level cache, so that every product reads all
of it from memory. Both sides multiply inside ggml's graph and threads, in turn, quantizing of the input
included; the read bandwidth is measured between the rounds.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime import ggml
from runtime.engine.child import Report, serve_job
from runtime.errors import KernelError
from runtime.ggml.graph import F32, Ggml
from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME, GgmlType
from runtime.kernels import read_bandwidth

MODULE = "runtime.engine.kernel_speed"
LEAST_BYTES = 128 << 20
CACHES = 4
"""A matrix has more than so many times the bytes of the last-level cache."""
DRAWN_BYTES = 1 << 20
SAMPLE_ROWS = 64
"""Rows come in as many: what ggml repacks together divides it."""
BANDWIDTH_SECONDS = 0.1


class SpeedRequest(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Which types (none: all that the kernels have), with how many threads and columns, and how often."""

    types: tuple[str, ...] = ()
    threads: int
    columns: int = 1
    rounds: int = 7
    depth: int = 4096


class SpeedProgress(msgspec.Struct, frozen=True, tag=True):
    """``done`` of ``types`` types are measured."""

    done: int
    types: int


class TypeSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds, of ``ratio`` too. Rates are bytes of weights a second."""

    type: str
    bits: float
    """A weight takes so many, scales included."""
    rate: float
    ggml_rate: float
    ratio: float
    read_rate: float
    """Bytes a second that as many threads can read."""


class KernelSpeeds(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Of every type that was asked for; ``isa`` is the kernels' instruction set."""

    isa: str
    threads: int
    columns: int
    types: tuple[TypeSpeed, ...]


def measure(request: SpeedRequest, report: Report) -> KernelSpeeds:
    """Raises KernelError where the kernels cannot be attached to llama.cpp, or do not have a type."""
    attached = ggml.attach(request.threads)
    if not attached.isa:
        raise KernelError(f"localq's kernels do not multiply inside llama.cpp: {attached.reason}")
    known = sorted(ggml.packed_types(), key=lambda name: (GGML_TYPES_BY_NAME[name].bits_per_weight, name))
    if missing := set(request.types) - set(known):
        raise KernelError(
            f"no kernels for {', '.join(sorted(missing))}; there are some for {', '.join(known)}"
        )
    library, names, speeds = Ggml(), request.types or known, []
    for done, name in enumerate(names):
        report(SpeedProgress(done, len(names)))
        speeds.append(measure_type(library, name, request))
    return KernelSpeeds(
        isa=attached.isa, threads=request.threads, columns=request.columns, types=tuple(speeds)
    )


def measure_type(library: Ggml, name: str, request: SpeedRequest) -> TypeSpeed:
    """One type, both sides in turn, who begins changing."""
    kind = GGML_TYPES_BY_NAME[name]
    row_bytes = kind.row_bytes(request.depth)
    together = SAMPLE_ROWS * row_bytes
    rows = SAMPLE_ROWS * -(-max(LEAST_BYTES, CACHES * last_level_cache() + 1) // together)
    nbytes = rows * row_bytes
    # bytes below 64: all halves are finite, whatever a type's layout
    drawn = np.random.default_rng(0).integers(0, 64, (DRAWN_BYTES // row_bytes, row_bytes), dtype=np.uint8)
    data = np.resize(drawn, (rows, row_bytes))
    with ExitStack() as stack:
        backend = stack.enter_context(library.threads(request.threads))
        graphs = [
            product(library, stack, kind, data, request, buffer_type)
            for buffer_type in (library.extra_buffer_types()[0], other_buffer_type(library, kind, request))
        ]
        rates: list[tuple[float, float]] = []
        reads: list[float] = []
        for number in range(request.rounds + 1):
            pair = [0.0, 0.0]
            for side in (0, 1) if number % 2 else (1, 0):
                begin = time.perf_counter()
                library.compute(backend, graphs[side])
                pair[side] = nbytes / (time.perf_counter() - begin)
            if number:
                rates.append((pair[0], pair[1]))
                reads.append(read_bandwidth(request.threads, seconds=BANDWIDTH_SECONDS))
    return TypeSpeed(
        type=name,
        bits=kind.bits_per_weight,
        rate=statistics.median(ours for ours, _ in rates),
        ggml_rate=statistics.median(theirs for _, theirs in rates),
        ratio=statistics.median(ours / theirs for ours, theirs in rates),
        read_rate=statistics.median(reads),
    )


@dataclass(frozen=True)
class Operation:
    """A matrix of ``rows`` rows times the request's columns; the tensors have no memory yet."""

    weights_context: ctypes.c_void_p
    context: ctypes.c_void_p
    weights: ctypes.c_void_p
    columns: ctypes.c_void_p
    result: ctypes.c_void_p


def operation(library: Ggml, stack: ExitStack, kind: GgmlType, rows: int, request: SpeedRequest) -> Operation:
    """Lives as long as ``stack``."""
    weights_context, context = (stack.enter_context(library.context()) for _ in range(2))
    weights = library.tensor(weights_context, kind.id, (request.depth, rows))
    columns = library.tensor(context, F32, (request.depth, request.columns))
    result = ctypes.c_void_p(library.call("ggml_mul_mat", context, weights, columns))
    return Operation(weights_context, context, weights, columns, result)


def place(library: Ggml, stack: ExitStack, context: ctypes.c_void_p, buffer_type: int | None) -> None:
    """Memory for a context's tensors, as long as ``stack`` lives. Raises KernelError where there is none."""
    memory = library.place(context, buffer_type)
    if not memory:
        raise KernelError("there is no memory for a matrix: ask for fewer types, or close other programs")
    stack.callback(library.call, "ggml_backend_buffer_free", memory, answer=None)


def product(
    library: Ggml,
    stack: ExitStack,
    kind: GgmlType,
    data: NDArray[np.uint8],
    request: SpeedRequest,
    buffer_type: int | None,
) -> ctypes.c_void_p:
    """The graph of a matrix ``data`` [rows, bytes], in memory of ``buffer_type``, times random columns."""
    made = operation(library, stack, kind, len(data), request)
    graph = library.graph(made.context, made.result)
    place(library, stack, made.weights_context, buffer_type)
    place(library, stack, made.context, None)
    library.set(made.weights, data)
    values = np.random.default_rng(1).normal(0, 1, (request.columns, request.depth))
    library.set(made.columns, values.astype(np.float32))
    return graph


def other_buffer_type(library: Ggml, kind: GgmlType, request: SpeedRequest) -> int | None:
    """Where llama.cpp would put such a matrix without the hook: the first type that can multiply with it."""
    for buffer_type in library.extra_buffer_types()[1:]:
        with ExitStack() as stack:
            made = operation(library, stack, kind, SAMPLE_ROWS, request)
            place(library, stack, made.weights_context, buffer_type)
            takes: bool = library.call(
                "ggml_backend_dev_supports_op", library.processor(), made.result, answer=ctypes.c_bool
            )
            if takes:
                return buffer_type
    return None


def last_level_cache() -> int:
    """Bytes of the largest cache of the first processor; 0 where the system does not say."""
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
        sizes.append(int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text))
    return max(sizes)


if __name__ == "__main__":
    serve_job(int(sys.argv[1]), SpeedRequest, measure)
