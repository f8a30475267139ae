"""The plan of a file: each tensor's format, decided once, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from quant.activations import StaticInputs
from quant.allocation.measure import Measured
from quant.allocation.recipe import KEEP, Override, is_encoded, override
from quant.allocation.running import Running
from quant.allocation.solve import Choices, Option, total_bytes
from quant.errors import CannotEncode
from quant.files.layout import TensorEntry
from quant.files.packed_layout import PackedEntry, lay_out_packed
from quant.files.source import Source, SourceTensor
from quant.formats.lt import LtFormat
from quant.formats.registry import ANY_BY_NAME, AnyFormat
from runtime.gguf.tensors import pad


class PlanDocument(msgspec.Struct, frozen=True):
    """A plan on disk, and what calibration had measured when it was made."""

    statistics_sha256: str | None
    formats: dict[str, str]
    """Names of tensors -> names of formats."""
    running: Running | None = None
    probed: dict[str, float] = {}
    inputs: dict[str, str] = {}

    def plan_for(self, tensors: Sequence[SourceTensor], statistics_sha256: str | None) -> Plan | None:
        """The plan, if it is one for ``tensors`` and these statistics."""
        names = {tensor.name for tensor in tensors}
        if self.statistics_sha256 != statistics_sha256 or not self.formats.keys() <= names:
            return None
        if not set(self.formats.values()) <= ANY_BY_NAME.keys():
            return None
        formats = {name: ANY_BY_NAME[fmt] for name, fmt in self.formats.items()}
        return Plan(formats, self.running, self.probed, self.inputs)


@dataclass(frozen=True)
class Plan:
    """What every tensor is written as. A tensor without a format is copied."""

    formats: Mapping[str, AnyFormat]
    running: Running | None = None
    """Where the formats were chosen for a memory."""
    probed: Mapping[str, float] = field(default_factory=dict)
    """Divergence that each probed role was found to cost (``quant.allocation.probes``)."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Names of matrices in LT formats -> those of their inputs, which several may share."""
    static: StaticInputs = field(default_factory=StaticInputs)
    """Scales of inputs, of which a matrix gets those that its format has a use for."""

    def document(self, statistics_sha256: str | None) -> PlanDocument:
        """For the folder of work under way."""
        formats = {name: fmt.name for name, fmt in self.formats.items()}
        return PlanDocument(statistics_sha256, formats, self.running, dict(self.probed), dict(self.inputs))


def entries(tensors: Sequence[SourceTensor], plan: Plan) -> list[TensorEntry | PackedEntry]:
    """The new file's tensor table, then its packed matrices, each in the source's order."""
    table: list[TensorEntry | PackedEntry] = []
    packed: list[TensorEntry | PackedEntry] = []
    for tensor in tensors:
        fmt = plan.formats.get(tensor.name)
        if isinstance(fmt, LtFormat):
            input_ = plan.inputs.get(tensor.name, tensor.name)
            packed.append(PackedEntry(tensor.name, fmt, tensor.shape, input_))
            continue
        nbytes = fmt.tensor_bytes(tensor.rows, tensor.columns) if fmt else tensor.nbytes
        number = fmt.ggml_type if fmt else tensor.type.id
        table.append(TensorEntry(tensor.name, number, tensor.shape, nbytes))
    return table + packed


def settle(
    source: Source, overrides: Sequence[Override], inputs: Mapping[str, str] | None = None
) -> tuple[Plan, list[SourceTensor]]:
    """What a person chose, and the tensors that are free to get any format."""
    fixed = override({}, source.tensors, overrides, inputs) if overrides else {}
    free = [
        tensor
        for tensor in source.tensors
        if is_encoded(tensor) and not any(choice.matches(tensor.name) for choice in overrides)
    ]
    return Plan(fixed, inputs=inputs or {}), free


def data_bytes(source: Source, plan: Plan) -> int:
    """Of all tensors as ``plan`` has them, with their padding and what lies beside packed matrices."""
    found = entries(source.tensors, plan)
    table = (entry.nbytes for entry in found if isinstance(entry, TensorEntry))
    packed = lay_out_packed([entry for entry in found if isinstance(entry, PackedEntry)])
    return sum(pad(nbytes, source.header.alignment) for nbytes in table) + packed.nbytes


def best_within(
    source: Source,
    settled: Plan,
    measured: Measured,
    most_bytes: int,
    nbytes_of: Callable[[Plan], int],
) -> Plan:
    """The best plan of which ``nbytes_of`` gives at most ``most_bytes``: tensors, and what depends on them.

    Raises :class:`CannotEncode` where no plan is as small.
    """
    kept = sum(tensor.nbytes[KEEP] for tensor in measured.tensors)
    whole = most_bytes - (nbytes_of(settled) - kept)

    def plan_of(chosen: Mapping[str, Option]) -> Plan:
        formats = dict(settled.formats)
        formats |= {
            name: ANY_BY_NAME[option.format] for name, option in chosen.items() if option.format != KEEP
        }
        ordered = {tensor.name: formats[tensor.name] for tensor in source.tensors if tensor.name in formats}
        return replace(settled, formats=ordered)

    def best_of(choices: Choices) -> tuple[float, Plan]:
        """With what it costs."""
        room = whole
        while True:
            chosen = choices.within(room)
            plan = plan_of(chosen)
            over = nbytes_of(plan) - most_bytes  # a directory of packed matrices, and the gap before them
            if over <= 0:
                return sum(option.cost for option in chosen.values()), plan
            room = min(room, total_bytes(chosen.values())) - over

    found: list[tuple[float, Plan]] = []
    for choices in (solved := measured.solved(whole)):
        try:
            found.append(best_of(choices))
        except CannotEncode:
            if choices is solved[-1] and not found:
                raise
    return min(found, key=lambda each: each[0])[1]
