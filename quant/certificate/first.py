"""The certificate before anything is measured: every value has its final size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from quant.allocation.plan import Plan, entries
from quant.allocation.recipe import is_encoded
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
from quant.files.packed_layout import PackedEntry, packed_section
from quant.files.source import Source
from quant.names import plain_name
from quant.request import QuantizeRequest


def first_certificate(
    source: Source, request: QuantizeRequest, plan: Plan, digests: Sequence[str]
) -> Certificate:
    """What is known of the file of a ``plan`` before its tensors are encoded."""
    header = source.header
    tensors = []
    by_name = {tensor.name: tensor for tensor in source.tensors}
    planned = entries(source.tensors, plan)
    packed = packed_section([entry for entry in planned if isinstance(entry, PackedEntry)], 0)
    for entry in planned:
        tensor, fmt = by_name[entry.name], plan.formats.get(entry.name)
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
                words=request.words,
                expert_moments=request.calibrates_experts,
                activations=request.activations,
            )
        ),
        calibration=domains(request.calibration),
        statistics_sha256=UNKNOWN_SHA256 if request.calibration else None,
        imatrix=_imatrix_facts(request),
        evaluation=tuple(
            TextFacts(name=text.name, sha256=text.sha256, tokens=0) for text in request.evaluation
        ),
        running=plan.running,
        probed=dict(plan.probed),
        tensors=tuple(tensors),
        static_inputs=sum(plan.static.of(name, fmt) is not None for name, fmt in plan.formats.items()),
        shared_bytes=packed.shared_bytes,
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


def _plain_types(source: Source) -> str:
    elements: dict[str, int] = {}
    for tensor in source.tensors:
        if is_encoded(tensor):
            elements[tensor.type.name] = elements.get(tensor.type.name, 0) + tensor.elements
    return ", ".join(sorted(elements, key=lambda name: (-elements[name], name))) or "none"
