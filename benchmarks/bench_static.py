"""Static activation scales against dynamic ones, as the file is run: ``python -m benchmarks.bench_static``.

    python -m benchmarks.bench_static ORIGINAL.gguf --types q8_0,q4_0
    ... --only observers     (which observer gives the best scales)
    ... --only roles         (the cost of each role of matrices)
    ... --only limits        (which inputs are better left dynamic)
    ... --only rounding      (the time that rounding takes, without a model's weights)

    ... --only speed         (of the files that --keep FOLDER has: static and dynamic in turn, medians)

One file is made for each type; all others are its tensors with other scales in front of them. Divergence is
from the original on the built-in evaluation texts, through localq's kernels in llama.cpp. On an idle machine,
``python -m benchmarks.bench_hook STATIC.gguf --other DYNAMIC.gguf --against PYTHONHASHSEED=0`` is better for
speed: it repeats turns in which other processes computed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmarks.bench_hook import Side
from quant.activations import StaticInput, StaticInputs, activation_keys, static_inputs
from quant.allocation.recipe import role_of
from quant.calibration.collect import collect
from quant.calibration.domains import by_domain
from quant.calibration.statistics import InputStatistics
from quant.calibration.store import Statistics
from quant.calibration.texts import builtin
from quant.evaluation.evaluate import evaluate
from quant.evaluation.result import EvaluationText
from quant.files.layout import TensorEntry, inherited_pairs, lay_out
from quant.files.source import open_source
from quant.files.writer import PartFile
from quant.formats.registry import BY_GGML_TYPE, AnyFormat
from quant.observers import MovingAverageMinMaxObserver
from quant.pipeline import quantize
from quant.request import QuantizeRequest, Target
from quant.steps import Calibrated, real_steps
from runtime.gguf import open_gguf
from runtime.kernels import available_isas
from runtime.kernels.bindings import backend as kernels_of
from runtime.kernels.products import aligned

Variant: TypeAlias = tuple[str, StaticInputs]
ALL = float("inf")
TURNS = 3_000
ROUNDS = 40
LIMITS = (100.0, 25.0, 10.0)


@dataclass(frozen=True)
class Study:
    """An original, what calibration measured of it, and how files are judged against it."""

    original: Path
    statistics: Statistics
    texts: tuple[EvaluationText, ...]
    chunks: int
    threads: int

    def make(self, name: str, out: Path) -> Path:
        """The original in one type, with dynamic scales."""
        request = QuantizeRequest(
            source=(self.original,),
            target=Target(name),
            out=out,
            tool="bench",
            calibration=builtin("calibration"),
            jobs=self.threads,
        )
        found = Calibrated(self.statistics.get, self.statistics.digest, self.statistics.domain_tokens)
        quantize(request, steps=replace(real_steps(), calibrate=lambda *_: found))
        return out

    def judge(self, title: str, path: Path) -> None:
        found = evaluate(
            path, against=self.original, texts=self.texts, chunks=self.chunks, threads=self.threads
        )
        scaled = len(open_gguf(path).activations)
        assert found.kl_mean is not None
        assert found.top1_agreement is not None
        print(
            f"{title:44}{scaled:6}{found.kl_mean:10.4f} ± {found.kl_stderr:.4f}"
            f"{100 * found.top1_agreement:8.1f} %"
            f"{found.perplexity_ratio:9.4f} ± {found.perplexity_ratio_stderr:.4f}",
            flush=True,
        )


def formats_of(path: Path) -> dict[str, AnyFormat]:
    """Of a file's matrices that may have scales."""
    return {
        tensor.name: BY_GGML_TYPE[tensor.type.id]
        for tensor in open_gguf(path).tensors
        if tensor.type.id in BY_GGML_TYPE
    }


def with_scales(path: Path, inputs: StaticInputs, out: Path) -> Path:
    """A copy of ``path`` with these scales and no certificate."""
    with open_source((path,)) as source:
        header = source.header
        entries = [
            TensorEntry(tensor.name, tensor.type.id, tensor.shape, tensor.nbytes) for tensor in header.tensors
        ]
        keys = activation_keys(formats_of(path), inputs)
        layout = lay_out(inherited_pairs(header), keys, entries, header.alignment)
        with PartFile(out, layout) as part, path.open("rb") as file:
            for tensor, placed in zip(header.tensors, layout.tensors, strict=True):
                file.seek(header.data_offset + tensor.offset)
                part.write(placed.position, file.read(tensor.nbytes))
            part.zero_padding()
            part.check()
    return out


def for_a_tensor(found: StaticInputs) -> StaticInputs:
    """The largest of a matrix's scales for all of its columns."""
    by_block = {
        block: {
            name: replace(each, scales=np.full_like(each.scales, each.scales.max()))
            for name, each in names.items()
        }
        for block, names in found.by_block.items()
    }
    return replace(found, by_block=by_block)


def where(found: StaticInputs, wanted: Callable[[str, StaticInput], bool]) -> StaticInputs:
    """Those of some matrices."""
    by_block = {
        block: {name: each for name, each in names.items() if wanted(name, each)}
        for block, names in found.by_block.items()
    }
    return replace(found, by_block=by_block)


def observers(seen: Mapping[str, InputStatistics]) -> Iterable[Variant]:
    """In all matrices."""
    extremes = static_inputs(seen, most_coarseness=ALL)
    yield "32 columns: extremes", extremes
    for constant in (0.01, 0.1):
        moving = partial(MovingAverageMinMaxObserver, averaging_constant=constant)
        yield (
            f"32 columns: moving average, {constant}",
            static_inputs(seen, make_observer=moving, most_coarseness=ALL),
        )
    yield "a tensor: extremes", for_a_tensor(extremes)


def roles(seen: Mapping[str, InputStatistics]) -> Iterable[Variant]:
    """In the matrices of one role, and in those of all others."""
    extremes = static_inputs(seen, most_coarseness=ALL)
    for role in dict.fromkeys(map(role_of, seen)):
        yield f"only {role}", where(extremes, lambda name, _, role=role: role_of(name) == role)  # type: ignore[misc]


def limits(seen: Mapping[str, InputStatistics]) -> Iterable[Variant]:
    """In matrices whose input gets steps of at most so many times the mean square of dynamic ones."""
    for most in LIMITS:
        yield f"up to {most:g} times coarser", static_inputs(seen, most_coarseness=most)


def print_coarseness(seen: Mapping[str, InputStatistics]) -> None:
    """How much coarser static scales are, by role: the least, median and largest of the layers."""
    found = static_inputs(seen, most_coarseness=ALL).by_block[32]
    print(f"{'mean square of steps, over dynamic ones':44}{'least':>10}{'median':>10}{'largest':>10}")
    for role in dict.fromkeys(map(role_of, found)):
        each = [known.coarseness for name, known in found.items() if role_of(name) == role]
        print(f"{role:44}{min(each):10.1f}{float(np.median(each)):10.1f}{max(each):10.1f}")


def rounding() -> None:
    """Nanoseconds that a value takes to be rounded, the least of many turns: static beside dynamic."""
    print(f"{'ns a value':20}{'columns':>9}{'block':>7}{'dynamic':>9}{'static':>9}{'ratio':>7}")
    for isa in available_isas()[:-1]:
        for columns, block in ((576, 32), (1536, 32), (2048, 256), (8192, 256)):
            values = np.random.default_rng(0).standard_normal(columns).astype(np.float32)
            scales = np.full(columns // block, 0.03, np.float32)
            inverses, inputs = 1 / scales, aligned(8 * columns)
            at, to = values.ctypes.data, inputs.ctypes.data
            static = at, scales.ctypes.data, inverses.ctypes.data
            found = kernels_of(isa)
            turns = [
                call
                for count in (columns, 0)  # without values it is the call alone that takes time
                for call in (
                    partial(found.quantize_input, at, count, block, to),
                    partial(found.quantize_input_static, *static, count, block, to),
                )
            ]
            best = [
                min(taken) for taken in zip(*(map(nanoseconds, turns) for _ in range(TURNS)), strict=True)
            ]
            dynamic, fixed = ((best[number] - best[number + 2]) / columns for number in (0, 1))
            print(f"{isa:20}{columns:9}{block:7}{dynamic:9.3f}{fixed:9.3f}{fixed / dynamic:7.2f}", flush=True)


def speed(static: Path, dynamic: Path, threads: int) -> None:
    """Tokens a second in decoding and in prompts, medians of turns, and of the turns' ratios."""
    sides = tuple(Side(path, threads, {}) for path in (static, dynamic))
    for what, tokens in (("decode", 8), ("prefill", 64)):
        turns = []
        for number in range(ROUNDS + 1):
            order = (0, 1) if number % 2 else (1, 0)
            taken = {side: sides[side].timed(what, tokens) for side in order}
            if number:
                turns.append((taken[0], taken[1]))
        ours, theirs = (tokens / float(np.median(times)) for times in zip(*turns, strict=True))
        ratio = float(np.median([other / one for one, other in turns]))
        print(f"{static.stem:36}{what:>9}{ours:9.1f}{theirs:9.1f} tok/s{ratio:8.3f}", flush=True)
    for side in sides:
        side.close()


def nanoseconds(turn: Callable[[], object]) -> int:
    began = time.perf_counter_ns()
    turn()
    return time.perf_counter_ns() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("original", type=Path, nargs="?")
    parser.add_argument("--types", default="q8_0,q4_0")
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=16_384, help="of calibration")
    parser.add_argument("--threads", type=int, default=2)
    choices = ["observers", "roles", "limits", "best", "speed", "rounding"]
    parser.add_argument("--only", choices=choices, default="best")
    parser.add_argument("--keep", type=Path, help="a folder for the files")
    chosen = parser.parse_args()
    if chosen.only == "rounding":
        rounding()
        return
    if chosen.only == "speed":
        for name in chosen.types.split(","):
            plain = (chosen.keep or Path()) / f"{chosen.original.stem}-{name}.gguf"
            speed(plain.with_name(f"{plain.stem}-best-0.gguf"), plain, chosen.threads)
        return
    kinds = {"observers": observers, "roles": roles, "limits": limits, "best": best}
    with tempfile.TemporaryDirectory(prefix="localq-") as temporary:
        folder = chosen.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        statistics = collect(
            chosen.original,
            builtin("calibration"),
            tokens=chosen.tokens,
            folder=folder / f"{chosen.original.stem}-statistics",
            memory_bytes=1 << 30,
            threads=chosen.threads,
        )
        texts = tuple(EvaluationText(name, text) for name, text in by_domain(builtin("evaluation")).items())
        study = Study(chosen.original, statistics, texts, chosen.chunks, chosen.threads)
        print_coarseness(statistics)
        for name in chosen.types.split(","):
            plain = folder / f"{chosen.original.stem}-{name}.gguf"
            if not plain.exists():
                study.make(name, plain)
            print(f"\n{chosen.original.stem} {name:20}{'scales':>20}{'KL':>10}{'same top':>18}{'ratio':>9}")
            study.judge("dynamic", plain)
            for number, (title, inputs) in enumerate(kinds[chosen.only](statistics)):
                path = folder / f"{plain.stem}-{chosen.only}-{number}.gguf"
                study.judge(title, with_scales(plain, inputs, path))
                if chosen.keep is None:
                    path.unlink()


def best(seen: Mapping[str, InputStatistics]) -> Iterable[Variant]:
    """What ``quantize --activations static`` writes, and scales for all matrices."""
    yield "static, as localq writes them", static_inputs(seen)
    yield "static in all matrices", static_inputs(seen, most_coarseness=ALL)


if __name__ == "__main__":
    main()
