"""What LT formats are worth to plans: files of the same bytes, with them and of ggml's formats alone.

    python -m benchmarks.bench_portable ORIGINAL.gguf... [--bits 2.6,3.2,4]

Each is the best mixture of at most so many bits for each weight, of the same calibration tokens and tested by
probes, judged on the held-out texts. Ratios below 1 are LT's to the good.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from benchmarks.bench_quantize import Bench, Judged, calibrate
from quant.certificate.document import Certificate
from quant.formats.lt import LT_FORMATS
from quant.request import Target

HEADER: Final = """\
| original | bits | MB | in LT, % | KL | KL, portable | ratio | top-1 % |
|---|---|---|---|---|---|---|---|"""
BITS: Final = "2.5,3,3.5,4,4.5,5,6"


def share_in_words(certificate: Certificate) -> float:
    """Of all weights, those in LT formats."""
    words = sum(each.elements for each in certificate.tensors if each.type.lower() in LT_FORMATS)
    return words / sum(each.elements for each in certificate.tensors)


def row(original: str, bits: float, certificate: Certificate, own: Judged, portable: Judged) -> str:
    """One line of the table."""
    cells = (
        original,
        f"{bits:g}",
        f"{own.bytes / 1e6:.1f} / {portable.bytes / 1e6:.1f}",
        f"{100 * share_in_words(certificate):.0f}",
        f"{own.kl:.4f} ± {own.kl_stderr:.4f}",
        f"{portable.kl:.4f} ± {portable.kl_stderr:.4f}",
        f"**{own.kl / portable.kl:.2f}**",
        f"{100 * own.top1:.1f} / {100 * portable.top1:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("originals", nargs="+", type=Path)
    parser.add_argument("--bits", default=BITS, metavar="X,...")
    parser.add_argument("--work", type=Path, default=Path(".cache/bench_quantize"), metavar="DIR")
    parser.add_argument("--chunks", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=16_384)
    arguments = parser.parse_args()
    print(HEADER)
    for original in arguments.originals:
        folder = arguments.work / original.stem
        statistics, imatrix = calibrate(original, folder, arguments.tokens)
        bench = Bench(
            original=original,
            statistics=statistics,
            imatrix=imatrix,
            folder=folder,
            tool=Path("none"),
            chunks=arguments.chunks,
            feedback=True,
        )
        for bits in map(float, arguments.bits.split(",")):
            certificate, own = bench.ours(Target(bits_per_weight=bits), (), portable=False)
            _, portable = bench.ours(Target(bits_per_weight=bits), ())
            print(row(original.stem, bits, certificate, own, portable), flush=True)


if __name__ == "__main__":
    main()
