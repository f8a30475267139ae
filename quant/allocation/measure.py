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
from quant.allocation.solve import Beside, Choices, Option, solved
from quant.allocation.words import Words, word_formats_for
from quant.calibration.statistics import InputStatistics
from quant.encoders.output_energy import OutputEnergy, of_rounded_inputs
from quant.encoders.rows import MakeEncoder, RowEncoder
from quant.encoders.tensor import encode_rows, relative, spread_rows
from quant.files.packed_layout import PackedEntry
from quant.files.source import Source, SourceTensor
from quant.formats.format import F32, Format
from quant.formats.lt import LT_FORMATS, LtFormat
from quant.formats.lt_input import input_bytes
from quant.formats.registry import ANY_BY_NAME, FORMATS, AnyFormat, best_fit
from runtime.gguf.packed import PIECE_ALIGNMENT
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
    input: str = ""
    """Of matrices that LT formats are options for: the input whose transform they share."""
    input_bytes: int = 0

    def options(self) -> list[Option]:
        """For the solver: the cost is the divergence that a format adds, in nats."""
        return [
            Option(name, nbytes, self.sensitivity * self.errors[name], self._beside(name))
            for name, nbytes in self.nbytes.items()
        ]

    def _beside(self, fmt: str) -> tuple[Beside, ...]:
        if fmt not in LT_FORMATS:
            return ()
        return Beside(f"input {self.input}", self.input_bytes), Beside(f"table of {fmt}", PIECE_ALIGNMENT)


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

    def solved(self, most_bytes: int | None = None) -> list[Choices]:
        """See :func:`quant.allocation.solve.solved`."""
        return solved(self.options(), most_bytes)


def formats_for(tensor: Shaped) -> list[Format]:
    """ggml's formats that fit a tensor's rows and take fewer bits than it has now."""
    fitting = dict.fromkeys(best_fit(fmt, tensor.shape[0]) for fmt in FORMATS)
    return [fmt for fmt in fitting if fmt and fmt.bits_per_weight < tensor.type.bits_per_weight]


def measure(
    source: Source,
    tensors: Sequence[SourceTensor],
    sensitivities: Mapping[str, float],
    statistics: Callable[[str], InputStatistics | None],
    make_encoder: MakeEncoder,
    *,
    words: Words | None = None,
    jobs: int = 1,
    on_tensor: Callable[[int, int], None] = lambda _done, _total: None,
) -> Measured:
    """Every format of every tensor, on a sample of its rows; LT formats where there are ``words``.

    The same figures for any ``jobs``. Raises :class:`quant.errors.SourceDamaged` for weights that are no
    numbers.
    """
    found = []
    with ThreadPoolExecutor(jobs, "localq-measure") as pool:
        for number, tensor in enumerate(tensors, 1):
            sample = _Sample.of(tensor, source, statistics(tensor.name))
            formats = formats_for(tensor)
            # Encoders are made here, one by one: they share factors; only their work is spread over threads.
            running = [pool.submit(sample.error, fmt, sample.encoders(fmt, make_encoder)) for fmt in formats]
            errors = {fmt.name: error.result() for fmt, error in zip(formats, running, strict=True)}
            input_ = words.inputs.get(tensor.name, "") if words else ""
            if words is not None and input_:
                wanted = word_formats_for(tensor)
                errors |= words.errors(source, tensor, wanted, statistics(tensor.name), pool)
            found.append(
                choices_of(tensor, sensitivities[tensor.name], errors, input_, source.header.alignment)
            )
            on_tensor(number, len(tensors))
    return Measured(tensors=tuple(found))


def choices_of(
    tensor: Shaped, sensitivity: float, errors: Mapping[str, float], input_: str, alignment: int
) -> TensorChoices:
    """What a tensor may become: the formats of ``errors``, or what it is. LT formats need its ``input_``."""
    formats = [ANY_BY_NAME[name] for name in errors]
    words = any(isinstance(fmt, LtFormat) for fmt in formats)
    return TensorChoices(
        name=tensor.name,
        sensitivity=sensitivity,
        nbytes=bytes_of(tensor, formats, alignment),
        errors={KEEP: 0.0, **errors},
        input=input_ if words else "",
        input_bytes=pad(input_bytes(tensor.shape[0]), PIECE_ALIGNMENT) if words else 0,
    )


def bytes_of(tensor: Shaped, formats: Sequence[AnyFormat], alignment: int) -> dict[str, int]:
    """With the padding that follows the tensor in a file."""
    columns, rows = tensor.shape[0], prod(tensor.shape[1:])
    sizes = {KEEP: pad(tensor.type.row_bytes(columns) * rows, alignment)}
    for fmt in formats:
        if isinstance(fmt, LtFormat):
            nbytes = PackedEntry(tensor.name, fmt, tensor.shape, "").nbytes
            sizes[fmt.name] = pad(nbytes, PIECE_ALIGNMENT)
        else:
            sizes[fmt.name] = pad(fmt.row_bytes(columns) * rows, alignment)
    return sizes


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
