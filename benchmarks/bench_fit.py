"""The scale search against libggml's own encoders: ``python -m benchmarks.bench_fit [--model PACKAGE.gguf]``.

Relative importance-weighted squared errors of the same weights in the same format, and MB of float32 a second
of one thread's processor time, both encoders in turn, medians of ``--rounds``. The real rows are those of a
package's matrix, dithered off the package's grid (benchmarks/originals.py), and as they are; importances are
log-normal, but for the Gaussian. ggml is given them as an importance matrix.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bench_kernels import processor
from benchmarks.originals import weights as original_rows
from quant.encoders.nearest import nearest
from quant.files.source import open_source
from quant.formats.dequantize import values
from quant.formats.format import F32, Format
from quant.formats.registry import BY_NAME, FORMATS
from runtime.kernels import active_isa
from tests.quant.ggml_quantize import ggml_error, ggml_quantize, weighted_error

ROWS, COLUMNS = 128, 1536


@dataclass(frozen=True)
class Matrix:
    """Weights to encode, and the importance of their columns."""

    name: str
    weights: F32
    importance: F32


def matrices(model: Path, tensor: str) -> Iterator[Matrix]:
    rng = np.random.default_rng(0)
    drawn = (rng.standard_normal((ROWS, COLUMNS)), rng.laplace(size=(ROWS, COLUMNS)))
    gauss, laplace = ((0.03 * matrix).astype(np.float32) for matrix in drawn)
    yield Matrix("gauss", gauss, np.ones(COLUMNS, np.float32))
    spread = np.exp(rng.standard_normal(COLUMNS)).astype(np.float32)
    yield Matrix("laplace", laplace, spread)
    with open_source((model,)) as source:
        found = next(t for t in source.tensors if t.name == tensor)
        for name, dither in (("dithered", np.random.default_rng(1)), ("real", None)):
            rows = np.ascontiguousarray(original_rows(source, found, 0, ROWS, dither))
            columns = np.exp(rng.standard_normal(rows.shape[1])).astype(np.float32)
            yield Matrix(name, rows, columns)


def seconds(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def rates(fmt: Format, matrix: Matrix, rounds: int, isa: str | None) -> tuple[float, float]:
    """MB of float32 a second: ours, ggml's."""
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: nearest(fmt, matrix.weights, matrix.importance, isa=isa)))
        theirs.append(seconds(lambda: ggml_quantize(fmt, matrix.weights, matrix.importance)))
    megabytes = matrix.weights.nbytes / 1e6
    return megabytes / statistics.median(ours), megabytes / statistics.median(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(".cache/demo.gguf"))
    parser.add_argument("--tensor", default="blk.12.ffn_down.weight", help="a matrix with 256 n columns")
    parser.add_argument("--formats", default=",".join(fmt.name for fmt in FORMATS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--isa", help="force an instruction set")
    options = parser.parse_args()
    made = list(matrices(options.model, options.tensor))
    print(f"{processor()}, {options.isa or active_isa()}, {options.model.name} {options.tensor}")
    print(f"{'error: ours / ggml':18}" + "".join(f"{m.name:>26}" for m in made) + f"{'MB/s':>24}")
    for fmt in (BY_NAME[name] for name in options.formats.split(",")):
        cells = ""
        for m in made:
            found = values(fmt, nearest(fmt, m.weights, m.importance, isa=options.isa))
            ours = weighted_error(m.weights, found, m.importance)
            theirs = ggml_error(fmt, m.weights, m.importance)
            part = f"{ours / theirs:.3f}" if theirs else ""  # ggml keeps what is on its own grid
            cells += f"{ours:>10.3e}/{theirs:.3e}{part:>6}"
        ours, theirs = rates(fmt, made[1], options.rounds, options.isa)
        print(f"{fmt.name:18}{cells}{ours:>11.0f}/{theirs:<6.0f}{ours / theirs:6.2f}x")


if __name__ == "__main__":
    main()
