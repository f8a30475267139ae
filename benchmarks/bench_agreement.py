"""How far apart answers are with localq's kernels and without: ``python -m benchmarks.bench_agreement``.

    python -m benchmarks.bench_agreement MODEL.gguf [--exact F32.gguf] [--library DIR] [--positions 1024]

Every side reads the same windows of a text in a process of its own. localq is compared with llama.cpp that
reads as many tokens a pass. The other sides are llama.cpp against itself, one token a pass and with weights
as the file has them: what its own orders of summing differ by, which is the noise of the question.
``--library`` adds a llama.cpp that was built otherwise (a directory for PYTHONPATH). ``--exact`` names the
same weights in F32 (`llama-quantize --allow-requantize MODEL.gguf F32.gguf F32`), whose products round no
input to bytes: how far from them a side is says which of two sides that differ is the better one.

KL is the mean of KL(llama.cpp || side) over positions in nats, perplexity side / llama.cpp from the same
positions; both with the standard error of the windows' means.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WINDOW, FIRST = 160, 32
"""Tokens of a window, and how many of them are only context."""
SCORED = WINDOW - FIRST - 1
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Side:
    """How one side computes: tokens of a pass, and whether llama.cpp repacks."""

    name: str
    model: Path
    pass_tokens: int = 64
    repack: bool = True
    environment: tuple[tuple[str, str], ...] = (("LOCALQ_GGML", "off"),)
    beside: str = "many"
    """Whose logits its own are compared with: llama.cpp's of many tokens a pass, or of one."""


@dataclass(frozen=True)
class Distance:
    """Of a side's answers to llama.cpp's; each with its standard error."""

    kl: tuple[float, float]
    perplexity: tuple[float, float]
    same_top: float


def main() -> None:
    """Compare all sides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--exact", type=Path, metavar="F32.gguf")
    parser.add_argument("--text", type=Path, help="default: localq's own documentation")
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--library", type=Path, metavar="DIR")
    parser.add_argument("--side", type=Path, metavar="OUT", help=argparse.SUPPRESS)
    parser.add_argument("--pass-tokens", type=int, default=64, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        write_logits(options)
        return
    model = options.model
    sides = [
        Side("llama.cpp, one token a pass", model, pass_tokens=1),
        Side("llama.cpp, weights as in the file", model, repack=False),
        Side("localq", model, environment=()),
        Side("localq, one token a pass", model, pass_tokens=1, environment=(), beside="one"),
    ]
    if options.library:
        path = ("PYTHONPATH", str(options.library))
        sides.insert(2, Side("llama.cpp, other build", model, environment=(("LOCALQ_GGML", "off"), path)))
    print("| side | KL, nats | KL to exact, nats | perplexity | same first choice |")
    print("|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=REPOSITORY / ".cache") as folder:
        places = {name: Path(folder) / f"{name}.npy" for name in ("exact", "many", "one", "side")}
        exact = places["exact"] if options.exact else None
        if exact:
            compute(Side("exact", options.exact, repack=False), options, exact)
        for number, side in enumerate([Side("llama.cpp", model), *sides]):
            logits = places[("many", "one", "side")[min(number, 2)]]
            compute(side, options, logits)
            beside = distance(places[side.beside], logits) if number else None
            print_row(side, beside, distance(exact, logits) if exact else None)


def print_row(side: Side, beside: Distance | None, to_exact: Distance | None) -> None:
    """A line of the table."""
    columns = ["", "", "", ""]
    if beside:
        columns[0] = "{:.2e} ± {:.1e}".format(*beside.kl)
        columns[2] = "x {:.5f} ± {:.5f}".format(*beside.perplexity)
        columns[3] = f"{beside.same_top:.2%}"
    if to_exact:
        columns[1] = "{:.2e} ± {:.1e}".format(*to_exact.kl)
    print(f"| {side.name} | {' | '.join(columns)} |", flush=True)


def compute(side: Side, options: argparse.Namespace, to: Path) -> None:
    """One side's logits, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_agreement", str(side.model), "--side", str(to)]
    command += ["--positions", str(options.positions), "--threads", str(options.threads)]
    command += ["--pass-tokens", str(side.pass_tokens), *(["--text", str(options.text)] * bool(options.text))]
    environment = os.environ | dict(side.environment)
    command += ["--plain"] * (not side.repack)
    ran = subprocess.run(
        command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    if ran.returncode != 0:
        raise SystemExit(f"{side.name}: {ran.stderr[-2000:]}")


def write_logits(options: argparse.Namespace) -> None:
    """[windows, 1 + SCORED, vocabulary] logits, and beside them the tokens that followed."""
    from runtime.budget import best_mmap
    from runtime.engine.config import EngineConfig
    from runtime.engine.llama.logits import LogitModel
    from runtime.gguf import open_model
    from runtime.hardware import this_machine

    machine = this_machine()
    config = EngineConfig(
        model_paths=(str(options.model),),
        context_tokens=WINDOW,
        threads=options.threads,
        ubatch_tokens=options.pass_tokens,
        mmap=best_mmap(open_model(options.model).headers, machine.features, machine.packs),
    )
    model = LogitModel(
        config, slice_tokens=min(options.pass_tokens, WINDOW - FIRST), repack=not options.plain
    )
    files = [options.text] if options.text else sorted((REPOSITORY / "docs").glob("*.md"))
    tokens = model.tokens("\n".join(file.read_text() for file in files))
    windows = -(-options.positions // SCORED)
    if len(tokens) < windows * WINDOW:
        raise SystemExit(
            f"the text has {len(tokens)} tokens; {options.positions} positions take {windows * WINDOW}"
        )
    spread = np.linspace(0, len(tokens) - WINDOW, windows).astype(int)
    shape = (windows, WINDOW - FIRST, model.vocabulary_size)
    logits = np.lib.format.open_memmap(options.side, mode="w+", dtype=np.float32, shape=shape)
    for window, start in enumerate(spread):
        for begin, rows in model.read(tokens[start : start + WINDOW], FIRST):
            logits[window, begin - FIRST : begin - FIRST + len(rows)] = rows
    np.save(
        options.side.with_suffix(".tokens.npy"), np.stack([tokens[s + FIRST : s + WINDOW] for s in spread])
    )


def distance(reference: Path, other: Path) -> Distance:
    """Of two sides' logits at all positions whose next token is in the window."""
    logits = [np.load(path, mmap_mode="r") for path in (reference, other)]
    tokens = np.load(reference.with_suffix(".tokens.npy"))
    if not np.array_equal(tokens, np.load(other.with_suffix(".tokens.npy"))):
        raise SystemExit("the sides have read different tokens")
    kl, nll, same = [], [], []
    for window, following in enumerate(tokens[:, 1:]):
        left, right = (log_softmax(side[window, :-1]) for side in logits)
        kl.append(float((np.exp(left) * (left - right)).sum(axis=1).mean()))
        at = np.arange(SCORED), following
        nll.append(float((left[at] - right[at]).mean()))
        same.append(float((left.argmax(axis=1) == right.argmax(axis=1)).mean()))
    change, error = mean(nll)
    return Distance(mean(kl), (float(np.exp(change)), error), float(np.mean(same)))


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural logarithms of probabilities, row by row."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def mean(values: list[float]) -> tuple[float, float]:
    """And its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)


if __name__ == "__main__":
    main()
