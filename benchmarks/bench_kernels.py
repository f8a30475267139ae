"""Times the kernel library on this machine: ``python -m benchmarks.bench_kernels``.

Every available instruction set, interleaved, medians of ``--rounds``. Length 0 is the price of a call
from Python; data is in cache unless the row says memory. Then products with cold weights, of every type or
of ``--types``, with 1 to ``--threads`` threads and ``--columns`` columns, beside ggml's kernel for the type
(``runtime/engine/kernel_speed.py``): GB/s of weights, share of the read bandwidth, ratio.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.engine.job import run_job
from runtime.engine.kernel_speed import MODULE, KernelSpeeds, SpeedProgress, SpeedRequest
from runtime.hardware import usable_cores
from runtime.kernels import Kernels, available_isas, read_bandwidth

REPEATS = 200
BIG = 1 << 27
"""Two rows of this are read from memory, once in a timing."""


def seconds_per_call(call: Callable[[], object], repeats: int = REPEATS) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def aligned_rows(rng: np.random.Generator, length: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Two random rows on 64-byte boundaries: elsewhere every 64-byte load touches two cache lines."""
    stride = -(-length // 64) * 64
    memory = rng.integers(-128, 128, 2 * stride + 64, dtype=np.int8)
    start = -memory.ctypes.data % 64
    return memory[start : start + length], memory[start + stride : start + stride + length]


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds a call: operation -> instruction set -> time."""
    rng = np.random.default_rng(0)
    rows = {size: aligned_rows(rng, size) for size in (0, 4096, 1 << 18, BIG)}
    logits = {size: rng.standard_normal(size).astype(np.float32) for size in (0, 49152, 262144)}
    samples: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for kernels in map(Kernels, available_isas()):
            for size, (a, b) in rows.items():
                name = f"dot_i8 {size}" + (" (memory)" if size == BIG else "")
                times = samples.setdefault(name, {}).setdefault(kernels.isa, [])
                repeats = 1 if size == BIG else REPEATS
                times.append(seconds_per_call(lambda k=kernels, a=a, b=b: k.dot_i8(a, b), repeats))  # type: ignore[misc]
            for size, values in logits.items():
                times = samples.setdefault(f"argmax_f32 {size}", {}).setdefault(kernels.isa, [])
                times.append(seconds_per_call(lambda k=kernels, v=values: k.argmax_f32(v)))  # type: ignore[misc]
    return {
        name: {isa: statistics.median(times) for isa, times in by_isa.items()}
        for name, by_isa in samples.items()
    }


def print_products(types: list[str], threads: int, columns: int, rounds: int) -> None:
    """One table, in a process of its own."""
    request = SpeedRequest(types=tuple(types), threads=threads, columns=columns, rounds=rounds)
    speeds = run_job(MODULE, request, progress=SpeedProgress, result=KernelSpeeds)
    print(f"\nproducts, {speeds.isa}, {threads} thread(s), {columns} column(s)")
    print(f"{'':8}{'bits':>7}{'GB/s':>8}{'of read':>9}{'ggml':>8}{'ratio':>8}{'read':>8}")
    for found in speeds.types:
        print(
            f"{found.type:8}{found.bits:7.2f}{found.rate / 1e9:8.1f}{found.rate / found.read_rate:9.0%}"
            f"{found.ggml_rate / 1e9:8.1f}{found.ratio:8.2f}{found.read_rate / 1e9:8.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--types", nargs="*", default=[], help="ggml types; none: all")
    parser.add_argument("--threads", type=int, default=usable_cores().physical)
    parser.add_argument("--columns", type=int, nargs="*", default=[1], help="0: no products")
    given = parser.parse_args()
    rounds = given.rounds
    print(f"{processor()}; {platform.system()} {platform.machine()}; median of {rounds} interleaved rounds")
    print(f"{'us a call':28}" + "".join(f"{isa:>14}" for isa in available_isas()))
    for name, by_isa in measure(rounds).items():
        print(f"{name:28}" + "".join(f"{by_isa[isa] * 1e6:14.2f}" for isa in available_isas()))
    for threads in range(1, given.threads + 1):
        print(f"read bandwidth, {threads} thread(s): {read_bandwidth(threads, seconds=1.0) / 1e9:.1f} GB/s")
    for columns in filter(None, given.columns):
        for threads in range(1, given.threads + 1):
            print_products(given.types, threads, columns, rounds)


if __name__ == "__main__":
    main()
