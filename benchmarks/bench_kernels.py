"""Times the kernel library on this machine: ``python -m benchmarks.bench_kernels``.

Every available instruction set, interleaved, medians of ``--rounds``. Length 0 is the price of a call
from Python; data is in cache unless the row says memory. Then products with cold weights, of every type or
of ``--types``, with 1 to ``--threads`` threads and ``--columns`` columns, beside ggml's kernel for the type
(``runtime/engine/kernel_speed.py``): GB/s of weights, share of the read bandwidth, ratio. At last LT formats,
which ggml has not: the kernels alone, in the instruction sets of ``--isas`` (none: the active one).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.engine.job import run_job
from runtime.engine.kernel_speed import MODULE, KernelSpeeds, SpeedProgress, SpeedRequest
from runtime.hardware import usable_cores
from runtime.kernels import Kernels, active_isa, available_isas, read_bandwidth
from runtime.kernels.lt import (
    BITS,
    LT_ROWS,
    STATE_BITS,
    LtInput,
    LtMatrix,
    LtProduct,
    strip_bytes,
    transform_input,
)
from runtime.kernels.products import aligned

REPEATS = 200
LT_BYTES, LT_CHUNKS = 192 << 20, 16
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


def lt_matrix(bits: int, state_bits: int, depth: int = 2048) -> LtMatrix:
    """Random codes, more than the caches hold."""
    rows = LT_BYTES // strip_bytes(bits, depth) * LT_ROWS
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, 1 << 20, dtype=np.uint8)
    data = aligned(rows // LT_ROWS * strip_bytes(bits, depth))
    data[:] = np.resize(drawn, data.shape)
    data.reshape(-1, strip_bytes(bits, depth))[:, : 2 * LT_ROWS] = 0  # the bits of scales do not matter
    table = rng.integers(-64, 65, 1 << state_bits, dtype=np.int8)
    return LtMatrix(bits, state_bits, rows, depth, table, data)


def lt_seconds(products: list[LtProduct], strips: int) -> float:
    """Of one product, its strips shared out in chunks among as many threads as there are ``products``."""
    chunks = iter([(strips * i // LT_CHUNKS, strips * (i + 1) // LT_CHUNKS) for i in range(LT_CHUNKS)])
    lock = threading.Lock()

    def work(product: LtProduct) -> None:
        while True:
            with lock:
                chunk = next(chunks, None)
            if chunk is None:
                return
            product.compute(*chunk)

    begin = time.perf_counter()
    helpers = [threading.Thread(target=work, args=(product,)) for product in products[1:]]
    for helper in helpers:
        helper.start()
    work(products[0])
    for helper in helpers:
        helper.join()
    return time.perf_counter() - begin


def print_lt(isas: list[str], threads: int, columns: int, rounds: int) -> None:
    """One table: medians over the rounds, of the shares too."""
    print(f"\nLT formats, {threads} thread(s), {columns} column(s)")
    print(f"{'':8}{'states':>8}" + "".join(f"{isa:>24}" for isa in isas))
    values = np.random.default_rng(1).normal(0, 1, (columns, 2048)).astype(np.float32)
    transform = LtInput(np.zeros(256, np.uint8), np.arange(2048, dtype=np.uint16))
    for bits in BITS:
        for state_bits in STATE_BITS:
            matrix = lt_matrix(bits, state_bits)
            found: dict[str, list[tuple[float, float]]] = {isa: [] for isa in isas}
            for _ in range(rounds):
                read = read_bandwidth(threads, seconds=0.1)
                for isa in isas:
                    inputs = transform_input(transform, values, isa)
                    products = [LtProduct(matrix, inputs, isa) for _ in range(threads)]
                    rate = matrix.data.nbytes / lt_seconds(products, matrix.count)
                    found[isa].append((rate / 1e9, rate / read))
            cells = (
                f"{statistics.median(rate for rate, _ in each):14.1f} GB/s"
                f"{statistics.median(share for _, share in each):5.0%}"
                for each in found.values()
            )
            print(f"LT{bits:<6}{state_bits:8}" + "".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--types", nargs="*", default=[], help="ggml types; none: all")
    parser.add_argument("--threads", type=int, default=usable_cores().physical)
    parser.add_argument("--columns", type=int, nargs="*", default=[1], help="0: no products")
    parser.add_argument("--isas", nargs="*", default=[], help="of the LT formats")
    parser.add_argument("--only", choices=["lt"], help="nothing else")
    given = parser.parse_args()
    if given.only == "lt":
        for threads in range(1, given.threads + 1):
            print_lt(given.isas or [active_isa()], threads, given.columns[0], given.rounds)
        return
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
            print_lt(given.isas or [active_isa()], threads, columns, rounds)


if __name__ == "__main__":
    main()
