"""The plan of a file: each tensor's format, decided once, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from quant.allocation.measure import Measured
from quant.allocation.recipe import KEEP, Override, is_encoded, override
from quant.allocation.running import Running
from quant.allocation.solve import solve
from quant.files.layout import TensorEntry
from quant.files.source import Source, SourceTensor
from quant.formats.format import Format
from quant.formats.registry import BY_NAME
from runtime.gguf.tensors import pad


class PlanDocument(msgspec.Struct, frozen=True):
    """A plan on disk, and what calibration had measured when it was made."""

    statistics_sha256: str | None
    formats: dict[str, str]
    """Names of tensors -> names of formats."""
    running: Running | None = None
    probed: dict[str, float] = {}

    def plan_for(self, tensors: Sequence[SourceTensor], statistics_sha256: str | None) -> Plan | None:
        """The plan, if it is one for ``tensors`` and these statistics."""
        names = {tensor.name for tensor in tensors}
        if self.statistics_sha256 != statistics_sha256 or not self.formats.keys() <= names:
            return None
        if not set(self.formats.values()) <= BY_NAME.keys():
            return None
        formats = {name: BY_NAME[fmt] for name, fmt in self.formats.items()}
        return Plan(formats, self.running, self.probed)


@dataclass(frozen=True)
class Plan:
    """What every tensor is written as. A tensor without a format is copied."""

    formats: Mapping[str, Format]
    running: Running | None = None
    """Where the formats were chosen for a memory."""
    probed: Mapping[str, float] = field(default_factory=dict)
    """Divergence that each probed role was found to cost (``quant.allocation.probes``)."""

    def document(self, statistics_sha256: str | None) -> PlanDocument:
        """For the folder of work under way."""
        formats = {name: fmt.name for name, fmt in self.formats.items()}
        return PlanDocument(statistics_sha256, formats, self.running, dict(self.probed))


def entries(tensors: Sequence[SourceTensor], plan: Plan) -> list[TensorEntry]:
    """The new file's tensor table, in the source's order."""
    table = []
    for tensor in tensors:
        fmt = plan.formats.get(tensor.name)
        nbytes = fmt.row_bytes(tensor.columns) * tensor.rows if fmt else tensor.nbytes
        number = fmt.ggml_type if fmt else tensor.type.id
        table.append(TensorEntry(tensor.name, number, tensor.shape, nbytes))
    return table


def settle(source: Source, overrides: Sequence[Override]) -> tuple[Plan, list[SourceTensor]]:
    """What a person chose, and the tensors that are free to get any format."""
    fixed = override({}, source.tensors, overrides) if overrides else {}
    free = [
        tensor
        for tensor in source.tensors
        if is_encoded(tensor) and not any(choice.matches(tensor.name) for choice in overrides)
    ]
    return Plan(fixed), free


def best_within(source: Source, settled: Plan, measured: Measured, room_bytes: int) -> Plan:
    """The best plan whose tensors, with their padding, take at most ``room_bytes``.

    Raises :class:`CannotEncode` where no plan is as small.
    """
    free = {tensor.name for tensor in measured.tensors}
    alignment = source.header.alignment
    taken = sum(
        pad(entry.nbytes, alignment) for entry in entries(source.tensors, settled) if entry.name not in free
    )
    chosen = solve(measured.options(), room_bytes - taken)
    formats = dict(settled.formats)
    formats |= {name: BY_NAME[option.format] for name, option in chosen.items() if option.format != KEEP}
    return Plan({tensor.name: formats[tensor.name] for tensor in source.tensors if tensor.name in formats})
