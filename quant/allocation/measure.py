"""What each tensor may be stored as, and what that costs: the document between measuring and solving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Final

import msgspec
import numpy as np

from quant.allocation.recipe import KEEP, Shaped
from quant.allocation.solve import Option
from quant.calibration.statistics import InputStatistics
from quant.encoders.output_energy import OutputEnergy, of_rounded_inputs
from quant.encoders.rows import MakeEncoder, RowEncoder
from quant.encoders.tensor import encode_rows, relative, spread_rows
from quant.files.source import Source, SourceTensor
from quant.formats.format import F32, Format
from quant.formats.registry import FORMATS, best_fit
from runtime.gguf.tensors import pad

SAMPLE_WEIGHTS: Final = 1 << 18
SAMPLE_ROWS: Final = 32
"""A format's error is measured on so many rows, before one is chosen."""


class TensorChoices(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor: bytes with padding, and relative error of the output, of each format that it may get."""

    name: str
    sensitivity: float
    """Nats of divergence for a relative error of 1."""
    nbytes: dict[str, int]
    errors: dict[str, float]

    def options(self) -> list[Option]:
        """For the solver: the cost is the divergence that a format adds, in nats."""
        return [
            Option(name, nbytes, self.sensitivity * self.errors[name]) for name, nbytes in self.nbytes.items()
        ]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's tensors may become. As JSON, it is all that solving needs."""

    tensors: tuple[TensorChoices, ...]

    def scaled(self, factor: float) -> Measured:
        """With every sensitivity times ``factor``."""
        if factor == 1.0:
            return self
        return Measured(
            tensors=tuple(
                msgspec.structs.replace(tensor, sensitivity=tensor.sensitivity * factor)
                for tensor in self.tensors
            )
        )

    def options(self) -> dict[str, list[Option]]:
        """By the tensor's name."""
        return {tensor.name: tensor.options() for tensor in self.tensors}


def formats_for(tensor: Shaped) -> list[Format]:
    """The formats that fit a tensor's rows and take fewer bits than it has now."""
    fitting = dict.fromkeys(best_fit(fmt, tensor.shape[0]) for fmt in FORMATS)
    return [fmt for fmt in fitting if fmt and fmt.bits_per_weight < tensor.type.bits_per_weight]


def measure(
    source: Source,
    tensors: Sequence[SourceTensor],
    sensitivities: Mapping[str, float],
    statistics: Callable[[str], InputStatistics | None],
    make_encoder: MakeEncoder,
    *,
    jobs: int = 1,
    on_tensor: Callable[[int, int], None] = lambda _done, _total: None,
) -> Measured:
    """Every format of every tensor, on a sample of its rows.

    The same figures for any ``jobs``. Raises :class:`quant.errors.SourceDamaged` for weights that are no
    numbers.
    """
    found = []
    with ThreadPoolExecutor(jobs, "localq-measure") as pool:
        for number, tensor in enumerate(tensors, 1):
            sample = _Sample.of(tensor, source, statistics(tensor.name))
            formats = formats_for(tensor)
            # Encoders are made here, one by one: they share factors; only their work is spread over threads.
            errors = [pool.submit(sample.error, fmt, sample.encoders(fmt, make_encoder)) for fmt in formats]
            found.append(
                TensorChoices(
                    name=tensor.name,
                    sensitivity=sensitivities[tensor.name],
                    nbytes=bytes_of(tensor, formats, source.header.alignment),
                    errors={KEEP: 0.0}
                    | {fmt.name: error.result() for fmt, error in zip(formats, errors, strict=True)},
                )
            )
            on_tensor(number, len(tensors))
    return Measured(tensors=tuple(found))


def bytes_of(tensor: Shaped, formats: Sequence[Format], alignment: int) -> dict[str, int]:
    """With the padding that follows the tensor in a file."""
    columns, rows = tensor.shape[0], prod(tensor.shape[1:])
    sizes = {KEEP: tensor.type.row_bytes(columns) * rows}
    sizes |= {fmt.name: fmt.row_bytes(columns) * rows for fmt in formats}
    return {name: pad(nbytes, alignment) for name, nbytes in sizes.items()}


@dataclass(frozen=True)
class _Sample:
    """Some rows of a tensor, by the expert that they belong to."""

    columns: int
    statistics: InputStatistics | None
    rows: Mapping[int, F32]

    @classmethod
    def of(cls, tensor: SourceTensor, source: Source, statistics: InputStatistics | None) -> _Sample:
        count = max(1, min(SAMPLE_ROWS, SAMPLE_WEIGHTS // tensor.columns))
        per_expert = tensor.rows // tensor.experts
        rows: dict[int, list[F32]] = {}
        for row in spread_rows(tensor.rows, count):
            rows.setdefault(row // per_expert, []).append(source.rows(tensor, row, row + 1))
        return cls(tensor.columns, statistics, {expert: np.concatenate(own) for expert, own in rows.items()})

    def encoders(self, fmt: Format, make_encoder: MakeEncoder) -> list[RowEncoder]:
        return [make_encoder(fmt, self.statistics, expert, self.columns) for expert in self.rows]

    def error(self, fmt: Format, encoders: Sequence[RowEncoder]) -> float:
        """Of the weights and of inputs that are rounded, relative to the sample's own output.

        An expert counts by the tokens that were routed to it.
        """
        errors: list[float] = []
        energies: list[float] = []
        for (expert, rows), encoder in zip(self.rows.items(), encoders, strict=True):
            energy = OutputEnergy(self.statistics, expert)
            encoded = encode_rows(fmt, rows, encoder, energy, range(len(rows)))
            rounded = of_rounded_inputs(self.statistics, expert, rows, fmt.input_block)
            share = 1 if self.statistics is None else max(int(self.statistics.tokens[expert]), 1)
            errors += (share * (encoded.errors + rounded)).tolist()
            energies += (share * encoded.energies).tolist()
        return relative(errors, energies)
