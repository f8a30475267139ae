"""The plan of a file: each tensor's format, decided once, before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from quant.allocation.mix import Option, choose
from quant.allocation.recipe import FILE_TYPES, assign, is_encoded, layer_of, override, role_of
from quant.calibration.statistics import InputStatistics
from quant.calibration.text import CalibrationText
from quant.certificate.document import (
    UNKNOWN_SHA256,
    Certificate,
    ImatrixFacts,
    Options,
    SourceFacts,
    TensorFacts,
    TextFacts,
)
from quant.certificate.keys import to_keys
from quant.encoders.output_energy import OutputEnergy
from quant.encoders.rows import MakeEncoder
from quant.encoders.tensor import encode_rows, relative, spread_rows
from quant.errors import CannotEncode
from quant.files.layout import FileLayout, Key, TensorEntry, inherited_pairs, lay_out
from quant.files.source import Source, SourceTensor
from quant.formats.format import Format
from quant.formats.registry import BY_NAME, FORMATS, best_fit
from quant.names import plain_name
from quant.request import QuantizeRequest
from runtime.gguf.tensors import pad
from runtime.gguf.values import ValueType

QUANTIZATION_VERSION: Final = 2
"""Of ggml's block formats; files of version 1 are no longer read."""
SAMPLE_WEIGHTS: Final = 1 << 18
SAMPLE_ROWS: Final = 32
"""A format's error is measured on so many rows, before one is chosen."""
ROLE_COSTS: Final = {"attn_k": 1.25, "attn_v": 1.25, "ffn_gate": 2.0, "ffn_up": 2.0, "ffn_down": 3.0}
"""What a tensor's relative error adds to the divergence, where that of a query's projection counts 1.
Measured by encoding one role at a time in 2 to 3 bits, in the tiny Llama (6 layers) and SmolLM2-135M (30)."""
OUTPUT_COST: Final = 20.0
"""The same for the output matrix, for each layer of the model: its error is not averaged over layers."""
LOOKED_UP_COST: Final = 4.0
"""The same for embeddings that are looked up only."""


class PlanDocument(msgspec.Struct, frozen=True):
    """A plan on disk, and what calibration had measured when it was made."""

    statistics_sha256: str | None
    formats: dict[str, str]
    """Names of tensors -> names of formats."""

    def plan_for(self, tensors: Sequence[SourceTensor], statistics_sha256: str | None) -> Plan | None:
        """The plan, if it is one for ``tensors`` and these statistics."""
        names = {tensor.name for tensor in tensors}
        if self.statistics_sha256 != statistics_sha256 or not self.formats.keys() <= names:
            return None
        if not set(self.formats.values()) <= BY_NAME.keys():
            return None
        return Plan({name: BY_NAME[fmt] for name, fmt in self.formats.items()})


@dataclass(frozen=True)
class Plan:
    """What every tensor is written as. A tensor without a format is copied."""

    formats: Mapping[str, Format]

    def document(self, statistics_sha256: str | None) -> PlanDocument:
        """For the folder of work under way."""
        return PlanDocument(statistics_sha256, {name: fmt.name for name, fmt in self.formats.items()})


def entries(tensors: Sequence[SourceTensor], plan: Plan) -> list[TensorEntry]:
    """The new file's tensor table, in the source's order."""
    table = []
    for tensor in tensors:
        fmt = plan.formats.get(tensor.name)
        nbytes = fmt.row_bytes(tensor.columns) * tensor.rows if fmt else tensor.nbytes
        number = fmt.ggml_type if fmt else tensor.type.id
        table.append(TensorEntry(tensor.name, number, tensor.shape, nbytes))
    return table


def plan_tensors(
    source: Source,
    request: QuantizeRequest,
    statistics: Callable[[str], InputStatistics | None],
    make_encoder: MakeEncoder,
    digests: Sequence[str],
    on_tensor: Callable[[int, int], None],
) -> Plan:
    """Decides every tensor's format. Raises :class:`CannotEncode` where the request cannot be met."""
    if request.target.mixture is not None:
        return Plan(assign(source.tensors, request.target.mixture, request.overrides))
    fixed = override({}, source.tensors, request.overrides) if request.overrides else {}
    free = [
        tensor
        for tensor in source.tensors
        if is_encoded(tensor) and not any(choice.matches(tensor.name) for choice in request.overrides)
    ]
    alignment = source.header.alignment
    settled = Plan(fixed)
    names = {tensor.name for tensor in free}
    taken = sum(
        pad(entry.nbytes, alignment) for entry in entries(source.tensors, settled) if entry.name not in names
    )
    options = {}
    for index, tensor in enumerate(free):
        options[tensor.name] = measure_options(tensor, source, statistics(tensor.name), make_encoder)
        on_tensor(index + 1, len(free))
    room = _room(source, request, digests) - taken
    chosen = choose(options, room)
    formats = dict(fixed)
    formats |= {name: BY_NAME[option.format] for name, option in chosen.items() if option.format in BY_NAME}
    return Plan({tensor.name: formats[tensor.name] for tensor in source.tensors if tensor.name in formats})


def measure_options(
    tensor: SourceTensor, source: Source, statistics: InputStatistics | None, make_encoder: MakeEncoder
) -> list[Option]:
    """Each format that fits a tensor, with its bytes and its error on a sample of rows."""
    weight = cost_of(tensor.name, source.tensors)
    alignment = source.header.alignment
    options = [Option("keep", pad(tensor.nbytes, alignment), 0.0)]
    rows = spread_rows(tensor.rows, max(1, min(SAMPLE_ROWS, SAMPLE_WEIGHTS // tensor.columns)))
    values = [source.rows(tensor, row, row + 1) for row in rows]
    per_expert = tensor.rows // tensor.experts
    for fmt in dict.fromkeys(best_fit(fmt, tensor.columns) for fmt in FORMATS):
        if fmt is None or fmt.bits_per_weight >= tensor.type.bits_per_weight:
            continue
        errors: list[float] = []
        energies: list[float] = []
        for expert in sorted({row // per_expert for row in rows}):
            own = [value for row, value in zip(rows, values, strict=True) if row // per_expert == expert]
            encoder = make_encoder(fmt, statistics, expert, tensor.columns)
            energy = OutputEnergy(statistics, expert)
            encoded = encode_rows(fmt, np.concatenate(own), encoder, energy, range(len(own)))
            errors += encoded.errors.tolist()
            energies += encoded.energies.tolist()
        nbytes = pad(fmt.row_bytes(tensor.columns) * tensor.rows, alignment)
        options.append(Option(fmt.name, nbytes, weight * relative(errors, energies)))
    return options


def cost_of(name: str, tensors: Sequence[SourceTensor]) -> float:
    """What the relative error of the tensor ``name`` counts beside those of the others."""
    layers = 1 + max(layer_of(tensor.name) for tensor in tensors)
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    role = role_of(name)
    if role == "output" or (role == "token_embd" and tied):
        return OUTPUT_COST * layers
    if role in ("token_embd", "per_layer_token_embd"):
        return LOOKED_UP_COST * layers
    return ROLE_COSTS.get(role, 1.0)


def _room(source: Source, request: QuantizeRequest, digests: Sequence[str]) -> int:
    """Bytes that the tensors may take with their padding."""
    target = request.target
    if target.size_bytes is not None:
        empty = lay_out_file(source, request, Plan({}), digests).header
        room = target.size_bytes - len(empty)
        if room < 0:
            raise CannotEncode(f"the header alone takes {len(empty)} bytes; ask for a larger file")
        return room
    elements = sum(tensor.elements for tensor in source.tensors)
    return int((target.bits_per_weight or 0.0) * elements / 8)


def first_certificate(
    source: Source, request: QuantizeRequest, plan: Plan, digests: Sequence[str]
) -> Certificate:
    """The certificate before anything is measured: every value has its final size."""
    header = source.header
    tensors = []
    for tensor, entry in zip(source.tensors, entries(source.tensors, plan), strict=True):
        fmt = plan.formats.get(tensor.name)
        tensors.append(
            TensorFacts(
                name=tensor.name,
                source_type=tensor.type.name,
                type=fmt.name.upper() if fmt else tensor.type.name,
                elements=tensor.elements,
                nbytes=entry.nbytes,
                encoder="nearest" if fmt else "copied",
                error=0.0 if fmt else None,
            )
        )
    return Certificate(
        tool=request.tool,
        source=SourceFacts(
            name=plain_name(header.path.name),
            sha256=tuple(digests),
            types=", ".join(source.quantized_types) or _plain_types(source),
            already_quantized=bool(source.quantized_types),
        ),
        target=str(request.target),
        overrides=tuple(f"{choice.pattern}={choice.format}" for choice in request.overrides),
        seed=request.seed,
        options=str(
            Options(
                calibration_tokens=request.calibration_tokens if request.calibration else 0,
                context_tokens=request.context_tokens,
                evaluation_chunks=request.evaluation_chunks if request.evaluation else 0,
                feedback=request.feedback and bool(request.calibration),
                moment_bytes=request.moment_bytes if request.calibration else 0,
            )
        ),
        calibration=domains(request.calibration),
        statistics_sha256=UNKNOWN_SHA256 if request.calibration else None,
        imatrix=_imatrix_facts(request),
        evaluation=tuple(
            TextFacts(name=text.name, sha256=text.sha256, tokens=0) for text in request.evaluation
        ),
        tensors=tuple(tensors),
    )


def _imatrix_facts(request: QuantizeRequest) -> ImatrixFacts | None:
    found = request.imatrix
    if found is None:
        return None
    return ImatrixFacts(name=found.name, sha256=found.sha256, tokens=found.tokens, datasets=found.datasets)


def domains(calibration: Sequence[CalibrationText]) -> tuple[TextFacts, ...]:
    """The calibration texts of each domain as one: the digest is over those of its texts."""
    texts: dict[str, list[str]] = {}
    for text in calibration:
        texts.setdefault(text.domain, []).append(text.sha256)
    return tuple(
        TextFacts(name=name, sha256=hashlib.sha256("".join(found).encode()).hexdigest(), tokens=0)
        for name, found in texts.items()
    )


def lay_out_file(
    source: Source,
    request: QuantizeRequest,
    plan: Plan,
    digests: Sequence[str],
    certificate: Certificate | None = None,
) -> FileLayout:
    """The file with this certificate in it, or with the first one. Its length is the same for both."""
    found = certificate or first_certificate(source, request, plan, digests)
    keys = [
        Key("general.quantization_version", ValueType.U32, QUANTIZATION_VERSION),
        Key("general.file_type", ValueType.U32, file_type(source, request, plan)),
        *to_keys(found),
    ]
    return lay_out(
        inherited_pairs(source.header), keys, entries(source.tensors, plan), source.header.alignment
    )


def file_type(source: Source, request: QuantizeRequest, plan: Plan) -> int:
    """The number of the mixture that was asked for; else that of the format that most weights have."""
    mixture = request.target.mixture
    if mixture is not None and mixture in FILE_TYPES and not request.overrides:
        return FILE_TYPES[mixture]
    weights: dict[str, int] = {}
    for tensor in source.tensors:
        if fmt := plan.formats.get(tensor.name):
            weights[fmt.name] = weights.get(fmt.name, 0) + tensor.elements
    if not weights:
        return source.header.get("general.file_type", int, 0)
    return FILE_TYPES[max(sorted(weights), key=lambda name: weights[name])]


def _plain_types(source: Source) -> str:
    elements: dict[str, int] = {}
    for tensor in source.tensors:
        if is_encoded(tensor):
            elements[tensor.type.name] = elements.get(tensor.type.name, 0) + tensor.elements
    return ", ".join(sorted(elements, key=lambda name: (-elements[name], name))) or "none"
