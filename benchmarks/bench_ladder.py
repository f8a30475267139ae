"""Quality at equal bytes: our mixtures against everything that llama-quantize makes of the same original.

    python -m benchmarks.bench_ladder ORIGINAL.gguf --tools DIR

llama-quantize climbs its ladder of K and I types with an importance matrix of the same calibration tokens;
between two rungs its divergence is interpolated linearly in bytes. Ours are the best mixtures of six sizes
from 2.2 to 6 bits a weight, or of six from its first rung to Q6_K where these are higher, and, as a second
ladder, our own uniform types. Ratios below 1 are our mixtures' to the good.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.bench_quantize import Bench, Judged, calibrate, theirs
from quant.allocation.recipe import FILE_TYPES
from quant.files.source import open_source
from quant.request import Target

RUNGS: Final = (
    *("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "Q2_K_S", "Q2_K", "IQ3_XXS", "IQ3_XS", "Q3_K_S", "IQ3_S"),
    *("IQ3_M", "Q3_K_M", "Q3_K_L", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M"),
    *("Q6_K", "Q8_0"),
)
UNIFORM: Final = ("q2_k", "q3_k", "iq4_xs", "q4_k", "q5_k", "q6_k", "q8_0")
HEADER: Final = """\
| original | MB | KL | top-1 % | ladder | ratio | uniform | ratio |
|---|---|---|---|---|---|---|---|"""
LEAST_BITS, MOST_BITS, SIZES = 2.2, 6.0, 6


@dataclass(frozen=True)
class Ladder:
    """Sizes and divergences of which none is beaten by a smaller one."""

    rungs: tuple[Judged, ...]

    @classmethod
    def of(cls, found: list[Judged]) -> Ladder:
        best: list[Judged] = []
        for judged in sorted(found, key=lambda judged: (judged.bytes, judged.kl)):
            if not best or judged.kl < best[-1].kl:
                best.append(judged)
        return cls(tuple(best))

    def at(self, nbytes: int) -> float | None:
        """The divergence between the neighbours, None outside of the ladder; a file as large as a rung may
        take a little less than it."""
        sizes = [judged.bytes for judged in self.rungs]
        if not 0.99 * sizes[0] <= nbytes <= sizes[-1]:
            return None
        return float(np.interp(nbytes, sizes, [judged.kl for judged in self.rungs]))


def budgets(original: Path, ladder: Ladder) -> list[int]:
    """Six sizes of files, in bytes."""
    with open_source(original) as source:
        elements = sum(tensor.elements for tensor in source.tensors)
    low, high = LEAST_BITS * elements / 8, MOST_BITS * elements / 8
    if ladder.rungs[0].bytes > low * 1.2:
        low, high = ladder.rungs[0].bytes, ladder.rungs[-2].bytes  # the last is Q8_0
    return [round(low + (high - low) * index / (SIZES - 1)) for index in range(SIZES)]


def ratio(mine: Judged, ladder: Ladder) -> str:
    """Our divergence over the ladder's at the same bytes."""
    other = ladder.at(mine.bytes)
    return "" if other is None else f"{other:.4f} | **{mine.kl / other:.2f}**"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("originals", nargs="+", type=Path)
    parser.add_argument("--tools", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, default=Path(".cache/bench_quantize"), metavar="DIR")
    parser.add_argument("--chunks", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=16_384)
    arguments = parser.parse_args()
    for original in arguments.originals:
        folder = arguments.work / original.stem
        statistics, imatrix = calibrate(original, folder, arguments.tokens)
        bench = Bench(
            original=original,
            statistics=statistics,
            imatrix=imatrix,
            folder=folder,
            tool=arguments.tools / "llama-quantize",
            chunks=arguments.chunks,
            feedback=True,
        )
        climb(bench)


def climb(bench: Bench) -> None:
    """Prints one original's ladders, and our mixtures between their rungs."""
    found = []
    for name in RUNGS:
        path, seconds = theirs(bench.tool, bench.original, bench.imatrix, bench.folder, name, None)
        found.append(bench.judge(path, seconds))
        print(f"llama-quantize {name}: {found[-1].bytes / 1e6:.1f} MB, {found[-1].kl:.4f}", flush=True)
    ladder = Ladder.of(found)
    uniform = []
    for name in UNIFORM:
        assert name in FILE_TYPES
        uniform.append(bench.ours(Target(name), ())[1])
        print(f"ours, {name}: {uniform[-1].bytes / 1e6:.1f} MB, {uniform[-1].kl:.4f}", flush=True)
    own = Ladder.of(uniform)
    print(HEADER)
    for nbytes in budgets(bench.original, ladder):
        mine = bench.ours(Target(size_bytes=nbytes), ())[1]
        cells = (f"{mine.kl:.4f} ± {mine.kl_stderr:.4f}", f"{100 * mine.top1:.1f}")
        others = (ratio(mine, ladder) or " | ", ratio(mine, own) or " | ")
        print(
            "|",
            " | ".join((bench.original.stem, f"{mine.bytes / 1e6:.1f}", *cells, *others)),
            "|",
            flush=True,
        )


if __name__ == "__main__":
    main()
