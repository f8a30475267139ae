"""Static activation scales: what a matrix multiplies is rounded to bytes as calibration fixed it.

A scale is for as many consecutive columns as share one where localq's kernels round by the values themselves,
so the kernels' products do not change. An observer sees the largest magnitudes of these columns, batch by
batch; which one, and for which matrices a file gets scales, was measured (``docs/quantization.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.files.layout import Key
from quant.formats.format import Format
from quant.formats.registry import AnyFormat
from quant.observers import MinMaxObserver, Observer, PerChannel, Scheme
from runtime.gguf.activations import BLOCK, SUPER_BLOCK, VERSION, input_block
from runtime.gguf.metadata import ACTIVATIONS_PREFIX
from runtime.gguf.values import ValueType

F32: TypeAlias = NDArray[np.float32]
MakeObserver: TypeAlias = Callable[[Scheme], Observer]

SCHEME: Final = Scheme(bits=8, granularity=PerChannel(axis=-1))
MOST_COARSENESS: Final = 10.0
"""Above it an input keeps its dynamic scales: a few tokens have far larger values than all others."""


@dataclass(frozen=True)
class StaticInput:
    """Static scales of a matrix's input, and how much coarser than dynamic ones they are."""

    scales: F32
    """[columns / block], values of fp16."""
    coarseness: float
    """Mean square of the steps, over that of dynamic scales: of the errors too, as long as values are not far
    smaller than a step (Bennett 1948)."""


@dataclass(frozen=True)
class StaticInputs:
    """Of the matrices whose inputs calibration saw, for every block that formats may have."""

    by_block: Mapping[int, Mapping[str, StaticInput]] = field(default_factory=dict)
    """Columns that share a scale -> tensor name -> scales."""
    most_coarseness: float = MOST_COARSENESS

    def of(self, name: str, fmt: AnyFormat | None) -> StaticInput | None:
        """The scales of a tensor that is stored in ``fmt``; None where its input stays dynamic."""
        if not isinstance(fmt, Format):  # as in the source, or in an LT format, whose inputs are transformed
            return None
        found = self.by_block.get(input_block(fmt.block), {}).get(name)
        return found if found is not None and found.coarseness <= self.most_coarseness else None


def static_inputs(
    names: Mapping[str, InputStatistics],
    *,
    make_observer: MakeObserver = MinMaxObserver,
    most_coarseness: float = MOST_COARSENESS,
) -> StaticInputs:
    """For each of ``names`` the scales that an observer gives for what calibration kept of its input."""
    by_block: dict[int, dict[str, StaticInput]] = {BLOCK: {}, SUPER_BLOCK: {}}
    for name, statistics in names.items():
        for block, found in by_block.items():
            if statistics.extremes is not None and block in statistics.peaks:
                found[name] = static_input(statistics, block, make_observer)
    return StaticInputs(by_block, most_coarseness)


def static_input(
    statistics: InputStatistics, block: int, make_observer: MakeObserver = MinMaxObserver
) -> StaticInput:
    """The scales of one input, of which calibration kept the extremes, and the peaks of ``block`` columns."""
    assert statistics.extremes is not None
    observer = make_observer(SCHEME)
    for batch in statistics.extremes:
        observer.observe(batch.reshape(-1, block // BLOCK).max(axis=1)[None])
    scales = rounded_up(observer.calculate_qparams().scale)
    return StaticInput(scales, _coarseness(statistics, block, scales))


def rounded_up(scales: F32) -> F32:
    """To fp16, as kernels have scales of 32 columns: up, so that no value is cut that was not before."""
    with np.errstate(over="ignore"):
        halves = scales.astype(np.float16)
    short = np.isfinite(halves) & (halves.astype(np.float32) < scales)
    halves = np.where(short, np.nextafter(halves, np.float16(np.inf)), halves)
    found: F32 = np.where(np.isfinite(halves), halves.astype(np.float32), scales)
    return found


def _coarseness(statistics: InputStatistics, block: int, scales: F32) -> float:
    tokens = statistics.tokens / max(int(statistics.tokens.sum()), 1)
    peaks = float((tokens @ statistics.peaks[block].astype(np.float64)).sum())
    return float(np.square(127 * scales.astype(np.float64)).sum()) / peaks if peaks else 1.0


def activation_keys(formats: Mapping[str, AnyFormat], inputs: StaticInputs) -> list[Key]:
    """The scales as keys of a GGUF, in the order of the tensors; none where all inputs are dynamic."""
    found = {
        name: chosen.scales for name, fmt in formats.items() if (chosen := inputs.of(name, fmt)) is not None
    }
    if not found:
        return []
    values = np.concatenate(list(found.values()))
    return [
        Key(f"{ACTIVATIONS_PREFIX}version", ValueType.U32, VERSION),
        Key(f"{ACTIVATIONS_PREFIX}tensors", ValueType.STRING, list(found), array=True),
        Key(f"{ACTIVATIONS_PREFIX}counts", ValueType.U32, [len(each) for each in found.values()], array=True),
        Key(f"{ACTIVATIONS_PREFIX}scales", ValueType.F32, values.tolist(), array=True),
    ]
