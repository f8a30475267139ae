"""What LT formats would cost in a matrix, in the terms in which formats of ggml are measured.

Those are rounded to nearest when they are measured, and that error feedback lowers their error stands in the
sensitivities. Words without feedback say nothing, for rotated weights rely on it. So both are measured with
feedback under the same moments: what it gains for a format of ggml is taken back from the error of words.
Role by role the divergences of SmolLM2-135M and the tiny Llama follow that within a quarter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from quant.allocation.recipe import Shaped, packs
from quant.calibration.statistics import InputStatistics
from quant.encoders.output_energy import OutputEnergy
from quant.encoders.rows import MakeEncoder
from quant.encoders.tensor import encode_rows, relative, spread_rows
from quant.encoders.words import WordCoder, WordCoders
from quant.files.packed_layout import PackedEntry
from quant.files.source import Source, SourceTensor
from quant.formats.format import F32
from quant.formats.iq4_nl import IQ4_NL
from quant.formats.lt import LT_FORMATS, LtFormat

REFERENCE: Final = IQ4_NL
"""Its blocks of 32 fit every matrix that words fit."""
SAMPLE_ROWS: Final = 32
EXPERTS: Final = 2
"""Each has second moments of its own to factor: of so many, those that most tokens were routed to."""


def word_formats_for(tensor: Shaped) -> list[LtFormat]:
    """The LT formats that hold a matrix in fewer bits than it has now."""
    if not packs(tensor):
        return []
    now = tensor.type.row_bytes(tensor.shape[0]) * prod(tensor.shape[1:])
    entries = [PackedEntry(tensor.name, fmt, tensor.shape, "") for fmt in LT_FORMATS.values()]
    return [entry.format for entry in entries if entry.nbytes < now]


@dataclass(frozen=True)
class Words:
    """What measuring LT formats takes."""

    inputs: Mapping[str, str]
    """Names of the matrices whose input has a Hessian -> those of the inputs."""
    coders: WordCoders
    to_nearest: MakeEncoder
    feeding_back: MakeEncoder

    def errors(
        self,
        source: Source,
        tensor: SourceTensor,
        formats: Sequence[LtFormat],
        statistics: InputStatistics | None,
        pool: Executor,
    ) -> dict[str, float]:
        """By name, relative to the output, as if words were rounded to nearest. None without statistics."""
        if statistics is None or not formats:
            return {}
        sample = _rows_of(source, tensor, statistics)
        nearest, fed_back, energies, rounded = 0.0, 0.0, 0.0, 0.0
        lost = dict.fromkeys(formats, 0.0)
        for expert, rows in sample.items():
            energy = OutputEnergy(statistics, expert)
            share = max(int(statistics.tokens[expert]), 1)
            every = range(len(rows))
            references = [
                pool.submit(
                    encode_rows,
                    REFERENCE,
                    rows,
                    make(REFERENCE, statistics, expert, tensor.columns),
                    energy,
                    every,
                )
                for make in (self.to_nearest, self.feeding_back)
            ]
            coders: list[WordCoder] = []
            for fmt in formats:
                entry = PackedEntry(tensor.name, fmt, tensor.shape, self.inputs[tensor.name])
                coders.append(self.coders.coder(entry, statistics, expert))
            found = [pool.submit(coder, rows, energy, every) for coder in coders]
            before, after = (reference.result() for reference in references)
            nearest += share * float(before.errors.sum())
            fed_back += share * float(after.errors.sum())
            energies += share * float(before.energies.sum())
            for fmt, encoded in zip(formats, found, strict=True):
                lost[fmt] += share * float(encoded.result().errors.sum())
            rounded += share * float(coders[0].of_rounded_inputs(rows).sum())
        gain = nearest / fed_back if fed_back > 0 else 1.0
        input_error = relative([rounded], [energies])
        return {fmt.name: gain * relative([lost[fmt]], [energies]) + input_error for fmt in formats}


def _rows_of(source: Source, tensor: SourceTensor, statistics: InputStatistics) -> dict[int, F32]:
    """Some rows, by expert."""
    experts = np.argsort(-statistics.tokens, kind="stable")[:EXPERTS].tolist()
    per_expert = tensor.rows // tensor.experts
    some = spread_rows(per_expert, SAMPLE_ROWS // len(experts))
    return {
        expert: np.concatenate(
            [source.rows(tensor, row, row + 1) for row in (expert * per_expert + each for each in some)]
        )
        for expert in experts
    }
