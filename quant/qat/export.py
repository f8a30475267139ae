"""A trained model as a file: the quantized one with other bytes in the tensors that learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from quant.allocation.plan import Plan
from quant.certificate.certify import facts_of
from quant.certificate.document import UNKNOWN_SHA256, Certificate, TrainingFacts, data_digest
from quant.files.source import Source
from quant.files.stored import pieces_of, read_pieces
from quant.files.work import FinishedTensor, digest_of
from quant.files.writer import PartFile
from quant.formats.registry import ANY_BY_NAME


def plan_of(quantized: Source, certificate: Certificate) -> Plan:
    """What ``quantized``, a file that has this certificate, was written as."""
    formats = {
        tensor.name: ANY_BY_NAME[tensor.type.lower()]
        for tensor in certificate.tensors
        if tensor.encoder != "copied"
    }
    packed = quantized.model.packed.tensors if quantized.model.packed else ()
    # matrices whose transform is the same one go on sharing it
    inputs = {tensor.name: str(tensor.input.offset) for tensor in packed}
    return Plan(formats, certificate.running, certificate.probed, inputs)


def begun(certificate: Certificate, training: TrainingFacts) -> Certificate:
    """The certificate of a quantized file as that of the trained one, before its tensors are known."""
    return msgspec.structs.replace(
        certificate,
        training=training,
        figures=None,
        kl_kind="",
        by_text=(),
        evaluation=tuple(msgspec.structs.replace(text, tokens=0) for text in certificate.evaluation),
        data_sha256=UNKNOWN_SHA256,
        making=None,
        proof=None,
    )


def write(
    part: PartFile,
    certificate: Certificate,
    original: Source,
    quantized: Source,
    trained: Iterable[tuple[str, bytes]],
) -> Certificate:
    """Fills ``part`` with the tensors of ``quantized``, those that were ``trained`` with theirs."""
    places = {placed.entry.name: placed for placed in part.layout.tensors}
    with quantized.header.path.open("rb") as file:
        for name, pieces in pieces_of(quantized.header).items():
            for index, start, data in read_pieces(file, pieces):
                part.write(places[name].pieces[index].position + start, data)
    errors = _write_trained(part, original, quantized, trained)
    part.zero_padding()
    planned = {facts.name: facts for facts in certificate.tensors}
    lines = {}
    for name, placed in places.items():
        facts = planned[name]
        lines[name] = FinishedTensor(
            name=name,
            position=placed.position,
            beside=tuple(piece.position for piece in placed.beside),
            sha256=digest_of(part, placed, lambda _count: None),
            encoder="trained" if name in errors else facts.encoder,
            error=errors.get(name, facts.error),
        )
    return msgspec.structs.replace(
        certificate,
        tensors=tuple(facts_of(facts, lines[facts.name]) for facts in certificate.tensors),
        data_sha256=data_digest(lines[facts.name].sha256 for facts in certificate.tensors),
    )


def _write_trained(
    part: PartFile, original: Source, quantized: Source, trained: Iterable[tuple[str, bytes]]
) -> Mapping[str, float]:
    """-> the weights' squared error over their square, of each tensor that changed."""
    places = {placed.entry.name: placed for placed in part.layout.tensors}
    sources = {tensor.name: tensor for tensor in original.tensors}
    errors = {}
    found = {tensor.name: tensor for tensor in quantized.tensors}
    for name, data in trained:
        tensor = found[name]
        if quantized.stored(tensor) == data:
            continue
        part.write(places[name].position, data)
        values = quantized.values(tensor, data)
        errors[name] = _relative(values, original.rows(sources[name], 0, tensor.rows))
    return errors


def _relative(values: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    exact = wanted.astype(np.float64)
    energy = float(np.square(exact).sum())
    return float(np.square(values - exact).sum()) / energy if energy else 0.0
