"""Quality at the same types, or at the same bytes: our files against llama-quantize's, on the same originals.

    python -m benchmarks.bench_quantize ORIGINAL.gguf --tools DIR --types q4_0,q4_k [--json OUT]

Both get the statistics of the same calibration tokens (llama-quantize as an importance matrix), store every
tensor in the same type, and are judged on the built-in evaluation texts: prose and code, whose kinds
calibration saw, and a third domain that it did not. With ``--mixes Q4_K_M`` llama-quantize stores what its
mixture says, and ours is the best mixture of at most as many bytes. ``--tools`` is a folder with
llama-quantize, built from the llama.cpp that the pinned llama-cpp-python carries. Ratios below 1 are ours to
the good.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from quant.allocation.recipe import Override
from quant.calibration.collect import collect
from quant.calibration.imatrix import write_imatrix
from quant.calibration.store import Statistics
from quant.calibration.texts import builtin
from quant.certificate.document import Certificate
from quant.evaluation.evaluate import evaluate
from quant.evaluation.result import Evaluation, EvaluationText
from quant.files.source import open_source
from quant.pipeline import quantize
from quant.probing import builtin_texts
from quant.request import QuantizeRequest, Target
from quant.steps import from_statistics, real_steps

THREADS = 2
MEMORY_BYTES = 1 << 30
EMBEDDINGS = "q8_0"
"""The output matrix and the embeddings have this type in every file: the others are what is compared."""


@dataclass(frozen=True)
class Judged:
    """One file."""

    bytes: int
    seconds: float
    kl: float
    kl_stderr: float
    kl_p99: float
    top1: float
    perplexity: float
    domains: dict[str, float]
    """KL of each text."""


@dataclass(frozen=True)
class Comparison:
    """Ours and theirs in the same types."""

    original: str
    type: str
    ours: Judged
    theirs: Judged

    def row(self) -> str:
        """One line of the table."""
        domains = " ".join(
            f"{name} {self.ours.domains[name] / self.theirs.domains[name]:.2f}" for name in self.ours.domains
        )
        return (
            f"| {self.original} | {self.type} | {self.ours.bytes / 1e6:.1f} "
            f"| {self.ours.kl:.4f} ± {self.ours.kl_stderr:.4f} "
            f"| {self.theirs.kl:.4f} ± {self.theirs.kl_stderr:.4f} "
            f"| **{self.ours.kl / self.theirs.kl:.2f}** ({domains}) "
            f"| {100 * self.ours.top1:.1f} / {100 * self.theirs.top1:.1f} "
            f"| {self.ours.seconds:.0f} / {self.theirs.seconds:.0f} |"
        )


HEADER = (
    "| original | type | MB | KL, ours | KL, llama-quantize | ratio (by domain) | top-1 % | seconds |\n"
    "|---|---|---|---|---|---|---|---|"
)


def texts() -> tuple[EvaluationText, ...]:
    """The built-in evaluation texts, one for each domain."""
    domains: dict[str, list[str]] = {}
    for text in builtin("evaluation"):
        if text.text:
            domains.setdefault(text.domain, []).append(text.text)
    return tuple(EvaluationText(domain, "\n\n".join(parts)) for domain, parts in domains.items())


def judge(path: Path, original: Path, chunks: int, seconds: float) -> Judged:
    """KL to the original and the rest."""
    found: Evaluation = evaluate(path, against=original, texts=texts(), chunks=chunks, threads=THREADS)
    kl, stderr, p99, top1 = found.kl_mean, found.kl_stderr, found.kl_p99, found.top1_agreement
    if kl is None or stderr is None or p99 is None or top1 is None:
        raise SystemExit("the evaluation compared nothing")
    domains = {text.name: text.kl_mean or 0.0 for text in found.texts}
    return Judged(path.stat().st_size, seconds, kl, stderr, p99, top1, found.perplexity, domains)


def ours(request: QuantizeRequest, statistics: Statistics) -> tuple[Certificate, float]:
    """Our file, with statistics that exist."""
    calibrated = from_statistics(statistics)
    steps = replace(real_steps(), calibrate=lambda *_: calibrated)
    started = time.monotonic()
    certificate = quantize(request, steps=steps).certificate
    return certificate, time.monotonic() - started


def theirs(
    tool: Path, original: Path, imatrix: Path, folder: Path, base: str, certificate: Certificate | None
) -> tuple[Path, float]:
    """llama-quantize's file: its own mixture ``base``, or every tensor in the type that ours has."""
    chosen = {t.name: t.type for t in certificate.tensors if t.encoder != "copied"} if certificate else {}
    types = folder / "types.txt"
    types.write_text("\n".join(f"^{re.escape(name)}$={kind.lower()}" for name, kind in chosen.items()))
    pinned: list[str | Path] = ["--tensor-type-file", types, "--token-embedding-type", EMBEDDINGS]
    pinned += ["--output-tensor-type", EMBEDDINGS]
    out = folder / "theirs.gguf"
    out.unlink(missing_ok=True)
    started = time.monotonic()
    done = subprocess.run(
        [tool, "--imatrix", imatrix, *(pinned if chosen else []), original, out, base.upper(), str(THREADS)],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    with open_source(out) as written:
        stored = {tensor.name: tensor.type.name for tensor in written.tensors}
    wrong = {name: (stored[name], kind) for name, kind in chosen.items() if stored[name] != kind}
    if wrong:
        raise SystemExit(f"llama-quantize stored other types than asked for: {wrong}")
    return out, seconds


@dataclass(frozen=True)
class Bench:
    """One original, its statistics, and the means to compare on it."""

    original: Path
    statistics: Statistics
    imatrix: Path
    folder: Path
    tool: Path
    chunks: int
    feedback: bool

    def same_type(self, kind: str) -> Comparison:
        """Every tensor in the same type."""
        own_output = ["output.weight"] if has_output(self.original) else []
        pinned = tuple(Override(name, EMBEDDINGS) for name in ["token_embd.weight", *own_output])
        certificate, mine = self.ours(Target(kind), pinned)
        path, seconds = theirs(self.tool, self.original, self.imatrix, self.folder, kind, certificate)
        return Comparison(self.original.stem, kind, mine, self.judge(path, seconds))

    def same_bytes(self, mixture: str) -> Comparison:
        """Their mixture, and our best in its bytes."""
        path, seconds = theirs(self.tool, self.original, self.imatrix, self.folder, mixture, None)
        _, mine = self.ours(Target(size_bytes=path.stat().st_size), ())
        return Comparison(self.original.stem, f"bytes of {mixture}", mine, self.judge(path, seconds))

    def ours(
        self, target: Target, pinned: tuple[Override, ...], *, portable: bool = True
    ) -> tuple[Certificate, Judged]:
        out = self.folder / "ours.gguf"
        request = QuantizeRequest(
            source=(self.original,),
            target=target,
            out=out,
            tool="benchmark",
            overrides=pinned,
            portable=portable,
            calibration=builtin("calibration"),
            feedback=self.feedback,
            probing=() if target.mixture else builtin_texts(),
            jobs=THREADS,
            replace=True,
        )
        certificate, seconds = ours(request, self.statistics)
        return certificate, self.judge(out, seconds)

    def judge(self, path: Path, seconds: float) -> Judged:
        return judge(path, self.original, self.chunks, seconds)


def calibrate(original: Path, folder: Path, tokens: int) -> tuple[Statistics, Path]:
    """Statistics of the built-in texts, and the same as an importance matrix."""
    folder.mkdir(parents=True, exist_ok=True)
    statistics = collect(
        original,
        builtin("calibration"),
        tokens=tokens,
        folder=folder / "statistics",
        memory_bytes=MEMORY_BYTES,
        threads=THREADS,
    )
    imatrix = folder / "imatrix.gguf"
    write_imatrix(imatrix, {name: statistics[name] for name in statistics}, datasets=["built-in"])
    return statistics, imatrix


def has_output(path: Path) -> bool:
    """Whether the output matrix is a tensor of its own."""
    with open_source(path) as source:
        return any(tensor.name == "output.weight" for tensor in source.tensors)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("originals", nargs="+", type=Path)
    parser.add_argument("--tools", type=Path, required=True, metavar="DIR")
    parser.add_argument("--types", default="q4_0,q4_1,iq4_nl,q4_k,iq4_xs,q3_k,q2_k", metavar="NAME,...")
    parser.add_argument("--mixes", default="", metavar="NAME,...", help="of llama-quantize, such as Q4_K_M")
    parser.add_argument("--work", type=Path, default=Path(".cache/bench_quantize"), metavar="DIR")
    parser.add_argument("--chunks", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--no-feedback", action="store_true")
    parser.add_argument("--json", type=Path, metavar="OUT")
    arguments = parser.parse_args()
    print(HEADER)
    found: list[Comparison] = []
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
            feedback=not arguments.no_feedback,
        )
        for compare, names in ((bench.same_type, arguments.types), (bench.same_bytes, arguments.mixes)):
            for name in filter(None, names.split(",")):
                found.append(compare(name))
                print(found[-1].row(), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(comparison) for comparison in found], indent=1))


if __name__ == "__main__":
    main()
