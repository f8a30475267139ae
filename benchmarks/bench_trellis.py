"""Time and memory of encoding a model of 1.1 billion weights in an LT format, from one layer's matrices.

    python -m benchmarks.bench_trellis [--format lt2] [--state-bits 6] [--threads 2]

The shapes are those of TinyLlama 1.1B: 22 layers, 2048 columns, 5632 in the feed-forward part. Weights and
Hessians are random; times depend on shapes alone. What is measured is all that the encoder does with a
tensor: the input's choice, the rotated Hessian and its factors (once for matrices that share an input), and
the words. Calibration is not in it.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from quant.calibration.statistics import InputStatistics
from quant.encoders.rotation import choose_input, word_factors
from quant.encoders.trellis import encode
from quant.formats.lt import LT_FORMATS, STATE_BITS
from quant.formats.lt_tables import TABLES
from runtime.kernels import active_isa
from runtime.kernels.moments import gram, mirror

LAYERS: Final = 22


@dataclass(frozen=True)
class Group:
    """Matrices that have the same input."""

    name: str
    columns: int
    rows: tuple[int, ...]


GROUPS: Final = (
    Group("q, k, v", 2048, (2048, 256, 256)),
    Group("output", 2048, (2048,)),
    Group("gate, up", 2048, (5632, 5632)),
    Group("down", 5632, (2048,)),
)


def statistics_of(columns: int, rng: np.random.Generator) -> InputStatistics:
    """Moments of random inputs, some columns much larger than others."""
    x = rng.standard_normal((1024, columns), dtype=np.float32)
    x *= np.exp(rng.standard_normal(columns)).astype(np.float32)
    moments = np.zeros((1, columns, columns), np.float32)
    gram(x, moments, threads=2)
    mirror(moments)
    moments /= np.float32(len(x))
    return InputStatistics(np.array([len(x)]), np.diagonal(moments[0])[None].copy(), moments[None])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--format", default="lt2", choices=LT_FORMATS)
    parser.add_argument("--state-bits", type=int, default=6, choices=STATE_BITS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    fmt, threads = LT_FORMATS[arguments.format], arguments.threads
    table, rng = TABLES[fmt.bits, arguments.state_bits], np.random.default_rng(0)
    print(f"{fmt.name}, {table.state_bits} bits of state, {active_isa()}, {threads} threads")
    total = weights = 0.0
    for group in GROUPS:
        statistics = statistics_of(group.columns, rng)
        started = time.perf_counter()
        given = choose_input(statistics, seed=1)
        factors = tuple(word_factors(fmt, statistics, given, threads=threads))
        prepared = time.perf_counter() - started
        encoding = 0.0
        for rows in group.rows:
            matrix = rng.standard_normal((rows, group.columns), dtype=np.float32)
            started = time.perf_counter()
            encode(fmt, table, matrix, given, factors, threads=threads)
            encoding += time.perf_counter() - started
        count = sum(group.rows) * group.columns
        each = encoding / count * 1e9
        print(f"{group.name}: factors {prepared:.2f} s, words {encoding:.2f} s, {each:.0f} ns a weight")
        total += prepared + encoding
        weights += count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds, billions = LAYERS * total, LAYERS * weights / 1e9
    print(f"{LAYERS} layers, {billions:.2f}e9 weights: {seconds:.0f} s; peak {peak:.2f} GiB")


if __name__ == "__main__":
    main()
