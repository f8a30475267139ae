"""Times packing and dequantizing of every format on one core: ``python -m benchmarks.bench_formats``.

NumPy, the reference, beside C++; the best of ``--rounds`` over 16 MiB of float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from benchmarks.bench_kernels import processor
from quant.formats import native
from quant.formats.dequantize import dequantize
from quant.formats.registry import FORMATS

WEIGHTS = 1 << 22


def megabytes_per_second(call: Callable[[], object], rounds: int) -> float:
    """Of float32, whether they are read or written."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 4 * WEIGHTS / min(times) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    print(f"{processor()}; one thread, best of {rounds}; MB of float32 a second")
    print(f"{'format':8}{'pack':>10}{'C++':>10}{'dequantize':>14}{'C++':>10}")
    for fmt in FORMATS:
        data = rng.integers(0, 256, (WEIGHTS // fmt.block, fmt.block_bytes), dtype=np.uint8)
        blocks = fmt.unpack(data)
        calls: tuple[Callable[[], object], ...] = (
            lambda: fmt.pack(blocks),  # noqa: B023
            lambda: native.pack(fmt, blocks),  # noqa: B023
            lambda: dequantize(fmt, data),  # noqa: B023
            lambda: native.dequantize(fmt, data),  # noqa: B023
        )
        pack, pack_native, decode, decode_native = (megabytes_per_second(call, rounds) for call in calls)
        print(f"{fmt.name:8}{pack:10.0f}{pack_native:10.0f}{decode:14.0f}{decode_native:10.0f}")


if __name__ == "__main__":
    main()
