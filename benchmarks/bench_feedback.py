"""Times error feedback on this machine: ``python -m benchmarks.bench_feedback``.

The pieces on one thread (billions of multiplications and additions, each counted, in a second; the best of
``--rounds``), then one layer of a model's shapes as the encoders run it, times the model's layers. Times
are of the processor (of all threads together), so other work on the machine counts little. Weights are
random, inputs too, but correlated, as those of a model are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from quant.calibration.statistics import InputStatistics
from quant.encoders.feedback import FeedbackOptions, feedback
from quant.encoders.grids import format_data
from quant.encoders.hessian import factor, factors
from quant.encoders.nearest import nearest
from quant.formats.format import F32
from quant.formats.registry import BY_NAME
from runtime.kernels import tiles
from runtime.kernels.factors import cholesky
from runtime.kernels.moments import gram, mirror

LAYER = {"attn_q": 2048, "attn_k": 256, "attn_v": 256, "attn_output": 2048, "ffn_gate": 5632, "ffn_up": 5632}
"""Rows of the matrices with 2048 columns in a layer of a 1.1B Llama; ffn_down is 2048 rows of 5632."""
HIDDEN, FFN, LAYERS = 2048, 5632, 22


def seconds(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def statistics_of(columns: int, tokens: int) -> InputStatistics:
    rng = np.random.default_rng(columns)
    x = rng.standard_normal((tokens, columns), dtype=np.float32)
    x += 0.5 * rng.standard_normal((tokens, 1), dtype=np.float32) + 0.3 * np.roll(x, 1, axis=1)
    x *= np.exp(0.7 * rng.standard_normal(columns)).astype(np.float32)
    moments = np.zeros((1, columns, columns), dtype=np.float32)
    gram(x, moments)
    mirror(moments)
    moments /= np.float32(tokens)
    return InputStatistics(np.array([tokens]), np.diagonal(moments[0]).copy()[None], moments[None])


def pieces(columns: int, rounds: int) -> None:
    """GFLOP/s of each kernel at one size."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((512, columns), dtype=np.float32)
    out = np.zeros((1, columns, columns), dtype=np.float32)
    spent = seconds(lambda: gram(x, out), rounds)
    print(
        f"gram      {columns:5} columns {spent:7.3f} s"
        f" {512 * columns * (columns + 1) / spent / 1e9:6.0f} GFLOP/s (512 tokens)"
    )
    statistics = statistics_of(columns, columns)
    assert statistics.gram is not None
    hessian = statistics.gram[0, 0].copy()
    hessian[np.diag_indices(columns)] += np.float32(0.01) * np.diagonal(hessian).mean()
    copies = [hessian.copy() for _ in range(rounds)]
    spent = seconds(lambda: cholesky(copies.pop(), least=0.0), rounds)
    print(f"cholesky  {columns:5} columns {spent:7.3f} s {columns**3 / 3 / spent / 1e9:6.0f} GFLOP/s")
    order = np.arange(columns, dtype=np.uint32)
    factored = factor(statistics.gram[0, 0], order)
    weights = rng.standard_normal((256, columns), dtype=np.float32)
    fmt = BY_NAME["q4_k"]
    chunk = tiles.FeedbackTiles(
        weights=tiles.load(weights, order),
        scales=np.full((4, columns // fmt.group, 64), 0.3, dtype=np.float32),
        minima=np.full((4, columns // fmt.group, 64), 2.0, dtype=np.float32),
        group_of=order // np.uint32(fmt.group),
        coefficients=factored.coefficients,
    )

    def rounded() -> None:
        for first in range(0, columns, 128):
            chunk.round(format_data(fmt), first, chunk.targets(first, first + 128, (0, first)))

    spent = seconds(rounded, rounds)
    print(
        f"feedback  {columns:5} columns {spent:7.3f} s"
        f" {256 * columns**2 / spent / 1e9:6.0f} GFLOP/s (256 rows)"
    )


def layer(name: str, options: FeedbackOptions, threads: int) -> None:
    """Seconds of one layer's matrices, factors included."""
    fmt = BY_NAME[name]
    rng = np.random.default_rng(1)
    spent = {"factors": 0.0, "nearest": 0.0, "feedback": 0.0}

    def timed(kind: str, call: Callable[[], object]) -> object:
        start = time.process_time()
        result = call()
        spent[kind] += time.process_time() - start
        return result

    inputs: list[tuple[int, list[int]]] = [
        (HIDDEN, [LAYER["attn_q"], LAYER["attn_k"], LAYER["attn_v"]]),
        (HIDDEN, [LAYER["attn_output"]]),
        (HIDDEN, [LAYER["ffn_gate"], LAYER["ffn_up"]]),
        (FFN, [HIDDEN]),
    ]
    for columns, matrices in inputs:
        statistics = statistics_of(columns, 1024)
        start = time.process_time()
        prepared = list(
            factors(
                statistics, damping=options.damping, order=options.order, block=fmt.block, threads=threads
            )
        )
        spent["factors"] += time.process_time() - start
        for rows in matrices:
            weights: F32 = rng.standard_normal((rows, columns), dtype=np.float32)
            timed("nearest", lambda w=weights, s=statistics: nearest(fmt, w, s.mean_square[0]))  # type: ignore[misc]
            timed(
                "feedback",
                lambda w=weights, s=statistics, p=prepared: feedback(  # type: ignore[misc]
                    fmt, w, s, options=options, prepared=p, threads=threads
                ),
            )
    whole = {kind: took * LAYERS for kind, took in spent.items()}
    print(
        f"{name}, refit {options.refit}, {options.sweeps} sweeps, {threads} threads: a layer "
        + ", ".join(f"{kind} {took:.2f} s" for kind, took in spent.items())
        + f"; {LAYERS} layers: factors and feedback {whole['factors'] + whole['feedback']:.0f} s"
        + f" of one core (nearest alone {whole['nearest']:.0f} s)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--format", default="q4_k")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for columns in (HIDDEN, FFN):
        pieces(columns, arguments.rounds)
    for options in (
        FeedbackOptions(order="importance", refit=False, sweeps=0),
        FeedbackOptions(sweeps=0),
        FeedbackOptions(),
    ):
        layer(arguments.format, options, arguments.threads)


if __name__ == "__main__":
    main()
