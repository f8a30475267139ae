"""What static and dynamic scales of inputs, and of the KV cache, cost in quality and could save in time:

    python -m benchmarks.bench_activations ORIGINAL.gguf [--only inputs|cache|folded|time]

Weights stay as they are, so that the divergence is that of inputs or cache alone: KL to the original in nats
with its standard error over chunks, on the second half of held-out chunks. Ranges are observed on the
built-in texts for calibration. *Bits* count the scales that lie beside the codes. Needs torch (localq's
extra qat).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bench_kernels import processor
from quant.calibration.domains import by_domain
from quant.calibration.texts import builtin
from quant.evaluation.result import EvaluationText
from quant.files.source import open_source
from quant.formats.quantize import quantize
from quant.formats.registry import BY_NAME
from quant.observers import (
    HistogramObserver,
    MinMaxObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    PerChannel,
    QParams,
    Scheme,
)
from quant.qat.data import read_data
from quant.qat.divergence import divergence
from quant.qat.llama import Watch, as_it_is, hidden, output_name
from quant.qat.shape import Shape, shape_of
from quant.qat.student import read_weights
from runtime.kernels.products import Product, pack_strips, quantize_input

Tensor: TypeAlias = Any
Values: TypeAlias = NDArray[Any]
MakeObserver: TypeAlias = Callable[[Scheme], Observer]
BLOCK = 32
LONG, SIDE = 1 << 16, 2048
"""Values of an input, and of a matrix's row and column, that are timed."""
SHARED = {"attn_k": "attn_q", "attn_v": "attn_q", "ffn_up": "ffn_gate"}
"""Matrices with the same input as another."""
INPUTS = ("attn_q", "attn_output", "ffn_gate", "ffn_down")
CACHED = ("k", "v")
EQUAL_TO_Q4_0 = 22
"""Values of 4.5 bits, if they were packed without a gap."""


@dataclass(frozen=True)
class Sharing:
    """Which values of a watched tensor, its batch aside, share a scale."""

    rows: Callable[[Values], Values]
    """-> [scales, values]"""
    spread: Callable[[Values, tuple[int, ...]], Values]
    """(one for each row, the tensor's shape) -> what broadcasts to that."""


TENSOR = Sharing(lambda x: x.reshape(1, -1), lambda found, _: found.reshape(()))
COLUMN = Sharing(lambda x: x.T, lambda found, _: found)
GROUP = Sharing(
    lambda x: x.reshape(len(x), -1, BLOCK).transpose(1, 0, 2).reshape(x.shape[1] // BLOCK, -1),
    lambda found, _: np.repeat(found, BLOCK),
)
HEAD = Sharing(lambda x: x.reshape(len(x), -1), lambda found, _: found[:, None, None])
CHANNEL = Sharing(
    lambda x: x.transpose(0, 2, 1).reshape(x.shape[0] * x.shape[2], -1),
    lambda found, shape: found.reshape(shape[0], 1, shape[2]),
)
Choice: TypeAlias = tuple[str, MakeObserver, Sharing]
OF_INPUTS: tuple[Choice, ...] = (
    ("a tensor: extremes", MinMaxObserver, TENSOR),
    ("a tensor: 99.99 %", PercentileObserver, TENSOR),
    ("a tensor: entropy", HistogramObserver, TENSOR),
    ("a tensor: least squares", MSEObserver, TENSOR),
    ("32 columns: extremes", MinMaxObserver, GROUP),
    ("32 columns: least squares", MSEObserver, GROUP),
    ("a column: extremes", MinMaxObserver, COLUMN),
)
OF_CACHE: tuple[Choice, ...] = (
    ("a head: extremes", MinMaxObserver, HEAD),
    ("a head: least squares", MSEObserver, HEAD),
    ("a channel: extremes", MinMaxObserver, CHANNEL),
)


class Study:
    """A model, and what it predicts on held-out chunks as it is."""

    def __init__(self, path: Path, chunks: int, context: int, observed: int) -> None:
        with open_source((path,)) as source, tempfile.TemporaryDirectory() as folder:
            self.shape: Shape = shape_of(source.header)
            self.weights = read_weights(source, torch.float32)
            texts = by_domain(builtin("evaluation")).items()
            data = read_data(
                source.model,
                builtin("calibration"),
                [EvaluationText(domain, text) for domain, text in texts],
                context,
                Path(folder) / "tokens",
            )
        self.head = self.weights[output_name(self.weights)]
        self.training = spread(data.training, observed // context)
        self.held_out = spread(data.held_out, chunks)
        self.expected = [self.states(chunk, as_it_is) for chunk in self.held_out]

    def states(self, chunk: NDArray[np.int64], watch: Watch) -> Tensor:
        """[positions of the second half, width]"""
        with torch.no_grad():
            found = hidden(self.shape, self.weights, torch.from_numpy(chunk[None]), watch)
        return found[0, len(chunk) // 2 :]

    def divergence(self, watch: Watch) -> tuple[float, float]:
        """Mean, and its standard error over chunks."""
        means = []
        for chunk, expected in zip(self.held_out, self.expected, strict=True):
            nats, _ = divergence(self.states(chunk, watch), self.head, expected, self.head, gradient=False)
            means.append(float(nats.double().mean()))
        return float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(len(means)))

    def observed(
        self, chosen: Sequence[Choice], scheme: Scheme, kinds: Iterable[str]
    ) -> list[dict[str, QParams]]:
        """For each choice, by name, the parameters of every watched tensor of ``kinds``."""
        observers: list[dict[str, Observer]] = [{} for _ in chosen]
        wanted = frozenset(kinds)

        def watch(name: str, values: Tensor) -> Tensor:
            if name.rpartition(".")[2] in wanted:
                for (_, make, sharing), found in zip(chosen, observers, strict=True):
                    rows = np.ascontiguousarray(sharing.rows(values[0].numpy()))
                    found.setdefault(name, make(scheme)).observe(rows)
            return values

        for chunk in self.training:
            self.states(chunk, watch)
        return [
            {name: observer.calculate_qparams() for name, observer in found.items()} for found in observers
        ]


def spread(chunks: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` chunks, evenly from all domains."""
    chosen: NDArray[np.int64] = chunks[np.linspace(0, len(chunks) - 1, count).astype(int)]
    return chosen


def watching(kinds: Iterable[str], rounded: Callable[[str, Tensor], Tensor]) -> Watch:
    """Rounds what belongs to ``kinds``; a matrix that shares its input has the other's name."""
    wanted = frozenset(kinds)

    def watch(name: str, values: Tensor) -> Tensor:
        stem, _, kind = name.rpartition(".")
        kind = SHARED.get(kind, kind)
        return rounded(f"{stem}.{kind}", values) if kind in wanted else values

    return watch


def dynamic(bits: int, size: int | None) -> Callable[[str, Tensor], Tensor]:
    """A scale in f16 for every ``size`` neighbours, or each vector, from their largest value."""
    highest = (1 << (bits - 1)) - 1

    def rounded(_name: str, values: Tensor) -> Tensor:
        groups = values.reshape(*values.shape[:-1], -1, size or values.shape[-1])
        scale = (groups.abs().amax(-1, keepdim=True) / highest).half().float()
        codes = torch.where(scale > 0, groups / scale.clamp(min=1e-12), 0.0).round()
        return (codes.clamp(-highest, highest) * scale).reshape(values.shape)

    return rounded


def dynamic_q4_0(_name: str, values: Tensor) -> Tensor:
    """As ggml rounds to Q4_0: the value that is largest in size becomes -8 steps."""
    groups = values.reshape(*values.shape[:-1], -1, BLOCK)
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scale = (largest / -8).half().float()
    codes = torch.where(scale != 0, groups / torch.where(scale != 0, scale, 1.0), 0.0)
    return ((codes + 8.5).floor().clamp(0, 15).sub(8) * scale).reshape(values.shape)


def with_values(found: Mapping[str, QParams], count: int) -> dict[str, QParams]:
    """The same ranges in ``count`` values, of a scheme that has room for as many."""
    made = {}
    for name, qparams in found.items():
        scheme = qparams.scheme
        low = (scheme.lowest - qparams.zero_point) * qparams.scale
        scale = qparams.scale * (scheme.steps / (count - 1))
        wide = Scheme(8, symmetric=False, granularity=scheme.granularity)
        zero = np.rint(wide.lowest - low / scale).astype(np.int32)
        made[name] = QParams(wide, scale.astype(np.float32), zero)
    return made


def static(
    found: Mapping[str, QParams], sharing: Sharing, count: int | None = None
) -> Callable[[str, Tensor], Tensor]:
    """Scales that were observed; of ``count`` values, or of all that the scheme has."""

    def rounded(name: str, values: Tensor) -> Tensor:
        qparams, shape = found[name], tuple(values.shape[1:])
        scale = torch.from_numpy(np.ascontiguousarray(sharing.spread(qparams.scale, shape)))
        zero = torch.from_numpy(np.ascontiguousarray(sharing.spread(qparams.zero_point, shape)))
        lowest, highest = qparams.scheme.lowest, qparams.scheme.highest
        codes = ((values / scale).round() + zero).clamp(lowest, lowest + count - 1 if count else highest)
        return (codes - zero) * scale

    return rounded


def of_inputs(study: Study) -> None:
    """Eight bits for what every matrix of the layers multiplies."""
    print(f"{'inputs in 8 bits':40}{'KL':>10}{'±':>10}")
    show("dynamic, 32 columns (as it runs)", study.divergence(watching(INPUTS, dynamic(8, BLOCK))))
    show("dynamic, a token", study.divergence(watching(INPUTS, dynamic(8, None))))
    scheme = Scheme(8, granularity=PerChannel(0))
    for (title, _, sharing), found in zip(OF_INPUTS, study.observed(OF_INPUTS, scheme, INPUTS), strict=True):
        show(f"static, {title}", study.divergence(watching(INPUTS, static(found, sharing))))


def of_cache(study: Study) -> None:
    """Keys and values, each with its own scales; *bits* of a value with its share of the scales."""
    print(f"\n{'KV cache':40}{'KL':>10}{'±':>10}{'bits':>8}")
    show("q8_0", study.divergence(watching(CACHED, dynamic(8, BLOCK))), 8.5)
    show("q4_0", study.divergence(watching(CACHED, dynamic_q4_0)), 4.5)
    for bits in (8, 4):
        scheme = Scheme(bits, symmetric=False, granularity=PerChannel(0))
        for (title, _, sharing), found in zip(
            OF_CACHE, study.observed(OF_CACHE, scheme, CACHED), strict=True
        ):
            show(f"static, {title}", study.divergence(watching(CACHED, static(found, sharing))), bits)
            if bits == 4:  # as many bytes as q4_0 takes
                finer = static(with_values(found, EQUAL_TO_Q4_0), sharing, EQUAL_TO_Q4_0)
                show(f"the same in {EQUAL_TO_Q4_0} values", study.divergence(watching(CACHED, finer)), 4.5)


def of_folded(study: Study) -> None:
    """Channels of keys and values made alike before they are rounded, which weights can take in for nothing:
    values leave their factors to the output matrix, keys to the queries (SmoothAttention; Lin et al. 2024,
    QServe). Rotary positions turn channels in pairs, so that a pair of keys shares its factor."""
    print(f"\n{'KV cache, channels made alike':40}{'KL':>10}{'±':>10}{'bits':>8}")
    choice: Choice = ("extremes", MinMaxObserver, CHANNEL)
    (found,) = study.observed([choice], Scheme(8, granularity=PerChannel(0)), CACHED)
    for title, rounded, bits in (("q8_0", dynamic(8, BLOCK), 8.5), ("q4_0", dynamic_q4_0, 4.5)):
        for power in (0.0, 0.5, 1.0):
            watch = watching(CACHED, folded(study.shape, found, power, rounded))
            show(f"{title}, largest value to the power {power}", study.divergence(watch), bits)


def folded(
    shape: Shape, found: Mapping[str, QParams], power: float, rounded: Callable[[str, Tensor], Tensor]
) -> Callable[[str, Tensor], Tensor]:
    """``rounded`` on channels that are divided by their largest observed value to the ``power``."""

    def smooth(name: str, values: Tensor) -> Tensor:
        factors = torch.from_numpy(CHANNEL.spread(found[name].scale, tuple(values.shape[1:]))) ** power
        if name.endswith(".k"):
            factors = alike_in_pairs(factors, neighbours=shape.neighbours)
        return rounded(name, values / factors) * factors

    return smooth


def alike_in_pairs(factors: Tensor, *, neighbours: bool) -> Tensor:
    """[..., head], the larger of each pair that rotary positions turn."""
    if neighbours:
        return factors.unflatten(-1, (-1, 2)).amax(-1).repeat_interleave(2, -1)
    larger = torch.maximum(*factors.chunk(2, -1))
    return torch.cat((larger, larger), -1)


def show(title: str, found: tuple[float, float], bits: float | None = None) -> None:
    print(f"{title:40}{found[0]:10.5f}{found[1]:10.5f}" + (f"{bits:8.1f}" if bits else ""), flush=True)


def of_time(shape: Shape, rounds: int) -> None:
    """The share of a product that rounding its input takes: more than all that static scales could save.

    Both are timed where calls cost nothing, on long rows, and reckoned for a matrix of so many rows.
    """
    print(f"\n{'input rounded, share of a product':40}{'decode':>10}{'64 tokens':>12}")
    random = np.random.default_rng(0)
    long = random.standard_normal((1, LONG)).astype(np.float32)
    for name in ("q8_0", "q4_0"):
        fmt = BY_NAME[name]
        matrix = random.standard_normal((SIDE, SIDE)).astype(np.float32)
        strips = pack_strips(fmt.ggml_type, quantize(fmt, matrix))
        shares: dict[tuple[int, int], list[float]] = {}
        for tokens in (1, 64):
            values = random.standard_normal((tokens, SIDE)).astype(np.float32)
            product = Product(strips, quantize_input(values, BLOCK))
            for _ in range(rounds):
                of_value = seconds(partial(quantize_input, long, BLOCK)) / LONG
                of_weight = seconds(product.compute) / (SIDE * SIDE * tokens)
                for rows in (shape.width, 4 * shape.width):
                    share = of_value / (of_value + rows * of_weight)
                    shares.setdefault((rows, tokens), []).append(share)
        for rows in (shape.width, 4 * shape.width):
            one, many = (float(np.median(shares[rows, tokens])) for tokens in (1, 64))
            print(f"{f'{name}, {rows} rows':40}{one:10.1%}{many:12.1%}", flush=True)


def seconds(call: Callable[[], object], times: int = 5) -> float:
    """The least of several."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("original", type=Path)
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--observed", type=int, default=4096, help="tokens whose ranges are observed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["inputs", "cache", "folded", "time"])
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    study = Study(chosen.original, chosen.chunks, chosen.context, chosen.observed)
    print(f"{chosen.original.name}; {processor()}; {chosen.chunks} chunks of {chosen.context} tokens")
    if chosen.only in (None, "inputs"):
        of_inputs(study)
    if chosen.only in (None, "cache"):
        of_cache(study)
    if chosen.only in (None, "folded"):
        of_folded(study)
    if chosen.only in (None, "time"):
        of_time(study.shape, chosen.rounds)


if __name__ == "__main__":
    main()
